//! What a worker is doing, for whoever watches it.

use std::collections::BTreeMap;
use std::time::Duration;

use ordu_api::JobId;
use ordu_api::worker::{WorkKind, WorkerMessage};
use ordu_engine::Held;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::figures::{Earnings, Histogram};

/// How many messages of the horde are kept.
const MAX_MESSAGES: usize = 50;

/// A worker at one moment. It travels over a `watch` channel: whoever looks sees the newest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// What it does as a whole: what its liveliest role does.
    pub phase: Phase,
    /// What it does in each of its roles.
    pub roles: BTreeMap<WorkKind, Phase>,
    /// What it is called in each of its roles.
    pub names: BTreeMap<WorkKind, String>,
    /// Its owner's account, once the horde has told it.
    pub account: Option<Account>,
    /// The jobs it has, oldest first.
    pub jobs: Vec<JobStatus>,
    /// Jobs whose every result was delivered.
    pub done: u64,
    /// Jobs that failed, wholly or partly, and were handed back.
    pub faulted: u64,
    /// Jobs that the horde had given up before they were delivered.
    pub lost: u64,
    /// Pictures that were delivered.
    pub pictures: u64,
    /// Texts that were delivered.
    pub texts: u64,
    /// Forms of alchemy that were delivered.
    pub forms: u64,
    /// Rewards since the start, in kudos.
    pub kudos: f64,
    /// The same over time.
    pub earned: Earnings,
    /// How often the horde was asked, by what came of it.
    pub pops: BTreeMap<&'static str, u64>,
    /// Why the last pop found nothing: how many requests were left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Jobs that were not delivered, by cause.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long jobs were where, by stage, and how long pops took that the horde answered at once.
    pub seconds: BTreeMap<&'static str, Histogram>,
    /// What does the work.
    pub engines: BTreeMap<WorkKind, EngineStatus>,
    /// The name of the last thing that went wrong.
    pub last_error: Option<String>,
    /// News from the horde for its owner, oldest first.
    pub messages: Vec<WorkerMessage>,
}

/// The account that a worker earns for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// As `name#1`.
    pub alias: String,
    /// What it has, in kudos.
    pub kudos: f64,
}

/// What a worker does as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was popped yet.
    #[default]
    Starting,
    /// It pops.
    Serving,
    /// It pops, but the horde gives it only its owner's jobs. With the horde's reason.
    Maintenance(String),
    /// It does not pop for this long, because too much failed.
    Paused(Duration),
    /// It does not pop, because its owner says so.
    OnHold,
    /// No model is left that it could offer.
    NothingToOffer,
    /// It does not pop, because its engine is not there. With the reason.
    NoEngine(String),
    /// It finishes what it popped.
    Draining,
    /// It is done.
    Stopped,
}

impl Phase {
    /// How lively it is.
    fn rank(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Draining => 1,
            Self::Starting => 2,
            Self::NoEngine(_) => 3,
            Self::NothingToOffer => 4,
            Self::Paused(_) => 5,
            Self::OnHold => 6,
            Self::Maintenance(_) => 7,
            Self::Serving => 8,
        }
    }
}

/// What does the work of one role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStatus {
    /// Whether it can do anything.
    pub is_up: bool,
    /// Models or forms that were offered last.
    pub offered: Vec<String>,
    /// Models that lie in memory, as far as it says so.
    pub held: Vec<Held>,
    /// What is not offered because it failed too often, until when.
    pub quarantined: BTreeMap<String, Instant>,
    /// Until all jobs that it has are done, as far as that can be told.
    pub backlog: Option<Duration>,
    /// Seconds per unit of work, by model, as its jobs told: a megapixelstep, a token, a form.
    pub speeds: BTreeMap<String, f64>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// The first of its ids.
    pub id: JobId,
    /// What kind of work it is.
    pub kind: WorkKind,
    /// With which model.
    pub model: String,
    /// Pictures, texts or forms to make.
    pub parts: usize,
    /// Where it is.
    pub stage: Stage,
    /// When it was popped.
    pub popped: Instant,
    /// When it came to where it is.
    pub since: Instant,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its source pictures are being fetched.
    Fetching,
    /// It waits for the engine.
    Ready,
    /// The engine has it. Steps are 0 of 0 before the first one.
    Sampling {
        /// Steps done.
        step: u32,
        /// Steps in all.
        of: u32,
    },
    /// It is being encoded, uploaded and submitted.
    Delivering,
    /// It failed, and the horde is being told.
    Faulting,
}

impl Stage {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Ready => "waiting",
            Self::Sampling { .. } => "generating",
            Self::Delivering => "delivering",
            Self::Faulting => "faulting",
        }
    }
}

impl Status {
    /// A job leaves a stage.
    fn count_stage(&mut self, stage: Stage, since: Instant) {
        let seconds = self.seconds.entry(stage.name()).or_default();
        seconds.add(since.elapsed());
    }
}

/// The writing side of [`Status`], for one role.
#[derive(Debug)]
pub(crate) struct Board {
    status: watch::Sender<Status>,
    kind: WorkKind,
}

impl Board {
    pub(crate) fn new(status: watch::Sender<Status>, kind: WorkKind) -> Self {
        let board = Self { status, kind };
        board.phase(Phase::Starting);
        board
    }

