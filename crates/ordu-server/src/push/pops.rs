//! Workers that wait for a job.
//!
//! When slots of a request come open, as many workers are woken as it has slots, of those that could
//! serve it, who waits longest first. A worker that is woken looks for itself: it may find something
//! better, or that another one was faster. Then, or if it hung up meanwhile, the next one is woken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, WorkerId};
use ordu_core::horde::Horde;
use tokio::sync::Notify;

use crate::app::App;

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Pops {
    queues: Mutex<Queues>,
    /// How many; so that nobody looks further when it is nobody.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queues {
    /// The number of the last ticket.
    last: u64,
    waiting: BTreeMap<WorkKind, BTreeMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    worker: WorkerId,
    /// What it was woken for, until it has looked.
    woken_for: Option<RequestId>,
    bell: Arc<Notify>,
}

/// The place of one that waits, given up when dropped.
pub(crate) struct Ticket {
    app: Arc<App>,
    kind: WorkKind,
    number: u64,
    bell: Arc<Notify>,
}

impl Pops {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Wakes workers for requests of which slots came open.
    pub(crate) fn wake(&self, horde: &Horde, opened: &BTreeSet<RequestId>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut queues = self.queues();
        for request in opened {
            queues.wake(horde, *request, 0);
        }
    }
}

impl Queues {
    /// Wakes workers for a request, of those with tickets after this one.
    fn wake(&mut self, horde: &Horde, request: RequestId, after: u64) {
        let kind = horde.request(request).map(|request| request.work.kind());
        let Some(waiting) = kind.and_then(|kind| self.waiting.get_mut(&kind)) else {
            return;
        };
        let under_way = waiting.values();
        let under_way = under_way.filter(|other| other.woken_for == Some(request));
        let open = horde.open_slots_of(request) as usize;
        let wanted = open.saturating_sub(under_way.count());
        let able = waiting
            .range_mut(after.saturating_add(1)..)
            .map(|(_, waiting)| waiting)
            .filter(|waiting| waiting.woken_for.is_none())
            .filter(|waiting| horde.would_serve(waiting.worker, request));
        for waiting in able.take(wanted) {
            waiting.woken_for = Some(request);
            waiting.bell.notify_one();
        }
    }
}

impl Ticket {
    /// Lets a worker wait. It must look once more: something may have come before.
    pub(crate) fn draw(app: &Arc<App>, kind: WorkKind, worker: WorkerId) -> Self {
        let bell = Arc::new(Notify::new());
        let mut queues = app.push.pops.queues();
        queues.last += 1;
        let number = queues.last;
        let waiting = Waiting {
            worker,
            woken_for: None,
            bell: Arc::clone(&bell),
        };
        queues
            .waiting
            .entry(kind)
            .or_default()
            .insert(number, waiting);
        app.push.pops.count.fetch_add(1, Ordering::Relaxed);
        drop(queues);
        Self {
            app: Arc::clone(app),
            kind,
            number,
            bell,
        }
    }

    /// Ends when the worker should look.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }

    /// The worker has looked: what it was woken for and did not take is for the next one.
    pub(crate) fn looked(&self) {
        let mut queues = self.app.push.pops.queues();
        let waiting = queues.waiting.get_mut(&self.kind);
        let waiting = waiting.and_then(|waiting| waiting.get_mut(&self.number));
        let woken_for = waiting.and_then(|waiting| waiting.woken_for.take());
        drop(queues);
        self.pass_on(woken_for);
    }

    fn pass_on(&self, request: Option<RequestId>) {
        if let Some(request) = request {
            let live = self.app.live();
            let mut queues = self.app.push.pops.queues();
            queues.wake(&live.horde, request, self.number);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queues = self.app.push.pops.queues();
        let waiting = queues.waiting.get_mut(&self.kind);
        let left = waiting.and_then(|waiting| waiting.remove(&self.number));
        self.app.push.pops.count.fetch_sub(1, Ordering::Relaxed);
        drop(queues);
        self.pass_on(left.and_then(|left| left.woken_for));
    }
}
