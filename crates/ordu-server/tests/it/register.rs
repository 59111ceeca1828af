//! Accounts that people and programs make for themselves.

use axum::Json;
use axum::routing::post;
use ordu_server::{CaptchaConfig, Config, IdentityConfig, Registration};
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::support::{Answer, TestHorde, on_each_database};

const FORM: (&str, &str) = ("/register", "/register");

async fn register(browser: &mut Browser, horde: &TestHorde, name: &str) -> Page {
    browser.submit(horde, FORM, &[("username", name)]).await
}

async fn who(horde: &TestHorde, key: &str) -> Answer {
    horde.call(Method::GET, "/find_user", Some(key), None).await
}

/// A horde on a database, with these settings of accounts.
async fn start(database: &str, identity: IdentityConfig) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        identity,
        ..config
    })
    .await
}

fn open() -> IdentityConfig {
    IdentityConfig {
        json_registration: Registration::Open,
        ..IdentityConfig::default()
    }
}

async fn create(horde: &TestHorde, body: Value) -> Answer {
    horde.call(Method::POST, "/users", None, Some(&body)).await
}

#[tokio::test]
async fn a_stranger_registers_and_sees_the_key_once() {
    on_each_database(async |database| {
        let horde = start(database, IdentityConfig::default()).await;
        let mut browser = Browser::new();
        let page = register(&mut browser, &horde, "  alice & <i>bob</i> ").await;
        assert_eq!(page.status, 200, "{page:?}");
        let key = page.key().unwrap();
        assert_eq!(key.len(), 22);
        assert_eq!(page.headers["cache-control"], "no-store");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("unsafe") && !policy.contains("google"));
        let found = who(&horde, &key).await;
        assert_eq!(found.status, 200);
        assert_eq!(found.body["username"], "alice &amp; <i>bob</i>#1");
        assert_eq!(found.body["pseudonymous"], true);
        assert_eq!(found.body["kudos"], 0.0);
        assert_eq!(found.body["concurrency"], 30);
        let again = browser.get(&format!("{}/register", horde.url)).await;
        assert!(again.key().is_none() && !again.text.contains(&key));
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn names_are_cut_refused_and_suspected() {
    let horde = start("sqlite::memory:", open()).await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let mut browser = Browser::new();
    for (name, status) in [("fuck this", 400), (" \t ", 400), ("", 400), ("\0", 400)] {
        let page = register(&mut browser, &horde, name).await;
        assert_eq!(page.status, status, "{name}");
        assert!(page.text.contains("role=\"alert\"") && page.key().is_none());
        assert!(create(&horde, json!({ "username": name })).await.status == 400);
    }
    let suspicions = async |key: &str| {
        let id = who(&horde, key).await.body["id"].clone();
        let path = format!("/users/{id}");
        let by = Some(moderator.api_key.reveal());
        let seen = horde.call(Method::GET, &path, by, None).await.body;
        (id, seen["username"].clone(), seen["suspicious"].clone())
    };
    let fine = register(&mut browser, &horde, &"x".repeat(30)).await;
    assert_eq!(
        suspicions(&fine.key().unwrap()).await,
        (json!(2), json!(format!("{}#2", "x".repeat(30))), json!(0)),
        "a name that is refused takes no number"
    );
    let long = register(&mut browser, &horde, &"y".repeat(31)).await;
    assert_eq!(
        suspicions(&long.key().unwrap()).await,
        (json!(3), json!(format!("{}#3", "y".repeat(30))), json!(1))
    );
    let hidden = register(&mut browser, &horde, "fu\0ck this").await;
    assert_eq!(suspicions(&hidden.key().unwrap()).await.2, json!(1));
    let page = register(&mut browser, &horde, "<script>alert(1)</script>").await;
    assert!(!page.text.contains("<script>alert"));
}

#[tokio::test]
async fn raids_and_shut_out_addresses_close_the_door() {
    let horde = TestHorde::start_with(|config| Config {
        identity: open(),
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..config
    })
    .await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let key = Some(moderator.api_key.reveal());
    let raid = async |on: bool| {
        let body = json!({ "raid_mode": on });
        horde
            .call(Method::PUT, "/status/modes", key, Some(&body))
            .await;
    };
    let mut browser = Browser::new();
    raid(true).await;
    let page = register(&mut browser, &horde, "alice").await;
    assert_eq!((page.status, page.key()), (403, None));
    let refused = create(&horde, json!({ "username": "alice" })).await;
    assert_eq!((refused.status, refused.rc()), (403, "Forbidden"));
    raid(false).await;
    let ban = json!({ "ipaddr": "127.0.0.1", "hours": 1 });
    let banned = horde
        .call(Method::POST, "/operations/ipaddr", key, Some(&ban))
        .await;
    assert_eq!(banned.status, 200, "{}", banned.body);
    let page = register(&mut browser, &horde, "alice").await;
    assert_eq!((page.status, page.key()), (403, None));
    let refused = create(&horde, json!({ "username": "alice" })).await;
    assert_eq!((refused.status, refused.rc()), (403, "TimeoutIP"));
    horde.later(3600);
    assert!(
        register(&mut browser, &horde, "alice")
            .await
            .key()
            .is_some()
    );
}

#[tokio::test]
async fn only_forms_of_ours_count() {
    let horde = start("sqlite::memory:", IdentityConfig::default()).await;
    let url = format!("{}/register", horde.url);
    let mut stranger = Browser::new();
    let bare = stranger.post(&url, &[("username", "alice")]).await;
    assert_eq!((bare.status, bare.key()), (403, None));
    let mut browser = Browser::new();
    let token = browser.get(&url).await.hidden("form_token");
    let fields = [("username", "alice"), ("form_token", token.as_str())];
    let stolen = stranger.post(&url, &fields).await;
    assert_eq!(stolen.status, 403, "a token holds for its own browser");
    let wrong = [("username", "alice"), ("form_token", "x")];
    assert_eq!(browser.post(&url, &wrong).await.status, 403);
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site)];
        let sent = browser.send(Method::POST, &url, &fields, &headers).await;
        assert_eq!(sent.status, 403, "{site}");
    }
    let headers = [("sec-fetch-site", "same-origin")];
    let sent = browser.send(Method::POST, &url, &fields, &headers).await;
    assert_eq!(sent.status, 200);
}

