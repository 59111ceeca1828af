//! What is offered, how often, and what refusals lead to.

use ordu_worker::{Phase, RunError};
use serde_json::{Value, json};

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{FakeHorde, POP, SUBMIT, Script, idle, job, refusal};
use crate::support::http::Answer;
use crate::support::{KEY, Rig, config};

#[tokio::test]
async fn a_pop_says_what_the_worker_can_do() {
    let horde = FakeHorde::with_jobs([]).await;
    let mut config = config(&horde);
    config.allow_unsafe_ip = false;
    config.max_power = 2;
    config.blacklist = vec!["word".to_owned()];
    config.priority_usernames = vec!["friend#7".to_owned()];
    let rig = Rig::start_with(horde, Scripted::new([]), config);
    rig.horde.wait_for(POP, 1).await;
    let pop = &rig.horde.pops()[0];
    assert_eq!(pop["name"], "tester");
    assert_eq!(pop["models"], json!(["test"]));
    assert_eq!(pop["max_pixels"], 65_536);
    assert_eq!(pop["allow_unsafe_ipaddr"], false);
    assert_eq!(pop["blacklist"], json!(["word"]));
    assert_eq!(pop["priority_usernames"], json!(["friend#7"]));
    assert!(
        pop["bridge_agent"]
            .as_str()
            .unwrap()
            .starts_with("Ordu Worker:")
    );
    let words = pop["capabilities"].as_array().unwrap();
    for word in ["img2img", "karras", "r2", "k_euler_a"] {
        assert!(words.contains(&json!(word)), "{word}");
    }
    let seen = rig.horde.seen();
    let pop = seen.iter().find(|seen| seen.is("POST", POP)).unwrap();
    assert_eq!(pop.header("apikey"), Some(KEY));
    rig.stop().await;
}

/// The kinds of calls, in their order: pops that found a job, and submits.
fn order(horde: &FakeHorde) -> Vec<&'static str> {
    let seen = horde.seen();
    let calls = seen.iter().filter_map(|seen| match () {
        () if seen.is("POST", POP) => Some("pop"),
        () if seen.is("POST", SUBMIT) => Some("submit"),
        () => None,
    });
    calls.collect()
}

#[tokio::test]
async fn the_first_job_comes_back_before_the_second_is_popped() {
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2])]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    rig.ended(2).await;
    assert_eq!(order(&rig.horde)[..3], ["pop", "submit", "pop"]);
    rig.stop().await;
}

#[tokio::test]
async fn the_next_job_is_popped_and_fetched_while_one_is_sampled() {
    let with_source = |number| {
        let mut job = job(&[number]);
        job["source_image"] = json!("{here}/source");
        job
    };
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2]), with_source(3), job(&[4])]).await;
    // The first one proves that the worker works; the second occupies the engine.
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Hold]));
    rig.until(|status| status.done == 1 && status.jobs.len() == 2)
        .await;
    let ready = ordu_worker::Stage::Ready;
    let status = rig
        .until(|status| status.jobs.iter().any(|job| job.stage == ready))
        .await;
    assert_eq!(
        status.jobs.len(),
        2,
        "one is sampled, one waits, and no more are popped"
    );
    assert!(
        rig.horde
            .seen()
            .iter()
            .any(|seen| seen.is("GET", "/source"))
    );
    rig.engine.release();
    assert_eq!(rig.ended(4).await.done, 4);
    rig.stop().await;
}

#[tokio::test]
async fn several_threads_sample_at_the_same_time() {
    let horde = FakeHorde::with_jobs((1..=4).map(|number| job(&[number]))).await;
    let mut config = config(&horde);
    config.max_threads = 3;
    config.queue_size = 0;
    let plans = [Plan::Draw(1), Plan::Hold, Plan::Hold, Plan::Hold];
    let mut rig = Rig::start_with(horde, Scripted::new(plans), config);
    rig.engine.started(4).await;
    for _ in 0..3 {
        rig.engine.release();
    }
    assert_eq!(rig.ended(4).await.done, 4);
    rig.stop().await;
}

#[tokio::test]
async fn refusals_and_outages_do_not_end_it() {
    let script = Script {
        pops: [
            Answer::hang_up(),
            Answer::json(503, &json!({})),
            Answer::json(429, &json!({"message": "2 per 1 second"})).with("retry-after", "0"),
            refusal(403, "WrongCredentials", "wrong credentials"),
            Answer::bytes(200, b"<html>".to_vec()),
            Answer::json(200, &job(&[1])),
        ]
        .into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    let status = rig.ended(1).await;
    assert_eq!(status.done, 1);
    assert!(status.last_error.is_some());
    rig.stop().await;
}

#[tokio::test]
async fn maintenance_is_shown_and_own_jobs_are_still_served() {
    let script = Script {
        pops: [
            refusal(403, "WorkerMaintenance", "gone fishing"),
            refusal(403, "WorkerMaintenance", "gone fishing"),
            Answer::json(200, &job(&[1])),
        ]
        .into(),
        ..Script::default()
    };
    let mut rig = Rig::start(
        FakeHorde::scripted(script).await,
        Scripted::new([Plan::Hold]),
    );
    let shown = rig
        .until(|status| matches!(status.phase, Phase::Maintenance(_)))
        .await;
    assert!(matches!(shown.phase, Phase::Maintenance(reason) if reason.contains("fishing")));
    rig.engine.started(1).await;
    rig.engine.release();
    assert_eq!(rig.ended(1).await.done, 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_key_ends_it() {
    let script = Script {
        pops: [refusal(401, "InvalidAPIKey", "who are you")].into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert!(matches!(rig.end().await, Err(RunError::KeyRefused(_))));
    assert_eq!(rig.status.borrow().phase, Phase::Stopped);
}

#[tokio::test]
async fn a_model_that_the_horde_does_not_accept_is_offered_no_more() {
    let words = "Unfortunately we cannot accept workers serving other";
    let script = Script {
        pops: [refusal(400, "BadRequest", words), idle()].into(),
        ..Script::default()
    };
    let engine = Scripted::with_models(&["test", "other"], []);
    let rig = Rig::start(FakeHorde::scripted(script).await, engine);
    rig.horde.wait_for(POP, 2).await;
    assert_eq!(rig.horde.pops()[1]["models"], json!(["test"]));
    rig.stop().await;
}

#[tokio::test]
async fn without_models_nothing_is_popped() {
    let horde = FakeHorde::with_jobs([]).await;
    let mut config = config(&horde);
    config.models_to_load = vec!["absent".to_owned()];
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    rig.until(|status| status.phase == Phase::NothingToOffer)
        .await;
    assert!(rig.horde.pops().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn news_is_heard_once() {
    let news = |body: Value| {
        let mut idle = json!({"id": null, "payload": {}});
        idle["messages"] = body;
        Answer::json(200, &idle)
    };
    let hello = json!([{"id": "1", "message": "hello", "origin": null, "expiry": null}]);
    let script = Script {
        pops: [
            news(hello.clone()),
            news(hello),
            Answer::json(200, &job(&[1])),
        ]
        .into(),
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    let messages = rig.ended(1).await.messages;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].message, "hello");
    rig.stop().await;
}

#[tokio::test]
async fn a_wrong_configuration_does_not_start() {
    let horde = FakeHorde::with_jobs([]).await;
    let mut config = config(&horde);
    config.max_threads = 0;
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    assert!(matches!(rig.end().await, Err(RunError::Config(_))));
}
