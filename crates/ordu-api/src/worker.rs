//! Workers: how they are shown, and what a pop tells them besides the job.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{TeamId, UserId, WorkerId};
use crate::message::MessageView;
use crate::schema::{Field, Kind, Schema};

/// Reason → how many waiting requests a pop passed over for it.
pub type Skipped = BTreeMap<String, u64>;

/// The three kinds of work, and of workers.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WorkKind {
    /// Pictures, made by dreamers.
    #[default]
    Image,
    /// Texts, written by scribes.
    Text,
    /// Image tools, run by alchemists.
    Interrogation,
}

impl WorkKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Image, Self::Text, Self::Interrogation];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Interrogation => "interrogation",
        }
    }

    /// The name in what no other horde has.
    pub const fn plain_name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Interrogation => "alchemy",
        }
    }
}

impl std::str::FromStr for WorkKind {
    type Err = crate::ids::NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or(crate::ids::NotAnId)
    }
}

/// News for whoever runs a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerMessage {
    /// The message's id; each is shown once.
    pub id: String,
    /// The text.
    pub message: String,
    /// Who speaks.
    #[serde(default)]
    pub origin: Option<String>,
    /// Until when it matters, RFC 822.
    #[serde(default)]
    pub expiry: Option<String>,
}

/// A worker as others see it. Members that do not apply are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 5.3")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire is a list of switches"
)]
pub struct WorkerView {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: WorkKind,
    pub online: bool,
    pub requests_fulfilled: u64,
    pub uncompleted_jobs: u64,
    pub kudos_rewards: f64,
    pub kudos_details: WorkerKudos,
    pub performance: String,
    pub threads: u32,
    pub uptime: i64,
    pub maintenance_mode: bool,
    pub trusted: bool,
    pub flagged: bool,
    pub nsfw: bool,
    pub team: TeamLink,
    pub bridge_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forms: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub megapixelsteps_generated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub img2img: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub painting: Option<bool>,
    #[serde(rename = "post-processing", skip_serializing_if = "Option::is_none")]
    pub post_processing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controlnet: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdxl_controlnet: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_context_length: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_generated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<MessageView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicious: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipaddr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}

/// What a worker earned, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkerKudos {
    /// By jobs.
    pub generated: Option<f64>,
    /// By being there.
    pub uptime: Option<i64>,
}

/// A worker's team; both members are `null` when it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TeamLink {
    /// The team's id.
    pub id: Option<TeamId>,
    /// Its name.
    pub name: Option<String>,
}

/// The path of one worker, for links and clients.
pub fn path(id: WorkerId) -> String {
    format!("{}/workers/{id}", crate::BASE_PATH)
}

/// Who may read how much of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// Everybody.
    Public,
    /// Whom the thing belongs to.
    Owner(UserId),
    /// Moderators.
    Moderator,
}

/// The table of [`WorkerInput`].
pub const INPUT_SCHEMA: Schema = Schema {
    name: "WorkerInput",
    fields: &[
        Field::optional(
            "maintenance",
            Kind::Bool,
            "Whether it serves its owner only.",
        ),
        Field::optional(
            "maintenance_msg",
            Kind::text(0, 300),
            "Why, for whoever runs it.",
        ),
        Field::optional(
            "paused",
            Kind::Bool,
            "Whether it gets no jobs; moderators only.",
        ),
        Field::optional("info", Kind::text(0, 1000), "What its owner says about it."),
        Field::optional("name", Kind::text(5, 100), "Its new name."),
        Field::optional(
            "team",
            Kind::text(0, 36),
            "The id of its team; empty to leave it.",
        ),
    ],
};

/// What to change about a worker; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `INPUT_SCHEMA` documents each")]
pub struct WorkerInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// What was changed about a worker, and nothing else; the team by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the members of `WorkerInput`")]
pub struct WorkerChanged {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// The answer to the deletion of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDeleted {
    /// Its id.
    pub deleted_id: WorkerId,
    /// Its name.
    pub deleted_name: String,
}
