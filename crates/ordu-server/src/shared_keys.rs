//! Shared keys: kept at hand so that a known one costs no round trip, and what is promised of
//! their budgets.
//!
//! What is kept is a copy, read again after ten seconds. Charges count against it at once, and
//! what a request may still cost is promised to it before it is stored: requests at the same time
//! never overspend a budget. Promises are this node's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::{RequestId, SharedKeyId};
use ordu_core::shared_key::Downgrade;
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_store::{SharedKey, Store};
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::error::ApiResult;

/// How long a copy counts as the truth.
const FRESH_FOR: Millis = Millis::from_seconds(10);

/// How many keys are kept at hand.
const KEPT: usize = 10_000;

/// The keys at hand and their tabs.
#[derive(Clone)]
pub(crate) struct SharedKeys(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    clock: Clock,
    known: Cache<SharedKeyId, Copy>,
    tabs: Mutex<Tabs>,
}

/// A copy of a key, when it was read, and what this node had charged to the key before.
#[derive(Clone)]
struct Copy {
    key: Arc<SharedKey>,
    read: Timestamp,
    charged: Kudos,
}

/// A key with what is left of its budget by now, promises not taken off.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: Arc<SharedKey>,
    /// `key.charged` as of this look; see [`Tab::charged`].
    charged: Kudos,
}

/// Who spends through which key, and how much. Never larger than the keys in use since the start.
#[derive(Default)]
struct Tabs {
    by_key: BTreeMap<SharedKeyId, Tab>,
    by_request: BTreeMap<RequestId, (SharedKeyId, Kudos)>,
}

#[derive(Default)]
struct Tab {
    /// Charged through this node since its start.
    charged: Kudos,
    /// What requests under way may still cost.
    promised: Kudos,
}

impl SharedKeys {
    pub(crate) fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            known: Cache::new(KEPT),
            tabs: Mutex::default(),
        }))
    }

    fn tabs(&self) -> MutexGuard<'_, Tabs> {
        self.0.tabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of this id, if there is one.
    pub(crate) async fn find(&self, id: SharedKeyId) -> ApiResult<Option<Known>> {
        let now = self.0.clock.now();
        let fresh = |copy: &Copy| now.since(copy.read) < FRESH_FOR;
        if let Some(copy) = self.0.known.get(&id).filter(fresh) {
            return Ok(Some(copy.known()));
        }
        // Taken before the look: what is charged meanwhile may be taken off twice until the next
        // one, but is never missed.
        let charged = self.charged(id);
        let Some(key) = self.0.store.find_shared_key(id).await? else {
            return Ok(None);
        };
        let copy = Copy {
            key: Arc::new(key),
            read: now,
            charged,
        };
        let known = copy.known();
        self.0.known.insert(id, copy);
        Ok(Some(known))
    }

    /// Whether a key is at hand.
    pub(crate) fn knows(&self, id: SharedKeyId) -> bool {
        self.0.known.get(&id).is_some()
    }

    fn charged(&self, id: SharedKeyId) -> Kudos {
        let tabs = self.tabs();
        tabs.by_key.get(&id).map_or(Kudos::ZERO, |tab| tab.charged)
    }

    /// Forgets the copy of a key that was changed.
    pub(crate) fn forget(&self, id: SharedKeyId) {
        self.0.known.remove(&id);
    }

    /// Promises what a request may cost. Where the budget does not suffice, the rest of it is
    /// promised if that is allowed.
    ///
    /// # Errors
    /// [`Short`] when it is not.
    pub(crate) fn promise(
        &self,
        known: &Known,
        request: RequestId,
        most_cost: Kudos,
        downgrade: Downgrade,
    ) -> Result<Promise, Short> {
        let id = known.key.id;
        let mut tabs = self.tabs();
        let left = tabs.left(known);
        let suffices = left.is_none_or(|left| most_cost <= left);
        if !suffices && downgrade == Downgrade::Refused {
            return Err(Short(left.unwrap_or_default()));
        }
        let amount = left.map_or(Kudos::ZERO, |left| most_cost.min(left));
        tabs.promise(id, request, amount);
        Ok(Promise {
            keys: self.clone(),
            request,
            suffices,
            kept: false,
        })
    }

    /// Takes up the promise to a request that was stored before the start.
    pub(crate) fn restore(&self, id: SharedKeyId, request: RequestId, amount: Kudos) {
        self.tabs().promise(id, request, amount.max(Kudos::ZERO));
    }

    /// Counts what a request was charged, out of what was promised to it.
    pub(crate) fn charge(&self, request: RequestId, amount: Kudos) {
        let tabs = &mut *self.tabs();
        let Some((id, promised)) = tabs.by_request.get_mut(&request) else {
            return;
        };
        let redeemed = amount.min(*promised);
        *promised -= redeemed;
        if let Some(tab) = tabs.by_key.get_mut(id) {
            tab.charged += amount;
            tab.promised -= redeemed;
        }
    }

    /// A request ended: nothing is promised to it any more.
    pub(crate) fn release(&self, request: RequestId) {
        self.tabs().release(request);
    }
}

impl Copy {
    fn known(&self) -> Known {
        Known {
            key: Arc::clone(&self.key),
            charged: self.charged,
        }
    }
}

impl Tabs {
    /// What nobody spent and nobody was promised.
    fn left(&self, known: &Known) -> Option<Kudos> {
        let budget = known.key.terms.budget?;
        let spoken_for = self.by_key.get(&known.key.id).map_or(Kudos::ZERO, |tab| {
            tab.charged - known.charged + tab.promised
        });
        Some((budget - spoken_for).max(Kudos::ZERO))
    }

    fn promise(&mut self, id: SharedKeyId, request: RequestId, amount: Kudos) {
        self.release(request);
        self.by_request.insert(request, (id, amount));
        self.by_key.entry(id).or_default().promised += amount;
    }

    fn release(&mut self, request: RequestId) {
        if let Some((id, promised)) = self.by_request.remove(&request)
            && let Some(tab) = self.by_key.get_mut(&id)
        {
            tab.promised -= promised;
        }
    }
}

/// What is left when it does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short(pub(crate) Kudos);

/// A promise to a request on its way into the store; taken back when it is dropped before.
pub(crate) struct Promise {
    keys: SharedKeys,
    request: RequestId,
    suffices: bool,
    kept: bool,
}

impl Promise {
    /// Whether the budget covers everything that it may cost.
    pub(crate) const fn suffices(&self) -> bool {
        self.suffices
    }

    /// The request is stored, and was charged `amount` for that.
    pub(crate) fn keep(mut self, amount: Kudos) {
        self.kept = true;
        self.keys.charge(self.request, amount);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.keys.release(self.request);
        }
    }
}
