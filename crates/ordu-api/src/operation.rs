//! What moderators do about addresses, on the wire.
//!
//! # Source
//! `community.md` § 9.1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, WorkerId};
use crate::schema::{Field, Kind, Schema};

/// An address or a block that is shut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddressTimeout {
    /// The address, or the block as CIDR.
    pub ipaddr: String,
    /// For how many more seconds.
    pub seconds: i64,
}

/// The body of `POST /operations/ipaddr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOutAddress {
    /// The address, or the block as CIDR.
    pub ipaddr: String,
    /// For how many hours.
    pub hours: u32,
}

/// The body of `DELETE /operations/ipaddr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeAddress {
    /// The address, or the block as CIDR.
    pub ipaddr: String,
}

/// The body of `PUT /operations/block_worker_ipaddr/{worker_id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockWorkerAddress {
    /// For how many days.
    pub days: u32,
}

/// Something that moderators were told. Ours: no other horde has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeView {
    /// Its id.
    pub id: String,
    /// `corrupt-prompt`, `worker-paused`, `problem-jobs`, `corrupt-service`.
    pub kind: String,
    /// In a sentence.
    pub message: String,
    /// The prompt that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Unix time in seconds.
    pub created: i64,
}

/// A picture of an untrusted worker that a trusted one made once more. Ours: no other horde has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrustAuditView {
    /// The job that made it first.
    pub job: JobId,
    /// Its worker.
    pub worker_id: WorkerId,
    /// The worker's name; `null` if it is gone.
    pub worker_name: Option<String>,
    /// Whose worker that is, as `name#id`.
    pub owner: String,
    /// Who made it once more.
    pub twin_worker_id: WorkerId,
    /// With which model.
    pub model: String,
    /// How different the two look: 0 is the same picture, 1 has nothing to do with it.
    pub distance: f64,
    /// Whether that is more than this horde takes for the same picture.
    pub differs: bool,
    /// Unix time in seconds.
    pub created: i64,
}

/// The answer when there is nothing more to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// `OK`.
    pub message: String,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            message: "OK".to_owned(),
        }
    }
}

const ADDRESS: Field = Field::required(
    "ipaddr",
    Kind::text(7, 40),
    "An IPv4 or IPv6 address, or a block as CIDR.",
);

/// The table of [`TimeOutAddress`].
pub const TIME_OUT_SCHEMA: Schema = Schema {
    name: "AddTimeoutIPInput",
    fields: &[
        ADDRESS,
        Field::required("hours", Kind::integer(1, 720), "For how many hours."),
    ],
};

/// The table of [`FreeAddress`].
pub const FREE_SCHEMA: Schema = Schema {
    name: "DeleteTimeoutIPInput",
    fields: &[ADDRESS],
};

/// The table of [`BlockWorkerAddress`].
pub const BLOCK_WORKER_SCHEMA: Schema = Schema {
    name: "AddWorkerTimeout",
    fields: &[Field::required(
        "days",
        Kind::integer(1, 30),
        "For how many days.",
    )],
};
