//! How far a request is, and whether anybody could serve it.
//!
//! # Source
//! `generation.md` § 3.11, § 3.12, § 6.9.

use std::collections::BTreeMap;

use ordu_api::image::{Metadata, Progress};
use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, WorkerId};
use serde_json::{Map, Value};

use super::demand::Demand;
use super::matching::Matcher;
use super::queue::Queue;
use super::rank::{Ahead, Place};
use super::request::divisor;
use super::slots::{MAX_ABORTS, Slots};
use super::workers::Workers;
use super::{Content, Delivered, Entry, Horde, Job, JobState, Queues, Request, Work, kinds};
use crate::{Kudos, Millis, Timestamp};

/// A verdict on whether a request can be served holds this long, unless a worker changes.
const VERDICT_LIFETIME: Millis = Millis::from_seconds(60);

/// Whether a request could be served when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    is_possible: bool,
    until: Timestamp,
    epoch: u64,
}

/// A delivered result, as its requester sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationView {
    /// The job.
    pub job: JobId,
    /// The seed that was used.
    pub seed: i64,
    /// With which model.
    pub model: String,
    /// By which worker.
    pub worker: WorkerId,
    /// The worker's name.
    pub worker_name: String,
    /// Whether it was replaced for what it showed.
    pub censored: bool,
    /// The worker's remarks.
    pub metadata: Vec<Metadata>,
    /// The result.
    pub content: Content,
}

/// A form of an alchemy request, as its requester sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormView {
    /// What is to be done.
    pub name: String,
    /// How far it is.
    pub state: FormState,
}

/// How far a form is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormState {
    /// No worker has it.
    Waiting,
    /// A worker has it.
    Processing,
    /// It is done, by this job with this result.
    Done(JobId, Map<String, Value>),
    /// It failed too often.
    Faulted,
    /// Its requester gave it up.
    Cancelled,
}

impl Horde {
    /// How far a request is; `None` if it is unknown or expired.
    pub fn progress(&mut self, request: RequestId, now: Timestamp) -> Option<Progress> {
        // Looked up once: where many wait, each look reaches far into memory.
        let entry = self.requests.get_mut(&request)?;
        let is_possible = entry.is_possible(&self.queues, &self.workers, now);
        let running = entry.running_seconds(&self.jobs, &self.workers, now);
        let wanted = entry
            .request
            .work
            .asked()
            .saturating_sub(entry.running)
            .saturating_sub(entry.finished);
        let (place, kind) = (entry.place, entry.request.work.kind());
        let ahead = self.queues.of(kind).ahead(place);
        let mut progress = Progress {
            finished: entry.finished,
            processing: entry.running,
            restarted: entry.faults,
            waiting: entry.open.count().min(wanted),
            done: entry.is_done(),
            faulted: entry.faulted,
            wait_time: 0,
            queue_position: ahead.map_or(0, |ahead| ahead.requests),
            kudos: whole(entry.kudos),
            is_possible,
            ..Progress::default()
        };
        progress.wait_time = seconds(self.queue_seconds(kind, ahead, now) + running);
        Some(progress)
    }

    /// The results of a request that are there, oldest job first; empty if it is unknown.
    pub fn generations(&self, request: RequestId) -> Vec<GenerationView> {
        let jobs = self.requests.get(&request).map(|entry| &entry.jobs);
        let jobs = jobs
            .into_iter()
            .flatten()
            .filter_map(|id| self.jobs.get(id));
        jobs.filter_map(|job| match &job.state {
            JobState::Done(delivered) => Some(GenerationView {
                job: job.id,
                seed: delivered.seed,
                model: job.model.clone(),
                worker: job.worker,
                worker_name: job.worker_name.clone(),
                censored: delivered.censored,
                metadata: delivered.metadata.clone(),
                content: delivered.content.clone(),
            }),
            JobState::Running | JobState::Faulted => None,
        })
        .collect()
    }

    /// The forms of an alchemy request, in the order in which they were asked for; `None` if there
    /// is no such request.
    pub fn forms(&self, request: RequestId) -> Option<Vec<FormView>> {
        let entry = self.requests.get(&request)?;
        let Work::Alchemy(spec) = &entry.request.work else {
            return None;
        };
        let views = spec.slots().filter_map(|slot| {
            Some(FormView {
                name: spec.form(slot)?.name.clone(),
                state: self.form_state(entry, slot),
            })
        });
        Some(views.collect())
    }

    /// The jobs of a request that run, decoys left out.
    pub fn running(&self, request: RequestId) -> Vec<Job> {
        let entry = self.requests.get(&request);
        let jobs = entry.into_iter().flat_map(|entry| &entry.jobs);
        let jobs = jobs.filter_map(|id| self.jobs.get(id));
        let running = jobs.filter(|job| job.state == JobState::Running);
        running.cloned().collect()
    }

