//! Notices workers that the command line changed or deleted.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// One look.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.notice_worker_edits().await {
        tracing::warn!(%error, "changed workers could not be read");
    }
}
