//! Pictures, the worker's half: pop, tell how far, submit.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::image::{
    ExtraSourceImage, ImageJob, ImagePayload, ImagePop, ImageSubmit, JobProgress, Reward,
    SourceProcessing, UPLOADED,
};
use ordu_api::worker::{Skipped, WorkKind};
use ordu_api::{JobId, ReturnCode, UserId, WorkerId};
use ordu_core::horde::{
    self, Assignment, CheckIn, Delivery, Effect, Idle, JobState, Offer, Outcome, Owner, Settlement,
    Work, check_priority_usernames,
};
use ordu_core::image::{ImageSpec, check_submit};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Activity, Claim, Fault, Faulted, NewJob, NewWorker, Settled};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::blobs::{self, Permission};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey, Peer};
use crate::onboarding::{Caller, WorkerName, check_door, check_owner, of_claims};
use crate::registry::Known;

/// How often a pop tries again after another node was faster.
const MAX_LOST_CLAIMS: usize = 8;

/// `POST /generate/pop`
pub(crate) async fn pop(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Peer(peer): Peer,
    Checked(mut pop): Checked<ImagePop>,
) -> ApiResult<Json<ImageJob>> {
    let key = key.require()?;
    check_priority_usernames(&pop.priority_usernames)?;
    let account = app.accounts.by_key(&key).await?;
    check_owner(&account)?;
    let name = WorkerName::read(&pop.name);
    pop.name.clone_from(&name.text);
    let caller = Caller {
        account: &account,
        kind: WorkKind::Image,
        name: &name,
        agent: &pop.bridge_agent,
        address: peer,
    };
    let (known, mut remarks) = check_door(&app, caller).await?;
    remarks.extend(of_claims(pop.max_pixels));
    let worker = match known {
        Some(known) => known.id,
        None => new_worker(&app, &account, &pop, peer).await?,
    };
    let roles = account.roles();
    app.note_remarks(account.user.id, worker, roles, remarks)
        .await;
    let standing = account.standing(Kudos::ZERO);
    let offer = Offer::image(worker, &standing, &pop, &app.reference)?;
    let this = Arc::clone(&app);
    let job = app
        .complete(async move {
            let popped = Popped {
                offer,
                pop,
                ip: peer,
            };
            this.take(popped).await
        })
        .await?;
    Ok(Json(job))
}

/// A worker that stands at the door.
struct Popped {
    offer: Offer,
    pop: ImagePop,
    ip: IpAddr,
}

