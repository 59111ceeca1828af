//! The worker's half that all kinds of work share: who stands at the door, what it gets, what it
//! hands back.

use std::net::IpAddr;
use std::sync::Arc;

use ordu_api::image::Reward;
use ordu_api::worker::{Skipped, WorkKind, WorkerMessage};
use ordu_api::{JobId, ReturnCode, WorkerId};
use ordu_core::agent::Agent;
use ordu_core::horde::{
    self, Assignment, CheckIn, Declared, Idle, Offer, Outcome, Owner, UptimeReward,
    check_priority_usernames,
};
use ordu_core::pricing::UPTIME_REWARD_SECONDS;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Claim, JobState, NewWorker, Recorded};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;
use crate::handover::{Handover, stored};
use crate::onboarding::{Caller, WorkerName, check_door, check_owner, of_claims};
use crate::push::pops::Ticket;
use crate::push::prefer::{Applied, Patient, Prefer};
use crate::registry::Known;

/// After the first one, what another node did is known.
const MAX_SETTLE_TRIES: usize = 2;

/// How often a pop tries again after another node was faster.
const MAX_LOST_CLAIMS: usize = 8;

/// What a pop found.
pub(crate) struct Popped {
    /// The jobs, a batch for each request that they are of; none if there is nothing to do.
    pub(crate) assignments: Handover,
    /// Why waiting requests were passed over, if there is nothing.
    pub(crate) skipped: Skipped,
    /// The worker's software.
    pub(crate) agent: Agent,
    /// What its owner should know.
    pub(crate) messages: Vec<WorkerMessage>,
    /// When.
    pub(crate) now: Timestamp,
    /// Whether the worker was ready to wait, and could.
    pub(crate) applied: Applied,
    /// Whether there is no use in waiting: the worker has offered something else meanwhile, or one
    /// of the operator's rules gives no verdict.
    outdated: bool,
}

/// A worker comes for work: who is it, what is there for it?
///
/// # Source
/// `generation.md` § 6.1.
pub(crate) async fn pop(
    app: &Arc<App>,
    key: OptionalKey,
    (peer, prefer): (IpAddr, Prefer),
    mut declared: Declared,
) -> ApiResult<Popped> {
    let key = key.require()?;
    check_priority_usernames(&declared)?;
    let account = app.accounts.by_key(&key).await?;
    check_owner(&account)?;
    let name = WorkerName::read(declared.common().name);
    declared.set_name(name.text.clone());
    app.meet_worker_named(&name.text).await?;
    let caller = Caller {
        account: &account,
        kind: declared.kind(),
        name: &name,
        agent: declared.common().agent,
        address: peer,
    };
    let (known, mut remarks) = check_door(app, caller).await?;
    if let Declared::Image(pop) = &declared {
        remarks.extend(of_claims(pop.max_pixels));
    }
    let worker = match known {
        Some(known) => known.id,
        None => new_worker(app, &account, &declared, peer).await?,
    };
    app.note_remarks(account.user.id, worker, account.roles(), remarks)
        .await;
    let standing = account.standing(Kudos::ZERO);
    let offer = Offer::new(worker, &standing, &declared, &app.reference())?;
    let visit = Visit {
        offer,
        ip: peer,
        stay: Stay::Comes,
    };
    let patient = prefer.sit_down(app);
    let has_place = patient.is_some();
    let popped = match patient {
        Some(patient) => wait(app, visit, declared.kind(), patient).await?,
        None => app.look(visit).await?,
    };
    // Who found something was not kept waiting.
    let applied = if has_place || !popped.assignments.is_empty() {
        prefer.applied()
    } else {
        Applied::default()
    };
    Ok(Popped { applied, ..popped })
}

