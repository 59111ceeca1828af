//! Workers that something else than this server changed or deleted: read again, once for each
//! change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::WorkerId;
use ordu_core::{Millis, Timestamp};
use ordu_store::Worker;

use crate::app::App;
use crate::registry::{self, Known};

/// Changes are read back this much further than the newest one seen: clocks differ, and what was
/// written first can become visible later.
const OVERLAP: Millis = Millis::from_minutes(1);

/// How long changes are kept for other servers.
const KEPT: Millis = Millis::from_minutes(60);

/// What was noticed so far.
#[derive(Debug, Default)]
pub(crate) struct WorkerEdits(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    newest: Timestamp,
    /// The change of each worker that was noticed last.
    changes: BTreeMap<WorkerId, Timestamp>,
}

impl WorkerEdits {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers are read now: what was changed long before needs no look.
    pub(crate) fn begin(&self, now: Timestamp) {
        self.seen().newest = now;
    }

    fn since(&self) -> Timestamp {
        self.seen().newest - OVERLAP
    }

    /// Those that were not noticed yet.
    fn news(&self, edits: &[(WorkerId, Timestamp)]) -> Vec<(WorkerId, Timestamp)> {
        let seen = self.seen();
        let is_new = |(worker, changed): &&(WorkerId, Timestamp)| {
            seen.changes.get(worker).is_none_or(|known| known < changed)
        };
        edits.iter().filter(is_new).copied().collect()
    }

    fn note(&self, worker: WorkerId, changed: Timestamp) {
        let mut seen = self.seen();
        seen.newest = seen.newest.max(changed);
        seen.changes.insert(worker, changed);
        let oldest = seen.newest - OVERLAP;
        seen.changes.retain(|_, changed| *changed >= oldest);
    }
}

impl App {
    /// Reads workers again that something else changed.
    pub(crate) async fn notice_worker_edits(&self) -> Result<(), ordu_store::Error> {
        let edits = self
            .store
            .list_worker_edits(self.worker_edits.since())
            .await?;
        for (worker, changed) in self.worker_edits.news(&edits) {
            match self.store.find_worker(worker).await? {
                Some(stored) => self.show_stored(&stored),
                None => self.forget_deleted(worker),
            }
            self.worker_edits.note(worker, changed);
        }
        if edits.is_empty() {
            return Ok(());
        }
        let before = self.clock.now() - KEPT;
        self.store.delete_worker_edits(before).await?;
        Ok(())
    }

    /// What is stored of a worker holds in memory too; what it did is memory's own knowledge.
    pub(crate) fn show_stored(&self, stored: &Worker) {
        let record = registry::record(stored);
        let fresh = Known::from_stored(stored);
        let Some(known) = self.registry.by_id(stored.id) else {
            self.registry.put(fresh);
            self.live().horde.restore_worker(record);
            return;
        };
        self.registry.put(Known {
            address: known.address,
            declared: known.declared,
            ..fresh
        });
        let horde = &mut self.live().horde;
        horde.set_maintenance(stored.id, record.maintenance);
        if record.paused {
            horde.pause(stored.id);
        } else {
            horde.unpause(stored.id);
        }
    }

    pub(crate) fn forget_deleted(&self, worker: WorkerId) {
        self.registry.remove(worker);
        self.live().horde.forget_worker(worker);
        tracing::info!(worker.id = %worker, "a worker was deleted elsewhere");
    }
}
