//! Terms, privacy and sponsors on the wire.
//!
//! # Source
//! `community.md` § 11.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A document in the form that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DocumentView {
    /// For browsers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
}
