//! How requests come and go: enqueued, restored, cancelled, given up, expired.
//!
//! # Source
//! `generation.md` § 3.13, § 3.14, § 6.13.

use ordu_api::{JobId, RequestId, UserId, WorkerId};

use super::blame::Notice;
use super::demand::Demand;
use super::queue::Ticket;
use super::rank::Place;
use super::workers::UptimeClock;
use super::{
    Aftermath, CheckIn, Entry, Happening, Horde, Job, JobState, Offer, REQUEST_LIFETIME, Request,
    Sanction, Slots, Turn, WorkerRecord,
};
use crate::{Kudos, Timestamp};

/// A tick reports at most this much; call it again when it did.
pub const MAX_LAPSES: usize = 1000;

/// A request as it was stored, with its jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The request.
    pub request: Request,
    /// Results that no worker has yet.
    pub open: u32,
    /// Results that are wanted in all; fewer than at first once it was cancelled.
    pub asked: u32,
    /// Charged so far, the activation included.
    pub kudos: Kudos,
    /// When it expires.
    pub expires: Timestamp,
    /// Whether it was given up.
    pub faulted: bool,
    /// All its jobs, oldest first.
    pub jobs: Vec<Job>,
}

/// What must be stored of a cancelled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// Which request.
    pub request: RequestId,
    /// Results that are wanted in all from now on: those that are there.
    pub asked: u32,
    /// Whether nothing more will come: what is still held for it can be released.
    pub done: bool,
}

/// Something that time brought about, and that must be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lapse {
    /// A job took too long: it faulted.
    JobFaulted {
        /// Which job.
        job: JobId,
        /// What it is part of.
        request: RequestId,
        /// Results of the request that no worker has, from now on.
        open: u32,
        /// What becomes of its slot.
        aftermath: Aftermath,
        /// What the horde did to the worker, if this was one drop too many.
        sanction: Option<Sanction>,
    },
    /// A request faulted too often: nothing more will come of it, though running jobs may end.
    RequestFaulted {
        /// Which request.
        request: RequestId,
    },
    /// A request expired: it and its jobs are gone, nothing is settled.
    RequestExpired {
        /// Which request.
        request: RequestId,
        /// Its jobs that were still running.
        dropped: Vec<JobId>,
    },
}

impl Horde {
    /// Puts a new request into the queue. Its activation has been charged.
    pub fn enqueue(&mut self, request: Request, now: Timestamp) {
        let asked = request.work.asked();
        if !self.requests.contains_key(&request.id) {
            self.changes.tell(Happening::Accepted {
                kind: request.work.kind(),
                results: asked,
            });
        }
        self.place(request, now);
    }

    /// A new request into the queue, of which nobody is told yet.
    pub(super) fn place(&mut self, request: Request, now: Timestamp) {
        let (id, asked) = (request.id, request.work.asked());
        self.restore(Stored {
            kudos: request.work.activation_tax(),
            expires: now + REQUEST_LIFETIME,
            open: asked,
            asked,
            faulted: false,
            jobs: Vec::new(),
            request,
        });
        self.keep_back(id, now);
    }

    /// Puts a stored request back, whatever state it is in. Requests that are equal in priority
    /// and age keep the order in which they are restored. A request that is known is left alone.
    pub fn restore(&mut self, stored: Stored) {
        let id = stored.request.id;
        if self.requests.contains_key(&id) {
            return;
        }
        self.sequence += 1;
        let request = stored.request;
        let place = Place::new(request.priority, request.created, self.sequence);
        let open = if stored.faulted {
            Slots::none(&request.work)
        } else {
            Slots::restored(&request.work, stored.open, &stored.jobs)
        };
        let queue = self.queues.of_mut(request.work.kind());
        let demand: Demand = queue.hold(&request, &open);
        let mut entry = Entry {
            place,
            demand,
            base_price: request.work.base_price(&self.reference),
            open,
            asked: stored.asked,
            jobs: Vec::new(),
            running: 0,
            finished: 0,
            faults: 0,
            kudos: stored.kudos,
            expires: stored.expires,
            faulted: stored.faulted,
            cancelled: false,
            turn: self.turn_of_id(id),
            kept_back_until: Timestamp::default(),
            verdict: None,
            counted: 0,
            request,
        };
        for job in stored.jobs {
            match job.state {
                JobState::Running => {
                    entry.running += 1;
                    self.deadlines.insert((job.deadline, job.id));
                }
                JobState::Done(_) => entry.finished += 1,
                JobState::Faulted => entry.faults += u32::from(job.is_abort()),
            }
            entry.jobs.push(job.id);
            self.jobs.insert(job.id, job);
        }
        if entry.is_hopeless() {
            self.hopeless.insert(id);
        }
        let given_up = entry.given_up(&self.jobs);
        entry.asked = entry.asked.saturating_sub(given_up);
        self.expiries.insert((entry.expires, id));
        self.index(&entry.request);
        if !entry.open.is_empty() {
            self.changes.opened.insert(id);
        }
        self.requests.insert(id, Box::new(entry));
        self.requeue(id);
    }

