//! How the horde was doing over time.

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use ordu_store::{Activity, Count, Load, Settled, Slice, Step, Store};

use crate::database::{Database, NOW};
use crate::world::{running, settlement};

on_both!(
    samples_of_a_slice_are_averaged,
    a_minute_counts_once_whoever_samples_it,
    what_was_made_is_in_its_hour_and_its_day,
    forms_are_counted_though_they_are_of_no_model,
    slices_are_kept_for_as_long_as_they_are_shown,
);

const HOUR: Millis = Millis::from_minutes(60);

fn load(queued: u64, workers: u64) -> [Load; 1] {
    [Load {
        kind: WorkKind::Image,
        queued,
        workers,
    }]
}

async fn slice(store: &Store, step: Step, now: Timestamp) -> Slice {
    let series = store.series(WorkKind::Image, step, now).await.unwrap();
    series.get(&step.start_of(now)).copied().unwrap_or_default()
}

async fn samples_of_a_slice_are_averaged(database: &Database) {
    let store = database.open().await;
    // The beginning of an hour, so that three minutes lie in the same one.
    let start = Step::Hour.start_of(NOW);
    for (minute, queued, workers) in [(0, 9, 2), (1, 0, 2), (2, 3, 5)] {
        let now = start + Millis::from_minutes(minute);
        store
            .sample_load(&load(queued, workers), now)
            .await
            .unwrap();
    }
    for step in [Step::Hour, Step::Day] {
        assert_eq!(slice(&store, step, start).await.load, Some((4.0, 3.0)));
    }
    let later = start + HOUR;
    assert_eq!(slice(&store, Step::Hour, later).await.load, None);
    let texts = store.series(WorkKind::Text, Step::Day, start).await;
    assert!(texts.unwrap().is_empty(), "of another kind");
}

async fn a_minute_counts_once_whoever_samples_it(database: &Database) {
    let store = database.open().await;
    let start = Step::Hour.start_of(NOW);
    for (millis, queued) in [(0, 8), (1, 1000), (59_999, 1000), (60_000, 4)] {
        let now = start + Millis(millis);
        store.sample_load(&load(queued, 1), now).await.unwrap();
    }
    // A server whose clock is behind adds nothing either.
    store.sample_load(&load(1000, 1), start).await.unwrap();
    assert_eq!(
        slice(&store, Step::Hour, start).await.load,
        Some((6.0, 1.0))
    );
}

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

async fn what_was_made_is_in_its_hour_and_its_day(database: &Database) {
    let store = database.open().await;
    let day = Step::Day.start_of(NOW);
    for hour in [1, 1, 3] {
        let at = day + Millis(HOUR.0 * hour + 5);
        settle(&store, WorkKind::Image, Some("sd"), at).await;
    }
    store.fold(100, NOW).await.unwrap();
    let now = day + Millis(HOUR.0 * 4);
    let hours = store
        .series(WorkKind::Image, Step::Hour, now)
        .await
        .unwrap();
    let hours: Vec<_> = hours
        .iter()
        .map(|(at, slice)| (at.0, slice.made.jobs))
        .collect();
    assert_eq!(hours, [(day.0 + HOUR.0, 2), (day.0 + HOUR.0 * 3, 1)]);
    let made = slice(&store, Step::Day, now).await.made;
    assert_eq!(
        made,
        Count {
            jobs: 3,
            things: 3000
        }
    );
}

async fn forms_are_counted_though_they_are_of_no_model(database: &Database) {
    let store = database.open().await;
    settle(&store, WorkKind::Interrogation, None, NOW).await;
    settle(&store, WorkKind::Image, None, NOW).await;
    store.fold(100, NOW).await.unwrap();
    let forms = store.series(WorkKind::Interrogation, Step::Hour, NOW).await;
    let jobs: Vec<u64> = forms
        .unwrap()
        .values()
        .map(|slice| slice.made.jobs)
        .collect();
    assert_eq!(jobs, [1]);
    let images = store.series(WorkKind::Image, Step::Hour, NOW).await;
    assert!(images.unwrap().is_empty(), "a special model counts nowhere");
}

async fn slices_are_kept_for_as_long_as_they_are_shown(database: &Database) {
    let store = database.open().await;
    settle(&store, WorkKind::Image, Some("sd"), NOW).await;
    store.fold(100, NOW).await.unwrap();
    store.sample_load(&load(1, 1), NOW).await.unwrap();
    let (hour, day) = (Step::Hour.span().0, Step::Day.span().0);
    for (step, later, is_kept) in [
        (Step::Hour, hour * (14 * 24 - 1), true),
        (Step::Hour, hour * 14 * 24, false),
        (Step::Day, day * 729, true),
        (Step::Day, day * 730, false),
    ] {
        let now = step.start_of(NOW) + Millis(later);
        store.prune_statistics(now).await.unwrap();
        let series = store.series(WorkKind::Image, step, now).await.unwrap();
        let whole = series
            .values()
            .filter(|slice| slice.load.is_some() && slice.made.jobs == 1);
        assert_eq!(whole.count(), usize::from(is_kept), "{step:?} {later}");
    }
}
