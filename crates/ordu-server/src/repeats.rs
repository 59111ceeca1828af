//! Requests that a client may send twice: the second one is answered as the first one was.
//!
//! The id of such a request is derived from its idempotency key and whoever holds the API key, so
//! the request itself is the record of the first attempt: it needs no table, no round trip, and
//! lives as long as its request. Two attempts at once wait for each other.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use ordu_api::{ApiKey, RequestId, ReturnCode};
use ordu_core::Kudos;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::IdempotencyKey;
use crate::routes::request::Accepted;

/// An attempt that has a name.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    name: String,
    /// A digest of the body.
    fingerprint: String,
}

/// The attempts that are under way. No more than there are connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repeats(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    under_way: Mutex<BTreeSet<RequestId>>,
    ended: Notify,
}

/// The right to be the only attempt with an id, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    repeats: Repeats,
    id: RequestId,
    fingerprint: String,
}

/// What an attempt turns out to be.
pub(crate) enum Begun {
    /// The first one, or one without a name.
    First(Option<Turn>),
    /// A repetition of one that was accepted.
    Before(Accepted),
}

/// The answer to the first attempt, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct FirstAnswer {
    fingerprint: String,
    price_milli: i64,
    possible: bool,
}

impl Attempt {
    /// An attempt with this body, if the client gave it a name.
    pub(crate) fn of(IdempotencyKey(name): IdempotencyKey, body: &impl Serialize) -> Option<Self> {
        let json = serde_json::to_vec(body).ok()?;
        let mut fingerprint = String::new();
        for byte in Sha256::digest(&json) {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        name.map(|name| Self { name, fingerprint })
    }

    /// Nobody can guess it, and nobody else gets the same: those who share the anonymous key are
    /// told apart by their networks.
    fn id(&self, app: &App, key: &ApiKey, client: Client) -> RequestId {
        let mut holder = app.secret.hash(key);
        if key.reveal() == ordu_api::ANONYMOUS_KEY {
            let _ = write!(holder, " {}", client.network());
        }
        let digest = app
            .secret
            .digest(&format!("attempt {holder} {}", self.name));
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        RequestId::from_uuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl Repeats {
    async fn turn(&self, id: RequestId, fingerprint: String) -> Turn {
        loop {
            // Made before the look, so that no end in between is missed.
            let ended = self.0.ended.notified();
            if self.under_way().insert(id) {
                return Turn {
                    repeats: self.clone(),
                    id,
                    fingerprint,
                };
            }
            ended.await;
        }
    }

    /// For whoever looks after the request of an attempt, unless one is under way.
    pub(crate) fn try_turn(&self, id: RequestId) -> Option<Turn> {
        self.under_way().insert(id).then(|| Turn {
            repeats: self.clone(),
            id,
            fingerprint: String::new(),
        })
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, BTreeSet<RequestId>> {
        let under_way = self.0.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.repeats.under_way().remove(&self.id);
        self.repeats.0.ended.notify_waiters();
    }
}

impl Turn {
    /// The id of the request.
    pub(crate) const fn id(&self) -> RequestId {
        self.id
    }

    /// What is stored with the request.
    pub(crate) fn answer(&self, accepted: &Accepted) -> Option<String> {
        let answer = FirstAnswer {
            fingerprint: self.fingerprint.clone(),
            price_milli: accepted.price.milli(),
            possible: accepted.possible,
        };
        serde_json::to_string(&answer).ok()
    }
}

impl App {
    /// Begins an attempt. Only what is in memory is asked: a request that ended before the last
    /// start is noticed when it is stored again.
    ///
    /// # Errors
    /// `IdempotencyKeyConflict` if the first attempt had another body.
    pub(crate) async fn begin(
        &self,
        attempt: Option<Attempt>,
        key: &ApiKey,
        client: Client,
    ) -> ApiResult<Begun> {
        let Some(attempt) = attempt else {
            return Ok(Begun::First(None));
        };
        let id = attempt.id(self, key, client);
        let turn = self.repeats.turn(id, attempt.fingerprint).await;
        let known = self.live().horde.request(id).is_some();
        if known {
            return self.first_answer(&turn).await.map(Begun::Before);
        }
        Ok(Begun::First(Some(turn)))
    }

    /// What the first attempt was answered.
    pub(crate) async fn first_answer(&self, turn: &Turn) -> ApiResult<Accepted> {
        let stored = self.store.find_answer(turn.id).await?;
        let first = stored.and_then(|text| serde_json::from_str::<FirstAnswer>(&text).ok());
        let first = first
            .ok_or_else(|| ApiError::Internal("a repeated request has no answer".to_owned()))?;
        if first.fingerprint != turn.fingerprint {
            let message = "Another request was sent with this `Idempotency-Key`";
            return Err(ApiError::refused(
                ReturnCode::IdempotencyKeyConflict,
                message,
            ));
        }
        Ok(Accepted {
            id: turn.id,
            price: Kudos::from_milli(first.price_milli),
            possible: first.possible,
        })
    }
}
