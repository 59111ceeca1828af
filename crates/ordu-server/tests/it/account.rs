//! The pages of those who are signed in: account and transfer.

use ordu_api::ApiKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::support::TestHorde;

const SIGN_IN: (&str, &str) = ("/account", "/sign-in");

async fn sign_in(browser: &mut Browser, horde: &TestHorde, key: &str) -> Page {
    let page = browser.submit(horde, SIGN_IN, &[("apikey", key)]).await;
    browser.follow(page, |_| true).await
}

async fn view(horde: &TestHorde, key: &ApiKey) -> Value {
    let key = Some(key.reveal());
    horde.call(Method::GET, "/find_user", key, None).await.body
}

#[tokio::test]
async fn a_key_signs_in_changes_the_profile_and_is_renewed() {
    let horde = TestHorde::start().await;
    let alice = horde.mint("alice", json!({ "kudos": 70 })).await;
    let mut browser = Browser::new();
    for wrong in ["wrong", "", "0000000000"] {
        let page = browser.submit(&horde, SIGN_IN, &[("apikey", wrong)]).await;
        assert!(page.status >= 400 && page.text.contains("role=\"alert\""));
        assert!(browser.cookie(&horde, "ordu-session").is_none());
    }
    let mut elsewhere = Browser::new();
    for browser in [&mut browser, &mut elsewhere] {
        let page = sign_in(browser, &horde, alice.api_key.reveal()).await;
        assert_eq!(page.url.path(), "/account");
        assert!(
            page.text.contains("alice#1") && page.text.contains("70"),
            "{page:?}"
        );
    }
    let edit = ("/account", "/account");
    let profile = [
        ("username", "bob"),
        ("contact", "bob@example.org"),
        ("public_workers", "on"),
    ];
    let saved = browser.submit(&horde, edit, &profile).await;
    assert!(
        saved.status == 200 && saved.text.contains("Saved."),
        "{saved:?}"
    );
    let seen = view(&horde, &alice.api_key).await;
    assert_eq!(
        (&seen["username"], &seen["contact"]),
        (&json!("bob#1"), &json!("bob@example.org"))
    );
    for (name, contact) in [("fuck you", ""), ("ab", ""), ("bob", "x")] {
        let fields = [("username", name), ("contact", contact)];
        let refused = browser.submit(&horde, edit, &fields).await;
        assert_eq!(refused.status, 400, "{name} {contact}");
    }
    assert_eq!(view(&horde, &alice.api_key).await["username"], "bob#1");

    let renewed = browser
        .submit(&horde, ("/account", "/account/key"), &[])
        .await;
    let key = ApiKey::new(renewed.key().unwrap());
    assert_eq!(view(&horde, &key).await["id"], 1);
    assert_eq!(view(&horde, &alice.api_key).await["rc"], "UserNotFound");
    let account = format!("{}/account", horde.url);
    assert!(browser.get(&account).await.text.contains("bob#1"));
    let page = elsewhere.get(&account).await;
    assert!(
        !page.text.contains("bob#1"),
        "the old key's sessions are over"
    );

    let out = browser.submit(&horde, ("/account", "/sign-out"), &[]).await;
    assert_eq!(out.location().unwrap().path(), "/");
    assert!(browser.cookie(&horde, "ordu-session").is_none());
    let refused = browser
        .submit(&horde, ("/account", "/account/key"), &[])
        .await;
    assert_eq!((refused.status, refused.key()), (403, None));
}

#[tokio::test]
async fn a_session_ends_and_cannot_be_made_up() {
    let horde = TestHorde::start().await;
    let alice = horde.mint("alice", json!({})).await;
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &horde, alice.api_key.reveal()).await;
    assert!(page.text.contains("alice#1"));
    let account = format!("{}/account", horde.url);
    let session = browser.cookie(&horde, "ordu-session").unwrap().clone();
    let (text, signature) = session.split_once('.').unwrap();
    let half = &text[..text.len() - 4];
    for forged in [
        format!("{half}AAAA.{signature}"),
        format!("{text}.{}", signature.to_lowercase()),
        text.to_owned(),
        ".".to_owned(),
        "%00".to_owned(),
        // A visit is not a session.
        browser.cookie(&horde, "ordu-visit").unwrap().clone(),
    ] {
        browser.set_cookie(&horde, "ordu-session", &forged);
        let page = browser.get(&account).await;
        assert!(
            page.status == 200 && !page.text.contains("alice#1"),
            "{forged}"
        );
    }
    browser.set_cookie(&horde, "ordu-session", &session);
    horde.later(12 * 3600 - 1);
    assert!(browser.get(&account).await.text.contains("alice#1"));
    horde.later(1);
    assert!(!browser.get(&account).await.text.contains("alice#1"));
}

