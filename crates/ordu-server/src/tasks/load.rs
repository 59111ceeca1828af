//! Notes how busy the horde is, for charts over time.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often. A minute counts once, whichever server notes it.
pub(crate) const PAUSE: Duration = Duration::from_mins(1);

/// One sample.
pub(crate) async fn run(app: Arc<App>) {
    if let Err(error) = app.sample_load().await {
        tracing::warn!(%error, "how busy the horde is could not be noted");
    }
}
