//! Trust granted, by whom or whatever: what it sets free.

use ordu_api::UserId;
use ordu_core::trust::Candidate;
use ordu_core::{Kudos, Timestamp};

use crate::app::App;
use crate::error::ApiResult;

/// Trusts an account: its workers are no longer paused, its escrow can be spent.
pub(crate) async fn grant(app: &App, user: UserId, now: Timestamp) -> ApiResult<()> {
    let freed = app.store.trust_user(user, now).await?;
    app.accounts.forget(user);
    set_free(app, user);
    tracing::info!(user.id = %user, kudos_milli = freed.milli(), "an account is trusted now");
    Ok(())
}

/// In memory, too, the workers of an account that is trusted now are no longer paused.
pub(crate) fn set_free(app: &App, user: UserId) {
    for worker in app.registry.owned_by(user) {
        app.live().horde.unpause(worker);
    }
}

/// Trusts an account that has earned it; frees the escrow of one that is trusted already.
pub(crate) async fn consider(app: &App, user: UserId, now: Timestamp) -> ApiResult<()> {
    let Some(account) = app.accounts.by_id(user).await? else {
        return Ok(());
    };
    let candidate = Candidate {
        user,
        roles: account.roles(),
        escrow: account.user.escrow,
        created: account.user.created,
        suspicions: app.guard.suspicions.of_user(user).into(),
    };
    if candidate.has_earned_trust(app.config.trust_threshold, now) {
        return grant(app, user, now).await;
    }
    if account.user.roles.trusted {
        let freed = app.store.drain_escrow(user, now).await?;
        if freed > Kudos::ZERO {
            app.accounts.forget(user);
        }
    }
    Ok(())
}
