//! The pictures that come with a job.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat};
use ordu_engine::{ImageTask, Mode};
use serde_json::{Value, json};

use crate::support::engine::Scripted;
use crate::support::gate::Gate;
use crate::support::horde::{FakeHorde, HERE, Script, job_with};
use crate::support::http::{Answer, TestServer};
use crate::support::{Rig, config};

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(3, 5)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// Runs one job with these members; the task that became of it and what was said about it.
async fn made_of(top: Value) -> (ImageTask, Value) {
    let gone = Answer::bytes(404, Vec::new());
    let script = Script {
        pops: [Answer::json(
            200,
            &job_with(1, &top, &json!({"denoising_strength": 0.5})),
        )]
        .into(),
        files: vec![
            ("/source", Answer::bytes(200, png())),
            ("/text", Answer::bytes(200, b"not a picture".to_vec())),
            ("/gone", gone),
        ],
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    let task = rig.engine.tasks().remove(0);
    let said = rig.horde.submits()[0]["gen_metadata"].clone();
    rig.stop().await;
    (task, said)
}

fn here(path: &str) -> String {
    format!("{HERE}{path}")
}

#[tokio::test]
async fn source_and_mask_are_fetched_from_the_horde_itself() {
    let (task, said) = made_of(json!({
        "source_image": here("/source?signed=a%2Fb"), "source_mask": here("/source"),
        "source_processing": "inpainting"
    }))
    .await;
    assert_eq!(said, json!([]));
    let Mode::Inpaint(source) = task.mode else {
        panic!("{:?}", task.mode)
    };
    assert_eq!((source.image.width(), source.image.height()), (3, 5));
    assert_eq!(source.mask.unwrap().dimensions(), (3, 5));
    assert!((source.denoising_strength - 0.5).abs() < f32::EPSILON);
}

#[tokio::test]
async fn a_source_may_be_inside_the_job() {
    let (task, said) = made_of(json!({"source_image": STANDARD.encode(png())})).await;
    assert_eq!(said, json!([]));
    assert!(matches!(task.mode, Mode::Img2Img(_)));
}

#[tokio::test]
async fn a_source_that_cannot_be_had_is_told_and_the_job_goes_on_without() {
    for (source, value) in [
        (here("/gone"), "download_failed"),
        (here("/text"), "parse_failed"),
        ("no base64!".to_owned(), "parse_failed"),
        (STANDARD.encode(b"no picture"), "parse_failed"),
    ] {
        let (task, said) = made_of(json!({"source_image": source})).await;
        let expected = json!([{"type": "source_image", "value": value, "ref": "source_image"}]);
        assert_eq!(said, expected, "{source}");
        assert_eq!(task.mode, Mode::Txt2Img, "{source}");
    }
}

#[tokio::test]
async fn a_missing_mask_and_missing_extras_are_told_by_name_and_place() {
    let (task, said) = made_of(json!({
        "source_image": here("/source"), "source_mask": here("/gone"),
        "source_processing": "outpainting",
        "extra_source_images": [
            {"image": here("/source"), "strength": 1}, {"image": here("/gone")},
            {"image": here("/text"), "strength": "x"}
        ]
    }))
    .await;
    assert!(matches!(task.mode, Mode::Outpaint(source) if source.mask.is_none()));
    let expected = json!([
        {"type": "source_mask", "value": "download_failed", "ref": "source_mask"},
        {"type": "extra_source_images", "value": "download_failed", "ref": "1"},
        {"type": "extra_source_images", "value": "parse_failed", "ref": "2"}
    ]);
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_stranger_cannot_make_the_worker_read_its_private_network() {
    let inside = TestServer::start(|_| Answer::bytes(200, png())).await;
    for url in [
        inside.url.clone(),
        "https://127.0.0.1/x".to_owned(),
        "https://[::1]/x".to_owned(),
        "https://localhost/x".to_owned(),
        "https://169.254.169.254/latest".to_owned(),
    ] {
        let (task, said) = made_of(json!({"source_image": url})).await;
        assert_eq!(said[0]["value"], "download_failed", "{url}");
        assert_eq!(task.mode, Mode::Txt2Img, "{url}");
    }
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn the_owner_may_trust_further_hosts() {
    let store = TestServer::start(|_| Answer::bytes(200, png())).await;
    let top = json!({"source_image": format!("{}/x", store.url)});
    let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({}))]).await;
    let mut config = config(&horde);
    config.trusted_hosts = vec![store.url.clone()];
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    rig.ended(1).await;
    assert!(matches!(rig.engine.tasks()[0].mode, Mode::Img2Img(_)));
    rig.stop().await;
}

#[tokio::test]
async fn a_passing_failure_of_the_store_is_tried_five_times() {
    let top = json!({"source_image": here("/busy")});
    let script = Script {
        pops: [Answer::json(200, &job_with(1, &top, &json!({})))].into(),
        files: vec![("/busy", Answer::bytes(503, Vec::new()))],
        ..Script::default()
    };
    let mut rig = Rig::start(FakeHorde::scripted(script).await, Scripted::new([]));
    rig.ended(1).await;
    let tries = rig
        .horde
        .seen()
        .iter()
        .filter(|seen| seen.is("GET", "/busy"))
        .count();
    assert_eq!(tries, 5);
    rig.stop().await;
}

