//! What is known about models, and how it changes while the server runs.

use std::path::Path;

use ordu_api::user::TestUser;
use ordu_server::{Config, ModelSource, ModelSources, Server};
use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::{Planned, Receiver};
use crate::support::{Answer, TestHorde, pop, request};

const ONE: &str = r#"{"one": {"baseline": "stable diffusion 1"}}"#;
const TWO: &str = r#"{"two": {"baseline": "stable diffusion 1",
                              "requirements": {"min_steps": 40, "samplers": ["k_heun"]}}}"#;
const SIZED: &str = r#"{"a/b-7B": {"parameters": 7e9}}"#;

async fn start(models: ModelSources) -> TestHorde {
    TestHorde::start_with(|config| Config { models, ..config }).await
}

fn file(path: &Path) -> ModelSource {
    ModelSource::File(path.to_owned())
}

/// Whether a model is known, as `status/models` says.
async fn knows(horde: &TestHorde, name: &str) -> bool {
    let shown = horde.get(&format!("/status/models/{name}")).await.body;
    !shown.as_array().unwrap().is_empty()
}

/// Whether a worker may serve a model: only known ones.
async fn serves(horde: &TestHorde, name: &str) -> bool {
    let owner = horde.mint("owner", json!({})).await;
    let mut pop = serde_json::to_value(pop("w")).unwrap();
    pop["models"] = json!([name]);
    let key = Some(&owner.api_key);
    horde.post("/generate/pop", key, &pop).await.status == 200
}

async fn ask(horde: &TestHorde, model: &str) -> Answer {
    let mut body = serde_json::to_value(request()).unwrap();
    body["models"] = json!([model]);
    let anonymous = ordu_api::ApiKey::anonymous();
    horde.post("/generate/async", Some(&anonymous), &body).await
}

#[tokio::test]
async fn a_changed_file_is_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    let (image, text) = (folder.path().join("image"), folder.path().join("text"));
    std::fs::write(&image, ONE).unwrap();
    std::fs::write(&text, SIZED).unwrap();
    let horde = start(ModelSources {
        image: file(&image),
        text: file(&text),
        ..ModelSources::default()
    })
    .await;
    assert!(serves(&horde, "one").await && !serves(&horde, "two").await);
    assert!(knows(&horde, "a%252Fb-7B").await);
    // What cannot be read changes nothing.
    std::fs::write(&image, "{").unwrap();
    horde.server.settle_down().await.unwrap();
    assert!(serves(&horde, "one").await);
    std::fs::write(&image, TWO).unwrap();
    horde.server.settle_down().await.unwrap();
    assert!(serves(&horde, "two").await && !serves(&horde, "one").await);
    assert!(knows(&horde, "two").await && !knows(&horde, "one").await);
    std::fs::remove_file(&image).unwrap();
    horde.server.settle_down().await.unwrap();
    assert!(serves(&horde, "two").await);
}

