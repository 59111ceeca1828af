//! Workers as they are changed and deleted.
//!
//! # Source
//! `community.md` § 5.4, § 5.5; `observed.md` 25.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::worker::{WorkerChanged, WorkerDeleted, WorkerInput};
use ordu_api::{ReturnCode, TeamId, UserId};
use ordu_core::permission::{Caller, WorkerTier};
use ordu_store::WorkerChange;
use serde_json::json;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::{Deed, said, same_members};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::registry::{DEFAULT_MAINTENANCE, Known};
use crate::routes::team;
use crate::text;

/// `PUT /workers/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(input): Checked<WorkerInput>,
) -> ApiResult<Json<WorkerChanged>> {
    let known = find(&app, &id)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_selection(&input)?;
    let caller = caller(&app, &account, &known);
    check_permission(&input, caller)?;
    let team = match input.team.as_deref() {
        Some(team) => Some(Membership::find(&app, team).await?),
        None => None,
    };
    let mut edit = Edit {
        team,
        ..Edit::new(&app, &input, &known)?
    };
    if !caller.own || input.paused.is_some() {
        edit.deed = Some(change_deed(&app, &account, &known, &input));
    }
    let this = Arc::clone(&app);
    let changed = app
        .complete(async move { this.change_worker(known, edit).await })
        .await?;
    Ok(Json(changed))
}

/// What the audit log says of a change.
fn change_deed(app: &App, account: &Account, known: &Known, input: &WorkerInput) -> Deed {
    let (maintenance, paused) = {
        let live = app.live();
        let record = live.horde.worker(known.id).map(|worker| &worker.record);
        (
            record.and_then(|record| record.maintenance.clone()),
            record.is_some_and(|record| record.paused),
        )
    };
    let before = json!({
        "maintenance": maintenance.is_some(), "maintenance_msg": maintenance, "paused": paused,
        "info": known.info, "name": known.name,
    });
    let after = said(serde_json::to_value(input).unwrap_or_default());
    let before = same_members(&before, &after);
    Deed::new(account.user.id, "worker.update", "worker", known.id).change(before, after)
}

