//! Why nobody takes a request, for those who ask with `explain=true`.
//!
//! Each answer compares the request with every worker, so only a few are made at once, and each
//! lets go of the horde after every bite.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use ordu_api::RequestId;
use ordu_api::explanation::Explanation;
use ordu_core::horde::Examined;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// So many explanations are made at once; others wait.
const MAX_AT_ONCE: usize = 2;

/// Those who make explanations.
pub(crate) struct Explainer {
    seats: Semaphore,
}

impl Default for Explainer {
    fn default() -> Self {
        Self {
            seats: Semaphore::new(MAX_AT_ONCE),
        }
    }
}

/// Whether a client wants to know why nobody takes its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Explain {
    No,
    Yes,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    explain: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Explain {
    type Rejection = ApiError;

    /// Whatever is no yes is a no, as if nobody had heard of it.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let wanted = Query::<Wanted>::try_from_uri(&parts.uri);
        let said = wanted.ok().and_then(|Query(wanted)| wanted.explain);
        Ok(match said.as_deref() {
            Some("true" | "1") => Self::Yes,
            _ => Self::No,
        })
    }
}

impl App {
    /// The explanation, if it is wanted, of a request that is in the live horde.
    pub(crate) async fn explanation(
        self: &Arc<Self>,
        id: RequestId,
        explain: Explain,
    ) -> ApiResult<Option<Box<Explanation>>> {
        if explain == Explain::No {
            return Ok(None);
        }
        let seat = self.explainer.seats.acquire().await;
        let _seat = seat.map_err(|error| ApiError::Internal(error.to_string()))?;
        let question = self.live().horde.question(id);
        let Some(question) = question else {
            return Ok(None);
        };
        let mut inquiry = question.prepare();
        let now = self.clock.now();
        loop {
            let examined = self.live().horde.examine(&mut inquiry, now);
            if examined == Examined::Wholly {
                break;
            }
            // Whoever waits for the horde comes first.
            tokio::task::yield_now().await;
        }
        Ok(Some(Box::new(inquiry.explain())))
    }
}
