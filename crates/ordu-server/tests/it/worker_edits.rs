//! Workers changed and deleted, and messages to them.

use ordu_api::ApiKey;
use ordu_api::user::TestUser;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, pop, request};

struct World {
    horde: TestHorde,
    owner: TestUser,
    other: TestUser,
    moderator: TestUser,
    worker: String,
}

impl World {
    async fn start() -> Self {
        let horde = TestHorde::start().await;
        let owner = horde.user("owner", 100.0).await;
        let other = horde.user("other", 100.0).await;
        let moderator = horde.mint("mod", json!({ "moderator": true })).await;
        let worker = come(&horde, &owner, "worker one").await;
        Self {
            horde,
            owner,
            other,
            moderator,
            worker,
        }
    }

    async fn put(&self, by: &TestUser, body: Value) -> Answer {
        self.put_with(Some(by.api_key.reveal()), &self.worker, body)
            .await
    }

    async fn put_with(&self, key: Option<&str>, worker: &str, body: Value) -> Answer {
        let path = format!("/workers/{worker}");
        self.horde.call(Method::PUT, &path, key, Some(&body)).await
    }

    async fn delete(&self, by: &TestUser) -> Answer {
        let path = format!("/workers/{}", self.worker);
        let key = Some(by.api_key.reveal());
        self.horde.call(Method::DELETE, &path, key, None).await
    }

    async fn show(&self, key: &ApiKey) -> Value {
        let path = format!("/workers/{}", self.worker);
        let key = Some(key.reveal());
        self.horde.call(Method::GET, &path, key, None).await.body
    }

    /// Whether the worker gets a job of the given requester.
    async fn serves(&self, requester: &TestUser) -> Result<bool, (u16, String)> {
        let asked = self.horde.client(&requester.api_key);
        let id = asked.async_image(&request()).await.unwrap().id;
        let answer = self.pop().await;
        asked.cancel(id).await.unwrap();
        if answer.status == 200 {
            return Ok(!answer.body["id"].is_null());
        }
        Err((
            answer.status,
            answer.body["message"].as_str().unwrap().to_owned(),
        ))
    }

    async fn pop(&self) -> Answer {
        let body = serde_json::to_value(pop("worker one")).unwrap();
        let key = Some(&self.owner.api_key);
        self.horde.post("/generate/pop", key, &body).await
    }
}

