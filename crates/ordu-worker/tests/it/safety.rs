//! Pictures that should not leave as they are, judged by a classifier behind HTTP.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_worker::{Config, RemoteClassifier};
use serde_json::{Value, json};

use crate::support::engine::Scripted;
use crate::support::horde::{FakeHorde, Script, idle, job, job_with};
use crate::support::http::{Answer, TestServer};
use crate::support::{Rig, config, logs};

/// Where the classifier is asked, with a secret of its owner's.
const JUDGE: &str = "/judge?secret=abc123";

/// A classifier that always answers the same.
async fn classifier(answer: Answer) -> (TestServer, Arc<RemoteClassifier>) {
    let server = TestServer::start(move |_| answer.clone()).await;
    let client = RemoteClassifier::new(&format!("{}{JUDGE}", server.url)).unwrap();
    (server, Arc::new(client))
}

fn shows(nsfw: bool, csam: bool) -> Answer {
    Answer::json(200, &json!({"nsfw": nsfw, "csam": csam}))
}

/// What becomes of one job: what was submitted, and the picture that was uploaded.
struct Outcome {
    submit: Value,
    picture: Option<image::RgbaImage>,
}

async fn outcome(answer: Answer, payload: &Value, change: impl FnOnce(&mut Config)) -> Outcome {
    let (_server, classifier) = classifier(answer).await;
    let horde = FakeHorde::with_jobs([job_with(1, &json!({}), payload)]).await;
    let mut config = config(&horde);
    change(&mut config);
    let mut rig = Rig::start_guarded(horde, Scripted::new([]), config, Some(classifier));
    rig.ended(1).await;
    let picture = rig.horde.uploads().first().map(|upload| {
        let picture = image::load_from_memory_with_format(&upload.body, image::ImageFormat::WebP);
        picture.unwrap().into_rgba8()
    });
    let submit = rig.horde.submits().remove(0);
    rig.stop().await;
    Outcome { submit, picture }
}

/// `worker.md` § 4.1, row by row: what the classifier says, what job and worker ask for, and what the
/// horde is told.
///
/// Checklist: censorship reaches the server through metadata.
#[tokio::test]
async fn what_a_picture_shows_decides_how_it_leaves() {
    let nothing = json!([]);
    let told = json!([{"type": "information", "value": "nsfw"}]);
    let withheld = json!([{"type": "censorship", "value": "nsfw"}]);
    let erased = json!([{"type": "censorship", "value": "csam"}]);
    let asks = json!({"use_nsfw_censor": true});
    let plain = json!({});
    let open: fn(&mut Config) = |_| {};
    let sfw: fn(&mut Config) = |config| config.nsfw = false;
    let strict: fn(&mut Config) = |config| config.censor_nsfw = true;
    let listed: fn(&mut Config) = |config| config.censorlist = vec!["A CAT".to_owned()];
    let unlisted: fn(&mut Config) = |config| config.censorlist = vec!["a dog".to_owned()];
    let rows = [
        (shows(false, false), &asks, sfw, "ok", &nothing),
        (shows(true, false), &plain, open, "ok", &told),
        (shows(true, false), &asks, open, "censored", &withheld),
        (shows(true, false), &plain, sfw, "censored", &withheld),
        (shows(true, false), &plain, strict, "censored", &withheld),
        (shows(true, false), &plain, listed, "censored", &withheld),
        (shows(true, false), &plain, unlisted, "ok", &told),
        (shows(false, false), &plain, listed, "ok", &nothing),
        (shows(true, true), &plain, open, "csam", &erased),
        (shows(true, true), &asks, sfw, "csam", &erased),
    ];
    let original = outcome(shows(false, false), &plain, open).await.picture;
    for (place, (answer, payload, change, state, metadata)) in rows.into_iter().enumerate() {
        let Outcome { submit, picture } = outcome(answer, payload, change).await;
        assert_eq!(submit["state"], *state, "row {place}");
        assert_eq!(submit["gen_metadata"], *metadata, "row {place}");
        assert_eq!(submit["generation"], "R2", "row {place}");
        let picture = picture.unwrap();
        assert_eq!(picture.dimensions(), (64, 64), "row {place}");
        let is_original = Some(&picture) == original.as_ref();
        assert_eq!(is_original, state == "ok", "row {place}");
    }
}

