//! The audit log, and that an entry is written exactly when its change is.

use ordu_api::UserId;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{AuditEntry, AuditFilter, Error, NewFilter, Store, UserChange};
use uuid::Uuid;

use crate::database::{Database, NOW};
use crate::world::{new_user, user};

on_both!(
    an_entry_comes_with_its_change,
    what_fails_or_changes_nothing_leaves_no_entry,
    an_entry_is_written_once,
    a_write_of_the_writers_is_followed_by_its_entry,
    entries_are_filtered_paged_and_deleted,
    a_wiped_account_leaves_no_trace_in_entries,
);

fn entry(operation: &str, target: &str) -> AuditEntry {
    AuditEntry {
        id: Uuid::new_v4(),
        at: NOW,
        actor: Some(user(1)),
        operation: operation.to_owned(),
        target_kind: "user".to_owned(),
        target: target.to_owned(),
        before: "{\"a\":1}".to_owned(),
        after: "{}".to_owned(),
    }
}

async fn all(store: &Store) -> Vec<AuditEntry> {
    store.list_audit(&AuditFilter::default(), 0).await.unwrap()
}

fn trust() -> UserChange {
    UserChange {
        trusted: Some(true),
        ..UserChange::default()
    }
}

async fn an_entry_comes_with_its_change(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let single = entry("user.update", "1");
    let change = trust();
    let work = store.update_user(a, &change);
    store.recorded(single.clone(), work).await.unwrap();
    assert_eq!(all(&store).await, [single]);
    // A transaction of several statements.
    let filter = NewFilter {
        regex: "x".to_owned(),
        kind: 10,
        description: None,
        replacement: String::new(),
        editor: a,
    };
    let operator = AuditEntry {
        actor: None,
        ..entry("filter.create", "x")
    };
    let work = store.insert_filter(&filter);
    store.recorded(operator, work).await.unwrap();
    let work = async {
        store.update_user(a, &change).await?;
        store.update_user(a, &change).await
    };
    store.recorded(entry("twice", "1"), work).await.unwrap();
    assert_eq!(
        all(&store).await.len(),
        3,
        "one entry, however much was written"
    );
}

async fn what_fails_or_changes_nothing_leaves_no_entry(database: &Database) {
    let store = database.open().await;
    let change = trust();
    let missing = store.recorded(entry("a", "9"), store.update_user(user(9), &change));
    assert!(matches!(missing.await, Err(Error::NotFound)));
    let gone = store.recorded(entry("b", "9"), store.delete_filter(9));
    assert!(!gone.await.unwrap());
    let wiped = store.recorded(entry("c", "9"), store.wipe_user(user(9)));
    assert!(matches!(wiped.await, Err(Error::NotFound)));
    assert_eq!(all(&store).await, []);
    // Outside of it nothing is recorded.
    let a = store.insert_user(&new_user("a")).await.unwrap();
    store.update_user(a, &change).await.unwrap();
    assert_eq!(all(&store).await, []);
}

async fn an_entry_is_written_once(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let once = entry("user.update", "1");
    let change = trust();
    for _ in 0..2 {
        let work = store.update_user(a, &change);
        store.recorded(once.clone(), work).await.unwrap();
    }
    assert_eq!(all(&store).await, [once]);
}

async fn a_write_of_the_writers_is_followed_by_its_entry(database: &Database) {
    use ordu_core::ledger::{Entry, Event, Reason};
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let event = Event {
        id: Uuid::new_v4(),
        at: NOW,
        kind: None,
        entries: vec![Entry::reward(a, Kudos::new(5), Reason::Award)],
    };
    let work = store.record(&event);
    store
        .recorded(entry("kudos.award", "1"), work)
        .await
        .unwrap();
    assert_eq!(all(&store).await.len(), 1);
}

async fn entries_are_filtered_paged_and_deleted(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let change = trust();
    for number in 0..55_i64 {
        let made = AuditEntry {
            at: Timestamp(NOW.0 + number),
            actor: UserId::new(number % 2),
            ..entry(
                if number < 5 { "early" } else { "late" },
                &number.to_string(),
            )
        };
        let work = store.update_user(a, &change);
        store.recorded(made, work).await.unwrap();
    }
    let first = all(&store).await;
    assert_eq!((first.len(), first[0].target.as_str()), (50, "54"));
    let count =
        async |filter: AuditFilter, page| store.list_audit(&filter, page).await.unwrap().len();
    assert_eq!(count(AuditFilter::default(), 1).await, 5);
    let text = |text: &str| Some(text.to_owned());
    for (filter, wanted) in [
        (
            AuditFilter {
                actor: Some(user(1)),
                ..AuditFilter::default()
            },
            27,
        ),
        (
            AuditFilter {
                operation: text("early"),
                ..AuditFilter::default()
            },
            5,
        ),
        (
            AuditFilter {
                target_kind: text("worker"),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                target: text("7"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                since: Some(Timestamp(NOW.0 + 50)),
                ..AuditFilter::default()
            },
            5,
        ),
    ] {
        assert_eq!(count(filter.clone(), 0).await, wanted, "{filter:?}");
    }
    assert_eq!(store.delete_audit(Timestamp(NOW.0 + 50)).await.unwrap(), 50);
    assert_eq!(all(&store).await.len(), 5);
}

async fn a_wiped_account_leaves_no_trace_in_entries(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let change = trust();
    for target in ["1", "2"] {
        let work = store.update_user(a, &change);
        store.recorded(entry("x", target), work).await.unwrap();
    }
    store.wipe_user(a).await.unwrap();
    let left = all(&store).await;
    let of = |target: &str| left.iter().find(|entry| entry.target == target).unwrap();
    assert_eq!(
        (of("1").before.as_str(), of("2").before.as_str()),
        ("{}", "{\"a\":1}")
    );
}
