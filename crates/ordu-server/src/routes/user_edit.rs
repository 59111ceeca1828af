//! Accounts as they are changed, deleted and taken back.
//!
//! # Source
//! `community.md` § 2.7; `observed.md` 24, 28.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::user::{UserChanged, UserInput};
use ordu_api::{ReturnCode, UserId};
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::permission::{Caller, UserTier};
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_store::{UserChange, UserEdit};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::{Account, FOLD_LINES};
use crate::app::App;
use crate::audit::{Deed, said, same_members};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::secret::new_api_key;
use crate::{text, trust};

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 30;

/// What a school may have waiting at least.
const EDUCATION_CONCURRENCY: i64 = 200;

/// What others may.
const CONCURRENCY: i64 = 30;

/// How long a deleted account must have been quiet before everything in it goes.
const QUIET: Millis = Millis::from_minutes(30 * 24 * 60);

/// `PUT /users/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(input): Checked<UserInput>,
) -> ApiResult<Json<UserChanged>> {
    let target = find(&app, &id).await?;
    let account = app.accounts.by_key(&key.require()?).await?;
    apply(&app, &account, target, input).await.map(Json)
}

/// Changes an account, if `account` may and everything agrees.
pub(super) async fn apply(
    app: &Arc<App>,
    account: &Account,
    target: Arc<Account>,
    input: UserInput,
) -> ApiResult<UserChanged> {
    let input = selected(input)?;
    let caller = caller(app, account, target.user.id);
    let takes_rights = check_permission(&input, caller)?;
    let now = app.clock.now();
    let deed = takes_rights.then(|| change_deed(account, &target, &input));
    let plan = Plan::new(app, &input, &target, deed, now)?;
    let this = Arc::clone(app);
    app.complete(async move { this.change_user(&target, plan, now).await })
        .await
}

/// What the audit log says of a change.
fn change_deed(account: &Account, target: &Account, input: &UserInput) -> Deed {
    let user = &target.user;
    let roles = &user.roles;
    let before = json!({
        "kudos": target.balance.as_f64(),
        "monthly_kudos": user.monthly_kudos.as_f64(),
        "usage_multiplier": user.usage_multiplier,
        "moderator": roles.moderator, "trusted": roles.trusted, "flagged": roles.flagged,
        "customizer": roles.customizer, "vpn": roles.vpn, "service": roles.service,
        "education": roles.education, "special": roles.special,
        "concurrency": user.concurrency, "worker_invited": user.worker_invited,
        "admin_comment": user.admin_comment, "public_workers": user.public_workers,
        "username": user.username, "contact": user.contact,
        "undelete": !roles.deleted,
    });
    let mut after = said(serde_json::to_value(input).unwrap_or_default());
    for (name, was, delta) in [
        ("kudos", target.balance.as_f64(), input.kudos),
        (
            "monthly_kudos",
            user.monthly_kudos.as_f64(),
            input.monthly_kudos.map(|kudos| Kudos::new(kudos).as_f64()),
        ),
    ] {
        if let (Some(delta), Some(members)) = (delta, after.as_object_mut()) {
            members.insert(name.to_owned(), json!(was + delta));
        }
    }
    let before = same_members(&before, &after);
    Deed::new(account.user.id, "user.update", "user", user.id).change(before, after)
}

async fn find(app: &App, id: &str) -> ApiResult<Arc<Account>> {
    let found = match id.parse() {
        Ok(id) => app.accounts.by_id(id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        let message = format!("User {id} not found");
        ApiError::refused(ReturnCode::UserNotFound, message)
    })
}

fn caller(app: &App, account: &Account, target: UserId) -> Caller {
    Caller {
        admin: app.is_admin(account.user.id),
        moderator: app.is_moderator(account),
        own: account.user.id == target,
        anonymous: account.user.id == UserId::ANONYMOUS,
        service: account.user.roles.service,
    }
}

