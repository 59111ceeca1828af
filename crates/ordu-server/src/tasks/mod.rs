//! What happens by itself. Every task is started here, has a name, and ends on one token.

mod accounts;
mod balances;
mod expiry;
mod grants;
mod guard;
mod load;
mod messages;
mod models;
mod passkeys;
mod pictures;
mod reachability;
mod statistics;
mod subscriptions;
mod teams;
mod trust;
mod trusted;
mod unheard;
mod webhooks;
mod workers;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::app::App;
use crate::guard::post_notices;
use crate::nodes::{follow_log, keep_presence, ring_late};

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

/// Something that happens by itself.
struct Task {
    name: &'static str,
    /// How long it rests between two rounds.
    pause: Duration,
    /// Who does it.
    by: By,
    /// One round.
    run: fn(Arc<App>) -> BoxFuture<'static, ()>,
}

/// Who does something, of several nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Each, for itself.
    All,
    /// The one that leads, for all.
    Leader,
}

/// Everything that happens by itself.
const TASKS: &[Task] = &[
    Task {
        name: "accounts",
        pause: accounts::PAUSE,
        by: By::All,
        run: |app| Box::pin(accounts::run(app)),
    },
    Task {
        name: "expiry",
        pause: expiry::PAUSE,
        by: By::All,
        run: |app| Box::pin(expiry::run(app)),
    },
    Task {
        name: "unheard",
        pause: unheard::PAUSE,
        by: By::All,
        run: |app| Box::pin(unheard::run(app)),
    },
    Task {
        name: "balances",
        pause: balances::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(balances::run(app)),
    },
    Task {
        name: "passkeys",
        pause: passkeys::PAUSE,
        by: By::All,
        run: |app| Box::pin(passkeys::run(app)),
    },
    Task {
        name: "trusted",
        pause: trusted::PAUSE,
        by: By::All,
        run: |app| Box::pin(trusted::run(app)),
    },
    Task {
        name: "trust",
        pause: trust::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(trust::run(app)),
    },
    Task {
        name: "subscriptions",
        pause: subscriptions::PAUSE,
        by: By::All,
        run: |app| Box::pin(subscriptions::run(app)),
    },
    Task {
        name: "grants",
        pause: grants::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(grants::run(app)),
    },
    Task {
        name: "messages",
        pause: messages::PAUSE,
        by: By::All,
        run: |app| Box::pin(messages::run(app)),
    },
    Task {
        name: "models",
        pause: models::PAUSE,
        by: By::All,
        run: |app| Box::pin(models::run(app)),
    },
    Task {
        name: "pictures",
        pause: pictures::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(pictures::run(app)),
    },
    Task {
        name: "reachability",
        pause: reachability::PAUSE,
        by: By::All,
        run: |app| Box::pin(reachability::run(app)),
    },
    Task {
        name: "load",
        pause: load::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(load::run(app)),
    },
    Task {
        name: "statistics",
        pause: statistics::PAUSE,
        by: By::Leader,
        run: |app| Box::pin(statistics::run(app)),
    },
    Task {
        name: "teams",
        pause: teams::PAUSE,
        by: By::All,
        run: |app| Box::pin(teams::run(app)),
    },
    Task {
        name: "filters",
        pause: guard::FILTERS_PAUSE,
        by: By::All,
        run: |app| Box::pin(guard::filters(app)),
    },
    Task {
        name: "reputation",
        pause: guard::REPUTATION_PAUSE,
        by: By::All,
        run: |app| Box::pin(guard::reputation(app)),
    },
    Task {
        name: "workers",
        pause: workers::PAUSE,
        by: By::All,
        run: |app| Box::pin(workers::run(app)),
    },
    Task {
        name: "reputation-cleaning",
        pause: guard::CLEANING_PAUSE,
        by: By::Leader,
        run: |app| Box::pin(guard::clean(app)),
    },
];

impl Task {
    /// Whether this node is to do it now.
    fn is_for(&self, app: &App) -> bool {
        self.by == By::All || app.nodes.leads()
    }
}

/// Starts everything that happens by itself.
pub(crate) fn start_all(tasks: &mut Tasks, app: &Arc<App>) {
    for task in TASKS {
        let app = Arc::clone(app);
        tasks.repeat(task.name, task.pause, move || {
            let app = Arc::clone(&app);
            async move {
                if task.is_for(&app) {
                    (task.run)(app).await;
                }
            }
        });
    }
    if app.nodes.are_several() {
        let presence = keep_presence(Arc::clone(app), tasks.shutdown.clone());
        tasks.start("presence", presence);
        let log = follow_log(Arc::clone(app), tasks.shutdown.clone());
        tasks.start("change-log", log);
        let bells = ring_late(Arc::clone(app), tasks.shutdown.clone());
        tasks.start("bells", bells);
    }
    let posting = post_notices(Arc::clone(app), tasks.shutdown.clone());
    tasks.start("notices", posting);
    // It is woken as well, and must not be in the middle of something when the server ends.
    let sender = webhooks::run(Arc::clone(app), tasks.shutdown.clone());
    tasks.start("webhooks", sender);
}

/// One round of everything that happens by itself, in the order of the table.
pub(crate) async fn run_all(app: &Arc<App>) {
    app.settle_nodes().await;
    for task in TASKS.iter().filter(|task| task.is_for(app)) {
        (task.run)(Arc::clone(app)).await;
    }
    webhooks::send_due(app).await;
}
