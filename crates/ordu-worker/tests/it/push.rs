//! Hordes that have more than the protocol: they pass on how far a job is, and let a pop wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::worker::WorkKind;
use ordu_engine::{
    Finish, ProgressSink, Step, Text, TextCapabilities, TextEngine, TextError, TextTask,
};
use ordu_worker::{Classifier, Config, Phase, RemoteClassifier};
use serde_json::{Value, json};

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{
    FIND_USER, FakeHorde, POP, PROGRESS, Script, TEXT_POP, extended, id, idle, job, job_with, ok,
    outcomes, refusal, text,
};
use crate::support::http::{Answer, TestServer};
use crate::support::writer::{Program, TextRig, serve};
use crate::support::{Rig, config, within};

fn heard(watched: bool) -> Answer {
    Answer::json(200, &json!({ "watched": watched }))
}

/// The reports that came until now.
fn reports(horde: &FakeHorde) -> Vec<Value> {
    let seen = horde.seen().into_iter();
    let reports = seen.filter(|seen| seen.is("POST", PROGRESS));
    reports.map(|seen| seen.json()).collect()
}

/// Waits for a report that is as described.
async fn reported(horde: &FakeHorde, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut count = 1;
    loop {
        horde.wait_for(PROGRESS, count).await;
        let all = reports(horde);
        if let Some(found) = all.iter().find(|report| is_it(report)) {
            return found.clone();
        }
        count = all.len() + 1;
    }
}

fn dreaming(job: &Value, progress: Answer) -> Script {
    Script {
        pops: [Answer::json(200, job)].into(),
        progress: Some(progress),
        files: vec![extended(&["progress"])],
        ..Script::default()
    }
}

#[tokio::test]
async fn steps_are_told_and_pictures_only_to_who_looks() {
    let unwatched = dreaming(&job(&[1]), heard(false));
    let mut rig = Rig::start(
        FakeHorde::scripted(unwatched).await,
        Scripted::new([Plan::Hold]),
    );
    let first = reported(&rig.horde, |_| true).await;
    assert_eq!(first, json!({"id": id(1), "step": 1, "of": 2}));
    rig.engine.release();
    rig.ended(1).await;
    let all = reports(&rig.horde);
    assert!(all.iter().all(|report| report.get("preview").is_none()));
    rig.stop().await;

    let watched = dreaming(&job(&[1]), heard(true));
    let mut rig = Rig::start(
        FakeHorde::scripted(watched).await,
        Scripted::new([Plan::Hold]),
    );
    let shown = reported(&rig.horde, |report| report["preview"].is_string()).await;
    let bytes = STANDARD.decode(shown["preview"].as_str().unwrap()).unwrap();
    let picture = image::load_from_memory_with_format(&bytes, image::ImageFormat::WebP).unwrap();
    assert_eq!((picture.width(), picture.height()), (8, 8));
    rig.engine.release();
    assert_eq!(rig.ended(1).await.done, 1);
    rig.stop().await;
}

#[tokio::test]
async fn what_may_be_withheld_is_not_shown_before() {
    let judge = TestServer::start(|_| Answer::json(200, &json!({"nsfw": false, "csam": false})));
    let judge = judge.await;
    let classifier = Arc::new(RemoteClassifier::new(&judge.url).unwrap());
    let censored = json!({"use_nsfw_censor": true});
    for (payload, classifier) in [(censored, None), (json!({}), Some(classifier))] {
        let script = dreaming(&job_with(1, &json!({}), &payload), heard(true));
        let horde = FakeHorde::scripted(script).await;
        let (settings, engine) = (config(&horde), Scripted::new([Plan::Hold]));
        let classifier = classifier.map(|it| it as Arc<dyn Classifier>);
        let mut rig = Rig::start_guarded(horde, engine, settings, classifier);
        reported(&rig.horde, |_| true).await;
        rig.engine.release();
        assert_eq!(rig.ended(1).await.done, 1);
        let all = reports(&rig.horde);
        assert!(all.iter().all(|report| report.get("preview").is_none()));
        rig.stop().await;
    }
}

#[tokio::test]
async fn other_hordes_hear_nothing_and_refusals_harm_nothing() {
    let silent = Script {
        pops: [Answer::json(200, &job(&[1]))].into(),
        progress: Some(heard(true)),
        ..Script::default()
    };
    let refused = json!({"message": "no", "rc": "WrongCredentials"});
    let refusing = dreaming(&job(&[1]), Answer::json(403, &refused));
    for (script, count) in [(silent, 0), (refusing, 1)] {
        let horde = FakeHorde::scripted(script).await;
        let mut rig = Rig::start(horde, Scripted::new([Plan::Hold]));
        within(rig.engine.started(1)).await;
        if count > 0 {
            rig.horde.wait_for(PROGRESS, count).await;
        }
        rig.engine.release();
        assert_eq!(rig.ended(1).await.done, 1);
        assert_eq!(reports(&rig.horde).len(), count);
        rig.stop().await;
    }
}

