//! The client's half that all kinds of work share: into the queue, look, cancel.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use ordu_api::image::{DryRun, Progress};
use ordu_api::worker::WorkKind;
use ordu_api::{ApiKey, RequestId, ReturnCode, SharedKeyId, UNKNOWN_AGENT, UserId};
use ordu_core::horde::{Address, REQUEST_LIFETIME, Request, Requester, Work};
use ordu_core::image;
use ordu_core::model_reference::ModelReference;
use ordu_core::shared_key::Downgrade;
use ordu_core::{Kudos, Refusal, Standing};
use ordu_store::{Activity, NewRequest};
use uuid::Uuid;

use crate::accounts::Account;
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::guard::Asker;
use crate::hooks::Applicant;
use crate::payer::{self, Payer};
use crate::prices;
use crate::push::prefer::{Applied, Prefer};
use crate::rebuild::Rebuilder;
use crate::repeats::{Attempt, Begun, Turn};
use crate::reservation::{Full, Reservation};
use crate::shared_keys::Promise;
use crate::sharing::Sharing;
use crate::sources;
use crate::straight::Straight;
use crate::styles::{self, Styled};

/// The agent of a sample program that everybody copied without changing it.
const BANNED_AGENT: &str = "My-Project:v0.0.1:My-Contact";

/// Forms are small: an account may have so many times more of them, those at workers included.
///
/// # Source
/// `generation.md` § 5.1.
const FORMS_PER_SLOT: u64 = 10;

/// A body that asks for work of some kind: what the shared way into the queue must know of it.
pub(crate) trait Wish {
    /// What it says about itself.
    fn claims(&self) -> Claims<'_>;

    /// The checks that come before the look at workers.
    fn precheck(&self, standing: &Standing) -> Result<(), Refusal>;

    /// The check between the looks at workers and at concurrency.
    fn check_batching(&self, _: &Standing) -> Result<(), Refusal> {
        Ok(())
    }

    /// The look at the prompt, which may be another one afterwards.
    fn admit(&mut self, app: &App, asker: Asker<'_>) -> impl Future<Output = ApiResult<()>> + Send;

    /// The checks between the look at the prompt and that at the address.
    fn check_models(&self, _: &Standing, _: &ModelReference) -> Result<(), Refusal> {
        Ok(())
    }

    /// The other checks; fills in the defaults.
    fn check(&self, standing: &Standing, app: &App) -> Result<Work, Refusal>;
}

/// What a body that asks for work says about itself, before it is checked.
pub(crate) struct Claims<'a> {
    pub(crate) kind: WorkKind,
    /// How many results.
    pub(crate) slots: u64,
    pub(crate) models: &'a [String],
    pub(crate) workers: &'a [String],
    pub(crate) webhook: Option<&'a str>,
    pub(crate) proxied_account: Option<&'a str>,
    pub(crate) dry_run: bool,
    pub(crate) allow_downgrade: bool,
    pub(crate) sharing: Sharing,
}

/// What somebody asks for, and with which program from where.
pub(crate) struct Asked<W> {
    pub(crate) request: W,
    pub(crate) agent: String,
    pub(crate) client: Client,
    /// The style that was applied to the request.
    pub(crate) styled: Option<Styled>,
    /// What tells a repetition from another request.
    pub(crate) attempt: Option<Attempt>,
}

/// What comes of asking.
pub(crate) enum Answer {
    Accepted(Accepted),
    Price(DryRun),
}

/// A request that waits now.
pub(crate) struct Accepted {
    pub(crate) id: RequestId,
    /// The price of one result before burn and model.
    pub(crate) price: Kudos,
    /// Whether a worker that is online could serve it, as far as the requester is told.
    pub(crate) possible: bool,
}

impl Accepted {
    /// What the requester should know.
    pub(crate) fn message(&self) -> Option<String> {
        (!self.possible).then(|| image::warnings::no_available_worker().message)
    }
}

