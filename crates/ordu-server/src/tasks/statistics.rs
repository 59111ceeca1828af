//! Deletes what no statistic shows any more.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_mins(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.store.prune_statistics(app.clock.now()).await {
        tracing::warn!(%error, "old statistics could not be deleted");
    }
}
