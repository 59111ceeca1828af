//! Teams: who makes and changes them, who is in them, and what is counted for them.

use ordu_api::user::TestUser;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestHorde, alchemy_pop, deliver_all, on_each_database, pop, request, text_pop,
};

const NOBODYS: &str = "/teams/00000000-0000-0000-0000-000000000000";

struct World {
    horde: TestHorde,
    owner: TestUser,
    team: String,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    async fn start_on(database: &str) -> Self {
        Self::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await
    }

    async fn start_with(adapt: impl FnOnce(Config) -> Config) -> Self {
        let horde = TestHorde::start_with(adapt).await;
        let owner = horde.user("owner", 1000.0).await;
        let body = json!({ "name": "the <i>apples</i>", "info": "we & you" });
        let made = horde.post("/teams", Some(&owner.api_key), &body).await;
        assert_eq!(made.status, 200, "{}", made.body);
        let team = made.body["id"].as_str().unwrap().to_owned();
        Self { horde, owner, team }
    }

    async fn call(&self, method: Method, path: &str, by: Option<&TestUser>, body: Value) -> Answer {
        let key = by.map(|user| user.api_key.reveal());
        self.horde.call(method, path, key, Some(&body)).await
    }

    async fn patch(&self, by: &TestUser, body: Value) -> Answer {
        let path = format!("/teams/{}", self.team);
        self.call(Method::PATCH, &path, Some(by), body).await
    }

    async fn show(&self) -> Value {
        self.horde.get(&format!("/teams/{}", self.team)).await.body
    }

    /// A worker of the owner comes in; answers its id.
    async fn worker(&self, path: &str, pop: &Value) -> String {
        let key = Some(&self.owner.api_key);
        let answer = self.horde.post(path, key, pop).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let name = pop["name"].as_str().unwrap().replace(' ', "%20");
        let shown = self.horde.get(&format!("/workers/name/{name}")).await;
        shown.body["id"].as_str().unwrap().to_owned()
    }

    async fn dreamer(&self) -> String {
        let body = serde_json::to_value(pop("a dreamer")).unwrap();
        self.worker("/generate/pop", &body).await
    }

    async fn join(&self, worker: &str, team: &str) -> Answer {
        let body = json!({ "team": team });
        let path = format!("/workers/{worker}");
        self.call(Method::PUT, &path, Some(&self.owner), body).await
    }

    /// A request is asked for, painted and delivered.
    async fn paint(&self) {
        let client = self.horde.client(&self.owner.api_key);
        self.horde
            .anonymous()
            .async_image(&request())
            .await
            .unwrap();
        let job = client.pop_image(&pop("a dreamer")).await.unwrap();
        self.horde.later(2);
        deliver_all(&client, &job).await;
        self.horde.server.settle_down().await.unwrap();
    }
}

#[tokio::test]
async fn a_team_is_made_shown_changed_and_deleted() {
    on_each_database(async |database| {
        let world = World::start_on(database).await;
        let shown = world.show().await;
        let wanted = json!({
            "id": world.team, "name": "the <i>apples</i>", "info": "we &amp; you",
            "requests_fulfilled": 0, "kudos": 0.0, "uptime": 0, "creator": world.owner.alias,
            "worker_count": 0, "workers": [], "models": [],
            "contributions": 0.0, "performance": 0.0, "speed": 0.0,
        });
        assert_eq!(shown, wanted);
        assert_eq!(world.horde.get("/teams").await.body, json!([wanted]));
        let changed = world.patch(&world.owner, json!({ "name": "pears" })).await;
        let wanted = json!({ "id": world.team, "name": "pears", "info": "we &amp; you" });
        assert_eq!((changed.status, changed.body), (200, wanted));
        let path = format!("/teams/{}", world.team);
        let deleted = world
            .call(Method::DELETE, &path, Some(&world.owner), json!({}))
            .await;
        let wanted = json!({ "deleted_id": world.team, "deleted_name": "pears" });
        assert_eq!((deleted.status, deleted.body), (200, wanted));
        assert_eq!(world.horde.get(&path).await.rc(), "TeamNotFound");
        assert_eq!(world.horde.get("/teams").await.body, json!([]));
    })
    .await;
}

#[tokio::test]
async fn who_may_not_make_a_team_is_told_why() {
    let world = World::start().await;
    let make = async |by: &TestUser, body: Value| {
        let answer = world.horde.post("/teams", Some(&by.api_key), &body).await;
        (answer.status, answer.rc().to_owned())
    };
    let fresh = world.horde.mint("fresh", json!({})).await;
    let named = json!({ "name": "other" });
    let refused = make(&fresh, named.clone()).await;
    assert_eq!(refused, (403, "UntrustedTeamCreation".to_owned()));
    let path = format!("/users/{}", world.owner.user_id);
    world
        .call(Method::DELETE, &path, Some(&world.owner), json!({}))
        .await;
    let refused = make(&world.owner, named.clone()).await;
    assert_eq!(refused, (403, "DeletedUser".to_owned()));
    let anonymous = ordu_api::ApiKey::anonymous();
    let refused = world.horde.post("/teams", Some(&anonymous), &named).await;
    assert_eq!((refused.status, refused.rc()), (403, "AnonForbidden"));
    let nobody = ordu_api::ApiKey::new("nobodys key");
    let refused = world.horde.post("/teams", Some(&nobody), &named).await;
    assert_eq!((refused.status, refused.rc()), (401, "InvalidAPIKey"));
    let refused = world.horde.post("/teams", None, &named).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body["errors"]["apikey"].is_string());
}

