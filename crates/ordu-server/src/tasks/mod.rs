//! What happens by itself. Every task is started here, has a name, and ends on one token.

mod balances;
mod expiry;
mod pictures;
mod reachability;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::app::App;

/// The tasks of one server.
pub(crate) struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown,
        }
    }

    /// Starts a task that ends by itself when the shutdown begins.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker
            .spawn(work.instrument(tracing::info_span!("task", name)));
    }

    /// Does `work` again and again, `pause` apart, until the shutdown begins.
    fn repeat<F, W>(&mut self, name: &'static str, pause: Duration, mut work: W)
    where
        F: Future<Output = ()> + Send,
        W: FnMut() -> F + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.start(name, async move {
            while shutdown
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_some()
            {
                work().await;
            }
        });
    }

    /// Waits for the end of all tasks.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Starts everything that happens by itself.
pub(crate) fn start_all(tasks: &mut Tasks, app: &Arc<App>) {
    let this = || Arc::clone(app);
    let app = this();
    tasks.repeat("expiry", expiry::PAUSE, move || {
        expiry::run(Arc::clone(&app))
    });
    let app = this();
    tasks.repeat("balances", balances::PAUSE, move || {
        balances::run(Arc::clone(&app))
    });
    let app = this();
    tasks.repeat("pictures", pictures::PAUSE, move || {
        pictures::run(Arc::clone(&app))
    });
    let app = this();
    tasks.repeat("reachability", reachability::PAUSE, move || {
        reachability::run(Arc::clone(&app))
    });
}
