//! Forms: one picture, several questions, each answered by itself.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ordu_engine::{AlchemyEngine, Answer as Made, EngineError, NativeAlchemy, ProgressSink};
use ordu_worker::{
    Classifier, ClassifierError, Config, Engines, Judgement, Shutdown, Stage, Status, View,
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{
    FORM_POP, FakeHorde, HERE, SIGNATURE, Script, faulted, id, ok, outcomes,
};
use crate::support::http::Answer;
use crate::support::{config, within};

/// Turns a picture upside down.
struct Mirror;

impl AlchemyEngine for Mirror {
    fn forms(&self) -> Vec<String> {
        vec!["strip_background".to_owned(), "aesthetic".to_owned()]
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        _options: &Map<String, Value>,
        _progress: &dyn ProgressSink,
    ) -> Result<Made, EngineError> {
        if form == "aesthetic" {
            return Err(EngineError::Failed {
                reason: "planned".to_owned(),
            });
        }
        Ok(Made::Picture(picture.flipv()))
    }
}

fn png() -> Answer {
    let mut bytes = Cursor::new(Vec::new());
    let picture: DynamicImage = RgbImage::from_pixel(16, 8, Rgb([255, 0, 0])).into();
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    Answer::bytes(200, bytes.into_inner())
}

fn form(number: usize, form: &str, source: &str) -> Value {
    json!({
        "id": id(number), "form": form, "payload": null,
        "source_image": format!("{HERE}/{source}"),
        "r2_upload": format!("{HERE}/r2/{}.webp?{SIGNATURE}", id(number)),
    })
}

/// Works until so many pops of forms have ended.
async fn work(horde: &FakeHorde, jobs: u64) -> Status {
    let engines = Engines {
        alchemy: vec![Arc::new(NativeAlchemy), Arc::new(Mirror)],
        ..Engines::default()
    };
    work_with(horde, jobs, engines, |_| {}).await
}

async fn work_with(
    horde: &FakeHorde,
    jobs: u64,
    engines: Engines,
    adapt: impl FnOnce(&mut Config),
) -> Status {
    let mut config = config(horde);
    adapt(&mut config);
    let (sender, mut status) = watch::channel(Status::default());
    let shutdown = Shutdown::new();
    let work = ordu_worker::run(config, engines, shutdown.clone(), sender);
    let watch = async {
        let ended = |status: &Status| status.done + status.faulted >= jobs;
        within(status.wait_for(ended)).await.unwrap();
        shutdown.escalate();
    };
    tokio::join!(work, watch).0.unwrap()
}

async fn horde(forms: Vec<Value>) -> FakeHorde {
    let pop = Answer::json(200, &json!({"forms": forms, "skipped": {}}));
    FakeHorde::scripted(Script {
        form_pops: [pop].into(),
        files: vec![("/source", png())],
        ..Script::default()
    })
    .await
}

#[tokio::test]
async fn each_form_of_a_picture_is_handed_back_by_itself() {
    let horde = horde(vec![
        form(1, "palette", "source"),
        form(2, "describe", "source"),
        form(3, "strip_background", "source"),
        form(4, "aesthetic", "source"),
        form(5, "palette", "absent"),
        form(6, "caption", "source"),
    ])
    .await;
    let status = work(&horde, 1).await;
    assert_eq!((status.forms, status.faulted), (3, 1));
    assert!((status.kudos - 7.5).abs() < f64::EPSILON);
    let submits = horde.form_submits();
    let expected = [ok(1), ok(2), ok(3), faulted(4), faulted(5), faulted(6)];
    assert_eq!(outcomes(&submits), expected);
    assert_eq!(submits[0]["result"], json!({"palette": ["#ff0000"]}));
    assert_eq!(submits[1]["result"]["describe"]["width"], 16);
    assert_eq!(submits[2]["result"], json!({"strip_background": "R2"}));
    assert_eq!(submits[3]["result"], json!({}));
    assert_eq!(horde.uploads().len(), 1);
    let seen = horde.seen();
    let fetched = seen.iter().filter(|seen| seen.is("GET", "/source"));
    assert_eq!(fetched.count(), 1, "a picture is fetched once");
}

#[tokio::test]
async fn only_forms_that_an_engine_answers_are_offered() {
    let horde = horde(vec![form(1, "palette", "source")]).await;
    work(&horde, 1).await;
    within(horde.wait_for(FORM_POP, 1)).await;
    let pop = &horde.form_pops()[0];
    let forms = json!(["palette", "describe", "strip_background", "aesthetic"]);
    assert_eq!(pop["forms"], forms);
    assert_eq!(
        (&pop["name"], &pop["max_tiles"]),
        (&json!("tester"), &json!(8))
    );
}

/// Says that pictures that are wider than high are for adults.
#[derive(Debug)]
struct Prude;

impl Classifier for Prude {
    fn judge<'a>(&'a self, view: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>> {
        let seen = image::load_from_memory(view.picture).unwrap();
        let nsfw = seen.width() > seen.height();
        async move { Ok(Judgement { nsfw, csam: false }) }.boxed()
    }
}

#[tokio::test]
async fn the_classifier_answers_the_form_that_asks_for_it() {
    let horde = horde(vec![form(1, "nsfw", "source")]).await;
    let engines = Engines {
        alchemy: vec![Arc::new(NativeAlchemy)],
        safety: Some(Arc::new(Prude)),
        ..Engines::default()
    };
    let status = work_with(&horde, 1, engines, |_| {}).await;
    assert_eq!(status.done, 1);
    let forms = json!(["palette", "describe", "nsfw"]);
    assert_eq!(horde.form_pops()[0]["forms"], forms);
    assert_eq!(horde.form_submits()[0]["result"], json!({"nsfw": true}));
}

/// Can do this and nothing else, on the device that pictures are drawn on.
struct Tools(&'static [&'static str], Option<Duration>);

