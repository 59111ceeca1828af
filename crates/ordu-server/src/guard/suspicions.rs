//! What speaks against accounts and workers: in memory for the views, stored before anything is
//! decided by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::{UserId, WorkerId};
use ordu_core::horde::{Delivery, Settlement};
use ordu_core::suspicion::{Noted, Pace, Reason, Suspect, Suspicions};
use ordu_core::text_models::TextModel;
use ordu_core::{Millis, Role, Roles, Timestamp};
use ordu_store::{Store, Suspicion, WorkerChange};

use super::OVERLAP_MS;
use crate::app::App;
use crate::guard::notices::{News, NoticeKind};
use crate::guard::problems::{Reported, is_problem};

/// How long other nodes have to learn that something was forgotten.
const FORGOTTEN_FOR: Millis = Millis::from_minutes(24 * 60);

/// All suspicions, and up to which change they are known.
#[derive(Default)]
pub(crate) struct SuspicionBook {
    suspicions: Mutex<Suspicions>,
    seen: AtomicI64,
}

impl SuspicionBook {
    fn suspicions(&self) -> MutexGuard<'_, Suspicions> {
        self.suspicions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How much speaks against an account, its workers' reasons included.
    pub(crate) fn of_user(&self, user: UserId) -> u32 {
        let suspect = Suspect { user, worker: None };
        self.suspicions().total(suspect)
    }

    /// How much speaks against a worker.
    pub(crate) fn of_worker(&self, owner: UserId, worker: WorkerId) -> u32 {
        let suspect = Suspect {
            user: owner,
            worker: Some(worker),
        };
        self.suspicions().total(suspect)
    }

    /// Takes over what was stored since the last time.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<(), ordu_store::Error> {
        let since = Timestamp(self.seen.load(Ordering::Relaxed).saturating_sub(OVERLAP_MS));
        let stored = store.list_suspicions(since).await?;
        let mut suspicions = self.suspicions();
        for suspicion in stored {
            self.seen.fetch_max(suspicion.changed.0, Ordering::Relaxed);
            suspicions.merge(suspicion.suspect, suspicion.reason, suspicion.count);
        }
        Ok(())
    }
}

impl App {
    /// Whether an account lost its privileges: no trust by itself, no movements of kudos.
    pub(crate) fn is_suspicious(&self, user: UserId, roles: Roles) -> bool {
        let suspicions = self.guard.suspicions.suspicions();
        suspicions.is_suspicious(user, roles)
    }

    /// Notes what speaks against somebody. Enough against a worker pauses it.
    pub(crate) async fn suspect(&self, suspect: Suspect, roles: Roles, reason: Reason) {
        let noted = self
            .guard
            .suspicions
            .suspicions()
            .report(suspect, roles, reason);
        let Some(noted) = noted else {
            return;
        };
        tracing::warn!(
            user.id = %suspect.user,
            worker.id = suspect.worker.map(|worker| worker.to_string()),
            reason = reason.words(),
            "suspicious"
        );
        if let Err(error) = self.store_suspicion(&noted, reason).await {
            tracing::warn!(%error, "a suspicion is known to this node only");
        }
        if let Some(worker) = suspect.worker.filter(|_| noted.pause) {
            self.pause_suspect(worker, reason).await;
        }
    }

    async fn store_suspicion(
        &self,
        noted: &Noted,
        reason: Reason,
    ) -> Result<(), ordu_store::Error> {
        let changed = self.clock.now();
        for (suspect, count) in [Some(noted.user), noted.worker].into_iter().flatten() {
            let suspicion = Suspicion {
                suspect,
                reason,
                count,
                changed,
            };
            self.store.put_suspicion(&suspicion).await?;
        }
        Ok(())
    }

    async fn pause_suspect(&self, worker: WorkerId, reason: Reason) {
        let known = {
            let mut live = self.live();
            let found = live.horde.worker(worker);
            let running = found.filter(|worker| !worker.record.paused);
            let name = running.map(|worker| worker.record.name.clone());
            if name.is_some() {
                live.horde.pause(worker);
            }
            name
        };
        let Some(name) = known else {
            return;
        };
        let change = WorkerChange {
            paused: Some(true),
            ..WorkerChange::default()
        };
        if let Err(error) = self.store.update_worker(worker, &change).await {
            tracing::warn!(%error, worker.id = %worker, "its pause is not stored");
        }
        let news = News {
            kind: NoticeKind::WorkerPaused,
            subject: format!("worker {worker}"),
            message: format!(
                "Worker `{name}` ({worker}) was paused: too much speaks against it, at last `{}`",
                reason.words()
            ),
            prompt: None,
        };
        self.tell_moderators(news).await;
    }

    /// Gives work again to the paused workers of an account that gained trust.
    pub(crate) async fn unpause_workers_of(&self, owner: UserId) -> Result<(), ordu_store::Error> {
        for worker in self.registry.owned_by(owner) {
            let change = WorkerChange {
                paused: Some(false),
                ..WorkerChange::default()
            };
            self.store.update_worker(worker, &change).await?;
            self.live().horde.unpause(worker);
        }
        Ok(())
    }

    /// Forgets what speaks against an account and its workers. Paused workers stay paused.
    pub(crate) async fn forget_suspicions(&self, user: UserId) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        self.store.forget_suspicions(user, now).await?;
        self.guard.suspicions.suspicions().forget(user);
        Ok(())
    }

    /// Deletes what was forgotten long enough ago.
    pub(crate) async fn delete_forgotten_suspicions(&self) -> Result<(), ordu_store::Error> {
        let before = self.clock.now() - FORGOTTEN_FOR;
        self.store.delete_forgotten_suspicions(before).await?;
        Ok(())
    }

    /// Suspects a worker that drops too many jobs.
    pub(crate) async fn suspect_dropper(&self, worker: WorkerId) {
        let Some(owner) = self.registry.by_id(worker).map(|known| known.owner) else {
            return;
        };
        let roles = self.owner_roles(owner).await;
        let suspect = Suspect {
            user: owner,
            worker: Some(worker),
        };
        self.suspect(suspect, roles, Reason::TooManyJobsAborted)
            .await;
    }

    /// Looks at a delivered job: was it faster than any can be, was it reported as illegal?
    pub(crate) async fn judge_delivery(&self, settlement: &Settlement, delivery: &Delivery) {
        let statistics = &delivery.statistics;
        let roles = self.owner_roles(statistics.owner).await;
        let reference = self.reference();
        let texts = reference.text();
        let sized = |model: &TextModel| model.billions();
        let pace = Pace {
            kind: statistics.kind,
            speed: statistics.speed(),
            model: &statistics.model,
            billions: texts.find(&statistics.model).map(sized),
            owner: roles,
        };
        if pace.is_unreasonable() {
            let suspect = Suspect {
                user: statistics.owner,
                worker: Some(statistics.worker),
            };
            self.suspect(suspect, roles, Reason::UnreasonablyFast).await;
        }
        if is_problem(&delivery.delivered) {
            let reported = Reported {
                job: settlement.job,
                request: settlement.request,
                requester: statistics.requester,
                worker: statistics.worker,
            };
            self.note_problem(reported).await;
        }
    }

    /// The roles of a worker's owner. One that cannot be found is suspected of nothing.
    pub(crate) async fn owner_roles(&self, owner: UserId) -> Roles {
        match self.accounts.by_id(owner).await {
            Ok(Some(account)) => account.roles(),
            _ => Roles::NONE.with(Role::Trusted),
        }
    }
}
