//! Jobs that fail here: the horde hears of every id, and the worker learns from it.

use std::time::Duration;

use ordu_api::worker::WorkKind;
use ordu_worker::{Config, Phase, RunError, Stage};
use serde_json::json;

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{FakeHorde, POP, faulted, id, job, job_with, ok, outcomes};
use crate::support::{Rig, config};

/// Checklist: faults are submitted for every id of a batch.
#[tokio::test]
async fn a_failed_batch_is_faulted_id_by_id() {
    for plan in [Plan::Fail, Plan::Panic, Plan::Draw(0)] {
        let horde = FakeHorde::with_jobs([job(&[1, 2, 3])]).await;
        let mut rig = Rig::start(horde, Scripted::new([plan]));
        let status = rig.ended(1).await;
        assert_eq!((status.faulted, status.done), (1, 0), "{plan:?}");
        assert!(status.last_error.is_some(), "{plan:?}");
        let submits = rig.horde.submits();
        assert_eq!(
            outcomes(&submits),
            [faulted(1), faulted(2), faulted(3)],
            "{plan:?}"
        );
        for submit in submits {
            assert_eq!(
                (&submit["generation"], &submit["seed"]),
                (&json!("faulted"), &json!(-1))
            );
        }
        rig.stop().await;
    }
}

/// Checklist: faults are submitted for every id of a batch; partial batches too.
#[tokio::test]
async fn of_a_partial_batch_only_what_is_missing_is_faulted() {
    let horde = FakeHorde::with_jobs([job(&[1, 2, 3])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(2)]));
    let status = rig.ended(1).await;
    assert_eq!((status.faulted, status.pictures), (1, 2));
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1), ok(2), faulted(3)]);
    rig.stop().await;
}

#[tokio::test]
async fn an_unknown_model_is_a_fault() {
    let foreign = job_with(1, &json!({"model": "another"}), &json!({}));
    let missing = job_with(2, &json!({"model": null}), &json!({}));
    let horde = FakeHorde::with_jobs([foreign, missing]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    assert_eq!(rig.ended(2).await.faulted, 2);
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1), faulted(2)]);
    rig.stop().await;
}

#[tokio::test]
async fn what_does_not_get_done_in_time_is_cancelled_and_faulted() {
    let horde = FakeHorde::with_jobs([job_with(1, &json!({"ttl": 1}), &json!({}))]).await;
    let mut config = config(&horde);
    config.timing.deadline_margin = Duration::from_millis(900);
    let mut rig = Rig::start_with(horde, Scripted::new([Plan::Hold]), config);
    rig.engine.started(1).await;
    let status = rig.ended(1).await;
    assert_eq!(status.faulted, 1);
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1)]);
    // The engine gives in, so its thread is free for the next job, and the worker can end.
    rig.stop().await;
}

#[tokio::test]
async fn a_job_without_time_is_faulted_at_once() {
    let horde = FakeHorde::with_jobs([job_with(1, &json!({"ttl": 0}), &json!({}))]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    assert_eq!(rig.ended(1).await.faulted, 1);
    assert!(rig.engine.tasks().is_empty());
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1)]);
    rig.stop().await;
}

