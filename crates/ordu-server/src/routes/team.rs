//! Teams of workers: shown, made, changed, deleted.
//!
//! # Source
//! `community.md` § 4; `observed.md` 27, 31.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::team::{
    NewTeam, TeamChanged, TeamDeleted, TeamInput, TeamModel, TeamView, TeamWorker,
};
use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, TeamId, UserId};
use ordu_core::horde::Declared;
use ordu_core::permission::{Caller, TeamTier};
use ordu_store::{Team, TeamChange};
use serde_json::json;
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::{Deed, said, same_members};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::registry::Known;
use crate::text;

/// `GET /teams`
pub(crate) async fn list(State(app): State<Arc<App>>) -> ApiResult<Json<Vec<TeamView>>> {
    let mut members = app.registry.members();
    let mut views = Vec::new();
    for team in app.store.list_teams().await? {
        let members = members.remove(&team.id).unwrap_or_default();
        views.push(view(&app, team, members).await?);
    }
    Ok(Json(views))
}

/// `GET /teams/{id}`: a key changes nothing, but it must be one.
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    OptionalKey(key): OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<TeamView>> {
    if let Some(key) = key {
        app.accounts.by_key(&key).await?;
    }
    let team = find(&app, &id).await?;
    let members = app.registry.members_of(team.id);
    view(&app, team, members).await.map(Json)
}

