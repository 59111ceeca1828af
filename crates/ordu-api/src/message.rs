//! Messages to workers: how they are written and listed.
//!
//! # Source
//! `community.md` § 5.7.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Field, Kind, Schema};

/// The table of [`MessageInput`].
pub const SCHEMA: Schema = Schema {
    name: "WorkerMessageInput",
    fields: &[
        Field::required("message", Kind::text(1, 10_240), "What to say."),
        Field::optional(
            "worker_id",
            Kind::text(36, 36),
            "Which worker is meant; all of them if none is named.",
        ),
        Field::optional(
            "expiry",
            Kind::integer(1, 720),
            "For how many hours it matters.",
        ),
        Field::optional(
            "origin",
            Kind::text(1, 255),
            "In whose name; moderators only.",
        ),
    ],
};

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct MessageInput {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A message as it is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// The text.
    pub message: String,
    /// Who speaks.
    pub origin: String,
    /// Until when it matters, RFC 822.
    pub expiry: String,
    /// The worker that is meant; left out for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The number of the user who wrote it.
    pub user_id: String,
    /// When it was written, RFC 822.
    pub created: String,
}
