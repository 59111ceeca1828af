//! What other nodes did: a request as the database has it now, joined with what is known here.
//!
//! The rows of a request only ever move forward: jobs are added, a job leaves `Running` once, a
//! request is given up, cancelled or ends once. So everything known here and everything stored can
//! be joined, in any order, however old the rows are: what is further wins, and of a job that ended
//! in two ways, what is stored. How many results are open follows from that.
//!
//! What this node is about to store is left alone: jobs that were just chosen are kept until their
//! claim is won or lost, and jobs whose result is being stored are left to
//! [`Horde::confirm`] or [`Horde::unsettle`]. A request that is itself about to be stored
//! ([`Horde::enqueue_assigned`]) is not in the database: whoever looks for it there leaves it alone.
//!
//! # Source
//! `platform.md` § 3; `docs/decisions/0012`.

use ordu_api::{JobId, RequestId, UserId};

use super::settle::{agent_share, seconds};
use super::slots::Slots;
use super::workers::Finished;
use super::{Blame, Happening, Horde, Job, JobState, Statistics, Stored, Turn, Work, kinds};
use crate::{Kudos, Timestamp};

/// A request as it is stored now.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    /// The request with its jobs, those that were dropped left out.
    pub stored: Stored,
    /// Jobs that were dropped: they count nowhere.
    pub dropped: Vec<JobId>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a stored request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits or is worked on.
    Live,
    /// The same, but its client gave it up.
    Cancelled,
    /// Nothing more comes of it.
    Over,
}

/// What is news here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Whose request it is, if it is known now.
    pub requester: Option<UserId>,
    /// What was charged elsewhere.
    pub charged: Kudos,
    /// Whether nothing more will come of it: what is still held for it can be released.
    pub done: bool,
    /// Whether a result of it is being stored here: what it cost is known after another look.
    pub again: bool,
}

impl Horde {
    /// Joins what is known of a request with what is stored of it.
    pub fn renew(&mut self, renewal: Renewal, now: Timestamp) -> Renewed {
        let id = renewal.stored.request.id;
        if !self.requests.contains_key(&id) {
            return self.adopt(renewal, now);
        }
        for job in &renewal.stored.jobs {
            self.renew_job(job, now);
        }
        for job in &renewal.dropped {
            self.renew_dropped(*job);
        }
        self.recount(&renewal, now)
    }

    /// Time passes for a node that another one keeps the time for: it forgets what is over.
    pub fn tick_aside(&mut self, now: Timestamp) {
        self.recent.prune(now);
        self.drop_decoys(now);
        let due = self.expiries.iter().take_while(|at| at.0 <= now);
        let over = due.map(|(_, id)| *id).filter(|id| self.is_done(*id));
        let over: Vec<RequestId> = over.collect();
        for request in over {
            self.remove(request);
        }
    }

    /// A request of another node; of those that are over nobody asks before it is looked for.
    fn adopt(&mut self, renewal: Renewal, now: Timestamp) -> Renewed {
        if renewal.stage == Stage::Over {
            return Renewed {
                done: true,
                ..Renewed::default()
            };
        }
        let stored = renewal.stored;
        let (id, kudos) = (stored.request.id, stored.kudos);
        let requester = Some(stored.request.requester.user);
        self.changes.tell(Happening::Accepted {
            kind: stored.request.work.kind(),
            results: stored.asked,
        });
        let running = stored.jobs.iter();
        let running = running.filter(|job| job.state == JobState::Running);
        let running: Vec<JobId> = running.map(|job| job.id).collect();
        self.restore(stored);
        for job in running {
            self.tell(job, Turn::Begun);
        }
        if let Some(entry) = self.requests.get_mut(&id) {
            entry.cancelled = renewal.stage == Stage::Cancelled;
        }
        self.keep_back(id, now);
        Renewed {
            requester,
            charged: kudos,
            done: self.is_done(id),
            again: false,
        }
    }

    fn renew_job(&mut self, stored: &Job, now: Timestamp) {
        if self.pending.contains_key(&stored.id) {
            return;
        }
        let Some(known) = self.jobs.get_mut(&stored.id) else {
            self.add_job(stored, now);
            return;
        };
        let is_news = match (&known.state, &stored.state) {
            (_, JobState::Running)
            | (JobState::Done(_), JobState::Done(_))
            | (JobState::Faulted, JobState::Faulted) => false,
            (_, JobState::Done(_) | JobState::Faulted) => true,
        };
        if !is_news {
            return;
        }
        known.state = stored.state.clone();
        known.blame = stored.blame;
        known.kudos = stored.kudos.or(known.kudos);
        let deadline = (known.deadline, known.id);
        self.deadlines.remove(&deadline);
        self.note_end(stored.id, now);
    }

