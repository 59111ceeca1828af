//! What was made, in windows of time.

use std::collections::BTreeMap;

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use ordu_store::{Activity, Archived, Count, Settled, Store};

use crate::database::{Database, NOW};
use crate::world::{running, settlement};

on_both!(
    a_job_passes_through_every_window,
    models_and_kinds_are_counted_apart,
    what_is_not_of_a_model_is_not_counted,
    a_job_counts_once_however_often_it_is_folded,
    jobs_that_ended_are_kept_for_a_week,
);

/// Settles a job of a model at a time; `None` for a model that is not counted.
async fn settle(store: &Store, kind: WorkKind, model: Option<&str>, at: Timestamp) {
    let (request, jobs) = running(store, 1).await;
    let mut settlement = settlement(request, jobs[0], UserId::ANONYMOUS);
    let activity = settlement.activity.take().unwrap();
    settlement.activity = Some(Activity {
        at,
        kind,
        model: model.map(str::to_owned),
        ..activity
    });
    assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Now);
}

fn jobs(of: u64) -> Count {
    Count {
        jobs: of,
        things: of * 1000,
    }
}

async fn a_job_passes_through_every_window(database: &Database) {
    let store = database.open().await;
    settle(&store, WorkKind::Image, Some("sd"), NOW).await;
    store.fold(100, NOW).await.unwrap();
    let (hour, day) = (3600, 24 * 3600);
    for (seconds, windows) in [
        (0, [1, 1, 1, 1]),
        (49, [1, 1, 1, 1]),
        (61, [0, 1, 1, 1]),
        (hour - 61, [0, 1, 1, 1]),
        (hour + 1, [0, 0, 1, 1]),
        (day - 601, [0, 0, 1, 1]),
        (day + 1, [0, 0, 0, 1]),
        (30 * day - hour - 1, [0, 0, 0, 1]),
        (30 * day + 1, [0, 0, 0, 0]),
    ] {
        let now = NOW + Millis::from_seconds(seconds);
        store.prune_statistics(now).await.unwrap();
        let totals = store.statistics(now).await.unwrap();
        let totals = totals.totals(WorkKind::Image);
        let seen = [totals.minute, totals.hour, totals.day, totals.month];
        assert_eq!(seen, windows.map(jobs), "after {seconds} s");
        assert_eq!(totals.total, jobs(1));
    }
}

async fn models_and_kinds_are_counted_apart(database: &Database) {
    let store = database.open().await;
    let month_ago = NOW - Millis::from_minutes(31 * 24 * 60);
    settle(&store, WorkKind::Image, Some("sd"), month_ago).await;
    settle(&store, WorkKind::Image, Some("sd"), NOW).await;
    settle(&store, WorkKind::Image, Some("a \"model\""), NOW).await;
    settle(&store, WorkKind::Text, Some("sd"), NOW).await;
    store.fold(100, NOW).await.unwrap();
    let statistics = store.statistics(NOW).await.unwrap();
    let named = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
        let counts = counts.iter();
        counts
            .map(|(name, jobs)| ((*name).to_owned(), *jobs))
            .collect()
    };
    let images = statistics.models(WorkKind::Image);
    assert_eq!(images.day, named(&[("sd", 1), ("a \"model\"", 1)]));
    assert_eq!(images.month, images.day);
    assert_eq!(images.total, named(&[("sd", 2), ("a \"model\"", 1)]));
    assert_eq!(statistics.models(WorkKind::Text).day, named(&[("sd", 1)]));
    assert_eq!(statistics.totals(WorkKind::Image).total, jobs(3));
    assert_eq!(statistics.totals(WorkKind::Text).hour, jobs(1));
}

async fn what_is_not_of_a_model_is_not_counted(database: &Database) {
    let store = database.open().await;
    settle(&store, WorkKind::Image, None, NOW).await;
    store.fold(100, NOW).await.unwrap();
    let statistics = store.statistics(NOW).await.unwrap();
    assert_eq!(statistics.totals(WorkKind::Image).total, jobs(0));
}

async fn a_job_counts_once_however_often_it_is_folded(database: &Database) {
    let store = database.open().await;
    for _ in 0..5 {
        settle(&store, WorkKind::Image, Some("sd"), NOW).await;
        for _ in 0..2 {
            store.fold(1, NOW).await.unwrap();
        }
    }
    while store.fold(1, NOW).await.unwrap().activities > 0 {}
    drop(store);
    let store = database.open().await;
    let statistics = store.statistics(NOW).await.unwrap();
    assert_eq!(statistics.totals(WorkKind::Image).total, jobs(5));
}

async fn jobs_that_ended_are_kept_for_a_week(database: &Database) {
    let store = database.open().await;
    let (_, ended) = running(&store, 3).await;
    for (job, state) in ended.iter().zip(["ok", "ok", "faulted"]) {
        store.archive_later(Archived {
            job: *job,
            kind: WorkKind::Image,
            model: "sd".to_owned(),
            state,
            assigned_at: NOW,
            finished_at: NOW,
            detail: r#"{"steps":30}"#.to_owned(),
        });
    }
    store.flush().await.unwrap();
    let counts = store.archived(WorkKind::Image).await.unwrap();
    assert_eq!((counts["ok"], counts["faulted"]), (2, 1));
    let week = Millis::from_minutes(7 * 24 * 60);
    store.prune_statistics(NOW + week).await.unwrap();
    assert!(store.archived(WorkKind::Image).await.unwrap().is_empty());
}
