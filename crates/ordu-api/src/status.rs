//! The state of the horde as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Field, Kind, Schema};
use crate::worker::WorkKind;

/// The answer of `GET /status/heartbeat`: facts of the answering node only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 7.5")]
pub struct Heartbeat {
    pub message: String,
    pub version: String,
    pub queue: u64,
    pub threads: u64,
    pub active_count: u64,
    pub db_connection: bool,
}

/// The answer of `GET /status/performance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 7.2")]
pub struct Performance {
    pub queued_requests: u64,
    pub queued_text_requests: u64,
    pub worker_count: u64,
    pub text_worker_count: u64,
    pub thread_count: u64,
    pub text_thread_count: u64,
    pub queued_megapixelsteps: f64,
    pub past_minute_megapixelsteps: f64,
    pub queued_forms: f64,
    pub interrogator_count: u64,
    pub interrogator_thread_count: u64,
    pub queued_tokens: f64,
    pub past_minute_tokens: f64,
}

/// One model in `GET /status/models`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 7.3")]
pub struct ModelStatus {
    pub performance: f64,
    pub queued: f64,
    pub jobs: f64,
    pub eta: i64,
    #[serde(rename = "type")]
    pub kind: WorkKind,
    pub name: String,
    pub count: u64,
}

/// The switches of the whole horde.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 7.1")]
pub struct Modes {
    pub maintenance_mode: bool,
    pub invite_only_mode: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid_mode: Option<bool>,
}

/// The table of [`ModesChange`] as it is sent.
pub const MODES_SCHEMA: Schema = Schema {
    name: "ModesInput",
    fields: &[
        Field::optional(
            "maintenance_mode",
            Kind::Bool,
            "Whether no new requests are taken; admins only.",
        ),
        Field::optional(
            "invite_only_mode",
            Kind::Bool,
            "Whether only invited workers may join; moderators only.",
        ),
        Field::optional(
            "raid_mode",
            Kind::Bool,
            "Whether the horde is wary of newcomers; moderators only.",
        ),
    ],
};

/// Switches to turn, and those that were turned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `MODES_SCHEMA` documents each")]
pub struct ModesChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_mode: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_only_mode: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid_mode: Option<bool>,
}

/// What was made in each of five spans of time that end now. A month is 30 days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 10")]
#[schemars(rename = "TotalsOf{T}", bound = "T: JsonSchema + Default + Serialize")]
pub struct Totals<T> {
    pub minute: T,
    pub hour: T,
    pub day: T,
    pub month: T,
    pub total: T,
}

/// Pictures made, in `GET /stats/img/totals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageCount {
    /// How many.
    pub images: u64,
    /// The pixelsteps in them.
    pub ps: u64,
}

/// Texts written, in `GET /stats/text/totals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TextCount {
    /// How many.
    pub requests: u64,
    /// The tokens asked for.
    pub tokens: u64,
}

/// How many jobs each model did, in `GET /stats/…/models`. A month is 30 days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 10")]
pub struct ModelCounts {
    pub day: BTreeMap<String, u64>,
    pub month: BTreeMap<String, u64>,
    pub total: BTreeMap<String, u64>,
}

/// One piece of news of the operator, in `GET /status/news`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 7.4")]
pub struct NewsPiece {
    /// `YYYY-MM-DD`.
    pub date_published: Option<String>,
    /// Markdown.
    pub newspiece: Option<String>,
    pub importance: Option<String>,
    pub tags: Option<Vec<String>>,
    pub title: Option<String>,
    pub more_info_urls: Option<Vec<String>>,
}
