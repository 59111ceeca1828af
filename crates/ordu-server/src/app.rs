//! The long-lived parts of a server, handed to every handler.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::http::HeaderValue;
use ordu_api::UserId;
use ordu_api::status::Modes;
use ordu_core::horde::Horde;
use ordu_store::Store;
use rand_chacha::ChaCha12Rng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::accounts::{Account, Accounts};
use crate::blobs::Blobs;
use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::explaining::Explainer;
use crate::guard::Guard;
use crate::guesses::Guesses;
use crate::history::Histories;
use crate::hooks::Hooks;
use crate::identity::Identity;
use crate::limits::Limits;
use crate::load::Load;
use crate::messages::Messages;
use crate::metrics::{Jobs, Metrics};
use crate::nodes::Nodes;
use crate::openapi::Descriptions;
use crate::passkeys::Passkeys;
use crate::pictures::Pictures;
use crate::push::Push;
use crate::rankings::Rankings;
use crate::ratings::Ratings;
use crate::registry::Registry;
use crate::repeats::Repeats;
use crate::reservation::Reservations;
use crate::secret::Secret;
use crate::statistics::LastCount;
use crate::styles::Styles;
use crate::subscriptions::Subscriptions;
use crate::teams::Teams;
use crate::trusted::TrustedAddresses;
use crate::watch::Watch;
use crate::webhooks::Webhooks;
use crate::worker_edits::WorkerEdits;

/// Everything that lives as long as the server.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) secret: Secret,
    pub(crate) store: Arc<Store>,
    pub(crate) blobs: Blobs,
    pub(crate) pictures: Pictures,
    pub(crate) accounts: Accounts,
    pub(crate) guard: Guard,
    pub(crate) passkeys: Passkeys,
    pub(crate) trusted: TrustedAddresses,
    pub(crate) limits: Limits,
    pub(crate) guesses: Guesses,
    pub(crate) identity: Identity,
    pub(crate) webhooks: Webhooks,
    pub(crate) hooks: Hooks,
    pub(crate) ratings: Ratings,
    pub(crate) registry: Registry,
    pub(crate) worker_edits: WorkerEdits,
    pub(crate) watch: Watch,
    pub(crate) nodes: Nodes,
    pub(crate) push: Push,
    pub(crate) reservations: Reservations,
    pub(crate) repeats: Repeats,
    pub(crate) styles: Styles,
    pub(crate) teams: Teams,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) rankings: Rankings,
    pub(crate) messages: Messages,
    pub(crate) catalogue: Catalogue,
    pub(crate) live: Mutex<Live>,
    /// What must be completed although nobody waits for the answer any more.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when the server is about to end: nobody waits any longer.
    pub(crate) closing: CancellationToken,
    /// What answers say about who made them.
    pub(crate) node: HeaderValue,
    /// How clients reach this server, without a slash at the end.
    pub(crate) url: String,
    pub(crate) active: AtomicU64,
    pub(crate) load: Arc<Load>,
    pub(crate) draining: AtomicBool,
    pub(crate) reachable: AtomicBool,
    pub(crate) modes: RwLock<Modes>,
    pub(crate) last_count: LastCount,
    pub(crate) histories: Histories,
    pub(crate) explainer: Explainer,
    pub(crate) descriptions: Descriptions,
    pub(crate) metrics: Metrics,
    pub(crate) jobs: Jobs,
}

/// The live horde with the dice it is played with.
pub(crate) struct Live {
    pub(crate) horde: Horde,
    pub(crate) dice: ChaCha12Rng,
}

/// The live horde in somebody's hands. Who lets go of it makes known what happened.
pub(crate) struct Held<'a> {
    live: MutexGuard<'a, Live>,
    app: &'a App,
}

impl Deref for Held<'_> {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let changes = self.live.horde.take_changes();
        if !changes.is_empty() {
            let App { push, clock, .. } = self.app;
            let changes = self.app.nodes.put_off(&self.live.horde, changes);
            push.note(&mut self.live.horde, &changes, clock);
        }
    }
}

impl App {
    /// The live horde. Never held across an `.await`.
    pub(crate) fn live(&self) -> Held<'_> {
        // A panic in the core leaves whole events behind, never half of one.
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Held { live, app: self }
    }

    /// Runs `work` to its end although the client may hang up meanwhile.
    ///
    /// A decision in memory and its row in the database belong together: who hangs up between the
    /// two must not tear them apart.
    pub(crate) async fn complete<T, F>(self: &Arc<Self>, work: F) -> ApiResult<T>
    where
        T: Send + 'static,
        F: Future<Output = ApiResult<T>> + Send + 'static,
    {
        let work = ordu_store::counted_along(work).in_current_span();
        match self.tracker.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(ApiError::Internal(error.to_string())),
        }
    }

    /// Whether an account has the rights of an admin.
    pub(crate) fn is_admin(&self, user: UserId) -> bool {
        self.config.admins.contains(&user)
    }

    /// Whether an account keeps order: admins may do whatever moderators may.
    pub(crate) fn is_moderator(&self, account: &Account) -> bool {
        account.user.roles.moderator || self.is_admin(account.user.id)
    }

    /// Counts one request in flight until the guard is dropped.
    pub(crate) fn count_active(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    /// Requests in flight.
    pub(crate) fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether the server is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the database answered when it was last asked.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// The value of `Horde-Node`.
    pub(crate) fn node_name(&self) -> HeaderValue {
        self.node.clone()
    }
}

/// One request in flight.
pub(crate) struct Active(Arc<App>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