#[tokio::test]
async fn one_address_makes_so_many_accounts_a_day() {
    on_each_database(async |database| {
        let horde = start(
            database,
            IdentityConfig {
                accounts_per_address: 2,
                ..open()
            },
        )
        .await;
        let mut browser = Browser::new();
        assert!(register(&mut browser, &horde, "a").await.key().is_some());
        horde.later(600);
        assert_eq!(create(&horde, json!({ "username": "b" })).await.status, 201);
        let refused = create(&horde, json!({ "username": "c" })).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.headers["retry-after"], (86_400 - 600).to_string());
        let page = register(&mut browser, &horde, "c").await;
        assert_eq!((page.status, page.key()), (429, None));
        horde.later(86_400 - 600);
        let made = create(&horde, json!({ "username": "c" })).await;
        assert_eq!(made.status, 201);
        assert_eq!(made.body["id"], 3, "who is refused takes no number");
        let refused = create(&horde, json!({ "username": "d" })).await;
        assert_eq!(refused.status, 429);
        horde.server.settle_down().await.unwrap();
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn programs_register_where_the_operator_lets_them() {
    let closed = start("sqlite::memory:", IdentityConfig::default()).await;
    let refused = create(&closed, json!({ "username": "alice" })).await;
    assert_eq!((refused.status, refused.rc()), (403, "Forbidden"));

    let horde = start("sqlite::memory:", open()).await;
    let made = create(&horde, json!({ "username": "alice", "what": "else" })).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["alias"], "alice#1");
    assert_eq!(
        (&made.body["id"], &made.body["username"]),
        (&json!(1), &json!("alice"))
    );
    let key = made.body["api_key"].as_str().unwrap();
    assert_eq!(who(&horde, key).await.body["username"], "alice#1");
    for wrong in [
        json!({}),
        json!([]),
        json!(null),
        json!({ "username": 5 }),
        json!({ "username": null }),
        json!({ "username": "x".repeat(101) }),
        json!({ "username": "a", "captcha": 5 }),
    ] {
        let refused = create(&horde, wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

/// A judge of captchas that believes one answer.
async fn judge() -> url::Url {
    let verify = async |body: String| {
        let solved = body == "secret=ours&response=solved";
        Json(json!({ "success": solved }))
    };
    let router = axum::Router::new().route("/verify", post(verify));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/verify").parse().unwrap()
}

#[tokio::test]
async fn a_captcha_stands_before_the_door() {
    let with_captcha = |verify_url| IdentityConfig {
        captcha: Some(CaptchaConfig {
            site_key: "the site".to_owned(),
            secret_key: "ours".to_owned().into(),
            verify_url,
        }),
        ..open()
    };
    let horde = start("sqlite::memory:", with_captcha(judge().await)).await;
    let mut browser = Browser::new();
    let form = browser.get(&format!("{}/register", horde.url)).await;
    assert!(form.text.contains("data-sitekey=\"the site\""));
    let policy = form.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("recaptcha") && !policy.contains("unsafe"));
    for (answer, status) in [("", 403), ("guessed", 403), ("solved", 200)] {
        let fields = [("username", "alice"), ("g-recaptcha-response", answer)];
        let page = browser.submit(&horde, FORM, &fields).await;
        assert_eq!((page.status, page.key().is_some()), (status, status == 200));
    }
    assert_eq!(
        create(&horde, json!({ "username": "bob" })).await.status,
        403
    );
    let body = json!({ "username": "bob", "captcha": "solved" });
    assert_eq!(create(&horde, body).await.status, 201);

    let away = "http://127.0.0.1:9/verify".parse().unwrap();
    let horde = start("sqlite::memory:", with_captcha(away)).await;
    let body = json!({ "username": "bob", "captcha": "solved" });
    assert_eq!(create(&horde, body).await.status, 403, "no judge, no entry");
}

#[tokio::test]
async fn who_has_a_key_renews_it() {
    on_each_database(async |database| {
        let horde = start(database, open()).await;
        let alice = create(&horde, json!({ "username": "alice" })).await.body;
        let bob = create(&horde, json!({ "username": "bob" })).await.body;
        let old = alice["api_key"].as_str().unwrap();
        let renew = async |key: Option<&str>, id: &str| {
            let path = format!("/users/{id}/key");
            horde.call(Method::POST, &path, key, None).await
        };
        assert_eq!(renew(None, "1").await.status, 400);
        assert_eq!(renew(Some("wrong"), "1").await.rc(), "InvalidAPIKey");
        assert_eq!(
            renew(Some("0000000000"), "0").await.rc(),
            "AnonForbiddenUserMod"
        );
        for other in ["2", "0", "garbage", "99999999999999999999", "-1"] {
            assert_eq!(renew(Some(old), other).await.rc(), "NotOwner", "{other}");
        }
        let renewed = renew(Some(old), "1").await;
        assert_eq!(renewed.status, 200, "{}", renewed.body);
        assert_eq!(renewed.body["alias"], "alice#1");
        let new = renewed.body["api_key"].as_str().unwrap();
        assert_ne!(new, old);
        assert_eq!(who(&horde, old).await.status, 404);
        assert_eq!(who(&horde, new).await.body["id"], 1);
        let other = bob["api_key"].as_str().unwrap();
        assert_eq!(who(&horde, other).await.body["id"], 2);
        assert_eq!(renew(Some(old), "1").await.status, 401);
        horde.server.stop().await;
    })
    .await;
}
