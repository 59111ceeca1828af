//! The state of the horde as a whole.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ordu_api::ReturnCode;
use ordu_api::status::{MODES_SCHEMA, ModelStatus, Modes, ModesChange, NewsPiece, Performance};
use ordu_api::worker::WorkKind;
use ordu_core::model_reference::is_special;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::{Deed, same_members};
use crate::error::{ApiError, ApiResult};
use crate::extract::{OptionalKey, read_loosely};

/// `GET /status/performance`
pub(crate) async fn performance(State(app): State<Arc<App>>) -> Json<Performance> {
    Json(app.live().horde.performance(app.clock.now()))
}

/// Which models to list.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelFilter {
    #[serde(rename = "type")]
    kind: Option<String>,
    min_count: Option<String>,
    max_count: Option<String>,
    model_state: Option<String>,
}

/// `GET /status/models`
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Query(filter): Query<ModelFilter>,
) -> ApiResult<Json<Vec<ModelStatus>>> {
    let kind = filter.kind.as_deref().unwrap_or("image");
    let min = read_count("min_count", filter.min_count.as_deref(), i64::MIN)?;
    let max = read_count("max_count", filter.max_count.as_deref(), i64::MAX)?;
    let state = filter.model_state.as_deref().unwrap_or("all");
    let is_wanted = read_model_state(state).ok_or_else(|| {
        let message = format!("`model_state` is '{state}': use all, known or custom");
        ApiError::refused(ReturnCode::BadRequest, message)
    })?;
    let kind = match kind {
        "image" => WorkKind::Image,
        "text" => WorkKind::Text,
        // Nothing of another kind has models.
        _ => return Ok(Json(Vec::new())),
    };
    let reference = app.reference();
    let mut models = app.live().horde.models(kind, app.clock.now());
    models.retain(|model| {
        let count = i64::try_from(model.count).unwrap_or(i64::MAX);
        (min..=max).contains(&count) && is_wanted(reference.knows(kind, &model.name))
    });
    Ok(Json(models))
}

/// Which models a word means, by whether they are known.
pub(super) fn read_model_state(word: &str) -> Option<fn(bool) -> bool> {
    match word {
        "all" => Some(|_| true),
        "known" => Some(|known| known),
        "custom" => Some(|known| !known),
        _ => None,
    }
}

fn read_count(name: &str, text: Option<&str>, default: i64) -> ApiResult<i64> {
    let wrong = || ApiError::field(name, "not a whole number");
    text.map_or(Ok(default), |text| text.parse().map_err(|_| wrong()))
}

/// `GET /status/models/{name}`: none or one, of those that are known or special; the name may be
/// encoded twice.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Json<Vec<ModelStatus>> {
    let decoded = decode_again(&name);
    let reference = app.reference();
    let looked_up = [&decoded, &name].into_iter().find_map(|name| {
        let is_known = |kind: &WorkKind| reference.knows(*kind, name);
        let known = WorkKind::ALL.into_iter().find(is_known);
        let kind = known.or(is_special(name).then_some(WorkKind::Image))?;
        Some((kind, name))
    });
    let now = app.clock.now();
    let shown = looked_up.map(|(kind, name)| app.live().horde.model(kind, name, now));
    Json(shown.into_iter().collect())
}

/// Undoes one layer of percent encoding; the router has undone the first.
fn decode_again(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        let hex = rest.as_slice().get(..2).filter(|_| *byte == b'%');
        let value = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = rest.as_slice().get(2..).unwrap_or_default().iter();
            }
            None => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The largest document of news, in bytes.
const MAX_NEWS_BYTES: u64 = 1 << 20;

/// `GET /status/news`: the operator's document, newest first. What cannot be read is no news.
pub(crate) async fn news(State(app): State<Arc<App>>) -> Json<Vec<NewsPiece>> {
    let Some(file) = &app.config.news else {
        return Json(Vec::new());
    };
    match read_news(file).await {
        Ok(news) => Json(news),
        Err(error) => {
            tracing::warn!(%error, "the document of news cannot be read");
            Json(Vec::new())
        }
    }
}

