//! How often who may call what.

use ordu_api::ApiKey;
use ordu_core::Millis;
use ordu_server::{Config, GuardConfig};
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestHorde, request};

const ANY_ID: &str = "00000000-0000-4000-8000-000000000000";

async fn limited() -> TestHorde {
    TestHorde::start_with(with_limits).await
}

fn with_limits(config: Config) -> Config {
    Config {
        rate_limits: true,
        ..config
    }
}

async fn call(horde: &TestHorde, method: &Method, path: &str) -> Answer {
    let url = format!("{}/api/v2{path}", horde.url);
    Answer::read(horde.http.request(method.clone(), url)).await
}

async fn ask(horde: &TestHorde, key: &ApiKey) -> u16 {
    let body = json!(request());
    horde.post("/generate/async", Some(key), &body).await.status
}

#[tokio::test]
async fn each_endpoint_has_its_limit_at_the_border_and_one_beyond() {
    let horde = limited().await;
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let status = format!("/generate/status/{ANY_ID}");
    let cases = [
        (&post, "/generate/async".to_owned(), 2, "2 per 1 second"),
        (&get, status.clone(), 10, "10 per 1 minute"),
        (&delete, status, 10, "10 per 1 minute"),
        (
            &get,
            format!("/generate/check/{ANY_ID}"),
            10,
            "10 per 1 second",
        ),
        (
            &get,
            format!("/generate/events/{ANY_ID}"),
            10,
            "10 per 1 second",
        ),
        (&post, "/generate/pop".to_owned(), 60, "60 per 1 second"),
        (&post, "/generate/submit".to_owned(), 60, "60 per 1 second"),
        (
            &post,
            "/generate/progress".to_owned(),
            600,
            "600 per 1 second",
        ),
        (&get, "/status/modes".to_owned(), 30, "30 per 1 minute"),
        (
            &Method::PUT,
            "/status/modes".to_owned(),
            30,
            "30 per 1 minute",
        ),
        (&get, "/users/1".to_owned(), 60, "60 per 1 minute"),
        (&get, format!("/workers/{ANY_ID}"), 30, "30 per 1 minute"),
        (&get, "/workers".to_owned(), 90, "90 per 1 minute"),
        (&get, "/workers/name/x".to_owned(), 90, "90 per 1 minute"),
        (&get, "/find_user".to_owned(), 90, "90 per 1 minute"),
        (
            &get,
            "/status/performance".to_owned(),
            90,
            "90 per 1 minute",
        ),
        (&get, "/status/models".to_owned(), 90, "90 per 1 minute"),
    ];
    for (method, path, count, message) in cases {
        for number in 1..=count {
            let answer = call(&horde, method, &path).await;
            assert_ne!(answer.status, 429, "{method} {path} {number}");
        }
        let refused = call(&horde, method, &path).await;
        assert_eq!(refused.status, 429, "{method} {path}");
        assert_eq!(refused.body, json!({ "message": message }), "{path}");
    }
    assert_eq!(horde.server.traffic().limited, 17);
}

#[tokio::test]
async fn styles_are_read_often_and_written_seldom() {
    let horde = limited().await;
    let style = format!("/styles/image/{ANY_ID}");
    let (texts, text) = ("/styles/text".to_owned(), format!("/styles/text/{ANY_ID}"));
    let by_name = "/styles/image_by_name/x".to_owned();
    let (collections, collection) = ("/collections".to_owned(), format!("/collections/{ANY_ID}"));
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    // One a second: the border of 2 a second is met once, below.
    let cases = [
        (&get, &style, 90, "90 per 1 minute"),
        (&get, &texts, 90, "90 per 1 minute"),
        (&get, &text, 90, "90 per 1 minute"),
        (&get, &by_name, 90, "90 per 1 minute"),
        (&get, &collections, 90, "90 per 1 minute"),
        (&post, &collections, 90, "90 per 1 minute"),
        (&delete, &collection, 90, "90 per 1 minute"),
        (&delete, &text, 90, "90 per 1 minute"),
        (&patch, &style, 20, "20 per 1 hour"),
        (&delete, &style, 20, "20 per 1 hour"),
        (&post, &texts, 20, "20 per 1 hour"),
    ];
    for (method, path, count, message) in cases {
        for number in 1..=count {
            horde.clock.advance(Millis(600));
            let answer = call(&horde, method, path).await;
            assert_ne!(answer.status, 429, "{method} {path} {number}");
        }
        horde.clock.advance(Millis(600));
        let refused = call(&horde, method, path).await;
        assert_eq!(
            refused.body,
            json!({ "message": message }),
            "{method} {path}"
        );
        horde.clock.advance(Millis(60_000));
    }
    for status in [404, 404, 429] {
        assert_eq!(call(&horde, &get, &style).await.status, status);
    }
}

#[tokio::test]
async fn a_heartbeat_is_never_refused() {
    let horde = limited().await;
    for _ in 0..200 {
        let answer = call(&horde, &Method::GET, "/status/heartbeat").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("x-ratelimit-limit"));
    }
}