/// Lets a worker wait until there is something for it, as long as it would.
async fn wait(
    app: &Arc<App>,
    mut visit: Visit,
    kind: WorkKind,
    patient: Patient,
) -> ApiResult<Popped> {
    let end = Instant::now() + patient.limit;
    // Before the first look, so that nothing comes between the two.
    let ticket = Ticket::draw(app, kind, visit.offer.clone());
    loop {
        let popped = app.look(visit.clone()).await?;
        if !popped.assignments.is_empty() || popped.outdated {
            return Ok(popped);
        }
        ticket.looked();
        patient.seat.wait();
        visit.stay = Stay::Waits;
        let is_over = tokio::select! {
            () = ticket.woken() => false,
            () = sleep_until(end) => true,
            () = app.closing.cancelled() => true,
        };
        if let Some(assignments) = ticket.promised().await {
            return Ok(Popped {
                assignments,
                ..app.popped(&visit, Vec::new(), app.clock.now())
            });
        }
        if is_over {
            return Ok(popped);
        }
    }
}

/// A worker that stands at the door.
#[derive(Clone)]
struct Visit {
    offer: Offer,
    ip: IpAddr,
    stay: Stay,
}

/// Whether it has just come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// What it offers counts from now on.
    Comes,
    /// It has waited. If it came again meanwhile, and offered something else, that counts.
    Waits,
}

