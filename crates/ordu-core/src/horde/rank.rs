//! The order of a queue, with the place of each request and the work ahead of it.
//!
//! A sorted list in chunks, with a tree of sums over them: a look-up adds a few sums and the part of
//! one chunk, an insertion moves at most one chunk. Knows nothing of what is ordered.

use ordu_api::RequestId;

use crate::{Kudos, Millis, Timestamp};

/// A chunk holds at most this many items. A chunk with less than a quarter of it joins the next one
/// if both fit into one.
const CHUNK: usize = 128;

/// Kudos of priority that a waiting request gains in a millisecond, in millikudos: 50 in 10 s.
///
/// # Source
/// `generation.md` § 6.5.
const AGEING: i64 = 5;

/// Where a request stands: dearer first, then older, then earlier. Because all requests age alike,
/// the place never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The negated priority at the beginning of time, in millikudos.
    rank: i64,
    created: Timestamp,
    sequence: u64,
}

impl Place {
    /// The place of a request that is born at `created` with `priority`.
    pub(super) const fn new(priority: Kudos, created: Timestamp, sequence: u64) -> Self {
        let age_at_birth = created.0.saturating_mul(AGEING);
        Self {
            rank: age_at_birth.saturating_sub(priority.milli()),
            created,
            sequence,
        }
    }

    /// Whether one of two comes before the other only because it waits so much longer, or less.
    pub(super) const fn is_near(self, other: Self, span: Millis) -> bool {
        let difference = self.rank.saturating_sub(other.rank);
        difference.unsigned_abs() <= span.0.saturating_mul(AGEING).unsigned_abs()
    }
}

/// What a request, or many of them, mean for a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Results that no worker has.
    pub(super) slots: u64,
    /// Work in them, in raw units.
    pub(super) things: u64,
    /// The same with running jobs counted in.
    pub(super) jobs: u64,
    /// Work in those.
    pub(super) job_things: u64,
}

impl Load {
    pub(super) const fn add(&mut self, other: Self) {
        self.slots = self.slots.saturating_add(other.slots);
        self.things = self.things.saturating_add(other.things);
        self.jobs = self.jobs.saturating_add(other.jobs);
        self.job_things = self.job_things.saturating_add(other.job_things);
    }

    pub(super) const fn sub(&mut self, other: Self) {
        self.slots = self.slots.saturating_sub(other.slots);
        self.things = self.things.saturating_sub(other.things);
        self.jobs = self.jobs.saturating_sub(other.jobs);
        self.job_things = self.job_things.saturating_sub(other.job_things);
    }
}

/// One request in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) request: RequestId,
    /// The group that it belongs to.
    pub(super) group: usize,
    pub(super) load: Load,
}

/// What stands ahead of a place, the place itself included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Requests; so this is the place counted from 1.
    pub(super) requests: u64,
    pub(super) slots: u64,
    pub(super) things: u64,
}

impl Ahead {
    /// What one request adds.
    const fn of(load: Load) -> Self {
        Self {
            requests: 1,
            slots: load.slots,
            things: load.things,
        }
    }

    const fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.slots = self.slots.saturating_add(other.slots);
        self.things = self.things.saturating_add(other.things);
    }

    const fn sub(&mut self, other: Self) {
        self.requests -= other.requests;
        self.slots = self.slots.saturating_sub(other.slots);
        self.things = self.things.saturating_sub(other.things);
    }
}

/// Neighbours in the order, and what they amount to.
#[derive(Debug, Clone)]
struct Chunk {
    first: Place,
    sum: Ahead,
    items: Vec<Item>,
}

/// Requests in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    chunks: Vec<Chunk>,
    sums: Sums,
    total: Load,
}

impl Ranking {
    pub(super) const fn total(&self) -> Load {
        self.total
    }

