//! What a worker is doing, for whoever watches it.

use std::time::Duration;

use ordu_api::JobId;
use ordu_api::worker::WorkerMessage;
use tokio::sync::watch;

/// How many messages of the horde are kept.
const MAX_MESSAGES: usize = 50;

/// A worker at one moment. It travels over a `watch` channel: whoever looks sees the newest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// What it does as a whole.
    pub phase: Phase,
    /// The jobs it has, oldest first.
    pub jobs: Vec<JobStatus>,
    /// Jobs whose every picture was delivered.
    pub done: u64,
    /// Jobs that failed, wholly or partly, and were handed back.
    pub faulted: u64,
    /// Jobs that the horde had given up before they were delivered.
    pub lost: u64,
    /// Pictures that were delivered.
    pub pictures: u64,
    /// Rewards since the start, in kudos.
    pub kudos: f64,
    /// The name of the last thing that went wrong.
    pub last_error: Option<String>,
    /// News from the horde for its owner, oldest first.
    pub messages: Vec<WorkerMessage>,
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
    /// No model is left that it could offer.
    NothingToOffer,
    /// It finishes what it popped.
    Draining,
    /// It is done.
    Stopped,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// The first of its ids.
    pub id: JobId,
    /// With which model.
    pub model: String,
    /// Pictures to make.
    pub pictures: usize,
    /// Where it is.
    pub stage: Stage,
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

/// The writing side of [`Status`].
#[derive(Debug)]
pub(crate) struct Board(watch::Sender<Status>);

impl Board {
    pub(crate) fn new(status: watch::Sender<Status>) -> Self {
        Self(status)
    }

    pub(crate) fn snapshot(&self) -> Status {
        self.0.borrow().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(change);
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.0.send_if_modified(|status| {
            let changes = status.phase != phase;
            status.phase = phase;
            changes
        });
    }

    pub(crate) fn error(&self, error: impl Into<String>) {
        let error = Some(error.into());
        self.update(|status| status.last_error = error);
    }

    pub(crate) fn stage(&self, id: JobId, stage: Stage) {
        self.update(|status| {
            if let Some(job) = status.jobs.iter_mut().find(|job| job.id == id) {
                job.stage = stage;
            }
        });
    }

    pub(crate) fn stage_of(&self, id: JobId) -> Option<Stage> {
        let status = self.0.borrow();
        let job = status.jobs.iter().find(|job| job.id == id)?;
        Some(job.stage)
    }

    pub(crate) fn remove(&self, id: JobId) {
        self.update(|status| status.jobs.retain(|job| job.id != id));
    }

    /// Jobs with this model that the engine has not finished.
    pub(crate) fn unfinished(&self, model: &str) -> usize {
        let waits = |stage| !matches!(stage, Stage::Delivering | Stage::Faulting);
        let jobs = &self.0.borrow().jobs;
        jobs.iter()
            .filter(|job| job.model == model && waits(job.stage))
            .count()
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
    fn a_message_is_heard_once_and_few_are_kept() {
        let board = Board::new(watch::Sender::new(Status::default()));
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
