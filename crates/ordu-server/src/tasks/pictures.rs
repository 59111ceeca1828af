//! Removes pictures that are old enough.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    match app.blobs.sweep(app.clock.now()).await {
        Ok(0) => {}
        Ok(swept) => tracing::debug!(swept, "old pictures were removed"),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "pictures cannot be swept"
            );
        }
    }
}