#[tokio::test]
async fn cookies_are_kept_from_scripts_and_from_other_sites() {
    let horde = TestHorde::start().await;
    let cookie = |page: &Page| page.headers["set-cookie"].to_str().unwrap().to_owned();
    let page = Browser::new().get(&format!("{}/account", horde.url)).await;
    let plain = cookie(&page);
    assert!(plain.contains("; HttpOnly; SameSite=Lax") && !plain.contains("Secure"));
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        public_url: Some("https://horde.example".parse().unwrap()),
        ..config
    })
    .await;
    let url = format!("http://{}/account", horde.server.address());
    let secure = cookie(&Browser::new().get(&url).await);
    assert!(
        secure.starts_with("__Host-ordu-visit=") && secure.ends_with("; Secure"),
        "{secure}"
    );
}

struct Purse {
    horde: TestHorde,
    giver: ordu_api::user::TestUser,
    taker: ordu_api::user::TestUser,
}

impl Purse {
    async fn new() -> Self {
        let horde = TestHorde::start().await;
        let giver = horde
            .mint("giver", json!({ "kudos": 500, "trusted": true }))
            .await;
        let taker = horde.mint("taker", json!({ "trusted": true })).await;
        Self {
            horde,
            giver,
            taker,
        }
    }

    async fn give(&self, browser: &mut Browser, key: &str, to: &str, amount: &str) -> Page {
        let fields = [("src_api_key", key), ("username", to), ("amount", amount)];
        browser
            .submit(&self.horde, ("/transfer", "/transfer"), &fields)
            .await
    }

    async fn kudos(&self, user: &ordu_api::user::TestUser) -> Value {
        self.horde.server.settle_down().await.unwrap();
        view(&self.horde, &user.api_key).await["kudos"].clone()
    }
}

#[tokio::test]
async fn the_transfer_page_follows_the_rules_of_transfers() {
    let purse = Purse::new().await;
    let key = purse.giver.api_key.reveal();
    let mut browser = Browser::new();
    for (key, to, amount, status, told) in [
        (key, "taker#2", "-5", 400, "digits"),
        (key, "taker#2", "5.5", 400, "digits"),
        (key, "taker#2", "", 400, "digits"),
        (key, "taker#2", "0", 400, ""),
        (key, "nobody#99", "5", 400, ""),
        (key, "giver#1", "5", 400, ""),
        (key, "Anonymous#0", "5", 400, ""),
        (key, "taker#2", "99999999999999999999999", 400, "more than"),
        ("wrong", "taker#2", "5", 401, ""),
        ("0000000000", "taker#2", "5", 400, ""),
    ] {
        let page = purse.give(&mut browser, key, to, amount).await;
        assert_eq!(page.status, status, "{to} {amount}: {page:?}");
        assert!(page.text.contains("role=\"alert\"") && page.text.contains(told));
        assert!(
            !page.text.contains(key) || key == "0000000000",
            "no key is shown again"
        );
    }
    let page = purse.give(&mut browser, key, "taker#2", "200").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text.contains("200 kudos went to taker#2"));
    assert!(
        page.text.contains("giver#1 has 300 kudos"),
        "what is under way counts"
    );
    assert_eq!(purse.kudos(&purse.giver).await, json!(300.0));
    assert_eq!(purse.kudos(&purse.taker).await, json!(200.0));
}

#[tokio::test]
async fn a_transfer_form_that_is_sent_twice_gives_once() {
    let purse = Purse::new().await;
    let mut browser = Browser::new();
    sign_in(&mut browser, &purse.horde, purse.giver.api_key.reveal()).await;
    let url = format!("{}/transfer", purse.horde.url);
    let form = browser.get(&url).await;
    assert!(!form.text.contains("src_api_key") && form.text.contains("giver#1 has 500 kudos"));
    let (token, attempt) = (form.hidden("form_token"), form.hidden("attempt"));
    let fields = [
        ("username", "2"),
        ("amount", "150"),
        ("form_token", token.as_str()),
        ("attempt", attempt.as_str()),
    ];
    for _ in 0..2 {
        assert_eq!(browser.post(&url, &fields).await.status, 200);
    }
    assert_eq!(purse.kudos(&purse.taker).await, json!(150.0));
    let headers = [("sec-fetch-site", "cross-site")];
    let sent = browser.send(Method::POST, &url, &fields, &headers).await;
    assert_eq!(sent.status, 403);
    let bare = &fields[..2];
    assert_eq!(browser.post(&url, bare).await.status, 403);
    assert_eq!(purse.kudos(&purse.taker).await, json!(150.0));
}
