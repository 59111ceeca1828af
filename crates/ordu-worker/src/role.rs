//! What differs between the kinds of work: what to offer, how to pop, how to do it.
//!
//! The loop around it ([`crate::desk`]) is the same for all.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::JobId;
use ordu_api::worker::{Skipped, WorkKind, WorkerMessage};
use ordu_client::{Error, Horde};
use ordu_engine::EngineError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::controls::Current;
use crate::deliver::Delivery;
use crate::effort::{Extra, Pending};
use crate::health::Health;
use crate::line::Turns;
use crate::report::Extras;
use crate::status::Board;
use crate::{Shutdown, Timing};

/// What everybody needs who works for one horde in one role.
#[derive(Clone)]
pub(crate) struct Office {
    /// Whose turn it is at the device, whatever the kind of the job.
    pub(crate) turns: Turns,
    pub(crate) horde: Horde,
    pub(crate) board: Arc<Board>,
    pub(crate) shutdown: Shutdown,
    pub(crate) timing: Timing,
    /// What the horde has beyond the protocol.
    pub(crate) extras: Arc<Extras>,
    pub(crate) current: Current,
}

/// One kind of work.
pub(crate) trait Role: Send + Sync + 'static {
    /// What the engine says it can do.
    type Ability: Send + Sync;
    /// What the horde is told.
    type Offer: PartialEq + Send + Sync;
    /// What the horde gives out.
    type Job: Send + 'static;

    /// Which one.
    fn kind(&self) -> WorkKind;

    /// How many jobs it takes.
    fn room(&self) -> Room;

    /// Seconds per unit of work, by model, that were measured before.
    fn speeds(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// How many engines it has. While one is away, the others go on.
    fn engines(&self) -> usize {
        1
    }

    /// Nothing is going to be done for a while: memory may be given back.
    fn rest(&self) {}

    /// Told once, before the first pop.
    fn open(&self) -> impl Future<Output = ()> + Send;

    /// What the engine can do at this moment; `None` if it cannot do anything, which the role itself
    /// shows on the board.
    fn ability(&self) -> impl Future<Output = Option<Self::Ability>> + Send;

    /// What to offer, or `None` if nothing is left.
    fn offer(&self, ability: &Self::Ability, fit: &Fit<'_>) -> Option<Self::Offer>;

    /// The models of an offer.
    fn models(offer: &Self::Offer) -> &[String];

    /// Asks the horde, which may be asked to wait for a job.
    fn pop(
        &self,
        horde: &Horde,
        offer: &Self::Offer,
        ability: Self::Ability,
    ) -> impl Future<Output = Result<Answer<Self::Job>, Error>> + Send;

    /// Does a job and hands it back.
    fn work(self: Arc<Self>, order: Order<Self::Job>) -> impl Future<Output = End> + Send;
}

/// What is fit to be offered at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit<'a> {
    pub(crate) health: &'a Health,
    pub(crate) board: &'a Board,
    pub(crate) now: Instant,
    /// Jobs of one model that may be unfinished.
    pub(crate) most: usize,
    /// Whether the last pop found a job.
    pub(crate) busy: bool,
}

impl Fit<'_> {
    /// A model or a form: one that does not fail all the time, and of which not enough is waiting.
    pub(crate) fn model(&self, model: &str) -> bool {
        self.health.may_offer(model, self.now) && self.board.unfinished(model) < self.most
    }

    /// The largest picture, if memory was not enough for larger ones.
    pub(crate) fn max_pixels(&self) -> Option<u64> {
        self.health.max_pixels(self.now)
    }

    /// What jobs may want besides.
    pub(crate) fn extra(&self, extra: Extra) -> bool {
        self.health.may_offer_extra(extra, self.now)
    }
}

/// How many jobs a role takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// At the same time.
    pub(crate) threads: u32,
    /// Before the engine is free for them.
    pub(crate) ahead: u32,
}

/// The horde's answer to a pop.
pub(crate) struct Answer<J> {
    pub(crate) ticket: Option<Ticket<J>>,
    pub(crate) messages: Vec<WorkerMessage>,
    pub(crate) skipped: Skipped,
}

/// A job as the loop sees it.
pub(crate) struct Ticket<J> {
    pub(crate) job: J,
    /// The first id.
    pub(crate) id: JobId,
    /// Its model and how much work it is, in any unit that is the same for all jobs of the role.
    pub(crate) work: Pending,
    /// Results to make.
    pub(crate) parts: usize,
    /// How long the horde waits for it.
    pub(crate) ttl: Duration,
}

/// A job to do.
pub(crate) struct Order<J> {
    pub(crate) ticket: Ticket<J>,
    /// The horde's clock starts no earlier.
    pub(crate) popped: Instant,
    /// Given back when the engine is done, so that the next job can be popped. A job that comes when
    /// nobody reckons with it any more may find none.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) id: JobId,
    pub(crate) model: String,
    pub(crate) verdict: Verdict,
    /// How long the engine took, if it was done.
    pub(crate) sampled: Option<Duration>,
    /// Results that the horde has.
    pub(crate) delivered: u64,
    /// In kudos.
    pub(crate) reward: f64,
    /// Why it was not delivered, if that is the case and known.
    pub(crate) cause: Option<Cause>,
}

impl End {
    /// That of a job of which nothing is known yet.
    pub(crate) fn new(id: JobId, model: String) -> Self {
        Self {
            id,
            model,
            verdict: Verdict::Done,
            sampled: None,
            delivered: 0,
            reward: 0.0,
            cause: None,
        }
    }

