//! The one line in which writes wait for PostgreSQL, and what of them is on its way: decides what
//! goes next. Knows no database.
//!
//! Any connection takes whatever waits longest, with all of its kind: nobody waits for the round
//! trip of others. Only a write whose key is on its way waits until that has ended, so that writes
//! of one kind with the same key happen in the order in which they came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Batch, Kind, QUEUE, Waiting};

/// Batches that are on their way at once at most.
pub(crate) const WAYS: u32 = 18;

/// Writes of a batch at most: its statement joins them row by row (`pool/postgres.rs`).
const LARGEST: usize = 128;

/// While a batch of a kind is on its way, the next one of that kind waits for company: each statement
/// costs the database more than each of its rows. Where it answers sooner, nobody waits so long.
const COMPANY: Duration = Duration::from_millis(3);

/// What waits, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Line {
    kinds: BTreeMap<Kind, OfKind>,
    waiting: usize,
    arrived: u64,
    on_their_way: u32,
    /// How many may be on their way just now.
    ways: u32,
}

/// The same of one kind.
#[derive(Debug, Default)]
struct OfKind {
    /// With the number of their arrival.
    waiting: VecDeque<(u64, Waiting)>,
    /// Of what is on its way.
    keys: BTreeSet<Uuid>,
    on_their_way: usize,
    /// When a batch went last.
    went: Option<Instant>,
}

/// A batch that went: what is free again when it has ended.
#[derive(Debug)]
pub(super) struct Gone {
    kind: Kind,
    keys: Vec<Uuid>,
}

impl Line {
    /// Says how many batches may be on their way; one may always, and opens its connection itself.
    pub(super) fn allow(&mut self, ways: u32) {
        self.ways = ways.clamp(1, WAYS);
    }

    /// Connections that would help: as many as there are, as long as something may go that has no way.
    pub(super) fn wanted(&self, now: Instant) -> u32 {
        let is_short = self.on_their_way >= self.ways && self.due(now).next().is_some();
        if is_short {
            self.ways.min(WAYS - self.ways)
        } else {
            0
        }
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.arrived += 1;
        self.waiting += 1;
        let of_kind = self.kinds.entry(waiting.write.kind).or_default();
        of_kind.waiting.push_back((self.arrived, waiting));
    }

    /// Whether more may wait.
    pub(super) const fn has_room(&self) -> bool {
        self.waiting < QUEUE
    }

    /// Whether nothing waits and nothing is on its way.
    pub(super) const fn is_idle(&self) -> bool {
        self.waiting == 0 && self.on_their_way == 0
    }

    /// What goes now, if anything does. Whoever takes it says when it [has ended](Self::end).
    pub(super) fn next(&mut self, now: Instant) -> Option<(Gone, Batch)> {
        if self.on_their_way >= self.ways {
            return None;
        }
        let mut due: Vec<(Option<u64>, Kind)> = self.due(now).collect();
        due.sort_unstable();
        // Of a kind that comes first, all may have to wait for their keys.
        due.into_iter().find_map(|(_, kind)| self.take(kind, now))
    }

    /// The kinds of which something may go, each with the arrival of what has waited longest.
    fn due(&self, now: Instant) -> impl Iterator<Item = (Option<u64>, Kind)> {
        let due = self.kinds.iter().filter(move |(_, of_kind)| {
            let due = of_kind.due(now);
            due.is_some_and(|due| due <= now)
        });
        due.map(|(kind, of_kind)| {
            let first = of_kind.waiting.front();
            (first.map(|(arrival, _)| *arrival), *kind)
        })
    }

    /// When something may go that waits for company only. What waits for a way is not meant: connections
    /// are [wanted](Self::wanted) for that.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let has_way = self.on_their_way < self.ways;
        let due = self.kinds.values().filter_map(|of_kind| of_kind.due(now));
        due.filter(|due| has_way || *due > now).min()
    }

    /// A batch has ended, well or not.
    pub(super) fn end(&mut self, gone: &Gone) {
        self.on_their_way -= 1;
        if let Some(of_kind) = self.kinds.get_mut(&gone.kind) {
            of_kind.on_their_way -= 1;
            for key in &gone.keys {
                of_kind.keys.remove(key);
            }
        }
    }

    fn take(&mut self, kind: Kind, now: Instant) -> Option<(Gone, Batch)> {
        let of_kind = self.kinds.get_mut(&kind)?;
        let batch = of_kind.take();
        if batch.is_empty() {
            return None;
        }
        of_kind.went = Some(now);
        of_kind.on_their_way += 1;
        self.on_their_way += 1;
        self.waiting -= batch.len();
        let keys = batch.iter().map(|waiting| waiting.write.key).collect();
        Some((Gone { kind, keys }, batch))
    }
}