async fn new_worker(
    app: &Arc<App>,
    account: &Account,
    declared: &Declared,
    peer: IpAddr,
) -> ApiResult<WorkerId> {
    let common = declared.common();
    // The models are judged before the worker exists: a typing mistake leaves nothing behind.
    let id = WorkerId::from_uuid(Uuid::new_v4());
    Offer::new(
        id,
        &account.standing(Kudos::ZERO),
        declared,
        &app.reference(),
    )?;
    let row = NewWorker {
        id,
        name: common.name.to_owned(),
        kind: declared.kind(),
        owner: account.user.id,
        agent: common.agent.replace('\0', ""),
        declared: declared.to_json(),
        ip: Some(peer.to_string()),
        created: app.clock.now(),
    };
    let known = Known {
        id,
        name: row.name.clone(),
        kind: row.kind,
        owner: row.owner,
        info: None,
        team: None,
        address: Some(peer),
        declared: Arc::new(declared.clone()),
    };
    let this = Arc::clone(app);
    app.complete(async move {
        match this.store.insert_worker(&row).await {
            Ok(()) => this.registry.put(known),
            Err(ordu_store::Error::Taken) => {
                // Another thread of the same worker may have come at the same moment.
                let found = this.store.find_worker_by_name(&row.name).await?;
                let same = |found: &ordu_store::Worker| {
                    (found.owner, found.kind) == (row.owner, row.kind)
                };
                let Some(found) = found.filter(same) else {
                    let message = "Another worker has just taken this name: choose another one";
                    return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
                };
                this.registry.put(Known::from_stored(&found));
                return Ok(found.id);
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(worker.id = %row.id, user.id = %row.owner, "a worker came for the first time");
        Ok(row.id)
    })
    .await
}

impl App {
    /// Looks for a job for a worker, to the end although the worker may hang up meanwhile. Then it
    /// gets nothing: what was found for it goes back.
    async fn look(self: &Arc<Self>, visit: Visit) -> ApiResult<Popped> {
        let (tell, told) = oneshot::channel();
        let this = Arc::clone(self);
        self.tracker.spawn(ordu_store::counted_along(async move {
            // What nobody hears is dropped, now or when the channel is.
            drop(tell.send(this.take(visit).await));
        }));
        match told.await {
            Ok(found) => found,
            Err(_) => Err(ApiError::Internal("a pop was not completed".to_owned())),
        }
    }

    /// Finds a job for a worker, and stores that the worker has it: durable before the answer.
    async fn take(self: &Arc<Self>, visit: Visit) -> ApiResult<Popped> {
        let worker = visit.offer.worker;
        for _ in 0..MAX_LOST_CLAIMS {
            let now = self.clock.now();
            let chosen = Instant::now();
            let (check_in, found) = {
                let live = &mut *self.live();
                if visit.stay == Stay::Waits && !live.horde.is_current(&visit.offer) {
                    let nothing = self.popped(&visit, Vec::new(), now);
                    return Ok(Popped {
                        outdated: true,
                        ..nothing
                    });
                }
                live.horde.set_behind(self.nodes.is_behind());
                let check_in = live.horde.check_in(visit.offer.clone(), now);
                (check_in, live.horde.pop(worker, &mut live.dice, now))
            };
            self.note_check_in(&visit, check_in, now).await;
            let found = match found {
                Ok(found) => found,
                Err(Idle::Skipped(skipped)) => {
                    let nothing = self.popped(&visit, Vec::new(), now);
                    return Ok(Popped { skipped, ..nothing });
                }
                Err(Idle::Maintenance(refusal)) => return Err(refusal.into()),
            };
            let asked = self.ask_assignments(worker, found).await;
            let won = self.claim_all(asked.allowed, chosen).await?;
            if !won.is_empty() {
                return Ok(self.popped(&visit, won, now));
            }
            if asked.is_unanswered {
                let nothing = self.popped(&visit, Vec::new(), now);
                return Ok(Popped {
                    outdated: true,
                    ..nothing
                });
            }
        }
        // Everything was taken by others meanwhile: the worker comes again in a moment.
        Ok(self.popped(&visit, Vec::new(), self.clock.now()))
    }

    /// What a pop found, if anything.
    fn popped(
        self: &Arc<Self>,
        visit: &Visit,
        assignments: Vec<Assignment>,
        now: Timestamp,
    ) -> Popped {
        Popped {
            assignments: Handover::of(self, assignments, now),
            skipped: Skipped::new(),
            agent: visit.offer.agent.clone(),
            messages: self.messages.for_pop(visit.offer.worker, now),
            now,
            applied: Applied::default(),
            outdated: false,
        }
    }

    /// Stores what a check-in changed. Nobody needs it after a crash, so it is written behind.
    async fn note_check_in(&self, visit: &Visit, check_in: CheckIn, now: Timestamp) {
        if let Some(reward) = &check_in.reward {
            self.pay_uptime(reward).await;
        }
        if !check_in.store {
            return;
        }
        let worker = visit.offer.worker;
        if let Some(known) = self.registry.by_id(worker) {
            self.registry.put(Known {
                declared: Arc::new(visit.offer.declared.clone()),
                address: Some(visit.ip),
                ..known
            });
        }
        let agent = visit.offer.declared.common().agent.replace('\0', "");
        self.store_check_in(worker, agent, now);
    }

    /// Pays a worker's owner for its being there.
    pub(crate) async fn pay_uptime(&self, reward: &UptimeReward) {
        match self.store.record(&reward.event).await {
            Ok(recorded) => {
                self.accounts.apply(&reward.event);
                let team = self.registry.team_of(reward.worker);
                if let (Some(team), Recorded::Now) = (team, recorded) {
                    self.store.team_online_later(team, UPTIME_REWARD_SECONDS);
                }
            }
            Err(error) => {
                tracing::warn!(%error, worker.id = %reward.worker, "no uptime reward");
            }
        }
    }

    /// Writes behind what is known of a worker that was seen just now.
    pub(crate) fn store_check_in(&self, worker: WorkerId, agent: String, at: Timestamp) {
        let record = self
            .live()
            .horde
            .worker(worker)
            .map(|worker| worker.record.clone());
        let (Some(record), Some(known)) = (record, self.registry.by_id(worker)) else {
            return;
        };
        self.store.check_in_later(ordu_store::CheckIn {
            worker,
            at,
            agent,
            declared: known.declared.to_json(),
            ip: known.address.map(|address| address.to_string()),
            uptime: record.uptime.0 / 1000,
            uncompleted: i64::try_from(record.uncompleted).unwrap_or(i64::MAX),
            kudos_uptime: record.kudos_uptime,
            speeds: record.speeds.iter().copied().collect(),
            drops: (i64::from(record.drops), record.drops_since),
        });
    }

    /// Claims the slots of assignments in the database, each for itself; answers those that were
    /// still to be had, and gives the others back. They were `chosen` some time ago.
    async fn claim_all(
        &self,
        found: Vec<Assignment>,
        chosen: Instant,
    ) -> ApiResult<Vec<Assignment>> {
        let real = found.iter().filter(|assignment| !assignment.decoy);
        let rows: Vec<ordu_store::Assignment> = real.map(stored).collect();
        let mut claims = self.store.assign_all(&rows).await.into_iter();
        let mut won = Vec::new();
        let mut lost = Vec::new();
        let mut failure = None;
        for assignment in found {
            let claim = if assignment.decoy {
                Some(Ok(Claim::Won))
            } else {
                claims.next()
            };
            if matches!(claim, Some(Ok(Claim::Won))) {
                won.push(assignment);
                continue;
            }
            self.live().horde.release(&assignment.ids());
            match claim {
                // It may have taken place: who claims it next loses, and looks.
                Some(Err(error)) => failure = failure.or(Some(error)),
                _ => lost.push(assignment.request),
            }
        }
        self.count_claims((won.len(), lost.len()), chosen);
        // Another node took them, or an earlier claim took place of which nobody heard: look before the
        // next try.
        if !lost.is_empty()
            && let Err(error) = self.refresh_requests(&lost).await
        {
            // Whoever claims them next looks again. What was won is won.
            failure = failure.or(Some(error));
        }
        match failure {
            Some(error) if won.is_empty() => Err(error.into()),
            _ => Ok(won),
        }
    }
}

/// The job that a submit names and the account that hands it back. The job is looked for first.
pub(crate) async fn identify(
    app: &App,
    key: OptionalKey,
    id: &str,
    kind: WorkKind,
) -> ApiResult<(JobId, Arc<Account>)> {
    let key = key.require()?;
    let id = known_job(app, id, Some(kind)).await?;
    Ok((id, app.accounts.by_key(&key).await?))
}

/// The job of this id, of any kind if none is given.
pub(crate) async fn known_job(app: &App, text: &str, kind: Option<WorkKind>) -> ApiResult<JobId> {
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
    let unknown = || ApiError::from(horde::unknown_job(text));
    let id = text.parse().map_err(|_| unknown())?;
    if is_known(&id) {
        return Ok(id);
    }
    let state = if app.nodes.are_several() {
        // Another node may have given it away just now.
        app.refresh_job(id).await?
    } else {
        app.store.find_job(id).await?.map(|job| job.state)
    };
    match state {
        Some(_) if is_known(&id) => Ok(id),
        // Its request was over before this node heard of it, or before its last start: the answer to
        // who delivered was lost.
        Some(JobState::Done) => Err(horde::delivered_before(id).into()),
        _ => Err(unknown()),
    }
}

/// Settles a job: durable before the reward is answered.
pub(crate) async fn settle(
    app: &Arc<App>,
    id: JobId,
    by: Owner,
    outcome: Outcome,
) -> ApiResult<Reward> {
    let this = Arc::clone(app);
    let reward = app
        .complete(async move {
            let outcome = this.ask_result(id, by, outcome).await?;
            let now = this.clock.now();
            for _ in 0..MAX_SETTLE_TRIES {
                let submitted = this.live().horde.submit(id, by, outcome.clone(), now);
                let settlement = submitted?;
                let follow_up = this.follow_up_of(&settlement, by);
                if let Some(reward) = this.settle(settlement, now).await? {
                    this.follow_up(follow_up);
                    return Ok(reward);
                }
            }
            Err(ApiError::Internal("a job cannot be settled".to_owned()))
        })
        .await?;
    Ok(Reward {
        reward: reward.as_f64(),
    })
}
