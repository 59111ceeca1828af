//! Accounts that strangers make for themselves, and new keys, on the wire.
//!
//! # Source
//! `platform.md` § 4.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Field, Kind, Schema};
use crate::{ApiKey, UserId};

/// The table of [`NewUserInput`].
pub const SCHEMA: Schema = Schema {
    name: "NewUserInput",
    fields: &[
        Field::required(
            "username",
            Kind::text(1, 100),
            "The name before the `#`; what is longer than 30 characters is cut off.",
        ),
        Field::optional(
            "captcha",
            Kind::text(1, 10_000),
            "The answer of the captcha's widget, where the horde has one.",
        ),
    ],
};

/// The body of `POST /users`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct NewUserInput {
    pub username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captcha: Option<String>,
}

/// An account with a key that is shown this once: the answer of `POST /users` and of
/// `POST /users/{id}/key`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FreshKey {
    /// The account's number.
    pub id: UserId,
    /// The name before the `#`.
    pub username: String,
    /// The name with the number, `name#id`.
    pub alias: String,
    /// The key.
    pub api_key: ApiKey,
}
