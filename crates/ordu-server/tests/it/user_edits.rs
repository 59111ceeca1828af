//! Accounts changed, deleted, taken back.

use ordu_api::user::TestUser;
use ordu_core::Kudos;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, pop, request};

struct World {
    horde: TestHorde,
    user: TestUser,
    other: TestUser,
    moderator: TestUser,
    admin: TestUser,
}

impl World {
    async fn start() -> Self {
        let horde = TestHorde::start_with(|config| Config {
            admins: vec![ordu_api::UserId::new(4).unwrap()],
            ..config
        })
        .await;
        let user = horde.mint("user", json!({ "kudos": 1000 })).await;
        let other = horde.mint("other", json!({ "trusted": true })).await;
        let moderator = horde.mint("mod", json!({ "moderator": true })).await;
        let admin = horde.mint("admin", json!({ "moderator": true })).await;
        Self {
            horde,
            user,
            other,
            moderator,
            admin,
        }
    }

    async fn put(&self, by: &TestUser, body: Value) -> Answer {
        self.put_with(Some(by.api_key.reveal()), &self.user.user_id, body)
            .await
    }

    async fn put_with(&self, key: Option<&str>, user: &str, body: Value) -> Answer {
        let path = format!("/users/{user}");
        self.horde.call(Method::PUT, &path, key, Some(&body)).await
    }

