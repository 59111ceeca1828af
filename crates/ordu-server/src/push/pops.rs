//! Workers that wait for a job.
//!
//! When slots of a request come open, as many workers are woken as it has slots, of those that could
//! serve it, who waits longest first. A worker that is woken looks for itself: it may find something
//! better, or that another one was faster. Then, or if it hung up meanwhile, the next one is woken.
//!
//! A request that comes just now need not wait for that look: it can be [promised](Promise::make) to a
//! worker before it is stored, and is given to it when it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, WorkerId};
use ordu_core::horde::{Horde, Offer};
use tokio::sync::Notify;

use crate::app::App;
use crate::handover::Handover;

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
    offer: Offer,
    /// What it was woken for, until it has looked.
    woken_for: Option<RequestId>,
    hand: Hand,
    bell: Arc<Notify>,
}

/// What a worker that waits holds.
#[derive(Debug)]
enum Hand {
    /// Nothing: it looks itself what there is.
    Busy,
    /// Nothing: it has looked.
    Open,
    /// Soon a job, if that can be stored.
    Promised,
    /// A job that it has not noticed yet.
    Full(Handover),
}

/// The place of one that waits, given up when dropped.
pub(crate) struct Ticket {
    app: Arc<App>,
    kind: WorkKind,
    number: u64,
    bell: Arc<Notify>,
}

/// What a worker that waits was promised. If this is dropped before it is [kept](Self::keep), the worker
/// looks itself what else there is.
pub(crate) struct Promise {
    app: Arc<App>,
    kind: WorkKind,
    number: u64,
    worker: WorkerId,
    is_kept: bool,
}

impl Pops {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for work of a kind who has nothing to look at just now.
    pub(crate) fn is_somebody_at_rest(&self, kind: WorkKind) -> bool {
        if self.len() == 0 {
            return false;
        }
        let queues = self.queues();
        let mut waiting = queues
            .waiting
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values);
        waiting.any(Waiting::is_at_rest)
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

impl Waiting {
    /// Whether it has looked, and nothing came since.
    const fn is_at_rest(&self) -> bool {
        matches!(self.hand, Hand::Open) && self.woken_for.is_none()
    }

    const fn is_looking(&self) -> bool {
        matches!(self.hand, Hand::Busy)
    }
}

impl Queues {
    fn find(&mut self, kind: WorkKind, number: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(&kind)?.get_mut(&number)
    }

    /// Wakes workers for a request, of those with tickets after this one.
    fn wake(&mut self, horde: &Horde, request: RequestId, after: u64) {
        let kind = horde.request(request).map(|request| request.work.kind());
        let Some(waiting) = kind.and_then(|kind| self.waiting.get_mut(&kind)) else {
            return;
        };
        let under_way = waiting.values();
        let under_way = under_way.filter(|other| other.woken_for == Some(request));
        let open = horde.open_slots_of(request) as usize;
        let mut wanted = open.saturating_sub(under_way.count());
        let later = waiting.range_mut(after.saturating_add(1)..);
        for (_, waiting) in later {
            if wanted == 0 {
                break;
            }
            let is_free = waiting.is_at_rest() || waiting.is_looking();
            if !is_free || !horde.would_serve(waiting.offer.worker, request) {
                continue;
            }
            // Who looks may have looked already: it looks once more, if it still waits.
            if waiting.is_at_rest() {
                waiting.woken_for = Some(request);
                wanted -= 1;
            }
            waiting.bell.notify_one();
        }
    }
}

impl Ticket {
    /// Lets a worker wait, which looks next: something may be there already.
    pub(crate) fn draw(app: &Arc<App>, kind: WorkKind, offer: Offer) -> Self {
        let bell = Arc::new(Notify::new());
        let mut queues = app.push.pops.queues();
        queues.last += 1;
        let number = queues.last;
        let waiting = Waiting {
            offer,
            woken_for: None,
            hand: Hand::Busy,
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

    /// Ends when something has come for the worker, or it should look.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }

    /// What was promised to the worker, once it is there; nothing if it has to look itself.
    pub(crate) async fn promised(&self) -> Option<Handover> {
        loop {
            match self.reach() {
                Poll::Ready(found) => return found,
                Poll::Pending => self.bell.notified().await,
            }
        }
    }

    /// What is in the worker's hand, which closes.
    fn reach(&self) -> Poll<Option<Handover>> {
        let mut queues = self.app.push.pops.queues();
        let Some(waiting) = queues.find(self.kind, self.number) else {
            return Poll::Ready(None);
        };
        if matches!(waiting.hand, Hand::Promised) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut waiting.hand, Hand::Busy) {
            Hand::Full(handover) => Poll::Ready(Some(handover)),
            Hand::Busy | Hand::Open | Hand::Promised => Poll::Ready(None),
        }
    }

    /// The worker has looked: what it was woken for and did not take is for the next one.
    pub(crate) fn looked(&self) {
        let mut queues = self.app.push.pops.queues();
        let waiting = queues.find(self.kind, self.number);
        let woken_for = waiting.and_then(|waiting| {
            waiting.hand = Hand::Open;
            waiting.woken_for.take()
        });
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

impl Promise {
    /// Promises a request to the worker that has waited longest of those that could take all of it; to none
    /// if that one has offered something else meanwhile. It is not woken before that is kept or dropped.
    pub(crate) fn make(
        app: &Arc<App>,
        horde: &Horde,
        (kind, request): (WorkKind, RequestId),
    ) -> Option<Self> {
        let mut queues = app.push.pops.queues();
        let mut waiting = queues.waiting.get_mut(&kind)?.iter_mut();
        let (number, waiting) = waiting.find(|(_, waiting)| {
            waiting.is_at_rest() && horde.would_serve_all(waiting.offer.worker, request)
        })?;
        if !horde.is_current(&waiting.offer) {
            return None;
        }
        waiting.hand = Hand::Promised;
        Some(Self {
            app: Arc::clone(app),
            kind,
            number: *number,
            worker: waiting.offer.worker,
            is_kept: false,
        })
    }

    /// To whom.
    pub(crate) const fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Gives it to the worker. If that has hung up, it goes back.
    pub(crate) fn keep(mut self, handover: Handover) {
        self.is_kept = true;
        let mut queues = self.app.push.pops.queues();
        let waiting = queues.find(self.kind, self.number);
        // Who has hung up is not there; what is dropped here goes back when the lock is free.
        let gone = match waiting {
            Some(waiting) => {
                waiting.hand = Hand::Full(handover);
                waiting.bell.notify_one();
                None
            }
            None => Some(handover),
        };
        drop(queues);
        drop(gone);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut queues = self.app.push.pops.queues();
        if let Some(waiting) = queues.find(self.kind, self.number) {
            waiting.hand = Hand::Busy;
            waiting.bell.notify_one();
        }
    }
}
