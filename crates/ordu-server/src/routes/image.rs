//! Pictures, the client's half: ask, watch, fetch, cancel.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::image::{
    AcceptedRequest, DryRun, Generation, ImageRequest, Progress, RequestStatus, SourceProcessing,
};
use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, ReturnCode, UNKNOWN_AGENT};
use ordu_core::horde::{Address, GenerationView, REQUEST_LIFETIME, Request, Requester, Work};
use ordu_core::image::{self, ImageSpec, warnings};
use ordu_core::pricing::image::{Estimate, estimate};
use ordu_core::pricing::upfront;
use ordu_core::standing::Service;
use ordu_core::{Kudos, Standing};
use ordu_store::{Activity, NewRequest};
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::blobs::{self, Permission, SourcePart};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, ClientAgent, OptionalKey, Peer};
use crate::guard::Asker;
use crate::pictures::Keep;
use crate::rebuild::Rebuilder;
use crate::reservation::{Full, Reservation};

/// The agent of a sample program that everybody copied without changing it.
const BANNED_AGENT: &str = "My-Project:v0.0.1:My-Contact";

/// `POST /generate/async`
pub(crate) async fn async_generate(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    ClientAgent(agent): ClientAgent,
    Peer(peer): Peer,
    Checked(request): Checked<ImageRequest>,
) -> ApiResult<Response> {
    let account = app.accounts.by_key(&key.require()?).await?;
    let asked = Asked {
        request,
        agent,
        ip: Some(peer),
    };
    match ask(&app, &account, asked).await? {
        Answer::Accepted(accepted) => Ok((StatusCode::ACCEPTED, Json(accepted)).into_response()),
        Answer::Price(kudos) => Ok(Json(DryRun {
            kudos: whole(kudos),
        })
        .into_response()),
    }
}

/// What somebody asks for, and with which program from where.
pub(crate) struct Asked {
    pub(crate) request: ImageRequest,
    pub(crate) agent: String,
    pub(crate) ip: Option<IpAddr>,
}

/// What comes of asking.
pub(crate) enum Answer {
    Accepted(AcceptedRequest),
    Price(Kudos),
}

/// The whole way of a request into the queue.
///
/// # Source
/// `generation.md` § 3.3: the order decides which refusal wins.
pub(crate) async fn ask(app: &Arc<App>, account: &Account, mut asked: Asked) -> ApiResult<Answer> {
    let standing = account.standing(app.accounts.held(account.user.id));
    check_requester(app, account, &asked.request)?;
    image::precheck(&asked.request, &standing)?;
    check_workers(app, &asked.request)?;
    let reservation = reserve_slots(app, account, &asked.request)?;
    let address = admit(app, account, &standing, &mut asked).await?;
    let mut spec = image::check(&asked.request, &standing, &app.reference)?;
    if asked.agent == BANNED_AGENT {
        let message = "Change the client agent: this one is the sample of a tutorial";
        return Err(ApiError::refused(ReturnCode::BannedClientAgent, message));
    }
    let price = estimate(&spec, &app.reference);
    let hold = afford(app, &asked.request, &mut spec, &standing, &price)?;
    if asked.request.dry_run {
        return Ok(Answer::Price(price.total));
    }
    let id = RequestId::from_uuid(Uuid::new_v4());
    keep_sources(app, id, &mut spec).await?;
    let now = app.clock.now();
    let request = Request {
        id,
        requester: Requester {
            user: account.user.id,
            roles: standing.roles,
            available: standing.available(),
            address,
        },
        work: Work::Image(Arc::new(spec)),
        priority: standing.priority(Service::Full),
        created: now,
    };
    let warnings = warnings(&asked.request, &app.reference);
    let possible = app.live().horde.has_valid_worker(&request, now);
    let entry = NewEntry {
        request,
        hold,
        agent: asked.agent,
        ip: asked.ip.map(|ip| ip.to_string()),
        reservation,
    };
    activate(app, account, entry).await?;
    let mut accepted = AcceptedRequest {
        id,
        kudos: whole(price.base),
        message: None,
        warnings,
    };
    if !possible && !app.is_raided() {
        let warning = image::warnings::no_available_worker();
        accepted.message = Some(warning.message.clone());
        accepted.warnings.push(warning);
    }
    Ok(Answer::Accepted(accepted))
}

