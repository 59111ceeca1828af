//! A fault on purpose: writes that are acknowledged and do not happen.
//!
//! Only in builds with the feature `chaos`, which nobody ships. `ORDU_CHAOS_LOSE_EVERY=N` loses every Nth
//! write; the fault harness must find that.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

#[expect(
    clippy::disallowed_methods,
    reason = "no setting: nothing that is shipped reads it"
)]
static EVERY: LazyLock<Option<u64>> = LazyLock::new(|| {
    let every = std::env::var("ORDU_CHAOS_LOSE_EVERY").ok()?;
    every.parse().ok().filter(|every| *every > 0)
});

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Whether the next write is to be lost.
pub(crate) fn loses() -> bool {
    let write = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
    EVERY.is_some_and(|every| write.is_multiple_of(every))
}