#[tokio::test]
async fn names_and_infos_are_checked_at_their_borders() {
    let world = World::start().await;
    let trusted = world.horde.user("another", 0.0).await;
    let cases = [
        (json!({ "name": "abc", "info": "abc" }), 200, ""),
        (json!({ "name": "ab" }), 400, ""),
        (json!({ "name": "n".repeat(100) }), 200, ""),
        (json!({ "name": "n".repeat(101) }), 400, ""),
        (json!({ "name": "d e", "info": "ab" }), 400, ""),
        (json!({ "name": "d e", "info": "i".repeat(1000) }), 200, ""),
        (json!({ "name": "d f", "info": "i".repeat(1001) }), 400, ""),
        (json!({ "name": 5 }), 400, ""),
        (json!({ "name": null }), 400, ""),
        (json!([]), 400, ""),
        (json!({ "name": " \0  " }), 400, ""),
        (json!({ "name": "d h", "info": "    " }), 400, ""),
        (json!({ "name": "ABC" }), 400, "TeamNameAlreadyExists"),
        (json!({ "name": "fuck you" }), 400, "ProfaneTeamName"),
        (
            json!({ "name": "d g", "info": "fuck this" }),
            400,
            "ProfaneTeamInfo",
        ),
    ];
    for (body, status, code) in cases {
        let key = Some(&trusted.api_key);
        let answer = world.horde.post("/teams", key, &body).await;
        let found = (answer.status, answer.rc());
        assert_eq!(found, (status, code), "{body} {}", answer.body);
    }
}

