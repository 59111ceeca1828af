//! Pictures behind signed links, in memory, in a folder and in a bucket.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::image::{ImagePop, ImageRequest};
use ordu_server::{BlobPlace, Clock, Config, S3Place, Server, StartError};

use crate::s3::S3Server;
use crate::support::{Answer, PICTURE, TestHorde, deliver_all, delivered, pop, request};

#[tokio::test]
async fn a_link_allows_only_what_it_was_made_for() {
    let horde = TestHorde::start().await;
    let upload = refuses_what_a_link_is_not_for(&horde).await;
    horde.later(31 * 60);
    let late = horde.http.put(&upload).body(PICTURE);
    assert_eq!(Answer::read(late).await.status, 403, "it expired");
}

#[tokio::test]
async fn a_presigned_link_allows_only_what_it_was_made_for() {
    let s3 = S3Server::start().await;
    let upload = refuses_what_a_link_is_not_for(&in_bucket(s3.blobs()).await).await;
    // The store compares with its own clock, which no test moves.
    assert!(upload.contains("X-Amz-Expires=1800"), "{upload}");
}

async fn refuses_what_a_link_is_not_for(horde: &TestHorde) -> String {
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let upload = job.r2_upload.unwrap();
    let status = async |request: reqwest::RequestBuilder| Answer::read(request).await.status;
    assert_eq!(status(horde.http.put(&upload).body(PICTURE)).await, 200);
    assert_eq!(
        status(horde.http.get(&upload)).await,
        403,
        "an upload is no download"
    );
    let (link, signature) = upload.split_at(upload.find("ignature=").unwrap() + 9);
    let reversed: String = signature.chars().rev().collect();
    let forged = format!("{link}{reversed}");
    assert_eq!(status(horde.http.put(forged).body(PICTURE)).await, 403);
    let bare = upload.split('?').next().unwrap();
    assert_eq!(status(horde.http.put(bare).body(PICTURE)).await, 403);
    upload
}

async fn in_bucket(blobs: BlobPlace) -> TestHorde {
    TestHorde::start_with(|config| Config { blobs, ..config }).await
}

#[tokio::test]
async fn sources_and_base64_results_go_through_memory() {
    sources_and_base64_results(&TestHorde::start().await).await;
}

#[tokio::test]
async fn sources_and_base64_results_go_through_a_bucket() {
    let s3 = S3Server::start().await;
    let place = S3Place {
        prefix: "a/b".to_owned(),
        ..s3.place()
    };
    let horde = in_bucket(BlobPlace::S3(Box::new(place))).await;
    sources_and_base64_results(&horde).await;
    let kept = std::fs::read_dir(s3.bucket().join("a/b")).unwrap();
    assert_eq!(kept.count(), 3, "source, result and probe");
}

async fn sources_and_base64_results(horde: &TestHorde) {
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let asked = ImageRequest {
        source_image: Some(STANDARD.encode(png())),
        r2: false,
        ..request()
    };
    let id = worker.async_image(&asked).await.unwrap().id;
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let source = job.source_image.unwrap();
    let source = worker.download(&source, 100_000).await.unwrap();
    assert_eq!(source.get(8..12), Some(&b"WEBP"[..]));
    let mut submit = delivered(job.id.unwrap());
    submit.generation = STANDARD.encode(PICTURE);
    worker.submit_image(&submit).await.unwrap();
    let status = worker.status(id).await.unwrap();
    assert_eq!(status.generations[0].img, STANDARD.encode(PICTURE));
}

/// A worker whose program is older than links to source pictures.
fn old_agent() -> ImagePop {
    let words = ["r2", "img2img", "karras"].map(str::to_owned);
    ImagePop {
        capabilities: Some(words.to_vec()),
        ..pop("w")
    }
}

fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(64, 64)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn old_agents_get_sources_as_base64_from_a_bucket() {
    let s3 = S3Server::start().await;
    let horde = in_bucket(s3.blobs()).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let asked = ImageRequest {
        source_image: Some(STANDARD.encode(png())),
        ..request()
    };
    worker.async_image(&asked).await.unwrap();
    let old = old_agent();
    let job = worker.pop_image(&old).await.unwrap();
    let source = STANDARD.decode(job.source_image.unwrap()).unwrap();
    assert_eq!(source.get(8..12), Some(&b"WEBP"[..]));
}

