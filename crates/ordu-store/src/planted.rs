//! Faults on purpose, which the fault harness must find.
//!
//! Only in builds with the feature `chaos`, which nobody ships. `ORDU_CHAOS_PLANT=lost|unpaid|double` says what
//! goes wrong with every `ORDU_CHAOS_EVERY`th write that it can go wrong with.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::writer::{Kind, Write};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A write is acknowledged and does not happen.
    Lost,
    /// A result is stored and not paid.
    Unpaid,
    /// A result is paid twice.
    Double,
}

static PLANT: LazyLock<Option<(Plant, u64)>> = LazyLock::new(|| {
    let plant = match variable("ORDU_CHAOS_PLANT")?.as_str() {
        "lost" => Plant::Lost,
        "unpaid" => Plant::Unpaid,
        "double" => Plant::Double,
        _ => return None,
    };
    let every = variable("ORDU_CHAOS_EVERY")?.parse().ok()?;
    (every > 0).then_some((plant, every))
});

static WRITES: AtomicU64 = AtomicU64::new(0);

#[expect(
    clippy::disallowed_methods,
    reason = "no setting: nothing that is shipped reads it"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The write as it is to happen, if it is.
pub(crate) fn spoilt(mut write: Write) -> Option<Write> {
    let Some((plant, every)) = *PLANT else {
        return Some(write);
    };
    if plant != Plant::Lost && write.kind != Kind::Settle {
        return Some(write);
    }
    let number = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
    if !number.is_multiple_of(every) {
        return Some(write);
    }
    match plant {
        Plant::Lost => return None,
        Plant::Unpaid => write.first.clear(),
        Plant::Double => write.first = doubled(&write.first),
    }
    Some(write)
}

/// Rows of the ledger, with another one like each.
fn doubled(lines: &str) -> String {
    let mut more: Vec<Value> = serde_json::from_str(&format!("[{lines}]")).unwrap_or_default();
    for line in &mut more {
        if let Some(number) = line.get("line").and_then(Value::as_u64) {
            line["line"] = Value::from(number + 100);
        }
    }
    let more: Vec<String> = more.iter().map(Value::to_string).collect();
    [lines]
        .into_iter()
        .chain(more.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(",")
}
