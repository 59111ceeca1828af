//! A captcha before registration: the widget is another site's, and so is the judgement.

use std::time::Duration;

use serde::Deserialize;

use super::config::CaptchaConfig;
use crate::outgoing::take;

/// How long the other site has.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer that is passed on, in bytes.
const MAX_ANSWER_BYTES: usize = 10_000;

/// The longest verdict, in bytes.
const MAX_VERDICT_BYTES: usize = 64 << 10;

/// The way to the judge.
pub(crate) struct Captcha {
    config: CaptchaConfig,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Verdict {
    success: bool,
}

impl Captcha {
    pub(crate) fn new(config: CaptchaConfig) -> Result<Self, reqwest::Error> {
        let client = crate::outgoing::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()?;
        Ok(Self { config, client })
    }

    /// What the widget on the page is given.
    pub(crate) fn site_key(&self) -> &str {
        &self.config.site_key
    }

    /// Whether somebody solved it. A judge that cannot be asked says no.
    pub(crate) async fn is_solved(&self, answer: &str) -> bool {
        if answer.is_empty() || answer.len() > MAX_ANSWER_BYTES {
            return false;
        }
        let form = [
            ("secret", self.config.secret_key.reveal()),
            ("response", answer),
        ];
        let asked = self.client.post(self.config.verify_url.clone()).form(&form);
        match take(asked, MAX_VERDICT_BYTES)
            .await
            .and_then(|verdict| read(&verdict))
        {
            Ok(is_solved) => is_solved,
            Err(error) => {
                tracing::warn!(%error, "the captcha's judge cannot be asked");
                false
            }
        }
    }
}

/// Reads a verdict.
pub(crate) fn read(verdict: &[u8]) -> Result<bool, String> {
    let verdict: Verdict = serde_json::from_slice(verdict).map_err(|error| error.to_string())?;
    Ok(verdict.success)
}
