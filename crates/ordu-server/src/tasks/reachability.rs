//! Asks the database whether it is there, so that a heartbeat can tell without asking.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// How long the database has to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    let answered = tokio::time::timeout(DEADLINE, app.store.ping()).await;
    let reachable = matches!(answered, Ok(Ok(())));
    if !reachable {
        app.live().horde.note_trouble(app.clock.now());
    }
    if app.reachable.swap(reachable, Ordering::Relaxed) != reachable {
        tracing::warn!(reachable, "the database changed");
    }
}
