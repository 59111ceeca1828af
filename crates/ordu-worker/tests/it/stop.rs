//! How a worker ends: everything popped is handed back.

use std::time::Duration;

use ordu_worker::{Level, Stage};

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{FakeHorde, faulted, job, ok, outcomes};
use crate::support::{Rig, config};

/// A worker with one job in the engine and one waiting for it, after a first one that went well.
async fn busy() -> Rig {
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2]), job(&[3, 4]), job(&[5])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Hold]));
    rig.until(|status| status.jobs.iter().any(|job| job.stage == Stage::Ready))
        .await;
    rig.engine.started(2).await;
    rig
}

/// Checklist: shutdown submits everything popped.
#[tokio::test]
async fn the_first_signal_finishes_what_was_popped_and_pops_no_more() {
    let mut rig = busy().await;
    rig.shutdown.escalate();
    rig.engine.release();
    let status = rig.end().await.unwrap();
    assert_eq!((status.done, status.faulted, status.jobs.len()), (3, 0, 0));
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1), ok(2), ok(3), ok(4)]);
    assert_eq!(rig.horde.pops().len(), 3);
}

/// Checklist: second signal faults what has not started.
#[tokio::test]
async fn the_second_signal_hands_back_what_is_not_sampled() {
    let mut rig = busy().await;
    rig.shutdown.escalate();
    rig.shutdown.escalate();
    rig.until(|status| status.faulted == 1).await;
    rig.engine.release();
    let status = rig.end().await.unwrap();
    assert_eq!((status.done, status.faulted), (2, 1));
    assert_eq!(
        outcomes(&rig.horde.submits()),
        [ok(1), ok(2), faulted(3), faulted(4)]
    );
    assert_eq!(rig.engine.tasks().len(), 2);
}

#[tokio::test]
async fn the_third_signal_hands_back_everything() {
    let mut rig = busy().await;
    rig.shutdown.raise(Level::Abort);
    let status = rig.end().await.unwrap();
    assert_eq!((status.done, status.faulted), (1, 2));
    assert_eq!(
        outcomes(&rig.horde.submits()),
        [ok(1), faulted(2), faulted(3), faulted(4)]
    );
}

#[tokio::test]
async fn a_drain_that_takes_too_long_becomes_an_abort() {
    let horde = FakeHorde::with_jobs([job(&[1])]).await;
    let mut config = config(&horde);
    config.timing.drain = Duration::from_millis(1);
    let mut rig = Rig::start_with(horde, Scripted::new([Plan::Hold]), config);
    rig.engine.started(1).await;
    rig.shutdown.escalate();
    assert_eq!(rig.end().await.unwrap().faulted, 1);
    assert_eq!(outcomes(&rig.horde.submits()), [faulted(1)]);
}

#[tokio::test]
async fn an_idle_worker_ends_at_once() {
    let rig = Rig::start(FakeHorde::with_jobs([]).await, Scripted::new([]));
    rig.horde.wait_for(crate::support::horde::POP, 1).await;
    let status = rig.stop().await;
    assert_eq!(status.done + status.faulted, 0);
}
