//! A horde for one test: a real server on a free port, a clock moved by hand, typed and raw clients.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;

use futures::FutureExt as _;
use ordu_api::ApiKey;
use ordu_api::alchemy::{AlchemyPop, AlchemyRequest, AlchemySubmit, Form};
use ordu_api::image::{ImageJob, ImagePop, ImageRequest, ImageSubmit, SubmitState, UPLOADED};
use ordu_api::text::{TextPop, TextRequest, TextSubmit};
use ordu_api::user::TestUser;
use ordu_client::Horde;
use ordu_core::{Millis, Timestamp};
use ordu_server::{Clock, Config, Server};
use serde_json::{Value, json};

use crate::described::{self, Exchange};

/// When every test begins.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// A running horde.
pub(crate) struct TestHorde {
    pub(crate) server: Server,
    pub(crate) clock: Clock,
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
}

impl TestHorde {
    /// A horde with everything in memory.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// A horde with its database and its pictures in a folder.
    pub(crate) async fn start_in(folder: &Path, listen: &str) -> Self {
        let folder = folder.to_owned();
        let listen = listen.parse().unwrap();
        Self::start_with(|config| Config {
            listen,
            database: format!("sqlite://{}", folder.join("ordu.db").display()),
            blobs: ordu_server::BlobPlace::Folder(folder.join("blobs")),
            ..config
        })
        .await
    }

    /// The same, at another time than the usual one.
    pub(crate) async fn start_in_at(folder: &Path, clock: Clock) -> Self {
        let mut horde = Self::start_with(|config| Config {
            database: format!("sqlite://{}", folder.join("ordu.db").display()),
            blobs: ordu_server::BlobPlace::Folder(folder.join("blobs")),
            clock: clock.clone(),
            ..config
        })
        .await;
        horde.clock = clock;
        horde
    }

