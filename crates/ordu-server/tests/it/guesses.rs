//! Who tries keys waits longer and longer; who has one does not.

use ordu_server::Config;
use reqwest::Method;
use serde_json::json;

use crate::browser::Browser;
use crate::support::{Answer, TestHorde};

async fn start(wrong_keys: Option<u32>) -> TestHorde {
    TestHorde::start_with(|config| Config {
        wrong_keys,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..config
    })
    .await
}

async fn try_from(horde: &TestHorde, address: &str, path: &str, key: &str) -> Answer {
    let url = format!("{}/api/v2{path}", horde.url);
    let request = horde
        .http
        .get(url)
        .header("apikey", key)
        .header("x-forwarded-for", address);
    Answer::read(request).await
}

#[tokio::test]
async fn an_address_that_guesses_waits_and_its_neighbours_do_not() {
    let horde = start(Some(3)).await;
    let owner = horde.mint("owner", json!({})).await;
    let key = owner.api_key.reveal();
    let (bad, good) = ("192.0.2.1", "192.0.2.2");
    let guess = async |address| try_from(&horde, address, "/users/1", "wrong").await;
    for _ in 0..4 {
        assert_eq!(guess(bad).await.status, 401);
    }
    for (wait, next) in [(1, "2"), (2, "4"), (4, "8")] {
        let refused = guess(bad).await;
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert_eq!(refused.headers["retry-after"], wait.to_string());
        assert!(
            refused.body["message"]
                .as_str()
                .unwrap()
                .contains("wrong keys")
        );
        assert_eq!(guess(good).await.status, 401, "others may still err once");
        horde.later(wait);
        assert_eq!(guess(bad).await.status, 401, "then one more is looked at");
        let refused = guess(bad).await;
        assert_eq!(refused.headers["retry-after"], next);
        horde.later(0);
    }
    let own = try_from(&horde, bad, "/users/1", key).await;
    assert_eq!(own.status, 200, "a key that was used here is no guess");
    let anonymous = try_from(&horde, bad, "/users/1", "0000000000").await;
    assert_eq!(anonymous.status, 200);
    assert_eq!(horde.server.traffic().keys_refused, 6);
}

#[tokio::test]
async fn the_longest_wait_is_five_minutes_and_a_quiet_address_begins_anew() {
    let horde = start(Some(1)).await;
    for _ in 0..20 {
        let answer = try_from(&horde, "192.0.2.1", "/find_user", "wrong").await;
        assert_eq!(answer.status, 404);
        horde.later(300);
    }
    assert_eq!(
        try_from(&horde, "192.0.2.1", "/find_user", "wrong")
            .await
            .status,
        404
    );
    let refused = try_from(&horde, "192.0.2.1", "/find_user", "wrong").await;
    assert_eq!(
        (refused.status, &refused.headers["retry-after"]),
        (429, &"300".parse().unwrap())
    );
    horde.later(900);
    for status in [404, 404, 429] {
        let answer = try_from(&horde, "192.0.2.1", "/find_user", "wrong").await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn valid_keys_are_never_made_to_wait() {
    let horde = start(Some(2)).await;
    let users = [
        horde.mint("a", json!({})).await,
        horde.mint("b", json!({})).await,
    ];
    for _ in 0..50 {
        for user in &users {
            let key = user.api_key.reveal();
            assert_eq!(
                try_from(&horde, "192.0.2.1", "/find_user", key)
                    .await
                    .status,
                200
            );
        }
    }
    assert_eq!(horde.server.traffic().keys_refused, 0);
}

#[tokio::test]
async fn keys_that_are_typed_into_pages_count_too() {
    let horde = start(Some(2)).await;
    let mut browser = Browser::new();
    let form = ("/account", "/sign-in");
    for status in [401, 401, 401, 429] {
        let page = browser.submit(&horde, form, &[("apikey", "wrong")]).await;
        assert_eq!(page.status, status);
    }
    let fields = [("src_api_key", "wrong"), ("username", "1"), ("amount", "1")];
    let page = browser
        .submit(&horde, ("/transfer", "/transfer"), &fields)
        .await;
    assert_eq!(page.status, 429);
}

#[tokio::test]
async fn nobody_waits_where_the_operator_says_so() {
    let horde = start(None).await;
    for _ in 0..50 {
        let key = Some("wrong");
        let answer = horde.call(Method::GET, "/users/1", key, None).await;
        assert_eq!(answer.status, 401);
    }
}
