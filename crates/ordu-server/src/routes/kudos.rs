//! Kudos from user to user, and thanks for something outside the horde.
//!
//! # Source
//! `community.md` § 6; `observed.md` 2, 36.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use ordu_api::kudos::{Awarded, Transferred};
use ordu_api::{ReturnCode, SharedKeyId, UserId};
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::transfer::{self, Party, Target};
use ordu_core::{Kudos, Millis, Refusal};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{OptionalKey, read_loosely};

/// How much is given if nobody says, in kudos.
const DEFAULT_AMOUNT: i64 = 100;

/// The largest amount that is read, in kudos; nobody has more.
const MAX_AMOUNT: i64 = 1_000_000_000_000;

/// Who was given something cannot give back for this long.
const NO_ANSWER_FOR: Millis = Millis::from_minutes(1);

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// A gift: to whom, and how much.
pub(super) struct Gift {
    pub(super) username: String,
    pub(super) amount: Kudos,
}

impl Gift {
    /// Nobody looks at the form of the body; only its two members count.
    async fn read(body: Body) -> ApiResult<Self> {
        let body = read_loosely(body).await?;
        let username = match body.get("username") {
            Some(Value::String(name)) => name.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => return Err(ApiError::field("username", "Whom is it for?")),
        };
        let amount = match body.get("amount") {
            None => Some(Kudos::new(DEFAULT_AMOUNT)),
            Some(value) => read_amount(value),
        };
        let amount = amount.ok_or_else(|| ApiError::field("amount", "It is not a number"))?;
        Ok(Self { username, amount })
    }
}

/// Whole kudos from digits and nothing else.
pub(super) fn read_digits(text: &str) -> Option<Kudos> {
    let text = text.trim();
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = text.parse().unwrap_or(MAX_AMOUNT).min(MAX_AMOUNT);
    is_whole.then(|| Kudos::new(whole))
}

