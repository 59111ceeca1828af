//! Shared keys: made, changed, spent from, deleted.

use ordu_api::user::TestUser;
use ordu_core::Kudos;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, deliver_all, pop, request};

const PATH: &str = "/sharedkeys";

async fn make(horde: &TestHorde, owner: &TestUser, body: Value) -> String {
    let key = Some(owner.api_key.reveal());
    let answer = horde.call(Method::PUT, PATH, key, Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["id"].as_str().unwrap().to_owned()
}

async fn patch(horde: &TestHorde, owner: &TestUser, id: &str, body: Value) -> Answer {
    let path = format!("{PATH}/{id}");
    let key = Some(owner.api_key.reveal());
    horde.call(Method::PATCH, &path, key, Some(&body)).await
}

async fn show(horde: &TestHorde, id: &str) -> Value {
    horde.get(&format!("{PATH}/{id}")).await.body
}

/// Asks with any key for the smallest picture, with `more` members.
async fn ask(horde: &TestHorde, key: &str, more: Value) -> Answer {
    let mut body = serde_json::to_value(request()).unwrap();
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    horde
        .call(Method::POST, "/generate/async", Some(key), Some(&body))
        .await
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

#[tokio::test]
async fn a_key_is_made_read_changed_and_deleted() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 100.0).await;
    let id = make(
        &horde,
        &owner,
        json!({ "name": "a <i>key</i>\u{0}<x>", "expiry": 0 }),
    )
    .await;
    let made = show(&horde, &id).await;
    let wanted = json!({
        "id": id, "username": owner.alias, "name": "a <i>key</i>&lt;x&gt;", "kudos": 5000,
        "utilized": 0, "max_image_pixels": -1, "max_image_steps": -1, "max_text_tokens": -1,
    });
    assert_eq!(made, wanted);

    let change = json!({
        "name": 5, "kudos": 7, "expiry": 1, "max_image_pixels": 4_194_304, "max_image_steps": 500,
        "max_text_tokens": 512,
    });
    let changed = patch(&horde, &owner, &id, change).await.body;
    let wanted = json!({
        "id": id, "username": owner.alias, "name": "5", "kudos": 7,
        "expiry": "Sat, 16 Jan 2027 08:00:00 -0000", "utilized": 0,
        "max_image_pixels": 4_194_304, "max_image_steps": 500, "max_text_tokens": 512,
    });
    assert_eq!(changed, wanted);
    let unlimited = json!({ "kudos": -1, "expiry": -1, "max_image_steps": -1 });
    let changed = patch(&horde, &owner, &id, unlimited).await.body;
    assert_eq!(
        (
            &changed["kudos"],
            &changed["expiry"],
            &changed["max_image_steps"]
        ),
        (&json!(-1), &Value::Null, &json!(-1))
    );
    assert_eq!(
        changed["max_image_pixels"], 4_194_304,
        "what was not named stays"
    );

    let path = format!("{PATH}/{id}");
    let answer = horde
        .call(Method::DELETE, &path, Some(owner.api_key.reveal()), None)
        .await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({ "message": "OK" }))
    );
    assert_eq!(outcome(&horde.get(&path).await), (401, "InvalidAPIKey"));
}

#[tokio::test]
async fn only_the_owner_changes_a_key() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let id = make(&horde, &owner, json!({})).await;
    let path = format!("{PATH}/{id}");
    let missing = format!("{PATH}/00000000-0000-0000-0000-000000000000");
    let garbage = format!("{PATH}/garbage");
    let (own, other) = (owner.api_key.reveal(), moderator.api_key.reveal());
    let cases = [
        (path.as_str(), Some(other), 403, "Forbidden"),
        (path.as_str(), Some("nobody's key"), 401, "InvalidAPIKey"),
        (path.as_str(), Some("0000000000"), 403, "Forbidden"),
        (path.as_str(), None, 400, ""),
        (missing.as_str(), Some(own), 401, "InvalidAPIKey"),
        (garbage.as_str(), Some(own), 401, "InvalidAPIKey"),
    ];
    for (path, key, status, rc) in cases {
        for method in [Method::PATCH, Method::DELETE] {
            let body = (method == Method::PATCH).then(|| json!({ "kudos": 1 }));
            let answer = horde.call(method, path, key, body.as_ref()).await;
            assert_eq!(outcome(&answer), (status, rc), "{path} {key:?}");
        }
    }
    let answer = patch(&horde, &owner, &id, json!({ "unknown": 1 })).await;
    assert_eq!(outcome(&answer), (400, "NoSharedKeyModSelected"));
    let shown = show(&horde, &owner_view(&owner)).await;
    assert_eq!(shown["rc"], "InvalidAPIKey");
}

