//! Reads the passkeys of service accounts again.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.passkeys.refresh(&app.store).await {
        tracing::warn!(%error, "passkeys could not be read, the old ones stay");
    }
}
