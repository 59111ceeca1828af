//! A worker that is steered while it works: other settings, a pause.

use ordu_worker::{Config, Phase, Stage, Status};
use serde_json::json;

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{
    FakeHorde, POP, Script, faulted, idle, job, job_with, ok, outcomes, refusal,
};
use crate::support::{Rig, config};

/// Waits for a pop that comes after this moment.
async fn next_pop(rig: &Rig) -> serde_json::Value {
    // The one after next was begun after this moment.
    let known = rig.horde.pops().len();
    rig.horde.wait_for(POP, known + 2).await;
    rig.horde.pops().last().unwrap().clone()
}

#[tokio::test]
async fn new_settings_are_in_the_next_pop_and_no_job_is_lost() {
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let engine = Scripted::with_models(&["test", "other"], [Plan::Hold]);
    let mut rig = Rig::start(horde, engine);
    rig.engine.started(1).await;
    let told = rig.change(|config| {
        config.worker_name = "another".to_owned();
        config.models_to_load = vec!["other".to_owned()];
        config.max_power = 64;
        config.nsfw = false;
        config.allow_painting = false;
        config.blacklist = vec!["word".to_owned()];
        config.api_key = ordu_api::ApiKey::new("another key");
    });
    assert_eq!(told, ["api_key"]);
    rig.engine.release();
    assert_eq!(rig.ended(1).await.done, 1);
    let pop = next_pop(&rig).await;
    assert_eq!(pop["name"], "another");
    assert_eq!(pop["models"], json!(["other"]));
    assert_eq!(pop["max_pixels"], 64 * 32_768);
    assert_eq!(pop["nsfw"], false);
    assert_eq!(pop["allow_painting"], false);
    assert_eq!(pop["blacklist"], json!(["word"]));
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1)]);
    rig.stop().await;
}

#[tokio::test]
async fn a_new_blacklist_holds_for_the_next_job() {
    let named = |number| job_with(number, &json!({}), &json!({"prompt": "a cat"}));
    let horde = FakeHorde::with_jobs([named(1), named(2), named(3)]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Hold]));
    rig.engine.started(2).await;
    rig.change(|config| config.blacklist = vec!["CAT".to_owned()]);
    rig.engine.release();
    rig.ended(3).await;
    let outcomes = outcomes(&rig.horde.submits());
    assert_eq!(outcomes[..2], [ok(1), ok(2)]);
    // It may have been popped and let through before.
    assert!(outcomes[2] == faulted(3) || outcomes[2] == ok(3));
    rig.change(|config| config.blacklist.clear());
    assert_eq!(next_pop(&rig).await["blacklist"], json!([]));
    rig.stop().await;
}

#[tokio::test]
async fn threads_come_and_go() {
    let horde = FakeHorde::with_jobs((1..=4).map(|number| job(&[number]))).await;
    let config = Config {
        queue_size: 0,
        ..config(&horde)
    };
    let plans = [Plan::Draw(1), Plan::Hold, Plan::Hold, Plan::Hold];
    let mut rig = Rig::start_with(horde, Scripted::new(plans), config);
    rig.engine.started(2).await;
    assert_eq!(rig.horde.pops().len(), 2, "there is one thread");
    rig.change(|config| config.max_threads = 2);
    rig.engine.started(3).await;
    rig.change(|config| config.max_threads = 1);
    rig.engine.release();
    rig.ended(2).await;
    // One thread is left, and taken.
    assert_eq!(rig.engine.tasks().len(), 3);
    rig.engine.release();
    rig.engine.started(4).await;
    rig.engine.release();
    assert_eq!(rig.ended(4).await.done, 4);
    rig.stop().await;
}

#[tokio::test]
async fn a_job_that_waits_is_begun_when_a_thread_is_added() {
    let horde = FakeHorde::with_jobs((1..=3).map(|number| job(&[number]))).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Hold]));
    rig.engine.started(2).await;
    let third = |status: &Status| status.jobs.iter().any(|job| job.stage == Stage::Ready);
    rig.until(third).await;
    rig.change(|config| config.max_threads = 2);
    assert_eq!(rig.ended(2).await.done, 2);
    rig.engine.release();
    assert_eq!(rig.ended(3).await.done, 3);
    rig.stop().await;
}

#[tokio::test]
async fn a_paused_worker_pops_nothing_until_it_goes_on() {
    let horde = FakeHorde::with_jobs([]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    rig.horde.wait_for(POP, 1).await;
    assert!(rig.controls.toggle_pause());
    rig.until(|status| status.phase == Phase::OnHold).await;
    let known = rig.horde.pops().len();
    assert!(!rig.controls.toggle_pause());
    rig.until(|status| status.phase == Phase::Serving).await;
    rig.horde.wait_for(POP, known + 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_paused_worker_ends_as_any_other() {
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Hold]));
    rig.engine.started(1).await;
    rig.controls.toggle_pause();
    rig.until(|status| status.phase == Phase::OnHold).await;
    rig.engine.release();
    let status = rig.stop().await;
    assert_eq!((status.done, status.phase), (1, Phase::Stopped));
}

#[tokio::test]
async fn what_happened_is_counted() {
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Fail]));
    rig.ended(2).await;
    rig.horde.wait_for(POP, 4).await;
    let status = rig.stop().await;
    assert_eq!(status.pops["job"], 2);
    assert!(status.pops["nothing"] >= 1);
    assert_eq!(status.faults["engine_refused"], 1);
    assert_eq!(status.skipped["a_new_reason"], 2);
    assert_eq!(status.seconds["generating"].count(), 2);
    assert_eq!(status.seconds["delivering"].count(), 1);
    assert!((status.earned.total() - 10.5).abs() < f64::EPSILON);
}

/// Memory is for whoever else wants the machine meanwhile.
#[tokio::test]
async fn who_pauses_lets_go_of_models_once_its_jobs_are_done() {
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Hold]));
    rig.engine.started(1).await;
    rig.controls.toggle_pause();
    rig.until(|status| status.phase == Phase::OnHold).await;
    rig.engine.release();
    rig.engine.rested(1).await;
    rig.controls.toggle_pause();
    rig.until(|status| status.phase == Phase::Serving).await;
    rig.controls.toggle_pause();
    rig.engine.rested(2).await;
    rig.stop().await;
}

#[tokio::test]
async fn who_is_in_maintenance_lets_go_of_models() {
    let refused = refusal(403, "WorkerMaintenance", "new fans");
    let horde = FakeHorde::scripted(Script {
        pops: [refused.clone(), refused, idle()].into(),
        ..Script::default()
    })
    .await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    rig.engine.rested(1).await;
    rig.until(|status| status.phase == Phase::Serving).await;
    rig.stop().await;
}
