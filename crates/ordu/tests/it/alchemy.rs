//! From a picture to what can be said about it.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ordu_api::ApiKey;
use ordu_api::alchemy::{AlchemyRequest, AlchemyState, AlchemyStatus, Form};
use ordu_client::Horde;
use serde_json::{Map, Value, json};

use crate::program::{Running, Worker, run_json};

fn picture() -> String {
    let mut bytes = Cursor::new(Vec::new());
    let picture: DynamicImage = RgbImage::from_pixel(96, 64, Rgb([0, 0, 255])).into();
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    STANDARD.encode(bytes.into_inner())
}

async fn answered(horde: &Horde, forms: &[&str]) -> AlchemyStatus {
    let form = |name: &&str| Form {
        name: (*name).to_owned(),
        payload: None,
    };
    let request = AlchemyRequest {
        forms: forms.iter().map(form).collect(),
        source_image: picture(),
        ..AlchemyRequest::default()
    };
    let accepted = horde.async_alchemy(&request).await.unwrap();
    loop {
        let status = horde.alchemy_status(accepted.id).await.unwrap();
        match status.state {
            AlchemyState::Waiting | AlchemyState::Processing => {}
            _ => return status,
        }
    }
}

/// What a horde in this folder, with this worker in front of it, answers to some forms.
fn results(folder: &Path, worker: &[&str], forms: &[&str]) -> Vec<Map<String, Value>> {
    let server = Running::start(folder, &["up", "--no-worker", "--no-rate-limits"]);
    let worker = Worker::start(folder, worker);
    let key = std::fs::read_to_string(folder.join("data/admin.key")).unwrap();
    let horde = Horde::new(&server.url, ApiKey::new(key.trim()), "tests:1:here").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let waiting = std::time::Duration::from_mins(1);
    let status = runtime.block_on(async {
        let answer = tokio::time::timeout(waiting, answered(&horde, forms)).await;
        answer.expect("the alchemist answers")
    });
    assert_eq!(status.state, AlchemyState::Done);
    assert_eq!(worker.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
    let results = status.forms.into_iter().map(|form| form.result.unwrap());
    results.collect()
}

#[test]
fn an_alchemist_serves_a_horde() {
    let folder = tempfile::tempdir().unwrap();
    let results = results(folder.path(), &["--alchemist"], &["palette", "describe"]);
    // The horde keeps pictures as WebP, which changes a colour a little.
    let colour = results[0]["palette"][0].as_str().unwrap();
    let [red, green, blue] =
        [1, 3, 5].map(|at| u8::from_str_radix(&colour[at..at + 2], 16).unwrap());
    assert!(red < 20 && green < 20 && blue > 235, "{colour}");
    let described = &results[1]["describe"];
    assert_eq!(
        (&described["width"], &described["height"]),
        (&json!(96), &json!(64))
    );
}

#[test]
fn an_alchemist_reads_pictures_with_models() {
    let folder = tempfile::tempdir().unwrap();
    let worker = ["--alchemist", "--models-dir", READERS];
    let forms = ["caption", "interrogation", "nsfw"];
    let results = results(folder.path(), &worker, &forms);
    // Networks of random numbers, so anything may be said, but something is.
    assert!(!results[0]["caption"].as_str().unwrap().is_empty());
    let tags = results[1]["interrogation"]["tags"].as_array().unwrap();
    assert_eq!(tags.len(), 5);
    assert!(tags[0]["confidence"].as_f64().unwrap() > 0.0);
    assert!(results[2]["nsfw"].is_boolean());
}

const READERS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ordu-engine/testdata/vision"
);

/// A safety checker whose thresholds are this number, in f16. What is beyond all of them is not only for
/// adults, but abuse, which leaves no worker.
fn checker(folder: &Path, threshold: [u8; 2]) {
    std::fs::create_dir_all(folder).unwrap();
    let file = |name: &str| format!("{READERS}/safety/{name}");
    std::fs::copy(file("config.json"), folder.join("config.json")).unwrap();
    let mut bytes = std::fs::read(file("model.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for name in ["concept_embeds_weights", "special_care_embeds_weights"] {
        let place = |at: usize| {
            let offset = header[name]["data_offsets"][at].as_u64().unwrap();
            8 + length + usize::try_from(offset).unwrap()
        };
        for place in (place(0)..place(1)).step_by(2) {
            bytes[place..place + 2].copy_from_slice(&threshold);
        }
    }
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

/// 9 and −9 in f16: more than any likeness, less than any.
const NINE: [u8; 2] = 0x4880_u16.to_le_bytes();
const MINUS_NINE: [u8; 2] = 0xC880_u16.to_le_bytes();

#[test]
fn a_safety_checker_among_the_models_looks_at_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker"]);
    for (models, threshold, is_withheld) in [("strict", MINUS_NINE, true), ("lax", NINE, false)] {
        checker(&folder.path().join(models).join("safety"), threshold);
        let worker = ["--models-dir", models, "--name", models];
        let worker = Worker::start(folder.path(), &worker);
        let picture = format!("{models}.png");
        let arguments = ["imagine", "a large red circle", "--data", "data", "--json"];
        let answer = run_json(
            folder.path(),
            &[&arguments[..], &["--out", &picture]].concat(),
        );
        let made = &answer["pictures"][0];
        assert_eq!(made["worker"], models);
        assert_eq!(made["censored"], is_withheld, "{answer}");
        assert_eq!(worker.terminate(), Some(0));
    }
    assert_eq!(server.terminate(), Some(0));
}
