//! What the store did so far, for metrics and for the test that counts round trips.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ordu_core::Kudos;

tokio::task_local! {
    /// The round trips of the work that is being counted just now.
    static COUNTED: Arc<AtomicU64>;
}

/// Does `work` and says how many round trips to the database it waited for. A write that shares a
/// commit with others is one.
pub async fn counted<T>(work: impl Future<Output = T>) -> (T, u64) {
    let trips = Arc::new(AtomicU64::new(0));
    let done = COUNTED.scope(Arc::clone(&trips), work).await;
    (done, trips.load(Ordering::Relaxed))
}

/// Has `work` counted where the caller is counted, also in a task of its own.
pub fn counted_along<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let trips = COUNTED.try_with(Arc::clone).unwrap_or_default();
    COUNTED.scope(trips, work)
}

/// One more round trip of whoever is counted here, if somebody is.
pub(crate) fn note_trip() {
    // Most of what happens by itself is not counted.
    let _ = COUNTED.try_with(|trips| trips.fetch_add(1, Ordering::Relaxed));
}

/// Sums since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Statements sent to the database: on PostgreSQL each is a round trip over the network.
    pub round_trips: u64,
    /// Transactions of the group commit.
    pub commits: u64,
    /// Writes that went through the group commit.
    pub grouped_writes: u64,
    /// The largest number of writes that shared a commit.
    pub largest_group: u64,
    /// Batches that failed as a whole and were repeated write by write.
    pub split_batches: u64,
    /// Writes that failed because the database was away or full.
    pub unavailable: u64,
    /// Rows written behind.
    pub written_behind: u64,
    /// Kudos that came from nowhere, as far as they are in balances by now.
    pub minted: Kudos,
    /// Kudos that were given up for good, as far as they are out of balances by now.
    pub burnt: Kudos,
}

/// Counts statements.
#[derive(Debug, Default)]
pub(crate) struct Trips(AtomicU64);

impl Trips {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        note_trip();
    }
}

/// The live sums.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) trips: Arc<Trips>,
    commits: AtomicU64,
    grouped_writes: AtomicU64,
    largest_group: AtomicU64,
    split_batches: AtomicU64,
    unavailable: AtomicU64,
    written_behind: AtomicU64,
    minted: AtomicI64,
    burnt: AtomicI64,
}

impl Tally {
    pub(crate) fn committed(&self, writes: usize) {
        let writes = u64::try_from(writes).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.grouped_writes.fetch_add(writes, Ordering::Relaxed);
        self.largest_group.fetch_max(writes, Ordering::Relaxed);
    }

    pub(crate) fn split(&self) {
        self.split_batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wrote_behind(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.written_behind.fetch_add(rows, Ordering::Relaxed);
    }

    /// `minted` and `burnt` are in and out of balances now.
    pub(crate) fn folded(&self, minted: Kudos, burnt: Kudos) {
        self.minted.fetch_add(minted.milli(), Ordering::Relaxed);
        self.burnt.fetch_add(burnt.milli(), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            round_trips: self.trips.0.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            grouped_writes: self.grouped_writes.load(Ordering::Relaxed),
            largest_group: self.largest_group.load(Ordering::Relaxed),
            split_batches: self.split_batches.load(Ordering::Relaxed),
            unavailable: self.unavailable.load(Ordering::Relaxed),
            written_behind: self.written_behind.load(Ordering::Relaxed),
            minted: Kudos::from_milli(self.minted.load(Ordering::Relaxed)),
            burnt: Kudos::from_milli(self.burnt.load(Ordering::Relaxed)),
        }
    }
}
