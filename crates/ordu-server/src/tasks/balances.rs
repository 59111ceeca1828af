//! Folds the ledger into balances.

use std::sync::Arc;
use std::time::Duration;

use crate::accounts::FOLD_LINES;
use crate::app::App;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// One round: everything that waits, in bounded bites.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        match app.store.fold(FOLD_LINES, app.clock.now()).await {
            Ok(folded) if folded.lines < FOLD_LINES as usize => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the ledger could not be folded");
                return;
            }
        }
    }
}
