//! How much work is in hand: who comes when it is too much is sent away, before memory grows.
//!
//! # Source
//! `platform.md` § 8: bounded queues everywhere, load shedding with 503 and `Retry-After`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::Method;

use crate::checkup::SEEN_PATH;
use crate::doors::Doors;

/// When to come again, in seconds: calls are short, so soon there is room.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 2;

/// Answers that must come also when there is no room: what balancers and operators ask.
const ALWAYS: &[&str] = &[
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v2/status/heartbeat",
    SEEN_PATH,
];

/// How much may be in hand at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MostLoad {
    /// Calls, without those that only wait for something to happen.
    pub calls: u64,
    /// What all their bodies hold, in bytes.
    pub body_bytes: u64,
    /// Connections; those who wait for something to happen may hold half of them.
    pub connections: u32,
    /// Requests that are known: those that wait or run, and those that ended and are kept for who
    /// asked. Each takes some 2 KB.
    pub requests: u64,
}

impl Default for MostLoad {
    fn default() -> Self {
        Self {
            calls: 2_000,
            body_bytes: 128 << 20,
            connections: 10_000,
            requests: 500_000,
        }
    }
}

tokio::task_local! {
    /// The call that is being answered.
    static CALL: Arc<Call>;
}

/// What is in hand.
#[derive(Debug)]
pub(crate) struct Load {
    most: MostLoad,
    /// The connections on which it comes.
    pub(crate) doors: Arc<Doors>,
    busy: AtomicU64,
    bodies: AtomicU64,
    body_bytes: AtomicU64,
    shed: AtomicU64,
}

/// A call in hand, until it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    load: Arc<Load>,
    waits: AtomicBool,
    is_cut: AtomicBool,
    body_bytes: AtomicU64,
}

/// There is too much in hand already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is in hand")]
pub(crate) struct Full;

impl Load {
    /// Nothing in hand yet.
    pub(crate) fn new(most: MostLoad) -> Arc<Self> {
        Arc::new(Self {
            most,
            doors: Arc::default(),
            busy: AtomicU64::new(0),
            bodies: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        })
    }

    /// Takes a call in hand.
    ///
    /// # Errors
    /// [`Full`] if there are too many, and this is none that must be answered all the same.
    pub(crate) fn enter(self: &Arc<Self>, method: &Method, path: &str) -> Result<Arc<Call>, Full> {
        let busy = self.busy.fetch_add(1, Ordering::Relaxed);
        let call = Arc::new(Call {
            load: Arc::clone(self),
            waits: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            body_bytes: AtomicU64::new(0),
        });
        let is_needed = method == Method::GET && ALWAYS.contains(&path);
        if busy < self.most.calls || is_needed {
            Ok(call)
        } else {
            self.note_shed();
            Err(Full)
        }
    }

    /// Whether one more request can be taken, where so many are known.
    ///
    /// # Errors
    /// [`Full`] if there are too many.
    pub(crate) fn admit(&self, known: usize) -> Result<(), Full> {
        if u64::try_from(known).is_ok_and(|known| known < self.most.requests) {
            return Ok(());
        }
        self.note_shed();
        Err(Full)
    }

    fn note_shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls in hand.
    pub(crate) fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// How much there may be.
    pub(crate) const fn most(&self) -> MostLoad {
        self.most
    }

    /// Bodies that have not come to their end.
    pub(crate) fn bodies(&self) -> u64 {
        self.bodies.load(Ordering::Relaxed)
    }

    /// What their bodies hold, in bytes.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Calls that were sent away so far.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

impl Call {
    /// Answers this call: what waits in `work` is known to be this call's.
    pub(crate) fn scope<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        CALL.scope(Arc::clone(self), work)
    }

    /// Its body begins to come.
    pub(crate) fn begin_body(&self) {
        self.load.bodies.fetch_add(1, Ordering::Relaxed);
    }

    /// Its body is there, or nobody waits for it any longer.
    pub(crate) fn end_body(&self) {
        self.load.bodies.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts some of the body that has come.
    ///
    /// # Errors
    /// [`Full`] if bodies hold too much now.
    pub(crate) fn receive(&self, bytes: u64) -> Result<(), Full> {
        self.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.load.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.load.most.body_bytes {
            return Ok(());
        }
        self.is_cut.store(true, Ordering::Relaxed);
        self.load.note_shed();
        Err(Full)
    }

    /// Whether its body was not read to the end since there was no room.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn wait(&self) {
        if !self.waits.swap(true, Ordering::Relaxed) {
            self.load.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.wait();
        let held = self.body_bytes.load(Ordering::Relaxed);
        self.load.body_bytes.fetch_sub(held, Ordering::Relaxed);
    }
}

/// The call that is being answered here is no work from now on: it waits for something to happen.
pub(crate) fn wait() {
    // Not every waiting is a call's: what goes on behind an answer has none.
    let _ = CALL.try_with(|call| call.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(calls: u64, body_bytes: u64) -> Arc<Load> {
        Load::new(MostLoad {
            calls,
            body_bytes,
            ..MostLoad::default()
        })
    }

    #[test]
    fn calls_are_counted_until_they_end() {
        let load = load(2, 0);
        let enter = |path| load.enter(&Method::GET, path);
        let first = enter("/a").unwrap();
        let _second = enter("/a").unwrap();
        assert_eq!(enter("/a").unwrap_err(), Full);
        assert!(enter("/healthz").is_ok());
        assert_eq!((load.busy(), load.shed()), (2, 1));
        drop(first);
        assert!(enter("/a").is_ok());
    }

    #[tokio::test]
    async fn who_waits_is_no_work() {
        let load = load(1, 0);
        let patient = load.enter(&Method::POST, "/a").unwrap();
        patient.scope(async { wait() }).await;
        let other = load.enter(&Method::POST, "/a").unwrap();
        drop(patient);
        assert_eq!(load.busy(), 1);
        drop(other);
        assert_eq!(load.busy(), 0);
        wait();
        assert_eq!(load.busy(), 0);
    }

    #[test]
    fn bodies_count_until_their_call_ends() {
        let load = load(9, 100);
        let call = load.enter(&Method::POST, "/a").unwrap();
        assert_eq!(call.receive(100), Ok(()));
        let other = load.enter(&Method::POST, "/a").unwrap();
        assert_eq!(other.receive(1), Err(Full));
        assert!(other.is_cut() && !call.is_cut());
        drop(call);
        assert_eq!(load.body_bytes(), 1);
        assert_eq!(other.receive(99), Ok(()));
        drop(other);
        assert_eq!((load.body_bytes(), load.shed()), (0, 1));
    }
}