    /// All requests, first to be served first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.chunks.iter().flat_map(|chunk| &chunk.items)
    }

    /// Adds a request. One that is there already is replaced.
    pub(super) fn insert(&mut self, item: Item) {
        self.remove(item.place);
        self.total.add(item.load);
        let at = self.chunk_of(item.place);
        let Some(chunk) = self.chunks.get_mut(at) else {
            let mut items = Vec::with_capacity(CHUNK + 1);
            items.push(item);
            self.chunks.push(Chunk {
                first: item.place,
                sum: Ahead::of(item.load),
                items,
            });
            self.sums = Sums::new(&self.chunks);
            return;
        };
        let after = |other: &Item| other.place < item.place;
        let position = chunk.items.partition_point(after);
        chunk.items.insert(position, item);
        chunk.first = chunk.first.min(item.place);
        chunk.sum.add(Ahead::of(item.load));
        if chunk.items.len() <= CHUNK {
            self.sums.change(at, |sum| sum.add(Ahead::of(item.load)));
            return;
        }
        // Grown by themselves, chunks would have room for twice as much as they may hold.
        let mut items = Vec::with_capacity(CHUNK + 1);
        items.extend(chunk.items.drain(CHUNK / 2..));
        if let Some(first) = items.first().map(|item| item.place) {
            let mut sum = Ahead::default();
            for item in &items {
                sum.add(Ahead::of(item.load));
            }
            chunk.sum.sub(sum);
            self.chunks.insert(at + 1, Chunk { first, sum, items });
        }
        self.sums = Sums::new(&self.chunks);
    }

    /// Takes a request out.
    pub(super) fn remove(&mut self, place: Place) -> Option<Item> {
        let at = self.chunk_of(place);
        let chunk = self.chunks.get_mut(at)?;
        let found = chunk.items.binary_search_by(|item| item.place.cmp(&place));
        let item = chunk.items.remove(found.ok()?);
        if let Some(first) = chunk.items.first() {
            chunk.first = first.place;
        }
        chunk.sum.sub(Ahead::of(item.load));
        self.total.sub(item.load);
        self.sums.change(at, |sum| sum.sub(Ahead::of(item.load)));
        self.tidy(at);
        Some(item)
    }

    /// Changes what a request means for the queue; answers what it meant before, or `None` if it
    /// is not there.
    pub(super) fn update(&mut self, place: Place, load: Load) -> Option<Load> {
        let at = self.chunk_of(place);
        let chunk = self.chunks.get_mut(at)?;
        let found = chunk.items.binary_search_by(|item| item.place.cmp(&place));
        let item = chunk.items.get_mut(found.ok()?)?;
        let before = std::mem::replace(&mut item.load, load);
        self.total.sub(before);
        self.total.add(load);
        let replace = |sum: &mut Ahead| {
            sum.sub(Ahead::of(before));
            sum.add(Ahead::of(load));
        };
        replace(&mut chunk.sum);
        self.sums.change(at, replace);
        Some(before)
    }

    /// What stands ahead of a place, itself included; `None` if it is not there.
    pub(super) fn ahead(&self, place: Place) -> Option<Ahead> {
        let at = self.chunk_of(place);
        let chunk = self.chunks.get(at)?;
        let mut ahead = self.sums.before(at);
        // One walk from the front is faster than a binary search and then the same walk.
        for item in chunk.items.iter().take_while(|item| item.place <= place) {
            ahead.add(Ahead::of(item.load));
            if item.place == place {
                return Some(ahead);
            }
        }
        None
    }

    /// The chunk that holds a place, or should: the last one that begins at or before it.
    fn chunk_of(&self, place: Place) -> usize {
        let after = self.chunks.partition_point(|chunk| chunk.first <= place);
        after.saturating_sub(1)
    }

    /// Drops a chunk that became empty, and joins one that became small with the next.
    fn tidy(&mut self, at: usize) {
        let len_of = |index: usize| self.chunks.get(index).map(|chunk| chunk.items.len());
        match (len_of(at), len_of(at + 1)) {
            (Some(0), _) => {
                self.chunks.remove(at);
            }
            (Some(len), Some(next)) if len < CHUNK / 4 && len + next <= CHUNK => {
                let next = self.chunks.remove(at + 1);
                if let Some(chunk) = self.chunks.get_mut(at) {
                    chunk.sum.add(next.sum);
                    chunk.items.extend(next.items);
                }
            }
            _ => return,
        }
        self.sums = Sums::new(&self.chunks);
    }
}

/// Sums over chunks as a binary indexed tree: the entry at `i` covers the chunks down to where the
/// lowest bit of `i + 1` says. Built anew when chunks come or go, which is once in many changes.
#[derive(Debug, Clone, Default)]
struct Sums(Vec<Ahead>);

impl Sums {
    fn new(chunks: &[Chunk]) -> Self {
        let mut sums: Vec<Ahead> = chunks.iter().map(|chunk| chunk.sum).collect();
        for at in 0..sums.len() {
            let own = sums.get(at).copied().unwrap_or_default();
            if let Some(above) = sums.get_mut(at | (at + 1)) {
                above.add(own);
            }
        }
        Self(sums)
    }

    /// Changes the sum of one chunk.
    fn change(&mut self, at: usize, change: impl Fn(&mut Ahead)) {
        let mut at = at;
        while let Some(sum) = self.0.get_mut(at) {
            change(sum);
            at |= at + 1;
        }
    }

    /// The sum of all chunks before one.
    fn before(&self, at: usize) -> Ahead {
        let mut total = Ahead::default();
        let mut end = at;
        while let Some(sum) = end.checked_sub(1).and_then(|last| self.0.get(last)) {
            total.add(*sum);
            end &= end - 1;
        }
        total
    }
}

#[cfg(test)]
mod tests;
