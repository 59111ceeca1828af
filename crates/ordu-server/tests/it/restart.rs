//! What was acknowledged is there after the end of the process, however it ended.

use std::path::Path;

use ordu_api::image::{DRAIN, Metadata, SubmitState};
use ordu_api::{ApiKey, ReturnCode};
use ordu_core::image::ImageSpec;
use ordu_core::model_reference::ModelReference;
use ordu_core::pricing::image::estimate;
use ordu_server::{BlobPlace, Config};

use crate::s3::S3Server;
use crate::support::{TestHorde, deliver_all, delivered, pop, request};

#[tokio::test]
async fn a_restart_brings_back_queue_jobs_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobPlace::Folder(folder.path().join("blobs"));
    restarts(folder.path(), &blobs).await;
}

#[tokio::test]
async fn a_restart_brings_back_what_lies_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Server::start().await;
    restarts(folder.path(), &s3.blobs()).await;
}

async fn start(folder: &Path, blobs: &BlobPlace, listen: &str) -> TestHorde {
    TestHorde::start_with(|config| Config {
        listen: listen.parse().unwrap(),
        database: format!("sqlite://{}", folder.join("ordu.db").display()),
        blobs: blobs.clone(),
        ..config
    })
    .await
}

async fn restarts(folder: &Path, blobs: &BlobPlace) {
    let horde = start(folder, blobs, "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let client = horde.anonymous();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.async_image(&request()).await.unwrap().id);
    }
    let finished = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &finished).await;
    let running = worker.pop_image(&pop("w")).await.unwrap();
    // The same address again: links that were handed out stay good.
    let address = horde.server.address().to_string();
    horde.server.stop().await;

    let horde = start(folder, blobs, &address).await;
    let (worker, client) = (horde.client(&owner.api_key), horde.anonymous());
    // Whoever never heard the answer to a result hands it back once more.
    let again = delivered(finished.id.unwrap());
    let refused = worker.submit_image(&again).await.unwrap_err();
    assert!(refused.is(ReturnCode::DuplicateGen), "{refused:?}");
    let states: Vec<_> = [
        client.check(ids[0]).await.unwrap(),
        client.check(ids[1]).await.unwrap(),
        client.check(ids[2]).await.unwrap(),
    ]
    .iter()
    .map(|progress| (progress.finished, progress.processing, progress.waiting))
    .collect();
    assert_eq!(states, [(1, 0, 0), (0, 1, 0), (0, 0, 1)]);
    let status = client.status(ids[0]).await.unwrap();
    let picture = &status.generations[0].img;
    assert!(client.download(picture, 1000).await.is_ok(), "{picture}");

    deliver_all(&worker, &running).await;
    let last = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &last).await;
    for id in ids {
        assert!(client.check(id).await.unwrap().done);
    }
    assert_eq!(
        horde.server.store().ledger_sum().await.unwrap(),
        ordu_core::Kudos::ZERO
    );
}

/// Two balances, one that covers two requests to the millikudo, one that is a kudo short of that.
#[tokio::test]
async fn a_restart_forgets_no_hold() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let mut fast = request();
    fast.slow_workers = false;
    let spec = ImageSpec {
        models: fast.models.clone(),
        slow_workers: false,
        ..ImageSpec::default()
    };
    let upfront = estimate(&spec, &ModelReference::default()).upfront.as_f64();
    // The floor, an activation, and two holds.
    let enough = 25.0 + 3.0 + 2.0 * upfront;
    let (able, short) = (
        horde.user("able", enough).await,
        horde.user("short", enough - 1.0).await,
    );
    let body = serde_json::to_value(&fast).unwrap();
    let ask = async |horde: &TestHorde, key: &ApiKey| {
        let answer = horde.post("/generate/async", Some(key), &body).await;
        answer.status
    };
    for user in [&able, &short] {
        assert_eq!(ask(&horde, &user.api_key).await, 202);
    }
    horde.server.stop().await;

    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    assert_eq!(ask(&horde, &short.api_key).await, 403);
    assert_eq!(ask(&horde, &able.api_key).await, 202);
    assert_eq!(ask(&horde, &able.api_key).await, 403);
}

#[tokio::test]
async fn a_fault_that_was_nobodys_counts_nowhere_after_a_restart_either() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobPlace::Folder(folder.path().join("blobs"));
    let horde = start(folder.path(), &blobs, "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    for name in ["w1", "w2", "w3"] {
        let job = worker.pop_image(&pop(name)).await.unwrap().id.unwrap();
        let mut drained = delivered(job);
        drained.state = SubmitState::Faulted;
        drained.gen_metadata = vec![Metadata {
            kind: "information".to_owned(),
            value: "see_ref".to_owned(),
            reference: Some(DRAIN.to_owned()),
        }];
        worker.submit_image(&drained).await.unwrap();
    }
    horde.server.stop().await;

    let horde = start(folder.path(), &blobs, "127.0.0.1:0").await;
    horde.server.settle_down().await.unwrap();
    let progress = horde.anonymous().check(id).await.unwrap();
    assert_eq!((progress.waiting, progress.faulted), (1, false));
}
