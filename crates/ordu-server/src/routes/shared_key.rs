//! Shared keys: made, read, changed, deleted.
//!
//! # Source
//! `community.md` § 3.2; `observed.md` 2, 27, 30.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::shared_key::{SharedKeyInput, SharedKeyView};
use ordu_api::{ReturnCode, SharedKeyId, UserId};
use ordu_core::shared_key::Terms;
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_store::{NewSharedKey, SharedKey, SharedKeyChange};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::dates;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Loose, OptionalKey};
use crate::text;

/// How many keys a trusted account may have.
const QUOTA_TRUSTED: u32 = 10;

/// How many a school may have.
const QUOTA_EDUCATION: u32 = 1000;

/// How many everybody else may have.
const QUOTA: u32 = 3;

/// The budget of a new key, in kudos, if nothing was said.
const DEFAULT_BUDGET: i64 = 5000;

const DAY: i64 = 24 * 60;

/// The shortest and the longest name, in characters.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=255;

/// `PUT /sharedkeys`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Loose(input): Loose<SharedKeyInput>,
) -> ApiResult<Json<SharedKeyView>> {
    let account = app.accounts.by_key(&key.require()?).await?;
    check_maker(&account)?;
    let now = app.clock.now();
    let new = NewSharedKey {
        id: SharedKeyId::from_uuid(Uuid::new_v4()),
        owner: account.user.id,
        name: input.name.as_ref().map(name).transpose()?,
        terms: Terms {
            budget: budget(input.kudos.unwrap_or(DEFAULT_BUDGET)),
            // A new key that ends at once would be of no use: 0 means never, too.
            expires: input
                .expiry
                .filter(|days| *days > 0)
                .map(|days| in_days(now, days)),
            max_image_pixels: input.max_image_pixels.and_then(limit),
            max_image_steps: input.max_image_steps.and_then(limit),
            max_text_tokens: input.max_text_tokens.and_then(limit),
        },
        created: now,
    };
    let quota = quota(&account);
    if !app.store.insert_shared_key(&new, quota).await? {
        let message = format!("An account like yours has at most {quota} shared keys");
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    show(&app, new.id).await
}

fn check_maker(account: &Account) -> ApiResult<()> {
    if account.user.id == UserId::ANONYMOUS {
        let message = "Anonymous users cannot make shared keys: make an account first";
        return Err(ApiError::refused(ReturnCode::AnonForbidden, message));
    }
    if account.user.roles.deleted {
        let message = "This account is about to be deleted";
        return Err(ApiError::refused(ReturnCode::DeletedUser, message));
    }
    Ok(())
}

const fn quota(account: &Account) -> u32 {
    let roles = &account.user.roles;
    match (roles.trusted, roles.education) {
        (_, true) => QUOTA_EDUCATION,
        (true, false) => QUOTA_TRUSTED,
        (false, false) => QUOTA,
    }
}

/// `GET /sharedkeys/{id}`: who knows the id may read it.
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<SharedKeyView>> {
    let id = id.parse().map_err(|_| unknown())?;
    show(&app, id).await
}

/// `PATCH /sharedkeys/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Loose(input): Loose<SharedKeyInput>,
) -> ApiResult<Json<SharedKeyView>> {
    let id = own(&app, key, &id).await?;
    if input == SharedKeyInput::default() {
        let message = "Nothing to change: send at least one member of a shared key";
        return Err(ApiError::refused(
            ReturnCode::NoSharedKeyModSelected,
            message,
        ));
    }
    let change = change(&input, app.clock.now())?;
    app.store
        .update_shared_key(id, &change)
        .await
        .map_err(gone)?;
    app.accounts.shared_keys().forget(id);
    show(&app, id).await
}

fn change(input: &SharedKeyInput, now: Timestamp) -> ApiResult<SharedKeyChange> {
    Ok(SharedKeyChange {
        name: input.name.as_ref().map(name).transpose()?,
        budget: input.kudos.map(budget),
        expires: input
            .expiry
            .map(|days| (days >= 0).then(|| in_days(now, days))),
        max_image_pixels: input.max_image_pixels.map(limit),
        max_image_steps: input.max_image_steps.map(limit),
        max_text_tokens: input.max_text_tokens.map(limit),
    })
}

/// `DELETE /sharedkeys/{id}`: its requests go with it.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let id = own(&app, key, &id).await?;
    let this = Arc::clone(&app);
    app.complete(async move {
        let requests = this.store.delete_shared_key(id).await.map_err(gone)?;
        this.accounts.shared_keys().forget(id);
        this.styles.changed();
        for request in requests {
            this.live().horde.forget_request(request);
            this.watch.forget_request(request);
            this.accounts.release(request, None);
        }
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "message": "OK" })))
}

/// The key of this id, if whoever asks is its owner.
async fn own(app: &App, key: OptionalKey, id: &str) -> ApiResult<SharedKeyId> {
    let id = id.parse().map_err(|_| unknown())?;
    let shared = app.store.find_shared_key(id).await?.ok_or_else(unknown)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    if shared.owner != account.user.id {
        let message = "This shared key belongs to somebody else";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    Ok(id)
}

/// Somebody else deleted it meanwhile, or worse.
fn gone(error: ordu_store::Error) -> ApiError {
    match error {
        ordu_store::Error::NotFound => unknown(),
        other => other.into(),
    }
}

/// A key that nobody knows is a wrong credential, wherever it is named.
fn unknown() -> ApiError {
    ApiError::refused(ReturnCode::InvalidAPIKey, "No shared key has this id")
}

async fn show(app: &App, id: SharedKeyId) -> ApiResult<Json<SharedKeyView>> {
    let key = app.store.find_shared_key(id).await?.ok_or_else(unknown)?;
    let owner = app.accounts.by_id(key.owner).await?.ok_or_else(unknown)?;
    Ok(Json(view(&key, owner.alias())))
}

/// A key as everybody sees it who knows its id.
pub(super) fn view(key: &SharedKey, username: String) -> SharedKeyView {
    let terms = key.terms;
    SharedKeyView {
        id: key.id,
        username,
        name: key.name.clone(),
        kudos: terms.budget.map_or(-1, whole),
        expiry: terms.expires.map(dates::rfc822),
        utilized: whole(key.utilized),
        max_image_pixels: shown(terms.max_image_pixels),
        max_image_steps: shown(terms.max_image_steps),
        max_text_tokens: shown(terms.max_text_tokens),
    }
}

/// A name as it is stored. A number counts as its digits, which need not be three.
fn name(value: &Value) -> ApiResult<String> {
    match value {
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) if NAME_CHARS.contains(&text.chars().count()) => Ok(text::clean(text)),
        Value::String(_) => Err(ApiError::field("name", "it must have 3 to 255 characters")),
        _ => Err(ApiError::field("name", "it must be a text")),
    }
}

fn budget(kudos: i64) -> Option<Kudos> {
    (kudos >= 0).then(|| Kudos::new(kudos))
}

fn limit<N: TryFrom<i64>>(number: i64) -> Option<N> {
    N::try_from(number).ok()
}

fn shown(limit: Option<impl Into<u64>>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit.into()).unwrap_or(i64::MAX))
}

fn in_days(now: Timestamp, days: i64) -> Timestamp {
    now + Millis::from_minutes(days.saturating_mul(DAY))
}

#[expect(clippy::cast_possible_truncation, reason = "kudos are far below 2^53")]
fn whole(kudos: Kudos) -> i64 {
    kudos.as_f64().round() as i64
}
