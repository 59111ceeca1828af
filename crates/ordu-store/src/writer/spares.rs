//! PostgreSQL only: connections that are kept from one batch to the next.
//!
//! Whatever comes back to a pool is tested before somebody else has it, which takes a round trip: far
//! away a connection would be busy with that half of the time.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::pool::{Connection, QUIET};

/// Connections that nobody uses just now, each with when it was used last.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<(Connection, Instant)>>);

impl Spares {
    /// The one that was used last. What was quiet for long may have been cut on the way: all of that
    /// goes back to the pool, which tests it.
    pub(super) fn take(&self, now: Instant) -> Option<Connection> {
        let quiet = self.with(|spares| {
            let fresh = spares.partition_point(|(_, used)| now.duration_since(*used) >= QUIET);
            spares.drain(..fresh).collect::<Vec<_>>()
        });
        drop(quiet);
        self.with(Vec::pop).map(|(connection, _)| connection)
    }

    /// Keeps one whose statement went well.
    pub(super) fn put(&self, connection: Connection, now: Instant) {
        self.with(|spares| spares.push((connection, now)));
    }

    /// Gives all back to the pool: where one was cut, the others were, too.
    pub(super) fn clear(&self) {
        drop(self.with(std::mem::take));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<(Connection, Instant)>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
