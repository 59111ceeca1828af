//! The service that collects ratings: another program, named by the operator.
//!
//! # Source
//! `generation.md` § 9.1.

use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_api::rating::RatingReport;
use ordu_core::Refusal;
use reqwest::StatusCode;
use url::Url;

/// How long the service has.
const DEADLINE: Duration = Duration::from_secs(3);

/// The largest complaint that is looked at, in bytes.
const MAX_COMPLAINT_BYTES: usize = 64 << 10;

/// Where ratings go, if anywhere. The operator's own address may be a private one.
pub(crate) struct Ratings {
    service: Option<(Url, reqwest::Client)>,
}

impl Ratings {
    pub(crate) fn new(url: Option<&Url>) -> Result<Self, reqwest::Error> {
        let Some(url) = url else {
            return Ok(Self { service: None });
        };
        let client = crate::outgoing::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()?;
        Ok(Self {
            service: Some((url.clone(), client)),
        })
    }

    /// Passes a rating on.
    ///
    /// # Errors
    /// The code that says how the service failed.
    pub(crate) async fn send(&self, report: &RatingReport) -> Result<(), Refusal> {
        let Some((url, client)) = &self.service else {
            let message = "This horde collects no ratings";
            return Err(Refusal::new(ReturnCode::AestheticsServerDown, message));
        };
        let mut response = match client.post(url.clone()).json(report).send().await {
            Ok(response) => response,
            Err(error) => return Err(unreachable(&error)),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status == StatusCode::FORBIDDEN {
            let message = "These pictures were rated before";
            return Err(Refusal::new(ReturnCode::AestheticsAlreadyExist, message));
        }
        tracing::warn!(status = status.as_u16(), "the ratings service refused");
        Err(if complains_in_json(&mut response).await {
            let message = "The ratings service could not take the rating";
            Refusal::new(ReturnCode::AestheticsServerError, message)
        } else {
            let message = "The ratings service rejected the rating";
            Refusal::new(ReturnCode::AestheticsServerRejected, message)
        })
    }
}

fn unreachable(error: &reqwest::Error) -> Refusal {
    tracing::warn!(%error, "the ratings service does not answer");
    if error.is_timeout() {
        let message = "The ratings service took too long: try again later";
        return Refusal::new(ReturnCode::AestheticsServerTimeout, message);
    }
    let message = "The ratings service cannot be reached: try again later";
    Refusal::new(ReturnCode::AestheticsServerDown, message)
}

async fn complains_in_json(response: &mut reqwest::Response) -> bool {
    let mut complaint = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if complaint.len() + chunk.len() > MAX_COMPLAINT_BYTES {
            return false;
        }
        complaint.extend_from_slice(&chunk);
    }
    serde_json::from_slice::<serde_json::Value>(&complaint).is_ok()
}
