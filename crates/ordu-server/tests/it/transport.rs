//! What every answer carries.

use std::net::SocketAddr;
use std::time::Duration;

use ordu_server::{Config, MostLoad};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Answer, TestHorde, on_each_database, pop, request, text_pop, text_request, written,
};

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
    assert_eq!(known.headers["allow"], "POST");
    let known = ask("/generate/status/x").await;
    assert_eq!(known.headers["allow"], "GET,HEAD,DELETE");
    assert_eq!(ask("/nothing/here").await.status, 404);
    let wrong = horde.get("/generate/async").await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.headers["allow"], "POST");
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

#[tokio::test]
async fn every_no_is_json_with_a_message() {
    let horde = TestHorde::start().await;
    let text = horde.http.put(format!("{}/api/v2/status/modes", horde.url));
    let cases = [
        // A query, a path and a body that a library complains about.
        (Method::GET, "/status/models?min_count=%ff&type=image%zz"),
        (Method::GET, "/workers/name/%ff"),
        (Method::GET, "/users/%00"),
        (Method::GET, "/workers/name/%00"),
        (Method::GET, "/nothing"),
        (Method::PATCH, "/generate/async"),
        (Method::GET, "/generate/check/%00"),
        (Method::GET, "/users/99999999999999999999"),
    ];
    for (method, path) in cases {
        let url = format!("{}/api/v2{path}", horde.url);
        let answer = Answer::read(horde.http.request(method, url)).await;
        assert!(
            (400..500).contains(&answer.status),
            "{path} {}",
            answer.status
        );
        assert!(answer.body["message"].is_string(), "{path} {}", answer.body);
        let media_type = &answer.headers["content-type"];
        assert_eq!(media_type, "application/json; charset=utf-8", "{path}");
    }
    let answer = Answer::read(text.header("apikey", "0000000000").body("x")).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert!(answer.body["message"].is_string());
}

#[tokio::test]
async fn deep_and_broken_json_is_refused() {
    let horde = TestHorde::start().await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{}1{}", r#"{"params":"#.repeat(5000), "}".repeat(5000));
    for body in [
        deep,
        nested,
        "{".to_owned(),
        "\u{0}".to_owned(),
        "NaN".to_owned(),
    ] {
        let url = format!("{}/api/v2/generate/async", horde.url);
        let asked = horde
            .http
            .post(url)
            .header("content-type", "application/json");
        let answer = Answer::read(asked.body(body)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body["message"].is_string());
    }
    let asked = horde
        .http
        .post(format!("{}/api/v2/generate/pop", horde.url));
    let large = asked.json(&json!({ "name": "x".repeat(2 << 20) }));
    assert_eq!(Answer::read(large).await.status, 413);
}

