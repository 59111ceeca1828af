//! Those who would rather wait than ask again: workers with nothing to do, clients of one job at a time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use ordu_api::{ApiKey, JobId, RequestId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Course;
use super::hand::Hand;
use crate::commands::bench::scenario::Channel;
use crate::commands::bench::stage::scaled;
use crate::commands::bench::wire::{Call, Wire};

/// As long as a horde lets wait.
pub(super) const WAIT_SECONDS: u32 = 60;
/// How often a client asks that polls.
const POLL: Duration = Duration::from_secs(1);
/// How long to rest after a no.
const BREATH: Duration = Duration::from_millis(50);

/// The line of an event that tells of a result.
const RESULT: &str = "event: generation";

/// Workers that wait for a job; they come one after the other, as they do.
pub(super) fn patient(course: &Arc<Course>, workers: u32, tasks: &mut JoinSet<()>) {
    let workers = scaled(workers, course.scale);
    for worker in 0..workers {
        let mut hand = Hand::new(course);
        let over = course.over.clone();
        tasks.spawn(async move {
            sleep(Duration::from_millis(u64::from(worker) * 4)).await;
            while !over.is_cancelled() {
                let pop = hand.pop_image(worker, Some(WAIT_SECONDS), Instant::now());
                // Who is not heard any more hangs up.
                if over.run_until_cancelled(pop).await.is_none() {
                    return;
                }
            }
        });
    }
}

/// One job after the other: a request, a worker that waits, a client that wants to know.
pub(super) fn news(course: &Arc<Course>, channel: Channel, tasks: &mut JoinSet<()>) {
    let course = Arc::clone(course);
    tasks.spawn(async move {
        let mut number = 0;
        while !course.over.is_cancelled() {
            number += 1;
            let told = one(&course, channel, number).await;
            match told {
                Ok(took) => {
                    course.recorder.note("submit to news", took, None);
                    course.recorder.note_lifecycle();
                }
                Err(error) => {
                    let error = error.root_cause().to_string();
                    course
                        .recorder
                        .note("submit to news", Duration::ZERO, Some(&error));
                    sleep(BREATH).await;
                }
            }
        }
    });
}

/// How long after its worker submitted a client knew of a result. Of several nodes, the worker is at one and
/// the client at the next.
async fn one(course: &Arc<Course>, channel: Channel, number: u32) -> Result<Duration> {
    let mut client = Hand::new(course);
    let mut worker = Hand::new(course);
    let key = course.people.asker(number).clone();
    let asked = client.ask_image(&key, Instant::now()).await;
    let id = asked.context("the request was refused")?;
    let popped = worker
        .pop_image(0, Some(WAIT_SECONDS), Instant::now())
        .await;
    let job = popped.context("there was no job")?;
    let (looking, looks) = oneshot::channel();
    let submitting = submit(&mut worker, job, looks, work(number));
    let told = async {
        match channel {
            Channel::Events => hear(course.authority(), id, looking).await,
            Channel::Polling => poll(&mut client, id, looking).await,
        }
    };
    let (submitted, told) = tokio::join!(submitting, told);
    Ok(told?.duration_since(submitted?))
}

/// How long a job takes: between 0.1 and 1.1 seconds, so that clients who ask each second meet its end at
/// any moment.
fn work(number: u32) -> Duration {
    Duration::from_millis(100 + u64::from(number) * 371 % 1_000)
}

/// Works for a while, once the client looks, and hands the result back; says when it began to.
async fn submit(
    worker: &mut Hand,
    job: JobId,
    looks: oneshot::Receiver<()>,
    work: Duration,
) -> Result<Instant> {
    looks.await.context("nobody looks")?;
    sleep(work).await;
    let begun = Instant::now();
    if !worker.submit_image(job, begun).await {
        bail!("the submit was refused");
    }
    Ok(begun)
}

/// Listens to the stream of events; says when the result was in it.
async fn hear(authority: &str, id: RequestId, looking: oneshot::Sender<()>) -> Result<Instant> {
    let key = ApiKey::anonymous();
    let mut wire = Wire::new(authority);
    let call = Call::get(format!("/api/v2/generate/events/{id}"), &key);
    let mut body = wire.open(&call).await?.into_body();
    let mut looking = Some(looking);
    let mut heard = String::new();
    while let Some(frame) = body.frame().await {
        if let Some(looking) = looking.take() {
            // The worker waits for it.
            let _ = looking.send(());
        }
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        heard.push_str(&String::from_utf8_lossy(&data));
        if heard.lines().any(|line| line == RESULT) {
            return Ok(Instant::now());
        }
    }
    bail!("the stream ended without the result")
}

/// Asks once a second; says when it was told.
async fn poll(client: &mut Hand, id: RequestId, looking: oneshot::Sender<()>) -> Result<Instant> {
    // The worker waits for it.
    let _ = looking.send(());
    let mut next = Instant::now();
    loop {
        let progress = client.check(id, Instant::now()).await;
        if progress.context("the check was refused")?.done {
            return Ok(Instant::now());
        }
        next += POLL;
        sleep_until(next).await;
    }
}