/// A user's key is no shared key.
fn owner_view(owner: &TestUser) -> String {
    owner.api_key.reveal().to_owned()
}

#[tokio::test]
async fn members_have_bounds() {
    let horde = TestHorde::start().await;
    let owner = horde
        .mint("owner", json!({ "kudos": 10, "trusted": true }))
        .await;
    let key = Some(owner.api_key.reveal());
    let good = [
        json!({ "kudos": -1 }),
        json!({ "kudos": 0 }),
        json!({ "kudos": 50_000_000 }),
        json!({ "name": "abc" }),
        json!({ "name": "x".repeat(255) }),
        json!({ "max_image_pixels": 0, "max_image_steps": 0 }),
    ];
    for body in good {
        let answer = horde.call(Method::PUT, PATH, key, Some(&body)).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    }
    let bad = [
        (json!({ "kudos": -2 }), "kudos"),
        (json!({ "kudos": 50_000_001 }), "kudos"),
        (json!({ "kudos": "many" }), "kudos"),
        (json!({ "expiry": -2 }), "expiry"),
        (json!({ "expiry": i64::MAX }), "expiry"),
        (json!({ "name": "ab" }), "name"),
        (json!({ "name": "x".repeat(256) }), "name"),
        (json!({ "name": ["abc"] }), "name"),
        (json!({ "max_image_pixels": 4_194_305 }), "max_image_pixels"),
        (json!({ "max_image_steps": 501 }), "max_image_steps"),
        (json!({ "max_text_tokens": -2 }), "max_text_tokens"),
        (json!([]), ""),
        (Value::Null, ""),
    ];
    for (body, field) in bad {
        let answer = horde.call(Method::PUT, PATH, key, Some(&body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.body["errors"][field].is_string(),
            "{body}: {}",
            answer.body
        );
    }
    let url = format!("{}/api/v2{PATH}", horde.url);
    let empty = horde
        .http
        .put(&url)
        .header("apikey", owner.api_key.reveal());
    assert_eq!(
        Answer::read(empty).await.status,
        200,
        "nothing at all means all defaults"
    );
    let garbled = horde.http.put(&url).body("{");
    let garbled = garbled.header("apikey", owner.api_key.reveal());
    assert_eq!(Answer::read(garbled).await.status, 400);
}

#[tokio::test]
async fn an_account_has_so_many_keys() {
    let horde = TestHorde::start().await;
    let anyone = horde.mint("anyone", json!({})).await;
    let trusted = horde.mint("trusted", json!({ "trusted": true })).await;
    for (user, quota) in [(&anyone, 3), (&trusted, 10)] {
        for _ in 0..quota {
            make(&horde, user, json!({})).await;
        }
        let key = Some(user.api_key.reveal());
        let answer = horde.call(Method::PUT, PATH, key, Some(&json!({}))).await;
        assert_eq!(outcome(&answer), (403, "Forbidden"));
    }
    let anonymous = Some("0000000000");
    let answer = horde
        .call(Method::PUT, PATH, anonymous, Some(&json!({})))
        .await;
    assert_eq!(outcome(&answer), (403, "AnonForbidden"));
    let answer = horde.call(Method::PUT, PATH, None, Some(&json!({}))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["errors"]["apikey"].is_string());
}

#[tokio::test]
async fn requests_through_a_key_are_its_owners_and_lower_its_budget() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 1000.0).await;
    let runner = horde.user("runner", 0.0).await;
    let id = make(&horde, &owner, json!({ "kudos": 40, "name": "small" })).await;
    let answer = ask(&horde, &id, json!({})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let shown = show(&horde, &id).await;
    assert_eq!(
        (&shown["kudos"], &shown["utilized"]),
        (&json!(37), &json!(3))
    );

    let worker = horde.client(&runner.api_key);
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let rewards = deliver_all(&worker, &job).await;
    let spent = 3.0 + rewards[0] + 1.0;
    let shown = show(&horde, &id).await;
    let whole = |kudos: f64| format!("{}", kudos.round());
    assert_eq!(shown["utilized"].to_string(), whole(spent));
    assert_eq!(shown["kudos"].to_string(), whole(40.0 - spent));

    let store = horde.server.store();
    store.fold(100, horde.clock.now()).await.unwrap();
    assert_eq!(
        show(&horde, &id).await,
        shown,
        "folding moves nothing that is seen"
    );
    let balance = store.balance(owner.user_id.parse().unwrap()).await.unwrap();
    assert_eq!(balance.spendable, Kudos::round(1000.0 - spent));

    let path = format!("/users/{}", owner.user_id);
    let own = horde
        .call(Method::GET, &path, Some(owner.api_key.reveal()), None)
        .await;
    assert_eq!(own.body["sharedkey_ids"], json!([id]));
    let found = horde.call(Method::GET, "/find_user", Some(&id), None).await;
    let name = format!("{} (Shared Key: small)", owner.alias);
    assert_eq!(found.body["username"], json!(name));
    assert!(
        found.body.get("sharedkey_ids").is_none(),
        "what everybody may see, no more"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_used_says_why() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 1000.0).await;
    let id = make(&horde, &owner, json!({ "kudos": 0 })).await;
    assert_eq!(
        outcome(&ask(&horde, &id, json!({})).await),
        (403, "SharedKeyEmpty")
    );
    let downgraded = ask(&horde, &id, json!({ "allow_downgrade": true })).await;
    assert_eq!(downgraded.status, 202);
    assert_eq!(show(&horde, &id).await["utilized"], 0, "it was anonymous");

    patch(&horde, &owner, &id, json!({ "kudos": 20, "expiry": 0 })).await;
    let expired = ask(&horde, &id, json!({ "allow_downgrade": true })).await;
    assert_eq!(outcome(&expired), (403, "SharedKeyExpired"));

    patch(&horde, &owner, &id, json!({ "expiry": -1 })).await;
    let many = json!({ "params": { "n": 20 } });
    let answer = ask(&horde, &id, many.clone()).await;
    assert_eq!(outcome(&answer), (403, "SharedKeyInsufficientKudos"));
    let dry = ask(
        &horde,
        &id,
        json!({ "params": { "n": 20 }, "dry_run": true }),
    )
    .await;
    assert_eq!(outcome(&dry), (403, "SharedKeyInsufficientKudos"));
    let downgraded = ask(
        &horde,
        &id,
        json!({ "params": { "n": 20 }, "allow_downgrade": true }),
    )
    .await;
    assert_eq!(downgraded.status, 202);
    assert_eq!(
        show(&horde, &id).await["utilized"],
        3,
        "it is the owner's all the same"
    );

    patch(
        &horde,
        &owner,
        &id,
        json!({ "kudos": -1, "max_image_steps": 29 }),
    )
    .await;
    assert_eq!(
        outcome(&ask(&horde, &id, json!({})).await),
        (400, "BadRequest")
    );
    patch(
        &horde,
        &owner,
        &id,
        json!({ "max_image_steps": 30, "max_image_pixels": 262_143 }),
    )
    .await;
    assert_eq!(
        outcome(&ask(&horde, &id, json!({})).await),
        (400, "BadRequest")
    );
    patch(&horde, &owner, &id, json!({ "max_image_pixels": 262_144 })).await;
    assert_eq!(ask(&horde, &id, json!({})).await.status, 202);

    for path in ["/generate/pop", "/generate/submit"] {
        let body = serde_json::to_value(pop("w")).unwrap();
        let answer = horde.call(Method::POST, path, Some(&id), Some(&body)).await;
        assert!(
            (400..=404).contains(&answer.status),
            "{path} is not for shared keys"
        );
    }
}