/// What is really asked for: two of the switches say nothing when they are off.
fn selected(mut input: UserInput) -> ApiResult<UserInput> {
    input.undelete = input.undelete.filter(|on| *on);
    input.generate_proxy_passkey = input.generate_proxy_passkey.filter(|on| *on);
    if input == UserInput::default() {
        let message = "Nothing to change: send at least one member of an account";
        return Err(ApiError::refused(ReturnCode::NoUserModSelected, message));
    }
    Ok(input)
}

/// Whether the caller may; says whether it takes the rights of those who keep order.
fn check_permission(input: &UserInput, caller: Caller) -> ApiResult<bool> {
    let any = |members: &[bool]| members.contains(&true);
    let tiers = [
        (
            UserTier::Admin,
            any(&[
                input.kudos.is_some(),
                input.monthly_kudos.is_some(),
                input.usage_multiplier.is_some(),
                input.moderator.is_some(),
            ]),
        ),
        (
            UserTier::Moderator,
            any(&[
                input.concurrency.is_some(),
                input.worker_invited.is_some(),
                input.trusted.is_some(),
                input.flagged.is_some(),
                input.customizer.is_some(),
                input.vpn.is_some(),
                input.service.is_some(),
                input.education.is_some(),
                input.special.is_some(),
                input.reset_suspicion.is_some(),
                input.admin_comment.is_some(),
            ]),
        ),
        (
            UserTier::Own,
            any(&[
                input.public_workers.is_some(),
                input.username.is_some(),
                input.contact.is_some(),
                input.undelete.is_some(),
            ]),
        ),
        (UserTier::Service, input.generate_proxy_passkey.is_some()),
    ];
    let mut takes_rights = !caller.own;
    for (tier, _) in tiers.into_iter().filter(|(_, is_asked)| *is_asked) {
        tier.check(caller)?;
        takes_rights |= matches!(tier, UserTier::Admin | UserTier::Moderator);
    }
    Ok(takes_rights)
}

/// A change that everything agrees to, and what is answered to it.
struct Plan {
    edit: UserEdit,
    changed: UserChanged,
    deed: Option<Deed>,
    resets_suspicion: bool,
    moves_kudos: bool,
}

impl Plan {
    fn new(
        app: &App,
        input: &UserInput,
        target: &Account,
        deed: Option<Deed>,
        now: Timestamp,
    ) -> ApiResult<Self> {
        let mut plan = Self {
            edit: UserEdit::default(),
            changed: UserChanged::default(),
            deed,
            resets_suspicion: input.reset_suspicion.is_some(),
            moves_kudos: false,
        };
        plan.write_texts(app, input)?;
        plan.grant_roles(input, target);
        plan.set_limits(input, target);
        plan.move_kudos(input, target, now);
        if input.undelete.is_some() {
            if !target.user.roles.deleted {
                let message = "This account is not deleted";
                return Err(ApiError::refused(ReturnCode::UserNotDeleted, message));
            }
            plan.edit.change.deleted = Some(false);
            plan.changed.undeleted = Some(true);
        }
        if input.generate_proxy_passkey.is_some() {
            let key = new_api_key().map_err(|error| ApiError::Internal(error.to_string()))?;
            plan.edit.change.proxy_passkey = Some(key.reveal().to_owned());
            plan.changed.proxy_passkey = Some(key.reveal().to_owned());
        }
        plan.changed.new_suspicion = plan.resets_suspicion.then_some(0);
        Ok(plan)
    }

    fn write_texts(&mut self, app: &App, input: &UserInput) -> ApiResult<()> {
        if let Some(name) = &input.username {
            app.check_text(name, ReturnCode::ProfaneUserName)?;
            if name.chars().count() > MAX_NAME_CHARS {
                let message = format!("A name has at most {MAX_NAME_CHARS} characters");
                return Err(ApiError::refused(ReturnCode::TooLongUserName, message));
            }
            let name = readable("username", name)?;
            self.edit.change.username = Some(name.clone());
            self.changed.username = Some(name);
        }
        if let Some(contact) = &input.contact {
            app.check_text(contact, ReturnCode::ProfaneUserContact)?;
            let contact = readable("contact", contact)?;
            self.edit.change.contact = Some(contact.clone());
            self.changed.contact = Some(contact);
        }
        if let Some(comment) = &input.admin_comment {
            app.check_text(comment, ReturnCode::ProfaneAdminComment)?;
            let comment = readable("admin_comment", comment)?;
            self.edit.change.admin_comment = Some(comment.clone());
            self.changed.admin_comment = Some(comment);
        }
        self.edit.change.public_workers = input.public_workers;
        self.changed.public_workers = input.public_workers;
        Ok(())
    }

