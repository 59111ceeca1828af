//! The door for workers: who may come in, and who may come in for the first time.
//!
//! For workers of every kind; the order of the checks decides which refusal wins.
//!
//! # Source
//! `generation.md` § 6.1, `community.md` § 5.2.

use std::net::IpAddr;

use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, UserId, WorkerId};
use ordu_core::suspicion::{EXTREME_PIXELS, Reason, Suspect, of_name_length};
use ordu_core::{Refusal, Role, Roles};

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::guard::AddressVerdict;
use crate::registry::Known;
use crate::text;

/// The longest worker name, in characters; longer ones are cut.
const MAX_NAME_CHARS: usize = 100;

/// Words that a new worker's name must not hold.
const FORBIDDEN_WORDS: &[&str] = &["colab", "tpu", "google"];

/// A worker at the door.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) account: &'a Account,
    pub(crate) kind: WorkKind,
    pub(crate) name: &'a WorkerName,
    pub(crate) agent: &'a str,
    pub(crate) address: IpAddr,
}

/// A worker's name as it is stored, and how long it was.
pub(crate) struct WorkerName {
    pub(crate) text: String,
    asked_chars: usize,
}

impl WorkerName {
    /// Neutralises markup and cuts what is too long.
    pub(crate) fn read(asked: &str) -> Self {
        let clean = text::clean(asked);
        Self {
            asked_chars: clean.chars().count(),
            text: clean.chars().take(MAX_NAME_CHARS).collect(),
        }
    }
}

/// What speaks against a worker that was let in.
pub(crate) type Remarks = Vec<Reason>;

/// Refuses owners that may run no workers.
///
/// # Errors
/// `DeletedUser`, `WorkerFlaggedMaintenance`, `AnonForbiddenWorker`.
pub(crate) fn check_owner(account: &Account) -> ApiResult<()> {
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

/// Looks the worker up and checks the door: kind, address, for new ones everything else, owner.
/// Answers the worker if there is one, and what speaks against whoever came.
///
/// # Errors
/// The first check that fails, in the order of the protocol.
pub(crate) async fn check_door(
    app: &App,
    caller: Caller<'_>,
) -> ApiResult<(Option<Known>, Remarks)> {
    let known = app.registry.by_name(&caller.name.text);
    if known
        .as_ref()
        .is_some_and(|known| known.kind != caller.kind)
    {
        let message = format!(
            "`{}` is a worker of another kind: choose another name",
            caller.name.text
        );
        return Err(ApiError::refused(
            ReturnCode::PolymorphicNameConflict,
            message,
        ));
    }
    app.check_shut_out(Some(caller.address))?;
    let mut remarks = check_address(app, caller).await?;
    match &known {
        None => remarks.extend(check_newcomer(app, caller)?),
        Some(known) if known.owner != caller.account.user.id => {
            let message = format!(
                "Wrong credentials: `{}` is somebody else's worker",
                caller.name.text
            );
            return Err(ApiError::refused(ReturnCode::WrongCredentials, message));
        }
        Some(_) => {}
    }
    Ok((known, remarks))
}

/// Refuses addresses that hide who is behind them, unless the owner may do so.
async fn check_address(app: &App, caller: Caller<'_>) -> ApiResult<Remarks> {
    let roles = caller.account.roles();
    if roles.has_any(&[Role::Trusted, Role::Vpn, Role::Patron]) {
        return Ok(Vec::new());
    }
    let raid = app.modes().raid_mode.unwrap_or(false);
    let now = app.clock.now();
    match app.guard.checker.judge(caller.address, now).await {
        AddressVerdict::Safe => Ok(Vec::new()),
        // Who attacks is not told that it was noticed.
        AddressVerdict::Unsafe if raid => Ok(vec![Reason::UnsafeIp]),
        AddressVerdict::Unsafe => {
            let message = "Workers of untrusted accounts cannot come from proxies and data \
                           centres: ask a moderator, or use another connection";
            Err(ApiError::refused(ReturnCode::UnsafeIP, message))
        }
        AddressVerdict::Unknown => {
            let message = "This address could not be checked just now: try again in a while";
            Err(ApiError::refused(ReturnCode::TooManyNewIPs, message))
        }
    }
}

fn check_newcomer(app: &App, caller: Caller<'_>) -> ApiResult<Remarks> {
    check_name(app, caller)?;
    let user = &caller.account.user;
    let owned = app.registry.owned_by(user.id).len();
    let invited = usize::try_from(user.worker_invited).unwrap_or(0);
    if app.modes().invite_only_mode && owned >= invited {
        let message = "The horde takes new workers by invitation only at the moment";
        return Err(ApiError::refused(ReturnCode::WorkerInviteOnly, message));
    }
    let limits = app.guard.limits;
    let trusted = user.roles.trusted;
    if !trusted && owned > limits.workers {
        let message = format!(
            "An account that is not trusted yet gets no more workers once it has more than {}",
            limits.workers
        );
        return Err(ApiError::refused(ReturnCode::TooManyWorkers, message));
    }
    if owned > limits.workers_trusted && owned > invited {
        let message = format!(
            "An account gets no more workers once it has more than {}",
            limits.workers_trusted
        );
        return Err(ApiError::refused(
            ReturnCode::TooManyWorkersTrusted,
            message,
        ));
    }
    let here = app.registry.owned_at(user.id, caller.address);
    let most = if trusted {
        limits.same_address_trusted
    } else {
        limits.same_address
    };
    if here > most && here > invited {
        let message =
            format!("An account gets no more workers at an address with more than {most}");
        return Err(ApiError::refused(ReturnCode::TooManySameIPs, message));
    }
    Ok(of_name_length(caller.name.asked_chars).to_vec())
}

fn check_name(app: &App, caller: Caller<'_>) -> ApiResult<()> {
    let name = &caller.name.text;
    if name.is_empty() {
        return Err(ApiError::field("name", "A worker needs a name"));
    }
    if app.guard.is_profane(name) {
        let message = "The worker's name is profane: choose another one";
        return Err(ApiError::refused(ReturnCode::ProfaneWorkerName, message));
    }
    if app.guard.is_profane(caller.agent) {
        let message = "The name of the worker's program is profane";
        return Err(ApiError::refused(ReturnCode::ProfaneBridgeAgent, message));
    }
    let lower = name.to_lowercase();
    match FORBIDDEN_WORDS.iter().find(|word| lower.contains(**word)) {
        Some(word) => {
            let message = format!("The name must not hold `{word}`: choose another one");
            Err(Refusal::new(ReturnCode::BadRequest, message).into())
        }
        None => Ok(()),
    }
}

/// What a worker's claims say against it.
pub(crate) fn of_claims(max_pixels: i64) -> Option<Reason> {
    (max_pixels > EXTREME_PIXELS).then_some(Reason::ExtremeMaxPixels)
}

impl App {
    /// Notes what speaks against a worker that came in.
    pub(crate) async fn note_remarks(
        &self,
        owner: UserId,
        worker: WorkerId,
        roles: Roles,
        remarks: Remarks,
    ) {
        let suspect = Suspect {
            user: owner,
            worker: Some(worker),
        };
        for reason in remarks {
            self.suspect(suspect, roles, reason).await;
        }
    }
}
