//! The bodies of answers that say no.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of every answer that is not 2xx.
///
/// `rc` is the machine name of an application error; `errors` names each field that broke its
/// schema, by dotted path. `request_id` finds the line in the server's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Why, for a person.
    #[serde(default)]
    pub message: String,
    /// The return code by its wire name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<String>,
    /// Field → what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<FieldErrors>,
    /// Which request it was, of answers that must not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is wrong with each field, by dotted path (`params.post_processing.0`, `""` for the body).
pub type FieldErrors = BTreeMap<String, String>;

/// The message that comes with [`ErrorBody::errors`].
pub const VALIDATION_MESSAGE: &str = "Input payload validation failed";
