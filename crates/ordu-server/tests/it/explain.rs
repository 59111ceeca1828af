//! Why nobody takes a request: `explain=true`.

use ordu_api::ApiKey;
use ordu_api::explanation::Explanation;
use ordu_api::image::{ImagePop, ImageRequest};
use ordu_api::worker::WorkKind;
use ordu_server::Config;
use serde_json::{Value, json};

use crate::support::{
    TestHorde, alchemy_pop, alchemy_request, on_each_database, pop, request, text_pop, text_request,
};

async fn start(database: &str) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        ..config
    })
    .await
}

/// A worker that takes small pictures only.
fn small(name: &str) -> ImagePop {
    ImagePop {
        max_pixels: 300_000,
        ..pop(name)
    }
}

fn large() -> ImageRequest {
    let mut large = request();
    large.params.width = Some(1024);
    large.params.height = Some(1024);
    large
}

/// A request's body with a change merged in, one level deep in `params`.
fn merged(request: &ImageRequest, patch: &serde_json::Map<String, Value>) -> Value {
    let mut body = json!(request);
    for (name, value) in patch {
        match (body.get_mut(name), value) {
            (Some(Value::Object(mine)), Value::Object(more)) => mine.extend(more.clone()),
            _ => body[name] = value.clone(),
        }
    }
    body
}

#[tokio::test]
async fn the_change_that_is_proposed_helps() {
    on_each_database(async |database| {
        let horde = start(database).await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let asker = horde.user("asker", 1000.0).await;
        let client = horde.client(&asker.api_key);
        for name in ["a", "b"] {
            assert!(worker.pop_image(&small(name)).await.unwrap().id.is_none());
        }
        let id = client.async_image(&large()).await.unwrap().id;
        let explained = client.explain(id, WorkKind::Image).await.unwrap().unwrap();
        assert_eq!((explained.workers, explained.able), (2, 0));
        let model = &explained.models[0];
        assert_eq!(model.name.as_deref(), Some("ordu-tiny"));
        assert_eq!((model.workers, model.able), (2, 0));
        assert_eq!(model.obstacles.len(), 1);
        assert_eq!(model.obstacles[0].reasons, ["max_pixels"]);
        assert_eq!(model.obstacles[0].workers, 2);
        let change = explained.change.unwrap();
        assert_eq!(change.message, "size 1024x1024 → 512x512");
        assert_eq!(change.workers, 2);

        let changed = merged(&large(), &change.patch);
        let key = Some(&asker.api_key);
        let accepted = horde.post("/generate/async", key, &changed).await;
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        assert!(accepted.body.get("message").is_none_or(Value::is_null));
        assert!(worker.pop_image(&small("a")).await.unwrap().id.is_some());
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn without_asking_nothing_changes() {
    let horde = TestHorde::start().await;
    let client = horde.anonymous();
    let id = client.async_image(&request()).await.unwrap().id;
    for query in [
        "",
        "?explain=false",
        "?explain=",
        "?explain=no&x=1",
        "?explain=1&explain=1",
    ] {
        for path in ["check", "status"] {
            let answer = horde.get(&format!("/generate/{path}/{id}{query}")).await;
            assert_eq!(answer.status, 200);
            assert!(answer.body.get("explanation").is_none(), "{query}");
        }
    }
    for query in ["?explain=true", "?explain=1"] {
        for path in ["check", "status"] {
            let answer = horde.get(&format!("/generate/{path}/{id}{query}")).await;
            let explanation = &answer.body["explanation"];
            assert_eq!(explanation["workers"], 0, "{}", answer.body);
            assert_eq!(explanation["models"][0]["workers"], 0);
            assert_eq!(explanation["change"], Value::Null);
        }
    }
    let unknown = "/generate/check/00000000-0000-4000-8000-000000000000?explain=true";
    assert_eq!(horde.get(unknown).await.status, 404);
}

#[tokio::test]
async fn texts_and_forms_are_explained() {
    on_each_database(async |database| {
        let horde = start(database).await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let client = horde.anonymous();
        worker.pop_text(&text_pop("scribe")).await.unwrap();
        let mut long = text_request();
        long.params.max_context_length = Some(8192);
        let id = client.async_text(&long).await.unwrap().id;
        let explained = client.explain(id, WorkKind::Text).await.unwrap().unwrap();
        assert_eq!(
            explained.models[0].obstacles[0].reasons,
            ["max_context_length"]
        );
        let change = explained.change.unwrap();
        assert_eq!(
            Value::Object(change.patch),
            json!({ "params": { "max_context_length": 4096 } })
        );

        let offer = alchemy_pop("alchemist", &["caption"]);
        worker.pop_alchemy(&offer).await.unwrap();
        let forms = alchemy_request(&["caption", "nsfw"]);
        let id = client.async_alchemy(&forms).await.unwrap().id;
        let kind = WorkKind::Interrogation;
        let explained = client.explain(id, kind).await.unwrap().unwrap();
        assert_eq!(explained.able, 1);
        let able: Vec<u64> = explained.models.iter().map(|form| form.able).collect();
        assert_eq!(able, [1, 0]);
        assert!(client.explain(id, WorkKind::Image).await.is_err());
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_is_closed_and_what_has_ended_is_said() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    worker.pop_image(&pop("tired")).await.unwrap();
    let workers = horde.get("/workers").await;
    let id = workers.body[0]["id"].as_str().unwrap();
    let edit = json!({ "maintenance": true });
    let path = format!("/workers/{id}");
    let key = owner.api_key.reveal();
    let put = horde
        .call(reqwest::Method::PUT, &path, Some(key), Some(&edit))
        .await;
    assert_eq!(put.status, 200, "{}", put.body);
    let client = horde.client(&ApiKey::anonymous());
    let id = client.async_image(&request()).await.unwrap().id;
    let explain = async || -> Explanation {
        let explained = client.explain(id, WorkKind::Image).await;
        explained.unwrap().unwrap()
    };
    let closed = explain().await;
    assert_eq!(closed.models[0].obstacles[0].reasons, ["maintenance"]);
    assert_eq!(closed.change, None, "it is not for the requester to change");
    client.cancel(id).await.unwrap();
    let over = explain().await;
    assert_eq!(over.message, "Nothing of it waits for a worker");
    assert!(over.models.is_empty());
}