/// The team with an id as it was sent.
pub(super) async fn find(app: &App, id: &str) -> ApiResult<Team> {
    let found = match id.parse() {
        Ok(id) => app.store.find_team(id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> ApiError {
    let message = format!("Team '{id}' not found");
    ApiError::refused(ReturnCode::TeamNotFound, message)
}

/// What the live horde knows of a member.
struct Member {
    known: Known,
    online: bool,
    /// Pixelsteps a second, of those that make pictures.
    speed: Option<f64>,
}

async fn view(app: &App, team: Team, members: Vec<Known>) -> ApiResult<TeamView> {
    let creator = app.accounts.by_id(team.creator).await?;
    let mut members = look_up(app, members);
    members.sort_by(|a, b| a.known.name.cmp(&b.known.name));
    let online = members.iter().filter(|member| member.online);
    let speeds: Vec<f64> = online.filter_map(|member| member.speed).collect();
    let speed: f64 = speeds.iter().sum::<f64>() / 1e6;
    Ok(TeamView {
        name: team.name,
        id: team.id,
        info: team.info,
        requests_fulfilled: team.fulfilled,
        kudos: team.kudos.as_f64(),
        uptime: team.uptime,
        creator: creator.map(|creator| creator.alias()),
        worker_count: members.len() as u64,
        models: models(&members),
        contributions: hundredths(team.things),
        performance: tenths(mean(speed, speeds.len())),
        speed: tenths(speed),
        workers: members.into_iter().map(worker).collect(),
    })
}

fn look_up(app: &App, members: Vec<Known>) -> Vec<Member> {
    let now = app.clock.now();
    let live = app.live();
    let look_up = |known: Known| {
        let worker = live.horde.worker(known.id);
        Member {
            online: worker.is_some_and(|worker| worker.is_online(now)),
            speed: worker
                .filter(|_| known.kind == WorkKind::Image)
                .map(|worker| worker.record.speed()),
            known,
        }
    };
    members.into_iter().map(look_up).collect()
}

fn worker(member: Member) -> TeamWorker {
    TeamWorker {
        kind: member.known.kind,
        name: member.known.name,
        id: member.known.id,
        online: member.online,
    }
}

/// What is served, by how many that are there.
fn models(members: &[Member]) -> Vec<TeamModel> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for member in members.iter().filter(|member| member.online) {
        let models: BTreeSet<&String> = match member.known.declared.as_ref() {
            Declared::Image(pop) => pop.models.iter().collect(),
            Declared::Text(pop) => pop.models.iter().collect(),
            Declared::Alchemy(_) => BTreeSet::new(),
        };
        for model in models {
            *counts.entry(model).or_default() += 1;
        }
    }
    let model = |(name, count): (&str, u64)| TeamModel {
        name: name.to_owned(),
        count,
    };
    counts.into_iter().map(model).collect()
}

#[expect(clippy::cast_precision_loss, reason = "teams are small")]
fn mean(sum: f64, count: usize) -> f64 {
    sum / count.max(1) as f64
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Pixelsteps as megapixelsteps.
#[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
fn hundredths(pixelsteps: i64) -> f64 {
    (pixelsteps as f64 / 10_000.0).round() / 100.0
}

/// `POST /teams`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(input): Checked<NewTeam>,
) -> ApiResult<Json<TeamChanged>> {
    let account = app.accounts.by_key(&key.require()?).await?;
    check_creator(&account)?;
    let name = name(&app, &input.name)?;
    let info = input.info.as_deref().map(|text| info(&app, text));
    let team = ordu_store::NewTeam {
        id: TeamId::from_uuid(Uuid::new_v4()),
        name,
        info: info.transpose()?,
        creator: account.user.id,
        created: app.clock.now(),
    };
    let this = Arc::clone(&app);
    app.complete(async move {
        let inserted = this.store.insert_team(&team).await;
        inserted.map_err(|error| refuse_taken(error, &team.name))?;
        this.teams.put(team.id, team.name.clone());
        tracing::info!(team.id = %team.id, user.id = %team.creator, "a team was made");
        Ok(TeamChanged {
            id: team.id,
            name: team.name,
            info: team.info,
        })
    })
    .await
    .map(Json)
}

/// Trust comes before everything else that is about the account.
fn check_creator(account: &Account) -> ApiResult<()> {
    let refuse = |code, message: &str| Err(ApiError::refused(code, message));
    if account.user.id == UserId::ANONYMOUS {
        let message = "Anonymous users cannot make teams: make an account first";
        return refuse(ReturnCode::AnonForbidden, message);
    }
    if !account.user.roles.trusted {
        let message = "Only trusted users make teams: work for the horde for a while";
        return refuse(ReturnCode::UntrustedTeamCreation, message);
    }
    if account.user.roles.deleted {
        let message = "This account is about to be deleted";
        return refuse(ReturnCode::DeletedUser, message);
    }
    Ok(())
}

fn name(app: &App, asked: &str) -> ApiResult<String> {
    app.check_text(asked, ReturnCode::ProfaneTeamName)?;
    readable("name", asked)
}

fn info(app: &App, asked: &str) -> ApiResult<String> {
    app.check_text(asked, ReturnCode::ProfaneTeamInfo)?;
    readable("info", asked)
}

/// A text as it is stored; what nothing is left of cannot be.
fn readable(name: &str, text: &str) -> ApiResult<String> {
    let clean = text::clean(text);
    if clean.is_empty() {
        return Err(ApiError::field(name, "nothing of it can be read"));
    }
    Ok(clean)
}

fn refuse_taken(error: ordu_store::Error, name: &str) -> ApiError {
    if matches!(error, ordu_store::Error::Taken) {
        let message = format!("There is a team called `{name}` already: choose another name");
        return ApiError::refused(ReturnCode::TeamNameAlreadyExists, message);
    }
    error.into()
}

fn caller(app: &App, account: &Account, team: &Team) -> Caller {
    Caller {
        admin: app.is_admin(account.user.id),
        moderator: app.is_moderator(account),
        own: account.user.id == team.creator,
        anonymous: account.user.id == UserId::ANONYMOUS,
        service: account.user.roles.service,
    }
}

/// `PATCH /teams/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(input): Checked<TeamInput>,
) -> ApiResult<Json<TeamChanged>> {
    let team = find(&app, &id).await?;
    let account = app.accounts.by_key(&key.require()?).await?;
    let caller = caller(&app, &account, &team);
    if input.info.is_some() {
        TeamTier::Info.check(caller)?;
    }
    if input.name.is_some() {
        TeamTier::Identity.check(caller)?;
    }
    if input == TeamInput::default() {
        let message = "Nothing to change: send `name` or `info`";
        return Err(ApiError::refused(ReturnCode::NoTeamModSelected, message));
    }
    let name = input.name.as_deref().map(|text| name(&app, text));
    let info = input.info.as_deref().map(|text| info(&app, text));
    let change = TeamChange {
        name: name.transpose()?,
        info: info.transpose()?,
    };
    let deed = (!caller.own).then(|| change_deed(&account, &team, &change));
    let this = Arc::clone(&app);
    let changed = app
        .complete(async move { this.change_team(team, change, deed).await })
        .await?;
    Ok(Json(changed))
}

/// What the audit log says of a change by a moderator.
fn change_deed(account: &Account, team: &Team, change: &TeamChange) -> Deed {
    let before = json!({ "name": team.name, "info": team.info });
    let after = said(json!({ "name": change.name, "info": change.info }));
    Deed::new(account.user.id, "team.update", "team", team.id)
        .change(same_members(&before, &after), after)
}

impl App {
    async fn change_team(
        &self,
        team: Team,
        change: TeamChange,
        deed: Option<Deed>,
    ) -> ApiResult<TeamChanged> {
        let updated = self.store.update_team(team.id, &change);
        match self.recorded(deed, updated).await {
            Ok(()) => {}
            Err(ordu_store::Error::NotFound) => return Err(missing(&team.id.to_string())),
            Err(error) => {
                let name = change.name.as_deref().unwrap_or_default();
                return Err(refuse_taken(error, name));
            }
        }
        let name = change.name.unwrap_or(team.name);
        self.teams.put(team.id, name.clone());
        Ok(TeamChanged {
            id: team.id,
            name,
            info: change.info.or(team.info),
        })
    }
}

/// `DELETE /teams/{id}`: its workers are in no team afterwards.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<TeamDeleted>> {
    let team = find(&app, &id).await?;
    let account = app.accounts.by_key(&key.require()?).await?;
    let caller = caller(&app, &account, &team);
    TeamTier::Identity.check(caller)?;
    let deed = (!caller.own).then(|| {
        Deed::new(account.user.id, "team.delete", "team", team.id)
            .change(json!({ "name": team.name }), json!({}))
    });
    let this = Arc::clone(&app);
    app.complete(async move {
        match this.recorded(deed, this.store.delete_team(team.id)).await {
            Ok(()) => {}
            Err(ordu_store::Error::NotFound) => return Err(missing(&team.id.to_string())),
            Err(error) => return Err(error.into()),
        }
        this.registry.dissolve(team.id);
        this.teams.remove(team.id);
        tracing::info!(team.id = %team.id, "a team was deleted");
        Ok(TeamDeleted {
            deleted_id: team.id,
            deleted_name: team.name,
        })
    })
    .await
    .map(Json)
}
