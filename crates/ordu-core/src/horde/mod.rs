//! The live horde: who waits, who works, what was made. A pure state machine.
//!
//! Requests wait in one queue per kind of work, grouped by what they ask of a worker, so that a
//! pop looks at groups and not at requests. Every decision has its way back: an assignment that
//! could not be stored is [released](Horde::release), a settlement is first
//! [computed](Horde::submit), then [confirmed](Horde::confirm) or [given up](Horde::unsettle).
//! Time-outs happen when somebody [says what time it is](Horde::tick).
//!
//! Knows no storage, no transport and no clock. The same events in the same order always lead to
//! the same state.
//!
//! # Source
//! `generation.md` § 3.11–3.14, § 6.

mod declared;
mod job;
mod offer;
mod request;

mod blame;
mod changes;
mod explain;
mod home;
mod lifecycle;
mod matching;
mod progress;
mod renew;
mod settle;
mod slots;
mod stats;
mod twin;

mod kinds;

mod demand;
mod names;
mod needs;
mod queue;
mod rank;
mod workers;

mod show;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId, WorkerId};

use crate::model_reference::ModelReference;
use crate::pricing::upfront;
use crate::{Kudos, Millis, Timestamp};

pub use blame::Blame;
pub use changes::{Changes, Happening, Turn};
pub use declared::{Common, Declared};
pub use explain::{Examined, Inquiry, Question};
pub use home::{HEAD_START, MAX_HEAD_START, Neighbours};
pub use job::{Assignment, Content, Delivered, Job, JobState, Outcome, is_csam};
pub use kinds::image::MAX_MODELS;
pub use lifecycle::{Cancelled, Lapse, MAX_LAPSES, Stored};
pub use matching::Idle;
pub use needs::Reason;
pub use offer::{Offer, Owner, check_priority_usernames};
pub use progress::{FormState, FormView, GenerationView};
pub use renew::{Renewal, Renewed, Stage};
pub use request::{Address, Request, Requester, Terms, Work};
pub use settle::{
    Confirmed, Delivery, Effect, Settlement, Statistics, delivered_before, unknown_job,
};
pub use slots::Aftermath;
pub use stats::{TextReach, Traffic};
pub use twin::Twin;
pub use workers::{CheckIn, Sanction, UptimeReward, Worker, WorkerRecord};

use demand::Demand;
use queue::Queue;
use settle::Pending;
use slots::Slots;
use workers::Workers;

/// A request lives this long after it was last touched.
///
/// # Source
/// `generation.md` § 3.14.
pub const REQUEST_LIFETIME: Millis = Millis::from_minutes(20);

/// The same, once a worker that calls itself extra slow has taken a job of it.
pub const EXTRA_SLOW_LIFETIME: Millis = Millis::from_minutes(60);

/// A worker that was silent for longer is offline.
pub const WORKER_LIFETIME: Millis = Millis::from_seconds(300);

/// A request with this many faulted jobs is given up.
pub const MAX_FAULTS: usize = 3;

/// What an operator may set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// How suspicious the horde is just now.
    pub alert: Alert,
}

/// How suspicious the horde is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alert {
    /// As usual.
    #[default]
    Calm,
    /// Under attack.
    Raid,
}

/// Everything that waits and runs.
#[derive(Debug)]
pub struct Horde {
    reference: Arc<ModelReference>,
    policy: Policy,
    /// In boxes: places of a tree that are free would be as large as an entry otherwise.
    requests: BTreeMap<RequestId, Box<Entry>>,
    /// The requests of each account but the one that everybody shares, oldest first.
    by_user: BTreeMap<UserId, BTreeSet<(Timestamp, RequestId)>>,
    jobs: BTreeMap<JobId, Job>,
    queues: Queues,
    workers: Workers,
    /// Results that are being stored, by job.
    pending: BTreeMap<JobId, Pending>,
    /// When running jobs time out.
    deadlines: BTreeSet<(Timestamp, JobId)>,
    /// When requests expire.
    expiries: BTreeSet<(Timestamp, RequestId)>,
    /// Requests with enough faults to be given up at the next tick.
    hopeless: BTreeSet<RequestId>,
    /// What was delivered lately.
    recent: stats::Recent,
    /// How many requests ever came; tells equals apart.
    sequence: u64,
    /// When the horde itself was last in trouble.
    trouble: Option<Timestamp>,
    /// The nodes that live, if there are several.
    neighbours: Option<Neighbours>,
    /// How long their requests are left to them.
    head_start: Millis,
    /// Whether this node is late to hear of them.
    behind: bool,
    /// What happened since somebody last asked.
    changes: Changes,
}

/// One queue per kind of work.
#[derive(Debug, Default)]
struct Queues {
    image: Queue,
    text: Queue,
    interrogation: Queue,
}

impl Queues {
    const fn of(&self, kind: WorkKind) -> &Queue {
        match kind {
            WorkKind::Image => &self.image,
            WorkKind::Text => &self.text,
            WorkKind::Interrogation => &self.interrogation,
        }
    }

    const fn of_mut(&mut self, kind: WorkKind) -> &mut Queue {
        match kind {
            WorkKind::Image => &mut self.image,
            WorkKind::Text => &mut self.text,
            WorkKind::Interrogation => &mut self.interrogation,
        }
    }
}

