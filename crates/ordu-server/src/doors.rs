//! Who is at the door: connections that are open, those that have asked for nothing yet, and how others
//! ended. A crowd that behaves badly is seen here, whatever it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Has not asked for anything.
const NEVER: u64 = u64::MAX;

/// Connections, counted.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    open: AtomicU64,
    mute: AtomicU64,
    failed: AtomicU64,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    doors: Arc<Doors>,
    came: Instant,
    /// When the last request began, in milliseconds after `came`; or [`NEVER`].
    asked: AtomicU64,
}

impl Doors {
    /// Lets a connection in.
    pub(crate) fn enter(self: &Arc<Self>) -> Arc<Guest> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.mute.fetch_add(1, Ordering::Relaxed);
        Arc::new(Guest {
            doors: Arc::clone(self),
            came: Instant::now(),
            asked: AtomicU64::new(NEVER),
        })
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Those of them that have not said the whole head of a request yet.
    pub(crate) fn mute(&self) -> u64 {
        self.mute.load(Ordering::Relaxed)
    }

    /// Connections so far that ended badly: what they said was no request, or they did not wait for
    /// the answer.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Guest {
    /// It asks for something.
    pub(crate) fn ask(&self) {
        let after = u64::try_from(self.came.elapsed().as_millis()).unwrap_or(NEVER - 1);
        if self.asked.swap(after, Ordering::Relaxed) == NEVER {
            self.doors.mute.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// It ended badly. Who had to be quiet for `patience` before was only slow, or idle.
    pub(crate) fn note_failure(&self, patience: Duration) {
        let asked = self.asked.load(Ordering::Relaxed);
        let since = match asked {
            NEVER => Duration::ZERO,
            asked => Duration::from_millis(asked),
        };
        if self.came.elapsed().saturating_sub(since) < patience / 2 {
            self.doors.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.doors.open.fetch_sub(1, Ordering::Relaxed);
        if *self.asked.get_mut() == NEVER {
            self.doors.mute.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn guests_are_counted_by_what_they_do() {
        let doors = Arc::new(Doors::default());
        let (first, second, third) = (doors.enter(), doors.enter(), doors.enter());
        first.ask();
        first.ask();
        assert_eq!((doors.open(), doors.mute()), (3, 2));
        first.note_failure(PATIENCE);
        second.note_failure(PATIENCE);
        assert_eq!(doors.failed(), 2);
        // Their time is up.
        first.note_failure(Duration::ZERO);
        third.note_failure(Duration::ZERO);
        assert_eq!(doors.failed(), 2);
        drop((first, second, third));
        assert_eq!((doors.open(), doors.mute()), (0, 0));
    }
}