/// Writes token by token, as long as the test lets it.
#[derive(Default)]
struct Slow {
    released: Arc<AtomicBool>,
}

impl TextEngine for Slow {
    fn capabilities(&self) -> Result<TextCapabilities, TextError> {
        Ok(TextCapabilities {
            vision: false,
            model: "tiny".to_owned(),
            max_length: None,
            max_context_length: None,
            soft_prompts: Vec::new(),
            engine: "slow",
            mode: "test",
        })
    }

    fn write(&self, _: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        let mut text = String::new();
        while !self.released.load(Ordering::Relaxed) {
            if progress.cancelled() {
                return Err(TextError::Cancelled);
            }
            if text.len() < 20 {
                text.push_str("word ");
            }
            progress.step(Step {
                step: 1,
                of: 20,
                preview: None,
            });
            if progress.wants_text() {
                progress.text(&text);
            }
            std::thread::yield_now();
        }
        Ok(Text {
            text,
            finish: Finish::Stop,
        })
    }
}

#[tokio::test]
async fn a_text_is_told_to_who_looks_each_part_under_its_own_id() {
    let mut two = text(1, &json!({}));
    two["ids"] = json!([id(1), id(2)]);
    let script = Script {
        text_pops: [Answer::json(200, &two)].into(),
        progress: Some(heard(true)),
        files: vec![extended(&["progress"])],
        ..Script::default()
    };
    let horde = FakeHorde::scripted(script).await;
    let (program, settings) = (serve(Program::openai([])).await, config(&horde));
    let engine = Slow::default();
    let released = engine.released.clone();
    let mut rig = TextRig::start(horde, program, Arc::new(engine), settings);
    let told = reported(&rig.horde, |report| report["text"].is_string()).await;
    assert_eq!(told["id"], id(1));
    assert!(told["text"].as_str().unwrap().starts_with("word "));
    assert!(
        reports(&rig.horde)[0].get("text").is_none(),
        "nobody may look"
    );
    released.store(true, Ordering::Relaxed);
    assert_eq!(rig.ended(1).await.texts, 2);
    rig.stop().await;
}

