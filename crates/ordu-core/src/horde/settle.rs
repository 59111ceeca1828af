//! Submit: what a finished job moves, exactly once.
//!
//! A submit is computed, stored by the caller, and then confirmed. Between the two the job is
//! taken, so of several submits at the same time one wins; if storing fails it is free again.
//!
//! # Source
//! `generation.md` § 6.12, § 7.3, § 7.8; `observed.md` 15.

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, ReturnCode, UserId, WorkerId};

use super::blame::Notice;
use super::workers::Finished;
use super::{
    Aftermath, Blame, Content, Delivered, Horde, Job, JobState, Outcome, Owner, REQUEST_LIFETIME,
    Sanction, Turn, kinds,
};
use crate::ledger::{Entry, Event, Reason};
use crate::pricing::text::Writer;
use crate::pricing::{self, Share};
use crate::{Kudos, Refusal, Role, Timestamp};

/// What a submit leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The job.
    pub job: JobId,
    /// What it is part of.
    pub request: RequestId,
    /// What the worker is answered: the job's kudos before agent and escrow.
    pub reward: Kudos,
    /// What must be stored before the settlement is [confirmed](Horde::confirm).
    pub effect: Effect,
}

/// What a settlement changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: a decoy, or a fault that was reported before. Needs no confirmation.
    Nothing,
    /// The job faulted; what becomes of its slot.
    Faulted(Aftermath),
    /// There is a result.
    Delivered(Box<Delivery>),
}

/// A result and what it moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What the worker said about it.
    pub delivered: Delivered,
    /// The movements; its id is the job's.
    pub event: Event,
    /// What the requester is charged.
    pub charged: Kudos,
    /// What is counted.
    pub statistics: Statistics,
    /// When the request expires from now on.
    pub expires: Timestamp,
}

/// What is counted for a delivered job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The kind of work.
    pub kind: WorkKind,
    /// Who asked.
    pub requester: UserId,
    /// Whose worker did it.
    pub owner: UserId,
    /// Which worker.
    pub worker: WorkerId,
    /// With which model.
    pub model: String,
    /// Raw units of work.
    pub things: u64,
    /// What the worker is shown to have earned: the job's kudos times its agent's share.
    pub worker_kudos: Kudos,
    /// Milliseconds from assignment to submit.
    pub took_ms: i64,
}

impl Statistics {
    /// How fast the job was done, in raw units a second.
    pub fn speed(&self) -> f64 {
        let speed = kinds::speed(self.kind, self.things, seconds(self.took_ms));
        kinds::rate(self.kind, speed)
    }
}

/// What a confirmation led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Whether nothing more will come of the request: what is still held for it can be released.
    pub request_done: bool,
    /// What the horde did to the worker, if it dropped too many jobs.
    pub sanction: Option<Sanction>,
}

/// A submit that is being stored.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    at: Timestamp,
    effect: Effect,
    /// Whose fault it is, if there is no result.
    blame: Blame,
}

