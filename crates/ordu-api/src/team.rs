//! Teams of workers as they are shown, made and changed.
//!
//! # Source
//! `community.md` § 4; `observed.md` 31.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{TeamId, WorkerId};
use crate::schema::{Field, Kind, Schema};
use crate::worker::WorkKind;

/// How long a team's name may be, in characters.
const NAME: Kind = Kind::text(3, 100);

/// How long what is said about it may be.
const INFO: Kind = Kind::text(3, 1000);

/// The table of [`NewTeam`].
pub const NEW_SCHEMA: Schema = Schema {
    name: "NewTeam",
    fields: &[
        Field::required("name", NAME, "Its name, whatever the capitals unique."),
        Field::optional("info", INFO, "What its creator says about it."),
    ],
};

/// A team to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `NEW_SCHEMA` documents each")]
pub struct NewTeam {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
}

/// The table of [`TeamInput`].
pub const INPUT_SCHEMA: Schema = Schema {
    name: "TeamInput",
    fields: &[
        Field::optional("name", NAME, "Its new name."),
        Field::optional("info", INFO, "What is said about it from now on."),
    ],
};

/// What to change about a team; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `INPUT_SCHEMA` documents each")]
pub struct TeamInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
}

/// A team as it is after it was made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamChanged {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// What is said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
}

/// The answer to the deletion of a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamDeleted {
    /// Its id.
    pub deleted_id: TeamId,
    /// Its name.
    pub deleted_name: String,
}

/// A team as everybody sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TeamView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TeamId,
    /// What is said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    /// Pictures that its workers made while they were in it.
    pub requests_fulfilled: i64,
    /// What they earned by these.
    pub kudos: f64,
    /// How long its workers of all kinds were online, in seconds.
    pub uptime: i64,
    /// Whoever made it; left out when that account is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// How many workers it has.
    pub worker_count: u64,
    /// Its workers by name, online or not.
    pub workers: Vec<TeamWorker>,
    /// What its online workers serve.
    pub models: Vec<TeamModel>,
    /// What went into the pictures, in megapixelsteps.
    #[serde(default)]
    pub contributions: f64,
    /// The mean speed of its online image workers, in megapixelsteps a second.
    #[serde(default)]
    pub performance: f64,
    /// The sum of their speeds.
    #[serde(default)]
    pub speed: f64,
}

/// A worker of a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamWorker {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: WorkKind,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: WorkerId,
    /// Whether it is there.
    pub online: bool,
}

/// A model that a team serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamModel {
    /// Its name.
    pub name: String,
    /// By how many workers.
    pub count: u64,
}