/// What is promised to three requests is not there for a fourth.
#[tokio::test]
async fn requests_at_once_do_not_overspend_a_budget() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 1000.0).await;
    let price = ask(&horde, owner.api_key.reveal(), json!({ "dry_run": true })).await;
    let estimate = price.body["kudos"].as_f64().unwrap();
    let most_cost = estimate + 3.0;
    let budget = (most_cost * 3.5).ceil();
    let id = make(&horde, &owner, json!({ "kudos": budget })).await;
    let at_once = (0..12).map(|_| ask(&horde, &id, json!({})));
    let answers = futures::future::join_all(at_once).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 3, "{answers:?}");
    let refused = answers.iter().filter(|answer| answer.status != 202);
    for answer in refused {
        assert_eq!(answer.rc(), "SharedKeyInsufficientKudos");
    }
    let runner = horde.user("runner", 0.0).await;
    let worker = horde.client(&runner.api_key);
    for _ in 0..3 {
        let job = worker.pop_image(&pop("w")).await.unwrap();
        deliver_all(&worker, &job).await;
    }
    let left = show(&horde, &id).await["kudos"].as_f64().unwrap();
    assert!(left >= budget - most_cost * 3.0, "{left} of {budget}");
    let just_enough = json!({ "kudos": most_cost + 1.0 });
    patch(&horde, &owner, &id, just_enough).await;
    let answer = ask(&horde, &id, json!({})).await;
    assert_eq!(answer.status, 202, "nothing is promised any more");
}

