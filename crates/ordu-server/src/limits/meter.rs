//! Who used how much of a limit: sliding windows in a table of fixed size.
//!
//! A window is a ring of [`PARTS`] parts that moves on part by part: a request counts for at most a
//! whole period, and for at least all of it but one part. So unlike with fixed windows there are
//! never two bursts around a border, and who keeps to a limit is never refused. (A token bucket
//! would take one number instead of a ring, but lets twice the limit pass in the first period.)
//!
//! The table is like a processor's cache: a key has its place in one set of eight slots. A slot
//! whose requests are all over says nothing any more and is free; if none is, the one that is
//! closest to that is given up. So memory is bounded and nothing is ever swept. Who floods it with
//! fresh keys of short limits pushes out only himself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pieces with a lock each.
const SHARDS: usize = 64;
/// Sets in one shard.
const SETS: usize = 256;
/// Slots in one set.
const WAYS: usize = 8;

/// Parts of a window.
const PARTS: i64 = 12;

/// The same, as a length.
const PLACES: usize = 12;

/// What is known of one key.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The key's hash; 0 if nobody's.
    key: u64,
    /// When everything it says is over, in microseconds: the end of a part.
    over: i64,
    /// Requests of each part, the part's number modulo [`PARTS`] being the place.
    counts: [u16; PLACES],
}

/// How fast a key may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// So many requests …
    pub(crate) count: u16,
    /// … in so many microseconds.
    pub(crate) period: i64,
}

