//! Reads accounts in use again before their copies are too old.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.accounts.renew().await {
        tracing::warn!(%error, "accounts could not be read again, calls will try");
    }
}
