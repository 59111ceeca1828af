//! What those who keep order did, on the wire. Ours: no other horde has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::UserId;

/// An entry of `GET /operations/audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// Its id.
    pub id: String,
    /// When, RFC 822.
    pub created: String,
    /// Who, as `name#id`; left out for the operator at the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The number of who it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<UserId>,
    /// What, such as `user.update`.
    pub operation: String,
    /// The kind of thing that it was done to.
    pub target_type: String,
    /// Which one.
    pub target: String,
    /// What was, as far as it changed.
    pub before: Map<String, Value>,
    /// What is.
    pub after: Map<String, Value>,
}
