//! Reads messages to workers again: other nodes write some, and some stop mattering.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.load_messages().await {
        tracing::warn!(%error, "messages to workers are as old as the last look");
    }
}