    /// Puts a stored worker back; it is offline until it pops.
    pub fn restore_worker(&mut self, record: WorkerRecord) {
        self.workers.restore(record);
    }

    /// Takes note of a worker and of what it can do now. Comes before each pop.
    pub fn check_in(&mut self, offer: Offer, now: Timestamp) -> CheckIn {
        let clock = if self.is_home_of(offer.worker) {
            UptimeClock::Here
        } else {
            UptimeClock::Elsewhere
        };
        let names = &mut self.queues.of_mut(offer.kind()).names;
        self.workers
            .check_in(offer, &self.reference, (names, clock), now)
    }

    /// Takes over what another node, which counts it, knows of a worker.
    pub fn follow_worker(&mut self, record: &WorkerRecord) {
        self.workers.follow(record);
    }

    /// Lets a worker serve its owner only, for a reason; `None` lets it serve everybody again.
    pub fn set_maintenance(&mut self, worker: WorkerId, reason: Option<String>) {
        self.workers.set_maintenance(worker, reason);
    }

    /// Keeps a worker busy with decoys from now on.
    pub fn pause(&mut self, worker: WorkerId) {
        self.workers.set_paused(worker, true);
    }

    /// Ends [`Self::pause`].
    pub fn unpause(&mut self, worker: WorkerId) {
        self.workers.set_paused(worker, false);
    }

    /// Forgets a worker that was deleted. Its jobs run on.
    pub fn forget_worker(&mut self, worker: WorkerId) {
        let Some(kind) = self.workers.get(worker).map(|found| found.record.kind) else {
            return;
        };
        let names = &mut self.queues.of_mut(kind).names;
        self.workers.forget(worker, names);
    }

    /// Tells what a requester can spend now, above its floor.
    pub fn set_available(&mut self, user: UserId, available: Kudos) {
        for kind in ordu_api::worker::WorkKind::ALL {
            let waiting: Vec<RequestId> = self.queues.of(kind).of_user(user).collect();
            for id in waiting {
                if let Some(entry) = self.requests.get_mut(&id) {
                    entry.request.requester.available = available;
                }
            }
        }
    }

    /// Stops giving a request away: what runs may end, nothing new begins. Harmless when repeated.
    pub fn cancel(&mut self, request: RequestId) -> Option<Cancelled> {
        let entry = self.requests.get_mut(&request)?;
        entry.open.close();
        entry.cancelled = true;
        entry.asked = entry.finished;
        let cancelled = Cancelled {
            request,
            asked: entry.asked,
            done: entry.is_done(),
        };
        self.requeue(request);
        Some(cancelled)
    }

    /// Forgets a request and its jobs at once, without settlement: whoever still works on one is
    /// told that nobody knows it.
    pub fn forget_request(&mut self, request: RequestId) {
        self.remove(request);
    }