impl OfKind {
    /// From when on a batch may go; `None` if none can before another has ended.
    fn due(&self, now: Instant) -> Option<Instant> {
        let is_free = |(_, waiting): &(u64, Waiting)| !self.keys.contains(&waiting.write.key);
        if !self.waiting.iter().any(is_free) {
            return None;
        }
        let has_company = self.waiting.len() >= LARGEST;
        let went = self.went.filter(|_| self.on_their_way > 0 && !has_company);
        Some(went.map_or(now, |went| went + COMPANY))
    }

    /// The first of each key that is not on its way, in the order in which they came.
    fn take(&mut self) -> Batch {
        let mut batch = Batch::new();
        let mut left = VecDeque::new();
        for (arrival, waiting) in std::mem::take(&mut self.waiting) {
            // Who has to stay keeps everything of the same key behind it: it cannot be inserted.
            if batch.len() < LARGEST && self.keys.insert(waiting.write.key) {
                batch.push(waiting);
            } else {
                left.push_back((arrival, waiting));
            }
        }
        self.waiting = left;
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::super::Write;
    use super::*;

    fn write(kind: Kind, key: u8, token: u128) -> Waiting {
        let (answer, _) = oneshot::channel();
        let write = Write {
            kind,
            key: Uuid::from_u128(u128::from(key)),
            token: Uuid::from_u128(token),
            row: String::new(),
            first: String::new(),
            second: String::new(),
        };
        Waiting { write, answer }
    }

    /// A line with all its connections.
    fn open() -> Line {
        let mut line = Line::default();
        line.allow(WAYS);
        line
    }

    fn tokens(batch: &Batch) -> Vec<u128> {
        let tokens = batch.iter().map(|waiting| waiting.write.token.as_u128());
        tokens.collect()
    }

    #[test]
    fn what_comes_alone_goes_at_once_and_the_next_waits_for_company() {
        let (mut line, now) = (open(), Instant::now());
        line.push(write(Kind::Insert, 1, 1));
        let (first, batch) = line.next(now).unwrap();
        assert_eq!(tokens(&batch), [1]);
        line.push(write(Kind::Insert, 2, 2));
        line.push(write(Kind::Insert, 3, 3));
        let soon = now + COMPANY - Duration::from_micros(1);
        assert!(line.next(soon).is_none());
        assert_eq!(line.next_due(soon), Some(now + COMPANY));
        let (_, batch) = line.next(now + COMPANY).unwrap();
        assert_eq!(tokens(&batch), [2, 3]);
        // Nothing of its kind is on its way any more.
        line.push(write(Kind::Assign, 4, 4));
        assert!(line.next(now).is_some());
        assert!(!line.is_idle());
        line.end(&first);
        assert_eq!(line.next_due(now), None);
    }

    #[test]
    fn the_kind_that_waits_longest_goes_first_and_no_more_than_there_are_ways() {
        let (mut line, now) = (open(), Instant::now());
        line.push(write(Kind::Settle, 1, 1));
        line.push(write(Kind::Insert, 2, 2));
        line.push(write(Kind::Settle, 3, 3));
        let (_, batch) = line.next(now).unwrap();
        assert_eq!(tokens(&batch), [1, 3]);
        let (_, batch) = line.next(now).unwrap();
        assert_eq!(tokens(&batch), [2]);
        let mut later = now;
        for key in 4..=u8::try_from(WAYS).unwrap() + 1 {
            later += COMPANY;
            line.push(write(Kind::Insert, key, u128::from(key)));
            assert!(line.next(later).is_some(), "{key}");
        }
        line.push(write(Kind::Insert, 100, 100));
        assert!(line.next(later + COMPANY).is_none());
        assert_eq!(line.next_due(later + COMPANY), None);
    }

    #[test]
    fn connections_are_wanted_while_something_has_no_way() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.allow(0);
        assert_eq!(line.wanted(now), 0);
        line.push(write(Kind::Insert, 1, 1));
        assert_eq!(line.wanted(now), 0, "the first one has a way");
        let (first, _) = line.next(now).unwrap();
        assert_eq!(line.wanted(now), 0, "nothing waits");
        line.push(write(Kind::Insert, 1, 2));
        assert_eq!(line.wanted(now + COMPANY), 0, "its key is on its way");
        line.push(write(Kind::Insert, 2, 3));
        assert_eq!(line.wanted(now), 0, "it waits for company");
        assert_eq!(line.next_due(now), Some(now + COMPANY));
        assert_eq!(line.next_due(now + COMPANY), None);
        assert_eq!(line.wanted(now + COMPANY), 1);
        line.push(write(Kind::Settle, 3, 4));
        assert_eq!(line.wanted(now), 1);
        assert!(line.next(now).is_none());
        line.allow(4);
        for kind in [Kind::Settle, Kind::Assign, Kind::Fault] {
            line.push(write(kind, 4, 5));
            line.next(now).unwrap();
        }
        line.push(write(Kind::End, 5, 6));
        assert_eq!(line.wanted(now), 4, "as many as there are");
        line.allow(WAYS - 1);
        assert_eq!(line.wanted(now), 0, "there are enough");
        line.allow(WAYS);
        line.end(&first);
        assert_eq!(line.wanted(now), 0);
    }

