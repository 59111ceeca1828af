//! The moderators' prompt filters.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use ordu_api::filter::{FilterChange, FilterRegex, FilterVerdict, FilterView, NewFilter};
use ordu_api::operation::Done;
use ordu_api::{ReturnCode, UserId};
use ordu_core::filter::FilterSet;
use ordu_store::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::moderator;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, Input, MAX_JSON_BYTES, OptionalKey};

impl Input for NewFilter {
    const SCHEMA: ordu_api::schema::Schema = ordu_api::filter::NEW_SCHEMA;
}

impl Input for FilterChange {
    const SCHEMA: ordu_api::schema::Schema = ordu_api::filter::CHANGE_SCHEMA;
}

/// Which filters to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    filter_type: Option<String>,
    contains: Option<String>,
}

impl Wanted {
    fn kind(&self) -> ApiResult<Option<i64>> {
        let wrong = || ApiError::field("filter_type", "not a whole number");
        let read = |text: &String| text.parse().map_err(|_| wrong());
        self.filter_type.as_ref().map(read).transpose()
    }
}

/// `GET /filters`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<FilterView>>> {
    let key = key.require()?;
    let kind = wanted.kind()?;
    moderator(&app, &key).await?;
    let is_wanted = |filter: &Filter| {
        let of_kind = kind.is_none_or(|kind| i64::from(filter.kind) == kind);
        let has = |text: &str| {
            let in_description = filter
                .description
                .as_ref()
                .is_some_and(|d| d.contains(text));
            filter.regex.contains(text) || in_description
        };
        of_kind && wanted.contains.as_deref().is_none_or(has)
    };
    let mut views = Vec::new();
    for filter in app.store.list_filters().await? {
        if is_wanted(&filter) {
            views.push(view(&app, filter).await?);
        }
    }
    Ok(Json(views))
}

async fn view(app: &App, filter: Filter) -> ApiResult<FilterView> {
    let editor = app.accounts.by_id(filter.editor).await?;
    Ok(FilterView {
        id: filter.id.to_string(),
        regex: filter.regex,
        filter_type: filter.kind,
        description: filter.description,
        replacement: filter.replacement,
        user: editor.map_or_else(|| format!("#{}", filter.editor), |account| account.alias()),
    })
}

/// `PUT /filters`: an expression that is there already stays as it is.
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(new): Checked<NewFilter>,
) -> ApiResult<Json<FilterView>> {
    let editor = moderator(&app, &key.require()?).await?.user.id;
    check_text([
        &new.regex,
        &new.replacement,
        new.description.as_deref().unwrap_or(""),
    ])?;
    let row = ordu_store::NewFilter {
        regex: new.regex,
        kind: new.filter_type,
        description: new.description,
        replacement: new.replacement,
        editor,
    };
    let mut list = app.store.list_filters().await?;
    let same = list
        .iter()
        .find(|filter| filter.kind == row.kind && filter.regex == row.regex);
    if let Some(filter) = same {
        return view(&app, filter.clone()).await.map(Json);
    }
    list.push(candidate(i64::MAX, &row, editor));
    check_set(&app, &list, &row.regex).await?;
    let deed = Deed::new(editor, "filter.create", "filter", &row.regex).change(
        json!({}),
        json!({
            "regex": row.regex, "filter_type": row.kind, "description": row.description,
            "replacement": row.replacement,
        }),
    );
    let filter = app.recorded(deed, app.store.insert_filter(&row)).await?;
    app.guard.filters.refresh(&app.store).await?;
    tracing::info!(user.id = %editor, filter.id = filter.id, "a filter was made");
    view(&app, filter).await.map(Json)
}

fn candidate(id: i64, new: &ordu_store::NewFilter, editor: UserId) -> Filter {
    Filter {
        id,
        regex: new.regex.clone(),
        kind: new.kind,
        description: None,
        replacement: new.replacement.clone(),
        editor,
    }
}

/// Refuses an expression that cannot be used, alone or with the others.
async fn check_set(app: &App, list: &[Filter], regex: &str) -> ApiResult<()> {
    let refuse = |message: String| ApiError::refused(ReturnCode::BadRequest, message);
    FilterSet::check(regex).map_err(|error| refuse(error.to_string()))?;
    let compiled = app.guard.filters.compile(list).await;
    compiled
        .map(|_| ())
        .map_err(|error| refuse(error.to_string()))
}

fn check_text<const N: usize>(texts: [&str; N]) -> ApiResult<()> {
    if texts.iter().any(|text| text.contains('\0')) {
        let message = "A NUL character cannot be stored";
        return Err(ApiError::refused(ReturnCode::NulByteInPayload, message));
    }
    Ok(())
}