#[tokio::test]
async fn a_deleted_key_takes_its_requests_with_it() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 1000.0).await;
    let runner = horde.user("runner", 0.0).await;
    let id = make(&horde, &owner, json!({ "kudos": -1 })).await;
    let mut requests = Vec::new();
    for _ in 0..3 {
        let answer = ask(&horde, &id, json!({})).await;
        requests.push(answer.body["id"].as_str().unwrap().to_owned());
    }
    let other = ask(&horde, owner.api_key.reveal(), json!({})).await;
    let other = other.body["id"].as_str().unwrap().to_owned();
    let worker = horde.client(&runner.api_key);
    let finished = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &finished).await;
    let running = worker.pop_image(&pop("w")).await.unwrap();

    let path = format!("{PATH}/{id}");
    horde
        .call(Method::DELETE, &path, Some(owner.api_key.reveal()), None)
        .await;
    assert_eq!(
        outcome(&ask(&horde, &id, json!({})).await),
        (401, "InvalidAPIKey")
    );
    for request in &requests {
        for what in ["check", "status"] {
            let answer = horde.get(&format!("/generate/{what}/{request}")).await;
            assert_eq!(outcome(&answer), (404, "RequestNotFound"));
        }
    }
    assert_eq!(
        horde.get(&format!("/generate/check/{other}")).await.status,
        200
    );
    let late = json!({ "id": running.ids[0], "generation": "R2", "state": "ok", "seed": 1 });
    let key = Some(runner.api_key.reveal());
    let answer = horde
        .call(Method::POST, "/generate/submit", key, Some(&late))
        .await;
    assert_eq!(outcome(&answer), (404, "InvalidJobID"));
    let next = worker.pop_image(&pop("w")).await.unwrap();
    assert_eq!(next.ids.len(), 1, "the other request waits on");
    deliver_all(&worker, &next).await;
    let gone = json!({ "message": "OK" });
    let twice = horde
        .call(Method::DELETE, &path, Some(owner.api_key.reveal()), None)
        .await;
    assert_ne!(twice.body, gone);
    let sum = horde.server.store().ledger_sum().await.unwrap();
    assert_eq!(sum, Kudos::ZERO);
}

#[tokio::test]
async fn a_restart_remembers_what_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 1000.0).await;
    let price = ask(&horde, owner.api_key.reveal(), json!({ "dry_run": true })).await;
    let estimate = price.body["kudos"].as_f64().unwrap();
    let id = make(
        &horde,
        &owner,
        json!({ "kudos": (estimate * 1.5 + 3.0).ceil() }),
    )
    .await;
    assert_eq!(ask(&horde, &id, json!({})).await.status, 202);
    horde.server.stop().await;

    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let answer = ask(&horde, &id, json!({})).await;
    assert_eq!(outcome(&answer), (403, "SharedKeyInsufficientKudos"));
}
