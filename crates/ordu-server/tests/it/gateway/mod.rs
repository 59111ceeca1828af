//! OpenAI's clients at the gateway, as they look on the wire.
//!
//! What their published packages make of it is tried in `tests/sdk`.

mod image;
mod sight;
mod text;

use ordu_api::ApiKey;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, request, text_pop};

/// A call with a bearer token.
fn call(horde: &TestHorde, (method, path): (Method, &str), key: &str) -> RequestBuilder {
    let url = format!("{}/v1{path}", horde.url);
    horde.http.request(method, url).bearer_auth(key)
}

async fn get(horde: &TestHorde, path: &str) -> Answer {
    Answer::read(call(horde, (Method::GET, path), ordu_api::ANONYMOUS_KEY)).await
}

fn posting(horde: &TestHorde, path: &str, body: &Value) -> RequestBuilder {
    call(horde, (Method::POST, path), ordu_api::ANONYMOUS_KEY).json(body)
}

async fn post(horde: &TestHorde, path: &str, body: &Value) -> Answer {
    Answer::read(posting(horde, path, body)).await
}

/// A scribe that has looked for a job, and found none.
async fn scribe(horde: &TestHorde, models: &[&str]) -> ApiKey {
    let owner = horde.user("owner", 0.0).await.api_key;
    let mut pop = text_pop("scribe");
    pop.models = models.iter().map(|name| (*name).to_owned()).collect();
    horde.client(&owner).pop_text(&pop).await.unwrap();
    owner
}

#[tokio::test]
async fn models_are_those_that_workers_serve() {
    let horde = TestHorde::start().await;
    assert_eq!(
        get(&horde, "/models").await.body,
        json!({"object": "list", "data": []})
    );
    let owner = scribe(&horde, &["a/writer", "b/writer"]).await;
    let dreamer = crate::support::pop("dreamer");
    horde.client(&owner).pop_image(&dreamer).await.unwrap();
    let listed = get(&horde, "/models").await.body;
    let listed = listed["data"].as_array().unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a/writer", "b/writer", "ordu-tiny"]);
    // The path as one client writes it and as another does.
    for path in ["/models/a/writer", "/models/a%2Fwriter"] {
        let one = get(&horde, path).await.body;
        assert_eq!(
            (&one["id"], &one["makes"]),
            (&json!("a/writer"), &json!("text"))
        );
        assert_eq!(
            (&one["object"], &one["owned_by"]),
            (&json!("model"), &json!("horde"))
        );
    }
    let none = get(&horde, "/models/c").await;
    assert_eq!(
        (none.status, &none.body["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[tokio::test]
async fn every_call_needs_a_good_key() {
    let horde = TestHorde::start().await;
    for (method, path) in [
        (Method::GET, "/models"),
        (Method::GET, "/models/x"),
        (Method::POST, "/chat/completions"),
        (Method::POST, "/completions"),
        (Method::POST, "/images/generations"),
        (Method::POST, "/images/edits"),
    ] {
        let call = |key| call(&horde, (method.clone(), path), key).json(&json!({}));
        let wrong = Answer::read(call("sk-nothing")).await;
        assert_eq!(wrong.status, 401, "{path}");
        assert_eq!(wrong.body["error"]["code"], "invalid_api_key", "{path}");
        let url = format!("{}/v1{path}", horde.url);
        let none = Answer::read(horde.http.request(method.clone(), url)).await;
        assert_eq!(none.status, 401, "{path}");
    }
}

#[tokio::test]
async fn every_no_is_in_their_form() {
    let horde = TestHorde::start().await;
    let nowhere = get(&horde, "/embeddings").await;
    assert_eq!(
        (nowhere.status, &nowhere.body["error"]["type"]),
        (404, &json!("invalid_request_error"))
    );
    let method = get(&horde, "/chat/completions").await;
    assert_eq!(
        (method.status, method.body["error"]["message"].is_string()),
        (405, true)
    );
    let url = format!("{}/v1/completions", horde.url);
    let garbage = horde.http.post(url).bearer_auth(ordu_api::ANONYMOUS_KEY);
    let garbage = garbage.header("content-type", "application/json").body("{");
    let garbage = Answer::read(garbage).await;
    assert_eq!(
        (garbage.status, garbage.body["error"]["message"].is_string()),
        (400, true)
    );
    // The horde's own no.
    let owner = horde.user("owner", 0.0).await.api_key;
    let dreamer = crate::support::pop("dreamer");
    horde.client(&owner).pop_image(&dreamer).await.unwrap();
    let large = json!({"prompt": "a red circle", "size": "2048x2048"});
    let poor = post(&horde, "/images/generations", &large).await;
    assert_eq!(
        (poor.status, &poor.body["error"]["code"]),
        (403, &json!("KudosUpfront"))
    );
}

#[tokio::test]
async fn a_browser_may_send_what_their_client_sends() {
    let horde = TestHorde::start().await;
    let asked = "authorization, content-type, x-stainless-lang";
    let url = format!("{}/v1/chat/completions", horde.url);
    let ask = horde.http.request(Method::OPTIONS, url);
    let answer = Answer::read(ask.header("access-control-request-headers", asked)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-headers"], asked);
}

#[tokio::test]
async fn the_horde_does_not_take_bearer_tokens() {
    let horde = TestHorde::start().await;
    let url = format!("{}/api/v2/generate/async", horde.url);
    let ask = horde.http.post(url).bearer_auth(ordu_api::ANONYMOUS_KEY);
    let answer = Answer::read(ask.json(&request())).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["errors"]["apikey"].is_string());
}