/// The whole way of a request into the queue.
///
/// # Source
/// `generation.md` § 3.3: the order decides which refusal wins.
pub(crate) async fn ask<W: Wish>(
    app: &Arc<App>,
    key: &ApiKey,
    mut asked: Asked<W>,
) -> ApiResult<Answer> {
    let claims = asked.request.claims();
    check_horde(app, &claims)?;
    let downgrade = Downgrade::from_request(claims.allow_downgrade);
    let mut payer = find_payer(app, key, &claims, asked.styled.as_ref()).await?;
    let account = &*Arc::clone(&payer.account);
    let standing = account.standing(app.accounts.held(account.user.id));
    check_requester(account, &claims)?;
    app.trusted.note(account, asked.client, app.clock.now());
    let attempt = asked.attempt.take().filter(|_| !claims.dry_run);
    let turn = match app.begin(attempt, key, asked.client).await? {
        Begun::First(turn) => turn,
        Begun::Before(accepted) => return Ok(Answer::Accepted(accepted)),
    };
    asked.request.precheck(&standing)?;
    check_workers(app, &claims)?;
    asked.request.check_batching(&standing)?;
    let reservation = reserve_slots(app, account, &claims)?;
    let address = admit(app, account, &standing, &mut asked).await?;
    let claims = asked.request.claims();
    let mut work = asked.request.check(&standing, app)?;
    if app.shares(claims.sharing, &standing) {
        work.share();
    }
    check_agent(app, claims.kind, &asked.agent)?;
    let id = turn.as_ref().map_or_else(fresh_id, Turn::id);
    let promise = payer.promise(app, id, work.most_cost(&app.reference()), downgrade)?;
    let hold = afford(app, &claims, &mut work, &standing)?;
    payer.check_limits(&work)?;
    if claims.dry_run {
        return Ok(Answer::Price(prices::of(app, work).await?));
    }
    let applicant = Applicant::new(&standing, asked.client, &asked.agent);
    app.ask_admission(&work, applicant).await?;
    // Of what will be made: `afford` may have shrunk it.
    let price = work.base_price(&app.reference());
    sources::keep(app, id, &mut work).await?;
    let now = app.clock.now();
    let request = Request {
        id,
        requester: Requester {
            user: account.user.id,
            roles: standing.roles,
            available: standing.available(),
            address,
        },
        work,
        priority: standing.priority(payer.service),
        created: now,
        twin: None,
    };
    let possible = app.live().horde.has_valid_worker(&request, now) || app.is_raided();
    let entry = NewEntry {
        request,
        hold,
        agent: asked.agent,
        ip: Some(asked.client.ip.to_string()),
        reservation,
        shared_key: payer.shared_key(),
        promise,
        styled: asked.styled,
        accepted: Accepted {
            id,
            price,
            possible,
        },
        turn,
    };
    activate(app, account, entry).await.map(Answer::Accepted)
}

/// Whether a program may ask.
fn check_agent(app: &App, kind: WorkKind, agent: &str) -> ApiResult<()> {
    if kind == WorkKind::Image && agent == BANNED_AGENT {
        let message = "Change the client agent: this one is the sample of a tutorial";
        return Err(ApiError::refused(ReturnCode::BannedClientAgent, message));
    }
    let name = agent.split(':').next().unwrap_or_default();
    let banned = &app.config.guard.banned_agents;
    if banned
        .iter()
        .any(|banned| banned == agent || banned == name)
    {
        let message = format!("This horde takes no requests of the client agent `{agent}`");
        return Err(ApiError::refused(ReturnCode::BannedClientAgent, message));
    }
    Ok(())
}

fn fresh_id() -> RequestId {
    RequestId::from_uuid(Uuid::new_v4())
}