#[tokio::test]
async fn answers_say_what_is_left_and_how_long_to_wait() {
    let horde = limited().await;
    let path = format!("/generate/check/{ANY_ID}");
    let header = |answer: &Answer, name: &str| -> Option<i64> {
        let value = answer.headers.get(name)?;
        value.to_str().unwrap().parse().ok()
    };
    for left in (0..10).rev() {
        let answer = call(&horde, &Method::GET, &path).await;
        assert_eq!(answer.status, 404);
        assert_eq!(header(&answer, "x-ratelimit-limit"), Some(10));
        assert_eq!(header(&answer, "x-ratelimit-remaining"), Some(left));
        assert_eq!(header(&answer, "x-ratelimit-reset"), Some(1_800_000_001));
        assert_eq!(header(&answer, "retry-after"), None);
    }
    let refused = call(&horde, &Method::GET, &path).await;
    assert_eq!(refused.status, 429);
    assert_eq!(header(&refused, "x-ratelimit-remaining"), Some(0));
    assert_eq!(header(&refused, "retry-after"), Some(1));
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
    assert_eq!(
        refused.headers["content-type"],
        "application/json; charset=utf-8"
    );
    horde.clock.advance(Millis(900));
    assert_eq!(call(&horde, &Method::GET, &path).await.status, 429);
    horde.clock.advance(Millis(100));
    assert_eq!(call(&horde, &Method::GET, &path).await.status, 404);
    let other = format!("/generate/check/{}", ANY_ID.replace('8', "9"));
    assert_eq!(call(&horde, &Method::GET, &other).await.status, 404);
}

#[tokio::test]
async fn limits_come_before_the_body_and_preflights_are_free() {
    let horde = limited().await;
    let url = format!("{}/api/v2/generate/async", horde.url);
    for status in [400, 400, 429] {
        let garbage = horde.http.post(&url).body("garbage");
        assert_eq!(Answer::read(garbage).await.status, status);
        for _ in 0..5 {
            let preflight = horde.http.request(Method::OPTIONS, &url);
            assert_eq!(Answer::read(preflight).await.status, 200);
        }
    }
    let masked = horde.http.post(&url).header("X-Fields", "{broken");
    assert_eq!(Answer::read(masked).await.status, 429);
}

#[tokio::test]
async fn a_key_is_limited_wherever_it_is_used() {
    let local = "127.0.0.1".parse().unwrap();
    let horde = TestHorde::start_with(|config| Config {
        trusted_proxies: vec![local],
        ..with_limits(config)
    })
    .await;
    let ask_from = async |ip: &str, key: &str| {
        let url = format!("{}/api/v2/generate/async", horde.url);
        let asked = horde.http.post(url).json(&request()).header("apikey", key);
        Answer::read(asked.header("X-Forwarded-For", ip))
            .await
            .status
    };
    // Nobody has this key, but that is found out later.
    for (ip, status) in [("192.0.2.1", 401), ("192.0.2.2", 401), ("192.0.2.3", 429)] {
        assert_eq!(ask_from(ip, "one key").await, status, "{ip}");
    }
    assert_eq!(ask_from("192.0.2.3", "another key").await, 401);
    // The key that everybody shares is limited by address only, up to 60 a second.
    for number in 10..40 {
        let ip = format!("192.0.2.{number}");
        assert_eq!(ask_from(&ip, "0000000000").await, 202, "{ip}");
    }
    // Of an IPv6 address the network counts.
    for (ip, status) in [
        ("2001:db8::1", 202),
        ("2001:db8::2", 202),
        ("2001:db8::3", 429),
    ] {
        assert_eq!(ask_from(ip, "0000000000").await, status, "{ip}");
    }
    assert_eq!(ask_from("2001:db8:0:1::3", "0000000000").await, 202);
}

#[tokio::test]
async fn listed_addresses_may_ask_more_often() {
    let horde = TestHorde::start_with(|config| Config {
        guard: GuardConfig {
            service_addresses: vec!["127.0.0.0/8".parse().unwrap()],
            ..GuardConfig::default()
        },
        ..with_limits(config)
    })
    .await;
    for number in 0..11 {
        let status = ask(&horde, &ApiKey::anonymous()).await;
        assert_eq!(status, if number < 10 { 202 } else { 429 }, "{number}");
    }
}

#[tokio::test]
async fn an_address_of_a_trusted_user_may_ask_more_often_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("ordu.db").display());
    let start = async || {
        let database = database.clone();
        TestHorde::start_with(|config| Config {
            database,
            ..with_limits(config)
        })
        .await
    };
    let horde = start().await;
    let trusted = horde.user("trusted", 1000.0).await;
    assert_eq!(ask(&horde, &trusted.api_key).await, 202);
    horde.later(60);
    let burst = async |horde: &TestHorde| {
        let mut passed = 0;
        while ask(horde, &ApiKey::anonymous()).await == 202 {
            passed += 1;
        }
        passed
    };
    assert_eq!(burst(&horde).await, 10);
    horde.server.settle_down().await.unwrap();
    horde.server.stop().await;

    let horde = start().await;
    assert_eq!(burst(&horde).await, 10);
    horde.later(24 * 3600);
    assert_eq!(burst(&horde).await, 2);
}