    pub(crate) async fn start_with(adapt: impl FnOnce(Config) -> Config) -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let clock = Clock::manual(START);
        let config = Config {
            clock: clock.clone(),
            ..Config::in_memory()
        };
        let server = Server::start(adapt(config)).await.unwrap();
        let url = server.url();
        Self {
            server,
            clock,
            http: reqwest::Client::new(),
            url,
        }
    }

    /// Mints a user; `name` is also its external identity.
    pub(crate) async fn user(&self, name: &str, kudos: f64) -> TestUser {
        let body = json!({ "username": name, "oauth_id": name, "kudos": kudos, "moderator": false, "trusted": true });
        let answer = self.post("/dev/test-user", None, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        serde_json::from_value(answer.body).unwrap()
    }

    /// A typed client with a key.
    pub(crate) fn client(&self, key: &ApiKey) -> Horde {
        Horde::new(&self.url, key.clone(), "tests:1:here").unwrap()
    }

    pub(crate) fn anonymous(&self) -> Horde {
        self.client(&ApiKey::anonymous())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.http.get(format!("{}/api/v2{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, key: Option<&ApiKey>, body: &Value) -> Answer {
        let mut request = self
            .http
            .post(format!("{}/api/v2{path}", self.url))
            .json(body);
        if let Some(key) = key {
            request = request.header("apikey", key.reveal());
        }
        Answer::read(request).await
    }

    /// Any call, with any key.
    pub(crate) async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let url = format!("{}/api/v2{path}", self.url);
        let mut request = self.http.request(method, url);
        if let Some(key) = key {
            request = request.header("apikey", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::read(request).await
    }

    /// Mints a user as given: `moderator`, `trusted`, `kudos`.
    pub(crate) async fn mint(&self, name: &str, more: Value) -> TestUser {
        let mut body = json!({
            "username": name, "oauth_id": name, "moderator": false, "trusted": false, "kudos": 0,
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let answer = self.post("/dev/test-user", None, &body).await;
        assert!(answer.status < 300, "{}", answer.body);
        serde_json::from_value(answer.body).unwrap()
    }

    /// Moves the clock.
    pub(crate) fn later(&self, seconds: i64) {
        self.clock.advance(Millis::from_seconds(seconds));
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(request: reqwest::RequestBuilder) -> Self {
        let (http, request) = request.build_split();
        let request = request.unwrap();
        let method = request.method().as_str().to_owned();
        let path = request.url().path().to_owned();
        // A mask leaves out what must be there.
        let is_whole = !request.headers().contains_key("x-fields");
        let response = http.execute(request).await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // A stream of events may never end.
        let is_stream = headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        let text = if is_stream {
            String::new()
        } else {
            response.text().await.unwrap()
        };
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if is_whole {
            described::check(&Exchange {
                method: &method,
                path: &path,
                status,
                body: &body,
            });
        }
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn rc(&self) -> &str {
        self.body["rc"].as_str().unwrap_or_default()
    }
}

/// What must happen soon, or the test fails.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, work).await.unwrap()
}

/// Waits until the server looks so.
pub(crate) async fn until(horde: &TestHorde, is_so: impl Fn(ordu_server::Onlookers) -> bool) {
    soon(async {
        while !is_so(horde.server.onlookers()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Runs a test on SQLite and, where `ORDU_TEST_POSTGRES` names a server, in a schema of its own on
/// PostgreSQL. The test gets the address of its database.
pub(crate) async fn on_each_database(test: impl AsyncFn(&str)) {
    test("sqlite::memory:").await;
    let Ok(address) = std::env::var("ORDU_TEST_POSTGRES") else {
        assert!(
            std::env::var("ORDU_TEST_NO_SKIP").is_err(),
            "ORDU_TEST_POSTGRES is not set"
        );
        eprintln!("SKIPPED on PostgreSQL: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let schema = ordu_store::testing::Schema::create(&address).await.unwrap();
    let url = schema.url();
    let ended = AssertUnwindSafe(test(&url)).catch_unwind().await;
    schema.drop_schema().await.unwrap();
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

/// The smallest request that is accepted.
pub(crate) fn request() -> ImageRequest {
    ImageRequest {
        prompt: "a red circle###blur".to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        ..ImageRequest::default()
    }
}

/// A worker that can do everything.
pub(crate) fn pop(name: &str) -> ImagePop {
    ImagePop {
        name: name.to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        bridge_agent: "AI Horde Worker reGen:14.0.0:https://example.org".to_owned(),
        max_pixels: 4_194_304,
        amount: 4,
        allow_controlnet: true,
        allow_lora: true,
        ..ImagePop::default()
    }
}

/// A request for these forms of a small picture.
pub(crate) fn alchemy_request(forms: &[&str]) -> AlchemyRequest {
    let form = |name: &&str| Form {
        name: (*name).to_owned(),
        payload: None,
    };
    AlchemyRequest {
        forms: forms.iter().map(form).collect(),
        source_image: TINY_PNG.to_owned(),
        ..AlchemyRequest::default()
    }
}

/// An alchemist that knows these forms.
pub(crate) fn alchemy_pop(name: &str, forms: &[&str]) -> AlchemyPop {
    AlchemyPop {
        name: name.to_owned(),
        forms: forms.iter().map(|form| (*form).to_owned()).collect(),
        amount: 5,
        ..AlchemyPop::default()
    }
}

/// A form with a result of one member.
pub(crate) fn answered(id: impl std::fmt::Display, form: &str, result: &str) -> AlchemySubmit {
    AlchemySubmit {
        id: id.to_string(),
        result: serde_json::Map::from_iter([(form.to_owned(), result.into())]),
        state: SubmitState::Ok,
    }
}

/// A PNG of one pixel, as base64.
pub(crate) const TINY_PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The smallest request for a text that is accepted.
pub(crate) fn text_request() -> TextRequest {
    TextRequest {
        prompt: "Once upon a time".to_owned(),
        models: vec![TEXT_MODEL.to_owned()],
        ..TextRequest::default()
    }
}

/// A text worker that can do much.
pub(crate) fn text_pop(name: &str) -> TextPop {
    TextPop {
        name: name.to_owned(),
        models: vec![TEXT_MODEL.to_owned()],
        bridge_agent: "KoboldCppEmbedWorker:2:https://example.org".to_owned(),
        max_context_length: 4096,
        ..TextPop::default()
    }
}

/// A delivered text.
pub(crate) fn written(id: impl std::fmt::Display) -> TextSubmit {
    TextSubmit {
        id: id.to_string(),
        generation: "there was a horde".to_owned(),
        state: SubmitState::Ok,
        seed: 7,
        gen_metadata: Vec::new(),
    }
}

/// A text model of the built-in reference.
pub(crate) const TEXT_MODEL: &str = "koboldcpp/LLaMA2-13B-Tiefighter";

/// A delivered job.
pub(crate) fn delivered(id: impl std::fmt::Display) -> ImageSubmit {
    ImageSubmit {
        id: id.to_string(),
        generation: UPLOADED.to_owned(),
        state: SubmitState::Ok,
        seed: 7,
        gen_metadata: Vec::new(),
    }
}

/// Uploads a picture for each job of a batch and submits it; answers the rewards.
pub(crate) async fn deliver_all(worker: &Horde, job: &ImageJob) -> Vec<f64> {
    let mut rewards = Vec::new();
    let uploads = job.r2_uploads.clone().unwrap();
    for (id, upload) in job.ids.iter().zip(uploads) {
        worker
            .upload(&upload, PICTURE.to_vec().into())
            .await
            .unwrap();
        rewards.push(worker.submit_image(&delivered(id)).await.unwrap().reward);
    }
    rewards
}

/// Some bytes; the server does not look into what workers upload.
pub(crate) const PICTURE: &[u8] = b"RIFF\0\0\0\0WEBP";