async fn find_payer(
    app: &App,
    key: &ApiKey,
    claims: &Claims<'_>,
    styled: Option<&Styled>,
) -> ApiResult<Payer> {
    let downgrade = Downgrade::from_request(claims.allow_downgrade);
    match claims.kind {
        WorkKind::Image | WorkKind::Text => payer::resolve(app, key, downgrade, styled).await,
        WorkKind::Interrogation => payer::of_account(app, key).await,
    }
}

/// The countermeasures: address, prompt, and during a raid whoever hides.
async fn admit<W: Wish>(
    app: &App,
    account: &Account,
    standing: &Standing,
    asked: &mut Asked<W>,
) -> ApiResult<Address> {
    let client = asked.client;
    if asked.request.claims().kind != WorkKind::Interrogation {
        app.check_shut_out(Some(client.ip))?;
    }
    let asker = Asker {
        account,
        address: Some(client.ip),
        proxy: client.proxy.map(|proxy| proxy.ip),
    };
    // A price does not depend on the prompt: asking for it neither tells nor costs anything.
    if !asked.request.claims().dry_run {
        asked.request.admit(app, asker).await?;
    }
    asked.request.check_models(standing, &app.reference())?;
    app.admit_address(asker).await
}

/// The checks that need nobody's key.
fn check_horde(app: &App, claims: &Claims<'_>) -> ApiResult<()> {
    if app.modes().maintenance_mode {
        let message = "The horde is in maintenance mode: no new requests for now";
        return Err(ApiError::refused(ReturnCode::MaintenanceMode, message));
    }
    if !claims.dry_run {
        app.load.admit(app.live().horde.known_requests())?;
    }
    if let Some(url) = claims.webhook {
        app.webhooks.check(url)?;
    }
    Ok(())
}

