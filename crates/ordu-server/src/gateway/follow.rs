//! Looking after a request on behalf of a call, until it is done or the caller hangs up.

use std::sync::Arc;

use ordu_api::event::Event;
use ordu_api::image::ImageRequest;
use ordu_api::{ApiKey, JobId, RequestId};
use ordu_core::horde::JobState;
use serde::Serialize;

use super::Caller;
use super::refusal::{GatewayError, GatewayResult, failure};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::Input;
use crate::push::seats::Seat;
use crate::push::viewer::Viewer;
use crate::routes::request::{self, Answer, Asked, Wish};
use crate::routes::text::SeeingText;

/// A request that a call waits for. Who lets go of it before its end cancels it.
pub(crate) struct Follower {
    app: Arc<App>,
    request: RequestId,
    viewer: Viewer,
    ended: bool,
}

/// What the horde knows how to ask for by the gateway.
pub(crate) trait Wanted: Wish + Input + Serialize + Send + 'static {}

impl Wanted for SeeingText {}

impl Wanted for ImageRequest {}

impl Follower {
    /// Asks the horde for something.
    pub(crate) async fn ask<W: Wanted>(
        app: &Arc<App>,
        caller: &Caller,
        request: W,
    ) -> GatewayResult<Self> {
        check(&request)?;
        let origin = caller.again();
        // Who may not wait should not ask.
        let seat = app.push.seats.take(origin.client.network())?;
        seat.wait();
        let asked = Asked {
            request,
            agent: origin.agent.0,
            client: origin.client,
            styled: None,
            attempt: None,
        };
        // Of who hangs up meanwhile nobody takes the follower, and it cancels.
        let asking = Box::pin(Self::accept(
            Arc::clone(app),
            caller.key.clone(),
            asked,
            seat,
        ));
        app.complete(async move { Ok(asking.await) }).await?
    }

    async fn accept<W: Wanted>(
        app: Arc<App>,
        key: ApiKey,
        asked: Asked<W>,
        seat: Seat,
    ) -> GatewayResult<Self> {
        let Answer::Accepted(accepted) = request::ask(&app, &key, asked).await? else {
            return Err(ApiError::Internal("a call cannot ask for a price".to_owned()).into());
        };
        let Some(viewer) = Viewer::open(&app, accepted.id, None, seat) else {
            return Err(GatewayError::failed(lost()));
        };
        // From here on it is cancelled when nobody wants it any more.
        let follower = Self {
            app,
            request: accepted.id,
            viewer,
            ended: false,
        };
        if !accepted.possible {
            let message = "No worker that is here just now can do this: another model, a smaller \
                           picture or a shorter text may go";
            return Err(GatewayError::failed(failure("no_worker", message)));
        }
        Ok(follower)
    }

    /// The request.
    pub(crate) const fn request(&self) -> RequestId {
        self.request
    }

    /// Whether a job is still at work.
    pub(crate) fn is_running(&self, job: JobId) -> bool {
        let live = self.app.live();
        let job = live.horde.job(job);
        job.is_some_and(|job| job.state == JobState::Running)
    }

    /// Lets the request come to its end by itself: what the caller wanted is there.
    pub(crate) const fn leave(&mut self) {
        self.ended = true;
    }

    /// What happens next; `None` after the last event, and when the server ends.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let (_, event) = self.viewer.next().await?;
        self.ended = event.is_last();
        Some(event)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (app, id) = (Arc::clone(&self.app), self.request);
        self.app.tracker.spawn(async move {
            if request::cancel(&app, id).await.is_err() {
                // It ends by itself when its time is over.
                tracing::warn!(request.id = %id, "a call that nobody waits for was not cancelled");
            }
        });
    }
}

/// The gateway's requests are held against the same tables as all others.
fn check<W: Wanted>(request: &W) -> GatewayResult<()> {
    let mut value =
        serde_json::to_value(request).map_err(|error| ApiError::Internal(error.to_string()))?;
    W::SCHEMA.check(&mut value)?;
    Ok(())
}

/// A request ended without a result.
pub(crate) fn lost() -> ordu_api::openai::Problem {
    failure(
        "faulted",
        "The workers that took this could not finish it: ask again",
    )
}