    /// The anonymous account never gains a role; asking for one changes nothing.
    fn grant_roles(&mut self, input: &UserInput, target: &Account) {
        let is_anonymous = target.user.id == UserId::ANONYMOUS;
        let role = |asked: Option<bool>| asked.map(|on| on && !is_anonymous);
        let change = &mut self.edit.change;
        change.moderator = role(input.moderator);
        change.trusted = role(input.trusted);
        change.flagged = role(input.flagged);
        change.customizer = role(input.customizer);
        change.vpn = role(input.vpn);
        change.service = role(input.service);
        change.education = role(input.education);
        change.special = role(input.special);
        self.changed.moderator = change.moderator;
        self.changed.trusted = change.trusted;
        self.changed.flagged = change.flagged;
        self.changed.customizer = change.customizer;
        self.changed.vpn = change.vpn;
        self.changed.service = change.service;
        self.changed.education = change.education;
        self.changed.special = change.special;
        // Who keeps order is trusted, and stays so.
        if change.moderator == Some(true) {
            change.trusted = Some(true);
        }
        self.edit.frees = change.trusted == Some(true) && !target.user.roles.trusted;
    }

    fn set_limits(&mut self, input: &UserInput, target: &Account) {
        let now = target.user.concurrency;
        let by_school = match self.edit.change.education {
            Some(true) if now < EDUCATION_CONCURRENCY => Some(EDUCATION_CONCURRENCY),
            Some(false) if now == EDUCATION_CONCURRENCY => Some(CONCURRENCY),
            _ => None,
        };
        let concurrency = input.concurrency.or(by_school);
        self.edit.change.concurrency = concurrency;
        self.changed.concurrency = concurrency;
        self.edit.change.worker_invited = input.worker_invited;
        self.changed.worker_invited = input.worker_invited;
        self.edit.change.usage_multiplier = input.usage_multiplier;
        self.changed.usage_multiplier = input.usage_multiplier;
    }

    fn move_kudos(&mut self, input: &UserInput, target: &Account, now: Timestamp) {
        let user = target.user.id;
        if let Some(kudos) = input.kudos {
            self.moves_kudos = true;
            self.record(movement(
                user,
                Kudos::round_to_cents(kudos),
                Reason::Admin,
                now,
            ));
        }
        if let Some(delta) = input.monthly_kudos {
            let delta = Kudos::new(delta);
            let monthly = (target.user.monthly_kudos + delta).max(Kudos::ZERO);
            self.edit.change.monthly_kudos = Some(monthly);
            self.changed.monthly_kudos = Some(monthly.milli() / 1000);
            if delta > Kudos::ZERO {
                self.record(movement(user, delta, Reason::Recurring, now));
                let first = target.user.monthly_received.is_none();
                self.edit.change.monthly_received = first.then_some(now);
            }
        }
    }

    fn record(&mut self, movement: Option<Event>) {
        self.edit.movements.extend(movement);
    }
}

/// A text as it is stored; what nothing is left of cannot be.
pub(super) fn readable(name: &str, text: &str) -> ApiResult<String> {
    let clean = text::clean(text);
    if clean.is_empty() {
        return Err(ApiError::field(name, "nothing of it can be read"));
    }
    Ok(clean)
}

