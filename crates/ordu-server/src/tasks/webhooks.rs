//! Sends what requesters are to be told, from the database.
//!
//! A few messages at once, few to one host, those of one request one after the other. What fails
//! waits longer each time, and all of its request with it. A message that this process took and
//! did not finish, because it was killed, is due again after a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ordu_core::Millis;
use ordu_store::Due;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::app::App;

/// How often to look for messages of others, or whose time has come.
const PAUSE: Duration = Duration::from_secs(5);

/// Messages on their way at once.
const MAX_SENDING: usize = 32;

/// Messages on their way to one host at once.
const MAX_SENDING_TO_HOST: usize = 4;

/// Messages claimed at once: so many more may reach one host by chance.
const BITE: u32 = 4;

/// How long a claim holds: longer than all attempts of one delivery can take.
const LEASE: Millis = Millis::from_seconds(30);

/// How old a message gets before it is given up.
const MAX_AGE: Millis = Millis::from_minutes(24 * 60);

/// How long to wait after the first failure; four times as long after each further one …
const FIRST_PAUSE: Millis = Millis::from_seconds(5);

/// … up to this.
const MAX_PAUSE: Millis = Millis::from_minutes(60);

/// Sends until the shutdown begins, then waits for what is on its way.
pub(crate) async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut sender = Sender::new(&app);
    loop {
        sender.fill().await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sender.one_ended(), if !sender.is_idle() => {}
            () = app.webhooks.woken() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    while !sender.is_idle() {
        sender.one_ended().await;
    }
}

/// Sends everything that is due now, each message once.
pub(crate) async fn send_due(app: &Arc<App>) {
    let mut sender = Sender::new(app);
    loop {
        sender.fill().await;
        if sender.is_idle() {
            return;
        }
        sender.one_ended().await;
    }
}

/// Messages on their way, each a task of its own: whoever holds a connection of the database must
/// go on while this waits for one.
struct Sender<'a> {
    app: &'a Arc<App>,
    sending: JoinSet<()>,
    hosts: HashMap<Id, String>,
}

impl<'a> Sender<'a> {
    fn new(app: &'a Arc<App>) -> Self {
        Self {
            app,
            sending: JoinSet::new(),
            hosts: HashMap::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.sending.is_empty()
    }

    /// Takes on what is due, as far as there is room.
    async fn fill(&mut self) {
        while self.sending.len() < MAX_SENDING {
            let now = self.app.clock.now();
            let busy = self.busy_hosts();
            let claimed = self
                .app
                .store
                .claim_webhooks(now, now + LEASE, BITE, &busy)
                .await;
            match claimed {
                Ok(claimed) if claimed.is_empty() => return,
                Ok(claimed) => claimed.into_iter().for_each(|due| self.start(due)),
                Err(error) => {
                    tracing::warn!(%error, "webhooks wait for the database");
                    return;
                }
            }
        }
    }

    fn busy_hosts(&self) -> BTreeSet<String> {
        let mut sending: BTreeMap<&String, usize> = BTreeMap::new();
        for host in self.hosts.values() {
            *sending.entry(host).or_default() += 1;
        }
        let busy = sending.into_iter();
        let busy = busy.filter(|(_, sending)| *sending >= MAX_SENDING_TO_HOST);
        busy.map(|(host, _)| host.clone()).collect()
    }

    fn start(&mut self, due: Due) {
        let app = Arc::clone(self.app);
        let host = due.host.clone();
        let delivery = async move { deliver(&app, &due).await };
        let task = self.sending.spawn(delivery.in_current_span());
        self.hosts.insert(task.id(), host);
    }

    /// Waits until a message has ended, one way or the other.
    async fn one_ended(&mut self) {
        let id = match self.sending.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            // Its claim ends by itself.
            Some(Err(error)) => error.id(),
            None => return,
        };
        self.hosts.remove(&id);
    }
}

/// Sends one message and notes what came of it.
async fn deliver(app: &App, due: &Due) {
    let outcome = app.send_webhook(due).await;
    let now = app.clock.now();
    let over = due.created + MAX_AGE;
    let noted = match &outcome {
        Ok(()) => app.store.delete_webhook(due.id).await,
        Err(error) if error.is_final() || now >= over => app.store.delete_webhook(due.id).await,
        Err(_) => {
            let next = (now + pause_after(due.attempts)).min(over);
            app.store.postpone_webhooks(due.request, next).await
        }
    };
    if let Err(error) = noted {
        // The claim ends by itself: the message goes out once more.
        tracing::warn!(%error, request.id = %due.request, "a webhook's outcome is not stored");
    }
    match outcome {
        Ok(()) => app.webhooks.count_delivered(),
        Err(error) => {
            tracing::debug!(request.id = %due.request, %error, "a webhook failed");
            app.webhooks.count_failed();
            if error.is_final() || now >= over {
                app.webhooks.count_dropped();
            }
        }
    }
}

fn pause_after(attempts: i64) -> Millis {
    let doublings = u32::try_from(2 * (attempts - 1).clamp(0, 10)).unwrap_or(0);
    Millis(FIRST_PAUSE.0 << doublings).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let seconds: Vec<i64> = (1..=7).map(|n| pause_after(n).0 / 1000).collect();
        assert_eq!(seconds, [5, 20, 80, 320, 1280, 3600, 3600]);
        assert_eq!(pause_after(i64::MAX), MAX_PAUSE);
    }
}