async fn new_worker(
    app: &Arc<App>,
    account: &Account,
    pop: &ImagePop,
    peer: IpAddr,
) -> ApiResult<WorkerId> {
    // The models are judged before the worker exists: a typing mistake leaves nothing behind.
    let id = WorkerId::from_uuid(Uuid::new_v4());
    Offer::image(id, &account.standing(Kudos::ZERO), pop, &app.reference)?;
    let now = app.clock.now();
    let row = NewWorker {
        id,
        name: pop.name.clone(),
        kind: WorkKind::Image,
        owner: account.user.id,
        agent: pop.bridge_agent.clone(),
        declared: serde_json::to_string(pop)
            .map_err(|error| ApiError::Internal(error.to_string()))?,
        ip: Some(peer.to_string()),
        created: now,
    };
    let known = Known {
        id,
        name: pop.name.clone(),
        kind: WorkKind::Image,
        owner: account.user.id,
        info: None,
        address: Some(peer),
        declared: Arc::new(pop.clone()),
    };
    let this = Arc::clone(app);
    app.complete(async move {
        match this.store.insert_worker(&row).await {
            Ok(()) => this.registry.put(known),
            Err(ordu_store::Error::Taken) => {
                let message = "Another worker has just taken this name: choose another one";
                return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(worker.id = %row.id, user.id = %row.owner, "a worker came for the first time");
        Ok(row.id)
    })
    .await
}

impl App {
    /// Finds a job for a worker, and stores that the worker has it: durable before the answer.
    async fn take(&self, popped: Popped) -> ApiResult<ImageJob> {
        let worker = popped.offer.worker;
        for _ in 0..MAX_LOST_CLAIMS {
            let now = self.clock.now();
            let (check_in, popped_job) = {
                let live = &mut *self.live();
                let check_in = live.horde.check_in(popped.offer.clone(), now);
                (check_in, live.horde.pop(worker, &mut live.dice, now))
            };
            self.note_check_in(&popped, check_in, now).await;
            let assignment = match popped_job {
                Ok(assignment) => assignment,
                Err(Idle::Skipped(skipped)) => return Ok(no_job(skipped)),
                Err(Idle::Maintenance(refusal)) => return Err(refusal.into()),
            };
            if self.claim(&assignment).await? == Claim::Won {
                return self.job_answer(&assignment, &popped, now).await;
            }
        }
        // Everything was taken by others meanwhile: the worker comes again in a moment.
        Ok(no_job(Skipped::new()))
    }

    /// Stores what a check-in changed. Nobody needs it after a crash, so it is written behind.
    async fn note_check_in(&self, popped: &Popped, check_in: CheckIn, now: Timestamp) {
        if let Some(reward) = check_in.reward {
            match self.store.record(&reward.event).await {
                Ok(_) => self.accounts.apply(&reward.event),
                Err(error) => {
                    tracing::warn!(%error, worker.id = %reward.worker, "no uptime reward");
                }
            }
        }
        if !check_in.store {
            return;
        }
        let worker = popped.offer.worker;
        let Some(record) = self
            .live()
            .horde
            .worker(worker)
            .map(|worker| worker.record.clone())
        else {
            return;
        };
        if let Some(known) = self.registry.by_id(worker) {
            self.registry.put(Known {
                declared: Arc::new(popped.pop.clone()),
                address: Some(popped.ip),
                ..known
            });
        }
        self.store.check_in_later(ordu_store::CheckIn {
            worker,
            at: now,
            agent: popped.pop.bridge_agent.clone(),
            declared: serde_json::to_string(&popped.pop).unwrap_or_default(),
            ip: Some(popped.ip.to_string()),
            uptime: record.uptime.0 / 1000,
            uncompleted: i64::try_from(record.uncompleted).unwrap_or(i64::MAX),
            kudos_uptime: record.kudos_uptime,
        });
    }

    /// Claims the slots of an assignment in the database; gives them back if that fails.
    async fn claim(&self, assignment: &Assignment) -> ApiResult<Claim> {
        if assignment.decoy {
            return Ok(Claim::Won);
        }
        let jobs = assignment.jobs.iter().map(|job| NewJob {
            id: job.id,
            worker: job.worker,
            slot: None,
            seed: Some(i64::from(assignment.seed)),
            model: job.model.clone(),
            assigned_at: job.assigned,
            ttl: job.deadline.since(job.assigned),
        });
        let row = ordu_store::Assignment {
            request: assignment.request,
            expires: assignment.expires,
            jobs: jobs.collect(),
        };
        let claim = self.store.assign(&row).await;
        if !matches!(claim, Ok(Claim::Won)) {
            self.live().horde.release(&assignment.ids());
        }
        Ok(claim?)
    }

    async fn job_answer(
        &self,
        assignment: &Assignment,
        popped: &Popped,
        now: Timestamp,
    ) -> ApiResult<ImageJob> {
        let Work::Image(spec) = &assignment.work;
        let ids = assignment.ids();
        let upload = |id: &JobId| {
            self.blobs
                .link(&blobs::result_name(*id), Permission::Upload, now)
        };
        let uploads: Vec<String> = ids.iter().map(upload).collect();
        let sources = self.sources(spec, popped, now).await?;
        tracing::info!(
            request.id = %assignment.request,
            worker.id = %popped.offer.worker,
            model = assignment.model,
            jobs = ids.len(),
            "jobs were given away"
        );
        Ok(ImageJob {
            payload: assignment.image_payload().unwrap_or_default(),
            id: ids.first().copied(),
            ids,
            ttl: Some(assignment.ttl),
            skipped: Skipped::new(),
            model: Some(assignment.model.clone()),
            source_image: sources.image,
            source_processing: spec.source_processing,
            source_mask: sources.mask,
            extra_source_images: sources.extra,
            r2_upload: uploads.first().cloned(),
            r2_uploads: Some(uploads),
            messages: Vec::new(),
        })
    }

    /// The pictures of a request as a worker gets them: links, or base64 for old agents.
    async fn sources(
        &self,
        spec: &ImageSpec,
        popped: &Popped,
        now: Timestamp,
    ) -> ApiResult<Sources> {
        let links = popped.offer.agent.can("r2_source");
        let hand_over = async |name: &String| -> ApiResult<String> {
            if links {
                return Ok(self.blobs.link(name, Permission::Download, now));
            }
            let bytes = self.blobs.get(name).await.map_err(|error| {
                ApiError::Internal(format!("the source picture is gone: {error}"))
            })?;
            Ok(STANDARD.encode(bytes))
        };
        let mut sources = Sources::default();
        if let Some(name) = &spec.source_image {
            sources.image = Some(hand_over(name).await?);
        }
        if let Some(name) = &spec.source_mask {
            sources.mask = Some(hand_over(name).await?);
        }
        for extra in &spec.extra_source_images {
            let image = hand_over(&extra.image).await?;
            let extra = ExtraSourceImage {
                image,
                strength: extra.strength,
            };
            sources.extra.get_or_insert_default().push(extra);
        }
        Ok(sources)
    }
}

/// The pictures that go with a job.
#[derive(Default)]
struct Sources {
    image: Option<String>,
    mask: Option<String>,
    extra: Option<Vec<ExtraSourceImage>>,
}

/// The answer when there is nothing to do.
fn no_job(skipped: Skipped) -> ImageJob {
    ImageJob {
        payload: ImagePayload::default(),
        id: None,
        ids: Vec::new(),
        ttl: None,
        skipped,
        model: None,
        source_image: None,
        source_processing: SourceProcessing::Img2Img,
        source_mask: None,
        extra_source_images: None,
        r2_upload: None,
        r2_uploads: None,
        messages: Vec::new(),
    }
}

/// `POST /generate/progress`: passed on to whoever watches, never stored.
pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(progress): Checked<JobProgress>,
) -> ApiResult<StatusCode> {
    let id = known_job(&app, &progress.id)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    let running = {
        let live = app.live();
        let job = live
            .horde
            .job(id)
            .filter(|job| job.owner == account.user.id);
        job.filter(|job| job.state == JobState::Running && !job.decoy)
            .map(|job| job.request)
    };
    let Some(request) = running else {
        let message = "Wrong credentials: this is no running job of yours";
        return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
    };
    app.watch.report(request, id, progress.steps);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /generate/submit`
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(submit): Checked<ImageSubmit>,
) -> ApiResult<Json<Reward>> {
    let key = key.require()?;
    let id = known_job(&app, &submit.id)?;
    let account = app.accounts.by_key(&key).await?;
    check_submit(&submit)?;
    let outcome = Outcome::image(&submit);
    if matches!(outcome, Outcome::Delivered { .. }) {
        keep_inline_result(&app, id, account.user.id, &submit.generation).await?;
    }
    let by = Owner::from(&account.standing(Kudos::ZERO));
    let this = Arc::clone(&app);
    let reward = app
        .complete(async move {
            let now = this.clock.now();
            let settlement = this.live().horde.submit(id, by, outcome, now)?;
            this.settle(settlement, now).await
        })
        .await?;
    Ok(Json(Reward {
        reward: reward.as_f64(),
    }))
}

/// The job of this id; whether the key is right is asked afterwards.
fn known_job(app: &App, text: &str) -> ApiResult<JobId> {
    let id = text
        .parse()
        .ok()
        .filter(|id| app.live().horde.job(*id).is_some());
    id.ok_or_else(|| horde::unknown_job(text).into())
}

/// Keeps a result that was sent as base64 instead of being uploaded.
async fn keep_inline_result(
    app: &App,
    id: JobId,
    owner: UserId,
    generation: &str,
) -> ApiResult<()> {
    let is_owner = app
        .live()
        .horde
        .job(id)
        .is_some_and(|job| job.owner == owner);
    if generation == UPLOADED || !is_owner {
        return Ok(());
    }
    let bytes = STANDARD.decode(generation).map_err(|error| {
        let message = format!("`generation` is neither `{UPLOADED}` nor base64: {error}");
        ApiError::refused(ReturnCode::ImageValidationFailed, message)
    })?;
    app.blobs
        .put(&blobs::result_name(id), bytes.into())
        .await
        .map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a picture could not be kept"
            );
            ApiError::Unavailable(5)
        })
}

impl App {
    /// Stores a settlement, then applies it: durable before the reward is answered.
    async fn settle(&self, settlement: Settlement, now: Timestamp) -> ApiResult<Kudos> {
        let (job, request) = (settlement.job, settlement.request);
        let stored = match &settlement.effect {
            Effect::Nothing => return Ok(settlement.reward),
            Effect::Faulted => {
                let fault = Fault {
                    job,
                    request,
                    at: now,
                    how: Faulted::Retry,
                };
                self.store.fault(&fault).await.map(|_| ())
            }
            Effect::Delivered(delivery) => self.store_delivery(&settlement, delivery).await,
        };
        if let Err(error) = stored {
            self.live().horde.unsettle(job);
            return Err(error.into());
        }
        let confirmed = self.live().horde.confirm(job);
        self.watch.forget_job(request, job);
        if let Effect::Delivered(delivery) = &settlement.effect {
            self.accounts.apply(&delivery.event);
            self.accounts.release(request, Some(delivery.charged));
            self.judge_delivery(&settlement, delivery).await;
        }
        if confirmed.request_done {
            self.accounts.release(request, None);
        }
        if let Some(sanction) = confirmed.sanction {
            self.store_sanction(&sanction).await;
        }
        Ok(settlement.reward)
    }

    async fn store_delivery(
        &self,
        settlement: &Settlement,
        delivery: &Delivery,
    ) -> Result<(), ordu_store::Error> {
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
                requester: Some(statistics.requester),
                usage: things,
                owner: Some(statistics.owner),
                worker: Some(statistics.worker),
                things,
                worker_kudos: statistics.worker_kudos,
                style_owner: None,
            }),
        };
        match self.store.settle(&row).await? {
            Settled::Now => {
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
        Ok(())
    }
}
