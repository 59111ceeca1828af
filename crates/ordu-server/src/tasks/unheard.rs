//! Looks for requests that were refused and may be stored all the same.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    app.look_for_unheard(app.clock.now()).await;
}