#[tokio::test]
async fn an_idle_worker_asks_the_horde_to_wait() {
    let script = Script {
        pops: [idle(), idle(), Answer::json(200, &job(&[1]))].into(),
        files: vec![extended(&["prefer-wait"])],
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    rig.horde.wait_for(POP, 5).await;
    let seen = rig.horde.seen();
    let pops = seen.iter().filter(|seen| seen.is("POST", POP));
    let waits: Vec<bool> = pops
        .take(5)
        .map(|pop| pop.header("prefer").is_some())
        .collect();
    assert_eq!(waits, [false, true, true, false, true]);
    let mut asked = seen.iter().filter_map(|pop| pop.header("prefer"));
    assert!(asked.all(|prefer| prefer == "wait=60"));
    rig.stop().await;
}

#[tokio::test]
async fn other_hordes_are_not_asked_to_wait() {
    let rig = Rig::start(FakeHorde::with_jobs([]).await, Scripted::new([]));
    rig.horde.wait_for(POP, 5).await;
    let seen = rig.horde.seen();
    assert!(seen.iter().all(|seen| seen.header("prefer").is_none()));
    rig.stop().await;
}

#[tokio::test]
async fn who_is_told_to_stop_waits_no_longer() {
    let script = Script {
        text_pops: [idle(), Answer::bytes(200, b"{".to_vec()).hanging()].into(),
        files: vec![extended(&["prefer-wait"])],
        ..Script::default()
    };
    let horde = FakeHorde::scripted(script).await;
    let rig = TextRig::openai(horde, Program::openai([])).await;
    rig.horde.wait_for(TEXT_POP, 2).await;
    let begun = tokio::time::Instant::now();
    rig.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

/// A horde that gives these answers, and then waits for ever; it can be asked to.
async fn waiting(answers: impl IntoIterator<Item = Answer>) -> FakeHorde {
    let ever = Answer::bytes(200, b"{".to_vec()).hanging();
    FakeHorde::scripted(Script {
        pops: answers.into_iter().chain([ever]).collect(),
        files: vec![extended(&["prefer-wait"])],
        ..Script::default()
    })
    .await
}

#[tokio::test]
async fn a_pop_may_wait_while_jobs_are_done() {
    let jobs = [1, 2].map(|number| Answer::json(200, &job(&[number])));
    let horde = waiting(jobs.into_iter().chain([idle()])).await;
    let engine = Scripted::new([Plan::Draw(1), Plan::Hold]);
    let mut rig = Rig::start(horde, engine);
    rig.horde.wait_for(POP, 4).await;
    within(rig.engine.started(2)).await;
    rig.engine.release();
    assert_eq!(rig.ended(2).await.done, 2);
    assert_eq!(rig.horde.pops().len(), 4, "one at a time");
    rig.stop().await;
}

#[tokio::test]
async fn other_settings_are_offered_though_a_pop_still_waits() {
    let rig = Rig::start(waiting([idle()]).await, Scripted::new([]));
    rig.horde.wait_for(POP, 2).await;
    rig.change(|config| config.max_power = 64);
    rig.horde.wait_for(POP, 3).await;
    let pops = rig.horde.pops();
    assert_ne!(pops[1]["max_pixels"], 64 * 32_768);
    assert_eq!(pops[2]["max_pixels"], 64 * 32_768);
    rig.stop().await;
}

#[tokio::test]
async fn a_pause_ends_a_pop_that_waits() {
    let mut rig = Rig::start(waiting([idle()]).await, Scripted::new([]));
    rig.horde.wait_for(POP, 2).await;
    assert!(rig.controls.toggle_pause());
    rig.until(|status| status.phase == Phase::OnHold).await;
    assert_eq!(rig.horde.pops().len(), 2);
    assert!(!rig.controls.toggle_pause());
    rig.horde.wait_for(POP, 3).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_is_free_again_is_offered_though_a_pop_still_waits() {
    let jobs = [1, 2, 3].map(|number| Answer::json(200, &job(&[number])));
    let horde = waiting(jobs.into_iter().chain([idle()])).await;
    let settings = Config {
        queue_size: 2,
        ..config(&horde)
    };
    let engine = Scripted::with_models(&["test", "other"], [Plan::Draw(1), Plan::Hold]);
    let mut rig = Rig::start_with(horde, engine, settings);
    rig.horde.wait_for(POP, 5).await;
    rig.engine.release();
    rig.ended(3).await;
    rig.horde.wait_for(POP, 6).await;
    let pops = rig.horde.pops();
    assert_eq!(pops[4]["models"], json!(["other"]));
    assert_eq!(pops[5]["models"], json!(["test", "other"]));
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_came_is_offered_though_a_pop_still_waits() {
    let rig = Rig::start(waiting([idle()]).await, Scripted::new([]));
    rig.horde.wait_for(POP, 2).await;
    rig.engine.gain("other");
    rig.controls.stir();
    rig.horde.wait_for(POP, 3).await;
    assert_eq!(rig.horde.pops()[2]["models"], json!(["test", "other"]));
    rig.stop().await;
}

#[tokio::test]
async fn a_pop_waits_on_if_there_is_nothing_else_to_offer() {
    let rig = Rig::start(waiting([idle()]).await, Scripted::new([]));
    rig.horde.wait_for(POP, 2).await;
    let mut asked = rig.engine.asked();
    asked.mark_unchanged();
    rig.controls.stir();
    within(asked.changed()).await.unwrap();
    rig.change(|config| config.max_power = 64);
    rig.horde.wait_for(POP, 3).await;
    assert_eq!(rig.horde.pops()[2]["max_pixels"], 64 * 32_768);
    rig.stop().await;
}

/// The horde may give a job away at the very moment in which another offer is on its way.
#[tokio::test]
async fn a_job_for_an_offer_that_was_just_taken_back_is_done() {
    let late = Answer::json(200, &job(&[1])).after(3);
    let horde = FakeHorde::scripted(Script {
        pops: [idle(), late].into(),
        files: vec![extended(&["prefer-wait"])],
        ..Script::default()
    })
    .await;
    // There is one place, and the pop that comes next has it.
    let settings = Config {
        queue_size: 0,
        ..config(&horde)
    };
    let mut rig = Rig::start_with(horde, Scripted::new([]), settings);
    rig.horde.wait_for(POP, 2).await;
    rig.change(|config| config.max_power = 64);
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1)]);
    rig.stop().await;
}

#[tokio::test]
async fn who_may_serve_everybody_again_asks_at_once() {
    let horde = FakeHorde::scripted(Script {
        pops: [refusal(403, "WorkerMaintenance", "new fans")].into(),
        ..Script::default()
    })
    .await;
    let mut settings = config(&horde);
    settings.timing.maintenance = std::time::Duration::from_hours(1);
    let mut rig = Rig::start_with(horde, Scripted::new([]), settings);
    rig.until(|status| matches!(status.phase, Phase::Maintenance(_)))
        .await;
    rig.controls.stir();
    rig.until(|status| status.phase == Phase::Serving).await;
    rig.stop().await;
}

#[tokio::test]
async fn names_and_the_owners_account_are_shown() {
    let user = json!({"username": "me#7", "kudos": 1234.5});
    let horde = FakeHorde::scripted(Script {
        files: vec![(FIND_USER, Answer::json(200, &user))],
        ..Script::default()
    })
    .await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    let status = rig.until(|status| status.account.is_some()).await;
    let account = status.account.unwrap();
    assert_eq!(account.alias, "me#7");
    assert!((account.kudos - 1234.5).abs() < f64::EPSILON);
    assert_eq!(status.names[&WorkKind::Image], "tester");
    rig.change(|config| config.worker_name = "another".to_owned());
    rig.until(|status| status.names[&WorkKind::Image] == "another")
        .await;
    rig.stop().await;
}
