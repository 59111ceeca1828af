//! Trusts those who have earned it, and frees what trusted accounts still have in escrow.

use std::sync::Arc;
use std::time::Duration;

use ordu_core::Kudos;

use crate::app::App;
use crate::trust;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// How many accounts one round looks at.
const BITE: u32 = 500;

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    let now = app.clock.now();
    let never = Kudos::from_milli(i64::MAX);
    let threshold = app.config.trust_threshold.unwrap_or(never);
    let users = match app.store.list_with_escrow(threshold, BITE).await {
        Ok(users) => users,
        Err(error) => {
            tracing::warn!(%error, "nobody's escrow can be looked at");
            return;
        }
    };
    for user in users {
        if let Err(error) = trust::consider(&app, user, now).await {
            tracing::warn!(?error, user.id = %user, "an escrow stays where it is");
        }
    }
}
