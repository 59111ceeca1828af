//! What the horde made: all in all and by model.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::ReturnCode;
use ordu_api::history::History;
use ordu_api::status::{ImageCount, ModelCounts, TextCount, Totals};
use ordu_api::worker::WorkKind;
use ordu_core::Timestamp;
use ordu_store::{Count, Step, Windows};
use serde::Deserialize;

use super::status::read_model_state;
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// `GET /stats/img/totals`
pub(crate) async fn image_totals(
    State(app): State<Arc<App>>,
) -> ApiResult<Json<Totals<ImageCount>>> {
    let windows = app.statistics().await?.totals(WorkKind::Image);
    Ok(Json(totals(windows, |count| ImageCount {
        images: count.jobs,
        ps: count.things,
    })))
}

/// `GET /stats/text/totals`
pub(crate) async fn text_totals(State(app): State<Arc<App>>) -> ApiResult<Json<Totals<TextCount>>> {
    let windows = app.statistics().await?.totals(WorkKind::Text);
    Ok(Json(totals(windows, |count| TextCount {
        requests: count.jobs,
        tokens: count.things,
    })))
}

fn totals<T>(windows: Windows, show: impl Fn(Count) -> T) -> Totals<T> {
    Totals {
        minute: show(windows.minute),
        hour: show(windows.hour),
        day: show(windows.day),
        month: show(windows.month),
        total: show(windows.total),
    }
}

/// Which models to count.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelFilter {
    model_state: Option<String>,
}

/// `GET /stats/img/models`: known ones if nothing else is asked for.
pub(crate) async fn image_models(
    State(app): State<Arc<App>>,
    Query(filter): Query<ModelFilter>,
) -> ApiResult<Json<ModelCounts>> {
    let state = filter.model_state.as_deref().unwrap_or("known");
    let is_wanted = read_model_state(state).ok_or_else(|| {
        let message = format!("`model_state` is '{state}': use known, custom or all");
        ApiError::refused(ReturnCode::BadRequest, message)
    })?;
    let mut counts = model_counts(&app, WorkKind::Image).await?;
    let reference = app.reference();
    let is_shown = |name: &String| is_wanted(reference.knows(WorkKind::Image, name));
    for models in [&mut counts.day, &mut counts.month, &mut counts.total] {
        models.retain(|name, _| is_shown(name));
    }
    Ok(Json(counts))
}

/// `GET /stats/text/models`
pub(crate) async fn text_models(State(app): State<Arc<App>>) -> ApiResult<Json<ModelCounts>> {
    model_counts(&app, WorkKind::Text).await.map(Json)
}

async fn model_counts(app: &App, kind: WorkKind) -> ApiResult<ModelCounts> {
    let counts = app.statistics().await?.models(kind);
    Ok(ModelCounts {
        day: counts.day,
        month: counts.month,
        total: counts.total,
    })
}

/// Which series.
#[derive(Debug, Deserialize)]
pub(crate) struct SeriesFilter {
    kind: Option<String>,
    step: Option<String>,
    since: Option<String>,
}

/// `GET /stats/history`: what was made over time, and how busy the horde was.
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Query(filter): Query<SeriesFilter>,
) -> ApiResult<Json<History>> {
    let kind = filter.kind.as_deref().unwrap_or("image");
    let is_meant = |known: &WorkKind| known.plain_name() == kind;
    let kind = WorkKind::ALL.into_iter().find(is_meant).ok_or_else(|| {
        let message = format!("'{kind}' is none: use image, text or alchemy");
        ApiError::field("kind", message)
    })?;
    let (step, usual) = match filter.step.as_deref() {
        None | Some("hour") => (Step::Hour, 48),
        Some("day") => (Step::Day, 30),
        Some(other) => {
            let message = format!("'{other}' is none: use hour or day");
            return Err(ApiError::field("step", message));
        }
    };
    let since = match filter.since.as_deref() {
        Some(text) => {
            let seconds: Result<i64, _> = text.parse();
            let wrong = |_| ApiError::field("since", "not a whole number of Unix seconds");
            Timestamp(seconds.map_err(wrong)?.saturating_mul(1000))
        }
        None => Timestamp(app.clock.now().0 - step.span().0 * (usual - 1)),
    };
    Ok(Json(History {
        kind: kind.plain_name().to_owned(),
        step: match step {
            Step::Hour => "hour",
            Step::Day => "day",
        }
        .to_owned(),
        buckets: app.history(kind, step, since).await?,
    }))
}
