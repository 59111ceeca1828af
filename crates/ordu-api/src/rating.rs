//! What a requester thinks of the pictures it got.
//!
//! # Source
//! `generation.md` § 9.1.

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, RequestId};
use crate::schema::{Field, Kind, Schema};

/// An id in a rating: as long as a UUID, whatever it is.
const ID: Kind = Kind::text(36, 36);

const RATING: Kind = Kind::Object(&[
    Field::required("id", ID, "The picture."),
    Field::required(
        "rating",
        Kind::integer(1, 10),
        "How good it is, from 1 to 10.",
    ),
    Field::optional(
        "artifacts",
        Kind::integer(0, 5),
        "How bad its flaws are: 0 for none, 5 for a ruin.",
    ),
]);

/// The table of [`RatingForm`].
pub const RATING_SCHEMA: Schema = Schema {
    name: "AestheticsPayload",
    fields: &[
        Field::optional("best", ID, "The best picture of the set."),
        Field::optional(
            "ratings",
            Kind::list(&RATING),
            "One for each picture rated.",
        ),
    ],
};

/// The body of `POST /generate/rate/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RatingForm {
    /// The best picture of the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
    /// One for each picture rated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratings: Vec<Rating>,
}

/// What somebody thinks of one picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// The picture.
    pub id: String,
    /// 1…10.
    pub rating: u8,
    /// 0…5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<u8>,
}

/// What is passed on to a ratings service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatingReport {
    /// The request.
    pub set: RequestId,
    /// All of its pictures.
    pub all_set_ids: Vec<JobId>,
    /// The program that rated.
    pub client_agent: String,
    /// Whose request it is.
    pub user: Rater,
    /// The ratings.
    pub ratings: Vec<Rating>,
    /// The best picture, given or found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<JobId>,
}

/// Who rates, for a ratings service to weigh it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rater {
    /// `name#id`.
    pub username: String,
    /// Whether the account is trusted.
    pub trusted: bool,
    /// In seconds.
    pub account_age: i64,
    /// What it has, in kudos.
    pub kudos: f64,
    /// What it earned and spent by generating, in kudos.
    pub kudos_accumulated: f64,
    /// Where the rating came from.
    pub ipaddr: String,
}
