//! Documents, pages, and what the server says of itself.

use ordu_server::{Config, PageSource, Site};
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde};

async fn start(site: Site) -> TestHorde {
    TestHorde::start_with(|config| Config {
        title: "A <b>horde</b>".to_owned(),
        site,
        ..config
    })
    .await
}

async fn document(horde: &TestHorde, name: &str, form: &str) -> String {
    let answer = horde.get(&format!("/documents/{name}?format={form}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let members = answer.body.as_object().unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), [form]);
    members[form].as_str().unwrap().to_owned()
}

async fn page(horde: &TestHorde, path: &str) -> (u16, String) {
    let answer = horde.http.get(format!("{}{path}", horde.url)).send();
    let answer = answer.await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn built_in_documents_name_the_site() {
    let horde = start(Site {
        contact: Some("us@example.org".to_owned()),
        ..Site::default()
    })
    .await;
    for name in ["terms", "privacy"] {
        let html = document(&horde, name, "html").await;
        assert!(html.contains("A &lt;b&gt;horde&lt;/b&gt;"), "{html}");
        assert!(
            html.contains("us@example.org") && html.contains(&horde.url),
            "{html}"
        );
        assert!(!html.contains("{{"), "{html}");
        let markdown = document(&horde, name, "markdown").await;
        assert!(markdown.starts_with("# "), "{markdown}");
        let default = horde.get(&format!("/documents/{name}")).await.body;
        assert_eq!(default, json!({ "html": html }));
        let (status, shown) = page(&horde, &format!("/{name}")).await;
        assert_eq!(status, 200);
        assert!(shown.contains(&html) && shown.contains("<nav"), "{shown}");
    }
    let refused = horde.get("/documents/terms?format=pdf").await;
    assert_eq!((refused.status, refused.rc()), (400, "BadRequest"));
    assert_eq!(horde.get("/documents/other").await.status, 404);
}

#[tokio::test]
async fn the_operators_documents_are_read_when_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let terms = folder.path().join("terms.html");
    let horde = start(Site {
        terms: Some(PageSource::File(terms.clone())),
        privacy: Some(PageSource::Text("*None* at {{ title }}\n".to_owned())),
        ..Site::default()
    })
    .await;
    // Other terms than the operator's are never shown in their place.
    assert_eq!(horde.get("/documents/terms").await.status, 503);
    for text in ["<h1>One</h1>", "<h1>Two</h1>"] {
        std::fs::write(&terms, text).unwrap();
        assert_eq!(document(&horde, "terms", "html").await, text);
        assert_eq!(document(&horde, "terms", "markdown").await, text);
    }
    let html = document(&horde, "privacy", "html").await;
    assert_eq!(html, "<p><em>None</em> at A &lt;b&gt;horde&lt;/b&gt;</p>\n");
    assert!(page(&horde, "/privacy").await.1.contains(&html));
    assert!(page(&horde, "/terms").await.1.contains("<h1>Two</h1>"));
}

#[tokio::test]
async fn the_service_says_what_it_is() {
    let horde = start(Site {
        repository: Some("https://example.org/ours".to_owned()),
        ..Site::default()
    })
    .await;
    let url = format!("{}/.well-known/serviceinfo", horde.url);
    let info = Answer::read(horde.http.get(url)).await;
    assert_eq!(info.status, 200);
    let info = info.body;
    assert_eq!(info["version"], "0.2");
    let software = &info["software"];
    assert_eq!(software["name"], "A <b>horde</b>");
    assert_eq!(software["repository"], "https://example.org/ours");
    assert_eq!(software["homepage"], horde.url);
    assert_eq!(software["logo"], format!("{}/assets/icon.svg", horde.url));
    let protocol = json!({
        "name": "AI Horde API", "version": "2.5", "rel_url": "/api/v2",
        "base_url": format!("{}/api/v2", horde.url),
        "documentation": format!("{}/api", horde.url),
    });
    assert_eq!(info["api"]["aihorde"], protocol);
    let extensions = info["api"]["ordu"]["extensions"].as_object().unwrap();
    assert!(extensions.values().all(Value::is_string) && extensions.contains_key("progress"));
}

#[tokio::test]
async fn a_strict_heartbeat_is_fine_while_all_is() {
    let horde = TestHorde::start().await;
    for path in ["/status/heartbeat", "/status/heartbeat?strict=1"] {
        let answer = horde.get(path).await;
        assert_eq!(
            (answer.status, &answer.body["message"]),
            (200, &json!("OK"))
        );
    }
}
