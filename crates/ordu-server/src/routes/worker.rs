//! Workers as they are shown.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use ordu_api::image::ImagePop;
use ordu_api::text::TextPop;
use ordu_api::worker::{TeamLink, WorkKind, WorkerKudos, WorkerView};
use ordu_api::{ReturnCode, WorkerId};
use ordu_core::Kudos;
use ordu_core::agent::Agent;
use ordu_core::horde::{Declared, WorkerRecord};
use serde::Deserialize;

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;
use crate::registry::Known;

/// Who looks at a worker.
enum Viewer {
    Anybody,
    Known(Arc<Account>),
}

impl Viewer {
    /// A key that nobody has counts as none: lists are for everybody.
    async fn from_key(app: &App, key: OptionalKey) -> ApiResult<Self> {
        let Some(key) = key.0 else {
            return Ok(Self::Anybody);
        };
        Ok(app
            .accounts
            .find_by_key(&key)
            .await?
            .map_or(Self::Anybody, Self::Known))
    }

    fn is_moderator(&self, app: &App) -> bool {
        matches!(self, Self::Known(account) if app.is_moderator(account))
    }

    fn owns(&self, worker: &Known) -> bool {
        matches!(self, Self::Known(account) if account.user.id == worker.owner)
    }
}

/// Which workers to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct WorkerFilter {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
}

/// `GET /workers`: those that are online.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(filter): Query<WorkerFilter>,
) -> ApiResult<Json<Vec<WorkerView>>> {
    let viewer = Viewer::from_key(&app, key).await?;
    views(&app, &viewer, &filter).await.map(Json)
}

/// Workers that are online as everybody sees them, those that earned most first.
pub(super) async fn public(app: &App) -> ApiResult<Vec<WorkerView>> {
    let mut workers = views(app, &Viewer::Anybody, &WorkerFilter::default()).await?;
    workers.sort_by(|a, b| b.kudos_rewards.total_cmp(&a.kudos_rewards));
    Ok(workers)
}

async fn views(app: &App, viewer: &Viewer, filter: &WorkerFilter) -> ApiResult<Vec<WorkerView>> {
    let now = app.clock.now();
    let online: Vec<WorkerId> = app
        .live()
        .horde
        .workers(now)
        .map(|worker| worker.record.id)
        .collect();
    let mut views = Vec::new();
    for id in online {
        let Some(known) = app.registry.by_id(id) else {
            continue;
        };
        if filter.wants(&known) {
            views.extend(view(app, &known, viewer).await?);
        }
    }
    Ok(views)
}

impl WorkerFilter {
    /// A name decides alone; without one the kind does.
    fn wants(&self, worker: &Known) -> bool {
        match (&self.name, self.kind.as_deref()) {
            (Some(name), _) => worker.name.to_lowercase() == name.to_lowercase(),
            (None, None | Some("all")) => true,
            (None, Some(kind)) => worker.kind.name() == kind,
        }
    }
}

/// `GET /workers/{id}`
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<WorkerView>> {
    let known = id.parse().ok().and_then(|id| app.registry.by_id(id));
    show(&app, key, known, &id).await
}

/// `GET /workers/name/{name}`
pub(crate) async fn by_name(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(name): Path<String>,
) -> ApiResult<Json<WorkerView>> {
    let known = app.registry.by_name(&name);
    show(&app, key, known, &name).await
}

async fn show(
    app: &App,
    key: OptionalKey,
    known: Option<Known>,
    asked: &str,
) -> ApiResult<Json<WorkerView>> {
    let missing = || {
        ApiError::refused(
            ReturnCode::WorkerNotFound,
            format!("Worker '{asked}' not found"),
        )
    };
    let known = known.ok_or_else(missing)?;
    let viewer = Viewer::from_key(app, key).await?;
    view(app, &known, &viewer)
        .await?
        .map(Json)
        .ok_or_else(missing)
}

async fn view(app: &App, known: &Known, viewer: &Viewer) -> ApiResult<Option<WorkerView>> {
    let now = app.clock.now();
    let Some(owner) = app.accounts.by_id(known.owner).await? else {
        return Ok(None);
    };
    let Some((record, online)) = app
        .live()
        .horde
        .worker(known.id)
        .map(|worker| (worker.record.clone(), worker.is_online(now)))
    else {
        return Ok(None);
    };
    let mut view = public_view(known, &record, &owner);
    view.team = team(app, known);
    view.online = online;
    let may_know_owner =
        owner.user.public_workers || viewer.is_moderator(app) || viewer.owns(known);
    view.owner = may_know_owner.then(|| owner.alias());
    view.messages = may_know_owner.then(|| app.messages.addressed_to(known.id, now));
    if viewer.is_moderator(app) {
        view.paused = Some(record.paused);
        let suspicions = app.guard.suspicions.of_worker(known.owner, known.id);
        view.suspicious = Some(suspicions.into());
    }
    if viewer.is_moderator(app) || viewer.owns(known) {
        view.contact.clone_from(&owner.user.contact);
        view.ipaddr = known.address.map(|address| address.to_string());
    }
    Ok(Some(view))
}

