//! How long it takes until the nodes know of a claim, and with that how long each leaves the requests
//! of others to them.
//!
//! From when a request is chosen until its claim is answered nobody else can know of it; and then
//! the others must read of it. Who reaches for the same request within that time loses. Each node
//! measures both here, and takes the others to be like itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ordu_core::Millis;
use ordu_core::horde::HEAD_START;

/// The head start, as a multiple of how long a claim is not known: if its home reaches for a request
/// at any moment after that, one of so many times it is at the moment when another node does.
const TIMES: i64 = 4;

/// What takes longer than was thought counts for so much of the difference at once …
const UP: i64 = 4;

/// … and what takes less for so much: nine of ten are below what comes of it.
const DOWN: i64 = 32;

/// What nearly all stay below, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Pace {
    claim: AtomicI64,
    look: AtomicI64,
}

impl Pace {
    /// A claim was answered so long after the choice.
    pub(super) fn note_claim(&self, took: Duration) {
        note(&self.claim, took);
    }

    /// So long it took to read what others did, and to join it.
    pub(super) fn note_look(&self, took: Duration) {
        note(&self.look, took);
    }

    /// How long others' requests are left alone.
    pub(super) fn head_start(&self) -> Millis {
        // News may come while a look is under way: then it is seen by the next one.
        let look = 2 * self.look.load(Ordering::Relaxed);
        let unknown = self.claim.load(Ordering::Relaxed) + look;
        Millis((unknown * TIMES / 1000).max(HEAD_START.0))
    }
}

/// Two that are noted at once may count as one.
fn note(bound: &AtomicI64, took: Duration) {
    let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX / TIMES);
    let before = bound.load(Ordering::Relaxed);
    let share = if took > before { UP } else { DOWN };
    bound.store(before + (took - before) / share, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_start_follows_what_is_measured() {
        let pace = Pace::default();
        assert_eq!(pace.head_start(), HEAD_START);
        for _ in 0..100 {
            pace.note_claim(Duration::from_millis(200));
            pace.note_look(Duration::from_millis(25));
        }
        let start = pace.head_start().0;
        assert!((990..=1000).contains(&start), "{start}");
        for _ in 0..400 {
            pace.note_claim(Duration::from_millis(3));
            pace.note_look(Duration::from_millis(1));
        }
        assert_eq!(pace.head_start(), HEAD_START, "never less");
    }
}
