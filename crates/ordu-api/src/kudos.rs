//! Kudos that go from user to user.
//!
//! # Source
//! `community.md` § 6; `observed.md` 36.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Field, Kind, Schema};

/// The table of both bodies. Only documentation: their form is read more freely.
pub const GIFT_SCHEMA: Schema = Schema {
    name: "KudosGift",
    fields: &[
        Field::required(
            "username",
            Kind::TEXT,
            "Whom it is for: an alias, a number, or a shared key of theirs.",
        ),
        Field::optional("amount", Kind::INTEGER, "How much, default 100."),
    ],
};

/// The answer of `POST /kudos/transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transferred {
    /// How much, in kudos.
    pub transferred: f64,
}

/// The answer of `POST /kudos/award`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Awarded {
    /// How much, in kudos.
    pub awarded: f64,
}