#[tokio::test]
async fn the_classifier_sees_what_would_be_delivered() {
    let (server, classifier) = classifier(shows(false, false)).await;
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let config = config(&horde);
    let mut rig = Rig::start_guarded(horde, Scripted::new([]), config, Some(classifier));
    rig.ended(1).await;
    let asked = server.seen_at("POST", "/judge").remove(0).json();
    assert_eq!(asked["prompt"], "a cat###a dog");
    assert_eq!(asked["model"], "test");
    let picture = STANDARD.decode(asked["image"].as_str().unwrap()).unwrap();
    assert_eq!(picture, rig.horde.uploads()[0].body);
    rig.stop().await;
}

#[tokio::test]
async fn what_nobody_could_look_at_is_not_delivered() {
    let answers = [
        Answer::bytes(500, b"out of memory".to_vec()),
        Answer::bytes(200, b"<html>".to_vec()),
        Answer::json(200, &json!({"nsfw": true})),
        Answer::hang_up(),
        Answer::bytes(302, Vec::new()).with("location", "/elsewhere"),
    ];
    for answer in answers {
        let about = format!("{answer:?}");
        let Outcome { submit, picture } = outcome(answer, &json!({}), |_| {}).await;
        assert_eq!(submit["state"], "faulted", "{about}");
        assert!(picture.is_none(), "{about}");
    }
    let logs = logs::recorded();
    assert!(logs.contains("a picture is kept back"));
    assert!(
        !logs.contains("abc123"),
        "the secret of the address is in a log"
    );
}

#[tokio::test]
async fn each_picture_of_a_batch_is_judged_alone() {
    let judged = std::sync::atomic::AtomicUsize::new(0);
    let server = TestServer::start(move |_| {
        let before = judged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        shows(before == 0, false)
    })
    .await;
    let classifier = Arc::new(RemoteClassifier::new(&server.url).unwrap());
    let asks = json!({"use_nsfw_censor": true, "n_iter": 3});
    let mut batch = job(&[1, 2, 3]);
    let payload = batch["payload"].as_object_mut().unwrap();
    payload.extend(asks.as_object().unwrap().clone());
    let horde = FakeHorde::with_jobs([batch]).await;
    let config = config(&horde);
    let mut rig = Rig::start_guarded(horde, Scripted::new([]), config, Some(classifier));
    rig.ended(1).await;
    let submits = rig.horde.submits();
    let in_state = |state: &str| submits.iter().filter(|one| one["state"] == state).count();
    assert_eq!((in_state("censored"), in_state("ok")), (1, 2));
    rig.stop().await;
}

/// Models that could draw anything, with nobody who looks: only what is sure to be harmless is taken.
#[tokio::test]
async fn a_worker_that_cannot_look_offers_less_and_says_so() {
    let pops = [idle(), idle()].into();
    let script = Script {
        pops,
        ..Script::default()
    };
    let horde = FakeHorde::scripted(script).await;
    let rig = Rig::start(horde, Scripted::new([]).foreign());
    rig.horde.wait_for(crate::support::horde::POP, 1).await;
    assert_eq!(rig.horde.pops()[0]["nsfw"], false);
    rig.stop().await;
    assert!(logs::recorded().contains("no classifier looks at the pictures"));

    let (_server, classifier) = classifier(shows(false, false)).await;
    let horde = FakeHorde::with_jobs([]).await;
    let config = config(&horde);
    let rig = Rig::start_guarded(horde, Scripted::new([]).foreign(), config, Some(classifier));
    rig.horde.wait_for(crate::support::horde::POP, 1).await;
    assert_eq!(rig.horde.pops()[0]["nsfw"], true);
    rig.stop().await;

    let rig = Rig::start(FakeHorde::with_jobs([]).await, Scripted::new([]));
    rig.horde.wait_for(crate::support::horde::POP, 1).await;
    assert_eq!(rig.horde.pops()[0]["nsfw"], true, "models of our own");
    rig.stop().await;
}

#[test]
fn addresses_that_cannot_be_asked_are_refused() {
    for url in ["", "judge", "ftp://here", "file:///etc/passwd"] {
        let refused = RemoteClassifier::new(url).unwrap_err();
        assert!(refused.to_string().contains("cannot be asked"), "{refused}");
    }
}