    async fn view(&self, by: &TestUser) -> Value {
        let path = format!("/users/{}", self.user.user_id);
        let key = Some(by.api_key.reveal());
        self.horde.call(Method::GET, &path, key, None).await.body
    }
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn who_may_change_what() {
    let world = World::start().await;
    let tiers = [
        (
            "admin",
            vec![
                json!({ "kudos": 1 }),
                json!({ "monthly_kudos": 1 }),
                json!({ "usage_multiplier": 2 }),
                json!({ "moderator": false }),
            ],
        ),
        (
            "moderator",
            vec![
                json!({ "concurrency": 40 }),
                json!({ "worker_invited": 3 }),
                json!({ "trusted": false }),
                json!({ "flagged": false }),
                json!({ "customizer": true }),
                json!({ "vpn": true }),
                json!({ "service": false }),
                json!({ "education": false }),
                json!({ "special": true }),
                json!({ "reset_suspicion": true }),
                json!({ "admin_comment": "a comment" }),
            ],
        ),
        (
            "own",
            vec![
                json!({ "public_workers": true }),
                json!({ "username": "renamed" }),
                json!({ "contact": "me@example.org" }),
            ],
        ),
    ];
    let keys = [
        ("0000000000", "anonymous"),
        (world.other.api_key.reveal(), "other"),
        (world.user.api_key.reveal(), "own"),
        (world.moderator.api_key.reveal(), "moderator"),
        (world.admin.api_key.reveal(), "admin"),
    ];
    for (tier, bodies) in tiers {
        for body in bodies {
            for (key, who) in keys {
                let wanted = match (tier, who) {
                    (_, "admin") | ("moderator" | "own", "moderator") | ("own", "own") => (200, ""),
                    ("admin", _) => (403, "NotAdmin"),
                    _ => (403, "NotModerator"),
                };
                let answer = world
                    .put_with(Some(key), &world.user.user_id, body.clone())
                    .await;
                assert_eq!(outcome(&answer), wanted, "{who} {body}: {}", answer.body);
            }
            let unknown = world
                .put_with(Some("nobody"), &world.user.user_id, body.clone())
                .await;
            assert_eq!(outcome(&unknown), (401, "InvalidAPIKey"));
            let none = world
                .put_with(None, &world.user.user_id, body.clone())
                .await;
            assert_eq!((none.status, none.rc()), (400, ""));
        }
    }
    let itself = json!({ "contact": "me@example.org" });
    let answer = world.put_with(Some("0000000000"), "0", itself).await;
    assert_eq!(outcome(&answer), (403, "AnonForbiddenUserMod"));
    for missing in ["99", "abc", "99999999999999999999"] {
        let answer = world
            .put_with(None, missing, json!({ "trusted": true }))
            .await;
        assert_eq!(outcome(&answer), (404, "UserNotFound"));
    }
}

#[tokio::test]
async fn members_are_checked() {
    let world = World::start().await;
    let cases = [
        (json!({}), 400, "NoUserModSelected"),
        (json!({ "filtered": true }), 400, "NoUserModSelected"),
        (json!({ "undelete": false }), 400, "NoUserModSelected"),
        (
            json!({ "generate_proxy_passkey": false }),
            400,
            "NoUserModSelected",
        ),
        (json!({ "undelete": true }), 400, "UserNotDeleted"),
        (
            json!({ "generate_proxy_passkey": true }),
            403,
            "NonServiceForbidden",
        ),
        (json!({ "concurrency": 500 }), 200, ""),
        (json!({ "concurrency": 501 }), 400, ""),
        (json!({ "concurrency": -1 }), 400, ""),
        (json!({ "usage_multiplier": 0.09 }), 400, ""),
        (json!({ "usage_multiplier": 10.1 }), 400, ""),
        (json!({ "usage_multiplier": 0.1 }), 200, ""),
        (json!({ "kudos": 1e300 }), 400, ""),
        (json!({ "trusted": "x" }), 400, ""),
        (json!({ "username": "ab" }), 400, ""),
        (json!({ "username": "x".repeat(30) }), 200, ""),
        (
            json!({ "username": "x".repeat(31) }),
            400,
            "TooLongUserName",
        ),
        (json!({ "username": "x".repeat(101) }), 400, ""),
        (json!({ "username": "\u{0}\u{0}\u{0}" }), 400, ""),
        (json!({ "contact": "x".repeat(500) }), 200, ""),
        (json!({ "contact": "x".repeat(501) }), 400, ""),
        (json!({ "contact": 5 }), 400, ""),
    ];
    for (body, status, rc) in cases {
        let answer = world.put(&world.admin, body.clone()).await;
        assert_eq!(outcome(&answer), (status, rc), "{body}: {}", answer.body);
    }
    // All or nothing.
    world.put(&world.admin, json!({ "concurrency": 30 })).await;
    let half = json!({ "concurrency": 77, "username": "x".repeat(31) });
    world.put(&world.admin, half).await;
    assert_eq!(world.view(&world.admin).await["concurrency"], 30);
}

#[tokio::test]
async fn balances_move_and_show_at_once() {
    let world = World::start().await;
    let put = async |body: Value| world.put(&world.admin, body).await.body;
    assert_eq!(
        put(json!({ "kudos": 500.5 })).await,
        json!({ "new_kudos": 1500.5 })
    );
    assert_eq!(
        put(json!({ "kudos": -2000 })).await,
        json!({ "new_kudos": 25.0 }),
        "the floor"
    );
    assert_eq!(
        put(json!({ "monthly_kudos": 500 })).await,
        json!({ "monthly_kudos": 500 })
    );
    let first = world.view(&world.moderator).await["monthly_kudos"].clone();
    assert_eq!(first["amount"], 500.0);
    world.horde.later(100);
    assert_eq!(
        put(json!({ "monthly_kudos": 100 })).await,
        json!({ "monthly_kudos": 600 })
    );
    let second = world.view(&world.moderator).await["monthly_kudos"].clone();
    assert_eq!(
        second["last_received"], first["last_received"],
        "only the first is dated"
    );
    assert_eq!(
        put(json!({ "monthly_kudos": -1000 })).await,
        json!({ "monthly_kudos": 0 })
    );
    world.horde.server.settle_down().await.unwrap();
    world.horde.server.settle_down().await.unwrap();
    let id = world.user.user_id.parse().unwrap();
    let user = world
        .horde
        .server
        .store()
        .find_user(id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(user.spendable, Kudos::new(625), "a reduction never debits");
    let sum = world.horde.server.store().ledger_sum().await.unwrap();
    assert_eq!(sum, Kudos::ZERO);
}

#[tokio::test]
async fn roles_bring_what_belongs_to_them() {
    let world = World::start().await;
    let put = async |body: Value| world.put(&world.admin, body).await.body;
    let school = put(json!({ "education": true })).await;
    assert_eq!(school, json!({ "education": true, "concurrency": 200 }));
    let school = put(json!({ "education": false })).await;
    assert_eq!(school, json!({ "education": false, "concurrency": 30 }));
    let both = put(json!({ "education": true, "concurrency": 77 })).await;
    assert_eq!(both, json!({ "education": true, "concurrency": 77 }));
    assert_eq!(
        put(json!({ "education": false })).await,
        json!({ "education": false })
    );

    assert_eq!(
        put(json!({ "moderator": true })).await,
        json!({ "moderator": true })
    );
    assert_eq!(world.view(&world.other).await["trusted"], true);
    put(json!({ "moderator": false })).await;
    assert_eq!(
        world.view(&world.other).await["trusted"],
        true,
        "trust stays"
    );
    let anonymous = world
        .put_with(
            Some(world.moderator.api_key.reveal()),
            "0",
            json!({ "trusted": true }),
        )
        .await;
    assert_eq!(
        (anonymous.status, anonymous.body),
        (200, json!({ "trusted": false }))
    );

    put(json!({ "service": true })).await;
    let made = world
        .put(&world.user, json!({ "generate_proxy_passkey": true }))
        .await;
    assert_eq!(made.body["proxy_passkey"].as_str().unwrap().len(), 22);
}

#[tokio::test]
async fn trust_frees_escrow_and_paused_workers() {
    let world = World::start().await;
    let horde = &world.horde;
    horde.anonymous().async_image(&request()).await.unwrap();
    let worker = horde.client(&world.user.api_key);
    let job = worker.pop_image(&pop("a worker")).await.unwrap();
    let reward = crate::support::deliver_all(&worker, &job).await[0];
    let id = horde.get("/workers/name/a worker").await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let moderator = Some(world.moderator.api_key.reveal());
    let path = format!("/workers/{id}");
    horde
        .call(
            Method::PUT,
            &path,
            moderator,
            Some(&json!({ "paused": true })),
        )
        .await;
    world
        .put(&world.moderator, json!({ "trusted": true }))
        .await;
    horde.server.settle_down().await.unwrap();
    let shown = horde.call(Method::GET, &path, moderator, None).await.body;
    assert_eq!(shown["paused"], false);
    let user = world.view(&world.moderator).await;
    horde.later(11);
    let user_later = world.view(&world.moderator).await;
    assert_eq!(user_later["evaluating_kudos"], 0.0, "{user}");
    assert_eq!(user_later["kudos"], json!(1000.0 + reward));
}

#[tokio::test]
async fn a_deleted_account_can_be_taken_back_until_it_is_wiped() {
    let world = World::start().await;
    let path = format!("/users/{}", world.user.user_id);
    let delete = async |key: Option<&str>, path: &str| {
        world.horde.call(Method::DELETE, path, key, None).await
    };
    let moderators = format!("/users/{}", world.moderator.user_id);
    let (own, other) = (world.user.api_key.reveal(), world.other.api_key.reveal());
    let moderator = world.moderator.api_key.reveal();
    let cases = [
        (Some("0000000000"), path.as_str(), 403, "AnonForbiddenUser"),
        (Some("nobody"), path.as_str(), 401, "InvalidAPIKey"),
        (None, path.as_str(), 401, "InvalidAPIKey"),
        (Some(other), path.as_str(), 403, "NotUserOrMod"),
        (Some(moderator), moderators.as_str(), 403, "CannotDeleteMod"),
        (Some(own), "/users/abc", 404, "UserNotFound"),
        (Some(moderator), "/users/0", 403, "NotUserOrMod"),
        (Some(own), path.as_str(), 200, ""),
        (Some(own), path.as_str(), 403, "CannotWipeActiveUser"),
    ];
    for (key, path, status, rc) in cases {
        assert_eq!(
            outcome(&delete(key, path).await),
            (status, rc),
            "{key:?} {path}"
        );
    }
    assert_eq!(world.view(&world.other).await["deleted"], true);
    let client = world.horde.client(&world.user.api_key);
    assert!(client.async_image(&request()).await.is_err());
    let back = world.put(&world.user, json!({ "undelete": true })).await;
    assert_eq!(back.body, json!({ "undeleted": true }));
    client.async_image(&request()).await.unwrap();

    delete(Some(own), &path).await;
    world.horde.server.settle_down().await.unwrap();
    world.horde.later(30 * 24 * 3600);
    assert_eq!(delete(Some(own), &path).await.status, 200);
    assert_eq!(
        outcome(&delete(Some(moderator), &path).await),
        (404, "UserNotFound")
    );
    let key = world
        .horde
        .call(Method::GET, "/find_user", Some(own), None)
        .await;
    assert_eq!(outcome(&key), (404, "UserNotFound"));
}
