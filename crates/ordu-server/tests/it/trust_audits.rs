//! Pictures of untrusted workers, made once more by a trusted one.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ordu_api::image::{ImageJob, ImagePop};
use ordu_api::user::TestUser;
use ordu_client::Horde;
use ordu_server::{Config, TrustAuditConfig};
use serde_json::{Value, json};

use crate::support::{TestHorde, delivered, on_each_database, pop, request, soon};

/// A horde that looks at every picture of untrusted workers.
async fn strict(database: &str) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        trust_audits: TrustAuditConfig {
            share: 1.0,
            strikes: 2,
            ..TrustAuditConfig::default()
        },
        ..config
    })
    .await
}

/// A picture as a PNG; what it shows follows from `seed`.
pub(crate) fn picture(seed: u32) -> Vec<u8> {
    let at = |x: u32, y: u32| {
        let wave = |place: u32, times: u32| u8::try_from(place * times / 3 % 256).unwrap();
        let (x, y) = (x + seed * 37, y ^ (seed * 21));
        Rgb([wave(x, 7 + seed), wave(y, 11), wave(x ^ y, 5 + seed * 3)])
    };
    let mut file = Cursor::new(Vec::new());
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(128, 96, at));
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

pub(crate) async fn hand_in(worker: &Horde, job: &ImageJob, picture: &[u8]) -> f64 {
    let upload = &job.r2_uploads.as_ref().unwrap()[0];
    worker
        .upload(upload, picture.to_vec().into())
        .await
        .unwrap();
    let submitted = worker.submit_image(&delivered(job.ids[0])).await;
    submitted.unwrap().reward
}

