//! Ratings, and the pictures that may be rated.

use ordu_api::image::ImageRequest;
use ordu_api::{JobId, RequestId};
use ordu_core::Kudos;
use ordu_server::{BlobPlace, Config};
use serde_json::{Value, json};

use crate::receiver::{Planned, Receiver};
use crate::support::{Answer, PICTURE, TestHorde, deliver_all, on_each_database, pop, request};

/// A horde that shares results, and what it is asked for.
struct Gallery {
    horde: TestHorde,
    id: RequestId,
    images: Vec<JobId>,
}

impl Gallery {
    /// A request for `n` pictures by the anonymous account, all delivered.
    async fn open(n: u32, adapt: impl FnOnce(Config) -> Config) -> Self {
        let horde = TestHorde::start_with(|config| {
            adapt(Config {
                share_results: true,
                ..config
            })
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let mut wanted = request();
        wanted.params.n = Some(n);
        let id = horde.anonymous().async_image(&wanted).await.unwrap().id;
        let job = worker.pop_image(&pop("w")).await.unwrap();
        deliver_all(&worker, &job).await;
        Self {
            horde,
            id,
            images: job.ids,
        }
    }

    async fn rate(&self, body: Value) -> Answer {
        let path = format!("/generate/rate/{}", self.id);
        self.horde.post(&path, None, &body).await
    }
}

fn rated_at(receiver: &Receiver, config: Config) -> Config {
    Config {
        ratings_url: Some(receiver.url("/api/v1/rating").parse().unwrap()),
        ..config
    }
}

#[tokio::test]
async fn a_rating_reaches_the_service_and_is_paid_once() {
    on_each_database(async |database| {
        let mut receiver = Receiver::start().await;
        let gallery = Gallery::open(2, |config| Config {
            database: database.to_owned(),
            ..rated_at(&receiver, config)
        })
        .await;
        let [first, second] = gallery.images[..] else {
            panic!("two pictures")
        };
        let ratings = json!([
            { "id": first, "rating": 6 },
            { "id": second, "rating": 9, "artifacts": 1 },
        ]);
        let body = json!({ "ratings": ratings });
        let answer = gallery.rate(body.clone()).await;
        assert_eq!(
            (answer.status, answer.body),
            (200, json!({ "reward": 15.0 }))
        );
        let posted = receiver.next().await;
        assert_eq!(posted.path, "/api/v1/rating");
        assert_eq!(posted.body["set"], json!(gallery.id));
        assert_eq!(posted.body["all_set_ids"], json!([first, second]));
        assert_eq!(posted.body["best"], json!(second));
        assert_eq!(posted.body["ratings"], ratings);
        assert_eq!(posted.body["client_agent"], "unknown:0:unknown");
        let user = &posted.body["user"];
        assert_eq!(user["username"], "Anonymous#0");
        assert_eq!(user["ipaddr"], "127.0.0.1");
        assert!(user["kudos"].is_number() && user["account_age"].is_number());
        // Whatever the service says the second time.
        assert_eq!(gallery.rate(body).await.rc(), "AestheticsAlreadyExist");
        let store = gallery.horde.server.store();
        assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
        gallery.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_service_says_decides_the_code_and_nothing_is_paid() {
    let mut receiver = Receiver::start().await;
    let gallery = Gallery::open(1, |config| rated_at(&receiver, config)).await;
    let body = json!({ "ratings": [{ "id": gallery.images[0], "rating": 5 }] });
    let outcomes = [
        (Planned::Answer(403, "{}"), "AestheticsAlreadyExist"),
        (
            Planned::Answer(500, "{\"message\": \"x\"}"),
            "AestheticsServerError",
        ),
        (Planned::Answer(400, "<html>"), "AestheticsServerRejected"),
        (Planned::Silence, "AestheticsServerTimeout"),
    ];
    for (planned, code) in outcomes {
        receiver.plan([planned]);
        let answer = gallery.rate(body.clone()).await;
        assert_eq!((answer.status, answer.rc()), (400, code));
        receiver.next().await;
    }
    // All that did not count; now it does.
    assert_eq!(gallery.rate(body).await.body, json!({ "reward": 5.0 }));
}

#[tokio::test]
async fn without_a_service_every_check_comes_first() {
    let gallery = Gallery::open(1, |config| config).await;
    let image = gallery.images[0];
    let nobody = "00000000-0000-4000-8000-000000000000";
    let cases = [
        (json!({}), "AestheticsMissing"),
        (json!({ "best": image }), "AestheticsSolo"),
        (json!({ "best": nobody }), "ProcGenNotFound"),
        (
            json!({ "ratings": [{ "id": nobody, "rating": 1 }] }),
            "ProcGenNotFound",
        ),
        (
            json!({ "ratings": [{ "id": image, "rating": 1 }] }),
            "AestheticsServerDown",
        ),
    ];
    for (body, code) in cases {
        assert_eq!(gallery.rate(body).await.rc(), code);
    }
    let unreachable = "http://127.0.0.1:9/".parse().unwrap();
    let gallery = Gallery::open(1, |config| Config {
        ratings_url: Some(unreachable),
        ..config
    })
    .await;
    let body = json!({ "ratings": [{ "id": gallery.images[0], "rating": 1 }] });
    assert_eq!(gallery.rate(body).await.rc(), "AestheticsServerDown");
}

#[tokio::test]
async fn a_shared_result_stays_with_its_description() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().to_owned();
    let gallery = Gallery::open(1, |config| Config {
        blobs: BlobPlace::Folder(blobs),
        ..config
    })
    .await;
    let image = gallery.images[0];
    let status = gallery.horde.anonymous().status(gallery.id).await.unwrap();
    assert!(status.shared);
    // By the test's clock everything in the folder is long past.
    gallery.horde.server.settle_down().await.unwrap();
    let read = |path: String| std::fs::read(folder.path().join(path));
    assert!(read(format!("{image}.webp")).is_err());
    assert_eq!(read(format!("shared/{image}.webp")).unwrap(), PICTURE);
    let sidecar = read(format!("shared/{image}.json")).unwrap();
    let sidecar: Value = serde_json::from_slice(&sidecar).unwrap();
    assert_eq!(
        sidecar,
        json!({
            "prompt": "a red circle###blur", "width": 512, "height": 512, "steps": 30,
            "sampler": "k_euler_a", "cfg": 5.0, "karras": true, "pp": [], "set": gallery.id,
            "user_type": "anon", "seed": 7, "model": "ordu-tiny", "censored": false,
        })
    );
}

/// Whether a request of a user counts as shared.
async fn is_shared(horde: &TestHorde, user: &str, wanted: &ImageRequest) -> bool {
    let user = horde.user(user, 1000.0).await;
    let client = horde.client(&user.api_key);
    let id = client.async_image(wanted).await.unwrap().id;
    client.status(id).await.unwrap().shared
}

#[tokio::test]
async fn users_decide_what_is_shared_unless_it_is_forced_off() {
    let shared = ImageRequest {
        shared: true,
        ..request()
    };
    let horde = TestHorde::start_with(|config| Config {
        share_results: true,
        ..config
    })
    .await;
    assert!(is_shared(&horde, "a", &shared).await);
    assert!(!is_shared(&horde, "b", &request()).await);
    let with_source = ImageRequest {
        source_image: Some(source()),
        ..shared.clone()
    };
    assert!(!is_shared(&horde, "c", &with_source).await);
    let teacher = horde.user("teacher", 1000.0).await;
    let change = ordu_store::UserChange {
        education: Some(true),
        ..ordu_store::UserChange::default()
    };
    let id = teacher.user_id.parse().unwrap();
    horde.server.store().update_user(id, &change).await.unwrap();
    horde.later(11);
    let client = horde.client(&teacher.api_key);
    let id = client.async_image(&shared).await.unwrap().id;
    assert!(!client.status(id).await.unwrap().shared);

    let horde = TestHorde::start().await;
    assert!(!is_shared(&horde, "a", &shared).await);
    let id = horde.anonymous().async_image(&shared).await.unwrap().id;
    assert!(!horde.anonymous().status(id).await.unwrap().shared);
}

/// A small picture as base64.
pub(crate) fn source() -> String {
    use base64::Engine as _;
    let picture = image::RgbImage::new(64, 64);
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
}
