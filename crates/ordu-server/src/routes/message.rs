//! Messages to workers: written, listed, read, deleted.
//!
//! # Source
//! `community.md` § 5.7; `observed.md` 4, 32.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ordu_api::message::{MessageInput, MessageView};
use ordu_api::{MessageId, ReturnCode, UserId, WorkerId};
use ordu_core::Millis;
use ordu_store::{Message, MessageFilter, Validity};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::{messages, text};

/// In whose name moderators speak if they do not say.
const MODERATORS: &str = "AI Horde Moderators";

/// For how many hours a message matters if nobody says.
const DEFAULT_HOURS: i64 = 12;

/// Which messages to list.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    user_id: Option<String>,
    worker_id: Option<String>,
    validity: Option<String>,
    page: Option<String>,
}

/// `GET /workers/messages`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<MessageView>>> {
    let validity = match wanted.validity.as_deref() {
        None | Some("active") => Some(Validity::Active),
        Some("expired") => Some(Validity::Expired),
        Some("all") => None,
        Some(_) => return Err(ApiError::field("validity", "active, expired or all")),
    };
    let author = read::<UserId>(wanted.user_id.as_deref(), "user_id")?;
    let worker = read::<WorkerId>(wanted.worker_id.as_deref(), "worker_id")?;
    let page = read::<i64>(wanted.page.as_deref(), "page")?.unwrap_or(1);
    let account = app.accounts.by_key(&key.require()?).await?;
    let is_moderator = app.is_moderator(&account);
    if !is_moderator && author.is_some_and(|author| author != account.user.id) {
        let message = "Only moderators read what others wrote";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    let filter = MessageFilter {
        author,
        worker,
        seen_by: (!is_moderator).then_some(account.user.id),
        validity,
    };
    let page = u32::try_from(page.max(1) - 1).unwrap_or(u32::MAX);
    let listed = app
        .store
        .list_messages(filter, app.clock.now(), page)
        .await?;
    Ok(Json(listed.iter().map(messages::view).collect()))
}

fn read<T: std::str::FromStr>(text: Option<&str>, name: &str) -> ApiResult<Option<T>> {
    let complaint = || ApiError::field(name, "it cannot be read");
    text.map(|text| text.parse().map_err(|_| complaint()))
        .transpose()
}

/// `POST /workers/messages`
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(input): Checked<MessageInput>,
) -> ApiResult<Json<MessageView>> {
    let worker = read::<WorkerId>(input.worker_id.as_deref(), "worker_id")?;
    let account = app.accounts.by_key(&key.require()?).await?;
    let is_own = check_sender(&app, &account, worker)?;
    let now = app.clock.now();
    let hours = input.expiry.unwrap_or(DEFAULT_HOURS);
    let message = Message {
        id: MessageId::from_uuid(Uuid::new_v4()),
        author: account.user.id,
        worker,
        message: text::clean(&input.message),
        origin: origin(&app, &account, input.origin),
        created: now,
        expires: now + Millis::from_minutes(hours * 60),
    };
    let after = json!({ "message": message.message, "worker": worker, "origin": message.origin });
    let deed = Deed::new(account.user.id, "message.send", "message", message.id);
    let deed = (!is_own).then(|| deed.change(json!({}), after));
    app.recorded(deed, app.store.insert_message(&message))
        .await?;
    let shown = messages::view(&message);
    app.messages.put(message);
    Ok(Json(shown))
}

/// Whether an account may write; says whether it is to a worker of its own.
fn check_sender(app: &App, account: &Account, worker: Option<WorkerId>) -> ApiResult<bool> {
    if account.user.id == UserId::ANONYMOUS {
        let message = "Anonymous users cannot write to workers";
        return Err(ApiError::refused(ReturnCode::AnonForbidden, message));
    }
    let known = match worker {
        Some(id) => Some(app.registry.by_id(id).ok_or_else(|| {
            let message = format!("Worker '{id}' not found");
            ApiError::refused(ReturnCode::WorkerNotFound, message)
        })?),
        None => None,
    };
    let is_own = known.is_some_and(|known| known.owner == account.user.id);
    if !is_own && !app.is_moderator(account) {
        let message = "Only moderators write to all workers or to those of others";
        return Err(ApiError::refused(
            ReturnCode::MessagesOnlyOwnWorkers,
            message,
        ));
    }
    Ok(is_own)
}

/// Only moderators speak in another name than their own.
fn origin(app: &App, account: &Account, wanted: Option<String>) -> String {
    if app.is_moderator(account) {
        wanted.map_or(MODERATORS.to_owned(), |origin| text::clean(&origin))
    } else {
        account.user.id.to_string()
    }
}

/// `PUT /workers/messages`: nobody can change a worker of this name, for it is not an id.
pub(crate) async fn unknown_worker() -> ApiError {
    let message = "`messages` is not the id of a worker";
    ApiError::plain(StatusCode::BAD_REQUEST, message)
}

/// `GET /workers/messages/{id}`
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<MessageView>> {
    let message = app.find_message(&id).await?.ok_or_else(|| missing(&id))?;
    Ok(Json(messages::view(&message)))
}

/// `DELETE /workers/messages/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let message = app.find_message(&id).await?.ok_or_else(|| missing(&id))?;
    let account = app.accounts.by_key(&key.require()?).await?;
    if message.author != account.user.id && !app.is_moderator(&account) {
        let message = "Somebody else wrote this message";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    let before = json!({ "message": message.message, "author": message.author });
    let deed = Deed::new(account.user.id, "message.delete", "message", message.id);
    let deed = (message.author != account.user.id).then(|| deed.change(before, json!({})));
    match app
        .recorded(deed, app.store.delete_message(message.id))
        .await
    {
        Ok(()) => app.messages.remove(&message),
        Err(ordu_store::Error::NotFound) => return Err(missing(&id)),
        Err(error) => return Err(error.into()),
    }
    Ok(Json(json!({ "message": "OK" })))
}

fn missing(id: &str) -> ApiError {
    let message = format!("Message '{id}' not found");
    ApiError::refused(ReturnCode::WorkermessageNotFound, message)
}
