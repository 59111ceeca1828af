//! Who is shut out, until when, and who hides.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use ordu_server::{Config, GuardConfig};
use ordu_store::UserChange;
use reqwest::Method;
use serde_json::json;

use super::{Caller, change, friend, moderator, serve, start, stranger, suspicion_of, with_guard};
use crate::support::{Answer, TestHorde, on_each_database};

#[tokio::test]
async fn wrong_addresses_are_refused_before_the_key_is_looked_at() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let nobody = Caller::new(&horde, &ordu_api::ApiKey::new("nobody has this one"));
    for address in [
        "garbage!",
        "1.2.3.4/33",
        "1.2.3.400",
        "%00%00%00%00",
        "2001:db8::g",
    ] {
        let body = json!({ "ipaddr": address, "hours": 1 });
        let path = format!("/operations/ipaddr/{}", address.replace('/', "%2F"));
        for caller in [&moderator, &nobody] {
            let answers = [
                caller.post("/operations/ipaddr", body.clone()).await,
                caller
                    .delete("/operations/ipaddr", Some(body.clone()))
                    .await,
                caller.get(&path).await,
            ];
            for answer in answers {
                assert_eq!(
                    (answer.status, answer.rc()),
                    (400, "BadRequest"),
                    "{address}"
                );
            }
        }
    }
    for hours in [json!(0), json!(721), json!("x"), json!(1.5)] {
        let body = json!({ "ipaddr": "203.0.113.5", "hours": hours });
        let answer = moderator.post("/operations/ipaddr", body).await;
        assert!(answer.body["errors"].get("hours").is_some(), "{hours}");
    }
}

#[tokio::test]
async fn operations_and_filters_are_for_moderators() {
    let horde = start(GuardConfig::default()).await;
    let worker = "/operations/block_worker_ipaddr/6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
    let filter = json!({ "regex": "a", "filter_type": 20 });
    let address = json!({ "ipaddr": "203.0.113.5", "hours": 1 });
    let calls = [
        (Method::GET, "/operations/ipaddr", None),
        (Method::POST, "/operations/ipaddr", Some(address.clone())),
        (Method::DELETE, "/operations/ipaddr", Some(address)),
        (Method::GET, "/operations/ipaddr/203.0.113.5", None),
        (Method::GET, "/operations/notices", None),
        (Method::PUT, worker, Some(json!({ "days": 1 }))),
        (Method::DELETE, worker, None),
        (Method::GET, "/filters", None),
        (Method::PUT, "/filters", Some(filter.clone())),
        (Method::POST, "/filters", Some(json!({ "prompt": "a" }))),
        (Method::GET, "/filters/regex", None),
        (Method::GET, "/filters/9", None),
        (Method::PATCH, "/filters/9", Some(filter)),
        (Method::DELETE, "/filters/9", None),
    ];
    let user = stranger(&horde, "user").await;
    let anonymous = Caller::new(&horde, &ordu_api::ApiKey::anonymous());
    let nobody = Caller::new(&horde, &ordu_api::ApiKey::new("nobody has this one"));
    for (method, path, body) in calls {
        for (caller, status, rc) in [
            (&user, 403, "NotModerator"),
            (&anonymous, 403, "NotModerator"),
            (&nobody, 401, "InvalidAPIKey"),
        ] {
            let answer = caller.call(method.clone(), path, body.clone()).await;
            assert_eq!(
                (answer.status, answer.rc()),
                (status, rc),
                "{method} {path}"
            );
        }
        let mut request = horde
            .http
            .request(method.clone(), format!("{}/api/v2{path}", horde.url));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = Answer::read(request).await;
        assert_eq!(answer.status, 400, "{method} {path}");
        assert!(
            answer.body["errors"].get("apikey").is_some(),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn blocks_shut_out_everybody_in_them() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let body = json!({ "ipaddr": "198.51.100.77/24", "hours": 2 });
    assert_eq!(moderator.post("/operations/ipaddr", body).await.status, 200);
    let asker = stranger(&horde, "asker").await;
    let inside = asker.from("198.51.100.9");
    assert_eq!(inside.ask("a cat").await.rc(), "TimeoutIP");
    let seen = moderator.get("/operations/ipaddr/198.51.100.0%2F24").await;
    assert_eq!(
        seen.body,
        json!([{ "ipaddr": "198.51.100.0/24", "seconds": 7200 }])
    );
    assert_eq!(moderator.get("/operations/ipaddr").await.body, seen.body);
    let outside = inside.from("198.51.101.9");
    assert_eq!(outside.ask("a cat").await.status, 202);
    horde.later(7200);
    let inside = outside.from("198.51.100.9");
    assert_eq!(inside.ask("a cat").await.status, 202);
    assert_eq!(moderator.get("/operations/ipaddr").await.body, json!([]));
}

#[tokio::test]
async fn a_long_time_out_is_not_told() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let asker = stranger(&horde, "asker").await;
    for (hours, told) in [(96, true), (97, false)] {
        let body = json!({ "ipaddr": "203.0.113.1", "hours": hours });
        moderator.post("/operations/ipaddr", body).await;
        let out = asker.ask("a cat").await;
        let message = out.body["message"].as_str().unwrap();
        let has_number = message.chars().any(|c| c.is_ascii_digit());
        assert_eq!(has_number, told, "{message}");
    }
}

#[tokio::test]
async fn checks_ask_the_database_nothing() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    for regex in ["zzminor", "zzlewd"] {
        let body = json!({ "regex": regex, "filter_type": 10 });
        moderator.put("/filters", body).await;
    }
    let block = json!({ "ipaddr": "198.51.100.0/24", "hours": 2 });
    moderator.post("/operations/ipaddr", block).await;
    let asker = stranger(&horde, "asker").await;
    let owner = stranger(&horde, "owner").await;
    owner.pop("w").await;
    let asked = asker.ask("a zzminor thing").await.body["id"].clone();
    owner.pop("w").await;
    let check = format!("/generate/check/{}", asked.as_str().unwrap());
    let out = stranger(&horde, "out").await.from("198.51.100.9");
    out.ask("a cat").await;
    let mut fewest = u64::MAX;
    // Tasks look around meanwhile, but not every time.
    for _ in 0..10 {
        let trips = || horde.server.store().counters().round_trips;
        let before = trips();
        assert_eq!(asker.get(&check).await.status, 200);
        assert_eq!(owner.pop("w").await.body["id"], json!(null));
        assert_eq!(out.ask("a cat").await.rc(), "TimeoutIP");
        fewest = fewest.min(trips() - before);
    }
    assert_eq!(fewest, 0);
}

