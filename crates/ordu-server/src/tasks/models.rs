//! Reads what is known about models again.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often. Documents from the network are fetched more rarely.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    app.refresh_models().await;
}
