//! From a picture to what can be said about it.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ordu_api::ApiKey;
use ordu_api::alchemy::{AlchemyRequest, AlchemyState, AlchemyStatus, Form};
use ordu_client::Horde;
use serde_json::json;

use crate::program::{Running, Worker};

fn picture() -> String {
    let mut bytes = Cursor::new(Vec::new());
    let picture: DynamicImage = RgbImage::from_pixel(96, 64, Rgb([0, 0, 255])).into();
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    STANDARD.encode(bytes.into_inner())
}

async fn answered(horde: &Horde) -> AlchemyStatus {
    let form = |name: &str| Form {
        name: name.to_owned(),
        payload: None,
    };
    let request = AlchemyRequest {
        forms: vec![form("palette"), form("describe")],
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

#[test]
fn an_alchemist_serves_a_horde() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let worker = Worker::start(folder.path(), &["--alchemist"]);
    let key = std::fs::read_to_string(folder.path().join("data/admin.key")).unwrap();
    let horde = Horde::new(&server.url, ApiKey::new(key.trim()), "tests:1:here").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let waiting = std::time::Duration::from_mins(1);
    let status = runtime.block_on(async {
        let answer = tokio::time::timeout(waiting, answered(&horde)).await;
        answer.expect("the alchemist answers")
    });
    assert_eq!(status.state, AlchemyState::Done);
    let results: Vec<_> = status
        .forms
        .iter()
        .map(|form| form.result.clone().unwrap())
        .collect();
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
    assert_eq!(worker.terminate(), Some(0));
}
