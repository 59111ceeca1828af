//! Prompt filters on the wire.
//!
//! # Source
//! `community.md` § 9.4.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Field, Kind, Schema};

/// The longest expression, in characters.
pub const MAX_REGEX_CHARS: usize = 10_000;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// The longest replacement, in characters.
pub const MAX_REPLACEMENT_CHARS: usize = 255;

/// A filter as moderators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilterView {
    /// Its number.
    pub id: String,
    /// What it finds.
    pub regex: String,
    /// Its type, 10…29.
    pub filter_type: u8,
    /// What it is for; `null` if nobody said.
    pub description: Option<String>,
    /// What is put in the place of what it finds.
    pub replacement: String,
    /// The alias of who changed it last.
    pub user: String,
}

/// The body of `PUT /filters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the members of `FilterView`")]
pub struct NewFilter {
    pub regex: String,
    pub filter_type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub replacement: String,
}

/// The body of `PATCH /filters/{id}`: what to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the members of `FilterView`")]
pub struct FilterChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// The joined expression of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the wire names")]
pub struct FilterRegex {
    pub filter_type: u8,
    pub regex: String,
}

/// What a prompt was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilterVerdict {
    /// `0`, `1` or `2`; a text, because that is what clients get today.
    pub suspicion: String,
    /// The fragments that decided.
    pub matches: Vec<String>,
}

const REGEX: Kind = Kind::text(0, MAX_REGEX_CHARS);
const TYPE: Kind = Kind::integer(10, 29);
const DESCRIPTION: Kind = Kind::text(0, MAX_DESCRIPTION_CHARS);
const REPLACEMENT: Kind = Kind::text(0, MAX_REPLACEMENT_CHARS);

/// The table of [`NewFilter`].
pub const NEW_SCHEMA: Schema = Schema {
    name: "PutNewFilter",
    fields: &[
        Field::required("regex", REGEX, "The expression, matched in any capitals."),
        Field::required(
            "filter_type",
            TYPE,
            "10 and 11 are one context, 20 is the other.",
        ),
        Field::optional("description", DESCRIPTION, "What it is for."),
        Field::optional(
            "replacement",
            REPLACEMENT,
            "What replaces it when a prompt is rewritten.",
        ),
    ],
};

/// The table of [`FilterChange`].
pub const CHANGE_SCHEMA: Schema = Schema {
    name: "PatchFilter",
    fields: &[
        Field::optional("regex", REGEX, "The expression, matched in any capitals."),
        Field::optional(
            "filter_type",
            TYPE,
            "10 and 11 are one context, 20 is the other.",
        ),
        Field::optional("description", DESCRIPTION, "What it is for."),
        Field::optional(
            "replacement",
            REPLACEMENT,
            "What replaces it when a prompt is rewritten.",
        ),
    ],
};

/// The table of `POST /filters`. Only documentation: its form is read more freely.
pub const TRY_SCHEMA: Schema = Schema {
    name: "TryPrompt",
    fields: &[
        Field::required("prompt", Kind::TEXT, "What would be asked for."),
        Field::optional(
            "filter_type",
            Kind::INTEGER,
            "Only filters of this type; all if left out.",
        ),
    ],
};