async fn come(horde: &TestHorde, owner: &TestUser, name: &str) -> String {
    horde
        .client(&owner.api_key)
        .pop_image(&pop(name))
        .await
        .unwrap();
    let answer = horde.get(&format!("/workers/name/{name}")).await;
    answer.body["id"].as_str().unwrap().to_owned()
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

#[tokio::test]
async fn who_may_change_what() {
    let world = World::start().await;
    let anonymous = "0000000000";
    let (owner, other) = (world.owner.api_key.reveal(), world.other.api_key.reveal());
    let moderator = world.moderator.api_key.reveal();
    let members = [
        json!({ "maintenance": true }),
        json!({ "info": "hello" }),
        json!({ "paused": true }),
        json!({ "name": "worker one" }),
        json!({ "team": "" }),
    ];
    let (not_owner, not_moderator) = ((403, "NotOwner"), (403, "NotModerator"));
    let good = (200, "");
    let table = [
        (
            Some(other),
            [
                not_owner,
                not_owner,
                not_moderator,
                not_moderator,
                not_moderator,
            ],
        ),
        (
            Some(anonymous),
            [
                not_owner,
                not_owner,
                not_moderator,
                not_moderator,
                not_moderator,
            ],
        ),
        (Some("nobody"), [(401, "InvalidAPIKey"); 5]),
        (None, [(400, ""); 5]),
        (Some(owner), [good, good, not_moderator, good, good]),
        (Some(moderator), [good; 5]),
    ];
    for (key, wanted) in table {
        for (body, wanted) in members.iter().zip(wanted) {
            let answer = world.put_with(key, &world.worker, body.clone()).await;
            assert_eq!(outcome(&answer), wanted, "{key:?} {body}");
        }
    }
    for unknown in ["garbage", "00000000-0000-0000-0000-000000000000"] {
        let answer = world.put_with(None, unknown, json!({})).await;
        assert_eq!(outcome(&answer), (404, "WorkerNotFound"));
    }
}

#[tokio::test]
async fn members_are_checked_and_all_or_nothing_is_changed() {
    let world = World::start().await;
    come(&world.horde, &world.other, "worker two").await;
    let cases = [
        (json!({}), 400, "NoWorkerModSelected"),
        (
            json!({ "maintenance_msg": "alone" }),
            400,
            "NoWorkerModSelected",
        ),
        (json!({ "maintenance": "x" }), 400, ""),
        (json!({ "info": "x".repeat(1001) }), 400, ""),
        (
            json!({ "maintenance": true, "maintenance_msg": "x".repeat(301) }),
            400,
            "",
        ),
        (json!({ "name": "four" }), 400, ""),
        (json!({ "name": "x".repeat(101) }), 400, ""),
        (json!({ "name": "\u{0}\u{0}\u{0}\u{0}\u{0}" }), 400, ""),
        (
            json!({ "info": "new", "name": "worker two" }),
            400,
            "WorkerNameAlreadyExists",
        ),
        (
            json!({ "info": "new", "team": "None" }),
            404,
            "TeamNotFound",
        ),
        (
            json!({ "info": "new", "paused": true }),
            403,
            "NotModerator",
        ),
    ];
    for (body, status, rc) in cases {
        let answer = world.put(&world.owner, body.clone()).await;
        assert_eq!(outcome(&answer), (status, rc), "{body}");
    }
    assert!(world.show(&world.owner.api_key).await.get("info").is_none());

    let answer = world
        .put(
            &world.owner,
            json!({ "info": " a\u{0} <x> ", "name": "renamed" }),
        )
        .await;
    assert_eq!(
        answer.body,
        json!({ "info": "a &lt;x&gt;", "name": "renamed" })
    );
    let shown = world.show(&world.owner.api_key).await;
    assert_eq!(
        (&shown["info"], &shown["name"]),
        (&json!("a &lt;x&gt;"), &json!("renamed"))
    );
    assert_eq!(
        world.horde.get("/workers/name/worker one").await.status,
        404
    );
    let answer = world
        .put(&world.owner, json!({ "info": "", "team": "" }))
        .await;
    assert_eq!(answer.body, json!({ "info": "", "team": "None" }));
    assert!(world.show(&world.owner.api_key).await.get("info").is_none());
}

#[tokio::test]
async fn maintenance_serves_the_owner_only_and_says_why() {
    let world = World::start().await;
    world
        .put(&world.owner, json!({ "maintenance": true }))
        .await;
    assert_eq!(world.serves(&world.owner).await, Ok(true));
    let (status, message) = world.serves(&world.other).await.unwrap_err();
    assert_eq!(status, 403);
    assert!(
        message.to_lowercase().contains("maintenance mode"),
        "{message}"
    );

    let why = json!({ "maintenance": true, "maintenance_msg": "gone fishing" });
    assert_eq!(
        world.put(&world.moderator, why).await.body,
        json!({ "maintenance": true })
    );
    let (_, message) = world.serves(&world.other).await.unwrap_err();
    assert_eq!(message, "gone fishing");
    world
        .put(&world.owner, json!({ "maintenance": true }))
        .await;
    let (_, message) = world.serves(&world.other).await.unwrap_err();
    assert_ne!(message, "gone fishing", "each switch starts anew");
    world
        .put(&world.owner, json!({ "maintenance": false }))
        .await;
    assert_eq!(world.serves(&world.other).await, Ok(true));
}

#[tokio::test]
async fn a_paused_worker_is_only_kept_busy() {
    let world = World::start().await;
    world.put(&world.moderator, json!({ "paused": true })).await;
    let client = world.horde.client(&world.other.api_key);
    let id = client.async_image(&request()).await.unwrap().id;
    let decoy = world.pop().await;
    assert!(!decoy.body["id"].is_null());
    assert_eq!(
        client.check(id).await.unwrap().waiting,
        1,
        "the request waits on"
    );
    world
        .put(&world.moderator, json!({ "paused": false }))
        .await;
    let job = world.horde.client(&world.moderator.api_key);
    job.pop_image(&pop("another worker")).await.unwrap();
    assert_eq!(client.check(id).await.unwrap().processing, 1);
}

#[tokio::test]
async fn a_worker_is_deleted_unless_it_has_a_job() {
    let world = World::start().await;
    let refused = world.delete(&world.other).await;
    assert_eq!(outcome(&refused), (403, "NotModerator"));
    let id = world
        .horde
        .anonymous()
        .async_image(&request())
        .await
        .unwrap()
        .id;
    assert!(!world.pop().await.body["id"].is_null());
    assert_eq!(outcome(&world.delete(&world.owner).await), (423, "Locked"));
    world.horde.anonymous().cancel(id).await.unwrap();
    world.horde.later(3600);
    world.horde.server.settle_down().await.unwrap();
    let deleted = world.delete(&world.owner).await;
    let wanted = json!({ "deleted_id": world.worker, "deleted_name": "worker one" });
    assert_eq!((deleted.status, deleted.body), (200, wanted));
    assert_eq!(
        outcome(&world.delete(&world.owner).await),
        (404, "WorkerNotFound")
    );
    let shown = world.horde.get(&format!("/workers/{}", world.worker)).await;
    assert_eq!(shown.status, 404);
    let again = come(&world.horde, &world.other, "worker one").await;
    assert_ne!(again, world.worker, "the name is free");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn messages_reach_the_workers_they_are_for() {
    let world = World::start().await;
    let horde = &world.horde;
    let send = async |by: &TestUser, body: Value| {
        let key = Some(by.api_key.reveal());
        horde
            .call(Method::POST, "/workers/messages", key, Some(&body))
            .await
    };
    let own = json!({ "worker_id": world.worker, "message": "mine", "origin": "me" });
    let own = send(&world.owner, own).await;
    assert_eq!(own.status, 200, "{}", own.body);
    let wanted = json!({
        "id": own.body["id"], "message": "mine", "origin": world.owner.user_id,
        "worker_id": world.worker, "user_id": world.owner.user_id,
        "created": "Fri, 15 Jan 2027 08:00:00 -0000", "expiry": "Fri, 15 Jan 2027 20:00:00 -0000",
    });
    assert_eq!(own.body, wanted);
    let all = send(
        &world.moderator,
        json!({ "message": "to all", "expiry": 1 }),
    )
    .await;
    assert_eq!(all.body["origin"], "AI Horde Moderators");
    let refused = [
        (
            &world.other,
            json!({ "worker_id": world.worker, "message": "x" }),
            403,
            "MessagesOnlyOwnWorkers",
        ),
        (
            &world.owner,
            json!({ "message": "x" }),
            403,
            "MessagesOnlyOwnWorkers",
        ),
        (&world.owner, json!({ "worker_id": world.worker }), 400, ""),
        (
            &world.owner,
            json!({ "worker_id": "x".repeat(36), "message": "x" }),
            400,
            "",
        ),
        (
            &world.owner,
            json!({ "worker_id": world.worker, "message": "x", "expiry": 721 }),
            400,
            "",
        ),
        (
            &world.owner,
            json!({ "worker_id": world.worker, "message": "x", "expiry": 0 }),
            400,
            "",
        ),
        (
            &world.owner,
            json!({ "worker_id": "00000000-0000-0000-0000-000000000000", "message": "x" }),
            404,
            "WorkerNotFound",
        ),
    ];
    for (by, body, status, rc) in refused {
        assert_eq!(
            outcome(&send(by, body.clone()).await),
            (status, rc),
            "{body}"
        );
    }

    let texts = |pop: &Answer| -> Vec<String> {
        let messages = pop.body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["message"].as_str().unwrap().to_owned())
            .collect()
    };
    let popped = world.pop().await;
    assert_eq!(texts(&popped), ["mine", "to all"]);
    assert_eq!(popped.body["messages"][0].as_object().unwrap().len(), 4);
    let shown = world.show(&world.owner.api_key).await;
    assert_eq!(shown["messages"], json!([own.body]));
    horde.later(3600);
    assert_eq!(texts(&world.pop().await), ["mine"], "one hour is over");

    let path = format!("/workers/messages/{}", own.body["id"].as_str().unwrap());
    assert_eq!(horde.get(&path).await.body, own.body);
    let delete = async |key: Option<&str>| horde.call(Method::DELETE, &path, key, None).await;
    assert_eq!(
        outcome(&delete(Some(world.other.api_key.reveal())).await),
        (403, "Forbidden")
    );
    assert_eq!(delete(None).await.status, 400);
    assert_eq!(delete(Some(world.owner.api_key.reveal())).await.status, 200);
    assert_eq!(
        outcome(&horde.get(&path).await),
        (404, "WorkermessageNotFound")
    );
    assert!(texts(&world.pop().await).is_empty());
    let put = horde
        .call(Method::PUT, "/workers/messages", None, None)
        .await;
    assert_eq!(put.status, 400);
}

#[tokio::test]
async fn messages_are_listed_by_who_may_see_them() {
    let world = World::start().await;
    let horde = &world.horde;
    for (by, worker) in [
        (&world.owner, Some(&world.worker)),
        (&world.moderator, None),
    ] {
        let body = match worker {
            Some(worker) => json!({ "worker_id": worker, "message": "m" }),
            None => json!({ "message": "b", "expiry": 1 }),
        };
        let key = Some(by.api_key.reveal());
        horde
            .call(Method::POST, "/workers/messages", key, Some(&body))
            .await;
    }
    let list = async |by: &TestUser, query: &str| {
        let path = format!("/workers/messages{query}");
        horde
            .call(Method::GET, &path, Some(by.api_key.reveal()), None)
            .await
    };
    let count = |answer: &Answer| answer.body.as_array().map(Vec::len);
    let own = format!("?user_id={}", world.owner.user_id);
    let worker = format!("?worker_id={}", world.worker);
    assert_eq!(count(&list(&world.owner, "").await), Some(2));
    assert_eq!(count(&list(&world.owner, &own).await), Some(1));
    assert_eq!(
        count(&list(&world.other, "").await),
        Some(1),
        "only what is for all"
    );
    assert_eq!(outcome(&list(&world.other, &own).await), (403, "Forbidden"));
    assert_eq!(count(&list(&world.moderator, &own).await), Some(1));
    assert_eq!(count(&list(&world.moderator, &worker).await), Some(1));
    assert_eq!(count(&list(&world.moderator, "?page=2").await), Some(0));
    assert_eq!(count(&list(&world.moderator, "?page=-1").await), Some(2));
    for bad in ["?validity=x", "?user_id=x", "?worker_id=x", "?page=x"] {
        assert_eq!(list(&world.moderator, bad).await.status, 400, "{bad}");
    }
    horde.later(3600);
    assert_eq!(count(&list(&world.moderator, "").await), Some(1));
    assert_eq!(
        count(&list(&world.moderator, "?validity=expired").await),
        Some(1)
    );
    assert_eq!(
        count(&list(&world.moderator, "?validity=all").await),
        Some(2)
    );
}