#[tokio::test]
async fn a_workers_address_can_be_blocked_by_its_64() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let owner = friend(&horde, "owner").await.from("2001:db8:1:2:3::4");
    owner.pop("w").await;
    let worker = moderator.get("/workers/name/w").await.body;
    assert_eq!(worker["ipaddr"], "2001:db8:1:2:3::4");
    let path = format!(
        "/operations/block_worker_ipaddr/{}",
        worker["id"].as_str().unwrap()
    );
    assert_eq!(moderator.put(&path, json!({ "days": 1 })).await.status, 200);
    let neighbour = owner.from("2001:db8:1:2:ffff::1");
    assert_eq!(neighbour.pop("w").await.rc(), "TimeoutIP");
    assert_eq!(neighbour.pop("new").await.rc(), "TimeoutIP");
    let other = neighbour.from("2001:db8:1:3::1");
    assert_eq!(other.pop("w2").await.status, 200);
    assert_eq!(moderator.delete(&path, None).await.status, 200);
    let neighbour = other.from("2001:db8:1:2:ffff::1");
    assert_eq!(neighbour.pop("w").await.status, 200);
    for (days, field) in [
        (json!(0), "days"),
        (json!(31), "days"),
        (json!("x"), "days"),
    ] {
        let answer = moderator.put(&path, json!({ "days": days })).await;
        assert!(answer.body["errors"].get(field).is_some(), "{days}");
    }
}

/// A horde on a database that outlives it.
async fn start_on(database: &str) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        ..with_guard(config, GuardConfig::default())
    })
    .await
}

#[tokio::test]
async fn time_outs_and_suspicions_outlive_the_process() {
    on_each_database(async |database| {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("ordu.db").display());
        let database = if database.contains("memory") {
            &file
        } else {
            database
        };
        let horde = start_on(database).await;
        let moderator_key = {
            let moderator = moderator(&horde).await;
            for (regex, kind) in [("zzminor", 10), ("zzlewd", 20)] {
                let body = json!({ "regex": regex, "filter_type": kind });
                moderator.put("/filters", body).await;
            }
            let block = json!({ "ipaddr": "198.51.100.0/24", "hours": 1 });
            moderator.post("/operations/ipaddr", block).await;
            moderator.key.clone()
        };
        let asker_key = {
            let asker = stranger(&horde, "asker").await;
            let corrupt = json!({ "prompt": "zzminor zzlewd", "replacement_filter": false });
            assert_eq!(asker.ask_with(corrupt).await.rc(), "CorruptPrompt");
            asker.key.clone()
        };
        horde.server.stop().await;

        let horde = start_on(database).await;
        let moderator = Caller::new(&horde, &moderator_key);
        let asker = Caller::new(&horde, &asker_key);
        assert_eq!(asker.ask("a cat").await.rc(), "TimeoutIP");
        assert_eq!(suspicion_of(&moderator, &asker).await, 1);
        let elsewhere = asker.from("198.51.100.3");
        assert_eq!(elsewhere.ask("a cat").await.rc(), "TimeoutIP");
        assert_eq!(
            moderator
                .get("/filters")
                .await
                .body
                .as_array()
                .unwrap()
                .len(),
            2
        );
    })
    .await;
}

