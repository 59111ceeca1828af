//! The same again and again, as often as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Course;
use super::hand::Hand;
use crate::commands::bench::stage::scaled;

/// How long one of two takes its turn.
const TURN: Duration = Duration::from_millis(250);

/// Heartbeats, then checks, then heartbeats, …
pub(super) fn beats(course: &Arc<Course>, connections: u32, tasks: &mut JoinSet<()>) {
    let begun = Instant::now();
    for _ in 0..connections {
        let mut hand = Hand::new(course);
        let course = Arc::clone(course);
        tasks.spawn(async move {
            let Some(waiting) = course.people.waiting.first() else {
                return;
            };
            while !course.over.is_cancelled() {
                let turn = begun.elapsed().as_millis() / TURN.as_millis();
                if turn.is_multiple_of(2) {
                    hand.heartbeat().await;
                } else {
                    hand.check(*waiting, Instant::now()).await;
                }
            }
        });
    }
}

pub(super) fn checks(course: &Arc<Course>, connections: u32, tasks: &mut JoinSet<()>) {
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..connections {
        let (mut hand, next) = (Hand::new(course), Arc::clone(&next));
        let course = Arc::clone(course);
        tasks.spawn(async move {
            let waiting = &course.people.waiting;
            while !course.over.is_cancelled() {
                let at = next.fetch_add(1, Ordering::Relaxed) % waiting.len().max(1);
                let Some(id) = waiting.get(at) else {
                    return;
                };
                hand.check(*id, Instant::now()).await;
            }
        });
    }
}

pub(super) fn idle_pops(
    course: &Arc<Course>,
    connections: u32,
    workers: u32,
    tasks: &mut JoinSet<()>,
) {
    let workers = scaled(workers, course.scale);
    for number in 0..connections {
        let mut hand = Hand::new(course);
        let course = Arc::clone(course);
        tasks.spawn(async move {
            // Each connection speaks for its share of the workers.
            let mut worker = number;
            while !course.over.is_cancelled() {
                hand.pop_image(worker % workers.max(1), None, Instant::now())
                    .await;
                worker = worker.wrapping_add(connections);
            }
        });
    }
}

/// Each pop finds something, and as much waits afterwards as before.
pub(super) fn churn(course: &Arc<Course>, connections: u32, tasks: &mut JoinSet<()>) {
    for worker in 0..connections {
        let mut hand = Hand::new(course);
        let course = Arc::clone(course);
        tasks.spawn(async move {
            let key = course.people.asker(worker);
            while !course.over.is_cancelled() {
                hand.ask_image(key, Instant::now()).await;
                let Some(job) = hand.pop_image(worker, None, Instant::now()).await else {
                    continue;
                };
                if hand.submit_image(job, Instant::now()).await {
                    course.recorder.note_lifecycle();
                }
            }
        });
    }
}
