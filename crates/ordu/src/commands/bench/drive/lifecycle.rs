//! Texts all the way: each client asks, a worker pops and submits at once, the client looks at the result.
//! As many as go: a client asks again when it has its text.
//!
//! Who is done is passed on inside the generator: clients do not ask again and again, and workers pop when
//! there is something, or wait for it at the horde, so that only what is measured is sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ordu_api::{ApiKey, JobId, RequestId};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Course;
use super::hand::Hand;
use super::waiting::WAIT_SECONDS;
use crate::commands::bench::scenario::{Account, LIFECYCLE, Pops};
use crate::commands::bench::stage::scaled;

/// After so long a request that was accepted counts as lost.
const LOST: Duration = Duration::from_secs(30);
/// How long to rest after a no.
const BREATH: Duration = Duration::from_millis(20);

/// What clients and workers tell each other.
#[derive(Debug)]
struct Desk {
    /// Requests that nobody popped yet.
    open: Semaphore,
    /// Clients that wait, by the number in their prompt.
    clients: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Desk {
    fn enter(&self, number: u64) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.with(|clients| clients.insert(number, tell));
        told
    }

    /// Says whether the client was not told before.
    fn tell(&self, prompt: &str) -> bool {
        let number = prompt
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok());
        let client = number.and_then(|number| self.with(|clients| clients.remove(&number)));
        let Some(client) = client else {
            return false;
        };
        // It may have given up.
        let _ = client.send(());
        true
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<u64, oneshot::Sender<()>>) -> T) -> T {
        change(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn start(
    course: &Arc<Course>,
    (clients, account): (u32, Account),
    (workers, pops): (u32, Pops),
    tasks: &mut JoinSet<()>,
) {
    let desk = Arc::new(Desk {
        open: Semaphore::new(0),
        clients: Mutex::default(),
    });
    let [clients, workers] = [clients, workers].map(|count| scaled(count, course.scale));
    for number in 0..clients {
        let key = match account {
            Account::Own => course.people.asker(number).clone(),
            Account::Shared => ApiKey::anonymous(),
        };
        tasks.spawn(ask(Hand::new(course), Arc::clone(&desk), number, key));
    }
    for number in 0..workers {
        let (hand, desk) = (Hand::new(course), Arc::clone(&desk));
        match pops {
            Pops::Ask => tasks.spawn(work(hand, desk, number)),
            Pops::Wait => tasks.spawn(wait(hand, desk, number)),
        };
    }
}

async fn ask(mut hand: Hand, desk: Arc<Desk>, client: u32, key: ApiKey) {
    // Numbers of different clients never meet.
    let mut number = u64::from(client) << 32;
    while !hand.course.over.is_cancelled() {
        number += 1;
        let told = desk.enter(number);
        let begun = Instant::now();
        let prompt = format!("Tell me how a horde of machines came to be, number {number}");
        let Some(id) = hand.ask_text(&key, prompt, begun).await else {
            sleep(BREATH).await;
            continue;
        };
        desk.open.add_permits(1);
        let over = hand.course.over.clone();
        let Some(told) = over.run_until_cancelled(timeout(LOST, told)).await else {
            return;
        };
        if !matches!(told, Ok(Ok(()))) {
            let recorder = &hand.course.recorder;
            recorder.note(LIFECYCLE, begun.elapsed(), Some("lost"));
            continue;
        }
        let is_done = see_done(&mut hand, id).await;
        let error = (!is_done).then_some("not done after its submit");
        let recorder = &hand.course.recorder;
        recorder.note(LIFECYCLE, begun.elapsed(), error);
        if is_done {
            recorder.note_lifecycle();
        }
    }
}

/// Looks at a result. The node that is asked may hear of it a moment later than the worker's.
async fn see_done(hand: &mut Hand, id: RequestId) -> bool {
    let begun = Instant::now();
    loop {
        let status = hand.text_status(id, Instant::now()).await;
        let is_done = status.is_some_and(|status| status.progress.done);
        let is_alone = hand.course.authorities.len() == 1;
        if is_done || is_alone || begun.elapsed() > LOST {
            return is_done;
        }
        sleep(BREATH).await;
    }
}

async fn work(mut hand: Hand, desk: Arc<Desk>, worker: u32) {
    let over = hand.course.over.clone();
    while let Some(Ok(permit)) = over.run_until_cancelled(desk.open.acquire()).await {
        permit.forget();
        let Some((job, prompt)) = hand.pop_text(worker, None, Instant::now()).await else {
            // It is still there: somebody else may find it.
            desk.open.add_permits(1);
            sleep(BREATH).await;
            continue;
        };
        hand_in(&mut hand, &desk, (job, &prompt)).await;
    }
}

async fn wait(mut hand: Hand, desk: Arc<Desk>, worker: u32) {
    let over = hand.course.over.clone();
    loop {
        let pop = hand.pop_text(worker, Some(WAIT_SECONDS), Instant::now());
        // Who is not heard any more hangs up.
        let Some(found) = over.run_until_cancelled(pop).await else {
            return;
        };
        match found {
            Some((job, prompt)) => hand_in(&mut hand, &desk, (job, &prompt)).await,
            None => sleep(BREATH).await,
        }
    }
}

async fn hand_in(hand: &mut Hand, desk: &Desk, (job, prompt): (JobId, &str)) {
    if hand.submit_text(job, Instant::now()).await && !desk.tell(prompt) {
        let recorder = &hand.course.recorder;
        recorder.note(LIFECYCLE, Duration::ZERO, Some("served twice"));
    }
}
