//! What the horde made: all in all and by model.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::ReturnCode;
use ordu_api::status::{ImageCount, ModelCounts, TextCount, Totals};
use ordu_api::worker::WorkKind;
use ordu_store::{Count, Windows};
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