/// `POST /filters`: what a prompt would be found to hold. Nothing comes of it.
pub(crate) async fn try_prompt(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    body: Body,
) -> ApiResult<Json<FilterVerdict>> {
    let key = key.require()?;
    let (prompt, kind) = read_prompt(body).await?;
    let account = app.accounts.by_key(&key).await?;
    let is_checker = app.config.guard.filter_checkers.contains(&account.user.id);
    if !is_checker {
        moderator(&app, &key).await?;
    }
    let set = app.guard.filters.set();
    let verdict = match kind {
        Some(kind) => set.judge_by(kind, &prompt),
        None => set.judge(&prompt),
    };
    Ok(Json(FilterVerdict {
        suspicion: verdict.suspicion.to_string(),
        matches: verdict.matches,
    }))
}

/// The form of this body is not complained about, only what is missing in it.
async fn read_prompt(body: Body) -> ApiResult<(String, Option<u8>)> {
    let bytes = to_bytes(body, MAX_JSON_BYTES).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let prompt = body.get("prompt").and_then(Value::as_str);
    let prompt = prompt.ok_or_else(|| ApiError::field("prompt", "a text is required"))?;
    let kind = match body.get("filter_type") {
        None => None,
        Some(value) => {
            let wrong = || ApiError::field("filter_type", "not a whole number");
            let number = value.as_i64().ok_or_else(wrong)?;
            // A type that no filter can have finds nothing.
            Some(u8::try_from(number).unwrap_or(0))
        }
    };
    Ok((prompt.to_owned(), kind))
}

/// `GET /filters/regex`: the expressions in use, joined by type.
pub(crate) async fn regexes(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<FilterRegex>>> {
    let key = key.require()?;
    let kind = wanted.kind()?;
    moderator(&app, &key).await?;
    let set = app.guard.filters.set();
    let of_kind = set
        .regexes()
        .filter(|(filter_type, _)| kind.is_none_or(|kind| i64::from(*filter_type) == kind));
    let joined = of_kind.map(|(filter_type, regex)| FilterRegex {
        filter_type,
        regex: regex.to_owned(),
    });
    Ok(Json(joined.collect()))
}

/// `GET /filters/{id}`
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<FilterView>> {
    moderator(&app, &key.require()?).await?;
    let filter = find(&app.store.list_filters().await?, &id)?;
    view(&app, filter).await.map(Json)
}

fn find(list: &[Filter], id: &str) -> ApiResult<Filter> {
    let number: Option<i64> = id.parse().ok();
    let found = list.iter().find(|filter| Some(filter.id) == number);
    found.cloned().ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> ApiError {
    ApiError::refused(
        ReturnCode::FilterNotFound,
        format!("Filter '{id}' not found"),
    )
}

/// A filter as the audit log shows it.
fn shown(filter: &Filter) -> Value {
    json!({
        "regex": filter.regex, "filter_type": filter.kind, "description": filter.description,
        "replacement": filter.replacement,
    })
}

/// `PATCH /filters/{id}`
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(change): Checked<FilterChange>,
) -> ApiResult<Json<FilterView>> {
    let editor = moderator(&app, &key.require()?).await?.user.id;
    let mut list = app.store.list_filters().await?;
    let mut filter = find(&list, &id)?;
    if change == FilterChange::default() {
        let message = "Nothing to change: send at least one member of the filter";
        return Err(ApiError::refused(ReturnCode::NoFilterModSelected, message));
    }
    let before = shown(&filter);
    filter.regex = change.regex.unwrap_or(filter.regex);
    filter.kind = change.filter_type.unwrap_or(filter.kind);
    filter.description = change.description.or(filter.description);
    filter.replacement = change.replacement.unwrap_or(filter.replacement);
    filter.editor = editor;
    let description = filter.description.as_deref().unwrap_or("");
    check_text([&filter.regex, &filter.replacement, description])?;
    for other in &mut list {
        if other.id == filter.id {
            other.clone_from(&filter);
        }
    }
    check_set(&app, &list, &filter.regex).await?;
    let deed = Deed::new(editor, "filter.update", "filter", filter.id);
    let deed = deed.change(before, shown(&filter));
    match app.recorded(deed, app.store.update_filter(&filter)).await {
        Err(ordu_store::Error::NotFound) => return Err(not_found(&id)),
        Err(ordu_store::Error::Taken) => {
            let message = "Another filter of this type has this expression";
            return Err(ApiError::refused(ReturnCode::BadRequest, message));
        }
        other => other?,
    }
    app.guard.filters.refresh(&app.store).await?;
    tracing::info!(user.id = %editor, filter.id = filter.id, "a filter was changed");
    view(&app, filter).await.map(Json)
}

/// `DELETE /filters/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Done>> {
    let editor = moderator(&app, &key.require()?).await?.user.id;
    let filter = find(&app.store.list_filters().await?, &id)?;
    let number = filter.id;
    let deed = Deed::new(editor, "filter.delete", "filter", number);
    let deed = deed.change(shown(&filter), json!({}));
    if !app.recorded(deed, app.store.delete_filter(number)).await? {
        return Err(not_found(&id));
    }
    app.guard.filters.refresh(&app.store).await?;
    tracing::info!(user.id = %editor, filter.id = number, "a filter was deleted");
    Ok(Json(Done::default()))
}