impl Horde {
    /// Computes what handing back a job leads to, and keeps others from handing it back until
    /// [`Self::confirm`] or [`Self::unsettle`].
    ///
    /// # Errors
    /// `InvalidJobID`, `WrongCredentials`, `DuplicateGen`, `AbortedGen`.
    pub fn submit(
        &mut self,
        id: JobId,
        by: Owner,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Settlement, Refusal> {
        let job = self
            .jobs
            .get(&id)
            .ok_or_else(|| unknown_job(&id.to_string()))?;
        if job.owner != by.user {
            let message = "Wrong credentials: this job belongs to somebody else's worker";
            return Err(Refusal::new(ReturnCode::WrongCredentials, message));
        }
        let settlement = |reward, effect| Settlement {
            job: id,
            request: job.request,
            reward,
            effect,
        };
        if self.pending.contains_key(&id) {
            return Err(delivered_before(id));
        }
        match (&job.state, &outcome) {
            (JobState::Done(_), _) => return Err(delivered_before(id)),
            // A form is somebody else's again: whatever comes now comes twice.
            (JobState::Faulted, _) if job.slot.is_some() => return Err(delivered_before(id)),
            (JobState::Faulted, Outcome::Faulted(_)) => {
                return Ok(settlement(Kudos::ZERO, Effect::Nothing));
            }
            (JobState::Faulted, Outcome::Delivered { .. }) => return Err(aborted(id)),
            (JobState::Running, _) => {}
        }
        if job.decoy {
            // The answer looks like any other; nothing else happens.
            let reward = match &outcome {
                Outcome::Faulted(_) => Kudos::ZERO,
                Outcome::Delivered { content, .. } => self.worth(job, by, content),
            };
            let settlement = settlement(reward, Effect::Nothing);
            self.end_decoy(id, outcome, now);
            return Ok(settlement);
        }
        let blame = match outcome {
            Outcome::Faulted(said) => self.blame(id, Notice::Said(said), now),
            Outcome::Delivered { .. } => Blame::Nobody,
        };
        let job = self
            .jobs
            .get(&id)
            .ok_or_else(|| unknown_job(&id.to_string()))?;
        let (reward, effect) = match outcome {
            Outcome::Faulted(_) => {
                let effect = Effect::Faulted(self.aftermath(job, blame));
                (Kudos::ZERO, effect)
            }
            Outcome::Delivered { .. } => {
                let delivered = delivered(outcome, now);
                let worth = self.worth(job, by, &delivered.content);
                let delivery = self.deliver(job, by, worth, delivered)?;
                (worth, Effect::Delivered(Box::new(delivery)))
            }
        };
        let settlement = Settlement {
            job: id,
            request: job.request,
            reward,
            effect,
        };
        let effect = settlement.effect.clone();
        let at = now;
        self.pending.insert(id, Pending { at, effect, blame });
        Ok(settlement)
    }

    /// Applies a settlement that is stored.
    pub fn confirm(&mut self, id: JobId) -> Confirmed {
        let mut confirmed = Confirmed {
            request_done: false,
            sanction: None,
        };
        let Some(Pending { at, effect, blame }) = self.pending.remove(&id) else {
            return confirmed;
        };
        let request = self.jobs.get(&id).map(|job| job.request);
        match effect {
            Effect::Nothing => {}
            Effect::Faulted(_) => confirmed.sanction = self.fault(id, blame, at),
            Effect::Delivered(delivery) => self.finish(id, *delivery),
        }
        confirmed.request_done = request
            .and_then(|request| self.requests.get(&request))
            .is_some_and(|entry| entry.is_done());
        confirmed
    }

    /// Gives up a settlement that could not be stored: the job runs on, and may be handed back
    /// again.
    pub fn unsettle(&mut self, id: JobId) {
        self.pending.remove(&id);
    }

    /// What a job's result is worth, before agent and burn.
    fn worth(&self, job: &Job, owner: Owner, content: &Content) -> Kudos {
        let writer = Writer {
            model: &job.model,
            validated: job.validated,
            trusted: owner.roles.has(Role::Trusted),
        };
        let of_result = || {
            let entry = self.requests.get(&job.request);
            entry.map_or(Kudos::ZERO, |entry| {
                let work = &entry.request.work;
                work.result_kudos(content, writer, &self.reference)
            })
        };
        job.kudos.unwrap_or_else(of_result)
    }

    fn deliver(
        &self,
        job: &Job,
        owner: Owner,
        worth: Kudos,
        delivered: Delivered,
    ) -> Result<Delivery, Refusal> {
        let now = delivered.at;
        let entry = self
            .requests
            .get(&job.request)
            .ok_or_else(|| unknown_job(&job.id.to_string()))?;
        let work = &entry.request.work;
        let requester = entry.request.requester.user;
        let charged = match &entry.request.twin {
            // The horde pays: what its worker earns is new.
            Some(_) => Kudos::ZERO,
            None if delivered.censored => work.burn(Kudos::ZERO),
            None => work.burn(worth),
        };
        let worker_kudos = agent_share(worth, job.reward_percent);
        let share = Share::of_job(owner.user, owner.roles);
        let burnt = Entry::burn(requester, charged, Reason::Generation);
        let burnt = (charged > Kudos::ZERO).then_some(burnt);
        let mut entries: Vec<Entry> = burnt.into_iter().collect();
        entries.extend(pricing::credit(
            owner.user,
            worker_kudos,
            share,
            Reason::Generation,
        ));
        Ok(Delivery {
            delivered,
            event: Event {
                id: job.id.uuid(),
                at: now,
                kind: Some(work.kind()),
                entries,
            },
            charged,
            statistics: Statistics {
                kind: work.kind(),
                requester,
                owner: owner.user,
                worker: job.worker,
                model: job.model.clone(),
                things: job.things,
                worker_kudos,
                took_ms: now.since(job.assigned).0,
            },
            expires: entry.expires.max(now + REQUEST_LIFETIME),
        })
    }

    fn end_decoy(&mut self, id: JobId, outcome: Outcome, now: Timestamp) {
        let turn = match outcome {
            Outcome::Faulted(_) => Turn::Faulted,
            Outcome::Delivered { .. } => Turn::Finished,
        };
        self.tell(id, turn);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = match outcome {
                Outcome::Faulted(_) => JobState::Faulted,
                Outcome::Delivered { .. } => JobState::Done(delivered(outcome, now)),
            };
        }
    }