#[tokio::test]
async fn polling_a_status_costs_the_store_nothing() {
    let s3 = S3Server::start().await;
    let horde = in_bucket(s3.blobs()).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut asked = request();
    asked.params.n = Some(8);
    let id = horde.anonymous().async_image(&asked).await.unwrap().id;
    for _ in 0..2 {
        let job = worker.pop_image(&pop("w")).await.unwrap();
        deliver_all(&worker, &job).await;
    }
    let before = s3.calls();
    for _ in 0..3 {
        let status = horde.anonymous().status(id).await.unwrap();
        let links = status.generations.iter().map(|result| &result.img);
        let signed = links.filter(|link| link.contains("X-Amz-Signature"));
        assert_eq!(signed.count(), 8);
    }
    assert_eq!(s3.calls(), before);
}

#[tokio::test]
async fn a_store_that_goes_away_costs_nobody_a_job() {
    let s3 = S3Server::start().await;
    let horde = in_bucket(s3.blobs()).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let with_source = ImageRequest {
        source_image: Some(STANDARD.encode(png())),
        ..request()
    };
    let waiting = worker.async_image(&with_source).await.unwrap().id;
    let plain = horde.anonymous().async_image(&request()).await.unwrap().id;
    let ready = async || {
        let ready = horde.http.get(format!("{}/readyz", horde.url));
        Answer::read(ready).await.status
    };
    assert_eq!(ready().await, 200);
    s3.stop();

    assert_eq!(ready().await, 503);
    let body = serde_json::to_value(&with_source).unwrap();
    let asked = horde.post("/generate/async", Some(&owner.api_key), &body);
    let asked = asked.await;
    assert_eq!(asked.status, 503, "{}", asked.body);
    assert!(asked.headers.contains_key("retry-after"));
    // An old agent's pop needs the source itself: the job is not lost on it.
    let old = old_agent();
    let body = serde_json::to_value(&old).unwrap();
    let popped = horde.post("/generate/pop", Some(&owner.api_key), &body);
    assert_eq!(popped.await.status, 503);
    let progress = worker.check(waiting).await.unwrap();
    assert_eq!((progress.waiting, progress.restarted), (1, 0));
    // What needs no store goes on.
    let job = worker.pop_image(&pop("w2")).await.unwrap();
    assert!(job.r2_upload.is_some());
    assert!(horde.anonymous().check(plain).await.is_ok());
}

#[tokio::test]
async fn a_start_says_what_is_wrong_with_the_bucket() {
    let s3 = S3Server::start().await;
    let wrong_key = {
        let mut place = s3.place();
        place.credentials.secret_access_key = "guess".to_owned();
        place
    };
    let wrong_bucket = S3Place {
        bucket: "nowhere".to_owned(),
        ..s3.place()
    };
    let nobody_there = S3Place {
        endpoint: Some("http://127.0.0.1:9".parse().unwrap()),
        ..s3.place()
    };
    for (place, expected) in [
        (wrong_key, "the store of pictures refuses our key"),
        (wrong_bucket, "bucket `nowhere` at http://127.0.0.1"),
        (nobody_there, "the store of pictures cannot be used"),
    ] {
        let config = Config {
            blobs: BlobPlace::S3(Box::new(place)),
            ..Config::in_memory()
        };
        let error = Server::start(config).await.err().unwrap();
        assert!(matches!(error, StartError::Blobs(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_sweep_of_a_bucket_takes_what_is_old_and_ours() {
    let s3 = S3Server::start().await;
    let old = SystemTime::now() - Duration::from_mins(121);
    let fresh = SystemTime::now() - Duration::from_mins(119);
    let id = |number: u32| format!("00000000-0000-4000-8000-{number:012}.webp");
    let keep = |name: &str, changed: SystemTime| {
        let file = std::fs::File::create(s3.bucket().join(name)).unwrap();
        file.set_modified(changed).unwrap();
    };
    for number in 0..30 {
        keep(&id(number), old);
    }
    keep(&id(99), fresh);
    keep("holiday.webp", old);
    let horde = TestHorde::start_with(|config| Config {
        blobs: s3.blobs(),
        clock: Clock::System,
        ..config
    })
    .await;
    horde.server.settle_down().await.unwrap();
    let mut left: Vec<String> = std::fs::read_dir(s3.bucket())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    left.sort();
    assert_eq!(
        left,
        [id(99), "holiday.webp".to_owned(), "ordu-probe".to_owned()]
    );
}