/// The countermeasures: address, prompt, and during a raid whoever hides. The prompt may be another
/// one afterwards.
async fn admit(
    app: &App,
    account: &Account,
    standing: &Standing,
    asked: &mut Asked,
) -> ApiResult<Address> {
    app.check_shut_out(asked.ip)?;
    let asker = Asker {
        account,
        address: asked.ip,
        proxy: None,
    };
    let request = &mut asked.request;
    // A price does not depend on the prompt: asking for it neither tells nor costs anything.
    if !request.dry_run {
        let admitted = app.admit_image_prompt(asker, request).await?;
        request.prompt = admitted.unwrap_or_else(|| std::mem::take(&mut request.prompt));
    }
    image::check_models(request, standing, &app.reference)?;
    app.admit_address(asker).await
}

/// The checks that need only the account.
fn check_requester(app: &App, account: &Account, request: &ImageRequest) -> ApiResult<()> {
    if app.modes().maintenance_mode {
        let message = "The horde is in maintenance mode: no new requests for now";
        return Err(ApiError::refused(ReturnCode::MaintenanceMode, message));
    }
    if request
        .webhook
        .as_ref()
        .is_some_and(|url| !url.starts_with("https://"))
    {
        let message = "The webhook must start with https://";
        return Err(ApiError::refused(ReturnCode::BadRequest, message));
    }
    if request.proxied_account.is_some() && !account.user.roles.service {
        let message = "Only service accounts may send `proxied_account`";
        return Err(ApiError::refused(
            ReturnCode::OnlyServiceAccountProxy,
            message,
        ));
    }
    if account.user.roles.deleted {
        let message = "This account is about to be deleted";
        return Err(ApiError::refused(ReturnCode::DeletedUser, message));
    }
    Ok(())
}

fn check_workers(app: &App, request: &ImageRequest) -> ApiResult<()> {
    for text in &request.workers {
        let known = text.parse().is_ok_and(|id| app.registry.contains(id));
        if !known {
            let message = format!("No worker has the id `{text}`");
            return Err(ApiError::refused(ReturnCode::WorkerNotFound, message));
        }
    }
    Ok(())
}

/// Makes sure that the account may have that much waiting, and promises it the slots.
fn reserve_slots(app: &App, account: &Account, request: &ImageRequest) -> ApiResult<Reservation> {
    let user = account.user.id;
    let wanted = u64::from(request.params.n.unwrap_or(1));
    let limit = u64::try_from(account.user.concurrency).unwrap_or(0);
    let open = || {
        let live = app.live();
        live.horde
            .open_slots(user, WorkKind::Image, &request.models)
    };
    let reserved = app.reservations.reserve(user, wanted, limit, open);
    reserved.map_err(|Full(taken)| {
        let message = format!(
            "Parallel requests: {taken} waiting and {wanted} asked for are more than the {limit} \
             that this account may have; wait until some are done"
        );
        ApiError::refused(ReturnCode::TooManyPrompts, message)
    })
}

/// Makes sure that what must be paid upfront can be; shrinks the request if that is allowed.
///
/// Answers how much to hold.
fn afford(
    app: &App,
    request: &ImageRequest,
    spec: &mut ImageSpec,
    standing: &Standing,
    price: &Estimate,
) -> ApiResult<Kudos> {
    let load = app.live().horde.load(WorkKind::Image, app.clock.now());
    let Some(need) = upfront::image(spec, load, &app.reference) else {
        return Ok(Kudos::ZERO);
    };
    if request.dry_run || standing.available() >= price.total {
        return Ok(price.total);
    }
    if request.allow_downgrade {
        *spec = upfront::downgrade(spec, load, &app.reference);
        return Ok(Kudos::ZERO);
    }
    let message = format!(
        "This needs {} kudos upfront because {need}; {} are available. Ask for less, or set \
         `allow_downgrade`",
        price.total,
        standing.available()
    );
    Err(ApiError::refused(ReturnCode::KudosUpfront, message))
}