    #[test]
    fn a_line_has_room_for_so_many() {
        let mut line = Line::default();
        for number in 1..QUEUE {
            line.push(write(Kind::Insert, 0, number as u128));
        }
        assert!(line.has_room());
        line.push(write(Kind::Insert, 0, 0));
        assert!(!line.has_room());
    }

    /// What may happen: a write comes, time passes, the oldest or the newest batch ends.
    fn events() -> impl Strategy<Value = Vec<(u8, u8)>> {
        proptest::collection::vec((0..6_u8, 0..4_u8), 1..300)
    }

    proptest! {
        #[test]
        fn writes_with_one_key_go_one_by_one_in_their_order(events in events()) {
            let (mut line, mut now) = (open(), Instant::now());
            let mut came: BTreeMap<(Kind, Uuid), VecDeque<u128>> = BTreeMap::new();
            let mut on_their_way: VecDeque<(Gone, BTreeSet<(Kind, Uuid)>)> = VecDeque::new();
            let mut number = 0;
            // In the end everything goes.
            let ends = (0..2 * events.len()).map(|_| (4, 0));
            for (event, key) in events.iter().copied().chain(ends) {
                match event {
                    0..3 => {
                        number += 1;
                        let kind = [Kind::Assign, Kind::Settle, Kind::Fault][usize::from(event)];
                        let write = write(kind, key, number);
                        came.entry((kind, write.write.key)).or_default().push_back(number);
                        line.push(write);
                    }
                    3 => now += COMPANY,
                    _ => {
                        let ended = if event == 4 {
                            on_their_way.pop_front()
                        } else {
                            on_their_way.pop_back()
                        };
                        if let Some((gone, _)) = ended {
                            line.end(&gone);
                        }
                    }
                }
                while let Some((gone, batch)) = line.next(now) {
                    let mut keys = BTreeSet::new();
                    for waiting in &batch {
                        let key = (waiting.write.kind, waiting.write.key);
                        prop_assert!(on_their_way.iter().all(|(_, busy)| !busy.contains(&key)));
                        prop_assert!(keys.insert(key));
                        let oldest = came.get_mut(&key).and_then(VecDeque::pop_front);
                        prop_assert_eq!(oldest, Some(waiting.write.token.as_u128()));
                    }
                    on_their_way.push_back((gone, keys));
                    prop_assert!(u32::try_from(on_their_way.len()).unwrap() <= WAYS);
                }
            }
            prop_assert!(line.is_idle());
        }
    }
}
