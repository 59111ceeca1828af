//! What the API says about itself.

pub(crate) mod conformance;

use std::collections::BTreeSet;

use ordu_server::{Config, Site};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde};

/// Routes that are not the protocol, so that nobody generates a client for them.
const NOT_THE_PROTOCOL: &[&str] = &[
    // OpenAI describes these.
    "/v1/models",
    "/v1/models/{*model}",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/images/generations",
    "/v1/images/edits",
    "/",
    "/text",
    "/alchemy",
    "/moderate",
    "/requests/{id}",
    "/horde",
    "/live",
    "/terms",
    "/privacy",
    "/sponsors",
    "/.well-known/serviceinfo",
    "/register",
    "/account",
    "/account/key",
    "/transfer",
    "/sign-in",
    "/sign-out",
    "/google/google/authorized",
    "/google/{*return_to}",
    "/google/",
    "/discord/discord/authorized",
    "/discord/{*return_to}",
    "/discord/",
    "/github/github/authorized",
    "/github/{*return_to}",
    "/github/",
    "/openid/openid/authorized",
    "/openid/{*return_to}",
    "/openid/",
    "/finish_dance",
    "/api",
    "/api/",
    "/api/openapi.json",
    "/api/swagger.json",
    "/assets/{name}",
    "/blobs/{name}",
    "/healthz",
    "/readyz",
    "/metrics",
    "/healthz/seen",
];

/// `PUT /workers/messages` says that `messages` is no worker: it only keeps the path free.
const NO_OPERATION: (&str, &str) = ("PUT", "/api/v2/workers/messages");

pub(crate) fn document() -> Value {
    ordu_server::openapi::description("Ordu")
}

/// Method and path of each described operation.
pub(crate) fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (method.to_uppercase(), path.clone()))
    });
    methods.collect()
}

/// A path without the names of its parameters: the router has its own.
pub(crate) fn nameless(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        parameter if parameter.starts_with('{') => "{}",
        literal => literal,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The methods of a route, asked of a running server: a method that no route knows is answered with
/// those that this one knows.
async fn methods_of(horde: &TestHorde, path: &str) -> Vec<String> {
    let path = path.replace(['{', '}'], "");
    let method = Method::from_bytes(b"UNHEARD").unwrap();
    let url = format!("{}{path}", horde.url);
    let answer = horde.http.request(method, url).send().await.unwrap();
    assert_eq!(answer.status(), 405, "{path}");
    let allowed = answer.headers()["allow"].to_str().unwrap().to_owned();
    let methods = allowed.split(',').map(|method| method.trim().to_owned());
    methods.filter(|method| method != "HEAD").collect()
}

#[tokio::test]
async fn every_route_is_described_and_every_description_has_a_route() {
    let horde = TestHorde::start().await;
    let mut routed = BTreeSet::new();
    for path in ordu_server::openapi::routes() {
        if NOT_THE_PROTOCOL.contains(&path.as_str()) {
            continue;
        }
        for method in methods_of(&horde, &path).await {
            routed.insert((method, nameless(&path)));
        }
    }
    routed.remove(&(NO_OPERATION.0.to_owned(), NO_OPERATION.1.to_owned()));
    let described: BTreeSet<_> = operations(&document())
        .into_iter()
        .map(|(method, path)| (method, nameless(&path)))
        .collect();
    let missing: Vec<_> = routed.difference(&described).collect();
    let stale: Vec<_> = described.difference(&routed).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "add a line to `openapi/table` for {missing:?}; nothing answers {stale:?}"
    );
}

#[test]
fn names_are_unique_and_references_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        // schemars numbers a second structure of the same name.
        assert!(
            !pointer.ends_with(|c: char| c.is_ascii_digit()),
            "{pointer}"
        );
    }
}

#[tokio::test]
async fn the_documents_are_served() {
    let horde = TestHorde::start().await;
    let read =
        async |path: &str| Answer::read(horde.http.get(format!("{}{path}", horde.url))).await;
    let newer = read("/api/openapi.json").await;
    assert_eq!((newer.status, &newer.body), (200, &document()));
    assert_eq!(newer.body["openapi"], "3.1.0");
    assert_eq!(newer.headers["access-control-allow-origin"], "*");
    let older = read("/api/swagger.json").await;
    assert_eq!(older.body["swagger"], "2.0");
    assert_eq!(older.body["info"]["title"], "Ordu");
    assert_eq!(older.body["info"]["version"], "2.5");
    let paths = older.body["paths"].as_object().unwrap();
    assert_eq!(paths.len(), newer.body["paths"].as_object().unwrap().len());
    assert!(paths.contains_key("/v2/generate/async"));
}

#[tokio::test]
async fn the_documents_say_where_the_operators_can_be_reached() {
    for (contact, member) in [
        ("us@example.org", "email"),
        ("https://example.org/us", "url"),
        ("ring twice @ the door", "name"),
    ] {
        let horde = TestHorde::start_with(|config| Config {
            site: Site {
                contact: Some(contact.to_owned()),
                ..Site::default()
            },
            ..config
        })
        .await;
        for path in ["/api/openapi.json", "/api/swagger.json"] {
            let url = format!("{}{path}", horde.url);
            let answer = Answer::read(horde.http.get(url)).await;
            let said = &answer.body["info"]["contact"];
            assert_eq!(*said, json!({ member: contact }), "{path}");
        }
    }
}

#[tokio::test]
async fn the_page_shows_every_operation_and_loads_nothing_foreign() {
    let horde = TestHorde::start().await;
    // Where `serviceinfo` says that it is.
    let url = format!("{}/api", horde.url);
    let answer = horde.http.get(url).send().await.unwrap();
    assert_eq!(answer.url().path(), "/api/");
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.contains("default-src 'none'"));
    let html = answer.text().await.unwrap();
    let document = document();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
    for anchor in html.split("href=\"#").skip(1) {
        let id = anchor.split('"').next().unwrap();
        assert!(html.contains(&format!("id=\"{id}\"")), "{id} is nowhere");
    }
    for loaded in html.split(" src=\"").skip(1) {
        assert!(loaded.starts_with('/'), "{loaded}");
    }
    assert!(!html.contains("<script>") && !html.contains("style=\""));
}
