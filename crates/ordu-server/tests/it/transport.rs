//! What every answer carries.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestHorde, request};

#[tokio::test]
async fn every_answer_allows_every_origin_and_names_its_node() {
    let horde = TestHorde::start().await;
    let paths = [
        "/status/heartbeat",
        "/nothing/here",
        "/generate/async",
        "/users/abc",
    ];
    for path in paths {
        let answer = horde.get(path).await;
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(header("access-control-allow-origin"), "*", "{path}");
        assert!(
            header("access-control-allow-headers").contains("apikey"),
            "{path}"
        );
        assert!(header("horde-node").starts_with("127.0.0.1:"), "{path}");
        assert!(!header("x-request-id").is_empty(), "{path}");
        assert_eq!(
            header("content-type"),
            "application/json; charset=utf-8",
            "{path}"
        );
    }
}

#[tokio::test]
async fn options_is_answered_where_there_is_something() {
    let horde = TestHorde::start().await;
    let ask = |path: &str| {
        let url = format!("{}/api/v2{path}", horde.url);
        Answer::read(horde.http.request(Method::OPTIONS, url))
    };
    let known = ask("/generate/async").await;
    assert_eq!((known.status, known.body), (200, json!("")));
    assert!(known.headers.contains_key("allow"));
    assert_eq!(ask("/nothing/here").await.status, 404);
    assert_eq!(horde.get("/generate/async").await.status, 405);
}

#[tokio::test]
async fn masks_choose_what_is_answered() {
    let horde = TestHorde::start().await;
    let ask = |mask: &'static str| {
        let url = format!("{}/api/v2/status/performance", horde.url);
        Answer::read(horde.http.get(url).header("X-Fields", mask))
    };
    assert_eq!(ask("worker_count").await.body, json!({ "worker_count": 0 }));
    assert_eq!(ask("nothing").await.body, json!({}));
    let broken = ask("{a").await;
    assert_eq!(broken.status, 400);
    assert!(
        broken.body["message"]
            .as_str()
            .unwrap()
            .starts_with("Mask parse error")
    );
    let url = format!("{}/api/v2/generate/async", horde.url);
    let accepted = horde
        .http
        .post(url)
        .header("X-Fields", "id")
        .header("apikey", "0000000000");
    let accepted = Answer::read(accepted.json(&request())).await;
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.body.as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn the_process_says_how_it_is() {
    let horde = TestHorde::start().await;
    let heartbeat = horde.get("/status/heartbeat").await.body;
    assert_eq!(heartbeat["message"], "OK");
    assert_eq!(heartbeat["db_connection"], true);
    let ready = Answer::read(horde.http.get(format!("{}/readyz", horde.url))).await;
    assert_eq!((ready.status, &ready.body["database"]), (200, &json!(true)));
}
