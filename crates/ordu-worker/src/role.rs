//! What differs between the kinds of work: what to offer, how to pop, how to do it.
//!
//! The loop around it ([`crate::desk`]) is the same for all.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::JobId;
use ordu_api::worker::{Skipped, WorkKind, WorkerMessage};
use ordu_client::{Error, Horde};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::deliver::Delivery;
use crate::report::Extras;
use crate::status::Board;
use crate::{Shutdown, Timing};

/// What everybody needs who works for one horde in one role.
#[derive(Clone)]
pub(crate) struct Office {
    /// One permit per job that may take the device at the same time, whatever its kind.
    pub(crate) threads: Arc<Semaphore>,
    pub(crate) horde: Horde,
    pub(crate) board: Arc<Board>,
    pub(crate) shutdown: Shutdown,
    pub(crate) timing: Timing,
    /// What the horde has beyond the protocol.
    pub(crate) extras: Arc<Extras>,
}

/// One kind of work.
pub(crate) trait Role: Send + Sync + 'static {
    /// What the engine says it can do.
    type Ability: Send + Sync;
    /// What the horde is told.
    type Offer: Send + Sync;
    /// What the horde gives out.
    type Job: Send + 'static;

    /// Which one.
    fn kind(&self) -> WorkKind;

    /// How many jobs it takes.
    fn room(&self) -> Room;

    /// Told once, before the first pop.
    fn open(&self) -> impl Future<Output = ()> + Send;

    /// What the engine can do at this moment; `None` if it cannot do anything, which the role itself
    /// shows on the board.
    fn ability(&self) -> impl Future<Output = Option<Self::Ability>> + Send;

    /// What to offer, or `None` if nothing is left. `may_offer` says whether a model is fit to be
    /// offered at this moment.
    fn offer(
        &self,
        ability: &Self::Ability,
        may_offer: &dyn Fn(&str) -> bool,
    ) -> Option<Self::Offer>;

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
    pub(crate) model: String,
    /// Results to make.
    pub(crate) parts: usize,
    /// In any unit that is the same for all jobs of the role.
    pub(crate) effort: f64,
    /// How long the horde waits for it.
    pub(crate) ttl: Duration,
}

/// A job to do.
pub(crate) struct Order<J> {
    pub(crate) ticket: Ticket<J>,
    /// When it was asked for: the horde's clock starts no earlier.
    pub(crate) popped: Instant,
    /// Given back when the engine is done, so that the next job can be popped.
    pub(crate) slot: OwnedSemaphorePermit,
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
}

impl End {
    /// Counts one part of a job whose parts are handed back one by one; the worst of them decides.
    pub(crate) fn count(&mut self, made: Verdict, delivery: &Delivery) {
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
        }
    }
}

impl Verdict {
    fn weight(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Lost => 1,
            Self::HandedBack(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Failed(_) => 4,
            Self::ModelFailed(_) => 5,
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
    /// Something else on this side.
    Failed(String),
    /// The program that does the work, which is gone. It is offered no more until it is back.
    Unreachable(String),
    /// Nobody: it was handed back on purpose.
    HandedBack(&'static str),
    /// The horde had given it up.
    Lost,
}
