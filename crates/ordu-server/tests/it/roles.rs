//! What each role brings, line by line.
//!
//! Elsewhere: `vpn` and the raid in `guard::addresses`, prompts of the flagged and of schools in
//! `guard::filters`, passkeys in `address`, addresses of services and schools in `limits`, trust
//! that frees escrow and workers in `user_edits`, limits of the trusted in `guard::onboarding`.
//!
//! # Source
//! `community.md` § 2.3.

use ordu_api::user::TestUser;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TEXT_MODEL, TestHorde, on_each_database};

struct World {
    horde: TestHorde,
    user: TestUser,
    other: TestUser,
    admin: TestUser,
}

impl World {
    async fn start(database: &str) -> Self {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            admins: vec![ordu_api::UserId::new(3).unwrap()],
            ..config
        })
        .await;
        let user = horde.mint("user", json!({ "kudos": 1000 })).await;
        let other = horde.mint("other", json!({ "kudos": 1000 })).await;
        let admin = horde.mint("admin", json!({ "moderator": true })).await;
        Self {
            horde,
            user,
            other,
            admin,
        }
    }

    async fn call(&self, by: &TestUser, method: Method, path: &str, body: Value) -> Answer {
        let key = Some(by.api_key.reveal());
        let body = (!body.is_null()).then_some(&body);
        self.horde.call(method, path, key, body).await
    }

    async fn post(&self, by: &TestUser, path: &str, body: Value) -> Answer {
        self.call(by, Method::POST, path, body).await
    }

    /// Grants or takes roles of the user.
    async fn grant(&self, roles: Value) -> Value {
        let answer = self.call(&self.admin, Method::PUT, "/users/1", roles).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    async fn view(&self, by: &TestUser, id: u32) -> Value {
        let path = format!("/users/{id}");
        self.call(by, Method::GET, &path, Value::Null).await.body
    }
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

fn image_request() -> Value {
    json!({ "prompt": "a red circle", "models": ["ordu-tiny"], "nsfw": true })
}

fn image_pop(models: &[&str]) -> Value {
    json!({
        "name": "w", "models": models, "max_pixels": 4_194_304,
        "bridge_agent": "AI Horde Worker reGen:14.0.0:https://example.org",
    })
}

#[tokio::test]
async fn the_anonymous_account_never_gains_a_role() {
    let world = World::start("sqlite::memory:").await;
    for role in [
        "moderator",
        "trusted",
        "flagged",
        "customizer",
        "vpn",
        "service",
        "education",
        "special",
    ] {
        let body = json!({ role: true });
        let answer = world
            .call(&world.admin, Method::PUT, "/users/0", body)
            .await;
        assert_eq!(answer.status, 200, "{role}");
        assert_eq!(world.view(&world.admin, 0).await[role], false, "{role}");
    }
}

#[tokio::test]
async fn a_moderator_is_trusted_for_good_paid_and_kept() {
    on_each_database(async |database| {
        let world = World::start(database).await;
        world.grant(json!({ "moderator": true })).await;
        let seen = world.view(&world.admin, 1).await;
        assert_eq!(
            (&seen["moderator"], &seen["trusted"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(seen["monthly_kudos"]["amount"], 300_000.0);
        let gone = world
            .call(&world.admin, Method::DELETE, "/users/1", Value::Null)
            .await;
        assert_eq!(outcome(&gone), (403, "CannotDeleteMod"));
        let read = world
            .call(&world.user, Method::GET, "/operations/ipaddr", Value::Null)
            .await;
        assert_eq!(read.status, 200);
        world.grant(json!({ "moderator": false })).await;
        let seen = world.view(&world.admin, 1).await;
        assert_eq!(
            (&seen["moderator"], &seen["trusted"]),
            (&json!(false), &json!(true))
        );
        let read = world
            .call(&world.user, Method::GET, "/operations/ipaddr", Value::Null)
            .await;
        assert_eq!(outcome(&read), (403, "NotModerator"));
        world.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_flagged_neither_give_nor_take_nor_work() {
    let world = World::start("sqlite::memory:").await;
    world.grant(json!({ "flagged": true })).await;
    let gift = |to: &str| json!({ "username": to, "amount": 5 });
    let sent = world.post(&world.user, "/kudos/transfer", gift("2")).await;
    assert_eq!(outcome(&sent), (400, "SourceAccountFlagged"));
    let sent = world.post(&world.other, "/kudos/transfer", gift("1")).await;
    assert_eq!(outcome(&sent), (400, "TargetAccountFlagged"));
    let pop = image_pop(&["ordu-tiny"]);
    let popped = world.post(&world.user, "/generate/pop", pop.clone()).await;
    assert_eq!(outcome(&popped), (403, "WorkerFlaggedMaintenance"));
    world.grant(json!({ "flagged": false })).await;
    let popped = world.post(&world.user, "/generate/pop", pop).await;
    assert_eq!(popped.status, 200, "{}", popped.body);
}

#[tokio::test]
async fn a_customizer_serves_models_that_nobody_lists() {
    let world = World::start("sqlite::memory:").await;
    let pop = image_pop(&["a model of my own"]);
    let popped = world.post(&world.user, "/generate/pop", pop.clone()).await;
    assert_eq!(popped.status, 400, "{}", popped.body);
    world.grant(json!({ "customizer": true })).await;
    let popped = world.post(&world.user, "/generate/pop", pop).await;
    assert_eq!(popped.status, 200, "{}", popped.body);
}

#[tokio::test]
async fn a_service_speaks_for_accounts_and_addresses_of_its_own() {
    let world = World::start("sqlite::memory:").await;
    let mut proxied = image_request();
    proxied["proxied_account"] = json!("somebody");
    let passkey = json!({ "generate_proxy_passkey": true });
    let refused = world
        .post(&world.user, "/generate/async", proxied.clone())
        .await;
    assert_eq!(outcome(&refused), (400, "OnlyServiceAccountProxy"));
    let refused = world
        .call(&world.user, Method::PUT, "/users/1", passkey.clone())
        .await;
    assert_eq!(outcome(&refused), (403, "NonServiceForbidden"));
    world.grant(json!({ "service": true })).await;
    let accepted = world.post(&world.user, "/generate/async", proxied).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let made = world
        .call(&world.user, Method::PUT, "/users/1", passkey)
        .await;
    assert_eq!(made.body["proxy_passkey"].as_str().unwrap().len(), 22);
}

#[tokio::test]
async fn a_school_takes_donations_gives_nothing_and_sees_nothing_unfit() {
    on_each_database(async |database| {
        let world = World::start(database).await;
        let granted = world.grant(json!({ "education": true })).await;
        assert_eq!(granted["concurrency"], 200);
        let gift = |to: &str| json!({ "username": to, "amount": 5 });
        let sent = world.post(&world.user, "/kudos/transfer", gift("2")).await;
        assert_eq!(outcome(&sent), (400, "EducationCannotSendKudos"));
        let sent = world.post(&world.other, "/kudos/transfer", gift("1")).await;
        assert_eq!(sent.status, 200, "{}", sent.body);
        world.horde.server.settle_down().await.unwrap();
        let details = world.view(&world.admin, 2).await["kudos_details"].clone();
        assert_eq!(
            (&details["donated"], &details["gifted"]),
            (&json!(-5.0), &json!(0.0))
        );
        let asked = world
            .post(&world.user, "/generate/async", image_request())
            .await;
        assert_eq!(asked.status, 202, "{}", asked.body);
        let text = json!({ "prompt": "once", "models": [TEXT_MODEL] });
        assert_eq!(
            world
                .post(&world.user, "/generate/text/async", text)
                .await
                .status,
            202
        );
        let popped = world
            .post(&world.other, "/generate/pop", image_pop(&["ordu-tiny"]))
            .await;
        assert_eq!(popped.status, 200, "{}", popped.body);
        assert_eq!(
            popped.body["id"],
            Value::Null,
            "only the trusted work for a school"
        );
        assert_eq!(popped.body["skipped"]["untrusted"], 1, "{}", popped.body);
        let trusted = json!({ "trusted": true });
        world
            .call(&world.admin, Method::PUT, "/users/2", trusted)
            .await;
        let popped = world
            .post(&world.other, "/generate/pop", image_pop(&["ordu-tiny"]))
            .await;
        assert_eq!(
            popped.body["payload"]["use_nsfw_censor"], true,
            "{}",
            popped.body
        );
        world.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_school_that_is_trusted_has_as_many_shared_keys_as_any_school() {
    let world = World::start("sqlite::memory:").await;
    world
        .grant(json!({ "education": true, "trusted": true }))
        .await;
    for _ in 0..11 {
        let made = world
            .call(&world.user, Method::PUT, "/sharedkeys", json!({}))
            .await;
        assert_eq!(made.status, 200, "{}", made.body);
    }
}

#[tokio::test]
async fn the_special_ask_for_models_under_their_own_name() {
    let world = World::start("sqlite::memory:").await;
    let mut asked = image_request();
    asked["models"] = json!(["horde_special::user#1"]);
    asked["params"] = json!({ "special": { "a": 1 } });
    let refused = world
        .post(&world.user, "/generate/async", asked.clone())
        .await;
    assert_eq!(outcome(&refused), (403, "SpecialModelNeedsSpecialUser"));
    world.grant(json!({ "special": true })).await;
    let accepted = world.post(&world.user, "/generate/async", asked).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let public = world.view(&world.other, 1).await;
    assert!(public.get("special").is_none() && public.get("vpn").is_none());
    assert_eq!(world.view(&world.user, 1).await["special"], true);
}
