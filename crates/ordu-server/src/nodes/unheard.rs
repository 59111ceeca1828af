//! Requests that were refused because the database was not heard of: they may be stored all the same, or
//! come to be when what was sent into a silent wire arrives after all.
//!
//! Whoever gave theirs an `Idempotency-Key` can still come back for it, and finds it in the queue. Of any
//! other nobody knows the id: it is withdrawn, so that no worker works for nobody. What another node has
//! read of it in the change log meanwhile, it may have given away; its activation stays paid.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ordu_api::RequestId;
use ordu_core::Timestamp;
use ordu_store::{Error, NewRequest};

use super::locked;
use super::requests::BITE;
use crate::app::App;

/// Requests that are looked for at most; others are left to the next start.
const MOST: usize = 10_000;

/// Those requests, until a look finds them, or that they would have expired.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<BTreeMap<RequestId, Doubt>>);

#[derive(Debug, Clone, Copy)]
struct Doubt {
    expires: Timestamp,
    /// Whether its client may come back for it.
    is_named: bool,
}

impl Unheard {
    fn add(&self, row: &NewRequest) {
        let doubts = &mut *locked(&self.0);
        if doubts.len() >= MOST {
            tracing::warn!(request.id = %row.id, "too many requests are looked for already");
            return;
        }
        let doubt = Doubt {
            expires: row.expires,
            is_named: row.answer.is_some(),
        };
        doubts.insert(row.id, doubt);
    }

    fn all(&self) -> Vec<(RequestId, Doubt)> {
        let doubts = locked(&self.0);
        doubts.iter().map(|(id, doubt)| (*id, *doubt)).collect()
    }

    fn remove(&self, id: RequestId) {
        locked(&self.0).remove(&id);
    }
}

impl App {
    /// Stores a request; one of which nothing is heard is looked for.
    pub(crate) async fn store_request(&self, row: &NewRequest) -> Result<(), Error> {
        let stored = self.store.insert_request(row).await;
        if matches!(stored, Err(Error::Unheard(_))) {
            self.nodes.unheard.add(row);
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

    async fn look_for(&self, doubts: &[(RequestId, Doubt)], now: Timestamp) -> Result<(), Error> {
        let ids: Vec<RequestId> = doubts.iter().map(|(id, _)| *id).collect();
        let stored = self.store.list_requests(&ids).await?;
        for &(id, doubt) in doubts {
            if stored.iter().any(|row| row.id == id) {
                self.take_up(id, doubt).await?;
            } else if doubt.expires <= now {
                self.nodes.unheard.remove(id);
            }
        }
        Ok(())
    }

    /// A request that was refused is stored.
    async fn take_up(&self, id: RequestId, doubt: Doubt) -> Result<(), Error> {
        if doubt.is_named {
            // An attempt that is under way makes it known itself.
            let Some(_turn) = self.repeats.try_turn(id) else {
                return Ok(());
            };
            self.refresh_stored(&[id]).await?;
        } else {
            // Before it is known here, and given to somebody.
            self.withdraw(id).await?;
        }
        self.nodes.unheard.remove(id);
        tracing::info!(request.id = %id, named = doubt.is_named, "a refused request was stored");
        Ok(())
    }
}
