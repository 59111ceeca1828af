//! Why nobody takes a request: the answer to `explain=true`. Ours: no other horde has it.
//!
//! # Source
//! `platform.md` § 4 ("Why not me?").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What keeps workers from a request that waits, and what would help.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Explanation {
    /// All of it in a sentence.
    pub message: String,
    /// Workers of its kind that are online.
    pub workers: u64,
    /// Of these, those that could take it as it is.
    pub able: u64,
    /// The same for each model (of alchemy: each form) that it names; one entry without a name if
    /// it names none.
    pub models: Vec<ModelExplanation>,
    /// The smallest change that would let somebody take it; `null` if somebody could anyway, or if
    /// nothing would help.
    pub change: Option<Change>,
}

/// The workers that serve one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelExplanation {
    /// The model, or the form; `null` for any.
    pub name: Option<String>,
    /// Workers that are online and serve it.
    pub workers: u64,
    /// Of these, those that could take the request with it.
    pub able: u64,
    /// What keeps the others away, the largest group first.
    pub obstacles: Vec<Obstacle>,
}

/// Workers that the same things keep away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Obstacle {
    /// The names of `skipped` in pops, and `maintenance` or `paused`.
    pub reasons: Vec<String>,
    /// How many.
    pub workers: u64,
}

/// A change to a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Change {
    /// For a person: `size 1024x1024 → 768x768`.
    pub message: String,
    /// For a program: merge this into the body of the request (RFC 7396).
    pub patch: Map<String, Value>,
    /// Workers that could take it then.
    pub workers: u64,
}