/// The checks that need only the account.
fn check_requester(account: &Account, claims: &Claims<'_>) -> ApiResult<()> {
    if claims.proxied_account.is_some() && !account.user.roles.service {
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

fn check_workers(app: &App, claims: &Claims<'_>) -> ApiResult<()> {
    for text in claims.workers {
        let known = text.parse().is_ok_and(|id| app.registry.contains(id));
        if !known {
            let message = format!("No worker has the id `{text}`");
            return Err(ApiError::refused(ReturnCode::WorkerNotFound, message));
        }
    }
    Ok(())
}

/// Makes sure that the account may have that much waiting, and promises it the slots.
fn reserve_slots(app: &App, account: &Account, claims: &Claims<'_>) -> ApiResult<Reservation> {
    let user = account.user.id;
    let wanted = claims.slots;
    let concurrency = u64::try_from(account.user.concurrency).unwrap_or(0);
    let (limit, open): (u64, &dyn Fn() -> u64) = match claims.kind {
        WorkKind::Image | WorkKind::Text => (concurrency, &|| {
            let live = app.live();
            live.horde.open_slots(user, claims.kind, claims.models)
        }),
        WorkKind::Interrogation => (concurrency.saturating_mul(FORMS_PER_SLOT), &|| {
            app.live().horde.pending_jobs(user, claims.kind)
        }),
    };
    let reserved = app
        .reservations
        .reserve((user, claims.kind), wanted, limit, open);
    reserved.map_err(|Full(taken)| {
        let message = format!(
            "Parallel requests: {taken} waiting and {wanted} asked for are more than the {limit} \
             that this account may have; wait until some are done"
        );
        ApiError::refused(ReturnCode::TooManyPrompts, message)
    })
}

/// Makes sure that what must be paid upfront can be; shrinks the work if that is allowed.
///
/// Answers how much to hold.
fn afford(
    app: &App,
    claims: &Claims<'_>,
    work: &mut Work,
    standing: &Standing,
) -> ApiResult<Kudos> {
    let load = app.live().horde.load(claims.kind, app.clock.now());
    let Some(need) = work.upfront(load, &app.reference()) else {
        return Ok(Kudos::ZERO);
    };
    let price = work.upfront_price(&app.reference());
    if claims.dry_run || standing.available() >= price {
        return Ok(price);
    }
    if claims.allow_downgrade {
        *work = work.downgrade(load, &app.reference());
        return Ok(Kudos::ZERO);
    }
    let message = format!(
        "This needs {price} kudos upfront because {need}; {} are available. Ask for less, or set \
         `allow_downgrade`",
        standing.available()
    );
    Err(ApiError::refused(ReturnCode::KudosUpfront, message))
}

/// A request that everything has agreed to.
struct NewEntry {
    request: Request,
    hold: Kudos,
    agent: String,
    ip: Option<String>,
    reservation: Reservation,
    shared_key: Option<SharedKeyId>,
    promise: Option<Promise>,
    styled: Option<Styled>,
    accepted: Accepted,
    turn: Option<Turn>,
}

/// Stores a request and puts it into the queue: the one durable point before the 202.
async fn activate(app: &Arc<App>, account: &Account, entry: NewEntry) -> ApiResult<Accepted> {
    let request = entry.request;
    let mut activation = request.activation();
    let styled = entry.styled;
    let thanked = styled
        .as_ref()
        .and_then(|styled| styled.rewarded(account.user.id));
    if let Some(activation) = &mut activation {
        activation.entries.extend(thanked.map(styles::reward));
    }
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
        shared_key: entry.shared_key,
        hold: entry.hold,
        consumed: request.work.activation_tax(),
        activity: activation.is_some().then(|| activated(&request, thanked)),
        activation: activation.clone(),
        answer: entry
            .turn
            .as_ref()
            .and_then(|turn| turn.answer(&entry.accepted)),
    };
    let app = Arc::clone(app);
    Arc::clone(&app)
        .complete(async move {
            let straight = Straight::begin(&app, &request);
            let inserted = match &straight {
                Some(straight) => straight.store(&row).await,
                None => app.store_request(&row, None).await,
            };
            if let (Err(ordu_store::Error::Taken), Some(turn)) = (&inserted, &entry.turn) {
                // The first attempt was before the last start, at another node, or not heard of.
                drop((straight, entry.promise));
                app.refresh_stored(&[row.id]).await?;
                return app.first_answer(turn).await;
            }
            inserted?;
            if let Some(activation) = &activation {
                app.accounts.apply(activation);
            }
            app.accounts.hold(row.id, row.owner, row.hold);
            if straight.is_none() {
                app.live().horde.enqueue(request, row.created);
            }
            if let Some(promise) = entry.promise {
                promise.keep(row.consumed);
            }
            if let Some(styled) = styled {
                styled.note_use(&app);
            }
            // From here on the queue itself counts the slots.
            drop(entry.reservation);
            tracing::info!(request.id = %row.id, user.id = %row.owner, "a request waits");
            if let Some(straight) = straight {
                straight.hand_over().await;
            }
            Ok(entry.accepted)
        })
        .await
}

/// What a request adds to the statistics when it becomes active: forms count when they are done.
fn activated(request: &Request, style_owner: Option<UserId>) -> Activity {
    Activity {
        event: request.id.uuid(),
        at: request.created,
        kind: request.work.kind(),
        requester: Some(request.requester.user),
        usage: 0,
        owner: None,
        worker: None,
        team: None,
        things: 0,
        worker_kudos: Kudos::ZERO,
        style_owner,
        model: None,
    }
}

/// How far a request of this kind is, also when it ended and left the memory.
pub(crate) async fn progress(app: &Arc<App>, id: RequestId, kind: WorkKind) -> ApiResult<Progress> {
    find(app, id, kind).await?;
    let progress = app.live().horde.progress(id, app.clock.now());
    Ok(Progress {
        steps: app.watch.steps(id),
        ..progress.ok_or_else(|| not_found(id))?
    })
}

/// Whether somebody may look after requests from this address.
pub(crate) fn check_looker(app: &App, agent: &str, address: IpAddr) -> ApiResult<()> {
    if agent == UNKNOWN_AGENT && app.shut_out_for(Some(address)).is_some() {
        let message = "This address is shut out: send a `Client-Agent` to look after requests";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    Ok(())
}

/// Waits until something happens to a request of this kind, if the client would.
pub(crate) async fn wait_for_news(
    app: &Arc<App>,
    id: RequestId,
    kind: WorkKind,
    prefer: &Prefer,
) -> ApiResult<Applied> {
    if !prefer.is_wait() {
        return Ok(Applied::default());
    }
    find(app, id, kind).await?;
    Ok(app.wait_for_news(id, prefer).await)
}

/// Makes sure that a request for pictures or texts is in the live horde, also when it ended and left
/// it.
pub(crate) async fn find_generation(app: &Arc<App>, id: RequestId) -> ApiResult<()> {
    let kind = {
        let live = app.live();
        live.horde.request(id).map(|request| request.work.kind())
    };
    match kind {
        Some(WorkKind::Image | WorkKind::Text) => Ok(()),
        Some(WorkKind::Interrogation) => Err(not_found(id)),
        None => match find(app, id, WorkKind::Image).await {
            Err(ApiError::Refused(_)) => find(app, id, WorkKind::Text).await,
            found => found,
        },
    }
}

/// Makes sure that a request of this kind is in the live horde, also when it ended and left it.
pub(crate) async fn find(app: &Arc<App>, id: RequestId, kind: WorkKind) -> ApiResult<()> {
    let known = |app: &App| {
        let live = app.live();
        live.horde.request(id).map(|request| request.work.kind())
    };
    let mut found = known(app);
    if found.is_none() {
        recall(app, id, kind).await?;
        found = known(app);
    }
    match found {
        Some(found) if found == kind => Ok(()),
        _ => Err(not_found(id)),
    }
}

/// Brings back a request that ended before the last start.
async fn recall(app: &Arc<App>, id: RequestId, kind: WorkKind) -> ApiResult<()> {
    if app.nodes.are_several() {
        // It may wait at another node, and be news here.
        app.refresh_requests(&[id]).await?;
        if app.live().horde.request(id).is_some() {
            return Ok(());
        }
    }
    let row = app.store.find_request(id).await?;
    let row = row.filter(|row| row.expires > app.clock.now() && row.kind == kind);
    let row = row.ok_or_else(|| not_found(id))?;
    let rebuilder = Rebuilder {
        reference: &app.reference(),
        registry: &app.registry,
    };
    let mut live = app.live();
    rebuilder.restore(&mut live.horde, &row);
    Ok(())
}

/// Gives nothing of a request away any more.
pub(crate) async fn cancel(app: &Arc<App>, id: RequestId) -> ApiResult<()> {
    let this = Arc::clone(app);
    app.complete(async move { Ok(this.withdraw(id).await?) })
        .await
}

impl App {
    /// Gives nothing of a request away any more.
    pub(crate) async fn withdraw(&self, id: RequestId) -> Result<(), ordu_store::Error> {
        // Memory first: from now on nobody gets a job of it, whatever the database says.
        let cancelled = self.live().horde.cancel(id);
        self.store.cancel_request(id).await?;
        if cancelled.is_some_and(|cancelled| cancelled.done) {
            self.accounts.release(id, None);
        }
        Ok(())
    }
}

/// Reads the id of a request. What is no id is not found.
pub(crate) fn read_id(text: &str) -> ApiResult<RequestId> {
    text.parse().map_err(|_| not_found(text))
}

pub(crate) fn not_found(id: impl std::fmt::Display) -> ApiError {
    let message = format!("Request with ID '{id}' not found");
    ApiError::refused(ReturnCode::RequestNotFound, message)
}

/// Kudos as the generation side shows them: whole.
pub(crate) fn whole(kudos: Kudos) -> f64 {
    kudos.as_f64().round()
}
