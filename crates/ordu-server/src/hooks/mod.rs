//! The operator's own rules: programs that are asked before a request is taken, before a worker is
//! given a job, and before a result is settled.
//!
//! They get JSON and answer a verdict. Nobody holds the horde while they think. What they are asked
//! about is in the same commit as ever, after they answered.
//!
//! # Source
//! `platform.md` § 4 ("Policy hooks"); signed as <https://www.standardwebhooks.com>.

mod config;
mod subject;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use ordu_api::worker::WorkKind;
use ordu_core::Timestamp;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::fetch::{FetchError, Fetcher};

pub use config::{Hook, HookConfig, OnFailure, Stage};
pub(crate) use subject::Applicant;

/// So many questions are on their way at once; others wait, as long as their hook has time.
const MAX_ASKING: usize = 128;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 10;

/// Messages are cut to so many characters.
const MAX_MESSAGE: usize = 500;

/// Those who ask hooks.
pub(crate) struct Hooks {
    config: HookConfig,
    fetcher: Fetcher,
    asking: Semaphore,
}

/// What the hooks say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Nobody minds.
    Allowed,
    /// It must not be, and why.
    Refused(String),
    /// The result must not be seen.
    Censored,
    /// One without whose answer nothing goes on did not answer.
    Unanswered,
}

/// A verdict as it comes.
#[derive(Debug, Deserialize)]
struct Verdict {
    verdict: Word,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Refuse,
    Censor,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error(transparent)]
    Forbidden(#[from] FetchError),
    #[error("it cannot be reached: {0}")]
    Unreachable(reqwest::Error),
    #[error("it takes longer than it has")]
    Slow,
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("its answer makes no sense: {0}")]
    Garbage(String),
    #[error("the server is closing")]
    Closing,
}

impl From<reqwest::Error> for HookError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Slow;
        }
        Self::Unreachable(error.without_url())
    }
}

impl Hooks {
    /// # Errors
    /// A hook leads to an address that is private and not allowed by the operator.
    pub(crate) fn new(config: HookConfig, fetcher: Fetcher) -> Result<Self, String> {
        for hook in &config.hooks {
            fetcher
                .check_secure(&hook.url)
                .map_err(|error| format!("the hook `{}` cannot be asked: {error}", hook.url))?;
        }
        Ok(Self {
            config,
            fetcher,
            asking: Semaphore::new(MAX_ASKING),
        })
    }

    /// Whether anybody is asked about this: making up the question is work.
    pub(crate) fn are_asked(&self, stage: Stage, kind: WorkKind) -> bool {
        self.config.hooks.iter().any(|hook| hook.wants(stage, kind))
    }

    /// Asks those who want to know, one after the other; the first that minds decides.
    pub(crate) async fn ask(
        &self,
        (stage, kind): (Stage, WorkKind),
        subject: &Value,
        now: Timestamp,
    ) -> Ruling {
        let body = subject.to_string();
        for hook in &self.config.hooks {
            if !hook.wants(stage, kind) {
                continue;
            }
            let asked = tokio::time::timeout(hook.timeout, self.ask_one(hook, &body, now)).await;
            match asked.unwrap_or(Err(HookError::Slow)) {
                Ok(Ruling::Allowed) => {}
                Ok(ruling) => {
                    tracing::info!(stage = stage.name(), kind = kind.name(), "a hook minds");
                    return ruling;
                }
                Err(error) => {
                    tracing::warn!(%error, stage = stage.name(), "a hook gave no verdict");
                    if hook.on_failure == OnFailure::Closed {
                        return Ruling::Unanswered;
                    }
                }
            }
        }
        Ruling::Allowed
    }

    async fn ask_one(&self, hook: &Hook, body: &str, now: Timestamp) -> Result<Ruling, HookError> {
        let place = self.asking.acquire().await;
        let _place = place.map_err(|_| HookError::Closing)?;
        let id = Uuid::new_v4().to_string();
        let timestamp = now.seconds().to_string();
        let mut request = self.fetcher.post(&hook.url)?.timeout(hook.timeout);
        if let Some(secret) = &self.config.secret {
            let mac = secret.digest(&format!("{id}.{timestamp}.{body}"));
            let signature = format!("v1,{}", STANDARD.encode(mac));
            request = request.header("webhook-signature", signature);
        }
        let mut response = request
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .send()
            .await?;
        if response.status() != StatusCode::OK {
            return Err(HookError::Status(response.status()));
        }
        let mut answer = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                return Err(HookError::TooLong);
            }
            answer.extend_from_slice(&chunk);
        }
        read(hook.stage, &answer)
    }
}

/// Reads a verdict. Only results can be withheld.
pub(crate) fn read(stage: Stage, answer: &[u8]) -> Result<Ruling, HookError> {
    let verdict: Verdict =
        serde_json::from_slice(answer).map_err(|error| HookError::Garbage(error.to_string()))?;
    match (verdict.verdict, stage) {
        (Word::Allow, _) => Ok(Ruling::Allowed),
        (Word::Refuse, _) => Ok(Ruling::Refused(message(verdict.message))),
        (Word::Censor, Stage::Result) => Ok(Ruling::Censored),
        (Word::Censor, Stage::Admission | Stage::Assignment) => {
            let message = "only results are censored".to_owned();
            Err(HookError::Garbage(message))
        }
    }
}

/// What the requester is told.
fn message(said: Option<String>) -> String {
    let said = said.unwrap_or_default();
    let plain = said.chars().filter(|letter| !letter.is_control());
    let plain: String = plain.take(MAX_MESSAGE).collect();
    if plain.trim().is_empty() {
        return "The rules of this horde do not allow this request".to_owned();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let at = |stage, text: &str| read(stage, text.as_bytes());
        let allowed = at(Stage::Admission, r#"{"verdict": "allow", "more": 1}"#);
        assert_eq!(allowed.unwrap(), Ruling::Allowed);
        let refused = at(
            Stage::Assignment,
            r#"{"verdict": "refuse", "message": "no\u0000pe"}"#,
        );
        assert_eq!(refused.unwrap(), Ruling::Refused("nope".to_owned()));
        let silent = at(
            Stage::Admission,
            r#"{"verdict": "refuse", "message": null}"#,
        );
        assert!(matches!(silent.unwrap(), Ruling::Refused(text) if text.contains("rules")));
        let censored = at(Stage::Result, r#"{"verdict": "censor"}"#);
        assert_eq!(censored.unwrap(), Ruling::Censored);
        for garbage in [
            "",
            "[]",
            "{}",
            r#"{"verdict": "maybe"}"#,
            r#"{"verdict": 1}"#,
            "allow",
        ] {
            assert!(at(Stage::Result, garbage).is_err(), "{garbage}");
        }
        assert!(at(Stage::Admission, r#"{"verdict": "censor"}"#).is_err());
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(message(Some("ä".repeat(600))).chars().count(), MAX_MESSAGE);
    }
}
