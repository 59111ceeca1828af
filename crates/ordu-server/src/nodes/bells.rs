//! Workers that wait are woken for another node's requests only after that node had the first look.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ordu_api::RequestId;
use ordu_core::horde::{Changes, HEAD_START, Horde};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Nodes, locked};
use crate::app::App;

/// A little longer than the head start, so that it is over for sure.
const DELAY: Duration = Duration::from_millis(HEAD_START.0.unsigned_abs() + 20);

/// Requests for which workers are to be woken, and when, in order.
#[derive(Debug, Default)]
pub(super) struct Bells {
    waiting: Mutex<VecDeque<(Instant, RequestId)>>,
    added: Notify,
}

impl Nodes {
    /// Puts off the waking of workers for requests of other nodes.
    pub(crate) fn put_off(&self, horde: &Horde, mut changes: Changes) -> Changes {
        if !self.are_several() || changes.opened.is_empty() {
            return changes;
        }
        let (foreign, own) = changes
            .opened
            .into_iter()
            .partition::<BTreeSet<RequestId>, _>(|request| horde.is_foreign(*request));
        changes.opened = own;
        if !foreign.is_empty() {
            let due = Instant::now() + DELAY;
            let mut waiting = locked(&self.bells.waiting);
            waiting.extend(foreign.into_iter().map(|request| (due, request)));
            drop(waiting);
            self.bells.added.notify_one();
        }
        changes
    }
}

/// Until the shutdown begins.
pub(crate) async fn ring_late(app: Arc<App>, shutdown: CancellationToken) {
    while shutdown
        .run_until_cancelled(ring_next(&app))
        .await
        .is_some()
    {}
}

async fn ring_next(app: &App) {
    let bells = &app.nodes.bells;
    let next = locked(&bells.waiting).front().map(|(due, _)| *due);
    let Some(due) = next else {
        return bells.added.notified().await;
    };
    sleep_until(due).await;
    let mut waiting = locked(&bells.waiting);
    let mut opened = BTreeSet::new();
    while let Some((_, request)) = waiting.pop_front_if(|(at, _)| *at <= due) {
        opened.insert(request);
    }
    drop(waiting);
    let live = app.live();
    app.push.pops.wake(&live.horde, &opened);
}
