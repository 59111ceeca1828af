//! The horde at work, for onlookers.
//!
//! # Source
//! `platform.md` § 5; `docs/decisions/0010`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use ordu_api::mask::Mask;

use crate::address::Client;
use crate::app::App;
use crate::error::ApiResult;
use crate::push::pulse::Onlooker;
use crate::transport;

/// How long a browser waits before it comes back.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// `GET /status/pulse`: a stream of server-sent events, without an end and without a key.
pub(crate) async fn pulse(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mask = transport::read_mask(&headers)?;
    let seat = app.push.seats.take(client.network())?;
    seat.wait();
    let onlooker = Onlooker::enter(&app, seat);
    let keep_alive = KeepAlive::new().interval(app.config.keep_alive);
    let stream = futures::stream::unfold((onlooker, mask), async |(mut onlooker, mask)| {
        let pulse = onlooker.next().await?;
        let event = frame(&pulse, mask.as_ref());
        Some((Ok::<_, Infallible>(event), (onlooker, mask)))
    });
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    Ok((headers, Sse::new(stream).keep_alive(keep_alive)).into_response())
}

fn frame(pulse: &str, mask: Option<&Mask>) -> sse::Event {
    let event = sse::Event::default().event("pulse").retry(RETRY_AFTER);
    match mask {
        None => event.data(pulse),
        Some(mask) => {
            let data = serde_json::from_str(pulse).unwrap_or_default();
            event.data(mask.apply(data).to_string())
        }
    }
}
