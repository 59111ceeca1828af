//! Reads the file of subscriptions again.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_mins(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    app.load_subscriptions().await;
}