/// How a request fared. Times are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How long to wait for the next request; `None` if this one was allowed.
    pub(crate) retry_after: Option<i64>,
    /// How many more are allowed at once.
    pub(crate) remaining: u16,
    /// When all of the limit is available again.
    pub(crate) reset: i64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Meter {
    shards: Box<[Mutex<Box<[Slot]>>]>,
    forgotten: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let shard = || Mutex::new(vec![Slot::FREE; SETS * WAYS].into_boxed_slice());
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Counts one request of a key, if its rate allows it.
    pub(crate) fn take(&self, key: u64, rate: Rate, now: i64) -> Reading {
        let key = key.max(1);
        let Some(mut shard) = self.shard(key) else {
            return Slot::FREE.reading(rate, now);
        };
        let Some(slot) = place(&mut shard, key, now) else {
            return Slot::FREE.reading(rate, now);
        };
        if slot.key != key {
            if slot.over > now {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            *slot = Slot { key, ..Slot::FREE };
        }
        let present = slot.advance(rate, now);
        if slot.used() >= rate.count {
            return Reading {
                retry_after: Some(slot.wait(rate, present, now)),
                ..slot.reading(rate, now)
            };
        }
        slot.count(present, |count| count.saturating_add(1));
        slot.reading(rate, now)
    }

    /// Counts requests that were allowed elsewhere.
    pub(crate) fn add(&self, key: u64, period: i64, requests: u16, now: i64) {
        let (key, count) = (key.max(1), u16::MAX);
        let Some(mut shard) = self.shard(key) else {
            return;
        };
        let Some(slot) = place(&mut shard, key, now) else {
            return;
        };
        if slot.key != key {
            *slot = Slot { key, ..Slot::FREE };
        }
        let present = slot.advance(Rate { count, period }, now);
        slot.count(present, |known| known.saturating_add(requests));
    }

    /// Takes back one request that was just counted.
    pub(crate) fn give_back(&self, key: u64, rate: Rate, now: i64) {
        let key = key.max(1);
        let Some(mut shard) = self.shard(key) else {
            return;
        };
        if let Some(slot) = place(&mut shard, key, now).filter(|slot| slot.key == key) {
            let present = slot.advance(rate, now);
            slot.count(present, |count| count.saturating_sub(1));
        }
    }

    /// How many keys were given up although they still counted.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn shard(&self, key: u64) -> Option<MutexGuard<'_, Box<[Slot]>>> {
        let shard = self.shards.get(bits(key, 0, SHARDS))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rate {
    /// The length of one part of the window.
    const fn part(self) -> i64 {
        self.period / PARTS
    }
}

impl Slot {
    const FREE: Self = Self {
        key: 0,
        over: 0,
        counts: [0; PLACES],
    };

    /// Moves the window on to now; answers the number of the present part.
    fn advance(&mut self, rate: Rate, now: i64) -> i64 {
        let newest = self.over / rate.part() - PARTS;
        // A clock that is put back makes nobody wait for the same part again.
        let present = (now / rate.part()).max(newest);
        for passed in (newest + 1).max(present - PARTS + 1)..=present {
            self.count(passed, |_| 0);
        }
        self.over = (present + PARTS) * rate.part();
        present
    }

    fn count(&mut self, part: i64, change: impl FnOnce(u16) -> u16) {
        if let Some(count) = self.counts.get_mut(ring_place(part)) {
            *count = change(*count);
        }
    }

    fn used(&self) -> u16 {
        let add = |sum: u16, count: &u16| sum.saturating_add(*count);
        self.counts.iter().fold(0, add)
    }

    /// The parts of the window with their requests, oldest first.
    fn parts(&self, present: i64) -> impl DoubleEndedIterator<Item = (i64, u16)> {
        let count = |part| self.counts.get(ring_place(part)).copied().unwrap_or(0);
        (present - PARTS + 1..=present).map(move |part| (part, count(part)))
    }

    /// How long until enough requests are over for one more.
    fn wait(&self, rate: Rate, present: i64, now: i64) -> i64 {
        let mut used = self.used();
        for (part, count) in self.parts(present) {
            used = used.saturating_sub(count);
            if used < rate.count {
                return (part + PARTS) * rate.part() - now;
            }
        }
        rate.period
    }

    fn reading(&self, rate: Rate, now: i64) -> Reading {
        let present = self.over / rate.part() - PARTS;
        let last = self.parts(present).rfind(|(_, count)| *count > 0);
        Reading {
            retry_after: None,
            remaining: rate.count.saturating_sub(self.used()),
            reset: last.map_or(now, |(part, _)| (part + PARTS) * rate.part()),
        }
    }
}

/// The key's own slot, or else the one that it may have.
fn place(shard: &mut [Slot], key: u64, now: i64) -> Option<&mut Slot> {
    let start = bits(key, 16, SETS) * WAYS;
    let set = shard.get_mut(start..start + WAYS)?;
    let own = set.iter().position(|slot| slot.key == key);
    let free = || set.iter().position(|slot| slot.over <= now);
    let nearest = || (0..WAYS).min_by_key(|way| set.get(*way).map_or(i64::MAX, |slot| slot.over));
    let way = own.or_else(free).or_else(nearest)?;
    set.get_mut(way)
}

/// Some bits of a hash as an index below `count`, a power of two.
fn bits(key: u64, shift: u32, count: usize) -> usize {
    let bits = usize::try_from(key >> shift & 0xFFFF).unwrap_or(0);
    bits % count
}

fn ring_place(part: i64) -> usize {
    usize::try_from(part.rem_euclid(PARTS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many keys are counted at the same time.
    const SLOTS: usize = SHARDS * SETS * WAYS;

    const SECOND: i64 = 1_000_000;

    const RATE: Rate = Rate {
        count: 2,
        period: SECOND,
    };

    /// Spreads numbers as a hash would.
    fn hash(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    fn passes(meter: &Meter, now: i64) -> bool {
        meter.take(7, RATE, now).retry_after.is_none()
    }

    #[test]
    fn a_burst_passes_and_counts_for_its_period() {
        let meter = Meter::new();
        let start = 100 * SECOND;
        assert_eq!(meter.take(7, RATE, start).remaining, 1);
        assert_eq!(meter.take(7, RATE, start).remaining, 0);
        let refused = meter.take(7, RATE, start + 1);
        assert_eq!(refused.remaining, 0);
        let free = start + 1 + refused.retry_after.unwrap();
        assert_eq!(refused.reset, free);
        assert!((start + SECOND - RATE.part()..=start + SECOND).contains(&free));
        assert!(!passes(&meter, free - 1));
        assert!(passes(&meter, free) && passes(&meter, free) && !passes(&meter, free));
        // Others are not concerned.
        assert_eq!(meter.take(8, RATE, free).remaining, 1);
    }

    #[test]
    fn who_keeps_to_the_limit_is_never_refused_wherever_the_borders_lie() {
        for offset in (0..SECOND).step_by(7_919) {
            let meter = Meter::new();
            for round in 0..20 {
                let now = offset + round * SECOND;
                assert!(
                    passes(&meter, now) && passes(&meter, now),
                    "{offset} {round}"
                );
                assert!(!passes(&meter, now + SECOND / 2), "{offset} {round}");
            }
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let meter = Meter::new();
        assert!(passes(&meter, 5) && passes(&meter, 5));
        meter.give_back(7, RATE, 5);
        assert!(passes(&meter, 5) && !passes(&meter, 5));
    }

    #[test]
    fn a_clock_that_is_put_back_does_no_harm() {
        let meter = Meter::new();
        assert!(passes(&meter, 9 * SECOND) && passes(&meter, 0) && !passes(&meter, 0));
        assert!(passes(&meter, 10 * SECOND));
    }

    #[test]
    fn a_million_keys_take_no_more_memory_and_push_out_only_each_other() {
        let meter = Meter::new();
        let bytes = |meter: &Meter| -> usize {
            let slots = meter.shards.iter().map(|shard| shard.lock().unwrap().len());
            slots.sum::<usize>() * size_of::<Slot>()
        };
        let before = bytes(&meter);
        assert_eq!(before, SLOTS * 40);
        assert_eq!(before, 5 << 20);
        let slow = Rate {
            count: 1,
            period: 3600 * SECOND,
        };
        let other = hash(u64::MAX / 2);
        assert!(meter.take(other, slow, 0).retry_after.is_none());
        for number in 0..1_000_000 {
            assert!(meter.take(hash(number), RATE, 0).retry_after.is_none());
        }
        assert_eq!(bytes(&meter), before);
        assert!(meter.forgotten() > 800_000);
        assert!(meter.take(other, slow, 0).retry_after.is_some());
    }
}
