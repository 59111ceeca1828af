//! PostgreSQL only: the connections of the line of writes, kept from one batch to the next.
//!
//! Whatever comes back to a pool is tested before somebody else has it, which takes a round trip: far
//! away a connection would be busy with that half of the time. And to open one takes four round trips
//! and a password that is hashed thousands of times, which on a busy machine can be seconds: it is done
//! ahead, beside the writes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::WAYS;
use crate::pool::{Connection, QUIET};

/// How long nothing is opened ahead after it went wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// The connections of the line of writes.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Those that nobody uses just now, each with when it was used last, in that order.
    spare: Vec<(Connection, Instant)>,
    in_use: u32,
    /// When the database answered last.
    answered: Option<Instant>,
    /// When a connection could not be opened last.
    refused: Option<Instant>,
    /// Whether the database cannot be reached: a connection was cut, or could not be opened while nothing
    /// else was answered, and nothing has been since.
    is_away: bool,
}

/// The place of a connection that is in use, or that a batch opens for itself.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Spares);

impl Spares {
    /// How many batches may be on their way: the connections that there are. While the database is away,
    /// each finds out by itself: those that are there may hang, and nobody waits for another's refusal.
    pub(super) fn ways(&self, now: Instant) -> u32 {
        let held = self.held();
        if held.is_away {
            return WAYS;
        }
        let fresh = held.spare.len() - held.quiet(now);
        held.in_use + u32::try_from(fresh).unwrap_or(u32::MAX)
    }

    /// Until when nothing is to be opened ahead.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let until = self.held().refused.map(|refused| refused + PAUSE);
        until.filter(|until| *until > now)
    }

    /// The one that was used last. What was quiet for long may have been cut on the way: all of that is
    /// closed.
    pub(super) fn take(&self, now: Instant) -> Option<(Place<'_>, Connection)> {
        let mut held = self.held();
        let quiet = held.quiet(now);
        let quiet: Vec<_> = held.spare.drain(..quiet).collect();
        let taken = held.spare.pop();
        drop(held);
        close(quiet);
        taken.map(|(connection, _)| (self.reserve(), connection))
    }

    /// A place for one that is not there yet.
    pub(super) fn reserve(&self) -> Place<'_> {
        self.held().in_use += 1;
        Place(self)
    }

    /// One could not be opened that was begun then.
    pub(super) fn note_refused(&self, begun: Instant) {
        let mut held = self.held();
        held.refused = Some(Instant::now());
        held.note_silent(begun);
    }

    /// One was cut: all that nobody uses are closed, for they were, too.
    pub(super) fn note_cut(&self) {
        self.held().is_away = true;
        self.let_go();
    }

    /// One did not answer what was begun then: those that nobody used since may be gone as well, and are
    /// closed.
    pub(super) fn note_silent(&self, begun: Instant) {
        let mut held = self.held();
        held.note_silent(begun);
        let older = held.spare.partition_point(|(_, used)| *used < begun);
        let older = held.spare.drain(..older).collect();
        drop(held);
        close(older);
    }

    /// Closes all that nobody uses.
    pub(super) fn let_go(&self) {
        let spare = std::mem::take(&mut self.held().spare);
        close(spare);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections of which nobody knows whether anything comes back through them. The pool would test
/// them first, and where nothing does it would wait for the system to give up, with all their places taken.
fn close(connections: Vec<(Connection, Instant)>) {
    for (mut connection, _) in connections {
        connection.keep_apart();
    }
}

impl Held {
    /// What was begun then came to nothing: the database is away if it has answered nothing else since.
    fn note_silent(&mut self, begun: Instant) {
        self.is_away |= self.answered.is_none_or(|answered| answered < begun);
    }

    fn quiet(&self, now: Instant) -> usize {
        let is_quiet = |(_, used): &(_, Instant)| now.duration_since(*used) >= QUIET;
        self.spare.partition_point(is_quiet)
    }
}

impl Place<'_> {
    /// Keeps the connection, unless there are enough.
    pub(super) fn keep(self, connection: Connection, now: Instant) {
        let mut held = self.0.held();
        held.answered = Some(now);
        held.is_away = false;
        let others = held.in_use - 1 + u32::try_from(held.spare.len()).unwrap_or(u32::MAX);
        let surplus = if others < WAYS {
            held.spare.push((connection, now));
            None
        } else {
            Some(connection)
        };
        drop(held);
        drop(surplus);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.held().in_use -= 1;
    }
}