#[tokio::test]
async fn requirements_become_warnings_that_say_what_would_do() {
    let horde = start(ModelSources {
        image: ModelSource::Text(ONE.to_owned()),
        extra: ModelSource::Text(TWO.to_owned()),
        ..ModelSources::default()
    })
    .await;
    let warnings = |answer: &Answer| -> Vec<(String, String)> {
        let all = answer.body["warnings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = all.iter();
        let all = all.map(|one| (text(&one["code"]), text(&one["message"])));
        all.filter(|(code, _)| code != "NoAvailableWorker")
            .collect()
    };
    assert!(warnings(&ask(&horde, "one").await).is_empty());
    let warned = warnings(&ask(&horde, "two").await);
    let codes: Vec<&str> = warned.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["StepsTooFew", "SamplerMismatch"]);
    assert!(
        warned[0].1.contains("40") && warned[1].1.contains("k_heun"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_prevents_a_start() {
    let start = async |image: ModelSource| {
        let models = ModelSources {
            image,
            ..ModelSources::default()
        };
        let config = Config {
            models,
            ..Config::in_memory()
        };
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        Server::start(config)
            .await
            .err()
            .map(|error| error.to_string())
    };
    let missing = start(ModelSource::File("/nowhere/models.json".into())).await;
    assert!(missing.unwrap().contains("/nowhere/models.json"));
    assert!(start(ModelSource::Text("[]".to_owned())).await.is_some());
}

#[tokio::test]
async fn a_document_from_the_network_is_fetched_each_hour_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Receiver::start().await;
    source.plan([Planned::Answer(200, ONE)]);
    let models = ModelSources {
        image: ModelSource::Url(source.url("/models.json").parse().unwrap()),
        cache: Some(folder.path().join("models")),
        ..ModelSources::default()
    };
    let horde = start(models.clone()).await;
    assert_eq!(source.next().await.path, "/models.json");
    assert!(serves(&horde, "one").await);
    horde.later(3599);
    horde.server.settle_down().await.unwrap();
    assert!(source.is_quiet());
    horde.later(1);
    // What is of no use changes nothing, and is tried again in the next round.
    for useless in ["{", "{}", "[]"] {
        source.plan([Planned::Answer(200, useless)]);
        horde.server.settle_down().await.unwrap();
        source.next().await;
        assert!(serves(&horde, "one").await, "{useless}");
    }
    source.plan([Planned::Answer(500, ""), Planned::Answer(200, TWO)]);
    horde.server.settle_down().await.unwrap();
    horde.server.settle_down().await.unwrap();
    assert!(serves(&horde, "two").await && !serves(&horde, "one").await);
    horde.server.stop().await;
    // The next start does not need the network.
    source.plan([Planned::Answer(404, "")]);
    let horde = start(models).await;
    assert!(serves(&horde, "two").await && !serves(&horde, "one").await);
}

#[tokio::test]
async fn a_network_that_is_away_prevents_no_start() {
    let source = Receiver::start().await;
    source.plan(vec![Planned::Answer(503, ""); 3]);
    let horde = start(ModelSources {
        image: ModelSource::Url(source.url("/models.json").parse().unwrap()),
        ..ModelSources::default()
    })
    .await;
    // The built-in models.
    assert!(serves(&horde, "ordu-tiny").await);
}

#[tokio::test]
async fn moderators_write_entries_that_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let other = horde.mint("other", json!({})).await;
    let entry = json!({ "baseline": "stable_diffusion_xl", "requirements": { "max_steps": 8 } });
    let path = "/operations/models/a%2Fnew%20one";
    let put = Method::PUT;
    let call = async |horde: &TestHorde, method: Method, path: &str, by: &TestUser, body: Value| {
        let key = Some(by.api_key.reveal());
        horde.call(method, path, key, Some(&body)).await
    };
    let refused = call(&horde, put.clone(), path, &other, entry.clone()).await;
    assert_eq!((refused.status, refused.rc()), (403, "NotModerator"));
    assert!(!serves(&horde, "a/new one").await);
    let written = call(&horde, put.clone(), path, &moderator, entry).await;
    assert_eq!(
        written.body["requirements"]["max_steps"], 8,
        "{}",
        written.body
    );
    assert!(serves(&horde, "a/new one").await);
    let text = format!("{path}?type=text");
    let sized = call(
        &horde,
        put.clone(),
        &text,
        &moderator,
        json!({ "parameters": 7e9 }),
    )
    .await;
    assert_eq!(sized.body, json!({ "parameters": 7e9, "nsfw": false }));
    for (path, body) in [
        (path, json!({ "requirements": { "max_steps": "many" } })),
        (path, json!({ "parameters": -1 })),
        ("/operations/models/%00", json!({})),
        ("/operations/models/x?type=form", json!({})),
    ] {
        let answer = call(&horde, put.clone(), path, &moderator, body).await;
        assert_eq!(answer.status, 400, "{path} {}", answer.body);
    }
    // A start and a round of reading leave them alone.
    horde.server.settle_down().await.unwrap();
    horde.server.stop().await;
    horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    assert!(serves(&horde, "a/new one").await);
    let listed = call(
        &horde,
        Method::GET,
        "/operations/models",
        &moderator,
        json!({}),
    )
    .await;
    assert_eq!(listed.body["text"]["a/new one"]["parameters"], 7e9);
    let gone = call(&horde, Method::DELETE, path, &moderator, json!({})).await;
    assert_eq!(
        (gone.status, serves(&horde, "a/new one").await),
        (200, false)
    );
    let gone = call(&horde, Method::DELETE, path, &moderator, json!({})).await;
    assert_eq!(gone.status, 404);
}
