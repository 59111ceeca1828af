//! A share of the pictures of untrusted workers, made once more by a trusted one and compared.
//!
//! It happens after the reward was answered, so that nobody can tell by the time it takes. The
//! first picture is looked at at once: what its worker puts in its place later does not help it.
//!
//! # Source
//! `platform.md` § 4 ("Trust audits").

use std::sync::Arc;

use ordu_api::{JobId, RequestId, UserId, WorkerId};
use ordu_core::horde::{Effect, Owner, REQUEST_LIFETIME, Request, Settlement, Twin};
use ordu_core::likeness::Likeness;
use ordu_core::suspicion::{Reason, Suspect};
use ordu_core::{Kudos, Millis};
use ordu_store::{NewRequest, TrustAudit};
use rand::Rng as _;
use uuid::Uuid;

use crate::app::App;
use crate::blobs;
use crate::error::{ApiError, ApiResult};

/// How long an audit counts, and is kept.
const KEPT_FOR: Millis = Millis::from_minutes(30 * 24 * 60);

/// How closely untrusted workers are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrustAuditConfig {
    /// Which share of their pictures is made once more, 0…1.
    pub share: f64,
    /// Pictures that are more different than this are not the same: 0 is the same, 1 has nothing to
    /// do with it.
    pub max_distance: f64,
    /// From how many different pictures within 30 days on each of them speaks against the worker.
    pub strikes: u32,
}

impl Default for TrustAuditConfig {
    /// Nothing is made once more.
    fn default() -> Self {
        Self {
            share: 0.0,
            max_distance: 0.5,
            strikes: 3,
        }
    }
}

/// What is to be done after a job was settled.
pub(crate) enum FollowUp {
    Nothing,
    /// Its picture is made once more.
    Begin {
        job: JobId,
        seed: i64,
    },
    /// It made a picture once more.
    End(Box<End>),
}

/// A picture that was made once more.
pub(crate) struct End {
    twin: Twin,
    job: JobId,
    worker: WorkerId,
    model: String,
}

impl App {
    /// What a settlement leads to, as far as audits go.
    pub(crate) fn follow_up_of(&self, settlement: &Settlement, by: Owner) -> FollowUp {
        let Effect::Delivered(delivery) = &settlement.effect else {
            return FollowUp::Nothing;
        };
        if delivery.delivered.censored {
            return FollowUp::Nothing;
        }
        let live = &mut *self.live();
        let request = live.horde.request(settlement.request);
        if let Some(twin) = request.and_then(|request| request.twin.as_deref()) {
            return FollowUp::End(Box::new(End {
                twin: twin.clone(),
                job: settlement.job,
                worker: delivery.statistics.worker,
                model: delivery.statistics.model.clone(),
            }));
        }
        let share = self.config.trust_audits.share;
        let is_suitable = share > 0.0
            && by.user != UserId::ANONYMOUS
            && live.horde.can_be_repeated(settlement.job, by.roles);
        if is_suitable && chance(live.dice.next_u64()) < share {
            return FollowUp::Begin {
                job: settlement.job,
                seed: delivery.delivered.seed,
            };
        }
        FollowUp::Nothing
    }

    /// Does it, without anybody waiting for it.
    pub(crate) fn follow_up(self: &Arc<Self>, what: FollowUp) {
        let this = Arc::clone(self);
        match what {
            FollowUp::Nothing => {}
            FollowUp::Begin { job, seed } => {
                self.tracker.spawn(async move {
                    if let Err(error) = this.begin_audit(job, seed).await {
                        tracing::warn!(?error, job.id = %job, "no audit of a picture");
                    }
                });
            }
            FollowUp::End(end) => {
                self.tracker.spawn(async move {
                    if let Err(error) = this.end_audit(*end).await {
                        tracing::warn!(?error, "an audit came to nothing");
                    }
                });
            }
        }
    }

    /// Lets a trusted worker make a picture once more, if there is one.
    async fn begin_audit(&self, job: JobId, seed: i64) -> ApiResult<()> {
        let likeness = self.look_at(job).await?;
        let id = RequestId::from_uuid(Uuid::new_v4());
        let now = self.clock.now();
        let twin = self.live().horde.twin(id, job, (seed, likeness), now);
        let Some(request) = twin else {
            tracing::debug!(job.id = %job, "nobody who is trusted could make a picture once more");
            return Ok(());
        };
        self.store_request(&row(&request)?, None).await?;
        self.live().horde.enqueue(request, now);
        tracing::debug!(job.id = %job, "a picture is made once more");
        Ok(())
    }

    /// Compares a picture that was made once more with the first one.
    async fn end_audit(&self, end: End) -> ApiResult<()> {
        let likeness = self.look_at(end.job).await?;
        let distance = likeness.distance(&end.twin.likeness);
        let config = self.config.trust_audits;
        let audit = TrustAudit {
            job: end.twin.job,
            worker: end.twin.worker,
            owner: end.twin.owner,
            model: end.model,
            twin_worker: end.worker,
            distance: thousandths(distance),
            differs: distance > config.max_distance,
            at: self.clock.now(),
        };
        let is_new = self.store.insert_trust_audit(&audit).await?;
        tracing::info!(
            worker.id = %audit.worker,
            job.id = %audit.job,
            distance_thousandths = audit.distance,
            differs = audit.differs,
            "a picture was made once more"
        );
        if !is_new || !audit.differs {
            return Ok(());
        }
        let since = audit.at - KEPT_FOR;
        let strikes = self
            .store
            .count_differing_audits(audit.worker, since)
            .await?;
        if strikes >= config.strikes {
            let suspect = Suspect {
                user: audit.owner,
                worker: Some(audit.worker),
            };
            let roles = self.owner_roles(audit.owner).await;
            self.suspect(suspect, roles, Reason::UnlikePictures).await;
        }
        Ok(())
    }

    /// How the picture that a job made looks.
    async fn look_at(&self, job: JobId) -> ApiResult<Likeness> {
        let bytes = self.blobs.get(&blobs::result_name(job)).await?;
        Ok(self.pictures.likeness(bytes).await?)
    }

    /// Deletes audits that count no more.
    pub(crate) async fn delete_old_trust_audits(&self) -> Result<(), ordu_store::Error> {
        let before = self.clock.now() - KEPT_FOR;
        self.store.delete_trust_audits(before).await?;
        Ok(())
    }
}

/// A twin as it is stored: nobody pays, nobody is told.
fn row(request: &Request) -> ApiResult<NewRequest> {
    Ok(NewRequest {
        id: request.id,
        owner: request.requester.user,
        kind: request.work.kind(),
        spec: serde_json::to_string(request)
            .map_err(|error| ApiError::Internal(error.to_string()))?,
        n: request.work.asked(),
        priority: request.priority.milli(),
        created: request.created,
        expires: request.created + REQUEST_LIFETIME,
        client_agent: String::new(),
        ip: None,
        shared_key: None,
        hold: Kudos::ZERO,
        consumed: Kudos::ZERO,
        activity: None,
        activation: None,
        answer: None,
    })
}

/// A number from 0 to below 1, evenly.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
fn chance(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a distance is 0…1")]
fn thousandths(distance: f64) -> i64 {
    (distance * 1000.0).round() as i64
}