#[tokio::test]
async fn a_change_that_is_refused_changes_nothing() {
    let world = World::start().await;
    let other = world.horde.user("another", 0.0).await;
    let moderator = world.horde.mint("mod", json!({ "moderator": true })).await;
    let named = json!({ "name": "pears" });
    world
        .horde
        .post("/teams", Some(&other.api_key), &named)
        .await;
    let before = world.show().await;
    let cases = [
        (&other, json!({ "name": "zzz" }), 403, "NotModerator"),
        (&other, json!({ "info": "zzz" }), 403, "NotOwner"),
        (&world.owner, json!({}), 400, "NoTeamModSelected"),
        (
            &world.owner,
            json!({ "info": "fuck this" }),
            400,
            "ProfaneTeamInfo",
        ),
        (
            &world.owner,
            json!({ "name": "fuck you", "info": "new" }),
            400,
            "ProfaneTeamName",
        ),
        (
            &world.owner,
            json!({ "name": "PEARS", "info": "new" }),
            400,
            "TeamNameAlreadyExists",
        ),
    ];
    for (by, body, status, code) in cases {
        let answer = world.patch(by, body.clone()).await;
        assert_eq!((answer.status, answer.rc()), (status, code), "{body}");
        assert_eq!(world.show().await, before, "{body}");
    }
    let changed = world.patch(&moderator, json!({ "info": "by a mod" })).await;
    assert_eq!(changed.body["info"], "by a mod");
    let changed = world.patch(&world.owner, json!({ "name": "APPLES" })).await;
    assert_eq!(
        (changed.status, &changed.body["name"]),
        (200, &json!("APPLES"))
    );
    for (method, body) in [
        (Method::PATCH, json!({ "name": "zzz" })),
        (Method::DELETE, json!({})),
    ] {
        for path in [NOBODYS, "/teams/garbage", "/teams/%00", "/teams/-1"] {
            let by = Some(&world.owner);
            let answer = world.call(method.clone(), path, by, body.clone()).await;
            assert_eq!(
                (answer.status, answer.rc()),
                (404, "TeamNotFound"),
                "{path}"
            );
        }
        let path = format!("/teams/{}", world.team);
        let answer = world.call(method, &path, None, body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[tokio::test]
async fn any_key_that_is_one_reads_a_team() {
    let world = World::start().await;
    let other = world.horde.mint("fresh", json!({})).await;
    let path = format!("/teams/{}", world.team);
    let get = async |key| world.horde.call(Method::GET, &path, key, None).await.status;
    assert_eq!(get(Some(other.api_key.reveal())).await, 200);
    assert_eq!(get(Some("nobodys key")).await, 401);
    assert_eq!(get(None).await, 200);
    for path in [NOBODYS, "/teams/garbage", "/teams/%00"] {
        let answer = world.horde.get(path).await;
        assert_eq!(
            (answer.status, answer.rc()),
            (404, "TeamNotFound"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn workers_join_and_leave() {
    on_each_database(async |database| {
        let world = World::start_on(database).await;
        let worker = world.dreamer().await;
        for team in ["00000000-0000-0000-0000-000000000000", "garbage"] {
            let answer = world.join(&worker, team).await;
            assert_eq!((answer.status, answer.rc()), (404, "TeamNotFound"));
        }
        let joined = world.join(&worker, &world.team).await;
        assert_eq!(joined.body, json!({ "team": "the <i>apples</i>" }));
        let path = format!("/workers/{worker}");
        let link = json!({ "id": world.team, "name": "the <i>apples</i>" });
        assert_eq!(world.horde.get(&path).await.body["team"], link);
        let shown = world.show().await;
        let member = json!({ "type": "image", "name": "a dreamer", "id": worker, "online": true });
        assert_eq!(shown["workers"], json!([member]));
        let models = json!([{ "name": "ordu-tiny", "count": 1 }]);
        assert_eq!(
            (&shown["worker_count"], &shown["models"]),
            (&json!(1), &models)
        );
        world.patch(&world.owner, json!({ "name": "pears" })).await;
        assert_eq!(world.horde.get(&path).await.body["team"]["name"], "pears");
        // A pop writes what the worker declares anew, and leaves its team alone.
        world.horde.later(60);
        world.dreamer().await;
        assert_eq!(world.horde.get(&path).await.body["team"]["name"], "pears");
        let left = world.join(&worker, "").await;
        assert_eq!(left.body, json!({ "team": "None" }));
        let none = json!({ "id": null, "name": null });
        assert_eq!(world.horde.get(&path).await.body["team"], none);
        assert_eq!(world.show().await["worker_count"], 0);
    })
    .await;
}

#[tokio::test]
async fn who_was_in_a_deleted_team_is_in_none() {
    let world = World::start().await;
    let worker = world.dreamer().await;
    world.join(&worker, &world.team).await;
    let path = format!("/teams/{}", world.team);
    world
        .call(Method::DELETE, &path, Some(&world.owner), json!({}))
        .await;
    let shown = world.horde.get(&format!("/workers/{worker}")).await.body;
    assert_eq!(shown["team"], json!({ "id": null, "name": null }));
}

#[tokio::test]
async fn a_job_counts_for_the_team_of_its_time() {
    on_each_database(async |database| {
        let world = World::start_on(database).await;
        let worker = world.dreamer().await;
        world.paint().await;
        assert_eq!(world.show().await["requests_fulfilled"], 0);
        world.join(&worker, &world.team).await;
        world.paint().await;
        world.join(&worker, "").await;
        world.paint().await;
        let shown = world.show().await;
        assert_eq!(shown["requests_fulfilled"], 1);
        let earned = world.horde.get(&format!("/workers/{worker}")).await.body;
        let all = earned["kudos_details"]["generated"].as_f64().unwrap();
        let kudos = shown["kudos"].as_f64().unwrap();
        assert!((kudos * 3.0 - all).abs() < 0.1, "{kudos} of {all}");
        // 512 × 512 × 30 pixelsteps.
        assert_eq!(shown["contributions"], 7.86);
    })
    .await;
}

#[tokio::test]
async fn speed_is_that_of_image_workers_that_are_there() {
    let world = World::start().await;
    let worker = world.dreamer().await;
    let body = serde_json::to_value(text_pop("a scribe")).unwrap();
    let scribe = world.worker("/generate/text/pop", &body).await;
    world.join(&worker, &world.team).await;
    world.join(&scribe, &world.team).await;
    world.paint().await;
    let shown = world.show().await;
    // 7.86 megapixelsteps in two seconds.
    assert_eq!(
        (&shown["speed"], &shown["performance"]),
        (&json!(3.9), &json!(3.9))
    );
    assert_eq!(shown["models"].as_array().unwrap().len(), 2);
    world.horde.later(301);
    let shown = world.show().await;
    assert_eq!(
        (&shown["speed"], &shown["models"]),
        (&json!(0.0), &json!([]))
    );
    let online = shown["workers"].as_array().unwrap();
    assert!(online.iter().all(|worker| worker["online"] == false));
}

#[tokio::test]
async fn every_kind_of_worker_adds_uptime_in_steps() {
    on_each_database(async |database| {
        let world = World::start_on(database).await;
        let kinds = [
            (
                "/generate/pop",
                serde_json::to_value(pop("a dreamer")).unwrap(),
            ),
            (
                "/generate/text/pop",
                serde_json::to_value(text_pop("a scribe")).unwrap(),
            ),
            (
                "/interrogate/pop",
                serde_json::to_value(alchemy_pop("an alchemist", &["caption"])).unwrap(),
            ),
        ];
        for (path, body) in &kinds {
            let worker = world.worker(path, body).await;
            world.join(&worker, &world.team).await;
        }
        for minutes in 1..=11 {
            world.horde.later(60);
            for (path, body) in &kinds {
                world.worker(path, body).await;
            }
            world.horde.server.settle_down().await.unwrap();
            let wanted = if minutes > 10 { 1800 } else { 0 };
            assert_eq!(world.show().await["uptime"], wanted, "{minutes} minutes");
        }
    })
    .await;
}
