//! Jobs that go well, and how they come back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ordu_worker::{Classifier, ClassifierError, Judgement, View};
use serde_json::json;

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{
    FakeHorde, SIGNATURE, Script, faulted, id, job, job_with, ok, outcomes, refusal,
};
use crate::support::http::Answer;
use crate::support::{Rig, config};

/// Checklist: PUT to a presigned URL sends no content type and does not re-encode the query.
#[tokio::test]
async fn a_job_is_sampled_uploaded_and_submitted() {
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    let status = rig.ended(1).await;
    assert_eq!((status.done, status.pictures, status.jobs.len()), (1, 1, 0));
    assert!((status.kudos - 10.5).abs() < f64::EPSILON);

    let uploads = rig.horde.uploads();
    let upload = &uploads[0];
    assert_eq!(upload.target, format!("/r2/{}.webp?{SIGNATURE}", id(1)));
    for absent in ["content-type", "apikey", "client-agent"] {
        assert_eq!(upload.header(absent), None, "{absent}");
    }
    let picture = image::load_from_memory_with_format(&upload.body, image::ImageFormat::WebP);
    assert_eq!(
        (picture.as_ref().unwrap().width(), picture.unwrap().height()),
        (64, 64)
    );

    let expected = json!({
        "id": id(1), "generation": "R2", "state": "ok", "seed": 7, "gen_metadata": []
    });
    assert_eq!(rig.horde.submits(), [expected]);
    let task = &rig.engine.tasks()[0];
    assert_eq!(
        (task.prompt.as_str(), task.negative_prompt.as_str()),
        ("a cat", "a dog")
    );
    assert_eq!((task.steps, task.seed), (2, 7));
    rig.stop().await;
}