    fn finish(&mut self, id: JobId, delivery: Delivery) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.state = JobState::Done(delivery.delivered);
        let (request, deadline, worker) = (job.request, job.deadline, job.worker);
        self.deadlines.remove(&(deadline, id));
        let statistics = &delivery.statistics;
        let seconds = seconds(statistics.took_ms);
        let speed = kinds::speed(statistics.kind, statistics.things, seconds);
        self.recent
            .add(statistics, statistics.speed(), delivery.event.at);
        let finished = Finished {
            things: statistics.things,
            speed,
            kudos: statistics.worker_kudos,
        };
        self.workers.deliver(worker, &finished);
        self.tell(id, Turn::Finished);
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.running = entry.running.saturating_sub(1);
            entry.finished += 1;
            entry.kudos += delivery.charged;
        }
        self.refresh(request, delivery.expires);
        self.requeue(request);
    }

    /// Ends a running job without a result: its slot is open again, and who is to blame is blamed.
    pub(super) fn fault(&mut self, id: JobId, blame: Blame, now: Timestamp) -> Option<Sanction> {
        let aftermath = self.jobs.get(&id).map(|job| self.aftermath(job, blame))?;
        let job = self.jobs.get_mut(&id)?;
        job.state = JobState::Faulted;
        job.blame = blame;
        let (request, deadline, worker) = (job.request, job.deadline, job.worker);
        let slot = job.slot;
        self.deadlines.remove(&(deadline, id));
        let turn = match aftermath {
            Aftermath::Returned => Turn::Returned,
            Aftermath::Reopened | Aftermath::GivenUp => Turn::Faulted,
        };
        self.tell(id, turn);
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.running = entry.running.saturating_sub(1);
            entry.faults += u32::from(blame != Blame::Nobody);
            match aftermath {
                Aftermath::Reopened | Aftermath::Returned => {
                    entry.reopen(slot);
                    self.changes.opened.insert(request);
                }
                Aftermath::GivenUp => entry.asked = entry.asked.saturating_sub(1),
            }
            if entry.is_hopeless() {
                self.hopeless.insert(request);
            }
        }
        self.requeue(request);
        let sanction = match blame {
            Blame::Worker => self.workers.drop_job(worker, self.policy.alert, now),
            Blame::Request | Blame::Nobody => None,
        };
        if aftermath == Aftermath::GivenUp {
            let of_form = |job: &&Job| job.slot == slot;
            let entry = self.requests.get(&request);
            let jobs = entry.into_iter().flat_map(|entry| &entry.jobs);
            let jobs = jobs.filter_map(|id| self.jobs.get(id)).filter(of_form);
            let jobs: Vec<JobId> = jobs.map(|job| job.id).collect();
            self.exonerate(&jobs);
        }
        sanction
    }
}

/// Refuses a submit of a job that nobody knows, also one whose id is not an id. Workers look for
/// these words.
pub fn unknown_job(id: &str) -> Refusal {
    let message = format!("Processing Job with ID {id} does not exist");
    Refusal::new(ReturnCode::InvalidJobID, message)
}

/// Refuses a submit of a job that was delivered before.
pub fn delivered_before(id: JobId) -> Refusal {
    let message = format!("Processing Generation with ID {id} already submitted");
    Refusal::new(ReturnCode::DuplicateGen, message)
}

fn aborted(id: JobId) -> Refusal {
    let message = format!(
        "Processing Generation with ID {id} took too long to process and has been aborted! Please \
         check your worker speed"
    );
    Refusal::new(ReturnCode::AbortedGen, message)
}

/// What a worker said about its result; of a fault nothing.
fn delivered(outcome: Outcome, now: Timestamp) -> Delivered {
    match outcome {
        Outcome::Delivered {
            content,
            seed,
            censored,
            metadata,
        } => Delivered {
            at: now,
            content,
            seed,
            censored,
            metadata,
        },
        Outcome::Faulted(_) => Delivered {
            at: now,
            content: Content::default(),
            seed: 0,
            censored: false,
            metadata: Vec::new(),
        },
    }
}

/// The part of a job's kudos that its worker and owner get.
pub(super) fn agent_share(worth: Kudos, percent: u8) -> Kudos {
    Kudos::round_to_cents(worth.as_f64() * f64::from(percent) / 100.0)
}

/// How long a job took; at least a millisecond.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53 milliseconds")]
pub(super) fn seconds(took_ms: i64) -> f64 {
    took_ms.max(1) as f64 / 1000.0
}
