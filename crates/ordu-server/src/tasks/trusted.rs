//! Keeps a copy of the addresses that may ask more often.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_mins(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.trusted.save(&app.store, app.clock.now()).await {
        tracing::warn!(%error, "trusted addresses could not be stored");
    }
}