#[tokio::test]
async fn what_one_node_decides_the_others_learn() {
    on_each_database(async |database| {
        if database.contains("memory") {
            return;
        }
        let (one, two) = (start_on(database).await, start_on(database).await);
        let moderator_one = moderator(&one).await;
        let asker = stranger(&two, "asker").await;
        let body = json!({ "ipaddr": "203.0.113.1", "hours": 1 });
        moderator_one.post("/operations/ipaddr", body.clone()).await;
        assert_eq!(
            asker.ask("a cat").await.status,
            202,
            "it has not looked yet"
        );
        two.server.settle_down().await.unwrap();
        assert_eq!(asker.ask("a cat").await.rc(), "TimeoutIP");
        one.later(1);
        moderator_one.delete("/operations/ipaddr", Some(body)).await;
        two.server.settle_down().await.unwrap();
        assert_eq!(asker.ask("a cat").await.status, 202);
    })
    .await;
}

/// `1.1.1.1` hides somebody, `8.8.8.8` does not, nobody knows of others.
async fn address_service() -> String {
    let judge = async |Path(address): Path<String>| match address.as_str() {
        "1.1.1.1" => (StatusCode::OK, "0.99"),
        "8.8.8.8" => (StatusCode::OK, "0.929"),
        "9.9.9.9" => (StatusCode::OK, "who knows"),
        _ => (StatusCode::TOO_MANY_REQUESTS, "1.0"),
    };
    let address = serve(Router::new().route("/{address}", get(judge))).await;
    format!("http://{address}/{{ipaddr}}")
}

async fn horde_that_checks() -> TestHorde {
    start(GuardConfig {
        ip_check_url: Some(address_service().await),
        ip_check_allowed: vec!["4.4.0.0/16".parse().unwrap()],
        ..GuardConfig::default()
    })
    .await
}

#[tokio::test]
async fn workers_of_strangers_must_not_hide() {
    let horde = horde_that_checks().await;
    let moderator = moderator(&horde).await;
    let mut owner = stranger(&horde, "owner").await;
    for (address, status, rc) in [
        ("1.1.1.1", 403, "UnsafeIP"),
        ("8.8.8.8", 200, ""),
        ("9.9.9.9", 403, "TooManyNewIPs"),
        ("5.5.5.5", 403, "TooManyNewIPs"),
        ("4.4.4.4", 200, ""),
        ("192.168.1.1", 200, ""),
    ] {
        owner = owner.from(address);
        let popped = owner.pop("w").await;
        assert_eq!((popped.status, popped.rc()), (status, rc), "{address}");
    }
    assert_eq!(suspicion_of(&moderator, &owner).await, 0);
    let trusted = friend(&horde, "trusted").await.from("1.1.1.1");
    assert_eq!(trusted.pop("t").await.status, 200);
    let vpn = UserChange {
        vpn: Some(true),
        ..UserChange::default()
    };
    change(&horde, &owner, vpn).await;
    assert_eq!(owner.from("1.1.1.1").pop("w").await.status, 200);
}

#[tokio::test]
async fn during_a_raid_who_hides_gets_nothing() {
    let horde = horde_that_checks().await;
    let moderator = moderator(&horde).await;
    let asker = stranger(&horde, "asker").await.from("1.1.1.1");
    let calm = asker.ask("a cat").await;
    assert_eq!(
        (calm.status, calm.body.get("warnings").is_some()),
        (202, true)
    );
    moderator
        .put("/status/modes", json!({ "raid_mode": true }))
        .await;
    for (wrong, status, rc) in [
        (json!({}), 403, "UntrustedUnsafeIP"),
        (json!({ "source_mask": "AAAA" }), 403, "UntrustedUnsafeIP"),
        (
            json!({ "models": ["RealESRGAN_x4plus"] }),
            400,
            "UnexpectedModelName",
        ),
    ] {
        let refused = asker.ask_with(wrong.clone()).await;
        assert_eq!((refused.status, refused.rc()), (status, rc), "{wrong}");
    }
    for address in ["8.8.8.8", "5.5.5.5"] {
        let asker = stranger(&horde, address).await.from(address);
        let accepted = asker.ask("a cat").await;
        assert_eq!(accepted.status, 202, "{address}");
        assert_eq!(
            accepted.body.get("warnings"),
            None,
            "attackers get no hints"
        );
    }
    let trusted = friend(&horde, "trusted").await.from("1.1.1.1");
    assert_eq!(trusted.ask("a cat").await.status, 202);

    let owner = stranger(&horde, "owner").await.from("1.1.1.1");
    for _ in 0..2 {
        assert_eq!(
            owner.pop("w").await.status,
            200,
            "it looks as if nothing was noticed"
        );
    }
    assert_eq!(suspicion_of(&moderator, &owner).await, 1);
    let worker = moderator.get("/workers/name/w").await;
    assert_eq!(worker.body["suspicious"], 1);
}

#[tokio::test]
async fn workers_may_refuse_requests_of_who_hides() {
    let horde = horde_that_checks().await;
    let asker = stranger(&horde, "asker").await.from("1.1.1.1");
    assert_eq!(asker.ask("a cat").await.status, 202);
    let owner = friend(&horde, "owner").await;
    let idle = owner
        .pop_with("w", json!({ "allow_unsafe_ipaddr": false }))
        .await;
    assert_eq!(
        (&idle.body["id"], &idle.body["skipped"]["unsafe_ip"]),
        (&json!(null), &json!(1))
    );
    assert!(owner.pop("w").await.body["id"].is_string());
}
