//! What happened to requests since somebody last asked, for whoever watches them from outside.
//!
//! Of requests it knows which, never what: who wants to know looks at the horde. Of jobs it tells
//! what everybody may see: who works with which model, never for whom or on what.

use std::collections::BTreeSet;

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, WorkerId};

use super::matching::{Matcher, Pass};
use super::{Horde, Job, Offer};
use crate::Timestamp;

/// So many happenings are kept for who asks late; of more, the newest are lost.
const MAX_HAPPENINGS: usize = 1_000;

/// Requests that something happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that came, moved on, ended or were forgotten.
    pub touched: BTreeSet<RequestId>,
    /// Those of which slots came open: a worker that waits may want to look.
    pub opened: BTreeSet<RequestId>,
    /// What anybody may see, in the order in which it happened.
    pub happenings: Vec<Happening>,
}

/// Something that anybody may see: nothing of prompts, nothing of users. Jobs that only keep a
/// paused worker busy look like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A request came.
    Accepted {
        /// The kind of work.
        kind: WorkKind,
        /// How many results it wants.
        results: u32,
    },
    /// A job began or ended.
    Job {
        /// The kind of work.
        kind: WorkKind,
        /// What became of it.
        turn: Turn,
        /// The model, or the name of the form.
        model: String,
        /// The worker's name when it took the job.
        worker: String,
    },
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A worker took it.
    Begun,
    /// There is a result.
    Finished,
    /// It came to nothing, and somebody is to blame.
    Faulted,
    /// It came to nothing, and nobody is.
    Returned,
}

impl Changes {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.opened.is_empty() && self.happenings.is_empty()
    }

    pub(super) fn tell(&mut self, happening: Happening) {
        if self.happenings.len() < MAX_HAPPENINGS {
            self.happenings.push(happening);
        }
    }
}

impl Horde {
    /// Tells what becomes of a job that is still known.
    pub(super) fn tell(&mut self, id: JobId, turn: Turn) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let worker = self.workers.get(job.worker);
        let kind = worker.map(|worker| worker.record.kind).or_else(|| {
            let entry = self.requests.get(&job.request);
            entry.map(|entry| entry.request.work.kind())
        });
        let Some(kind) = kind else {
            return;
        };
        self.changes.tell(Happening::Job {
            kind,
            turn,
            model: job.model.clone(),
            worker: job.worker_name.clone(),
        });
    }

    /// What happened since the last call. Who never calls pays a few bytes for each request.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The jobs of a request, whatever became of them, oldest first; decoys left out.
    pub fn jobs(&self, request: RequestId) -> impl Iterator<Item = &Job> {
        let entry = self.requests.get(&request);
        let jobs = entry.into_iter().flat_map(|entry| &entry.jobs);
        jobs.filter_map(|id: &JobId| self.jobs.get(id))
    }

    /// Results of a request that no worker has.
    pub fn open_slots_of(&self, request: RequestId) -> u32 {
        let entry = self.requests.get(&request);
        entry.map_or(0, |entry| entry.open.count())
    }

    /// Whether a worker that checked in has offered nothing else since.
    pub fn is_current(&self, offer: &Offer) -> bool {
        let known = self.workers.get(offer.worker);
        let last = known.and_then(|worker| worker.offer.as_ref());
        last.is_none_or(|last| last.declared == offer.declared)
    }

    /// Whether a worker that checked in could take some of this request, if nothing else waited.
    pub fn would_serve(&self, worker: WorkerId, request: RequestId) -> bool {
        let found = self.workers.get(worker);
        let Some((worker, capacity)) = found.and_then(|worker| {
            let capacity = worker.capacity.as_ref()?;
            Some((worker, capacity))
        }) else {
            return false;
        };
        let Some(entry) = self.requests.get(&request) else {
            return false;
        };
        if entry.open.is_empty() || entry.request.work.kind() != worker.record.kind {
            return false;
        }
        let user = entry.request.requester.user;
        let is_owner = user == worker.record.owner;
        if worker.record.maintenance.is_some() && !is_owner {
            return false;
        }
        let is_preferred = worker
            .offer
            .as_ref()
            .is_some_and(|offer| offer.priority_users.contains(&user));
        let matcher = Matcher {
            behind: false,
            // Whoever wakes workers knows when.
            ..self.matcher(worker, capacity, Timestamp::default())
        };
        let pass = if is_owner || is_preferred {
            Pass::Priority
        } else {
            Pass::General
        };
        matcher.serves_entry(entry, pass)
    }
}
