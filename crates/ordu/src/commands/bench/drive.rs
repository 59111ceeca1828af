//! Those who put load on a server. Each connection is one task; all stop when the course is over.

mod hand;

mod arrivals;
mod disk;
mod lifecycle;
mod loops;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::hand::Hand;
use super::recorder::Recorder;
use super::scenario::{Drive, Rates};
use super::stage::{People, scaled};

/// How long those on the way may take to arrive when it is over.
const LAST_LAP: Duration = Duration::from_secs(5);

/// What everybody knows who puts load on a server.
#[derive(Debug)]
pub(crate) struct Course {
    /// Host and port of each node. Never empty.
    pub(crate) authorities: Vec<String>,
    /// Which of them the next connection goes to.
    pub(crate) turn: AtomicUsize,
    pub(crate) people: People,
    pub(crate) recorder: Recorder,
    pub(crate) over: CancellationToken,
    /// The share of workers that take part.
    pub(crate) scale: f64,
    /// Where the database is a file: a folder on its disk.
    pub(crate) disk: Option<Arc<Path>>,
}

/// Connections that introduce people and workers.
const INTRODUCERS: usize = 32;

impl Course {
    /// Where the next connection goes: to each node in turn.
    fn authority(&self) -> &str {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let nodes = self.authorities.len().max(1);
        self.authorities
            .get(turn % nodes)
            .map_or("", String::as_str)
    }

    /// Has everybody come once whom a kind of load will send: the first call of an account fetches it, and
    /// that of a worker makes it. Neither is what is measured.
    pub(crate) async fn introduce(self: &Arc<Self>, drive: Drive) {
        let askers = u32::try_from(self.people.askers.len()).unwrap_or(u32::MAX);
        let workers: (u32, fn(u32) -> Guest) = match drive {
            Drive::Lifecycle { workers, .. } => (workers, Guest::Scribe),
            Drive::Mixed(Rates { workers, .. }) => (workers, arrivals::guest),
            Drive::IdlePops { workers, .. } | Drive::Patient { workers } => {
                (workers, Guest::Dreamer)
            }
            Drive::Churn { connections } => (connections, Guest::Dreamer),
            Drive::Rest | Drive::Beats { .. } | Drive::Checks { .. } | Drive::News(_) => {
                (0, Guest::Dreamer)
            }
        };
        let (count, guest) = workers;
        let workers = (0..scaled(count, self.scale)).map(guest);
        let guests: Vec<_> = (0..askers).map(Guest::Asker).chain(workers).collect();
        let mut tasks = JoinSet::new();
        for share in guests.chunks(guests.len().div_ceil(INTRODUCERS).max(1)) {
            let (mut hand, share) = (Hand::new(self), share.to_vec());
            tasks.spawn(async move {
                for guest in share {
                    hand.introduce(guest).await;
                }
            });
        }
        tasks.join_all().await;
    }
}

/// Somebody who comes for the first time.
#[derive(Debug, Clone, Copy)]
enum Guest {
    Asker(u32),
    Dreamer(u32),
    Scribe(u32),
}

/// Everybody on a course.
#[derive(Debug)]
pub(crate) struct Drivers(JoinSet<()>);

impl Drivers {
    /// Starts a kind of load.
    pub(crate) fn start(course: &Arc<Course>, drive: Drive) -> Self {
        let mut tasks = JoinSet::new();
        match drive {
            Drive::Rest => {}
            Drive::Lifecycle {
                clients,
                workers,
                account,
                pops,
            } => lifecycle::start(course, (clients, account), (workers, pops), &mut tasks),
            Drive::Beats { connections } => loops::beats(course, connections, &mut tasks),
            Drive::Checks { connections } => loops::checks(course, connections, &mut tasks),
            Drive::IdlePops {
                connections,
                workers,
            } => loops::idle_pops(course, connections, workers, &mut tasks),
            Drive::Churn { connections } => loops::churn(course, connections, &mut tasks),
            Drive::Mixed(rates) => {
                arrivals::start(course, rates, &mut tasks);
                if let Some(folder) = &course.disk {
                    tasks.spawn(disk::ask(Arc::clone(course), Arc::clone(folder)));
                }
            }
            Drive::Patient { workers } => waiting::patient(course, workers, &mut tasks),
            Drive::News(channel) => waiting::news(course, channel, &mut tasks),
        }
        Self(tasks)
    }

    /// Ends it: who is on the way may arrive.
    pub(crate) async fn stop(mut self, course: &Course) {
        course.over.cancel();
        let arrived = async { while self.0.join_next().await.is_some() {} };
        // Who waits for something that does not come is not waited for.
        if timeout(LAST_LAP, arrived).await.is_err() {
            let what = "no answer within 5 s";
            course
                .recorder
                .note("(on the way at the end)", LAST_LAP, Some(what));
        }
        self.0.shutdown().await;
    }
}
