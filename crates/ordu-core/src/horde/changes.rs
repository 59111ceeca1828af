//! What happened to requests since somebody last asked, for whoever watches them from outside.
//!
//! Knows which requests, never what: who wants to know looks at the horde.

use std::collections::BTreeSet;

use ordu_api::{JobId, RequestId, WorkerId};

use super::matching::{Matcher, Pass};
use super::{Horde, Job};

/// Requests that something happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that came, moved on, ended or were forgotten.
    pub touched: BTreeSet<RequestId>,
    /// Those of which slots came open: a worker that waits may want to look.
    pub opened: BTreeSet<RequestId>,
}

impl Changes {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.opened.is_empty()
    }
}

impl Horde {
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
            queue: self.queues.of(worker.record.kind),
            requests: &self.requests,
            worker,
            capacity,
        };
        let pass = if is_owner || is_preferred {
            Pass::Priority
        } else {
            Pass::General
        };
        matcher.serves_entry(entry, pass)
    }
}
