//! One connection and what can be asked over it, timed.

use std::sync::Arc;

use hyper::body::Bytes;
use ordu_api::image::{
    AcceptedRequest, ImageJob, ImageParams, ImagePop, ImageRequest, ImageSubmit, Progress,
    SubmitState, UPLOADED,
};
use ordu_api::text::{
    AcceptedText, TextJob, TextParams, TextPop, TextRequest, TextStatus, TextSubmit,
};
use ordu_api::{ApiKey, JobId, RequestId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Course, Guest};
use crate::commands::bench::stage::{IMAGE_MODEL, TEXT_MODEL};
use crate::commands::bench::wire::{Answer, Call, Wire};

/// What front ends and exporters read.
const READS: &[(&str, &str)] = &[
    ("models", "/api/v2/status/models?type=image"),
    ("performance", "/api/v2/status/performance"),
    ("workers", "/api/v2/workers"),
    ("find_user", "/api/v2/find_user"),
    ("models", "/api/v2/status/models?type=text"),
    ("users", "/api/v2/users?page=1"),
];

/// A worker by its number.
pub(super) fn image_offer(worker: u32) -> ImagePop {
    ImagePop {
        name: format!("bench dreamer {worker}"),
        models: vec![IMAGE_MODEL.to_owned()],
        bridge_agent: "AI Horde Worker reGen:14.0.0:https://example.org".to_owned(),
        ..ImagePop::default()
    }
}

fn text_offer(worker: u32) -> TextPop {
    TextPop {
        name: format!("bench scribe {worker}"),
        models: vec![TEXT_MODEL.to_owned()],
        bridge_agent: "KoboldCppEmbedWorker:2:https://example.org".to_owned(),
        max_context_length: 4096,
        ..TextPop::default()
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) course: Arc<Course>,
    pub(super) wire: Wire,
    /// What it comes back for later.
    pub(super) later: JoinSet<()>,
}

impl Hand {
    pub(super) fn new(course: &Arc<Course>) -> Self {
        Self {
            wire: Wire::new(course.authority()),
            later: JoinSet::new(),
            course: Arc::clone(course),
        }
    }

    /// Asks, and notes how long it took since it was `due`.
    pub(super) async fn timed(
        &mut self,
        endpoint: &'static str,
        due: Instant,
        call: &Call<'_>,
    ) -> Answer {
        let answer = self.wire.call(call).await;
        self.note(endpoint, due, &answer);
        answer
    }

    /// Calls once for somebody who comes for the first time.
    pub(super) async fn introduce(&mut self, guest: Guest) {
        let now = Instant::now();
        match guest {
            Guest::Asker(number) => {
                let course = Arc::clone(&self.course);
                let call = Call::get("/api/v2/find_user", course.people.asker(number));
                self.timed("find_user", now, &call).await;
            }
            Guest::Dreamer(worker) => drop(self.pop_image(worker, None, now).await),
            Guest::Scribe(worker) => drop(self.pop_text(worker, None, now).await),
        }
    }

    fn note(&self, endpoint: &'static str, due: Instant, answer: &Answer) {
        let recorder = &self.course.recorder;
        recorder.note(endpoint, due.elapsed(), answer.error.as_deref());
    }

    pub(super) async fn ask_text(
        &mut self,
        key: &ApiKey,
        prompt: String,
        due: Instant,
    ) -> Option<RequestId> {
        let request = TextRequest {
            prompt,
            models: vec![TEXT_MODEL.to_owned()],
            params: TextParams {
                max_length: Some(16),
                max_context_length: Some(1024),
                ..TextParams::default()
            },
            ..TextRequest::default()
        };
        let call = Call::post("/api/v2/generate/text/async", key, &request);
        let answer = self.timed("text async", due, &call).await;
        answer.read::<AcceptedText>().map(|accepted| accepted.id)
    }

    pub(super) async fn ask_image(&mut self, key: &ApiKey, due: Instant) -> Option<RequestId> {
        let request = ImageRequest {
            prompt: "a red circle".to_owned(),
            models: vec![IMAGE_MODEL.to_owned()],
            params: ImageParams {
                width: Some(64),
                height: Some(64),
                ..ImageParams::default()
            },
            ..ImageRequest::default()
        };
        let call = Call::post("/api/v2/generate/async", key, &request);
        let answer = self.timed("image async", due, &call).await;
        answer.read::<AcceptedRequest>().map(|accepted| accepted.id)
    }