    /// Why it was not delivered, in one word.
    pub(crate) fn cause(&self) -> &'static str {
        self.cause.unwrap_or(Cause::Delivery).name()
    }

    /// Counts one part of a job whose parts are handed back one by one; the worst of them decides.
    pub(crate) fn count(&mut self, made: Verdict, cause: Option<Cause>, delivery: &Delivery) {
        let verdict = match (made, delivery) {
            (Verdict::Done, Delivery::Accepted(reward)) => {
                self.delivered += 1;
                self.reward += reward.unwrap_or_default();
                Verdict::Done
            }
            (Verdict::Done, Delivery::Lost) => Verdict::Lost,
            (Verdict::Done, Delivery::Untold(reason)) => Verdict::Failed(reason.clone()),
            (Verdict::Done, Delivery::Faulted) => {
                Verdict::Failed("a result could not be delivered".to_owned())
            }
            (failed, _) => failed,
        };
        if verdict.weight() > self.verdict.weight() {
            self.verdict = verdict;
            self.cause = cause;
        }
    }
}

impl Verdict {
    fn weight(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Lost => 1,
            Self::HandedBack(_) => 2,
            Self::Failed(_) => 3,
            Self::ProgramFailed(_) => 4,
            Self::ModelFailed(_) => 5,
            Self::EngineAway(_) => 6,
        }
    }
}

/// Who is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody: every result was delivered.
    Done,
    /// The engine, with this model.
    ModelFailed(String),
    /// The program that the engine stands for, or the model in it.
    ProgramFailed(String),
    /// What does the work is not there. Nothing is popped for it until it may be back.
    EngineAway(String),
    /// Something else on this side.
    Failed(String),
    /// Nobody: it was handed back on purpose.
    HandedBack(&'static str),
    /// The horde had given it up.
    Lost,
}

/// Why a job was not delivered. Few words, so that they can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Away,
    BadModel,
    Blacklisted,
    Crashed,
    Deadline,
    Delivery,
    Foreign,
    NoPicture,
    OutOfMemory,
    Panicked,
    Program,
    Refused,
    Stopping,
    TooFew,
    TooLarge,
    TooSlow,
    Unclassified,
}

impl Cause {
    /// As it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Away => "engine_away",
            Self::BadModel => "bad_model",
            Self::Blacklisted => "blacklisted",
            Self::Crashed => "engine_crashed",
            Self::Deadline => "deadline",
            Self::Delivery => "not_delivered",
            Self::Foreign => "foreign_job",
            Self::NoPicture => "no_picture",
            Self::OutOfMemory => "out_of_memory",
            Self::Panicked => "engine_panicked",
            Self::Program => "backend_failed",
            Self::Refused => "engine_refused",
            Self::Stopping => "stopping",
            Self::TooFew => "too_few_results",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unclassified => "not_classified",
        }
    }

    /// Why an engine failed.
    pub(crate) fn of(error: &EngineError) -> Self {
        match error {
            _ if is_out_of_memory(error) => Self::OutOfMemory,
            EngineError::Unreachable { .. } => Self::Away,
            EngineError::Backend { .. } => Self::Program,
            EngineError::Crashed { .. } => Self::Crashed,
            EngineError::Cancelled => Self::Stopping,
            EngineError::UnknownModel { .. }
            | EngineError::BadModel { .. }
            | EngineError::NoTokenizer { .. }
            | EngineError::Io { .. } => Self::BadModel,
            _ => Self::Refused,
        }
    }
}

/// Whether there was not enough memory. Engines and other programs say so in words only.
pub(crate) fn is_out_of_memory(error: &EngineError) -> bool {
    let text = match error {
        EngineError::Backend { reason, .. }
        | EngineError::Failed { reason }
        | EngineError::Crashed { reason } => reason.to_lowercase(),
        EngineError::Tensor(source) => source.to_string().to_lowercase(),
        _ => return false,
    };
    ["out of memory", "out_of_memory", "outofmemory"]
        .iter()
        .any(|words| text.contains(words))
}

/// Who is to blame for what an engine says.
pub(crate) fn verdict_on(error: &EngineError) -> Verdict {
    let reason = error.to_string();
    match error {
        EngineError::Cancelled => Verdict::HandedBack("the worker stops"),
        EngineError::Unreachable { .. } => Verdict::EngineAway(reason),
        EngineError::Backend { .. } => Verdict::ProgramFailed(reason),
        _ => Verdict::ModelFailed(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(reason: &str) -> EngineError {
        EngineError::Backend {
            backend: "ComfyUI".to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn memory_that_runs_out_is_told_in_many_ways() {
        for reason in [
            "CUDA out of memory. Tried to allocate",
            "torch.OutOfMemoryError",
            "CUDA_ERROR_OUT_OF_MEMORY",
        ] {
            assert_eq!(Cause::of(&backend(reason)), Cause::OutOfMemory, "{reason}");
        }
        assert_eq!(Cause::of(&backend("no such node")), Cause::Program);
    }

    #[test]
    fn a_program_that_is_away_is_no_models_fault() {
        let away = EngineError::Unreachable {
            backend: "ComfyUI".to_owned(),
            reason: "refused".to_owned(),
        };
        assert!(matches!(verdict_on(&away), Verdict::EngineAway(_)));
        assert!(matches!(
            verdict_on(&backend("x")),
            Verdict::ProgramFailed(_)
        ));
    }
}
