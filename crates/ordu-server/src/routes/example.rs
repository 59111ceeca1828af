//! Examples of styles: added, changed, deleted.
//!
//! # Source
//! `community.md` § 8.2, § 8.3; `observed.md` 33, 34.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::style::{ExampleChange, ExampleForm, ExampleSaved};
use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, StyleExampleId};
use ordu_core::style::rules;
use ordu_store::{Example, ExampleAdded, Precedence, Style};
use serde_json::{Value, json};
use uuid::Uuid;

use super::style::{check_keeper, find, missing};
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};

/// `POST /styles/image/{id}/example`
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(form): Checked<ExampleForm>,
) -> ApiResult<Json<ExampleSaved>> {
    let style = find_for_pictures(&app, &id).await?;
    let deed = keep(&app, key, &style).await?;
    rules::check_example_url(&form.url)?;
    let example = Example {
        id: StyleExampleId::from_uuid(Uuid::new_v4()),
        url: form.url,
        primary: form.primary,
    };
    let inserted = app
        .store
        .insert_example(style.id, &example, rules::MAX_EXAMPLES);
    let added = app
        .recorded(deed, inserted)
        .await
        .map_err(|error| gone(error, &id))?;
    match added {
        ExampleAdded::Done => Ok(Json(ExampleSaved::new(example.id))),
        ExampleAdded::Known => Err(in_use()),
        ExampleAdded::Full => {
            let most = rules::MAX_EXAMPLES;
            let message = format!("A style has at most {most} examples, delete one first");
            Err(ApiError::refused(ReturnCode::TooManyStyleExamples, message))
        }
    }
}

/// `PATCH /styles/image/{id}/example/{example}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path((id, example)): Path<(String, String)>,
    Checked(change): Checked<ExampleChange>,
) -> ApiResult<Json<ExampleSaved>> {
    let style = find_for_pictures(&app, &id).await?;
    let example = find_example(&app, &style, &example).await?;
    let deed = keep(&app, key, &style).await?;
    if let Some(url) = &change.url {
        rules::check_example_url(url)?;
    }
    if example.primary && change.primary == Some(false) {
        let message = "One example is the primary one: make another one it instead";
        return Err(ApiError::refused(ReturnCode::BadRequest, message));
    }
    let precedence = match change.primary {
        Some(true) => Precedence::Primary,
        _ => Precedence::Unchanged,
    };
    let url = change.url.as_deref();
    let updated = app
        .store
        .update_example(style.id, example.id, url, precedence);
    app.recorded(deed, updated)
        .await
        .map_err(|error| gone(error, &example.id.to_string()))?;
    Ok(Json(ExampleSaved::new(example.id)))
}

/// `DELETE /styles/image/{id}/example/{example}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path((id, example)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let style = find_for_pictures(&app, &id).await?;
    let example = find_example(&app, &style, &example).await?;
    let deed = keep(&app, key, &style).await?;
    app.recorded(deed, app.store.delete_example(style.id, example.id))
        .await
        .map_err(|error| gone(error, &example.id.to_string()))?;
    Ok(Json(json!({ "message": "OK" })))
}

async fn find_for_pictures(app: &App, id: &str) -> ApiResult<Style> {
    let style = find(app, id).await?;
    if style.kind != WorkKind::Image {
        let message = "Styles for texts have no examples";
        return Err(ApiError::refused(ReturnCode::BadRequest, message));
    }
    Ok(style)
}

/// The example of this id, if it is one of this style.
async fn find_example(app: &App, style: &Style, id: &str) -> ApiResult<Example> {
    let parsed: StyleExampleId = id.parse().map_err(|_| no_example(id))?;
    let mut examples = app.store.list_examples(&[style.id]).await?;
    let of_style = examples.remove(&style.id).unwrap_or_default();
    let found = of_style.into_iter().find(|example| example.id == parsed);
    found.ok_or_else(|| no_example(id))
}

fn no_example(id: &str) -> ApiError {
    let message = format!("This style has no example '{id}'");
    ApiError::refused(ReturnCode::StyleExampleNotFound, message)
}

/// Lets owners and moderators through; of what moderators do the audit log speaks.
async fn keep(app: &App, key: OptionalKey, style: &Style) -> ApiResult<Option<Deed>> {
    let account = app.accounts.by_key(&key.require()?).await?;
    check_keeper(app, &account, style.owner)?;
    let keeper = account.user.id;
    Ok((keeper != style.owner).then(|| Deed::new(keeper, "style.examples", "style", style.id)))
}

fn in_use() -> ApiError {
    let message = "The style has an example with this link already";
    ApiError::refused(ReturnCode::ExampleURLAlreadyInUse, message)
}

/// Somebody deleted it meanwhile, or was faster.
fn gone(error: ordu_store::Error, what: &str) -> ApiError {
    match error {
        ordu_store::Error::NotFound => missing(what),
        ordu_store::Error::Taken => in_use(),
        other => other.into(),
    }
}