    /// Lets time pass: jobs time out, requests are given up or expire. Reports at most
    /// [`MAX_LAPSES`]; if it reports that many, call it again.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Lapse> {
        let mut lapses = Vec::new();
        self.recent.prune(now);
        self.time_out_jobs(now, &mut lapses);
        self.give_up_requests(&mut lapses);
        self.expire_requests(now, &mut lapses);
        lapses
    }

    fn time_out_jobs(&mut self, now: Timestamp, lapses: &mut Vec<Lapse>) {
        let is_due = |at: &&(Timestamp, JobId)| at.0 <= now;
        let due: Vec<JobId> = self
            .deadlines
            .iter()
            .take_while(is_due)
            .map(|(_, job)| *job)
            .filter(|job| !self.pending.contains_key(job))
            .take(MAX_LAPSES - lapses.len())
            .collect();
        for id in due {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            let request = job.request;
            if job.decoy {
                self.drop_decoy(id);
                continue;
            }
            let blame = self.blame(id, Notice::TimedOut, now);
            let aftermath = self
                .jobs
                .get(&id)
                .map_or(Aftermath::Returned, |job| self.aftermath(job, blame));
            let sanction = self.fault(id, blame, now);
            lapses.push(Lapse::JobFaulted {
                job: id,
                request,
                open: self
                    .requests
                    .get(&request)
                    .map_or(0, |entry| entry.open.count()),
                aftermath,
                sanction,
            });
        }
    }

    /// Decoys are no other node's business.
    pub(super) fn drop_decoys(&mut self, now: Timestamp) {
        let due = self.deadlines.iter().take_while(|at| at.0 <= now);
        let is_decoy = |id: &JobId| self.jobs.get(id).is_some_and(|job| job.decoy);
        let due: Vec<JobId> = due.map(|(_, job)| *job).filter(is_decoy).collect();
        for id in due {
            self.drop_decoy(id);
        }
    }

    fn drop_decoy(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let deadline = (job.deadline, id);
        let is_running = job.state == JobState::Running;
        self.deadlines.remove(&deadline);
        if is_running {
            self.tell(id, Turn::Faulted);
        }
        self.jobs.remove(&id);
    }

    fn give_up_requests(&mut self, lapses: &mut Vec<Lapse>) {
        while lapses.len() < MAX_LAPSES {
            let Some(request) = self.hopeless.pop_first() else {
                return;
            };
            let Some(entry) = self.requests.get_mut(&request) else {
                continue;
            };
            entry.faulted = true;
            entry.open.close();
            let jobs = entry.jobs.clone();
            self.exonerate(&jobs);
            self.requeue(request);
            lapses.push(Lapse::RequestFaulted { request });
        }
    }

    fn expire_requests(&mut self, now: Timestamp, lapses: &mut Vec<Lapse>) {
        let is_due = |at: &&(Timestamp, RequestId)| at.0 <= now;
        let due: Vec<RequestId> = self
            .expiries
            .iter()
            .take_while(is_due)
            .map(|(_, request)| *request)
            .filter(|request| !self.is_settling(*request))
            .take(MAX_LAPSES - lapses.len())
            .collect();
        for request in due {
            let dropped = self.remove(request);
            lapses.push(Lapse::RequestExpired { request, dropped });
        }
    }

    /// Whether a result of the request is being stored just now.
    fn is_settling(&self, request: RequestId) -> bool {
        let entry = self.requests.get(&request);
        entry.is_some_and(|entry| entry.jobs.iter().any(|job| self.pending.contains_key(job)))
    }

    /// Forgets a request and its jobs; answers those that were still running.
    pub(super) fn remove(&mut self, request: RequestId) -> Vec<JobId> {
        let Some(entry) = self.displace(request) else {
            return Vec::new();
        };
        self.workers.forget_withheld(request);
        let mut running = Vec::new();
        for id in entry.jobs {
            let job = self.jobs.get(&id);
            if job.is_some_and(|job| job.state == JobState::Running) {
                self.tell(id, Turn::Returned);
                running.push(id);
            }
            let Some(job) = self.jobs.remove(&id) else {
                continue;
            };
            self.deadlines.remove(&(job.deadline, id));
        }
        running
    }

    /// A request out of the queue and everything else but its jobs and what workers keep of it.
    pub(super) fn displace(&mut self, request: RequestId) -> Option<Box<Entry>> {
        let entry = self.requests.remove(&request)?;
        self.changes.touched.insert(request);
        self.changes.opened.remove(&request);
        self.unindex(&entry.request);
        self.expiries.remove(&(entry.expires, request));
        self.hopeless.remove(&request);
        let queue = self.queues.of_mut(entry.request.work.kind());
        queue.remove(&ticket(&entry));
        queue.let_go(entry.demand);
        queue.count(entry.request.requester.user, 0, entry.counted);
        Some(entry)
    }

    fn index(&mut self, request: &Request) {
        let user = request.requester.user;
        if user != UserId::ANONYMOUS {
            let requests = self.by_user.entry(user).or_default();
            requests.insert((request.created, request.id));
        }
    }

    fn unindex(&mut self, request: &Request) {
        let user = request.requester.user;
        if let Some(requests) = self.by_user.get_mut(&user) {
            requests.remove(&(request.created, request.id));
            if requests.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    /// Lets a request live until `expires` at least.
    pub(super) fn refresh(&mut self, request: RequestId, expires: Timestamp) {
        let Some(entry) = self.requests.get_mut(&request) else {
            return;
        };
        if expires > entry.expires {
            self.expiries.remove(&(entry.expires, request));
            self.expiries.insert((expires, request));
            entry.expires = expires;
        }
    }

    /// Tells the queue how much of a request waits now.
    pub(super) fn requeue(&mut self, request: RequestId) {
        let Some(entry) = self.requests.get_mut(&request) else {
            return;
        };
        self.changes.touched.insert(request);
        let queue = self.queues.of_mut(entry.request.work.kind());
        if let Slots::Forms(_) = entry.open {
            // Which forms are open decides who can serve it.
            queue.remove(&ticket(entry));
            queue.let_go(entry.demand);
            entry.demand = queue.hold(&entry.request, &entry.open);
        }
        let load = entry.load();
        queue.set(&ticket(entry), load);
        queue.count(entry.request.requester.user, load.jobs, entry.counted);
        entry.counted = load.jobs;
    }
}

const fn ticket(entry: &Entry) -> Ticket {
    Ticket {
        request: entry.request.id,
        user: entry.request.requester.user,
        place: entry.place,
        demand: entry.demand,
    }
}