/// Comes again until there is a job.
async fn next_job(worker: &Horde, offer: &ImagePop) -> ImageJob {
    soon(async {
        loop {
            let job = worker.pop_image(offer).await.unwrap();
            if job.id.is_some() {
                return job;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

struct World {
    horde: TestHorde,
    moderator: TestUser,
    newcomer: TestUser,
    veteran: TestUser,
    asker: TestUser,
}

impl World {
    async fn new(database: &str) -> Self {
        let horde = strict(database).await;
        let moderator = horde.mint("keeper", json!({ "moderator": true })).await;
        let newcomer = horde.mint("newcomer", json!({})).await;
        let veteran = horde.mint("veteran", json!({ "trusted": true })).await;
        let asker = horde.mint("asker", json!({ "kudos": 1000 })).await;
        Self {
            horde,
            moderator,
            newcomer,
            veteran,
            asker,
        }
    }

    async fn audits(&self, query: &str) -> Vec<Value> {
        let path = format!("/operations/trust-audits{query}");
        let key = Some(self.moderator.api_key.reveal());
        let answer = self
            .horde
            .call(reqwest::Method::GET, &path, key, None)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.as_array().unwrap().clone()
    }

    /// Waits until so many audits are over.
    async fn wait_for(&self, count: usize) -> Vec<Value> {
        soon(async {
            loop {
                let audits = self.audits("").await;
                if audits.len() == count {
                    return audits;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    async fn kudos(&self, user: &TestUser) -> f64 {
        self.horde.server.settle_down().await.unwrap();
        let path = format!("/users/{}", user.user_id);
        let answer = self.horde.get(&path).await;
        answer.body["kudos"].as_f64().unwrap()
    }

    /// The newcomer makes a picture, the veteran makes it once more.
    async fn make_twice(&self, first: &[u8], again: &[u8]) -> (ImageJob, ImageJob) {
        let client = self.horde.client(&self.asker.api_key);
        let newcomer = self.horde.client(&self.newcomer.api_key);
        let veteran = self.horde.client(&self.veteran.api_key);
        // The veteran is online before there is anything to do.
        assert!(
            veteran
                .pop_image(&pop("veteran"))
                .await
                .unwrap()
                .id
                .is_none()
        );
        client.async_image(&request()).await.unwrap();
        let job = newcomer.pop_image(&pop("newcomer")).await.unwrap();
        // Who takes no time at all is suspected of something else.
        self.horde.later(20);
        hand_in(&newcomer, &job, first).await;
        let twin = next_job(&veteran, &pop("veteran")).await;
        hand_in(&veteran, &twin, again).await;
        (job, twin)
    }
}

#[tokio::test]
async fn a_twin_looks_like_any_job_and_costs_nobody_anything() {
    on_each_database(async |database| {
        let world = World::new(database).await;
        let before = world.kudos(&world.asker).await;
        let plain = picture(1);
        let (job, twin) = world.make_twice(&plain, &plain).await;
        assert_eq!(
            twin.payload.seed.as_deref(),
            Some("7"),
            "what the worker said it used"
        );
        assert_eq!(twin.payload.prompt, job.payload.prompt);
        assert_eq!(twin.model, job.model);
        assert_eq!(
            json!(twin).as_object().unwrap().keys().collect::<Vec<_>>(),
            json!(job).as_object().unwrap().keys().collect::<Vec<_>>()
        );

        let audits = world.wait_for(1).await;
        assert_eq!(audits[0]["differs"], false);
        assert_eq!(audits[0]["distance"], 0.0);
        assert_eq!(audits[0]["job"], json!(job.ids[0]));
        assert_eq!(audits[0]["worker_name"], "newcomer");
        let worker = audits[0]["worker_id"].as_str().unwrap();
        assert_eq!(world.audits(&format!("?worker={worker}")).await.len(), 1);
        let other = audits[0]["twin_worker_id"].as_str().unwrap();
        assert!(world.audits(&format!("?worker={other}")).await.is_empty());
        assert!(world.audits("?page=2").await.is_empty());

        // The requester paid for one picture, both workers were paid; the books are right.
        let paid = before - world.kudos(&world.asker).await;
        assert!(paid > 5.0 && paid < 15.0, "{paid}");
        assert!(world.kudos(&world.veteran).await > 5.0);
        let store = world.horde.server.store();
        assert_eq!(store.ledger_sum().await.unwrap(), ordu_core::Kudos::ZERO);
        assert!(store.audit().await.unwrap().is_empty());
        world.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn different_pictures_speak_against_a_worker() {
    on_each_database(async |database| {
        let world = World::new(database).await;
        let suspicion = async || -> f64 {
            let path = format!("/users/{}", world.newcomer.user_id);
            let key = Some(world.moderator.api_key.reveal());
            let seen = world
                .horde
                .call(reqwest::Method::GET, &path, key, None)
                .await;
            seen.body["suspicious"].as_f64().unwrap()
        };
        for round in 1..=3_u32 {
            world.make_twice(&picture(round), &picture(round + 7)).await;
            let audits = world.wait_for(round as usize).await;
            assert_eq!(audits[0]["differs"], true, "{audits:?}");
            // Strikes come before suspicions: two of them are one.
            let expected = f64::from(round.saturating_sub(1));
            soon(async {
                while (suspicion().await - expected).abs() > f64::EPSILON {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        world.horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_moderators_see_audits_and_trusted_workers_have_none() {
    let world = World::new("sqlite::memory:").await;
    let list = async |key: Option<&str>, query: &str| {
        let path = format!("/operations/trust-audits{query}");
        let method = reqwest::Method::GET;
        world.horde.call(method, &path, key, None).await.status
    };
    assert_eq!(list(Some(world.asker.api_key.reveal()), "").await, 403);
    assert_eq!(list(None, "").await, 400);
    let keeper = Some(world.moderator.api_key.reveal());
    assert_eq!(list(keeper, "?worker=x").await, 400);
    assert_eq!(list(keeper, "?page=x").await, 400);
    assert_eq!(list(keeper, "?page=0").await, 400);

    let veteran = world.horde.client(&world.veteran.api_key);
    let client = world.horde.client(&world.asker.api_key);
    veteran.pop_image(&pop("veteran")).await.unwrap();
    client.async_image(&request()).await.unwrap();
    let job = veteran.pop_image(&pop("veteran")).await.unwrap();
    hand_in(&veteran, &job, &picture(1)).await;
    world.horde.server.settle_down().await.unwrap();
    assert!(
        veteran
            .pop_image(&pop("veteran"))
            .await
            .unwrap()
            .id
            .is_none()
    );
    assert!(world.audits("").await.is_empty());
}

#[tokio::test]
async fn a_twin_survives_a_restart_and_junk_is_no_twin() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let path = folder.path().to_owned();
        TestHorde::start_with(|config| Config {
            database: format!("sqlite://{}", path.join("ordu.db").display()),
            blobs: ordu_server::BlobPlace::Folder(path.join("blobs")),
            trust_audits: TrustAuditConfig {
                share: 1.0,
                ..TrustAuditConfig::default()
            },
            ..config
        })
        .await
    };
    let horde = start().await;
    let newcomer = horde.mint("newcomer", json!({})).await;
    let veteran = horde.mint("veteran", json!({ "trusted": true })).await;
    let keeper = horde.mint("keeper", json!({ "moderator": true })).await;
    let (first, second) = (
        horde.client(&newcomer.api_key),
        horde.client(&veteran.api_key),
    );
    second.pop_image(&pop("veteran")).await.unwrap();
    for bytes in [b"junk".to_vec(), picture(3)] {
        horde.anonymous().async_image(&request()).await.unwrap();
        let job = first.pop_image(&pop("newcomer")).await.unwrap();
        hand_in(&first, &job, &bytes).await;
    }
    soon(async {
        while horde.get("/status/performance").await.body["queued_requests"] != 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    horde.server.stop().await;

    let horde = start().await;
    let second = horde.client(&veteran.api_key);
    let twin = next_job(&second, &pop("veteran")).await;
    hand_in(&second, &twin, &picture(3)).await;
    let key = Some(keeper.api_key.reveal());
    let path = "/operations/trust-audits";
    let audits = soon(async {
        loop {
            let listed = horde.call(reqwest::Method::GET, path, key, None).await.body;
            if listed.as_array().is_some_and(|list| !list.is_empty()) {
                return listed;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(audits.as_array().unwrap().len(), 1);
    assert_eq!(audits[0]["differs"], false);
    assert!(
        second
            .pop_image(&pop("veteran"))
            .await
            .unwrap()
            .id
            .is_none()
    );
}
