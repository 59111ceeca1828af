//! The worker's half that all kinds of work share: who stands at the door, what it gets, what it
//! hands back.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use ordu_api::image::{JobProgress, Reward};
use ordu_api::worker::{Skipped, WorkKind, WorkerMessage};
use ordu_api::{JobId, ReturnCode, UserId, WorkerId};
use ordu_core::agent::Agent;
use ordu_core::horde::{
    self, Assignment, CheckIn, Declared, Idle, JobState, Offer, Outcome, Owner,
};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Claim, NewJob, NewWorker};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::registry::Known;
use crate::text;

/// How often a pop tries again after another node was faster.
const MAX_LOST_CLAIMS: usize = 8;

/// The longest worker name, in characters.
const MAX_NAME_CHARS: usize = 100;

/// Words that a new worker's name must not hold.
const FORBIDDEN_WORDS: &[&str] = &["colab", "tpu", "google"];

/// How many workers an untrusted owner may have before it gets no more.
const MAX_WORKERS: usize = 3;

/// How many a trusted one.
const MAX_WORKERS_TRUSTED: usize = 20;

/// What a pop found.
pub(crate) struct Popped {
    /// The jobs, a batch for each request that they are of; none if there is nothing to do.
    pub(crate) assignments: Vec<Assignment>,
    /// Why waiting requests were passed over, if there is nothing.
    pub(crate) skipped: Skipped,
    /// The worker's software.
    pub(crate) agent: Agent,
    /// What its owner should know.
    pub(crate) messages: Vec<WorkerMessage>,
    /// When.
    pub(crate) now: Timestamp,
}

/// A worker comes for work: who is it, what is there for it?
///
/// # Source
/// `generation.md` § 6.1.
pub(crate) async fn pop(
    app: &Arc<App>,
    key: OptionalKey,
    peer: IpAddr,
    mut declared: Declared,
) -> ApiResult<Popped> {
    let account = app.accounts.by_key(&key.require()?).await?;
    check_owner(&account)?;
    let name = text::clean(declared.common().name);
    declared.set_name(name.chars().take(MAX_NAME_CHARS).collect());
    let worker = worker_for(app, &account, &declared).await?;
    let standing = account.standing(Kudos::ZERO);
    let offer = Offer::new(worker, &standing, &declared, &app.reference)?;
    let this = Arc::clone(app);
    app.complete(async move {
        let visit = Visit {
            offer,
            declared,
            ip: peer.to_string(),
        };
        this.take(visit).await
    })
    .await
}

/// A worker that stands at the door.
struct Visit {
    offer: Offer,
    /// What it said, accepted or not.
    declared: Declared,
    ip: String,
}

fn check_owner(account: &Account) -> ApiResult<()> {
    let refuse = |code, message: &str| Err(ApiError::refused(code, message));
    if account.user.roles.deleted {
        return refuse(
            ReturnCode::DeletedUser,
            "This account is about to be deleted",
        );
    }
    if account.user.roles.flagged {
        let message = "This account is flagged: its workers are in maintenance mode";
        return refuse(ReturnCode::WorkerFlaggedMaintenance, message);
    }
    if account.user.id == UserId::ANONYMOUS {
        let message = "Anonymous users cannot run workers: make an account first";
        return refuse(ReturnCode::AnonForbiddenWorker, message);
    }
    Ok(())
}

/// The worker of this name; made if nobody has the name yet.
async fn worker_for(app: &Arc<App>, account: &Account, declared: &Declared) -> ApiResult<WorkerId> {
    let name = declared.common().name;
    let Some(known) = app.registry.by_name(name) else {
        return new_worker(app, account, declared).await;
    };
    if known.kind != declared.kind() {
        let message = format!("`{name}` is a worker of another kind: choose another name");
        return Err(ApiError::refused(
            ReturnCode::PolymorphicNameConflict,
            message,
        ));
    }
    if known.owner != account.user.id {
        let message = format!("Wrong credentials: `{name}` is somebody else's worker");
        return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
    }
    Ok(known.id)
}

