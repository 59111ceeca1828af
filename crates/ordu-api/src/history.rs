//! How things went over time. Ours: no other horde has it.
//!
//! # Source
//! `platform.md` § 5.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `GET /stats/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// `image`, `text` or `alchemy`.
    pub kind: String,
    /// `hour` or `day`.
    pub step: String,
    /// One for each step of time, the oldest first; the last one is not over yet.
    pub buckets: Vec<Bucket>,
}

/// An hour or a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// When it began, in Unix seconds. Days are those of UTC.
    pub start: i64,
    /// Results delivered.
    pub finished: u64,
    /// The work in them; of pictures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub megapixelsteps: Option<f64>,
    /// The work in them; of texts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Results that waited for a worker, on average; `null` if nobody looked.
    pub queued: Option<f64>,
    /// Workers that were online, on average; `null` if nobody looked.
    pub workers: Option<f64>,
}

/// A page of `GET /kudos/history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KudosHistory {
    /// The newest first.
    pub entries: Vec<KudosEntry>,
    /// What to send as `before` for the next page; left out on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// A ledger entry as its account sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KudosEntry {
    /// When, RFC 822.
    pub created: String,
    /// How many kudos came; negative if they went.
    pub amount: f64,
    /// Why: `generation`, `activation`, `uptime`, `promotion`, `transfer`, `admin`, `recurring`,
    /// `award`, `style`, `rating`, `floor` or `reconciliation`.
    pub reason: String,
    /// The kind of work behind it: `image`, `text` or `alchemy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it moved in escrow only: it cannot be spent yet.
    pub escrow: bool,
    /// Who gave or was given, as `name#id`; of transfers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterpart: Option<String>,
}
