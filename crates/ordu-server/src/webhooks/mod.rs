//! Telling requesters about results: what is said, to whom, and how it is proved.
//!
//! A message is written in the same commit as the settlement it is about (`message`), and sent from
//! the database by a task (`crate::tasks::webhooks`): at least once, those of one request in order,
//! until a day old. It goes to public addresses only, encrypted, and is signed as Standard Webhooks
//! describe it, with a secret that only the owner of the request can ask for.
//!
//! # Source
//! `generation.md` § 9.2; <https://www.standardwebhooks.com>.

mod message;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::{ReturnCode, UserId};
use ordu_core::Timestamp;
use ordu_store::Due;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use tokio::sync::Notify;
use url::Url;

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::fetch::{FetchError, Fetcher};
use crate::secret::Secret;

/// How long a receiver has for each answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 3;

/// The sender of messages.
pub(crate) struct Webhooks {
    fetcher: Fetcher,
    wake: Notify,
    last_turn: AtomicI64,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Why a message did not reach its receiver.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Forbidden(#[from] FetchError),
    #[error("the receiver answered {0}")]
    Refused(StatusCode),
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(reqwest::Error),
    #[error("the receiver redirects too often or nowhere")]
    Lost,
    #[error("the message cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl SendError {
    /// Whether trying again is no use.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}

/// A message as it goes over the wire.
struct Envelope<'a> {
    id: String,
    timestamp: String,
    signature: Option<String>,
    body: &'a str,
}

impl Webhooks {
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            wake: Notify::new(),
            last_turn: AtomicI64::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether a request may name this address.
    ///
    /// # Errors
    /// `BadRequest` if it is no `https://` URL or leads inside.
    pub(crate) fn check(&self, url: &str) -> ApiResult<()> {
        let checked = Url::parse(url)
            .map_err(|error| FetchError::Failed(error.to_string()))
            .and_then(|url| self.fetcher.check_secure(&url));
        checked.map_err(|error| {
            let message = format!("The webhook cannot be used: {error}");
            ApiError::refused(ReturnCode::BadRequest, message)
        })
    }

    /// The next place in the order of messages.
    fn next_turn(&self, now: Timestamp) -> i64 {
        let earliest = now.0.saturating_mul(1000);
        let next = |last: i64| (last + 1).max(earliest);
        let update = |last| Some(next(last));
        let last = self
            .last_turn
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        next(last.unwrap_or_default())
    }

    /// Tells the task that there is something to send.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for [`Self::wake`].
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Posts a message. Whatever is no error ends it, as it always did; only redirects that keep
    /// method and body are followed.
    async fn post(&self, url: &str, envelope: &Envelope<'_>) -> Result<(), SendError> {
        let mut url = Url::parse(url).map_err(|_| SendError::Lost)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.fetcher.post(&url)?.timeout(DEADLINE);
            if let Some(signature) = &envelope.signature {
                request = request.header("webhook-signature", signature);
            }
            let response = request
                .header("webhook-id", &envelope.id)
                .header("webhook-timestamp", &envelope.timestamp)
                .header(CONTENT_TYPE, "application/json")
                .body(envelope.body.to_owned())
                .send()
                .await?;
            let status = response.status();
            let follows = matches!(
                status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            if !follows {
                let ended = status.is_success() || status.is_redirection();
                return ended.then_some(()).ok_or(SendError::Refused(status));
            }
            let target = response.headers().get(LOCATION);
            let target = target.and_then(|target| target.to_str().ok());
            url = target
                .and_then(|target| url.join(target).ok())
                .ok_or(SendError::Lost)?;
        }
        Err(SendError::Lost)
    }
}

impl App {
    /// Sends a message once.
    pub(crate) async fn send_webhook(&self, due: &Due) -> Result<(), SendError> {
        let body = self.webhook_body(due).await?;
        let id = due.id.to_string();
        let timestamp = self.clock.now().seconds().to_string();
        let signature = self.webhook_signer(due.owner).await.map(|signer| {
            let mac = signer.digest(&format!("{id}.{timestamp}.{body}"));
            format!("v1,{}", STANDARD.encode(mac))
        });
        let envelope = Envelope {
            id,
            timestamp,
            signature,
            body: &body,
        };
        self.webhooks.post(&due.url, &envelope).await
    }

    /// What signs the messages to an owner. Everybody is the anonymous account: nothing that
    /// everybody can ask for proves anything.
    async fn webhook_signer(&self, owner: UserId) -> Option<Secret> {
        let account = self.accounts.by_id(owner).await.ok().flatten()?;
        self.webhook_key(&account).map(Secret::new)
    }

    /// The key of an account's messages. It changes with the API key.
    fn webhook_key(&self, account: &Account) -> Option<[u8; 32]> {
        let hash = account.user.key_hash.as_ref()?;
        let id = account.user.id;
        (id != UserId::ANONYMOUS).then(|| self.secret.digest(&format!("webhooks of {id} {hash}")))
    }

    /// The key as receivers configure it.
    pub(crate) fn webhook_secret(&self, account: &Account) -> Option<String> {
        let key = self.webhook_key(account)?;
        Some(format!("whsec_{}", STANDARD.encode(key)))
    }
}
