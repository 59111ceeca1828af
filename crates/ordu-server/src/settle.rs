//! Settlements on their way into the database and back into the live horde.

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, TeamId};
use ordu_core::horde::{Aftermath, Assignment, Delivery, Effect, Settlement, Statistics};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Activity, Fault, Faulted, Settled};

use crate::app::App;
use crate::error::ApiResult;
use crate::metrics::JobStep;
use crate::statistics::counted_model;

impl App {
    /// Stores a settlement, then applies it: durable before the reward is answered. `None` if
    /// another node was faster; how is known here by then.
    pub(crate) async fn settle(
        &self,
        settlement: Settlement,
        now: Timestamp,
    ) -> ApiResult<Option<Kudos>> {
        let (job, request) = (settlement.job, settlement.request);
        let stored = match &settlement.effect {
            Effect::Nothing => return Ok(Some(settlement.reward)),
            Effect::Faulted(aftermath) => {
                let fault = Fault {
                    job,
                    request,
                    at: now,
                    how: how(*aftermath),
                };
                self.store.fault(&fault).await
            }
            Effect::Delivered(delivery) => self.store_delivery(&settlement, delivery).await,
        };
        let is_stored = match stored {
            Ok(is_stored) => is_stored,
            Err(error) => {
                self.live().horde.unsettle(job);
                return Err(error.into());
            }
        };
        if !is_stored && self.nodes.are_several() {
            self.live().horde.unsettle(job);
            self.refresh_requests(&[request]).await?;
            return Ok(None);
        }
        let confirmed = self.live().horde.confirm(job);
        self.jobs.note(match settlement.effect {
            Effect::Delivered(_) => JobStep::Delivered,
            _ => JobStep::Faulted,
        });
        self.archive(job, now);
        self.watch.forget_job(request, job);
        if let Effect::Delivered(delivery) = &settlement.effect {
            self.accounts.apply(&delivery.event);
            self.accounts.release(request, Some(delivery.charged));
            if !self.is_twin(request) {
                self.judge_delivery(&settlement, delivery).await;
            }
        }
        if confirmed.request_done {
            self.accounts.release(request, None);
        }
        if let Some(sanction) = confirmed.sanction {
            self.store_sanction(&sanction).await;
        }
        self.share(&settlement).await;
        Ok(Some(settlement.reward))
    }

    /// Frees jobs whose answer could not be made: their worker never hears of them.
    pub(crate) async fn give_back(&self, assignment: &Assignment, now: Timestamp) {
        for job in assignment.ids() {
            let fault = Fault {
                job,
                request: assignment.request,
                at: now,
                how: Faulted::Release,
            };
            if assignment.decoy || self.store.fault(&fault).await.is_ok() {
                self.live().horde.release(&[job]);
            }
        }
    }

    /// Whether the horde itself asked for something, to compare it.
    fn is_twin(&self, request: RequestId) -> bool {
        let live = self.live();
        let request = live.horde.request(request);
        request.is_some_and(|request| request.twin.is_some())
    }

    /// Pictures count for the team that their worker is in now, whatever it joins later.
    fn team_of_job(&self, statistics: &Statistics) -> Option<TeamId> {
        match statistics.kind {
            WorkKind::Image => self.registry.team_of(statistics.worker),
            WorkKind::Text | WorkKind::Interrogation => None,
        }
    }

    /// Says whether it was this call that settled the job.
    async fn store_delivery(
        &self,
        settlement: &Settlement,
        delivery: &Delivery,
    ) -> Result<bool, ordu_store::Error> {
        let statistics = &delivery.statistics;
        let things = i64::try_from(statistics.things).unwrap_or(i64::MAX);
        let row = ordu_store::Settlement {
            job: settlement.job,
            request: settlement.request,
            result: serde_json::to_string(&delivery.delivered).unwrap_or_default(),
            at: delivery.event.at,
            expires: delivery.expires,
            kudos: settlement.reward,
            consumed: delivery.charged,
            event: Some(delivery.event.clone()),
            activity: Some(Activity {
                event: settlement.job.uuid(),
                at: delivery.event.at,
                kind: statistics.kind,
                // What the horde itself asked for is nobody's.
                requester: Some(statistics.requester).filter(|_| !self.is_twin(settlement.request)),
                usage: things,
                owner: Some(statistics.owner),
                worker: Some(statistics.worker),
                team: self.team_of_job(statistics),
                things,
                worker_kudos: statistics.worker_kudos,
                style_owner: None,
                model: counted_model(statistics.kind, &statistics.model),
            }),
            webhook: self.message(settlement),
        };
        let tells = row.webhook.is_some();
        let settled = self.store.settle(&row).await?;
        match settled {
            Settled::Now => {
                if tells {
                    self.webhooks.wake();
                }
                tracing::info!(
                    job.id = %settlement.job,
                    worker.id = %statistics.worker,
                    model = statistics.model,
                    duration_ms = statistics.took_ms,
                    kudos_milli = settlement.reward.milli(),
                    "a job was delivered"
                );
            }
            Settled::Already(state) => {
                tracing::warn!(job.id = %settlement.job, ?state, "a job was settled before");
            }
            Settled::Unknown => tracing::warn!(job.id = %settlement.job, "a job is not stored"),
        }
        Ok(settled == Settled::Now)
    }
}

/// What is stored of a fault.
pub(crate) const fn how(aftermath: Aftermath) -> Faulted {
    match aftermath {
        Aftermath::Reopened => Faulted::Retry,
        Aftermath::GivenUp => Faulted::GiveUpSlot,
        Aftermath::Returned => Faulted::Release,
    }
}
