//! The whole way of a request.

use std::collections::BTreeSet;

use ordu_api::ReturnCode;
use ordu_api::image::{ImageRequest, SubmitState};
use ordu_server::Config;

use crate::s3::S3Server;
use crate::support::{PICTURE, TestHorde, deliver_all, delivered, on_each_database, pop, request};

#[tokio::test]
async fn a_picture_walks_from_request_to_download() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde = TestHorde::start_with(|config| Config { database, ..config }).await;
        walk(&horde, "w").await;
    })
    .await;
}

#[tokio::test]
async fn a_picture_walks_through_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    walk(&horde, "w").await;
}

#[tokio::test]
async fn a_picture_walks_through_a_bucket() {
    let s3 = S3Server::start().await;
    let horde = TestHorde::start_with(|config| Config {
        blobs: s3.blobs(),
        ..config
    });
    walk(&horde.await, "w").await;
}

async fn walk(horde: &TestHorde, name: &str) {
    let (owner, requester) = (
        horde.user(&format!("owner of {name}"), 0.0).await,
        horde.user(&format!("asker of {name}"), 100.0).await,
    );
    let (worker, client) = (
        horde.client(&owner.api_key),
        horde.client(&requester.api_key),
    );

    let accepted = client.async_image(&request()).await.unwrap();
    assert_eq!(accepted.warnings.first().unwrap().code, "NoAvailableWorker");
    let before = client.check(accepted.id).await.unwrap();
    assert_eq!(
        (before.waiting, before.queue_position, before.is_possible),
        (1, 1, false)
    );

    let job = worker.pop_image(&pop(name)).await.unwrap();
    assert_eq!(job.model.as_deref(), Some("ordu-tiny"));
    assert_eq!(job.payload.prompt.as_deref(), Some("a red circle###blur"));
    assert_eq!((job.payload.ddim_steps, job.payload.n_iter), (30, 1));
    let during = client.check(accepted.id).await.unwrap();
    assert_eq!(
        (during.processing, during.queue_position, during.done),
        (1, 0, false)
    );

    let rewards = deliver_all(&worker, &job).await;
    assert!(rewards[0] > 0.0);
    let status = client.status(accepted.id).await.unwrap();
    assert!(status.progress.done);
    let generation = &status.generations[0];
    assert_eq!(
        (generation.seed.as_str(), generation.state.as_str()),
        ("7", "ok")
    );
    assert_eq!(generation.worker_name, name);
    assert_eq!(
        client.download(&generation.img, 1000).await.unwrap(),
        PICTURE
    );
    assert_eq!(
        horde.server.store().ledger_sum().await.unwrap(),
        ordu_core::Kudos::ZERO
    );
}

#[tokio::test]
async fn a_batch_gives_every_slot_once() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let workers = [
        ("w1", horde.client(&owner.api_key)),
        ("w2", horde.client(&owner.api_key)),
    ];
    let mut wanted = request();
    wanted.params.n = Some(4);
    let anonymous = horde.anonymous();
    let mut requests = Vec::new();
    for _ in 0..10 {
        requests.push(anonymous.async_image(&wanted).await.unwrap().id);
    }
    let mut given = BTreeSet::new();
    loop {
        let mut idle = 0;
        for (name, worker) in &workers {
            let job = worker.pop_image(&pop(name)).await.unwrap();
            idle += usize::from(job.ids.is_empty());
            for id in &job.ids {
                assert!(given.insert(*id), "{id} was given twice");
            }
            if !job.ids.is_empty() {
                deliver_all(worker, &job).await;
            }
        }
        if idle == workers.len() {
            break;
        }
    }
    assert_eq!(given.len(), 40);
    for id in requests {
        let status = anonymous.status(id).await.unwrap();
        assert!(status.progress.done);
        assert_eq!(status.generations.len(), 4);
    }
    assert_eq!(
        horde.server.store().ledger_sum().await.unwrap(),
        ordu_core::Kudos::ZERO
    );
}

#[tokio::test]
async fn a_fault_gives_the_job_to_the_next_worker() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let job = worker.pop_image(&pop("w1")).await.unwrap();
    let mut fault = delivered(job.id.unwrap());
    fault.state = SubmitState::Faulted;
    for _ in 0..2 {
        assert!(worker.submit_image(&fault).await.unwrap().reward.abs() < f64::EPSILON);
    }
    let progress = horde.anonymous().check(id).await.unwrap();
    assert_eq!(
        (progress.waiting, progress.restarted, progress.processing),
        (1, 1, 0)
    );
    assert!(worker.pop_image(&pop("w2")).await.unwrap().id.is_some());
    assert!(worker.pop_image(&pop("w3")).await.unwrap().id.is_none());
}

#[tokio::test]
async fn progress_reaches_who_waits() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let other = horde.user("other", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let job = worker.pop_image(&pop("w")).await.unwrap().id.unwrap();
    let body = serde_json::json!({ "id": job, "step": 12, "of": 30 });
    let foreign = horde
        .post("/generate/progress", Some(&other.api_key), &body)
        .await;
    assert_eq!(foreign.rc(), "WrongCredentials");
    let heard = horde
        .post("/generate/progress", Some(&owner.api_key), &body)
        .await;
    assert_eq!((heard.status, &heard.body["watched"]), (200, &false.into()));
    let steps = horde.anonymous().check(id).await.unwrap().steps.unwrap();
    assert_eq!((steps.step, steps.of), (12, 30));
    worker.submit_image(&delivered(job)).await.unwrap();
    assert_eq!(horde.anonymous().check(id).await.unwrap().steps, None);
}

#[tokio::test]
async fn a_cancelled_request_gives_nothing_more_away() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let wanted = ImageRequest {
        disable_batching: false,
        ..request()
    };
    let id = horde.anonymous().async_image(&wanted).await.unwrap().id;
    for _ in 0..2 {
        horde.anonymous().cancel(id).await.unwrap();
    }
    assert!(worker.pop_image(&pop("w")).await.unwrap().id.is_none());
    assert!(horde.anonymous().check(id).await.unwrap().done);
}

#[tokio::test]
async fn threads_of_a_new_worker_may_come_at_the_same_moment() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let (owner, other) = (
            horde.user("owner", 0.0).await,
            horde.user("other", 0.0).await,
        );
        for round in 0..5 {
            let name = format!("many threads {round}");
            let mut pops = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let (worker, offer) = (horde.client(&owner.api_key), pop(&name));
                pops.spawn(async move { worker.pop_image(&offer).await.map(|job| job.id) });
            }
            for popped in pops.join_all().await {
                assert_eq!(popped.unwrap(), None);
            }
            let stranger = horde.client(&other.api_key).pop_image(&pop(&name)).await;
            assert!(stranger.unwrap_err().is(ReturnCode::WrongCredentials));
        }
        let workers = horde.get("/workers").await.body;
        assert_eq!(workers.as_array().unwrap().len(), 5);
    })
    .await;
}
