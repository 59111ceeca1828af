//! What happens to a request while it happens: workers tell how far they are, others look on.
//!
//! # Source
//! `platform.md` § 4; `docs/decisions/0010`.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, ImageReader};
use ordu_api::ReturnCode;
use ordu_api::event::{Event, Heard, JobProgress};
use ordu_api::mask::Mask;
use ordu_core::horde::JobState;

use super::{job, request};
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, ClientAgent, OptionalKey};
use crate::push::log::Mark;
use crate::push::viewer::Viewer;
use crate::transport;

/// The longest side of a preview, in pixels.
const MAX_PREVIEW_SIDE: u32 = 1024;

/// `POST /generate/progress`: passed on to whoever looks, never stored.
pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(progress): Checked<JobProgress>,
) -> ApiResult<Json<Heard>> {
    let key = key.require()?;
    let id = job::known_job(&app, &progress.id, None).await?;
    let account = app.accounts.by_key(&key).await?;
    let found = {
        let live = app.live();
        let job = live.horde.job(id);
        let job = job.filter(|job| job.owner == account.user.id);
        job.filter(|job| job.state == JobState::Running)
            .map(|job| (job.request, job.decoy))
    };
    let Some((request, is_decoy)) = found else {
        let message = "Wrong credentials: this is no running job of yours";
        return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
    };
    if let Some(preview) = &progress.preview {
        check_preview(preview).map_err(|complaint| ApiError::field("preview", complaint))?;
    }
    if is_decoy {
        // It must look like any other job.
        return Ok(Json(Heard::default()));
    }
    app.watch.report(request, id, progress.steps);
    let elsewhere = app.pass_on(request, id, &progress);
    let now = app.clock.now();
    let here = app.push.watching.report(request, id, progress, now);
    let watched = here || elsewhere;
    Ok(Json(Heard { watched }))
}

/// Pictures are shown to people by programs: they must be what they say, and small.
fn check_preview(preview: &str) -> Result<(), String> {
    let bytes = STANDARD
        .decode(preview)
        .map_err(|error| format!("is not base64: {error}"))?;
    let wrong = || "is neither a WebP nor a JPEG nor a PNG".to_owned();
    let reader = ImageReader::new(Cursor::new(bytes));
    let reader = reader.with_guessed_format().map_err(|_| wrong())?;
    match reader.format() {
        Some(ImageFormat::WebP | ImageFormat::Jpeg | ImageFormat::Png) => {}
        _ => return Err(wrong()),
    }
    let (width, height) = reader.into_dimensions().map_err(|_| wrong())?;
    if width.max(height) > MAX_PREVIEW_SIDE {
        return Err(format!(
            "is {width}x{height} pixels: at most {MAX_PREVIEW_SIDE} a side"
        ));
    }
    Ok(())
}

/// `GET /generate/events/{id}`: a stream of server-sent events.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    (client, ClientAgent(agent)): (Client, ClientAgent),
    headers: HeaderMap,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    request::check_looker(&app, &agent, client.ip)?;
    let id = request::read_id(&id)?;
    let mask = transport::read_mask(&headers)?;
    request::find_generation(&app, id).await?;
    let seat = app.push.seats.take(client.network())?;
    seat.wait();
    let last = headers.get("last-event-id");
    let last = last.and_then(|last| last.to_str().ok()?.trim().parse::<Mark>().ok());
    let Some(viewer) = Viewer::open(&app, id, last, seat) else {
        // Tells a browser not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let keep_alive = KeepAlive::new().interval(app.config.keep_alive);
    let stream = futures::stream::unfold((viewer, mask), async |(mut viewer, mask)| {
        let (mark, event) = viewer.next().await?;
        let event = frame(mark, &event, mask.as_ref());
        Some((Ok::<_, Infallible>(event), (viewer, mask)))
    });
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    Ok((headers, Sse::new(stream).keep_alive(keep_alive)).into_response())
}

fn frame(mark: Mark, event: &Event, mask: Option<&Mask>) -> sse::Event {
    let data = event.data().unwrap_or_default();
    let data = match mask {
        Some(mask) => mask.apply(data),
        None => data,
    };
    sse::Event::default()
        .id(mark.to_string())
        .event(event.name())
        .data(data.to_string())
}