fn movement(user: UserId, amount: Kudos, reason: Reason, now: Timestamp) -> Option<Event> {
    let entry = match amount {
        Kudos::ZERO => return None,
        gain if gain > Kudos::ZERO => Entry::reward(user, gain, reason),
        loss => Entry::burn(user, -loss, reason),
    };
    Some(Event {
        id: Uuid::new_v4(),
        at: now,
        kind: None,
        entries: vec![entry],
    })
}

impl App {
    async fn change_user(
        &self,
        target: &Account,
        plan: Plan,
        now: Timestamp,
    ) -> ApiResult<UserChanged> {
        let id = target.user.id;
        self.recorded(plan.deed, self.store.edit_user(id, &plan.edit, now))
            .await?;
        if !plan.edit.movements.is_empty() {
            // What falls below the floor is raised to it before the next movement comes.
            self.store.fold(FOLD_LINES, now).await?;
        }
        if plan.edit.frees {
            trust::set_free(self, id);
        }
        if plan.resets_suspicion {
            self.forget_suspicions(id).await?;
        }
        self.accounts.forget(id);
        let mut changed = plan.changed;
        if plan.moves_kudos {
            let balance = self.store.balance(id).await?;
            let all = balance.spendable + balance.unfolded_credit - balance.unfolded_debit;
            changed.new_kudos = Some(all.as_f64());
        }
        tracing::info!(user.id = %id, "an account was changed");
        Ok(changed)
    }
}

/// `DELETE /users/{id}`: first it is marked; once it was quiet for a month everything goes.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    OptionalKey(key): OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let target = find(&app, &id).await?;
    let Some(key) = key else {
        let message = "Send your key as `apikey`";
        return Err(ApiError::refused(ReturnCode::InvalidAPIKey, message));
    };
    let account = app.accounts.by_key(&key).await?;
    check_deletion(&app, &account, &target)?;
    let by_other = account.user.id != target.user.id;
    let deed = |operation| {
        let deed = Deed::new(account.user.id, operation, "user", target.user.id);
        by_other.then_some(deed)
    };
    if !target.user.roles.deleted {
        let change = UserChange {
            deleted: Some(true),
            ..UserChange::default()
        };
        let deed = deed("user.delete");
        app.recorded(deed, app.store.update_user(target.user.id, &change))
            .await?;
        app.accounts.forget(target.user.id);
    } else if app.clock.now().since(target.user.last_active) < QUIET {
        let message = "An account is wiped a month after it was last used";
        return Err(ApiError::refused(ReturnCode::CannotWipeActiveUser, message));
    } else {
        wipe(&app, target.user.id, deed("user.wipe")).await?;
    }
    Ok(Json(json!({ "message": "OK" })))
}

fn check_deletion(app: &App, account: &Account, target: &Account) -> ApiResult<()> {
    let refuse = |code, message: &str| Err(ApiError::refused(code, message));
    if account.user.id == UserId::ANONYMOUS {
        return refuse(
            ReturnCode::AnonForbiddenUser,
            "Anonymous users cannot delete accounts",
        );
    }
    if target.user.roles.moderator {
        let message = "Moderators cannot be deleted";
        return refuse(ReturnCode::CannotDeleteMod, message);
    }
    let is_own = account.user.id == target.user.id;
    if target.user.id == UserId::ANONYMOUS || !is_own && !app.is_moderator(account) {
        let message = "Only moderators delete the accounts of others";
        return refuse(ReturnCode::NotUserOrMod, message);
    }
    Ok(())
}

async fn wipe(app: &Arc<App>, user: UserId, deed: Option<Deed>) -> ApiResult<()> {
    let this = Arc::clone(app);
    app.complete(async move {
        let keys = this.store.list_shared_keys_of(user).await?;
        this.recorded(deed, this.store.wipe_user(user)).await?;
        this.accounts.forget(user);
        this.styles.changed();
        for key in keys {
            this.accounts.shared_keys().forget(key);
        }
        for worker in this.registry.owned_by(user) {
            this.registry.remove(worker);
            this.live().horde.forget_worker(worker);
        }
        tracing::info!(user.id = %user, "an account was wiped");
        Ok(())
    })
    .await
}