async fn read_news(file: &std::path::Path) -> std::io::Result<Vec<NewsPiece>> {
    let mut text = Vec::new();
    let opened = tokio::fs::File::open(file).await?;
    opened.take(MAX_NEWS_BYTES).read_to_end(&mut text).await?;
    let mut news: Vec<NewsPiece> = serde_json::from_slice(&text)?;
    // Stable: pieces of one day stay in the document's order.
    news.sort_by(|a, b| b.date_published.cmp(&a.date_published));
    Ok(news)
}

/// `GET /status/modes`: raid mode is for moderators.
pub(crate) async fn modes(
    State(app): State<Arc<App>>,
    OptionalKey(key): OptionalKey,
) -> ApiResult<Json<Modes>> {
    let modes = app.modes();
    let Some(key) = key else {
        return Ok(Json(Modes {
            raid_mode: None,
            ..modes
        }));
    };
    let account = app.accounts.by_key(&key).await?;
    if !app.is_moderator(&account) {
        let message = "Only moderators see all modes; ask without a key for the public ones";
        return Err(ApiError::refused(ReturnCode::NotModerator, message));
    }
    Ok(Json(modes))
}

/// `PUT /status/modes`: any of the three switches.
pub(crate) async fn set_modes(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    body: Body,
) -> ApiResult<Json<ModesChange>> {
    let mut wanted = Value::Object(read_loosely(body).await?);
    let account = app.accounts.by_key(&key.require()?).await?;
    MODES_SCHEMA.check(&mut wanted)?;
    let change: ModesChange = serde_json::from_value(wanted)
        .map_err(|error| ApiError::plain(StatusCode::BAD_REQUEST, error.to_string()))?;
    check_switcher(&app, &account, change)?;
    if change == ModesChange::default() {
        let message = "Nothing to change: send at least one of the three modes";
        return Err(ApiError::refused(ReturnCode::NoHordeModSelected, message));
    }
    let before = app.modes();
    let modes = Modes {
        maintenance_mode: change.maintenance_mode.unwrap_or(before.maintenance_mode),
        invite_only_mode: change.invite_only_mode.unwrap_or(before.invite_only_mode),
        raid_mode: change.raid_mode.or(before.raid_mode),
    };
    let shown = serde_json::to_value(before).unwrap_or_default();
    let after = serde_json::to_value(change).unwrap_or_default();
    let deed = Deed::new(account.user.id, "modes.update", "horde", "modes")
        .change(same_members(&shown, &after), after);
    app.recorded(deed, app.set_modes(modes)).await?;
    if modes.maintenance_mode && !before.maintenance_mode {
        let this = Arc::clone(&app);
        app.tracker.spawn(async move { this.abort_waiting().await });
    }
    Ok(Json(change))
}

/// Whether somebody may turn these switches.
fn check_switcher(app: &App, account: &Account, change: ModesChange) -> ApiResult<()> {
    let is_admin = app.is_admin(account.user.id);
    if change.maintenance_mode.is_some() && !is_admin {
        let message = "Only admins switch this";
        return Err(ApiError::refused(ReturnCode::NotAdmin, message));
    }
    let switches = change.invite_only_mode.is_some() || change.raid_mode.is_some();
    if switches && !app.is_moderator(account) {
        let message = "Only moderators switch this";
        return Err(ApiError::refused(ReturnCode::NotModerator, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::decode_again;

    #[test]
    fn a_second_layer_of_encoding_is_undone() {
        assert_eq!(decode_again("koboldcpp%2Fa%20b"), "koboldcpp/a b");
        assert_eq!(decode_again("100%"), "100%");
        assert_eq!(decode_again("%zz%4"), "%zz%4");
    }
}