/// Sends bytes as they are; answers what comes back until the connection ends.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has said all it will.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_is_too_slow_is_not_waited_for() {
    let horde = TestHorde::start_with(|config| Config {
        patience: Duration::from_millis(300),
        ..config
    })
    .await;
    let address = horde.server.address();
    let head = "POST /api/v2/generate/async HTTP/1.1\r\nhost: x\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n";
    // The head never ends.
    let answer = raw(address, head.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    // The body never comes.
    let answer = raw(address, format!("{head}\r\n{{\"prompt").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: *"),
        "{answer}"
    );
    assert!(answer.contains("too slowly"), "{answer}");
    // Who keeps pace is read to the end, however long it takes.
    let prompt = "x".repeat(30_000);
    let body = json!({ "prompt": prompt }).to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = head.replace("100", &body.len().to_string());
    let head = format!("{head}apikey: 0000000000\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in body.as_bytes().chunks(5_000) {
        stream.write_all(chunk).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[tokio::test]
async fn heads_have_a_limit() {
    let horde = TestHorde::start().await;
    let get = "GET /api/v2/status/heartbeat HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let many = |count: usize| {
        let headers = (0..count).map(|number| format!("x-{number}: 1\r\n"));
        format!("{get}{}\r\n", headers.collect::<String>())
    };
    let address = horde.server.address();
    let answer = raw(address, many(90).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = raw(address, many(101).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("{get}x: {}\r\n\r\n", "y".repeat(200_000));
    let answer = raw(address, long.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_missing_database_is_told_with_the_name_of_the_request() {
    let horde = TestHorde::start().await;
    horde.server.store().close().await;
    let answer = horde.get("/users/1").await;
    assert_eq!(answer.status, 503);
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert_eq!(answer.body["request_id"], id);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_nul_harms_nobody() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let mut body = json!(pop("w"));
        body["bridge_agent"] = json!("AI Horde\0 Worker:1:x");
        for _ in 0..2 {
            let key = Some(&owner.api_key);
            let popped = horde.post("/generate/pop", key, &body).await;
            assert_eq!(popped.status, 200, "{}", popped.body);
            // What is written behind is written, for this worker and for all others.
            horde.server.settle_down().await.unwrap();
            horde.later(60);
        }
        let mut body = json!(request());
        body["prompt"] = json!("a\0b");
        let asked = horde.post("/generate/async", Some(&owner.api_key), &body);
        assert_eq!(asked.await.rc(), "NulByteInPayload");
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_too_much_is_sent_away_with_a_time_to_come_again() {
    let most_load = MostLoad {
        calls: 1,
        body_bytes: 10_000,
        ..MostLoad::default()
    };
    let horde = TestHorde::start_with(|config| Config {
        most_load,
        ..config
    })
    .await;
    let busy = |answer: &Answer| {
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers["retry-after"], "2");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains("too much to do"), "{message}");
    };
    // Bodies: of one call, however it would read it.
    let large = json!({ "prompt": "x".repeat(20_000) });
    for path in ["/generate/async", "/interrogate/submit", "/kudos/transfer"] {
        busy(&horde.post(path, None, &large).await);
    }
    // Calls: one that sends its body slowly is one in hand.
    let head = "POST /api/v2/generate/async HTTP/1.1\r\nhost: x\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let mut slow = TcpStream::connect(horde.server.address()).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    while horde.get("/status/modes").await.status == 200 {}
    busy(&horde.get("/status/modes").await);
    let needed = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v2/status/heartbeat",
    ];
    for path in needed {
        let answer = horde.http.get(format!("{}{path}", horde.url)).send().await;
        assert_eq!(answer.unwrap().status(), 200, "{path}");
    }
    assert!(horde.server.traffic().shed >= 5);
    drop(slow);
    while horde.get("/status/modes").await.status == 503 {}
}

#[tokio::test]
async fn no_more_requests_are_taken_than_memory_is_meant_for() {
    let most_load = MostLoad {
        requests: 2,
        ..MostLoad::default()
    };
    let horde = TestHorde::start_with(|config| Config {
        most_load,
        ..config
    })
    .await;
    let owner = horde.user("owner", 10_000.0).await;
    let client = horde.client(&owner.api_key);
    let first = client.async_text(&text_request()).await.unwrap().id;
    client.async_text(&text_request()).await.unwrap();
    let body = json!({ "prompt": "x", "models": ["m"] });
    let ask = || horde.post("/generate/text/async", Some(&owner.api_key), &body);
    let refused = ask().await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "2");
    // What is known goes on, and prices are told.
    let pop = client.pop_text(&text_pop("w")).await.unwrap();
    client.submit_text(&written(pop.ids[0])).await.unwrap();
    assert!(client.text_status(first).await.unwrap().progress.done);
    client.price_text(&text_request()).await.unwrap();
    // Ended ones count until they are forgotten.
    assert_eq!(ask().await.status, 503);
    assert!(horde.server.traffic().shed >= 2);
}

#[tokio::test]
async fn who_waits_takes_no_room_from_others() {
    let most_load = MostLoad {
        calls: 1,
        ..MostLoad::default()
    };
    let horde = TestHorde::start_with(|config| Config {
        most_load,
        ..config
    })
    .await;
    let owner = horde.user("owner", 10_000.0).await;
    let client = horde.client(&owner.api_key);
    let id = client.async_text(&text_request()).await.unwrap().id;
    let url = format!("{}/api/v2/generate/text/status/{id}", horde.url);
    let waiting = tokio::spawn(horde.http.get(url).header("Prefer", "wait=30").send());
    while horde.server.onlookers().calls == 0 {
        tokio::task::yield_now().await;
    }
    let pop = client.pop_text(&text_pop("w")).await.unwrap();
    client.submit_text(&written(pop.ids[0])).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}
