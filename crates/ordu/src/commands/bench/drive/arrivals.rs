//! Load that comes at fixed times, whatever the server does: what many people and workers are together.
//!
//! An arrival takes a connection that is free. While none is, it waits, and its time runs from when it was
//! due: a server that stalls for a second has a second's arrivals late.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ordu_api::{JobId, RequestId};
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::hand::Hand;
use super::{Course, Guest};
use crate::commands::bench::scenario::Rates;
use crate::commands::bench::stage::scaled;

/// Connections for everything together.
const CONNECTIONS: usize = 96;
/// Arrivals that may wait for one; beyond it the generator itself waits, and says so.
const MOST_WAITING: usize = 200_000;
/// How long a worker takes for a job.
const WORK: Duration = Duration::from_secs(2);
/// Requests that are looked at, the newest first; what was done longer ago nobody looks at.
const REMEMBERED: usize = 500;

/// Something that somebody wants at some time.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    due: Instant,
    what: Wish,
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Ask(u64),
    Pop(u64),
    Look(u64),
    Read(u64),
    Submit(Kind, JobId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Text,
}

impl Kind {
    /// Half of everything is texts.
    const fn of(number: u64) -> Self {
        if number.is_multiple_of(2) {
            Self::Image
        } else {
            Self::Text
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Crowd {
    /// What was asked lately, the newest last.
    asked: Mutex<VecDeque<(Kind, RequestId)>>,
    workers: u32,
    next_asker: AtomicU32,
    arrivals: mpsc::Sender<Arrival>,
}

impl Crowd {
    fn remember(&self, kind: Kind, id: RequestId) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push_back((kind, id));
        if asked.len() > REMEMBERED {
            asked.pop_front();
        }
    }

    fn recall(&self, number: u64) -> Option<(Kind, RequestId)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u64::try_from(asked.len()).unwrap_or_default();
        let at = number.checked_rem(count)?;
        asked.get(usize::try_from(at).ok()?).copied()
    }
}

/// Who a worker is.
pub(super) fn guest(worker: u32) -> Guest {
    match Kind::of(u64::from(worker)) {
        Kind::Image => Guest::Dreamer(worker),
        Kind::Text => Guest::Scribe(worker),
    }
}

/// How often in a second, and what.
type Stream = (f64, fn(u64) -> Wish);

pub(super) fn start(course: &Arc<Course>, rates: Rates, tasks: &mut JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let crowd = Arc::new(Crowd {
        asked: Mutex::default(),
        workers: scaled(rates.workers, course.scale),
        next_asker: AtomicU32::new(0),
        arrivals: sender,
    });
    let streams: [Stream; 4] = [
        (rates.asks, Wish::Ask),
        (rates.pops, Wish::Pop),
        (rates.looks, Wish::Look),
        (rates.reads, Wish::Read),
    ];
    for (rate, wish) in streams {
        let arrivals = crowd.arrivals.clone();
        tasks.spawn(arrive(Arc::clone(course), rate, wish, arrivals));
    }
    let receiver = Arc::new(Turn::new(receiver));
    for _ in 0..CONNECTIONS {
        let served = serve(Hand::new(course), Arc::clone(&crowd), Arc::clone(&receiver));
        tasks.spawn(served);
    }
}

/// One kind of arrival, evenly over time.
async fn arrive(
    course: Arc<Course>,
    per_second: f64,
    wish: fn(u64) -> Wish,
    arrivals: mpsc::Sender<Arrival>,
) {
    let begun = Instant::now();
    let pause = Duration::from_secs_f64(1.0 / per_second);
    let mut due = begun;
    for number in 0.. {
        due += pause;
        if course
            .over
            .run_until_cancelled(sleep_until(due))
            .await
            .is_none()
        {
            return;
        }
        let arrival = Arrival {
            due,
            what: wish(number),
        };
        course
            .recorder
            .note("(the generator's own lateness)", due.elapsed(), None);
        course
            .recorder
            .note_backlog(arrivals.max_capacity() - arrivals.capacity());
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

/// One connection: takes what is due, and when it is over what was due by then.
async fn serve(mut hand: Hand, crowd: Arc<Crowd>, arrivals: Arc<Turn<mpsc::Receiver<Arrival>>>) {
    let over = hand.course.over.clone();
    loop {
        let next = async { arrivals.lock().await.recv().await };
        let next = match over.run_until_cancelled(next).await {
            Some(next) => next,
            None => arrivals.lock().await.try_recv().ok(),
        };
        let Some(arrival) = next else {
            return;
        };
        meet(&mut hand, &crowd, arrival).await;
    }
}

async fn meet(hand: &mut Hand, crowd: &Arc<Crowd>, Arrival { due, what }: Arrival) {
    match what {
        Wish::Ask(number) => ask(hand, crowd, number, due).await,
        Wish::Pop(number) => pop(hand, crowd, number, due).await,
        Wish::Look(number) => look(hand, crowd, number, due).await,
        Wish::Read(number) => {
            hand.read(usize::try_from(number).unwrap_or_default(), due)
                .await;
        }
        Wish::Submit(Kind::Image, job) => {
            hand.submit_image(job, due).await;
        }
        Wish::Submit(Kind::Text, job) => {
            hand.submit_text(job, due).await;
        }
    }
}

async fn ask(hand: &mut Hand, crowd: &Crowd, number: u64, due: Instant) {
    let course = Arc::clone(&hand.course);
    let asker = crowd.next_asker.fetch_add(1, Ordering::Relaxed);
    let key = course.people.asker(asker);
    let kind = Kind::of(number);
    let id = match kind {
        Kind::Image => hand.ask_image(key, due).await,
        Kind::Text => {
            hand.ask_text(key, format!("Once upon a time {number}"), due)
                .await
        }
    };
    if let Some(id) = id {
        crowd.remember(kind, id);
    }
}

/// A worker that finds something comes back with it.
async fn pop(hand: &mut Hand, crowd: &Arc<Crowd>, number: u64, due: Instant) {
    let worker = u32::try_from(number % u64::from(crowd.workers.max(1))).unwrap_or_default();
    let kind = Kind::of(u64::from(worker));
    let job = match kind {
        Kind::Image => hand.pop_image(worker, None, due).await,
        Kind::Text => hand.pop_text(worker, None, due).await.map(|(job, _)| job),
    };
    let Some(job) = job else {
        return;
    };
    let back = Arrival {
        due: Instant::now() + WORK,
        what: Wish::Submit(kind, job),
    };
    // The worker is on its own meanwhile; its connection serves others.
    let crowd = Arc::clone(crowd);
    hand.later.spawn(async move {
        sleep_until(back.due).await;
        // Nobody needs it when it is over.
        let _ = crowd.arrivals.send(back).await;
    });
    while hand.later.try_join_next().is_some() {}
}

/// Nine in ten look at what was asked lately, the others at what has waited for long.
async fn look(hand: &mut Hand, crowd: &Crowd, number: u64, due: Instant) {
    let recent = if number.is_multiple_of(10) {
        None
    } else {
        crowd.recall(number)
    };
    let waiting = &hand.course.people.waiting;
    let count = u64::try_from(waiting.len()).unwrap_or_default();
    let old = number
        .checked_rem(count)
        .and_then(|at| usize::try_from(at).ok());
    let old = old
        .and_then(|at| waiting.get(at))
        .map(|id| (Kind::Image, *id));
    match recent.or(old) {
        Some((Kind::Image, id)) => {
            let progress = hand.check(id, due).await;
            let is_done = progress.is_some_and(|progress| progress.done);
            // Who is told that it is done fetches it, once.
            if is_done && number % 50 == 1 {
                hand.image_status(id, Instant::now()).await;
            }
        }
        Some((Kind::Text, id)) => {
            hand.text_status(id, due).await;
        }
        None => {
            hand.heartbeat().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::commands::bench::recorder::Recorder;
    use crate::commands::bench::stage::People;

    /// How long the server answers nobody.
    const STALL: Duration = Duration::from_millis(600);

    /// Answers everything at once, except that it stalls for a while in the middle.
    async fn stalling_server(listener: TcpListener, from: Instant) {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut heard = [0; 4096];
                while let Ok(1..) = stream.read(&mut heard).await {
                    if Instant::now() >= from {
                        sleep_until(from + STALL).await;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    #[tokio::test]
    async fn a_stall_is_charged_with_everybody_who_came_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let from = Instant::now() + Duration::from_millis(300);
        let mut server = JoinSet::new();
        server.spawn(stalling_server(listener, from));
        let course = Arc::new(Course {
            authorities: vec![authority],
            turn: AtomicUsize::new(0),
            people: People::one(&ordu_api::ApiKey::anonymous()),
            recorder: Recorder::default(),
            over: CancellationToken::new(),
            scale: 1.0,
            disk: None,
        });
        course.recorder.begin();
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let crowd = Arc::new(Crowd {
            asked: Mutex::default(),
            workers: 1,
            next_asker: AtomicU32::new(0),
            arrivals: sender.clone(),
        });
        let mut tasks = JoinSet::new();
        // One connection: only one request meets the stall itself.
        let receiver = Arc::new(Turn::new(receiver));
        tasks.spawn(serve(Hand::new(&course), crowd, receiver));
        tasks.spawn(arrive(Arc::clone(&course), 100.0, Wish::Read, sender));
        sleep_until(from + STALL + Duration::from_millis(300)).await;
        let record = course.recorder.end();
        course.over.cancel();
        tasks.shutdown().await;
        let lines = record
            .lines
            .iter()
            .filter(|(name, _)| !name.starts_with('('));
        let mut late = 0;
        let mut longest = 0;
        for (_, line) in lines {
            // By 100 a second, 60 arrive in the stall; those in its first half wait for half of it.
            late += line.times.len() - line.times.count_between(1, 300_000);
            longest = longest.max(line.times.max());
        }
        assert!(
            (20..=40).contains(&late),
            "{late} waited for half of the stall"
        );
        assert!(longest >= 500_000, "{longest} µs");
        assert!(record.backlog >= 30, "{}", record.backlog);
    }
}
