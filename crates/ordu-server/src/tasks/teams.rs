//! Reads the names of teams again: other nodes change some.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.load_teams().await {
        tracing::warn!(%error, "the names of teams are as old as the last look");
    }
}