fn find(app: &App, id: &str) -> ApiResult<Known> {
    let known = id.parse().ok().and_then(|id| app.registry.by_id(id));
    known.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> ApiError {
    let message = format!("Worker '{id}' not found");
    ApiError::refused(ReturnCode::WorkerNotFound, message)
}

fn caller(app: &App, account: &Account, known: &Known) -> Caller {
    Caller {
        admin: app.is_admin(account.user.id),
        moderator: app.is_moderator(account),
        own: account.user.id == known.owner,
        anonymous: account.user.id == UserId::ANONYMOUS,
        service: account.user.roles.service,
    }
}

/// A message alone changes nothing.
fn check_selection(input: &WorkerInput) -> ApiResult<()> {
    let selected = WorkerInput {
        maintenance_msg: None,
        ..input.clone()
    };
    if selected == WorkerInput::default() {
        let message = "Nothing to change: send at least one member of a worker";
        return Err(ApiError::refused(ReturnCode::NoWorkerModSelected, message));
    }
    Ok(())
}

fn check_permission(input: &WorkerInput, caller: Caller) -> ApiResult<()> {
    let tiers = [
        (input.maintenance.is_some(), WorkerTier::Operation),
        (input.paused.is_some(), WorkerTier::Moderator),
        (input.info.is_some(), WorkerTier::Operation),
        (input.name.is_some(), WorkerTier::Identity),
        (input.team.is_some(), WorkerTier::Identity),
    ];
    for (_, tier) in tiers.into_iter().filter(|(is_asked, _)| *is_asked) {
        tier.check(caller)?;
    }
    Ok(())
}

/// What a worker without a team is said to be in.
const NO_TEAM: &str = "None";

/// The team that a worker is in afterwards.
struct Membership {
    id: Option<TeamId>,
    name: String,
}

impl Membership {
    /// The team with an id as it was sent; an empty one stands for none.
    async fn find(app: &App, id: &str) -> ApiResult<Self> {
        if id.is_empty() {
            return Ok(Self {
                id: None,
                name: NO_TEAM.to_owned(),
            });
        }
        let team = team::find(app, id).await?;
        Ok(Self {
            id: Some(team.id),
            name: team.name,
        })
    }
}

/// A change that everything agrees to.
struct Edit {
    maintenance: Option<bool>,
    reason: Option<String>,
    paused: Option<bool>,
    info: Option<String>,
    name: Option<String>,
    team: Option<Membership>,
    /// What the audit log says of it.
    deed: Option<Deed>,
}

impl Edit {
    fn new(app: &App, input: &WorkerInput, known: &Known) -> ApiResult<Self> {
        if let Some(info) = &input.info {
            app.check_text(info, ReturnCode::ProfaneWorkerInfo)?;
        }
        if let Some(name) = &input.name {
            app.check_text(name, ReturnCode::ProfaneWorkerName)?;
        }
        let name = input.name.as_deref().map(text::clean);
        if let Some(name) = &name {
            check_name(app, name, known)?;
        }
        let in_maintenance = input.maintenance == Some(true);
        let reason = input.maintenance_msg.as_deref().map(text::clean);
        Ok(Self {
            maintenance: input.maintenance,
            reason: reason.filter(|reason| in_maintenance && !reason.is_empty()),
            paused: input.paused,
            info: input.info.as_deref().map(text::clean),
            name,
            team: None,
            deed: None,
        })
    }

    fn change(&self) -> WorkerChange {
        WorkerChange {
            name: self.name.clone(),
            paused: self.paused,
            maintenance: self.maintenance,
            // Each switch of maintenance starts without a reason.
            maintenance_message: self
                .maintenance
                .map(|_| self.reason.clone().unwrap_or_default()),
            info: self.info.clone(),
            team: self.team.as_ref().map(|team| team.id),
        }
    }
}

fn check_name(app: &App, name: &str, known: &Known) -> ApiResult<()> {
    if name.is_empty() {
        return Err(ApiError::field("name", "A worker needs a name"));
    }
    let other = app.registry.by_name(name);
    if other.is_some_and(|other| other.id != known.id) {
        return Err(taken(name));
    }
    Ok(())
}

fn taken(name: &str) -> ApiError {
    let message = format!("Another worker has the name `{name}`");
    ApiError::refused(ReturnCode::WorkerNameAlreadyExists, message)
}

impl App {
    async fn change_worker(&self, known: Known, edit: Edit) -> ApiResult<WorkerChanged> {
        let id = known.id;
        let change = edit.change();
        let stored = self.recorded(edit.deed.clone(), self.store.update_worker(id, &change));
        if let Err(error) = stored.await {
            return Err(match (error, &edit.name) {
                (ordu_store::Error::Taken, Some(name)) => taken(name),
                (ordu_store::Error::NotFound, _) => missing(&id.to_string()),
                (other, _) => other.into(),
            });
        }
        self.show_change(known, &edit);
        Ok(WorkerChanged {
            maintenance: edit.maintenance,
            paused: edit.paused,
            info: edit.info,
            name: edit.name,
            team: edit.team.map(|team| team.name),
        })
    }

    /// What is stored now holds in memory too.
    fn show_change(&self, known: Known, edit: &Edit) {
        let id = known.id;
        {
            let horde = &mut self.live().horde;
            if let Some(in_maintenance) = edit.maintenance {
                let reason = edit
                    .reason
                    .clone()
                    .unwrap_or(DEFAULT_MAINTENANCE.to_owned());
                horde.set_maintenance(id, in_maintenance.then_some(reason));
            }
            match edit.paused {
                Some(true) => horde.pause(id),
                Some(false) => horde.unpause(id),
                None => {}
            }
        }
        if edit.info.is_some() || edit.name.is_some() || edit.team.is_some() {
            let info = match &edit.info {
                Some(info) => Some(info.clone()).filter(|info| !info.is_empty()),
                None => known.info.clone(),
            };
            let name = edit.name.clone().unwrap_or_else(|| known.name.clone());
            let team = match &edit.team {
                Some(team) => team.id,
                None => known.team,
            };
            self.registry.put(Known {
                name,
                info,
                team,
                ..known
            });
        }
    }
}

/// `DELETE /workers/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<WorkerDeleted>> {
    let known = find(&app, &id)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    let caller = caller(&app, &account, &known);
    WorkerTier::Identity.check(caller)?;
    let before = json!({ "name": known.name, "owner": known.owner });
    let deed = Deed::new(account.user.id, "worker.delete", "worker", known.id);
    let deed = (!caller.own).then(|| deed.change(before, json!({})));
    let this = Arc::clone(&app);
    let deleted = WorkerDeleted {
        deleted_id: known.id,
        deleted_name: known.name.clone(),
    };
    app.complete(async move {
        let deleted = this.recorded(deed, this.store.delete_worker(known.id));
        if !deleted.await? {
            let message = "The worker has a job: wait until it is done";
            return Err(ApiError::refused(ReturnCode::Locked, message));
        }
        this.registry.remove(known.id);
        this.live().horde.forget_worker(known.id);
        tracing::info!(worker.id = %known.id, "a worker was deleted");
        Ok(())
    })
    .await?;
    Ok(Json(deleted))
}