#[tokio::test]
async fn the_owners_blacklist_holds_whatever_the_horde_sends() {
    let shouted = job_with(1, &json!({}), &json!({"prompt": "a CAT"}));
    let negative = job_with(2, &json!({}), &json!({"prompt": "a bird###cats"}));
    let allowed = job_with(3, &json!({}), &json!({"prompt": "a bird"}));
    let horde = FakeHorde::with_jobs([shouted, negative, allowed]).await;
    let mut config = config(&horde);
    config.blacklist = vec!["Cat".to_owned(), " ".to_owned()];
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    rig.ended(3).await;
    assert_eq!(
        outcomes(&rig.horde.submits()),
        [faulted(1), faulted(2), ok(3)]
    );
    assert_eq!(rig.engine.tasks().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn three_failures_in_a_row_stop_the_pops() {
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2]), job(&[3]), job(&[4])]).await;
    let plans = [Plan::Fail, Plan::Fail, Plan::Fail];
    let mut rig = Rig::start(horde, Scripted::new(plans));
    let status = rig
        .until(|status| matches!(status.phase, Phase::Paused(_)))
        .await;
    assert_eq!(status.faulted, 3);
    assert_eq!(rig.horde.pops().len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_fails_three_times_is_not_offered() {
    let horde = FakeHorde::with_jobs((1..=3).map(|number| job(&[number]))).await;
    let mut config = config(&horde);
    config.timing.failure_pause = Duration::ZERO;
    let engine = Scripted::with_models(&["test", "other"], [Plan::Fail, Plan::Fail, Plan::Fail]);
    let mut rig = Rig::start_with(horde, engine, config);
    rig.ended(3).await;
    rig.horde.wait_for(crate::support::horde::POP, 4).await;
    let pops = rig.horde.pops();
    assert_eq!(pops[2]["models"], json!(["test", "other"]));
    assert_eq!(pops[3]["models"], json!(["other"]));
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_is_away_is_not_its_models_fault() {
    let horde = FakeHorde::with_jobs((1..=4).map(|number| job(&[number]))).await;
    let plans = [Plan::Gone, Plan::Gone, Plan::Gone];
    let mut rig = Rig::start(horde, Scripted::new(plans));
    let status = rig.ended(4).await;
    assert_eq!((status.done, status.faulted), (1, 3));
    assert_eq!(status.faults["engine_away"], 3);
    rig.horde.wait_for(POP, 5).await;
    assert_eq!(rig.horde.pops()[4]["models"], json!(["test"]));
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_fails_everything_does_not_take_its_models_along() {
    let horde = FakeHorde::with_jobs((1..=4).map(|number| job(&[number]))).await;
    let mut config = config(&horde);
    config.timing.failure_pause = Duration::ZERO;
    let plans = [Plan::Lie, Plan::Lie, Plan::Lie];
    let mut rig = Rig::start_with(horde, Scripted::new(plans), config);
    let status = rig.ended(4).await;
    assert_eq!((status.done, status.faults["backend_failed"]), (1, 3));
    rig.stop().await;
}

#[tokio::test]
async fn where_memory_runs_out_pictures_are_made_one_by_one() {
    let horde = FakeHorde::with_jobs([job(&[1, 2, 3])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::OutOfMemory]));
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1), ok(2), ok(3)]);
    let tasks = rig.engine.tasks();
    let tried: Vec<_> = tasks.iter().map(|task| (task.batch, task.seed)).collect();
    assert_eq!(tried, [(3, 7), (1, 7), (1, 8), (1, 9)]);
    rig.stop().await;
}

#[tokio::test]
async fn memory_that_runs_out_twice_is_a_fault() {
    let horde = FakeHorde::with_jobs([job(&[1, 2])]).await;
    let plans = [Plan::OutOfMemory, Plan::OutOfMemory];
    let mut rig = Rig::start(horde, Scripted::new(plans));
    let status = rig.ended(1).await;
    assert_eq!(status.faults["out_of_memory"], 1);
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1), faulted(2)]);
    rig.stop().await;
}