    /// The job and its prompt; waits for one as long as it is told.
    pub(super) async fn pop_text(
        &mut self,
        worker: u32,
        wait_seconds: Option<u32>,
        due: Instant,
    ) -> Option<(JobId, String)> {
        let course = Arc::clone(&self.course);
        let owner = &course.people.owner;
        let call = Call {
            wait_seconds,
            ..Call::post("/api/v2/generate/text/pop", owner, &text_offer(worker))
        };
        let answer = self.wire.call(&call).await;
        let job: Option<TextJob> = answer.read();
        let found = job.and_then(|job| Some((job.id?, job.payload.prompt?)));
        let name = match (&found, wait_seconds) {
            (Some(_), None) => "text pop",
            (Some(_), Some(_)) => "text pop, waits",
            (None, _) => "text pop, idle",
        };
        self.note(name, due, &answer);
        found
    }

    /// The job; waits for one as long as it is told.
    pub(super) async fn pop_image(
        &mut self,
        worker: u32,
        wait_seconds: Option<u32>,
        due: Instant,
    ) -> Option<JobId> {
        let course = Arc::clone(&self.course);
        let owner = &course.people.owner;
        let call = Call {
            wait_seconds,
            ..Call::post("/api/v2/generate/pop", owner, &image_offer(worker))
        };
        let answer = self.wire.call(&call).await;
        let job: Option<ImageJob> = answer.read();
        let found = job.and_then(|job| job.id);
        let name = match found {
            Some(_) => "image pop",
            None => "image pop, idle",
        };
        self.note(name, due, &answer);
        found
    }

    pub(super) async fn submit_text(&mut self, job: JobId, due: Instant) -> bool {
        let submit = TextSubmit {
            id: job.to_string(),
            generation: "there was a horde of volunteers who lent their machines".to_owned(),
            state: SubmitState::Ok,
            seed: 7,
            gen_metadata: Vec::new(),
        };
        let course = Arc::clone(&self.course);
        let owner = &course.people.owner;
        let call = Call::post("/api/v2/generate/text/submit", owner, &submit);
        self.timed("text submit", due, &call).await.error.is_none()
    }

    pub(super) async fn submit_image(&mut self, job: JobId, due: Instant) -> bool {
        let submit = ImageSubmit {
            id: job.to_string(),
            generation: UPLOADED.to_owned(),
            state: SubmitState::Ok,
            seed: 7,
            gen_metadata: Vec::new(),
        };
        let course = Arc::clone(&self.course);
        let owner = &course.people.owner;
        let call = Call::post("/api/v2/generate/submit", owner, &submit);
        self.timed("image submit", due, &call).await.error.is_none()
    }

    pub(super) async fn check(&mut self, id: RequestId, due: Instant) -> Option<Progress> {
        let key = ApiKey::anonymous();
        let call = Call::get(format!("/api/v2/generate/check/{id}"), &key);
        self.timed("check", due, &call).await.read()
    }

    pub(super) async fn text_status(&mut self, id: RequestId, due: Instant) -> Option<TextStatus> {
        let key = ApiKey::anonymous();
        let call = Call::get(format!("/api/v2/generate/text/status/{id}"), &key);
        self.timed("text status", due, &call).await.read()
    }

    pub(super) async fn image_status(&mut self, id: RequestId, due: Instant) -> Answer {
        let key = ApiKey::anonymous();
        let call = Call::get(format!("/api/v2/generate/status/{id}"), &key);
        self.timed("image status", due, &call).await
    }

    pub(super) async fn heartbeat(&mut self) -> Bytes {
        let key = ApiKey::anonymous();
        let call = Call::get("/api/v2/status/heartbeat", &key);
        self.timed("heartbeat", Instant::now(), &call).await.body
    }

    /// One of what front ends read.
    pub(super) async fn read(&mut self, number: usize, due: Instant) {
        let course = Arc::clone(&self.course);
        if let Some((name, path)) = READS.get(number % READS.len()) {
            let call = Call::get(*path, course.people.asker(0));
            self.timed(name, due, &call).await;
        }
    }
}