impl AlchemyEngine for Tools {
    fn forms(&self) -> Vec<String> {
        self.0.iter().map(|form| (*form).to_owned()).collect()
    }

    fn shares_device(&self) -> bool {
        true
    }

    fn answer(
        &self,
        _form: &str,
        picture: &DynamicImage,
        _options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Made, EngineError> {
        if let Some(pause) = self.1 {
            // It works until nobody wants it any more.
            while !progress.cancelled() {
                std::thread::sleep(pause);
            }
            return Err(EngineError::Cancelled);
        }
        Ok(Made::Picture(picture.clone()))
    }
}

fn with_tools(tools: &'static [&'static str]) -> Engines {
    Engines {
        alchemy: vec![Arc::new(NativeAlchemy), Arc::new(Tools(tools, None))],
        ..Engines::default()
    }
}

#[tokio::test]
async fn the_owner_says_which_forms_and_post_process_means_all_tools() {
    let tools = &["GFPGAN", "RealESRGAN_x4plus", "annotation", "caption"];
    for (wishes, offered) in [
        (
            vec![],
            json!([
                "palette",
                "describe",
                "GFPGAN",
                "RealESRGAN_x4plus",
                "caption"
            ]),
        ),
        (vec!["post-process"], json!(["GFPGAN", "RealESRGAN_x4plus"])),
        (
            vec!["caption", "realesrgan_x4plus"],
            json!(["RealESRGAN_x4plus", "caption"]),
        ),
        (
            vec!["annotation", "Palette"],
            json!(["palette", "annotation"]),
        ),
    ] {
        let source = form(1, offered[0].as_str().unwrap(), "source");
        let horde = horde(vec![source]).await;
        work_with(&horde, 1, with_tools(tools), |config| {
            config.forms = wishes.iter().map(|wish| (*wish).to_owned()).collect();
        })
        .await;
        assert_eq!(horde.form_pops()[0]["forms"], offered, "{wishes:?}");
    }
}

#[tokio::test]
async fn a_picture_of_too_many_tiles_is_not_enlarged() {
    let mut bytes = Cursor::new(Vec::new());
    let large: DynamicImage = RgbImage::new(1025, 512).into();
    large.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let forms = vec![
        form(1, "RealESRGAN_x4plus", "large"),
        form(2, "GFPGAN", "large"),
        form(3, "RealESRGAN_x4plus", "source"),
    ];
    let horde = FakeHorde::scripted(Script {
        form_pops: [Answer::json(200, &json!({"forms": forms, "skipped": {}}))].into(),
        files: vec![
            ("/source", png()),
            ("/large", Answer::bytes(200, bytes.into_inner())),
        ],
        ..Script::default()
    })
    .await;
    let engines = with_tools(&["GFPGAN", "RealESRGAN_x4plus"]);
    work_with(&horde, 1, engines, |config| config.max_power = 2).await;
    assert_eq!(horde.form_pops()[0]["max_tiles"], 2);
    assert_eq!(outcomes(&horde.form_submits()), [faulted(1), ok(2), ok(3)]);
}

