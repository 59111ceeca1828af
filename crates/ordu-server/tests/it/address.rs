//! Where requests come from.

use ordu_api::{ApiKey, RequestId};
use ordu_core::Millis;
use ordu_server::{Config, Secret, Seen, seen_link};
use ordu_store::UserChange;

use crate::support::{Answer, TestHorde, request};

/// Asks with some headers; answers the address that is kept with the request.
async fn address(horde: &TestHorde, headers: &[(&'static str, &str)]) -> String {
    let url = format!("{}/api/v2/generate/async", horde.url);
    let mut asked = horde.http.post(url).json(&request());
    asked = asked.header("apikey", ApiKey::anonymous().reveal());
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    let answer = Answer::read(asked).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id: RequestId = answer.body["id"].as_str().unwrap().parse().unwrap();
    let row = horde.server.store().find_request(id).await.unwrap();
    row.unwrap().ip.unwrap()
}

#[tokio::test]
async fn a_forwarded_address_counts_only_behind_a_trusted_proxy() {
    let forwarded = [("X-Forwarded-For", "198.51.100.1, 192.0.2.1")];
    let horde = TestHorde::start().await;
    assert_eq!(address(&horde, &forwarded).await, "127.0.0.1");

    let local = "127.0.0.1".parse().unwrap();
    let horde = TestHorde::start_with(|config| Config {
        trusted_proxies: vec![local],
        ..config
    })
    .await;
    assert_eq!(address(&horde, &forwarded).await, "192.0.2.1");
    let garbage = [("X-Forwarded-For", "192.0.2.1, garbage")];
    assert_eq!(address(&horde, &garbage).await, "127.0.0.1");
    // Two lines: the proxy added the last one.
    let twice = [
        ("X-Forwarded-For", "198.51.100.1"),
        ("X-Forwarded-For", "192.0.2.7"),
    ];
    assert_eq!(address(&horde, &twice).await, "192.0.2.7");
}

#[tokio::test]
async fn who_has_the_secret_is_told_what_the_server_sees() {
    let local = "127.0.0.1".parse().unwrap();
    let horde = TestHorde::start_with(|config| Config {
        trusted_proxies: vec![local],
        ..config
    })
    .await;
    let now = horde.clock.now();
    let link = seen_link(horde.server.secret(), &horde.url, now);
    let asked = horde.http.get(&link).header("X-Forwarded-For", "192.0.2.7");
    let seen: Seen = asked.send().await.unwrap().json().await.unwrap();
    assert_eq!((seen.peer, seen.trusted), (local, true));
    assert_eq!(seen.client.to_string(), "192.0.2.7");
    assert_eq!(seen.forwarded_for.as_deref(), Some("192.0.2.7"));
    let forged = link.replace("signature=", "signature=A");
    let strangers = seen_link(&Secret::new("other"), &horde.url, now);
    let old = seen_link(
        horde.server.secret(),
        &horde.url,
        now - Millis::from_minutes(6),
    );
    for wrong in [
        forged,
        strangers,
        old,
        format!("{}/healthz/seen", horde.url),
    ] {
        let answer = horde.http.get(&wrong).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{wrong}");
    }
}

#[tokio::test]
async fn a_passkey_lets_a_service_name_its_user_until_it_is_flagged() {
    let horde = TestHorde::start().await;
    let service = horde.user("service", 0.0).await;
    let id = service.user_id.parse().unwrap();
    let proxied = |passkey: &'static str| {
        [
            ("Proxy-Authorization", passkey),
            ("Proxied-For", "192.0.2.9"),
        ]
    };
    let change = async |change: UserChange| {
        horde.server.store().update_user(id, &change).await.unwrap();
        horde.server.settle_down().await.unwrap();
    };
    // Nobody has a passkey yet.
    assert_eq!(address(&horde, &proxied("secret")).await, "127.0.0.1");
    change(UserChange {
        proxy_passkey: Some("secret".to_owned()),
        ..UserChange::default()
    })
    .await;
    assert_eq!(address(&horde, &proxied("secret")).await, "192.0.2.9");
    assert_eq!(
        address(&horde, &proxied("Bearer secret")).await,
        "192.0.2.9"
    );
    for wrong in ["Secret", "secret2", "secre", "", "0000000000"] {
        assert_eq!(
            address(&horde, &proxied(wrong)).await,
            "127.0.0.1",
            "{wrong}"
        );
    }
    let garbage = [("Proxy-Authorization", "secret"), ("Proxied-For", "x")];
    assert_eq!(address(&horde, &garbage).await, "127.0.0.1");
    assert_eq!(
        address(&horde, &[("Proxied-For", "192.0.2.9")]).await,
        "127.0.0.1"
    );
    change(UserChange {
        flagged: Some(true),
        ..UserChange::default()
    })
    .await;
    assert_eq!(address(&horde, &proxied("secret")).await, "127.0.0.1");
}

#[tokio::test]
async fn users_of_a_service_are_limited_each_for_itself() {
    let horde = TestHorde::start_with(|config| Config {
        rate_limits: true,
        ..config
    })
    .await;
    let service = horde.user("service", 1000.0).await;
    let change = UserChange {
        service: Some(true),
        proxy_passkey: Some("secret".to_owned()),
        ..UserChange::default()
    };
    let id = service.user_id.parse().unwrap();
    horde.server.store().update_user(id, &change).await.unwrap();
    horde.server.settle_down().await.unwrap();
    let ask = async |user: &str| {
        let url = format!("{}/api/v2/generate/async", horde.url);
        let asked = horde.http.post(url).json(&request());
        let asked = asked
            .header("apikey", "0000000000")
            .header("Proxy-Authorization", "secret");
        Answer::read(asked.header("Proxied-For", user)).await.status
    };
    for user in ["192.0.2.1", "192.0.2.2"] {
        let statuses = [ask(user).await, ask(user).await, ask(user).await];
        assert_eq!(statuses, [202, 202, 429], "{user}");
    }
}