/// Whole kudos, from a number or from digits in a text; a fraction is cut off.
fn read_amount(value: &Value) -> Option<Kudos> {
    let whole = match value {
        Value::Number(number) => cut(number.as_f64()?),
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Some(Kudos::new(whole.clamp(-MAX_AMOUNT, MAX_AMOUNT)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` cuts and saturates, which is what is wanted"
)]
const fn cut(number: f64) -> i64 {
    number as i64
}

/// `POST /kudos/transfer`
pub(crate) async fn transfer(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<Transferred>> {
    let gift = Gift::read(body).await?;
    let source = app.accounts.by_key(&key.require()?).await?;
    let attempt = attempt(&headers)?;
    pass_on(&app, &source, &gift, attempt.as_deref()).await?;
    Ok(Json(Transferred {
        transferred: gift.amount.as_f64(),
    }))
}

/// Gives away what somebody can spare, if the rules agree: once for an attempt with a name.
pub(super) async fn pass_on(
    app: &Arc<App>,
    source: &Account,
    gift: &Gift,
    attempt: Option<&[u8]>,
) -> ApiResult<()> {
    let receiver = resolve(app, &gift.username).await?;
    let target = check(app, source, &receiver, gift.amount).await?;
    let event = attempt.map_or_else(Uuid::new_v4, |name| event_id(source.user.id, name));
    let standing = source.standing(Kudos::ZERO);
    let row = ordu_store::Transfer {
        event,
        source: source.user.id,
        target,
        amount: gift.amount,
        reserve: standing.floor() + app.accounts.held(source.user.id),
        shared_key: receiver.key,
        at: app.clock.now(),
    };
    let this = Arc::clone(app);
    app.complete(async move { this.give(row).await }).await
}

/// Whom a name means.
struct Receiver {
    account: Option<Arc<Account>>,
    key: Option<SharedKeyId>,
    expired: bool,
}

/// A shared key, an alias or a number.
async fn resolve(app: &App, name: &str) -> ApiResult<Receiver> {
    if let Ok(id) = name.parse::<SharedKeyId>()
        && let Some(key) = app.store.find_shared_key(id).await?
    {
        return Ok(Receiver {
            account: app.accounts.by_id(key.owner).await?,
            key: Some(id),
            expired: key.terms.is_expired(app.clock.now()),
        });
    }
    let account = match UserId::from_alias(name) {
        Some(user) => app.accounts.by_id(user).await?,
        None => None,
    };
    Ok(Receiver {
        account,
        key: None,
        expired: false,
    })
}

/// Whether the rules agree, the balance apart.
async fn check(
    app: &App,
    source: &Account,
    receiver: &Receiver,
    amount: Kudos,
) -> ApiResult<UserId> {
    let target = match &receiver.account {
        None => Target::Nobody,
        Some(account) if receiver.key.is_none() => Target::Account(party(app, account)),
        Some(owner) => Target::SharedKey {
            owner: party(app, owner),
            expired: receiver.expired,
        },
    };
    let since = app.clock.now() - NO_ANSWER_FOR;
    let is_answer = match &receiver.account {
        Some(account) => {
            let (from, to) = (account.user.id, source.user.id);
            app.store.gave_since(from, to, since).await?
        }
        None => false,
    };
    let transfer = transfer::Transfer {
        source: party(app, source),
        target,
        amount,
        is_answer,
    };
    Ok(transfer.check()?)
}

fn party(app: &App, account: &Account) -> Party {
    Party {
        user: account.user.id,
        roles: account.roles(),
        deleted: account.user.roles.deleted,
        suspicious: app.is_suspicious(account.user.id, account.roles()),
    }
}

/// What a client calls its attempt.
fn attempt(headers: &HeaderMap) -> ApiResult<Option<Vec<u8>>> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    if key.len() > MAX_KEY_BYTES {
        let complaint = format!("it has more than {MAX_KEY_BYTES} bytes");
        return Err(ApiError::field("Idempotency-Key", complaint));
    }
    Ok(Some(key.as_bytes().to_vec()))
}

/// The same name of an attempt of the same user always means the same gift.
fn event_id(source: UserId, attempt: &[u8]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"transfer ");
    hash.update(source.get().to_be_bytes());
    hash.update(attempt);
    let digest = hash.finalize();
    let bytes = digest.first_chunk().copied().unwrap_or_default();
    Uuid::from_bytes(bytes)
}

impl App {
    async fn give(&self, row: ordu_store::Transfer) -> ApiResult<()> {
        use ordu_store::Transferred as Outcome;
        match self.store.transfer(&row).await? {
            Outcome::Now => {}
            Outcome::Already => return Ok(()),
            Outcome::Conflict => {
                let message = "This `Idempotency-Key` named another gift before";
                return Err(ApiError::refused(
                    ReturnCode::IdempotencyKeyConflict,
                    message,
                ));
            }
            Outcome::Short(available) => return Err(short(row.amount, available).into()),
        }
        self.accounts.forget(row.source);
        self.accounts.forget(row.target);
        if let Some(key) = row.shared_key {
            self.accounts.shared_keys().forget(key);
        }
        tracing::info!(
            user.id = %row.source,
            kudos_milli = row.amount.milli(),
            "kudos were given away"
        );
        Ok(())
    }
}

fn short(amount: Kudos, available: Kudos) -> Refusal {
    let message = format!("{amount} kudos are more than the {available} that you can spare");
    Refusal::new(ReturnCode::KudosTransferNotEnough, message)
}

/// `POST /kudos/award`
pub(crate) async fn award(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    body: Body,
) -> ApiResult<Json<Awarded>> {
    let gift = Gift::read(body).await?;
    let giver = app.accounts.by_key(&key.require()?).await?;
    check_giver(&app, &giver)?;
    let receiver = match UserId::from_alias(&gift.username) {
        Some(user) => app.accounts.by_id(user).await?,
        None => None,
    };
    let target = check_award(receiver.as_deref(), gift.amount)?;
    let event = Event {
        id: Uuid::new_v4(),
        at: app.clock.now(),
        kind: None,
        entries: vec![Entry::reward(target, gift.amount, Reason::Award)],
    };
    let after = json!({ "awarded": gift.amount.as_f64() });
    let deed = Deed::new(giver.user.id, "kudos.award", "user", target).change(json!({}), after);
    app.recorded(deed, app.store.record(&event)).await?;
    app.accounts.forget(target);
    Ok(Json(Awarded {
        awarded: gift.amount.as_f64(),
    }))
}

fn check_giver(app: &App, giver: &Account) -> ApiResult<()> {
    if giver.user.roles.deleted {
        let message = "This account is about to be deleted";
        return Err(ApiError::refused(ReturnCode::DeletedUser, message));
    }
    if !app.config.awarders.contains(&giver.user.id) {
        let message = "Only those named by the operator give awards";
        return Err(ApiError::refused(ReturnCode::NotAllowedAwards, message));
    }
    Ok(())
}

fn check_award(receiver: Option<&Account>, amount: Kudos) -> ApiResult<UserId> {
    let refuse = |code, message: &str| Err(ApiError::refused(code, message));
    let Some(receiver) = receiver else {
        let message = "No account has this name";
        return refuse(ReturnCode::InvalidAwardUsername, message);
    };
    if receiver.user.id == UserId::ANONYMOUS {
        let message = "The anonymous account cannot be thanked";
        return refuse(ReturnCode::KudosAwardToAnon, message);
    }
    if receiver.user.roles.flagged {
        let message = "This account is flagged";
        return refuse(ReturnCode::TargetAccountFlagged, message);
    }
    if amount <= Kudos::ZERO {
        let message = "An award is at least one kudo";
        return refuse(ReturnCode::BadRequest, message);
    }
    Ok(receiver.user.id)
}