/// Fetches, checks and keeps the pictures that a request brings; the spec then names the copies.
async fn keep_sources(app: &App, id: RequestId, spec: &mut ImageSpec) -> ApiResult<()> {
    if let Some(source) = spec.source_image.take() {
        let name = blobs::source_name(id, SourcePart::Image);
        let picture = app.pictures.read(&source, Keep::Picture).await?;
        let needs_mask = spec.source_processing == SourceProcessing::Inpainting;
        if needs_mask && spec.source_mask.is_none() && !picture.has_alpha {
            let message = "Inpainting needs `source_mask` or a source image with alpha";
            return Err(ApiError::refused(
                ReturnCode::InpaintingMissingMask,
                message,
            ));
        }
        put(app, &name, picture.webp).await?;
        spec.source_image = Some(name);
    }
    if let Some(mask) = spec.source_mask.take() {
        let name = blobs::source_name(id, SourcePart::Mask);
        let picture = app.pictures.read(&mask, Keep::Mask).await?;
        put(app, &name, picture.webp).await?;
        spec.source_mask = Some(name);
    }
    for (index, extra) in spec.extra_source_images.iter_mut().enumerate() {
        let name = blobs::source_name(id, SourcePart::Extra(index));
        let picture = app.pictures.read(&extra.image, Keep::Picture).await?;
        put(app, &name, picture.webp).await?;
        extra.image = name;
    }
    Ok(())
}

async fn put(app: &App, name: &str, bytes: bytes::Bytes) -> ApiResult<()> {
    app.blobs.put(name, bytes).await.map_err(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a picture could not be kept"
        );
        ApiError::Unavailable(5)
    })
}

/// A request that everything has agreed to.
struct NewEntry {
    request: Request,
    hold: Kudos,
    agent: String,
    ip: Option<String>,
    reservation: Reservation,
}

/// Stores a request and puts it into the queue: the one durable point before the 202.
async fn activate(app: &Arc<App>, account: &Account, entry: NewEntry) -> ApiResult<()> {
    let request = entry.request;
    let activation = request.activation();
    let row = NewRequest {
        id: request.id,
        owner: account.user.id,
        kind: request.work.kind(),
        spec: serde_json::to_string(&request)
            .map_err(|error| ApiError::Internal(error.to_string()))?,
        n: request.work.asked(),
        priority: request.priority.milli(),
        created: request.created,
        expires: request.created + REQUEST_LIFETIME,
        client_agent: entry.agent,
        ip: entry.ip,
        shared_key: None,
        hold: entry.hold,
        consumed: request.work.activation_tax(),
        activation: Some(activation.clone()),
        activity: Some(Activity {
            event: request.id.uuid(),
            at: request.created,
            kind: request.work.kind(),
            requester: Some(account.user.id),
            usage: 0,
            owner: None,
            worker: None,
            things: 0,
            worker_kudos: Kudos::ZERO,
            style_owner: None,
        }),
    };
    let app = Arc::clone(app);
    Arc::clone(&app)
        .complete(async move {
            app.store.insert_request(&row).await?;
            app.accounts.apply(&activation);
            app.accounts.hold(row.id, row.owner, row.hold);
            app.live().horde.enqueue(request, row.created);
            // From here on the queue itself counts the slots.
            drop(entry.reservation);
            tracing::info!(request.id = %row.id, user.id = %row.owner, "a request waits");
            Ok(())
        })
        .await
}