/// A request and how far it is.
#[derive(Debug)]
struct Entry {
    request: Request,
    place: rank::Place,
    demand: Demand,
    /// The price of one result before burn, as far as it is known.
    base_price: Kudos,
    /// Results that no worker has yet.
    open: Slots,
    /// Results that are wanted in all.
    asked: u32,
    /// Every real job so far, oldest first; decoys are not among them.
    jobs: Vec<JobId>,
    running: u32,
    finished: u32,
    faults: u32,
    /// Charged so far, the activation included.
    kudos: Kudos,
    expires: Timestamp,
    faulted: bool,
    /// Whether its client gave it up.
    cancelled: bool,
    /// How many other nodes come first with it …
    turn: u8,
    /// … until then.
    kept_back_until: Timestamp,
    verdict: Option<progress::Verdict>,
    /// Results that are counted in the queue for its user.
    counted: u64,
}

impl Entry {
    /// Whether nothing more will come.
    ///
    /// # Source
    /// `generation.md` § 3.11.
    fn is_done(&self) -> bool {
        self.faulted || (self.open.is_empty() && self.running == 0 && self.finished >= self.asked)
    }

    /// What it adds to the queue's totals while it waits.
    fn load(&self) -> rank::Load {
        let each = self.request.work.things();
        let open = u64::from(self.open.count());
        let jobs = open + u64::from(self.running);
        rank::Load {
            slots: open,
            things: each.saturating_mul(open),
            jobs,
            job_things: each.saturating_mul(jobs),
        }
    }
}

impl Horde {
    /// An empty horde.
    pub fn new(reference: Arc<ModelReference>, policy: Policy) -> Self {
        Self {
            reference,
            policy,
            requests: BTreeMap::new(),
            by_user: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queues: Queues::default(),
            workers: Workers::default(),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            hopeless: BTreeSet::new(),
            recent: stats::Recent::default(),
            sequence: 0,
            trouble: None,
            neighbours: None,
            head_start: HEAD_START,
            behind: false,
            changes: Changes::default(),
        }
    }

    /// Replaces what is known about models. Workers are judged by it from their next check-in on.
    pub fn set_reference(&mut self, reference: Arc<ModelReference>) {
        self.reference = reference;
        self.workers.forget_capacities();
    }

    /// Changes what the operator sets.
    pub const fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// A request that is known, waiting or not.
    pub fn request(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id).map(|entry| &entry.request)
    }

    /// Whether nothing more will come of a request that is known.
    pub fn is_done(&self, id: RequestId) -> bool {
        let entry = self.requests.get(&id);
        entry.is_some_and(|entry| entry.is_done())
    }

    /// Whether the client of a request that is known has given it up.
    pub fn is_cancelled(&self, id: RequestId) -> bool {
        let entry = self.requests.get(&id);
        entry.is_some_and(|entry| entry.cancelled)
    }

    /// A job that is known: running, finished or faulted, decoys included.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A worker that checked in since the start, or was restored.
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// The workers that are online, by id.
    pub fn workers(&self, now: Timestamp) -> impl Iterator<Item = &Worker> {
        self.workers.online(now)
    }

    /// The requests of a user that are known, waiting, running or ended, oldest first; none of the
    /// account that everybody shares.
    pub fn requests_of(&self, user: UserId, kind: WorkKind) -> impl Iterator<Item = RequestId> {
        let all = self.by_user.get(&user).into_iter().flatten();
        all.map(|(_, id)| *id).filter(move |id| {
            let request = self.request(*id);
            request.is_some_and(|request| request.work.kind() == kind)
        })
    }

    /// The requests of a user that still have open results, in the order of the queue.
    pub fn waiting_requests(&self, user: UserId, kind: WorkKind) -> impl Iterator<Item = &Request> {
        let places = self.queues.of(kind).of_user(user);
        places.filter_map(|id| self.request(id))
    }

    /// How many requests are known, whatever became of them.
    pub fn known_requests(&self) -> usize {
        self.requests.len()
    }

    /// The requests that still have open results, by id.
    pub fn open_requests(&self) -> impl Iterator<Item = RequestId> {
        let open = self.requests.iter();
        let open = open.filter(|(_, entry)| !entry.open.is_empty());
        open.map(|(id, _)| *id)
    }

    /// The requests of which something may still come, by id.
    pub fn unfinished(&self) -> impl Iterator<Item = RequestId> {
        let unfinished = self.requests.iter().filter(|(_, entry)| !entry.is_done());
        unfinished.map(|(id, _)| *id)
    }

    /// Open results of a user, for the limit on concurrency.
    ///
    /// The anonymous account is shared: its requests count only if they name one of `models`,
    /// unless none are given.
    ///
    /// # Source
    /// `generation.md` § 3.3 step 14.
    pub fn open_slots(&self, user: UserId, kind: WorkKind, models: &[String]) -> u64 {
        let counts = |entry: &&Entry| {
            let names_one = || {
                let named = entry.request.work.models();
                named.iter().any(|model| models.contains(model))
            };
            // What the horde itself asks for is nobody's.
            let is_asked = entry.request.twin.is_none();
            is_asked && (user != UserId::ANONYMOUS || models.is_empty() || names_one())
        };
        self.queues
            .of(kind)
            .of_user(user)
            .filter_map(|id| self.requests.get(&id).map(|entry| &**entry))
            .filter(counts)
            .map(|entry| u64::from(entry.open.count()))
            .sum()
    }

    /// Results of a user that wait or run.
    pub fn pending_jobs(&self, user: UserId, kind: WorkKind) -> u64 {
        self.queues.of(kind).jobs_of(user)
    }

    /// How busy the horde is with one kind of work.
    pub fn load(&mut self, kind: WorkKind, now: Timestamp) -> upfront::Load {
        upfront::Load {
            queued: self.queues.of(kind).totals().jobs,
            threads: self.workers.threads(kind, now),
        }
    }
}