#[tokio::test]
async fn what_fails_with_every_model_is_left_out_of_the_offer() {
    let painting = json!({"source_processing": "inpainting"});
    let jobs = (1..=3).map(|number| {
        let model = if number == 2 { "other" } else { "test" };
        let mut top = painting.clone();
        top["model"] = json!(model);
        job_with(number, &top, &json!({}))
    });
    let horde = FakeHorde::with_jobs(jobs).await;
    let mut config = config(&horde);
    config.timing.failure_pause = Duration::ZERO;
    let engine = Scripted::with_models(&["test", "other"], [Plan::Fail, Plan::Fail, Plan::Fail]);
    let mut rig = Rig::start_with(horde, engine, config);
    rig.ended(3).await;
    rig.horde.wait_for(POP, 4).await;
    let pops = rig.horde.pops();
    assert_eq!(pops[2]["allow_painting"], true);
    assert_eq!(pops[3]["allow_painting"], false);
    assert_eq!(pops[3]["models"], json!(["test", "other"]));
    let status = rig.until(|status| !status.engines.is_empty()).await;
    let left_out = status.engines[&WorkKind::Image].quarantined.keys();
    assert_eq!(left_out.collect::<Vec<_>>(), ["painting"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_worker_may_be_told_to_end_where_it_would_pause() {
    let horde = FakeHorde::with_jobs((1..=3).map(|number| job(&[number]))).await;
    let config = Config {
        exit_on_unhandled_faults: true,
        ..config(&horde)
    };
    let plans = [Plan::Fail, Plan::Fail, Plan::Fail];
    let mut rig = Rig::start_with(horde, Scripted::new(plans), config);
    let ended = rig.end().await;
    assert!(matches!(ended, Err(RunError::Failing(_))), "{ended:?}");
    let all = [faulted(1), faulted(2), faulted(3)];
    assert_eq!(outcomes(&rig.horde.submits()), all);
}

#[tokio::test]
async fn the_status_shows_where_a_job_is() {
    let horde = FakeHorde::with_jobs([job(&[1, 2])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Hold]));
    let sampling = Stage::Sampling { step: 1, of: 2 };
    let status = rig
        .until(|status| status.jobs.iter().any(|job| job.stage == sampling))
        .await;
    let shown = &status.jobs[0];
    assert_eq!(
        (shown.id.to_string(), shown.model.as_str(), shown.parts),
        (id(1), "test", 2)
    );
    rig.engine.release();
    assert!(rig.ended(1).await.jobs.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_is_gone_is_nobodys_failure() {
    let horde = FakeHorde::with_jobs((1..=5).map(|number| job(&[number]))).await;
    let plans = [Plan::Draw(1), Plan::Gone, Plan::Gone, Plan::Gone];
    let mut rig = Rig::start(horde, Scripted::new(plans));
    let status = rig.ended(5).await;
    assert_eq!((status.done, status.faulted), (2, 3));
    assert!(status.last_error.unwrap().contains("cannot be reached"));
    let expected = [ok(1), faulted(2), faulted(3), faulted(4), ok(5)];
    assert_eq!(outcomes(&rig.horde.submits()), expected);
    // No pause, no quarantine: the engine itself says when it can do something again.
    for pop in rig.horde.pops().iter().take(5) {
        assert_eq!(pop["models"], json!(["test"]));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_answers_nonsense_pauses_the_worker_and_no_model() {
    let horde = FakeHorde::with_jobs((1..=4).map(|number| job(&[number]))).await;
    let mut config = config(&horde);
    config.timing.failure_pause = Duration::from_millis(50);
    let engine = Scripted::new([Plan::Lie, Plan::Lie, Plan::Lie]);
    let mut rig = Rig::start_with(horde, engine, config);
    let paused = rig
        .until(|status| matches!(status.phase, Phase::Paused(_)))
        .await;
    assert_eq!(paused.faulted, 3);
    assert_eq!(rig.ended(4).await.done, 1);
    assert_eq!(rig.horde.pops()[3]["models"], json!(["test"]));
    rig.stop().await;
}

/// `worker.md` § 3.7: what cannot fit is not asked for again.
#[tokio::test]
async fn smaller_pictures_are_offered_where_memory_ran_out() {
    let large = json!({"width": 1024, "height": 1024});
    let horde = FakeHorde::with_jobs([job_with(1, &json!({}), &large)]).await;
    let settings = Config {
        max_power: 64,
        ..config(&horde)
    };
    let engine = Scripted::new([Plan::OutOfMemory, Plan::OutOfMemory]);
    let mut rig = Rig::start_with(horde, engine, settings);
    rig.ended(1).await;
    let known = rig.horde.pops().len();
    rig.horde.wait_for(POP, known + 2).await;
    let pops = rig.horde.pops();
    assert_eq!(pops[0]["max_pixels"], 64 * 32_768);
    assert_eq!(pops.last().unwrap()["max_pixels"], 1024 * 1024 / 4 * 3);
    assert_eq!(rig.stop().await.faults["out_of_memory"], 1);
}
