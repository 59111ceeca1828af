//! A picture that is made once more, by a worker that is trusted, to see whether the first one is
//! what it claims to be.
//!
//! The twin is a request like any other, so that nobody can tell it from one. It costs nobody
//! anything: its price is not charged, its reward is new kudos.
//!
//! # Source
//! `platform.md` § 4 ("Trust audits").

use std::sync::Arc;

use ordu_api::{JobId, RequestId, UserId, WorkerId};
use serde::{Deserialize, Serialize};

use super::{Address, Horde, Job, Request, Requester, Work};
use crate::image::{ImageSpec, seed};
use crate::likeness::Likeness;
use crate::rare::Rare;
use crate::{Kudos, Role, Roles, Timestamp};

/// The picture that a request makes once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The job that made the picture.
    pub job: JobId,
    /// Its worker.
    pub worker: WorkerId,
    /// Whose worker that is.
    pub owner: UserId,
    /// How the picture looks.
    pub likeness: Likeness,
}

impl Horde {
    /// Whether a delivered job can be made once more and compared: a picture from nothing but words
    /// and a seed, made alone, of a worker whose owner is not trusted.
    pub fn can_be_repeated(&self, id: JobId, owner: Roles) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.decoy) else {
            return false;
        };
        let Some(entry) = self.requests.get(&job.request) else {
            return false;
        };
        let Work::Image(spec) = &entry.request.work else {
            return false;
        };
        let jobs = entry.jobs.iter().filter_map(|id| self.jobs.get(id));
        let batch = jobs.filter(|other| is_of_one_batch(job, other)).count();
        // What is drawn in a batch is not what is drawn alone.
        let is_alone = batch == 1;
        let is_first = entry.request.twin.is_none();
        is_alone && is_first && is_repeatable(spec) && !owner.has(Role::Trusted)
    }

    /// The request that makes the picture of a delivered job once more. `None` if nobody who is
    /// trusted and online could serve it.
    pub fn twin(
        &mut self,
        id: RequestId,
        job: JobId,
        (claimed_seed, likeness): (i64, Likeness),
        now: Timestamp,
    ) -> Option<Request> {
        let job = self.jobs.get(&job)?;
        let first = &self.requests.get(&job.request)?.request;
        let Work::Image(spec) = &first.work else {
            return None;
        };
        let spec = ImageSpec {
            n: 1,
            models: vec![job.model.clone()],
            seed: Some(seed::from_text(&claimed_seed.to_string())?),
            seed_variation: None,
            trusted_workers: true,
            slow_workers: true,
            workers: vec![job.worker].into(),
            worker_blacklist: true,
            shared: false,
            webhook: Rare::default(),
            proxied_account: Rare::default(),
            disable_batching: true,
            ..(**spec).clone()
        };
        let twin = Request {
            id,
            requester: Requester {
                user: UserId::ANONYMOUS,
                roles: Roles::NONE,
                available: Kudos::ZERO,
                address: Address::Safe,
            },
            work: Work::Image(Arc::new(spec)),
            priority: first.priority,
            created: now,
            twin: Some(Box::new(Twin {
                job: job.id,
                worker: job.worker,
                owner: job.owner,
                likeness,
            })),
        };
        self.has_valid_worker(&twin, now).then_some(twin)
    }
}

/// Whether two jobs were given away together.
fn is_of_one_batch(job: &Job, other: &Job) -> bool {
    other.worker == job.worker && other.assigned == job.assigned
}

/// Whether words and seed alone say what is drawn.
fn is_repeatable(spec: &ImageSpec) -> bool {
    spec.source_image.is_none()
        && spec.source_mask.is_none()
        && spec.extra_source_images.is_empty()
        && spec.workflow.is_none()
        && spec.special.is_none()
}