#[tokio::test]
async fn a_form_that_takes_too_long_is_given_up_and_its_engine_told() {
    let horde = horde(vec![
        form(1, "GFPGAN", "source"),
        form(2, "palette", "source"),
    ])
    .await;
    let slow = Tools(&["GFPGAN"], Some(Duration::from_millis(1)));
    let engines = Engines {
        alchemy: vec![Arc::new(NativeAlchemy), Arc::new(slow)],
        ..Engines::default()
    };
    let status = work_with(&horde, 1, engines, |config| {
        config.timing.form_limit = Duration::from_millis(20);
        config.timing.cold_limit = Duration::from_millis(20);
    })
    .await;
    assert!(status.last_error.unwrap().contains("took longer"));
    assert_eq!(outcomes(&horde.form_submits()), [faulted(1), ok(2)]);
}

#[tokio::test]
async fn while_pictures_are_drawn_only_forms_that_need_no_device_are_offered() {
    let horde = FakeHorde::with_jobs([crate::support::horde::job(&[1])]).await;
    let engine = Arc::new(Scripted::new([Plan::Hold]));
    let engines = Engines {
        image: Some(engine.clone()),
        ..with_tools(&["GFPGAN"])
    };
    let (sender, mut status) = watch::channel(Status::default());
    let shutdown = Shutdown::new();
    let work = ordu_worker::run(config(&horde), engines, shutdown.clone(), sender);
    let all = json!(["palette", "describe", "GFPGAN"]);
    let watch = async {
        engine.started(1).await;
        let draws = Stage::Sampling { step: 1, of: 2 };
        let is_drawing = |status: &Status| status.jobs.iter().any(|job| job.stage == draws);
        within(status.wait_for(is_drawing)).await.unwrap();
        let before = horde.form_pops().len();
        horde.wait_for(FORM_POP, before + 2).await;
        let busy = horde.form_pops().remove(before + 1);
        assert_eq!(busy["forms"], json!(["palette", "describe"]));
        engine.release();
        within(status.wait_for(|status| status.done == 1))
            .await
            .unwrap();
        let after = horde.form_pops().len();
        horde.wait_for(FORM_POP, after + 2).await;
        assert_eq!(horde.form_pops().remove(after + 1)["forms"], all);
        shutdown.escalate();
    };
    tokio::join!(work, watch).0.unwrap();
}

/// A program that is gone.
struct Gone;

impl AlchemyEngine for Gone {
    fn forms(&self) -> Vec<String> {
        vec!["strip_background".to_owned()]
    }

    fn answer(
        &self,
        _form: &str,
        _picture: &DynamicImage,
        _options: &Map<String, Value>,
        _progress: &dyn ProgressSink,
    ) -> Result<Made, EngineError> {
        Err(EngineError::Unreachable {
            backend: "it".to_owned(),
            reason: "planned".to_owned(),
        })
    }
}

#[tokio::test]
async fn while_one_engine_is_away_the_others_go_on() {
    let pop = |form: Value| Answer::json(200, &json!({"forms": [form], "skipped": {}}));
    let first = pop(form(1, "strip_background", "source"));
    let second = pop(form(2, "palette", "source"));
    let horde = FakeHorde::scripted(Script {
        form_pops: [first, second].into(),
        files: vec![("/source", png())],
        ..Script::default()
    })
    .await;
    let engines = Engines {
        alchemy: vec![Arc::new(NativeAlchemy), Arc::new(Gone)],
        ..Engines::default()
    };
    let away = Duration::from_hours(1);
    let status = work_with(&horde, 2, engines, |config| {
        (config.timing.outage_first, config.timing.outage_last) = (away, away);
    })
    .await;
    assert_eq!((status.forms, status.faults["engine_away"]), (1, 1));
    let pops = horde.form_pops();
    assert_eq!(
        pops[0]["forms"],
        json!(["palette", "describe", "strip_background"])
    );
    assert_eq!(pops[1]["forms"], json!(["palette", "describe"]));
}