fn png_of(side: u32) -> String {
    let mut bytes = Cursor::new(Vec::new());
    let picture = DynamicImage::new_rgb8(side, side);
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    STANDARD.encode(bytes.into_inner())
}

/// Checklist: remix works with 1…6 images, drops failed ones, keeps order, records indexes.
#[tokio::test]
async fn a_remix_keeps_its_order_without_what_failed() {
    let broken = || json!({"image": "no base64!"});
    let good = |side: u32| json!({"image": png_of(side), "strength": side});
    for (extras, sides, failed) in [
        (vec![], vec![9], vec![]),
        (vec![good(1)], vec![9, 1], vec![]),
        (vec![broken(), good(2)], vec![9, 2], vec!["0"]),
        (
            vec![good(1), broken(), good(3), broken(), good(5)],
            vec![9, 1, 3, 5],
            vec!["1", "3"],
        ),
        ((1..=5).map(good).collect(), vec![9, 1, 2, 3, 4, 5], vec![]),
        ((1..=8).map(good).collect(), vec![9, 1, 2, 3, 4, 5], vec![]),
    ] {
        let (task, said) = made_of(json!({
            "source_image": png_of(9), "source_processing": "remix", "extra_source_images": extras
        }))
        .await;
        let Mode::Remix(pictures) = task.mode else {
            panic!("{:?}", task.mode)
        };
        let found: Vec<_> = pictures
            .iter()
            .map(|picture| picture.image.width())
            .collect();
        assert_eq!(found, sides);
        let told = said.as_array().unwrap().iter();
        let told: Vec<_> = told.map(|remark| remark["ref"].as_str().unwrap()).collect();
        assert_eq!(told, failed);
    }
}

#[tokio::test]
async fn five_pictures_come_in_the_time_of_one() {
    // Nobody is answered before all five are asked for.
    let gate = Gate::start(5, png()).await;
    let at = |path: &str| format!("{}/{path}", gate.url);
    let extras: Vec<_> = (0..3)
        .map(|n| json!({"image": at(&n.to_string())}))
        .collect();
    let top = json!({
        "source_image": at("source"), "source_mask": at("mask"), "source_processing": "remix",
        "extra_source_images": extras
    });
    let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({}))]).await;
    let mut config = config(&horde);
    config.trusted_hosts = vec![gate.url.clone()];
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(gate.asked(), 5);
    assert!(matches!(&rig.engine.tasks()[0].mode, Mode::Remix(all) if all.len() == 4));
    assert_eq!(rig.horde.submits()[0]["gen_metadata"], json!([]));
    rig.stop().await;
}

#[tokio::test]
async fn a_redirect_does_not_lead_into_the_private_network() {
    let inside = TestServer::start(|_| Answer::bytes(200, png())).await;
    let target = inside.url.clone();
    let outside =
        TestServer::start(move |_| Answer::bytes(302, Vec::new()).with("location", target.clone()))
            .await;
    let top = json!({"source_image": format!("{}/x", outside.url)});
    let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({}))]).await;
    let mut config = config(&horde);
    config.trusted_hosts = vec![outside.url.clone()];
    let mut rig = Rig::start_with(horde, Scripted::new([]), config);
    rig.ended(1).await;
    let said = rig.horde.submits()[0]["gen_metadata"].clone();
    assert_eq!(said[0]["value"], "download_failed");
    assert_eq!(outside.seen().len(), 1);
    assert!(inside.seen().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_fills_in_gets_something_to_fill_in() {
    for (top, expected) in [
        (
            json!({}),
            vec!["source_image parse_failed", "source_mask parse_failed"],
        ),
        (
            json!({"source_image": here("/gone")}),
            vec!["source_image download_failed", "source_mask parse_failed"],
        ),
        (
            json!({"source_image": STANDARD.encode(png()), "source_mask": STANDARD.encode(png())}),
            vec![],
        ),
    ] {
        let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({"hires_fix": true}))]).await;
        let mut rig = Rig::start(horde, Scripted::new([]).filling_in());
        assert_eq!(rig.ended(1).await.done, 1);
        let task = rig.engine.tasks().remove(0);
        assert!(matches!(task.mode, Mode::Inpaint(source) if source.mask.is_some()));
        assert_eq!(task.hires, None);
        let said = rig.horde.submits()[0]["gen_metadata"].clone();
        let text = |remark: &Value, key: &str| remark[key].as_str().unwrap().to_owned();
        let said = said.as_array().unwrap().iter();
        let said: Vec<_> = said
            .map(|remark| format!("{} {}", text(remark, "type"), text(remark, "value")))
            .collect();
        assert_eq!(said, expected);
        rig.stop().await;
    }
}
