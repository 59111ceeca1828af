//! `Prefer: wait=N`: a client that would rather wait for an answer than ask again.
//!
//! # Source
//! RFC 7240 § 4.3; `platform.md` § 4.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponseParts, ResponseParts};

use crate::address::Client;
use crate::app::App;
use crate::error::ApiError;
use crate::push::seats::Seat;

/// The longest wait that can be asked for, in seconds.
const MAX_SECONDS: u64 = 60;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long a client would wait, and where it comes from.
pub(crate) struct Prefer {
    seconds: Option<u64>,
    client: Client,
}

impl FromRequestParts<Arc<App>> for Prefer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self {
            seconds: seconds(&parts.headers),
            client: Client::from_request_parts(parts, app).await?,
        })
    }
}

/// The first wait that is asked for. A preference that cannot be read is none.
pub(crate) fn seconds(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(PREFER).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let preferences = lines.flat_map(|line| line.split(','));
    let values = preferences.filter_map(|preference| {
        let token = preference.split(';').next()?;
        let (name, value) = token.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"'))
    });
    let seconds = values.map(|value| value.parse::<u64>().ok()).next()??;
    (seconds > 0).then_some(seconds.min(MAX_SECONDS))
}

/// A client that waits: so long, and holding a place.
pub(crate) struct Patient {
    pub(crate) limit: Duration,
    pub(crate) seat: Seat,
}

/// What an answer says about the client's wish to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Applied(Option<u64>);

impl Prefer {
    /// Whether the client would wait.
    pub(crate) const fn is_wait(&self) -> bool {
        self.seconds.is_some()
    }

    /// What an answer says that was worth waiting for.
    pub(crate) const fn applied(&self) -> Applied {
        Applied(self.seconds)
    }

    /// Lets the client wait, if it would and there is a place; a preference may be ignored.
    pub(crate) fn sit_down(&self, app: &App) -> Option<Patient> {
        let wished = Duration::from_secs(self.seconds?);
        let seat = app.push.seats.take(self.client.network()).ok()?;
        Some(Patient {
            limit: wished.min(app.config.longest_wait),
            seat,
        })
    }
}

impl IntoResponseParts for Applied {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Some(seconds) = self.0
            && let Ok(value) = HeaderValue::from_str(&format!("wait={seconds}"))
        {
            parts.headers_mut().insert(APPLIED, value);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_counts_and_what_cannot_be_read_is_none() {
        for (lines, expected) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, Wait = \"7\"; x=y"], Some(7)),
            (&["return=minimal", "wait=5", "wait=6"], Some(5)),
            (&["wait=60"], Some(60)),
            (&["wait=61"], Some(60)),
            (&["wait=0"], None),
            (&["wait=-1"], None),
            (&["wait=99999999999999999999"], None),
            (&["wait"], None),
            (&["waiting=5"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFER, HeaderValue::from_static(line));
            }
            assert_eq!(seconds(&headers), expected, "{lines:?}");
        }
    }
}