    fn add_job(&mut self, stored: &Job, now: Timestamp) {
        self.jobs.insert(stored.id, stored.clone());
        if let Some(entry) = self.requests.get_mut(&stored.request) {
            let after = |id: &JobId| {
                let known = self.jobs.get(id);
                known.is_some_and(|known| known.assigned <= stored.assigned)
            };
            let place = entry.jobs.iter().rposition(after);
            entry
                .jobs
                .insert(place.map_or(0, |place| place + 1), stored.id);
        }
        self.tell(stored.id, Turn::Begun);
        if stored.state == JobState::Running {
            self.deadlines.insert((stored.deadline, stored.id));
        } else {
            self.note_end(stored.id, now);
        }
    }

    /// A job was taken back elsewhere, and nobody is to blame.
    fn renew_dropped(&mut self, id: JobId) {
        if self.pending.contains_key(&id) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match job.state {
            JobState::Running => {}
            // It timed out here before that was heard: what is stored counts.
            JobState::Faulted => {
                job.blame = Blame::Nobody;
                return;
            }
            JobState::Done(_) => return,
        }
        job.state = JobState::Faulted;
        job.blame = Blame::Nobody;
        let deadline = (job.deadline, id);
        self.deadlines.remove(&deadline);
        self.tell(id, Turn::Returned);
    }

    /// Counts a job that ended elsewhere as if it had ended here. Only who keeps the time, or takes
    /// the submit, punishes drops.
    fn note_end(&mut self, id: JobId, now: Timestamp) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let JobState::Done(delivered) = &job.state else {
            self.workers.note_uncompleted(job.worker);
            self.tell(id, Turn::Faulted);
            return;
        };
        let Some(entry) = self.requests.get(&job.request) else {
            return;
        };
        let statistics = Statistics {
            kind: entry.request.work.kind(),
            requester: entry.request.requester.user,
            owner: job.owner,
            worker: job.worker,
            model: job.model.clone(),
            things: job.things,
            worker_kudos: agent_share(job.kudos.unwrap_or_default(), job.reward_percent),
            took_ms: delivered.at.since(job.assigned).0,
        };
        let seconds = seconds(statistics.took_ms);
        let finished = Finished {
            things: statistics.things,
            speed: kinds::speed(statistics.kind, statistics.things, seconds),
            kudos: statistics.worker_kudos,
        };
        let worker = job.worker;
        let at = delivered.at.min(now);
        self.recent.add(&statistics, statistics.speed(), at);
        self.workers.deliver(worker, &finished);
        self.tell(id, Turn::Finished);
    }

    /// Brings the numbers of a request in line with its jobs.
    fn recount(&mut self, renewal: &Renewal, now: Timestamp) -> Renewed {
        let stored = &renewal.stored;
        let id = stored.request.id;
        let Some(entry) = self.requests.get_mut(&id) else {
            return Renewed::default();
        };
        let again = entry.jobs.iter().any(|job| self.pending.contains_key(job));
        let before = (entry.open.count(), entry.kudos);
        entry.faulted |= stored.faulted;
        entry.cancelled |= renewal.stage == Stage::Cancelled;
        let jobs: Vec<&Job> = entry
            .jobs
            .iter()
            .filter_map(|job| self.jobs.get(job))
            .collect();
        let count = |is_so: fn(&Job) -> bool| {
            let those = jobs.iter().filter(|job| is_so(job));
            u32::try_from(those.count()).unwrap_or(u32::MAX)
        };
        entry.running = count(|job| job.state == JobState::Running);
        entry.finished = count(|job| matches!(job.state, JobState::Done(_)));
        entry.faults = count(Job::is_abort);
        let given_up = entry.given_up(&self.jobs);
        let asked = entry.request.work.asked();
        let is_closed = entry.faulted || entry.cancelled || renewal.stage == Stage::Over;
        entry.asked = if entry.cancelled || renewal.stage == Stage::Over {
            entry.finished
        } else {
            asked.saturating_sub(given_up)
        };
        entry.open = match &entry.request.work {
            work if is_closed => Slots::none(work),
            work @ (Work::Image(_) | Work::Text(_)) => {
                let taken = entry.running.saturating_add(entry.finished);
                Slots::restored(work, asked.saturating_sub(taken), &[])
            }
            work @ Work::Alchemy(_) => {
                let jobs: Vec<Job> = jobs.into_iter().cloned().collect();
                Slots::restored(work, asked, &jobs)
            }
        };
        if !again {
            entry.kudos = entry.kudos.max(stored.kudos);
        }
        let charged = entry.kudos - before.1;
        let has_opened = entry.open.count() > before.0;
        if entry.is_hopeless() {
            self.hopeless.insert(id);
        }
        let requester = Some(entry.request.requester.user);
        let done = entry.is_done();
        if has_opened {
            self.changes.opened.insert(id);
            self.keep_back(id, now);
        }
        self.refresh(id, stored.expires);
        self.requeue(id);
        Renewed {
            requester,
            charged,
            done,
            again,
        }
    }
}