    fn form_state(&self, entry: &Entry, slot: u32) -> FormState {
        for job in self.jobs_of(entry, slot) {
            match &job.state {
                JobState::Running => return FormState::Processing,
                JobState::Done(Delivered {
                    content: Content::Form(result),
                    ..
                }) => return FormState::Done(job.id, result.clone()),
                JobState::Done(_) => return FormState::Cancelled,
                JobState::Faulted => {}
            }
        }
        if entry.open.has(slot) {
            FormState::Waiting
        } else if self.aborts(entry, slot) >= MAX_ABORTS {
            FormState::Faulted
        } else {
            FormState::Cancelled
        }
    }

    /// Whether a worker that is online could serve a request that is not in the horde yet.
    pub fn has_valid_worker(&mut self, request: &Request, now: Timestamp) -> bool {
        let queue = self.queues.of_mut(request.work.kind());
        let open = Slots::restored(&request.work, request.work.asked(), &[]);
        let demand = queue.hold(request, &open);
        let price = request.work.base_price(&self.reference);
        let entry = Entry::considered(request.clone(), (demand, open), price);
        let could = somebody_could_serve(&entry, queue, &self.workers, now);
        queue.let_go(demand);
        could
    }

    /// Expected seconds until what waits up to here is done by all workers together.
    #[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
    fn queue_seconds(&mut self, kind: WorkKind, ahead: Option<Ahead>, now: Timestamp) -> f64 {
        let Some(ahead) = ahead else {
            return 0.0;
        };
        let divisor = divisor(kind);
        let threads = self.workers.threads(kind, now).min(ahead.slots);
        let rate = kinds::rate(kind, self.workers.mean_speed(kind, now));
        let speed = rate / divisor * threads as f64;
        let speed = if speed > 0.0 { speed } else { 1.0 };
        ahead.things as f64 / divisor / speed
    }
}

impl Entry {
    /// A request that only asks who could serve it.
    pub(super) fn considered(
        request: Request,
        (demand, open): (Demand, Slots),
        base_price: Kudos,
    ) -> Self {
        Self {
            place: Place::new(request.priority, request.created, 0),
            demand,
            base_price,
            open,
            asked: 0,
            jobs: Vec::new(),
            running: 0,
            finished: 0,
            faults: 0,
            kudos: Kudos::ZERO,
            expires: request.created,
            faulted: false,
            cancelled: false,
            turn: 0,
            kept_back_until: request.created,
            verdict: None,
            counted: 0,
            request,
        }
    }

    /// Whether something runs for it, or a worker that is online could serve it.
    fn is_possible(&mut self, queues: &Queues, workers: &Workers, now: Timestamp) -> bool {
        if self.running > 0 {
            return true;
        }
        let epoch = workers.epoch;
        let holds = |verdict: &Verdict| verdict.epoch == epoch && now < verdict.until;
        if let Some(verdict) = self.verdict.filter(holds) {
            return verdict.is_possible;
        }
        let queue = queues.of(self.request.work.kind());
        let is_possible = somebody_could_serve(self, queue, workers, now);
        self.verdict = Some(Verdict {
            is_possible,
            until: now + VERDICT_LIFETIME,
            epoch,
        });
        is_possible
    }

    /// Expected seconds until its last running job is done.
    #[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
    fn running_seconds(
        &self,
        jobs: &BTreeMap<JobId, Job>,
        workers: &Workers,
        now: Timestamp,
    ) -> f64 {
        if self.running == 0 {
            return 0.0;
        }
        let jobs = self.jobs.iter().filter_map(|id| jobs.get(id));
        let running = jobs.filter(|job| job.state == JobState::Running);
        let remaining = running.map(|job| {
            let kind = self.request.work.kind();
            let worker = workers.get(job.worker);
            let speed = worker.map_or_else(|| divisor(kind), |worker| worker.record.speed());
            job.things as f64 / kinds::rate(kind, speed) - now.since(job.assigned).as_seconds()
        });
        remaining.fold(0.0, f64::max)
    }
}

fn somebody_could_serve(entry: &Entry, queue: &Queue, workers: &Workers, now: Timestamp) -> bool {
    let requests = BTreeMap::new();
    let kind = entry.request.work.kind();
    let of_kind = workers
        .online(now)
        .filter(|worker| worker.record.kind == kind);
    of_kind
        .filter_map(|worker| Some((worker, worker.capacity.as_ref()?)))
        .any(|(worker, capacity)| {
            let matcher = Matcher {
                queue,
                requests: &requests,
                worker,
                capacity,
                near: Millis::default(),
                behind: false,
                now,
            };
            matcher.could_serve(entry)
        })
}

/// Kudos as the protocol shows them here: whole.
fn whole(kudos: Kudos) -> f64 {
    kudos.as_f64().round()
}

/// Whole seconds; what is too long or no number is the longest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn seconds(seconds: f64) -> u64 {
    seconds.round() as u64
}
