//! Accounts as they are shown, and the gated bootstrap of tests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ordu_api::user::{TestUser, UserView};
use ordu_api::{ReturnCode, UserId};
use ordu_core::Kudos;
use ordu_core::ledger::Reason;
use ordu_store::{SharedKey, User, UserChange};
use serde_json::Value;

use crate::accounts::{self, Account, NewAccount};
use crate::address::socket_peer;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;
use crate::profiles::{Profiles, View};

/// `GET /find_user`: who has this key.
pub(crate) async fn find(
    State(app): State<Arc<App>>,
    OptionalKey(key): OptionalKey,
) -> ApiResult<Json<UserView>> {
    let Some(key) = key else {
        let message = "Send the key to look up as `apikey`";
        return Err(ApiError::refused(ReturnCode::InvalidAPIKey, message));
    };
    if let Ok(id) = key.reveal().parse()
        && let Some(known) = app.accounts.shared_keys().find(id).await?
    {
        return find_by_shared_key(&app, &known.key).await.map(Json);
    }
    let account = app.accounts.find_by_key(&key).await?;
    let account = account.ok_or_else(|| not_found("with this API key"))?;
    view(&app, &account, View::Own).await.map(Json)
}

/// Who holds a shared key learns whose it is, and no more than everybody knows.
async fn find_by_shared_key(app: &App, key: &SharedKey) -> ApiResult<UserView> {
    let owner = app.accounts.by_id(key.owner).await?;
    let owner = owner.ok_or_else(|| not_found("with this API key"))?;
    let mut shown = view(app, &owner, View::Public).await?;
    let suffix = match &key.name {
        Some(name) => format!(" (Shared Key: {name})"),
        None => " (Shared Key)".to_owned(),
    };
    shown.username.push_str(&suffix);
    Ok(shown)
}

/// `GET /users/{id}`
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    OptionalKey(key): OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<UserView>> {
    let user: UserId = id.parse().map_err(|_| not_found(&id))?;
    let viewer = match &key {
        Some(key) => Some(app.accounts.by_key(key).await?),
        None => None,
    };
    let account = app
        .accounts
        .by_id(user)
        .await?
        .ok_or_else(|| not_found(&id))?;
    let how_much = match viewer {
        Some(viewer) if app.is_admin(viewer.user.id) => View::Admin,
        Some(viewer) if viewer.user.roles.moderator => View::Moderator,
        Some(viewer) if viewer.user.id == user => View::Own,
        _ => View::Public,
    };
    view(&app, &account, how_much).await.map(Json)
}

fn not_found(id: &str) -> ApiError {
    ApiError::refused(ReturnCode::UserNotFound, format!("User {id} not found"))
}

/// One account. The copy at hand may be older than its last fold.
async fn view(app: &App, account: &Account, how_much: View) -> ApiResult<UserView> {
    let id = account.user.id;
    let balance = app.store.balance(id).await?;
    let user = User {
        spendable: balance.spendable,
        escrow: balance.escrow,
        ..account.user.clone()
    };
    let profiles = Profiles::read(app, &[id]).await?;
    let mut shown = profiles.draw(app, &user, how_much);
    if how_much >= View::Own {
        shown.sharedkey_ids = Some(app.store.list_shared_keys_of(id).await?);
    }
    Ok(shown)
}

/// `POST /dev/test-user`: mints or refreshes a user, for tests on the same machine only.
///
/// # Source
/// `community.md` § 12.3.
pub(crate) async fn test_user(
    State(app): State<Arc<App>>,
    request: Request,
) -> ApiResult<Response> {
    if !app.config.test_users {
        return Err(ApiError::plain(StatusCode::NOT_FOUND, "Not Found"));
    }
    let (parts, body) = request.into_parts();
    if !socket_peer(&parts.extensions)?.is_loopback() {
        let message = "Test users are minted on the server's own machine only";
        return Err(ApiError::plain(StatusCode::FORBIDDEN, message));
    }
    let bytes = axum::body::to_bytes(body, crate::extract::MAX_JSON_BYTES)
        .await
        .map_err(|error| ApiError::plain(StatusCode::BAD_REQUEST, error.to_string()))?;
    let wanted = Wanted::read(&bytes)
        .map_err(|complaint| ApiError::plain(StatusCode::BAD_REQUEST, complaint))?;
    let minted = mint(&app, wanted).await?;
    let status = if minted.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(minted)).into_response())
}

/// The test user that is asked for.
struct Wanted {
    username: String,
    subject: String,
    moderator: bool,
    trusted: bool,
    kudos: Option<f64>,
}

impl Wanted {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let body: Value = if bytes.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?
        };
        if !body.is_object() {
            return Err("The body must be an object".to_owned());
        }
        let text = |name: &str, default: &str| match body.get(name) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) if (1..=100).contains(&text.chars().count()) => {
                Ok(text.clone())
            }
            Some(_) => Err(format!("`{name}` must be a text of 1 to 100 characters")),
        };
        let switch = |name: &str| match body.get(name) {
            None => Ok(true),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(format!("`{name}` must be a boolean")),
        };
        let kudos = match body.get("kudos") {
            None => Some(10_000.0),
            Some(Value::Null) => None,
            Some(Value::Number(number)) if number.as_f64().is_some_and(|kudos| kudos >= 0.0) => {
                number.as_f64()
            }
            Some(_) => return Err("`kudos` must be a number of at least 0, or null".to_owned()),
        };
        Ok(Self {
            username: text("username", "test_user")?,
            subject: text("oauth_id", "ci_test_user")?,
            moderator: switch("moderator")?,
            trusted: switch("trusted")?,
            kudos,
        })
    }
}

async fn mint(app: &App, wanted: Wanted) -> ApiResult<TestUser> {
    let now = app.clock.now();
    // `trusted` only says something about users that are no moderators.
    let trusted = wanted.moderator || wanted.trusted;
    let existing = app.store.find_user_by_subject(&wanted.subject).await?;
    let created = existing.is_none();
    let (id, key) = if let Some(user) = existing {
        let change = UserChange {
            username: Some(wanted.username),
            moderator: Some(wanted.moderator),
            trusted: Some(trusted),
            ..UserChange::default()
        };
        app.store.update_user(user.id, &change).await?;
        if trusted && !user.roles.trusted {
            app.unpause_workers_of(user.id).await?;
        }
        (
            user.id,
            accounts::new_key(&app.store, &app.secret, user.id).await?,
        )
    } else {
        let new = NewAccount {
            name: wanted.username,
            subject: Some(wanted.subject),
            moderator: wanted.moderator,
            trusted,
            kudos: Kudos::ZERO,
        };
        let (account, key) = accounts::add(&app.store, &app.secret, new, now).await?;
        (account.user.id, key)
    };
    if let Some(kudos) = wanted.kudos {
        let before = accounts::find(&app.store, id)
            .await?
            .map(|account| account.balance);
        let change = Kudos::round(kudos) - before.unwrap_or_default();
        accounts::move_balance(&app.store, id, change, Reason::Reconciliation, now).await?;
    }
    app.accounts.forget(id);
    app.accounts.learn(&key, id);
    let account = app
        .accounts
        .by_id(id)
        .await?
        .ok_or_else(|| not_found(&id.to_string()))?;
    Ok(TestUser {
        api_key: key,
        user_id: id.to_string(),
        username: account.user.username.clone(),
        alias: account.alias(),
        kudos: account.balance.as_f64(),
        trusted: account.user.roles.trusted,
        moderator: account.user.roles.moderator,
        created,
    })
}