    pub(crate) fn snapshot(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    /// What this role does now.
    pub(crate) fn phase(&self, phase: Phase) {
        self.status.send_if_modified(|status| {
            let changes = status.roles.get(&self.kind) != Some(&phase);
            status.roles.insert(self.kind, phase);
            let liveliest = status.roles.values().max_by_key(|phase| phase.rank());
            status.phase = liveliest.cloned().unwrap_or_default();
            changes
        });
    }

    /// What the worker is called in this role.
    pub(crate) fn name(&self, name: &str) {
        self.status.send_if_modified(|status| {
            let before = status.names.insert(self.kind, name.to_owned());
            before.as_deref() != Some(name)
        });
    }

    /// What this role did until now.
    pub(crate) fn phase_now(&self) -> Phase {
        let status = self.status.borrow();
        status.roles.get(&self.kind).cloned().unwrap_or_default()
    }

    pub(crate) fn error(&self, error: impl Into<String>) {
        let error = Some(error.into());
        self.update(|status| status.last_error = error);
    }

    pub(crate) fn stage(&self, id: JobId, stage: Stage) {
        self.update(|status| {
            let Some(job) = status.jobs.iter_mut().find(|job| job.id == id) else {
                return;
            };
            let before = std::mem::replace(&mut job.stage, stage);
            if before.name() != stage.name() {
                let since = std::mem::replace(&mut job.since, Instant::now());
                status.count_stage(before, since);
            }
        });
    }

    /// Something has taken from then until now.
    pub(crate) fn waited(&self, stage: &'static str, since: Instant) {
        self.update(|status| {
            let seconds = status.seconds.entry(stage).or_default();
            seconds.add(since.elapsed());
        });
    }

    /// One more pop, and what came of it.
    pub(crate) fn popped(&self, result: &'static str) {
        self.update(|status| *status.pops.entry(result).or_default() += 1);
    }

    /// What there is to say about what does the work.
    pub(crate) fn engine(&self, change: impl FnOnce(&mut EngineStatus)) {
        self.status.send_if_modified(|status| {
            let engine = status.engines.entry(self.kind).or_default();
            let before = engine.clone();
            change(engine);
            *engine != before
        });
    }

    /// How much of a job the engine has done, 0 to 1.
    pub(crate) fn share_done(&self, id: JobId) -> f64 {
        match self.stage_of(id) {
            Some(Stage::Sampling { step, of }) if of > 0 => f64::from(step.min(of)) / f64::from(of),
            Some(Stage::Delivering | Stage::Faulting) => 1.0,
            _ => 0.0,
        }
    }

    pub(crate) fn stage_of(&self, id: JobId) -> Option<Stage> {
        let status = self.status.borrow();
        let job = status.jobs.iter().find(|job| job.id == id)?;
        Some(job.stage)
    }

    pub(crate) fn remove(&self, id: JobId) {
        self.update(|status| {
            let place = status.jobs.iter().position(|job| job.id == id);
            if let Some(job) = place.map(|place| status.jobs.remove(place)) {
                status.count_stage(job.stage, job.since);
            }
        });
    }

    /// Jobs with this model that the engine has not finished.
    pub(crate) fn unfinished(&self, model: &str) -> usize {
        let waits = |stage| !matches!(stage, Stage::Delivering | Stage::Faulting);
        let jobs = &self.status.borrow().jobs;
        jobs.iter()
            .filter(|job| job.kind == self.kind && job.model == model && waits(job.stage))
            .count()
    }

    /// Whether the worker has jobs of a kind whose pictures are not made yet.
    pub(crate) fn works_at(&self, kind: WorkKind) -> bool {
        let waits = |stage| !matches!(stage, Stage::Delivering | Stage::Faulting);
        let jobs = &self.status.borrow().jobs;
        jobs.iter().any(|job| job.kind == kind && waits(job.stage))
    }

    /// Keeps the messages that are new, and returns them.
    pub(crate) fn hear(&self, messages: Vec<WorkerMessage>) -> Vec<WorkerMessage> {
        let known = self.snapshot().messages;
        let fresh: Vec<_> = messages
            .into_iter()
            .filter(|message| known.iter().all(|known| known.id != message.id))
            .collect();
        if !fresh.is_empty() {
            self.update(|status| {
                status.messages.extend(fresh.clone());
                let surplus = status.messages.len().saturating_sub(MAX_MESSAGES);
                status.messages.drain(..surplus);
            });
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_liveliest_role_is_what_the_worker_does() {
        let status = watch::Sender::new(Status::default());
        let dreamer = Board::new(status.clone(), WorkKind::Image);
        let scribe = Board::new(status.clone(), WorkKind::Text);
        assert_eq!(status.borrow().phase, Phase::Starting);
        scribe.phase(Phase::Serving);
        dreamer.phase(Phase::NothingToOffer);
        assert_eq!(status.borrow().phase, Phase::Serving);
        scribe.phase(Phase::Stopped);
        assert_eq!(status.borrow().phase, Phase::NothingToOffer);
        assert_eq!(scribe.phase_now(), Phase::Stopped);
    }

    #[test]
    fn a_message_is_heard_once_and_few_are_kept() {
        let board = Board::new(watch::Sender::new(Status::default()), WorkKind::Image);
        let message = |id: usize| WorkerMessage {
            id: id.to_string(),
            message: "m".to_owned(),
            origin: None,
            expiry: None,
        };
        assert_eq!(board.hear(vec![message(1), message(2)]).len(), 2);
        assert_eq!(board.hear(vec![message(2), message(3)]), [message(3)]);
        board.hear((10..100).map(message).collect());
        let kept = board.snapshot().messages;
        assert_eq!(kept.len(), MAX_MESSAGES);
        assert_eq!(kept[MAX_MESSAGES - 1], message(99));
    }
}
