//! The one error of this crate. Its variants are what a caller can do differently.

use std::fmt;
use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_api::error::FieldErrors;
use serde_json::Value;

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Change what is asked, or with which key: the horde understood and said no.
    #[error("{0}")]
    Refused(Refusal),

    /// Call less often: wait as long as it says before the next call.
    #[error("too many calls: {message}")]
    RateLimited {
        /// How long to wait, if the horde said so.
        retry_after: Option<Duration>,
        /// The limit, for a person.
        message: String,
    },

    /// Try again later: not reached, no answer in time, or an answer of 5xx.
    #[error("the horde is not available: {reason}")]
    Unavailable {
        /// What happened, without the address.
        reason: String,
        /// How long to wait, if the horde said so.
        retry_after: Option<Duration>,
        /// The failure of the transport, if it was one.
        #[source]
        source: Option<reqwest::Error>,
    },

    /// Report it: the call succeeded, but the answer is not what the protocol says.
    #[error("the answer cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },

    /// Allow more, or do without: what was to be read is larger than the caller allows.
    #[error("more than the allowed {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },

    /// Do without: the address is one that must not be read from.
    #[error("address not allowed: {reason}")]
    Forbidden {
        /// Which rule it breaks, without the address.
        reason: &'static str,
    },

    /// Change the settings: the address, key or agent cannot be used at all.
    #[error("`{name}` cannot be used: {reason}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// An answer that says no.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, 3xx or 4xx.
    pub status: u16,
    /// The return code by its wire name; unknown names occur.
    pub rc: Option<String>,
    /// Why, for a person.
    pub message: String,
    /// What is wrong with each field, by dotted path.
    pub errors: FieldErrors,
}

impl Refusal {
    /// Whether the horde gave this return code.
    pub fn is(&self, code: ReturnCode) -> bool {
        self.rc.as_deref() == Some(code.name())
    }

    /// Reads the body of an answer, whatever it looks like.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let errors = body.get("errors").and_then(Value::as_object);
        Self {
            status,
            rc: text("rc"),
            message: text("message").unwrap_or_else(|| format!("status {status}")),
            errors: errors
                .into_iter()
                .flatten()
                .map(|(field, wrong)| (field.clone(), plain(wrong)))
                .collect(),
        }
    }
}

/// A text as itself, anything else as JSON.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(rc) = &self.rc {
            write!(f, " ({rc})")?;
        }
        for (field, wrong) in &self.errors {
            write!(f, "; `{field}`: {wrong}")?;
        }
        Ok(())
    }
}

impl Error {
    /// The answer that said no, if it was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the horde gave this return code.
    pub fn is(&self, code: ReturnCode) -> bool {
        self.refusal().is_some_and(|refusal| refusal.is(code))
    }

    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. })
    }

    /// How long the horde asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// A failure below HTTP. The address is taken out of it: it may carry a signature.
    pub(crate) fn transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let reason = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "cannot connect"
        } else if error.is_builder() {
            "the request cannot be built"
        } else {
            "the connection broke"
        };
        Self::Unavailable {
            reason: reason.to_owned(),
            retry_after: None,
            source: Some(error),
        }
    }

    pub(crate) fn malformed(reason: impl fmt::Display) -> Self {
        Self::Malformed {
            reason: reason.to_string(),
        }
    }
}
