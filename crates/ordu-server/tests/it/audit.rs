//! What those who keep order do is recorded, and nothing else.

use ordu_api::user::TestUser;
use ordu_core::Millis;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, on_each_database, pop};

struct World {
    horde: TestHorde,
    user: TestUser,
    moderator: TestUser,
    admin: TestUser,
    worker: String,
}

impl World {
    async fn start(database: &str) -> Self {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            admins: vec![ordu_api::UserId::new(3).unwrap()],
            awarders: vec![ordu_api::UserId::new(3).unwrap()],
            audit_kept_for: Some(Millis::from_minutes(60)),
            ..config
        })
        .await;
        let user = horde.mint("user", json!({ "kudos": 100 })).await;
        let moderator = horde.mint("mod", json!({ "moderator": true })).await;
        let admin = horde.mint("admin", json!({ "moderator": true })).await;
        horde
            .client(&user.api_key)
            .pop_image(&pop("w"))
            .await
            .unwrap();
        let workers = horde.get("/workers/name/w").await;
        let worker = workers.body["id"].as_str().unwrap().to_owned();
        Self {
            horde,
            user,
            moderator,
            admin,
            worker,
        }
    }

    async fn act(&self, by: &TestUser, method: Method, path: &str, body: &Value) -> Answer {
        let key = Some(by.api_key.reveal());
        let body = (!body.is_null()).then_some(body);
        self.horde.call(method, path, key, body).await
    }

    async fn audit(&self, query: &str) -> Vec<Value> {
        let path = format!("/operations/audit{query}");
        let answer = self
            .act(&self.moderator, Method::GET, &path, &Value::Null)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn every_privileged_action_leaves_an_entry() {
    on_each_database(async |database| {
        let world = World::start(database).await;
        let (put, post, patch, delete) = (Method::PUT, Method::POST, Method::PATCH, Method::DELETE);
        let worker = format!("/workers/{}", world.worker);
        let block = format!("/operations/block_worker_ipaddr/{}", world.worker);
        let message = json!({ "message": "hello", "worker_id": world.worker });
        let deeds = [
            (&world.moderator, put.clone(), "/users/1", json!({ "flagged": true, "concurrency": 7 }),
                "user.update", "user", "1",
                json!({ "flagged": false, "concurrency": 30 }), json!({ "flagged": true, "concurrency": 7 })),
            (&world.admin, put.clone(), "/users/1", json!({ "kudos": 5 }),
                "user.update", "user", "1", json!({ "kudos": 100.0 }), json!({ "kudos": 105.0 })),
            (&world.moderator, put.clone(), "/users/2", json!({ "vpn": true }),
                "user.update", "user", "2", json!({ "vpn": false }), json!({ "vpn": true })),
            (&world.moderator, put.clone(), "/users/1", json!({ "flagged": false }),
                "user.update", "user", "1", json!({ "flagged": true }), json!({ "flagged": false })),
            (&world.moderator, put.clone(), &worker, json!({ "paused": true, "info": "hm" }),
                "worker.update", "worker", &world.worker,
                json!({ "paused": false, "info": null }), json!({ "paused": true, "info": "hm" })),
            (&world.moderator, put.clone(), "/filters", json!({ "regex": "bad", "filter_type": 10 }),
                "filter.create", "filter", "bad", json!({}),
                json!({ "regex": "bad", "filter_type": 10, "description": null, "replacement": "" })),
            (&world.moderator, patch.clone(), "/filters/1", json!({ "description": "why" }),
                "filter.update", "filter", "1",
                json!({ "regex": "bad", "filter_type": 10, "description": null, "replacement": "" }),
                json!({ "regex": "bad", "filter_type": 10, "description": "why", "replacement": "" })),
            (&world.moderator, delete.clone(), "/filters/1", Value::Null,
                "filter.delete", "filter", "1",
                json!({ "regex": "bad", "filter_type": 10, "description": "why", "replacement": "" }),
                json!({})),
            (&world.moderator, post.clone(), "/operations/ipaddr", json!({ "ipaddr": "192.0.2.0/24", "hours": 2 }),
                "address.shut_out", "address", "192.0.2.0/24", json!({}), json!({ "hours": 2 })),
            (&world.moderator, delete.clone(), "/operations/ipaddr", json!({ "ipaddr": "192.0.2.0/24" }),
                "address.let_in", "address", "192.0.2.0/24", json!({}), json!({})),
            (&world.moderator, put.clone(), &block, json!({ "days": 1 }),
                "address.shut_out", "worker", &world.worker, json!({}), json!({ "days": 1 })),
            (&world.moderator, delete.clone(), &block, Value::Null,
                "address.let_in", "worker", &world.worker, json!({}), json!({})),
            (&world.moderator, put.clone(), "/status/modes", json!({ "raid_mode": true }),
                "modes.update", "horde", "modes", json!({ "raid_mode": false }), json!({ "raid_mode": true })),
            (&world.admin, post.clone(), "/kudos/award", json!({ "username": "user#1", "amount": 9 }),
                "kudos.award", "user", "1", json!({}), json!({ "awarded": 9.0 })),
            (&world.moderator, delete.clone(), &worker, Value::Null,
                "worker.delete", "worker", &world.worker, json!({ "name": "w", "owner": 1 }), json!({})),
            (&world.moderator, delete.clone(), "/users/1", Value::Null,
                "user.delete", "user", "1", json!({}), json!({})),
        ];
        for (by, method, path, body, operation, kind, target, before, after) in deeds {
            let known = world.audit("").await.len();
            let done = world.act(by, method, path, &body).await;
            assert!(done.status < 300, "{operation} {body}: {}", done.body);
            let entries = world.audit("").await;
            assert_eq!(entries.len(), known + 1, "{operation} {body}");
            let entry = entries
                .iter()
                .find(|entry| entry["operation"] == operation
                        && entry["target"] == target
                        && entry["after"] == after)
                .unwrap_or_else(|| panic!("{operation}: {entries:?}"));
            assert_eq!(entry["target_type"], kind);
            assert_eq!((&entry["target"], &entry["before"]), (&json!(target), &before));
            assert_eq!(entry["actor"], format!("{}#{}", by.username, by.user_id));
            assert_eq!(entry["actor_id"].to_string(), by.user_id);
        }
        let sent = world.act(&world.moderator, post, "/workers/messages", &message).await;
        assert_eq!(sent.status, 404, "the worker is gone: nothing to record");
        assert!(world.audit("?operation=message.send").await.is_empty());
        world.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn messages_of_moderators_are_recorded_and_those_of_owners_are_not() {
    let world = World::start("sqlite::memory:").await;
    let post = Method::POST;
    let own = json!({ "message": "note to self", "worker_id": world.worker });
    let all = json!({ "message": "to all" });
    let sent = world
        .act(&world.user, post.clone(), "/workers/messages", &own)
        .await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    let id = sent.body["id"].as_str().unwrap().to_owned();
    assert!(world.audit("").await.is_empty());
    let sent = world
        .act(&world.moderator, post, "/workers/messages", &all)
        .await;
    assert_eq!(world.audit("").await[0]["target"], sent.body["id"]);
    let path = format!("/workers/messages/{id}");
    world
        .act(&world.moderator, Method::DELETE, &path, &Value::Null)
        .await;
    let entries = world.audit("?operation=message.delete").await;
    assert_eq!(
        entries[0]["before"],
        json!({ "message": "note to self", "author": 1 })
    );
}

#[tokio::test]
async fn what_somebody_does_to_oneself_or_fails_to_do_is_not_recorded() {
    let world = World::start("sqlite::memory:").await;
    let worker = format!("/workers/{}", world.worker);
    let put = Method::PUT;
    for (by, path, body, status) in [
        (
            &world.user,
            "/users/1",
            json!({ "username": "renamed" }),
            200,
        ),
        (
            &world.moderator,
            "/users/2",
            json!({ "contact": "me@example.org" }),
            200,
        ),
        (
            &world.user,
            worker.as_str(),
            json!({ "maintenance": true }),
            200,
        ),
        (&world.user, "/users/2", json!({ "flagged": true }), 403),
        (
            &world.moderator,
            "/users/99",
            json!({ "flagged": true }),
            404,
        ),
        (&world.moderator, "/users/1", json!({ "kudos": 5 }), 403),
        (
            &world.moderator,
            "/users/1",
            json!({ "username": "fuck you" }),
            400,
        ),
        (&world.moderator, "/filters/7", json!({ "regex": "x" }), 404),
        (
            &world.user,
            "/status/modes",
            json!({ "raid_mode": true }),
            403,
        ),
    ] {
        let method = if path.starts_with("/filters") {
            Method::PATCH
        } else {
            put.clone()
        };
        let answer = world.act(by, method, path, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
    }
    let none = world
        .act(&world.moderator, Method::DELETE, "/filters/7", &Value::Null)
        .await;
    assert_eq!(none.status, 404);
    assert!(world.audit("").await.is_empty());
}

#[tokio::test]
async fn the_log_is_for_moderators_paged_filtered_and_kept_for_a_while() {
    let world = World::start("sqlite::memory:").await;
    for key in [
        None,
        Some("wrong"),
        Some("0000000000"),
        Some(world.user.api_key.reveal()),
    ] {
        let answer = world
            .horde
            .call(Method::GET, "/operations/audit", key, None)
            .await;
        assert!(
            matches!(answer.status, 400 | 401 | 403),
            "{key:?}: {}",
            answer.body
        );
    }
    for number in 0..60 {
        let body = json!({ "worker_invited": number });
        let by = if number % 2 == 0 {
            &world.moderator
        } else {
            &world.admin
        };
        world.act(by, Method::PUT, "/users/1", &body).await;
        world.horde.later(1);
    }
    let first = world.audit("").await;
    assert_eq!(
        (first.len(), &first[0]["after"]["worker_invited"]),
        (50, &json!(59))
    );
    assert_eq!(world.audit("?page=2").await.len(), 10);
    assert_eq!(world.audit("?page=0").await, first);
    for (query, count) in [
        ("?actor=mod%232", 30),
        ("?actor=3&page=1", 30),
        (
            "?operation=user.update&target_type=user&target=1&page=2",
            10,
        ),
        ("?operation=user", 0),
        ("?target=2", 0),
        ("?since=1800000050", 10),
        ("?page=4294967295", 0),
        ("?page=99999999999", 0),
    ] {
        assert_eq!(world.audit(query).await.len(), count, "{query}");
    }
    for wrong in [
        "?page=x",
        "?actor=nobody",
        "?since=yesterday",
        "?target=%00",
    ] {
        let path = format!("/operations/audit{wrong}");
        let answer = world
            .act(&world.moderator, Method::GET, &path, &Value::Null)
            .await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    world.horde.later(3600 - 30);
    world.horde.server.settle_down().await.unwrap();
    assert_eq!(world.audit("").await.len(), 30);
}

#[tokio::test]
async fn no_secret_is_in_the_log_and_a_wiped_account_is_not() {
    let world = World::start("sqlite::memory:").await;
    let put = Method::PUT;
    let secret = json!({ "generate_proxy_passkey": true, "contact": "user@example.org" });
    let service = json!({ "service": true });
    for user in ["/users/2", "/users/1"] {
        world
            .act(&world.moderator, put.clone(), user, &service)
            .await;
    }
    let made = world.act(&world.moderator, put, "/users/1", &secret).await;
    let passkey = made.body["proxy_passkey"].as_str().unwrap();
    let log = json!(world.audit("").await).to_string();
    assert!(log.contains("user@example.org") && !log.contains(passkey));
    assert!(!log.contains(world.user.api_key.reveal()));
    for _ in 0..2 {
        let done = world
            .act(&world.moderator, Method::DELETE, "/users/1", &Value::Null)
            .await;
        assert_eq!(done.status, 200, "{}", done.body);
        world.horde.later(31 * 24 * 3600);
    }
    let entries = world.audit("?target_type=user&target=1").await;
    assert!(
        entries
            .iter()
            .any(|entry| entry["operation"] == "user.wipe")
    );
    assert!(!json!(entries).to_string().contains("user@example.org"));
}
