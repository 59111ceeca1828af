//! Shared keys as they are shown, made and changed.
//!
//! # Source
//! `community.md` § 3.1; `observed.md` 30 (a number as name).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::SharedKeyId;
use crate::schema::{Field, Kind, Schema};

/// The largest budget of a key, in kudos.
pub const MAX_BUDGET: i64 = 50_000_000;

/// The largest picture that a limit can allow, in pixels.
pub const MAX_PIXELS: i64 = 4_194_304;

/// The most steps that a limit can allow.
pub const MAX_STEPS: i64 = 500;

/// The longest text that a limit can allow, in tokens.
pub const MAX_TOKENS: i64 = 65_536;

/// The farthest expiry, in days: a hundred years.
const MAX_DAYS: i64 = 36_525;

/// The table of [`SharedKeyInput`].
pub const SCHEMA: Schema = Schema {
    name: "SharedKeyInput",
    fields: &[
        Field::optional(
            "kudos",
            Kind::integer(-1, MAX_BUDGET),
            "What may be spent through the key; -1 for as much as its owner has.",
        ),
        Field::optional(
            "expiry",
            Kind::integer(-1, MAX_DAYS),
            "In how many days the key ends; -1 for never.",
        ),
        Field::optional("name", Kind::Any, "What you call it: 3 to 255 characters."),
        Field::optional(
            "max_image_pixels",
            Kind::integer(-1, MAX_PIXELS),
            "The largest picture; -1 for no limit.",
        ),
        Field::optional(
            "max_image_steps",
            Kind::integer(-1, MAX_STEPS),
            "The most steps of a picture; -1 for no limit.",
        ),
        Field::optional(
            "max_text_tokens",
            Kind::integer(-1, MAX_TOKENS),
            "The longest text; -1 for no limit.",
        ),
    ],
};

/// A key to be made or changed; what is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct SharedKeyInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kudos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_image_pixels: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_image_steps: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_text_tokens: Option<i64>,
}

/// A shared key as it is shown. Its limits are -1 when there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedKeyView {
    /// The key itself: whoever knows it may use it.
    pub id: SharedKeyId,
    /// Whose kudos it spends.
    pub username: String,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is left to spend, in whole kudos.
    pub kudos: i64,
    /// When it ends, RFC 822; left out for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
    /// What was spent through it, in whole kudos.
    pub utilized: i64,
    /// The largest picture, in pixels.
    pub max_image_pixels: i64,
    /// The most steps of a picture.
    pub max_image_steps: i64,
    /// The longest text, in tokens.
    pub max_text_tokens: i64,
}