/// `GET /generate/check/{id}`
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    ClientAgent(agent): ClientAgent,
    Peer(peer): Peer,
    Path(id): Path<String>,
) -> ApiResult<Json<Progress>> {
    if agent == UNKNOWN_AGENT && app.shut_out_for(Some(peer)).is_some() {
        let message = "This address is shut out: send a `Client-Agent` to look after requests";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    let id = read_id(&id)?;
    progress(&app, id).await.map(Json)
}

/// How far a request is, also when it ended and left the memory.
async fn progress(app: &Arc<App>, id: RequestId) -> ApiResult<Progress> {
    let now = app.clock.now();
    let mut found = app.live().horde.progress(id, now);
    if found.is_none() {
        recall(app, id).await?;
        found = app.live().horde.progress(id, now);
    }
    let progress = found.ok_or_else(|| not_found(id))?;
    Ok(Progress {
        steps: app.watch.steps(id),
        ..progress
    })
}

/// Brings back a request that ended before the last start.
async fn recall(app: &Arc<App>, id: RequestId) -> ApiResult<()> {
    let row = app.store.find_request(id).await?;
    let row = row.filter(|row| row.expires > app.clock.now() && row.kind == WorkKind::Image);
    let Some(row) = row else {
        return Err(not_found(id));
    };
    let rebuilder = Rebuilder {
        reference: &app.reference,
        registry: &app.registry,
    };
    let mut live = app.live();
    rebuilder.restore(&mut live.horde, &row);
    Ok(())
}

/// `GET /generate/status/{id}`
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<RequestStatus>> {
    let id = read_id(&id)?;
    read_status(&app, id).await.map(Json)
}

pub(crate) async fn read_status(app: &Arc<App>, id: RequestId) -> ApiResult<RequestStatus> {
    let progress = progress(app, id).await?;
    let (views, delivery) = {
        let live = app.live();
        let request = live.horde.request(id).ok_or_else(|| not_found(id))?;
        let Work::Image(spec) = &request.work;
        let delivery = if spec.r2 {
            Delivery::Link
        } else {
            Delivery::Inline
        };
        (live.horde.generations(id), delivery)
    };
    let mut generations = Vec::with_capacity(views.len());
    for view in views {
        generations.push(generation(app, view, delivery).await);
    }
    Ok(RequestStatus {
        progress,
        shared: false,
        generations,
    })
}

/// How a requester wants results.
#[derive(Clone, Copy)]
enum Delivery {
    Link,
    Inline,
}

/// What a result reads when its picture is gone.
const GONE: &str = "N/A";

async fn generation(app: &App, view: GenerationView, delivery: Delivery) -> Generation {
    let name = blobs::result_name(view.job);
    let img = match delivery {
        Delivery::Link if app.blobs.contains(&name).await => {
            app.blobs.link(&name, Permission::Download, app.clock.now())
        }
        Delivery::Link => GONE.to_owned(),
        Delivery::Inline => match app.blobs.get(&name).await {
            Ok(bytes) => STANDARD.encode(bytes),
            Err(_) => GONE.to_owned(),
        },
    };
    Generation {
        img,
        seed: view.seed.to_string(),
        id: view.job,
        censored: view.censored,
        gen_metadata: view.metadata,
        worker_id: view.worker,
        worker_name: view.worker_name,
        model: view.model,
        state: "ok".to_owned(),
    }
}

/// `DELETE /generate/status/{id}`: the answer is computed before the cancellation takes effect.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<RequestStatus>> {
    let id = read_id(&id)?;
    let status = read_status(&app, id).await?;
    let this = Arc::clone(&app);
    app.complete(async move {
        // Memory first: from now on nobody gets a job of it, whatever the database says.
        let cancelled = this.live().horde.cancel(id);
        this.store.cancel_request(id).await?;
        if cancelled.is_some_and(|cancelled| cancelled.done) {
            this.accounts.release(id, None);
        }
        Ok(())
    })
    .await?;
    Ok(Json(status))
}

fn read_id(text: &str) -> ApiResult<RequestId> {
    text.parse().map_err(|_| not_found(text))
}

fn not_found(id: impl std::fmt::Display) -> ApiError {
    let message = format!("Request with ID '{id}' not found");
    ApiError::refused(ReturnCode::RequestNotFound, message)
}

/// Kudos as the generation side shows them: whole.
fn whole(kudos: Kudos) -> f64 {
    kudos.as_f64().round()
}
