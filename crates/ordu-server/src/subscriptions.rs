//! Who supports the horde with money: a file of the operator's, kept up to date by whatever talks
//! to the payment services.
//!
//! # Source
//! `community.md` § 2.9.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ordu_api::UserId;
use ordu_core::subscription::{Document, Subscribers};
use ordu_core::{Kudos, Millis, Timestamp, grant};
use ordu_store::{Store, User};

use crate::accounts::roles_of;
use crate::app::App;
use crate::watched::WatchedFile;

/// How often it is looked up again who can be reached at which address.
const CONTACTS_EVERY: Millis = Millis::from_minutes(60);

/// Why the file is as good as not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscriptionError {
    #[error("the file of subscriptions cannot be read")]
    File(#[from] std::io::Error),
    #[error("the file of subscriptions is not the JSON that is expected")]
    Json(#[from] serde_json::Error),
    #[error("the database failed")]
    Store(#[from] ordu_store::Error),
}

/// The subscriptions, as the file said last.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    file: Option<WatchedFile>,
    document: Mutex<Option<Read>>,
    subscribers: RwLock<Arc<Subscribers>>,
}

/// What was read last, and when it was last linked with accounts.
#[derive(Debug, Clone)]
struct Read {
    document: Arc<Document>,
    linked: Timestamp,
}

impl Subscriptions {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file: file.map(WatchedFile::new),
            document: Mutex::default(),
            subscribers: RwLock::default(),
        }
    }

    /// Everybody who subscribed.
    pub(crate) fn all(&self) -> Arc<Subscribers> {
        let subscribers = self.subscribers.read();
        Arc::clone(&subscribers.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it changed; links subscribers with accounts then, and once an hour.
    /// What cannot be read changes nothing.
    pub(crate) async fn refresh(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), SubscriptionError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let document: Arc<Document> = match (file.read_if_changed().await?, self.last()) {
            (Some(text), _) => Arc::new(serde_json::from_str(&text)?),
            (None, Some(last)) if now.since(last.linked) >= CONTACTS_EVERY => last.document,
            (None, _) => return Ok(()),
        };
        // If the database is away now, the next round tries again.
        self.keep(&document, Timestamp::default());
        let by_contact = by_contact(store, &document).await?;
        let subscribers = Subscribers::new(&document, &by_contact);
        for unknown in subscribers.unknown() {
            tracing::warn!("nobody decided what {unknown} is worth, so it is worth nothing");
        }
        let kept = self.subscribers.write();
        *kept.unwrap_or_else(PoisonError::into_inner) = Arc::new(subscribers);
        self.keep(&document, now);
        Ok(())
    }

    fn keep(&self, document: &Arc<Document>, linked: Timestamp) {
        let read = Read {
            document: Arc::clone(document),
            linked,
        };
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }

    fn last(&self) -> Option<Read> {
        let document = self.document.lock();
        document.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which accounts can be reached at the addresses in a document; of several the oldest.
async fn by_contact(
    store: &Store,
    document: &Document,
) -> Result<BTreeMap<String, UserId>, ordu_store::Error> {
    let unlinked = document.stripe.iter().filter(|one| one.horde_id.is_none());
    let addresses: Vec<String> = unlinked.filter_map(|one| one.email.clone()).collect();
    if addresses.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut found = BTreeMap::new();
    for (user, contact) in store.find_users_by_contact(&addresses).await? {
        found.entry(contact).or_insert(user);
    }
    Ok(found)
}

impl App {
    /// What a user is given each month in all.
    pub(crate) fn monthly(&self, user: &User) -> Kudos {
        let subscribed = self.subscriptions.all().monthly(user.id);
        grant::monthly(user.monthly_kudos, subscribed, roles_of(user))
    }

    /// Reads the subscriptions again.
    pub(crate) async fn load_subscriptions(&self) {
        let refreshed = self
            .subscriptions
            .refresh(&self.store, self.clock.now())
            .await;
        if let Err(error) = refreshed {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the subscriptions stay as they were");
        }
    }
}
