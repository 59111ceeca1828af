//! The horde as pages: what is served, without a browser.

use std::collections::BTreeSet;

use ordu_server::Config;

use crate::support::{TestHorde, deliver_all, on_each_database, pop, request, text_pop};

/// Elements that have no end.
const VOID: &[&str] = &["meta", "link", "input", "br", "img", "hr"];

/// The attributes of a tag, quoted ones only: all of ours are.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    Some(rest.split_once('"')?.0)
}

/// Every element that is begun is ended in its turn, no id is there twice, whatever is referred to
/// is there, and nothing is inline that the policy forbids.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut named = BTreeSet::new();
    let body = html.strip_prefix("<!doctype html>").unwrap();
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("<{piece}"));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "ended by </{name}>");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        let is_void = tag.ends_with('/') || VOID.contains(&name);
        if !is_void {
            open.push(name);
        }
        for forbidden in [" style=", " onclick=", " onload="] {
            assert!(!tag.contains(forbidden), "{tag}");
        }
        if name == "script" {
            assert!(
                attribute(tag, "src").is_some_and(|src| src.starts_with("/assets/")),
                "{tag}"
            );
        }
        if let Some(id) = attribute(tag, "id") {
            assert!(ids.insert(id), "twice: {id}");
        }
        for reference in ["aria-labelledby", "aria-describedby", "for"] {
            named.extend(
                attribute(tag, reference)
                    .into_iter()
                    .flat_map(|ids| ids.split(' ')),
            );
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    let missing: Vec<_> = named.difference(&ids).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A page that must be fine.
async fn page(horde: &TestHorde, path: &str) -> String {
    let answer = horde
        .http
        .get(format!("{}{path}", horde.url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let html = answer.text().await.unwrap();
    assert_well_formed(&html);
    html
}

/// The bytes of a page with all that it loads.
async fn weight(horde: &TestHorde, html: &str) -> usize {
    let mut bytes = html.len();
    let mut sources = BTreeSet::new();
    for piece in html
        .split('<')
        .filter(|tag| tag.starts_with("script") || tag.starts_with("link"))
    {
        let source = attribute(piece, "src").or_else(|| attribute(piece, "href"));
        sources.extend(source);
    }
    for source in sources {
        let answer = horde
            .http
            .get(format!("{}{source}", horde.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{source}");
        bytes += answer.bytes().await.unwrap().len();
    }
    bytes
}

#[tokio::test]
async fn the_horde_in_numbers_reads_without_scripts() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde = TestHorde::start_with(|config| Config { database, ..config }).await;
        let empty = page(&horde, "/horde").await;
        assert!(empty.contains("No worker serves one just now"), "{empty}");
        let owner = horde.user("<b>owner", 10_000.0).await;
        let worker = horde.client(&owner.api_key);
        worker.async_image(&request()).await.unwrap();
        let job = worker.pop_image(&pop("painter")).await.unwrap();
        deliver_all(&worker, &job).await;
        worker.pop_text(&text_pop("scribe")).await.unwrap();
        for _ in 0..3 {
            worker.async_image(&request()).await.unwrap();
        }
        horde.server.settle_down().await.unwrap();
        horde.later(30);

        let html = page(&horde, "/horde").await;
        for expected in [
            "<dd data-load=\"queued_requests\">3</dd>",
            "<dd data-load=\"text_worker_count\">1</dd>",
            "<tr data-worker=\"painter\">",
            "<th scope=\"row\">ordu-tiny</th>",
            "<desc id=\"finished-desc\">1 since",
            "<desc id=\"queued-desc\">3 now",
            "<rect class=\"bar\"",
            "<polyline class=\"line\"",
            "<details>",
            "megapixelsteps per second",
            "&#60;b&#62;owner#",
        ] {
            assert!(html.contains(expected), "{expected}: {html}");
        }
        let texts = page(&horde, "/horde?kind=text&step=day").await;
        assert!(texts.contains("Tokens") && texts.contains("Texts over time"));
        let forms = page(&horde, "/horde?kind=alchemy").await;
        assert!(
            !forms.contains("id=\"work-title\""),
            "forms have no measure"
        );
        page(&horde, "/horde?kind=%00&step=%3Cscript%3E").await;
    })
    .await;
}

#[tokio::test]
async fn the_pages_are_light_with_many_workers_too() {
    let horde = TestHorde::start().await;
    for owner in 0..6 {
        let owner = horde.user(&format!("owner{owner}"), 0.0).await;
        let worker = horde.client(&owner.api_key);
        for number in 0..20 {
            let offer = pop(&format!(
                "A worker with quite a long name {} {number}",
                owner.user_id
            ));
            worker.pop_image(&offer).await.unwrap();
        }
    }
    let html = page(&horde, "/horde").await;
    assert!(
        html.contains("120</span> online; the 100 that earned most"),
        "{html}"
    );
    let bytes = weight(&horde, &html).await;
    assert!(bytes <= 150_000, "{bytes} bytes");
}

#[tokio::test]
async fn the_horde_at_work_says_its_numbers_without_scripts() {
    let horde = TestHorde::start().await;
    horde.anonymous().async_image(&request()).await.unwrap();
    let html = page(&horde, "/live").await;
    assert!(
        html.contains("<dd id=\"waiting\">1</dd>") && html.contains("<noscript>"),
        "{html}"
    );
    assert!(html.contains("aria-live=\"polite\""));
    let bytes = weight(&horde, &html).await;
    assert!(bytes <= 40_000, "{bytes} bytes");
    let script = horde.http.get(format!("{}/assets/live.js", horde.url));
    let script = script.send().await.unwrap().text().await.unwrap();
    assert!(script.len() <= 15_000, "{} bytes", script.len());
    // Only what anybody may ask.
    let mask = ("x-fields", "name,type");
    let owner = horde.user("owner", 0.0).await;
    horde
        .client(&owner.api_key)
        .pop_image(&pop("w"))
        .await
        .unwrap();
    let workers = horde.http.get(format!("{}/api/v2/workers", horde.url));
    let workers = workers.header(mask.0, mask.1).send().await.unwrap();
    assert_eq!(
        workers.text().await.unwrap(),
        r#"[{"name":"w","type":"image"}]"#
    );
    let paths: Vec<&str> = script
        .split('"')
        .filter(|text| text.starts_with("/api/"))
        .collect();
    assert_eq!(paths, ["/api/v2/workers", "/api/v2/status/pulse"]);
}
