//! Why the rules say no.

use ordu_api::ReturnCode;

/// A "no" with its machine name and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The machine name; decides the HTTP status.
    pub code: ReturnCode,
    /// What, with which value, what to do. Holds no secrets.
    pub message: String,
}

impl Refusal {
    /// Says no.
    pub fn new(code: ReturnCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