fn public_view(known: &Known, record: &WorkerRecord, owner: &Account) -> WorkerView {
    let declared = known.declared.common();
    let mut view = WorkerView {
        id: known.id.to_string(),
        name: known.name.clone(),
        kind: known.kind,
        requests_fulfilled: record.fulfilled,
        uncompleted_jobs: record.uncompleted,
        kudos_rewards: (record.kudos_generated + record.kudos_uptime).as_f64(),
        kudos_details: kudos_details(record),
        performance: performance(record),
        threads: declared.threads,
        uptime: record.uptime.0 / 1000,
        maintenance_mode: record.maintenance.is_some(),
        trusted: owner.user.roles.trusted,
        flagged: owner.user.roles.flagged,
        nsfw: declared.nsfw,
        bridge_agent: declared.agent.to_owned(),
        info: known.info.clone(),
        ..WorkerView::default()
    };
    match known.declared.as_ref() {
        Declared::Image(pop) => image_view(&mut view, pop, record),
        Declared::Text(pop) => text_view(&mut view, pop, record),
        Declared::Alchemy(pop) => view.forms = Some(pop.forms.clone()),
    }
    view
}

/// A team that was deleted a moment ago, elsewhere, counts as none.
fn team(app: &App, known: &Known) -> TeamLink {
    let named = known.team.and_then(|id| Some((id, app.teams.name(id)?)));
    named.map_or_else(TeamLink::default, |(id, name)| TeamLink {
        id: Some(id),
        name: Some(name),
    })
}

/// What a worker earned, by cause; of alchemists, as deployed, nothing is told.
fn kudos_details(record: &WorkerRecord) -> WorkerKudos {
    if record.kind == WorkKind::Interrogation {
        return WorkerKudos::default();
    }
    WorkerKudos {
        generated: earned(record.kudos_generated),
        uptime: earned(record.kudos_uptime).map(whole),
    }
}

fn image_view(view: &mut WorkerView, declared: &ImagePop, record: &WorkerRecord) {
    let agent = match &declared.capabilities {
        Some(words) => Agent::declared(&declared.bridge_agent, words),
        None => Agent::parse(&declared.bridge_agent),
    };
    view.models = Some(declared.models.clone());
    view.max_pixels = Some(declared.max_pixels);
    view.megapixelsteps_generated = Some(megapixelsteps(record.things));
    view.img2img = Some(declared.allow_img2img && agent.can("img2img"));
    view.painting = Some(declared.allow_painting && agent.can("inpainting"));
    view.post_processing = Some(declared.allow_post_processing);
    view.lora = Some(declared.allow_lora);
    view.controlnet = Some(declared.allow_controlnet);
    view.sdxl_controlnet = Some(declared.allow_sdxl_controlnet);
}

fn text_view(view: &mut WorkerView, declared: &TextPop, record: &WorkerRecord) {
    view.models = Some(declared.models.clone());
    view.max_length = Some(declared.max_length);
    view.max_context_length = Some(declared.max_context_length);
    view.tokens_generated = Some(record.things);
}

/// Nothing earned is shown as nothing at all.
fn earned(kudos: Kudos) -> Option<f64> {
    (kudos != Kudos::ZERO).then(|| kudos.as_f64())
}

#[expect(clippy::cast_possible_truncation, reason = "kudos are far below 2^53")]
fn whole(kudos: f64) -> i64 {
    kudos.round() as i64
}

/// In whole numbers: the Python SDK reads an integer.
fn megapixelsteps(pixelsteps: u64) -> u64 {
    pixelsteps.saturating_add(500_000) / 1_000_000
}

fn performance(record: &WorkerRecord) -> String {
    let speed = record.speed();
    match record.kind {
        WorkKind::Image => format!("{:.1} megapixelsteps per second", speed / 1_000_000.0),
        WorkKind::Text => format!("{speed:.1} tokens per second"),
        WorkKind::Interrogation if record.speeds.is_empty() => {
            "No requests fulfilled yet".to_owned()
        }
        WorkKind::Interrogation => format!("{speed:.1} seconds per form"),
    }
}
