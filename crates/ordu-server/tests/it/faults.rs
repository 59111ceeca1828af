//! Whom a job without a result is charged to, over HTTP.

use ordu_api::image::{ImageSubmit, Metadata, SubmitState};
use ordu_client::Horde;
use ordu_core::Millis;
use ordu_server::{BlobPlace, Config};
use ordu_store::{Claim, NewJob, Store};
use serde_json::Value;
use uuid::Uuid;

use crate::s3::S3Server;
use crate::support::{Answer, TestHorde, deliver_all, delivered, on_each_database, pop, request};

async fn popped(worker: &Horde, name: &str) -> ordu_api::JobId {
    worker.pop_image(&pop(name)).await.unwrap().id.unwrap()
}

fn fault(id: ordu_api::JobId, kind: &str, value: &str, reference: Option<&str>) -> ImageSubmit {
    ImageSubmit {
        state: SubmitState::Faulted,
        gen_metadata: vec![Metadata {
            kind: kind.to_owned(),
            value: value.to_owned(),
            reference: reference.map(str::to_owned),
        }],
        ..delivered(id)
    }
}

async fn uncompleted(horde: &TestHorde, name: &str) -> Value {
    let answer = horde.get(&format!("/workers/name/{name}")).await;
    answer.body["uncompleted_jobs"].clone()
}

#[tokio::test]
async fn what_a_worker_says_about_a_fault_counts() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let job = popped(&worker, "w").await;
    let missing = fault(job, "lora", "download_failed", None);
    worker.submit_image(&missing).await.unwrap();
    let job = popped(&worker, "w").await;
    let drain = fault(job, "information", "see_ref", Some("drain"));
    worker.submit_image(&drain).await.unwrap();
    assert_eq!(uncompleted(&horde, "w").await, 0);
    let progress = horde.anonymous().check(id).await.unwrap();
    assert_eq!((progress.restarted, progress.waiting), (1, 1));

    let job = popped(&worker, "w").await;
    let own = fault(job, "information", "see_ref", None);
    worker.submit_image(&own).await.unwrap();
    assert_eq!(uncompleted(&horde, "w").await, 1);
}

/// A claim that takes place though the connection that it went through was cut, or given up.
#[tokio::test]
async fn a_claim_of_which_nobody_heard_holds_up_nobody() {
    on_each_database(async |database| {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("ordu.db").display());
        let database = database.replace("sqlite::memory:", &file);
        let horde = TestHorde::start_with(|config| Config {
            database: database.clone(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        assert!(worker.pop_image(&pop("w")).await.unwrap().id.is_none());
        let known = horde.get("/workers/name/w").await;
        let claimed = horde.anonymous().async_image(&request()).await.unwrap().id;
        let open = horde.anonymous().async_image(&request()).await.unwrap().id;

        let now = horde.clock.now();
        let claim = ordu_store::Assignment {
            request: claimed,
            expires: now + Millis::from_minutes(20),
            jobs: vec![NewJob {
                id: ordu_api::JobId::from_uuid(Uuid::from_u128(1)),
                worker: known.body["id"].as_str().unwrap().parse().unwrap(),
                slot: None,
                seed: None,
                model: "stable_diffusion".to_owned(),
                assigned_at: now,
                ttl: Millis::from_minutes(5),
            }],
        };
        let options = ordu_store::Options::default();
        let unheard = Store::open(&database.parse().unwrap(), &options, now).await;
        let unheard = unheard.unwrap();
        let claims = unheard.assign_all(&[claim]).await;
        assert!(matches!(claims.as_slice(), [Ok(Claim::Won)]), "{claims:?}");
        unheard.close().await;

        popped(&worker, "w").await;
        for id in [claimed, open] {
            let progress = horde.anonymous().check(id).await.unwrap();
            assert_eq!((progress.processing, progress.waiting), (1, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_was_due_while_the_server_was_away_may_still_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    for _ in 0..2 {
        horde.anonymous().async_image(&request()).await.unwrap();
    }
    let first = worker.pop_image(&pop("w")).await.unwrap();
    worker.pop_image(&pop("w")).await.unwrap();
    let address = horde.server.address().to_string();
    let away = horde.clock.now() + ordu_core::Millis::from_minutes(10);
    horde.server.stop().await;

    let clock = ordu_server::Clock::manual(away);
    let horde = TestHorde::start_with(|config| Config {
        clock: clock.clone(),
        listen: address.parse().unwrap(),
        database: format!("sqlite://{}", folder.path().join("ordu.db").display()),
        blobs: BlobPlace::Folder(folder.path().join("blobs")),
        ..config
    })
    .await;
    horde.server.settle_down().await.unwrap();
    let worker = horde.client(&owner.api_key);
    let id = first.id.unwrap();
    assert!(worker.submit_image(&delivered(id)).await.unwrap().reward > 0.0);
    // The other is given up a minute later, and nobody is blamed.
    clock.advance(ordu_core::Millis::from_seconds(61));
    horde.server.settle_down().await.unwrap();
    assert!(worker.pop_image(&pop("w2")).await.unwrap().id.is_some());
    assert_eq!(uncompleted(&horde, "w").await, 0);
}

#[tokio::test]
async fn speeds_and_drops_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    for _ in 0..2 {
        horde.anonymous().async_image(&request()).await.unwrap();
    }
    let job = worker.pop_image(&pop("w")).await.unwrap();
    horde.later(2);
    deliver_all(&worker, &job).await;
    let job = popped(&worker, "w").await;
    let own = fault(job, "information", "see_ref", None);
    worker.submit_image(&own).await.unwrap();
    // What is known of a worker is written with its check-ins.
    horde.later(31);
    worker.pop_image(&pop("w")).await.unwrap();
    let shown = async |horde: &TestHorde| {
        let view = horde.get("/workers/name/w").await.body;
        (
            view["performance"].clone(),
            view["uncompleted_jobs"].clone(),
        )
    };
    let before = shown(&horde).await;
    assert_eq!(before.0, "3.9 megapixelsteps per second");
    assert_eq!(before.1, 1);
    horde.server.stop().await;
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    assert_eq!(shown(&horde).await, before);
}

#[tokio::test]
async fn trouble_of_the_horde_is_no_drop() {
    let s3 = S3Server::start().await;
    let blobs = s3.blobs();
    let horde = TestHorde::start_with(|config| Config { blobs, ..config }).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = popped(&worker, "w").await;
    horde.later(1);
    s3.stop();
    // The result cannot be kept, so the worker gives the job up.
    let inline = ImageSubmit {
        generation: "AAAA".to_owned(),
        ..delivered(job)
    };
    let body = serde_json::to_value(&inline).unwrap();
    let refused: Answer = horde
        .post("/generate/submit", Some(&owner.api_key), &body)
        .await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let given_up = ImageSubmit {
        state: SubmitState::Faulted,
        ..delivered(job)
    };
    worker.submit_image(&given_up).await.unwrap();
    assert_eq!(uncompleted(&horde, "w").await, 0);
}
