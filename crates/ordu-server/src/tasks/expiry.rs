//! Lets time pass in the horde: jobs time out, requests are given up, expire, and are deleted.

use std::sync::Arc;
use std::time::Duration;

use ordu_core::Timestamp;
use ordu_core::horde::{Lapse, Sanction};
use ordu_store::{Error, Fault, RequestState, WorkerChange};

use crate::app::App;
use crate::metrics::JobStep;
use crate::settle;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    let now = app.clock.now();
    let lapses = app.lapse(now);
    for request in app.push.watching.sweep(now) {
        let live = &mut *app.live();
        app.push.watching.place(&mut live.horde, request, now);
    }
    app.beat(now);
    app.store_lapses(lapses, now).await;
    if !app.nodes.are_several()
        && let Err(error) = app.refresh_again().await
    {
        tracing::warn!(%error, "requests could not be looked at once more");
    }
    if !app.nodes.leads() {
        return;
    }
    match app.store.delete_ended(now).await {
        Ok(0) => {}
        Ok(deleted) => tracing::debug!(deleted, "expired requests were deleted"),
        Err(error) => tracing::warn!(%error, "expired requests could not be deleted"),
    }
}

impl App {
    /// Tells onlookers what happened, the horde's own last doings included.
    fn beat(&self, now: Timestamp) {
        // Whoever let go of the horde before this has passed on what happened.
        let live = self.live();
        self.push.pulses.beat(&live.horde, now);
    }

    /// Lets time pass; answers what must be stored. Of several nodes one keeps the time.
    fn lapse(&self, now: Timestamp) -> Vec<Lapse> {
        let horde = &mut self.live().horde;
        let mut lapses = self.nodes.owed();
        if self.nodes.are_several() {
            horde.tick_aside(now);
        }
        if self.nodes.leads() {
            lapses.extend(horde.tick(now));
        }
        lapses
    }

    /// Stores what lapsed; what waits for the database is kept for the next round. Memory is right
    /// already, the rows follow.
    async fn store_lapses(&self, lapses: Vec<Lapse>, now: Timestamp) {
        let mut is_away = false;
        for lapse in lapses {
            if is_away {
                self.nodes.owe(lapse);
                continue;
            }
            let Err(error) = self.store_lapse(&lapse, now).await else {
                continue;
            };
            is_away = error.is_unavailable();
            if is_away {
                tracing::warn!(%error, "lapses wait for the database");
                self.nodes.owe(lapse);
            } else {
                // The row catches up by its own expiry.
                tracing::error!(%error, "a lapse could not be stored");
            }
        }
    }

    async fn store_lapse(&self, lapse: &Lapse, now: Timestamp) -> Result<(), Error> {
        match *lapse {
            Lapse::JobFaulted {
                job,
                request,
                aftermath,
                ref sanction,
                ..
            } => {
                self.watch.forget_job(request, job);
                let fault = Fault {
                    job,
                    request,
                    at: now,
                    how: settle::how(aftermath),
                };
                if !self.store.fault(&fault).await? && self.nodes.are_several() {
                    // Its worker was faster, at another node.
                    return self.refresh_requests(&[request]).await;
                }
                tracing::info!(job.id = %job, request.id = %request, "a job took too long");
                self.archive(job, now);
                self.jobs.note(JobStep::TimedOut);
                // The last job of a cancelled request ends it.
                if self.live().horde.is_done(request) {
                    self.accounts.release(request, None);
                }
                if let Some(sanction) = sanction {
                    self.store_sanction(sanction).await;
                }
            }
            Lapse::RequestFaulted { request } => {
                tracing::info!(request.id = %request, "a request faulted too often");
                self.watch.forget_request(request);
                self.store
                    .end_requests(&[request], RequestState::Faulted)
                    .await?;
                self.accounts.release(request, None);
            }
            Lapse::RequestExpired { request, .. } => {
                self.watch.forget_request(request);
                if !self.nodes.are_several() {
                    self.store
                        .end_requests(&[request], RequestState::Expired)
                        .await?;
                } else if self
                    .store
                    .expire_requests(&[request], now)
                    .await?
                    .is_empty()
                {
                    // Another node gave a job of it away: it lives on.
                    return self.refresh_requests(&[request]).await;
                }
                self.accounts.release(request, None);
            }
        }
        Ok(())
    }

    /// Keeps what was done to a worker that dropped too many jobs.
    pub(crate) async fn store_sanction(&self, sanction: &Sanction) {
        tracing::warn!(worker.id = %sanction.worker, "a worker drops too many jobs");
        self.suspect_dropper(sanction.worker).await;
        let Some(reason) = &sanction.maintenance else {
            return;
        };
        let change = WorkerChange {
            maintenance: Some(true),
            maintenance_message: Some(reason.clone()),
            ..WorkerChange::default()
        };
        if let Err(error) = self.store.update_worker(sanction.worker, &change).await {
            tracing::warn!(%error, worker.id = %sanction.worker, "its maintenance is not stored");
        }
    }
}
