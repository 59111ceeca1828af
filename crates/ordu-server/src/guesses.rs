//! Slowing down who tries keys: an address that presents many wrong ones waits longer and longer
//! between two that are looked up.
//!
//! A key that this node knows is let through from everywhere, so that who shares an address with a
//! guesser goes on working; keys are 128 random bits, and knowing one is no guess. What is kept for
//! an address fits in a few bytes, and at most [`KEPT`] addresses are remembered.
//!
//! # Source
//! `platform.md` § 8.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_core::{Millis, Timestamp};
use quick_cache::sync::Cache;

/// How many addresses are remembered; the least active are forgotten first.
const KEPT: usize = 10_000;

/// Who presents no wrong key for so long begins anew.
const FORGIVEN_AFTER: Millis = Millis::from_minutes(15);

/// The first pause; each wrong key after it doubles it …
const FIRST_PAUSE: Millis = Millis::from_seconds(1);

/// … up to this.
const LONGEST_PAUSE: Millis = Millis::from_minutes(5);

/// What was noticed of one address.
#[derive(Debug, Clone, Copy)]
struct Tries {
    wrong: u32,
    last: Timestamp,
    until: Timestamp,
}

/// The addresses that presented wrong keys.
pub(crate) struct Guesses {
    /// Wrong keys that have no consequence; nobody ever waits if `None`.
    free: Option<u32>,
    tries: Cache<IpAddr, Tries>,
    refused: AtomicU64,
    /// Wrong keys of which other nodes are not told yet, if there are any. At most
    /// [`MAX_UNTOLD`].
    untold: Mutex<Vec<IpAddr>>,
}

/// Wrong keys of which other nodes are told at once at most.
const MAX_UNTOLD: usize = 1_000;

impl Guesses {
    pub(crate) fn new(free: Option<u32>) -> Self {
        Self {
            free,
            tries: Cache::new(KEPT),
            refused: AtomicU64::new(0),
            untold: Mutex::default(),
        }
    }

    /// How much longer an address must wait before another key of it is looked up.
    pub(crate) fn pause(&self, network: IpAddr, now: Timestamp) -> Option<Millis> {
        self.free?;
        let tries = self.tries.get(&network)?;
        Some(tries.until.since(now)).filter(|rest| *rest > Millis(0))
    }

    /// Notes that a key was turned away because its address must wait.
    pub(crate) fn note_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many keys were turned away unseen.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Addresses that presented wrong keys here since the last call, once for each.
    pub(crate) fn take_wrong(&self) -> Vec<IpAddr> {
        std::mem::take(&mut *self.untold())
    }

    fn untold(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a wrong key.
    pub(crate) fn note_wrong(&self, network: IpAddr, now: Timestamp) {
        let mut untold = self.untold();
        if untold.len() < MAX_UNTOLD {
            untold.push(network);
        }
        drop(untold);
        self.note_wrong_elsewhere(network, now);
    }

    /// Notes a wrong key that was presented to another node.
    pub(crate) fn note_wrong_elsewhere(&self, network: IpAddr, now: Timestamp) {
        let Some(free) = self.free else {
            return;
        };
        let before = self.tries.get(&network);
        let before = before.filter(|tries| now.since(tries.last) < FORGIVEN_AFTER);
        let wrong = before.map_or(0, |tries| tries.wrong).saturating_add(1);
        let tries = Tries {
            wrong,
            last: now,
            until: now + pause_after(wrong, free),
        };
        self.tries.insert(network, tries);
    }
}

fn pause_after(wrong: u32, free: u32) -> Millis {
    let Some(over) = wrong.checked_sub(free).filter(|over| *over > 0) else {
        return Millis(0);
    };
    let factor = 1_i64.checked_shl(over.min(32) - 1).unwrap_or(i64::MAX);
    let pause = FIRST_PAUSE.0.saturating_mul(factor);
    Millis(pause.min(LONGEST_PAUSE.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn pauses_double_and_end() {
        let seconds = |wrong| pause_after(wrong, 3).0 / 1000;
        assert_eq!([1, 3, 4, 5, 6].map(seconds), [0, 0, 1, 2, 4]);
        assert_eq!([12, 13, 400, u32::MAX].map(seconds), [256, 300, 300, 300]);
    }

    #[test]
    fn an_address_waits_for_itself_and_is_forgiven() {
        let guesses = Guesses::new(Some(1));
        guesses.note_wrong(ip(1), NOW);
        assert_eq!(guesses.pause(ip(1), NOW), None);
        guesses.note_wrong(ip(1), NOW);
        assert_eq!(guesses.pause(ip(1), NOW), Some(Millis(1000)));
        assert_eq!(guesses.pause(ip(2), NOW), None);
        assert_eq!(guesses.pause(ip(1), NOW + Millis(1000)), None);
        let later = NOW + FORGIVEN_AFTER;
        guesses.note_wrong(ip(1), later);
        assert_eq!(guesses.pause(ip(1), later), None);
    }

    #[test]
    fn nobody_waits_where_it_is_switched_off() {
        let guesses = Guesses::new(None);
        for _ in 0..100 {
            guesses.note_wrong(ip(1), NOW);
        }
        assert_eq!(guesses.pause(ip(1), NOW), None);
    }

    #[test]
    fn more_addresses_than_can_be_remembered_take_no_more_memory() {
        let guesses = Guesses::new(Some(0));
        for number in 0..50_000_u32 {
            guesses.note_wrong(IpAddr::from(number.to_be_bytes()), NOW);
        }
        assert!(guesses.tries.len() <= KEPT);
    }
}