#[tokio::test]
async fn a_batch_is_one_task_and_each_picture_goes_to_its_own_address() {
    let horde = FakeHorde::with_jobs([job(&[1, 2, 3])]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    assert_eq!(rig.ended(1).await.pictures, 3);
    assert_eq!(rig.engine.tasks()[0].batch, 3);

    let mut bodies = std::collections::BTreeSet::new();
    for upload in rig.horde.uploads() {
        bodies.insert(upload.body);
    }
    assert_eq!(bodies.len(), 3, "each picture differs");
    let submits = rig.horde.submits();
    assert_eq!(outcomes(&submits), [ok(1), ok(2), ok(3)]);
    for submit in submits {
        let place = ["1", "2", "3"]
            .iter()
            .position(|n| submit["id"].as_str().unwrap().ends_with(n));
        let expected = json!([{"type": "batch_index", "value": "see_ref",
                               "ref": place.unwrap().to_string()}]);
        assert_eq!(submit["gen_metadata"], expected);
    }
    rig.stop().await;
}

/// Checklist: unknown keys in any response are ignored.
#[tokio::test]
async fn unknown_members_and_odd_types_do_no_harm() {
    let odd = job_with(
        1,
        &json!({"news": [1], "ttl": "150", "ids": null}),
        &json!({
            "seed": 4_294_967_295_u32, "ddim_steps": "2", "n_iter": null, "unheard": {},
            "cfg_scale": "x", "sampler_name": 5
        }),
    );
    let mut rig = Rig::start(FakeHorde::with_jobs([odd]).await, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.horde.submits()[0]["seed"], json!(4_294_967_295_u32));
    rig.stop().await;
}

#[tokio::test]
async fn without_an_address_the_picture_travels_inside_the_submit() {
    let bare = job_with(
        1,
        &json!({"r2_upload": null, "r2_uploads": null}),
        &json!({}),
    );
    let mut rig = Rig::start(FakeHorde::with_jobs([bare]).await, Scripted::new([]));
    rig.ended(1).await;
    assert!(rig.horde.uploads().is_empty());
    let submits = rig.horde.submits();
    let bytes = STANDARD
        .decode(submits[0]["generation"].as_str().unwrap())
        .unwrap();
    assert!(bytes.starts_with(b"RIFF"));
    rig.stop().await;
}

#[tokio::test]
async fn a_missing_seed_is_chosen() {
    let unseeded = |number| job_with(number, &json!({}), &json!({"seed": null}));
    let horde = FakeHorde::with_jobs([unseeded(1), unseeded(2)]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    rig.ended(2).await;
    let seeds: Vec<_> = rig.engine.tasks().iter().map(|task| task.seed).collect();
    assert_ne!(seeds[0], seeds[1]);
    assert!(seeds.iter().all(|seed| u32::try_from(*seed).is_ok()));
    rig.stop().await;
}

#[tokio::test]
async fn a_duplicate_counts_as_delivered() {
    let script = Script {
        pops: [Answer::json(200, &job(&[1]))].into(),
        submits: [refusal(400, "DuplicateGen", "no")].into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.stop().await.faulted, 0);
}

#[tokio::test]
async fn a_job_that_the_horde_gave_up_is_dropped() {
    let script = Script {
        pops: [job(&[1]), job(&[2])]
            .iter()
            .map(|job| Answer::json(200, job))
            .collect(),
        submits: [
            refusal(404, "InvalidJobID", "no"),
            refusal(400, "AbortedGen", "no"),
        ]
        .into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert_eq!(rig.ended(2).await.lost, 2);
    assert_eq!(rig.horde.submits().len(), 2, "none was tried again");
    rig.stop().await;
}

#[tokio::test]
async fn outages_while_submitting_are_waited_out() {
    let down = || Answer::json(503, &json!({"message": "busy"}));
    let limited = Answer::json(429, &json!({"message": "slow"})).with("retry-after", "0");
    let script = Script {
        pops: [Answer::json(200, &job(&[1]))].into(),
        submits: [down(), Answer::hang_up(), limited, down(), down()].into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    assert!(rig.horde.submits().len() >= 6);
    rig.stop().await;
}

async fn upload_refused(times: usize) -> Rig {
    let refused = || Answer::bytes(403, b"<Error/>".to_vec());
    let script = Script {
        pops: [Answer::json(200, &job(&[1]))].into(),
        uploads: std::iter::repeat_with(refused).take(times).collect(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    rig.ended(1).await;
    rig
}

#[tokio::test]
async fn a_refused_upload_is_tried_again() {
    let rig = upload_refused(9).await;
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1)]);
    assert_eq!(rig.horde.uploads().len(), 10);
    rig.stop().await;
}

#[tokio::test]
async fn an_upload_refused_ten_times_is_a_fault() {
    let rig = upload_refused(10).await;
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1)]);
    assert_eq!(rig.stop().await.faulted, 1);
}

/// Checklist: transparent pictures survive WebP and safety.
#[tokio::test]
async fn a_transparent_picture_arrives_transparent_though_somebody_looks_at_it() {
    let horde =
        FakeHorde::with_jobs([job_with(1, &json!({}), &json!({"transparent": true}))]).await;
    let config = config(&horde);
    let looks: Arc<dyn Classifier> = Arc::new(Trusting);
    let engine = Scripted::new([Plan::Clear]).foreign();
    let mut rig = Rig::start_guarded(horde, engine, config, Some(looks));
    assert_eq!(rig.ended(1).await.done, 1);
    assert!(rig.engine.tasks()[0].transparent);
    let arrived = image::load_from_memory(&rig.horde.uploads()[0].body).unwrap();
    assert!(arrived.color().has_alpha());
    assert_eq!(arrived.to_rgba8().get_pixel(0, 0)[3], 0);
    rig.stop().await;
}

/// Sees nothing to object to.
#[derive(Debug)]
struct Trusting;

impl Classifier for Trusting {
    fn judge<'a>(&'a self, _: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>> {
        async { Ok(Judgement::default()) }.boxed()
    }
}
