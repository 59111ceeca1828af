//! Workers that wait are woken for another node's requests only after that node had the first look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ordu_api::RequestId;
use ordu_core::horde::{Changes, Horde};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Nodes, locked};
use crate::app::App;

/// How long after the head start workers are woken, so that it is over for sure.
const GRACE: Duration = Duration::from_millis(20);

/// Requests for which workers are to be woken, and when.
#[derive(Debug, Default)]
pub(super) struct Bells {
    waiting: Mutex<BTreeMap<Instant, BTreeSet<RequestId>>>,
    added: Notify,
}

impl Nodes {
    /// Puts off the waking of workers for requests of other nodes.
    pub(crate) fn put_off(&self, horde: &Horde, mut changes: Changes) -> Changes {
        if !self.are_several() || changes.opened.is_empty() {
            return changes;
        }
        let (now, before) = (Instant::now(), changes.opened.len());
        let mut waiting = locked(&self.bells.waiting);
        changes.opened.retain(|request| {
            let head_start = horde.head_start_of(*request).0.unsigned_abs();
            if head_start > 0 {
                let due = now + Duration::from_millis(head_start) + GRACE;
                waiting.entry(due).or_default().insert(*request);
            }
            head_start == 0
        });
        drop(waiting);
        if changes.opened.len() < before {
            self.bells.added.notify_one();
        }
        changes
    }
}

impl App {
    /// Wakes workers for what was left alone while this node was behind.
    pub(super) fn ring_for_others(&self) {
        let live = self.live();
        let waiting: BTreeSet<RequestId> = live.horde.foreign_requests().collect();
        self.push.pops.wake(&live.horde, &waiting);
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
    let next = locked(&bells.waiting).keys().next().copied();
    let Some(due) = next else {
        return bells.added.notified().await;
    };
    tokio::select! {
        () = sleep_until(due) => {}
        // It may be due earlier.
        () = bells.added.notified() => return,
    }
    let mut waiting = locked(&bells.waiting);
    let later = waiting.split_off(&(due + Duration::from_nanos(1)));
    let due = std::mem::replace(&mut *waiting, later);
    let opened: BTreeSet<RequestId> = due.into_values().flatten().collect();
    drop(waiting);
    let live = app.live();
    app.push.pops.wake(&live.horde, &opened);
}
