//! Which of the operator's programs are asked when, and how that is written down.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::worker::WorkKind;
use url::Url;

use crate::secret::Secret;

/// How long a hook has by default.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that anybody waits for a hook.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What begins a secret that is written as receivers of webhooks write it.
const SECRET_PREFIX: &str = "whsec_";

/// The operator's programs that decide with us.
#[derive(Debug, Clone, Default)]
pub struct HookConfig {
    /// All of them, in the order in which they are asked.
    pub hooks: Vec<Hook>,
    /// What signs the questions; they are not signed if `None`.
    pub secret: Option<Secret>,
}

/// A program of the operator's that decides with us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it is asked.
    pub stage: Stage,
    /// About which work; empty for all.
    pub kinds: Vec<WorkKind>,
    /// Where it is asked.
    pub url: Url,
    /// How long it has.
    pub timeout: Duration,
    /// What its silence means.
    pub on_failure: OnFailure,
}

/// When a hook is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before a request is taken.
    Admission,
    /// Before a worker is given a job.
    Assignment,
    /// Before a result is settled.
    Result,
}

impl Stage {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Assignment => "assignment",
            Self::Result => "result",
        }
    }
}

/// What it means that a hook does not answer, or answers what makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// As if it had allowed it.
    Open,
    /// Nothing goes on until it answers.
    Closed,
}

impl Hook {
    /// Whether it wants to know of this.
    pub(crate) fn wants(&self, stage: Stage, kind: WorkKind) -> bool {
        let of_kind = self.kinds.is_empty() || self.kinds.contains(&kind);
        self.stage == stage && of_kind
    }
}

impl HookConfig {
    /// Reads a secret: `whsec_` and base64, or any text.
    ///
    /// # Errors
    /// What follows `whsec_` is no base64.
    pub fn read_secret(text: &str) -> Result<Secret, String> {
        match text.strip_prefix(SECRET_PREFIX) {
            None => Ok(Secret::new(text)),
            Some(encoded) => STANDARD
                .decode(encoded)
                .map(Secret::new)
                .map_err(|error| format!("what follows `{SECRET_PREFIX}` is no base64: {error}")),
        }
    }
}

impl FromStr for Hook {
    type Err = String;

    /// Reads `STAGE[+KIND…][+open|closed][+Nms]=URL`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (words, url) = text.split_once('=').ok_or(
            "a hook is written as `STAGE=URL`, such as `admission+image+closed=https://…`",
        )?;
        let url = Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let mut words = words.split('+').map(str::trim);
        let stage = match words.next().unwrap_or_default() {
            "admission" => Stage::Admission,
            "assignment" => Stage::Assignment,
            "result" => Stage::Result,
            other => {
                return Err(format!(
                    "`{other}` is no stage: use admission, assignment or result"
                ));
            }
        };
        let mut hook = Self {
            stage,
            kinds: Vec::new(),
            url,
            timeout: TIMEOUT,
            on_failure: OnFailure::Open,
        };
        words.try_for_each(|word| hook.read_word(word))?;
        Ok(hook)
    }
}

impl Hook {
    fn read_word(&mut self, word: &str) -> Result<(), String> {
        match word {
            "image" => self.kinds.push(WorkKind::Image),
            "text" => self.kinds.push(WorkKind::Text),
            "alchemy" | "interrogation" => self.kinds.push(WorkKind::Interrogation),
            "open" => self.on_failure = OnFailure::Open,
            "closed" => self.on_failure = OnFailure::Closed,
            other => {
                let millis = other
                    .strip_suffix("ms")
                    .and_then(|number| number.parse().ok());
                let timeout = millis.map(Duration::from_millis);
                let in_bounds = |timeout: &Duration| !timeout.is_zero() && *timeout <= MAX_TIMEOUT;
                self.timeout = timeout.filter(in_bounds).ok_or_else(|| {
                    format!(
                        "`{other}` is neither a kind of work (image, text, alchemy), nor open, nor \
                         closed, nor a time from 1ms to {}ms",
                        MAX_TIMEOUT.as_millis()
                    )
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_read_word_by_word() {
        let hook: Hook = "result+image+text+closed+250ms=http://127.0.0.1:9/a?b=c"
            .parse()
            .unwrap();
        assert_eq!(hook.stage, Stage::Result);
        assert_eq!(hook.kinds, [WorkKind::Image, WorkKind::Text]);
        assert_eq!(hook.on_failure, OnFailure::Closed);
        assert_eq!(hook.timeout, Duration::from_millis(250));
        assert_eq!(hook.url.as_str(), "http://127.0.0.1:9/a?b=c");
        assert!(hook.wants(Stage::Result, WorkKind::Text));
        assert!(!hook.wants(Stage::Result, WorkKind::Interrogation));
        assert!(!hook.wants(Stage::Admission, WorkKind::Text));
        let plain: Hook = "admission=https://x/".parse().unwrap();
        assert!(plain.wants(Stage::Admission, WorkKind::Interrogation));
        assert_eq!(
            (plain.timeout, plain.on_failure),
            (TIMEOUT, OnFailure::Open)
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            ("https://x/", "STAGE=URL"),
            ("birth=https://x/", "birth"),
            ("admission+soon=https://x/", "soon"),
            ("admission+0ms=https://x/", "0ms"),
            ("admission+30001ms=https://x/", "30001ms"),
            ("admission=x", "`x` is no URL"),
        ] {
            let error = text.parse::<Hook>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(HookConfig::read_secret("whsec_!").is_err());
        assert!(HookConfig::read_secret("whsec_AAAA").is_ok());
    }
}
