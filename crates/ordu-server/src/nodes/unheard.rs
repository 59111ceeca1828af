//! Requests that were refused because the database was not heard of: they may be stored all the same, or
//! come to be when what was sent into a silent wire arrives after all.
//!
//! Whoever gave theirs an `Idempotency-Key` can still come back for it, and finds it in the queue. Of any
//! other nobody knows the id: it is withdrawn, so that no worker works for nobody. What another node has
//! read of it in the change log meanwhile, it may have given away; its activation stays paid.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ordu_api::{JobId, RequestId};
use ordu_core::Timestamp;
use ordu_store::{Assignment, Error, Fault, Faulted, NewRequest};

use super::locked;
use super::requests::BITE;
use crate::app::App;

/// Requests that are looked for at most; others are left to the next start.
const MOST: usize = 10_000;

/// Those requests, until a look finds them, or that they would have expired.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<BTreeMap<RequestId, Doubt>>);

#[derive(Debug)]
struct Doubt {
    expires: Timestamp,
    /// Whether its client may come back for it.
    is_named: bool,
    /// Jobs that its attempts came with, of which their workers were not told.
    jobs: Vec<JobId>,
}

/// What to do with a request if it is stored, and when to look no more.
#[derive(Debug, Clone, Copy)]
struct Look {
    id: RequestId,
    expires: Timestamp,
    is_named: bool,
}

impl Unheard {
    fn add(&self, row: &NewRequest, assignment: Option<&Assignment>) {
        let jobs = assignment.into_iter().flat_map(|given| &given.jobs);
        let jobs = jobs.map(|job| job.id);
        let doubts = &mut *locked(&self.0);
        if let Some(doubt) = doubts.get_mut(&row.id) {
            // An attempt before this one was not heard either: which of them is stored, nobody knows.
            doubt.jobs.extend(jobs);
            return;
        }
        if doubts.len() >= MOST {
            tracing::warn!(request.id = %row.id, "too many requests are looked for already");
            return;
        }
        let doubt = Doubt {
            expires: row.expires,
            is_named: row.answer.is_some(),
            jobs: jobs.collect(),
        };
        doubts.insert(row.id, doubt);
    }

    fn all(&self) -> Vec<Look> {
        let doubts = locked(&self.0);
        let looks = doubts.iter().map(|(id, doubt)| Look {
            id: *id,
            expires: doubt.expires,
            is_named: doubt.is_named,
        });
        looks.collect()
    }

    /// The jobs that a request may have come with.
    fn jobs(&self, id: RequestId) -> Vec<JobId> {
        let doubts = locked(&self.0);
        doubts
            .get(&id)
            .map_or_else(Vec::new, |doubt| doubt.jobs.clone())
    }

    fn remove(&self, id: RequestId) {
        locked(&self.0).remove(&id);
    }
}

impl App {
    /// Stores a request, with its jobs if it comes with some; one of which nothing is heard is looked for.
    pub(crate) async fn store_request(
        &self,
        row: &NewRequest,
        assignment: Option<&Assignment>,
    ) -> Result<(), Error> {
        let stored = match assignment {
            Some(assignment) => self.store.insert_assigned(row, assignment).await,
            None => self.store.insert_request(row).await,
        };
        if matches!(stored, Err(Error::Unheard(_))) {
            self.nodes.unheard.add(row, assignment);
        }
        stored
    }

    /// Looks which of the requests that were refused are stored: they wait like any other, or are
    /// withdrawn. What cannot be read now is read the next time.
    pub(crate) async fn look_for_unheard(&self, now: Timestamp) {
        for some in self.nodes.unheard.all().chunks(BITE) {
            if let Err(error) = self.look_for(some, now).await {
                tracing::warn!(%error, "requests that were refused could not be looked for");
            }
        }
    }

    async fn look_for(&self, looks: &[Look], now: Timestamp) -> Result<(), Error> {
        let ids: Vec<RequestId> = looks.iter().map(|look| look.id).collect();
        let stored = self.store.list_requests(&ids).await?;
        for look in looks {
            if stored.iter().any(|row| row.id == look.id) {
                self.take_up(*look, now).await?;
            } else if look.expires <= now {
                self.nodes.unheard.remove(look.id);
            }
        }
        Ok(())
    }

    /// A request that was refused is stored.
    async fn take_up(&self, look: Look, now: Timestamp) -> Result<(), Error> {
        let Look { id, is_named, .. } = look;
        if is_named {
            // An attempt that is under way makes it known itself.
            let Some(_turn) = self.repeats.try_turn(id) else {
                return Ok(());
            };
            self.take_back(id, now).await?;
            self.refresh_stored(&[id]).await?;
        } else {
            // Before it is known here, and given to somebody.
            self.withdraw(id).await?;
            self.take_back(id, now).await?;
        }
        self.nodes.unheard.remove(id);
        tracing::info!(request.id = %id, named = is_named, "a refused request was stored");
        Ok(())
    }

    /// Nobody works on the jobs that a request came with: nobody was told of them.
    async fn take_back(&self, request: RequestId, at: Timestamp) -> Result<(), Error> {
        for job in self.nodes.unheard.jobs(request) {
            let fault = Fault {
                job,
                request,
                at,
                how: Faulted::Release,
            };
            self.store.fault(&fault).await?;
        }
        Ok(())
    }
}