async fn new_worker(app: &Arc<App>, account: &Account, declared: &Declared) -> ApiResult<WorkerId> {
    let common = declared.common();
    check_new_worker(app, account, common.name)?;
    // The models are judged before the worker exists: a typing mistake leaves nothing behind.
    let id = WorkerId::from_uuid(Uuid::new_v4());
    Offer::new(id, &account.standing(Kudos::ZERO), declared, &app.reference)?;
    let row = NewWorker {
        id,
        name: common.name.to_owned(),
        kind: declared.kind(),
        owner: account.user.id,
        agent: common.agent.to_owned(),
        declared: declared.to_json(),
        ip: None,
        created: app.clock.now(),
    };
    let known = Known {
        id,
        name: row.name.clone(),
        kind: row.kind,
        owner: row.owner,
        info: None,
        declared: Arc::new(declared.clone()),
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

fn check_new_worker(app: &App, account: &Account, name: &str) -> ApiResult<()> {
    if name.is_empty() {
        return Err(ApiError::field("name", "A worker needs a name"));
    }
    let lower = name.to_lowercase();
    if let Some(word) = FORBIDDEN_WORDS.iter().find(|word| lower.contains(**word)) {
        let message = format!("The name must not hold `{word}`: choose another one");
        return Err(ApiError::refused(ReturnCode::BadRequest, message));
    }
    let owned = app.registry.owned_by(account.user.id).len();
    let invited = usize::try_from(account.user.worker_invited).unwrap_or(0);
    if app.modes().invite_only_mode && owned >= invited {
        let message = "The horde takes new workers by invitation only at the moment";
        return Err(ApiError::refused(ReturnCode::WorkerInviteOnly, message));
    }
    let trusted = account.user.roles.trusted;
    if !trusted && owned > MAX_WORKERS {
        let message = format!("An account that is not trusted yet has {MAX_WORKERS} workers");
        return Err(ApiError::refused(ReturnCode::TooManyWorkers, message));
    }
    if owned > MAX_WORKERS_TRUSTED && owned > invited {
        let message = format!("An account has at most {MAX_WORKERS_TRUSTED} workers");
        return Err(ApiError::refused(
            ReturnCode::TooManyWorkersTrusted,
            message,
        ));
    }
    Ok(())
}

impl App {
    /// Finds a job for a worker, and stores that the worker has it: durable before the answer.
    async fn take(&self, visit: Visit) -> ApiResult<Popped> {
        let worker = visit.offer.worker;
        for _ in 0..MAX_LOST_CLAIMS {
            let now = self.clock.now();
            let (check_in, found) = {
                let live = &mut *self.live();
                let check_in = live.horde.check_in(visit.offer.clone(), now);
                (check_in, live.horde.pop(worker, &mut live.dice, now))
            };
            self.note_check_in(&visit, check_in, now).await;
            let popped = |assignments, skipped| Popped {
                assignments,
                skipped,
                agent: visit.offer.agent.clone(),
                messages: self.messages.for_pop(worker, now),
                now,
            };
            let assignment = match found {
                Ok(assignment) => assignment,
                Err(Idle::Skipped(skipped)) => return Ok(popped(Vec::new(), skipped)),
                Err(Idle::Maintenance(refusal)) => return Err(refusal.into()),
            };
            if self.claim(&assignment).await? == Claim::Won {
                tracing::info!(
                    request.id = %assignment.request,
                    worker.id = %worker,
                    model = assignment.model,
                    jobs = assignment.jobs.len(),
                    "jobs were given away"
                );
                return Ok(popped(vec![assignment], Skipped::new()));
            }
        }
        // Everything was taken by others meanwhile: the worker comes again in a moment.
        let now = self.clock.now();
        Ok(Popped {
            assignments: Vec::new(),
            skipped: Skipped::new(),
            agent: visit.offer.agent,
            messages: self.messages.for_pop(worker, now),
            now,
        })
    }

    /// Stores what a check-in changed. Nobody needs it after a crash, so it is written behind.
    async fn note_check_in(&self, visit: &Visit, check_in: CheckIn, now: Timestamp) {
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
        let worker = visit.offer.worker;
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
                declared: Arc::new(visit.declared.clone()),
                ..known
            });
        }
        self.store.check_in_later(ordu_store::CheckIn {
            worker,
            at: now,
            agent: visit.declared.common().agent.to_owned(),
            declared: visit.declared.to_json(),
            ip: Some(visit.ip.clone()),
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
}

/// `POST /generate/progress`: passed on to whoever watches, never stored.
pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(progress): Checked<JobProgress>,
) -> ApiResult<StatusCode> {
    let id = known_job(&app, &progress.id, None)?;
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

/// The job that a submit names and the account that hands it back. The job is looked for first.
pub(crate) async fn identify(
    app: &App,
    key: OptionalKey,
    id: &str,
    kind: WorkKind,
) -> ApiResult<(JobId, Arc<Account>)> {
    let key = key.require()?;
    let id = known_job(app, id, Some(kind))?;
    Ok((id, app.accounts.by_key(&key).await?))
}

/// The job of this id, of any kind if none is given.
fn known_job(app: &App, text: &str, kind: Option<WorkKind>) -> ApiResult<JobId> {
    let is_known = |id: &JobId| {
        let live = app.live();
        let job = live.horde.job(*id);
        job.is_some_and(|job| {
            let request = live.horde.request(job.request);
            let found = request.map(|request| request.work.kind());
            // A decoy may outlive the request that it pretends to be of.
            kind.is_none() || found.is_none() || found == kind
        })
    };
    let id = text.parse().ok().filter(is_known);
    id.ok_or_else(|| horde::unknown_job(text).into())
}

/// Settles a job: durable before the reward is answered.
pub(crate) async fn submit(
    app: &Arc<App>,
    id: JobId,
    account: &Account,
    outcome: Outcome,
) -> ApiResult<Reward> {
    let by = Owner::from(&account.standing(Kudos::ZERO));
    let this = Arc::clone(app);
    let reward = app
        .complete(async move {
            let now = this.clock.now();
            let settlement = this.live().horde.submit(id, by, outcome, now)?;
            this.settle(settlement, now).await
        })
        .await?;
    Ok(Reward {
        reward: reward.as_f64(),
    })
}
