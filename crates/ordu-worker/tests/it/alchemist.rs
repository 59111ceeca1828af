//! Forms: one picture, several questions, each answered by itself.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ordu_engine::{AlchemyEngine, Answer as Made, EngineError, NativeAlchemy, ProgressSink};
use ordu_worker::{Engines, Shutdown, Status};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

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
    let (sender, mut status) = watch::channel(Status::default());
    let shutdown = Shutdown::new();
    let work = ordu_worker::run(config(horde), engines, shutdown.clone(), sender);
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
