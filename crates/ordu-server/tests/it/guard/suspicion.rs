//! What speaks against workers, and what comes of it.

use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use ordu_server::GuardConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Caller, mint, moderator, serve, start, stranger, suspicion_of};

/// A webhook of moderators, and what is posted to it.
async fn webhook() -> (url::Url, mpsc::Receiver<Value>) {
    let (sender, receiver) = mpsc::channel(16);
    let take = async move |Json(body): Json<Value>| {
        sender.send(body).await.unwrap();
    };
    let address = serve(Router::new().route("/", post(take))).await;
    (format!("http://{address}/").parse().unwrap(), receiver)
}

/// Asks, pops and delivers in the same instant.
async fn deliver_at_once(asker: &Caller<'_>, worker: &Caller<'_>) -> Value {
    assert_eq!(asker.ask("a cat").await.status, 202);
    let job = worker.pop("w").await.body["id"].clone();
    assert_eq!(worker.submit(&job, json!({})).await.status, 200);
    job
}

#[tokio::test]
async fn a_worker_that_is_too_fast_too_often_is_paused() {
    let (url, mut posted) = webhook().await;
    let horde = start(GuardConfig {
        moderator_webhook: Some(url),
        ..GuardConfig::default()
    })
    .await;
    let moderator = moderator(&horde).await;
    let asker = stranger(&horde, "asker").await;
    let owner = stranger(&horde, "owner").await;
    for reports in 1..=4 {
        deliver_at_once(&asker, &owner).await;
        let seen = moderator.get("/workers/name/w").await.body;
        assert_eq!(
            (&seen["suspicious"], &seen["paused"]),
            (&json!(reports), &json!(false))
        );
    }
    deliver_at_once(&asker, &owner).await;
    let seen = moderator.get("/workers/name/w").await.body;
    assert_eq!(
        (&seen["suspicious"], &seen["paused"]),
        (&json!(5), &json!(true))
    );
    assert_eq!(suspicion_of(&moderator, &owner).await, 5);

    let notices = moderator
        .get("/operations/notices?kind=worker-paused")
        .await
        .body;
    assert_eq!(notices.as_array().unwrap().len(), 1);
    let told = tokio::time::timeout(Duration::from_secs(5), posted.recv()).await;
    let told = told.unwrap().unwrap();
    assert_eq!(told["content"], notices[0]["message"]);

    // From now on it gets decoys: they look like jobs, and nothing comes of them.
    let asked = asker.ask("a cat").await.body["id"].clone();
    let decoy = owner.pop("w").await.body["id"].clone();
    assert!(decoy.is_string());
    assert_eq!(owner.submit(&decoy, json!({})).await.status, 200);
    let check = format!("/generate/check/{}", asked.as_str().unwrap());
    assert_eq!(asker.get(&check).await.body["waiting"], 1);
}

#[tokio::test]
async fn a_worker_at_an_honest_pace_is_not_suspected() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        stranger(&horde, "owner").await,
    );
    for _ in 0..6 {
        assert_eq!(asker.ask("a cat").await.status, 202);
        let job = owner.pop("w").await.body["id"].clone();
        horde.later(1);
        assert_eq!(owner.submit(&job, json!({})).await.status, 200);
    }
    assert_eq!(suspicion_of(&moderator, &owner).await, 0);
}

#[tokio::test]
async fn a_worker_that_drops_jobs_is_suspected() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        stranger(&horde, "owner").await,
    );
    moderator
        .put("/status/modes", json!({ "raid_mode": true }))
        .await;
    for _ in 0..11 {
        assert_eq!(asker.ask("a cat").await.status, 202);
        let job = owner.pop("w").await.body["id"].clone();
        let faulted = owner.submit(&job, json!({ "state": "faulted" })).await;
        assert_eq!(faulted.status, 200, "{}", faulted.body);
    }
    let seen = moderator.get("/workers/name/w").await.body;
    assert_eq!(seen["suspicious"], 1);
    assert_eq!(
        seen["maintenance_mode"], false,
        "during a raid it is only suspected"
    );
}

#[tokio::test]
async fn an_owner_that_gains_trust_gets_its_workers_back() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        stranger(&horde, "owner").await,
    );
    for _ in 0..5 {
        deliver_at_once(&asker, &owner).await;
    }
    let paused = async || moderator.get("/workers/name/w").await.body["paused"].clone();
    assert_eq!(paused().await, true);
    let trusted = mint(&horde, "owner", false, true).await;
    assert_eq!(paused().await, false);
    let owner = Caller::new(&horde, &trusted.api_key);
    for _ in 0..2 {
        deliver_at_once(&asker, &owner).await;
    }
    assert_eq!(paused().await, false, "the trusted are not suspected");
}
