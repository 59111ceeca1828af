//! Which nodes live, and which of them leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ordu_core::Millis;
use ordu_core::horde::Neighbours;
use ordu_store::Node;
use tokio_util::sync::CancellationToken;

use super::locked;
use crate::app::App;

/// How often a node says that it lives.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the database has to answer. Who does not know whether it leads does not.
const DEADLINE: Duration = Duration::from_secs(3);

/// How long the change log is kept. Who did not look for half of that reads everything again.
pub(super) const KEPT: Millis = Millis::from_minutes(10);

/// How long it is remembered that there was a node.
const REMEMBERED: Millis = Millis::from_minutes(60);

/// Once a second, until the shutdown begins.
pub(crate) async fn keep_presence(app: Arc<App>, shutdown: CancellationToken) {
    loop {
        look_around(&app).await;
        let rest = tokio::time::sleep(PAUSE);
        if shutdown.run_until_cancelled(rest).await.is_none() {
            return;
        }
    }
}

/// Says that this node lives, notices the others, and takes the lead if nobody has it.
pub(super) async fn look_around(app: &Arc<App>) {
    let Some(own) = &app.nodes.own else {
        return;
    };
    match tokio::time::timeout(DEADLINE, app.store.beat(own)).await {
        Ok(Ok(alive)) => app.note_alive(own, alive),
        Ok(Err(error)) => tracing::warn!(%error, "this node cannot say that it lives"),
        Err(_) => tracing::warn!("the database does not answer"),
    }
    let leads = matches!(tokio::time::timeout(DEADLINE, app.lead()).await, Ok(true));
    if app.nodes.leads.swap(leads, Ordering::Relaxed) != leads {
        tracing::info!(leads, "the lead changed");
    }
    if tokio::time::timeout(DEADLINE, app.tell_others())
        .await
        .is_err()
    {
        tracing::warn!("the database does not pass on what other nodes should know");
    }
    if leads && let Err(error) = app.forget_old_changes().await {
        tracing::warn!(%error, "the change log could not be cut");
    }
}

impl App {
    fn note_alive(&self, own: &Node, alive: Vec<Node>) {
        let mut known = locked(&self.nodes.alive);
        if *known == alive {
            return;
        }
        tracing::info!(nodes = alive.len(), "the nodes that live changed");
        let neighbours = Neighbours {
            own: own.id,
            alive: alive.iter().map(|node| node.id).collect(),
        };
        *known = alive;
        drop(known);
        self.live().horde.set_neighbours(Some(neighbours));
    }

    /// Whether this node leads.
    async fn lead(&self) -> bool {
        let mut lead = self.nodes.lead.lock().await;
        if let Some(held) = &mut *lead {
            if held.holds().await {
                return true;
            }
            *lead = None;
        }
        match self.store.try_lead().await {
            Ok(taken) => *lead = taken,
            Err(error) => tracing::warn!(%error, "nobody can take the lead"),
        }
        lead.is_some()
    }

    async fn forget_old_changes(&self) -> Result<(), ordu_store::Error> {
        // Once a minute is enough for what is kept for ten.
        if self.clock.now().seconds() % 60 == 0 {
            self.store.delete_changes(KEPT).await?;
            self.store.delete_dead_nodes(REMEMBERED).await?;
        }
        Ok(())
    }
}
