//! How accounts are made: which names, how many from one place, and a new key for those who come
//! back.
//!
//! # Source
//! `community.md` § 2.2; `platform.md` § 4.

use std::sync::Arc;

use axum::http::StatusCode;
use ordu_api::{ApiKey, ReturnCode};
use ordu_core::Millis;
use ordu_core::suspicion::{Reason, Suspect};
use ordu_store::{Allowance, NewUser, Registered, UserChange};
use uuid::Uuid;

use crate::accounts::{Account, DEFAULT_CONCURRENCY};
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::secret::new_api_key;
use crate::text;

/// The longest name, in characters; the rest is cut off.
const MAX_NAME_CHARS: usize = 30;

/// Within which accounts of one place are counted.
const WINDOW: Millis = Millis::from_minutes(24 * 60);

/// A name that somebody wants, fit to be stored.
pub(crate) struct Name {
    text: String,
    suspicions: Vec<Reason>,
}

impl Name {
    /// Reads a name as it was typed.
    ///
    /// # Errors
    /// `ProfaneUserName`; a field error if nothing of it can be read.
    pub(crate) fn read(app: &App, typed: &str) -> ApiResult<Self> {
        app.check_text(typed, ReturnCode::ProfaneUserName)?;
        let mut suspicions = Vec::new();
        if typed.chars().count() > MAX_NAME_CHARS {
            suspicions.push(Reason::UsernameLong);
        }
        let cut: String = typed.chars().take(MAX_NAME_CHARS).collect();
        let text = text::clean(&cut);
        if text.is_empty() {
            return Err(ApiError::field("username", "nothing of it can be read"));
        }
        // What only shows once it is cleaned, such as a word with a NUL in it.
        if app.guard.is_profane(&text) {
            suspicions.push(Reason::UsernameProfanity);
        }
        Ok(Self { text, suspicions })
    }
}

impl App {
    /// Refuses who did not solve the captcha, if there is one.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) async fn check_captcha(&self, answer: Option<&str>) -> ApiResult<()> {
        let Some(captcha) = &self.identity.captcha else {
            return Ok(());
        };
        if !captcha.is_solved(answer.unwrap_or_default()).await {
            let message = "The captcha is not solved";
            return Err(ApiError::refused(ReturnCode::Forbidden, message));
        }
        Ok(())
    }

    /// Makes an account that nobody vouches for.
    ///
    /// # Errors
    /// `Forbidden` during a raid; 429 when its address has made too many.
    pub(crate) async fn register_stranger(
        self: &Arc<Self>,
        name: Name,
        client: Client,
    ) -> ApiResult<(Arc<Account>, ApiKey)> {
        if self.is_raided() {
            let message = "Just now only people that another site vouches for can register";
            return Err(ApiError::refused(ReturnCode::Forbidden, message));
        }
        let most = match self.config.identity.accounts_per_address {
            0 => u32::MAX,
            most => most,
        };
        let place = format!("registration {}", client.network());
        let allowance = Allowance {
            place: self.secret.sign(&place),
            since: self.clock.now() - WINDOW,
            most,
        };
        let subject = Uuid::new_v4().to_string();
        self.register(name, subject, Some(allowance)).await
    }

    /// Makes an account for an external identity that has none.
    pub(crate) async fn register_subject(
        self: &Arc<Self>,
        name: Name,
        subject: String,
    ) -> ApiResult<(Arc<Account>, ApiKey)> {
        self.register(name, subject, None).await
    }

    async fn register(
        self: &Arc<Self>,
        name: Name,
        subject: String,
        allowance: Option<Allowance>,
    ) -> ApiResult<(Arc<Account>, ApiKey)> {
        let key = new_api_key().map_err(|error| ApiError::Internal(error.to_string()))?;
        let now = self.clock.now();
        let new = NewUser {
            username: name.text,
            key_hash: Some(self.secret.hash(&key)),
            subject,
            concurrency: DEFAULT_CONCURRENCY,
            created: now,
        };
        let made = match &allowance {
            Some(allowance) => self.store.register_user(&new, allowance).await,
            None => self.store.insert_user(&new).await.map(Registered::Account),
        };
        let user = match made {
            Ok(Registered::Account(user)) => user,
            Ok(Registered::TooMany(oldest)) => {
                let seconds = ((oldest + WINDOW).since(now).0 + 999) / 1000;
                let message = "Too many accounts were made from this address: come back later";
                return Err(ApiError::too_often(seconds, message));
            }
            Err(ordu_store::Error::Taken) => {
                let message = "This identity was registered a moment ago: load the page again";
                return Err(ApiError::plain(StatusCode::CONFLICT, message));
            }
            Err(error) => return Err(error.into()),
        };
        self.accounts.learn(&key, user);
        let account = self.accounts.by_id(user).await?;
        let gone = || ApiError::Internal("a new account is gone".to_owned());
        let account = account.ok_or_else(gone)?;
        self.suspect_name(&account, &name.suspicions).await;
        tracing::info!(user.id = %user, "an account was made");
        Ok((account, key))
    }

    /// Gives an account a new key, and a new name if one is wanted; the old key stops working.
    pub(crate) async fn renew_key(
        self: &Arc<Self>,
        account: &Account,
        name: Option<Name>,
    ) -> ApiResult<(Arc<Account>, ApiKey)> {
        let user = account.user.id;
        let key = new_api_key().map_err(|error| ApiError::Internal(error.to_string()))?;
        let change = UserChange {
            username: name.as_ref().map(|name| name.text.clone()),
            key_hash: Some(self.secret.hash(&key)),
            ..UserChange::default()
        };
        self.store.update_user(user, &change).await?;
        self.accounts.forget(user);
        self.accounts.learn(&key, user);
        let account = self.accounts.by_id(user).await?;
        let gone = || ApiError::refused(ReturnCode::UserNotFound, "This account is gone");
        let account = account.ok_or_else(gone)?;
        if let Some(name) = name {
            self.suspect_name(&account, &name.suspicions).await;
        }
        tracing::info!(user.id = %user, "an account has a new key");
        Ok((account, key))
    }

    /// Forgets from where accounts were made that count no more.
    pub(crate) async fn delete_old_registrations(&self) -> Result<(), ordu_store::Error> {
        let until = self.clock.now() - WINDOW;
        self.store.delete_registrations(until).await?;
        Ok(())
    }

    async fn suspect_name(&self, account: &Account, reasons: &[Reason]) {
        for reason in reasons {
            let suspect = Suspect {
                user: account.user.id,
                worker: None,
            };
            self.suspect(suspect, account.roles(), *reason).await;
        }
    }
}
