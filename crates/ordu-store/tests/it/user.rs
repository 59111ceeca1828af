//! Accounts.

use ordu_api::UserId;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Error, UserChange, UserSort};

use crate::database::{Database, NOW};
use crate::world::{id, new_user, new_worker, user};

on_both!(
    the_anonymous_account_is_there_from_the_start,
    numbers_start_at_one_and_never_repeat,
    keys_and_subjects_are_unique,
    a_change_touches_only_what_it_names,
    the_list_is_sorted_and_cut,
    some_accounts_are_read_at_once,
    a_wiped_account_is_never_found,
    the_last_activity_is_written_behind,
);

async fn the_anonymous_account_is_there_from_the_start(database: &Database) {
    let store = database.open().await;
    let anonymous = store.find_user(UserId::ANONYMOUS).await.unwrap().unwrap();
    assert_eq!(anonymous.username, "Anonymous");
    assert_eq!(anonymous.concurrency, 500);
    assert!(anonymous.public_workers);
    assert_eq!(anonymous.created, NOW);
    store.close().await;
    let again = database.open().await;
    assert_eq!(
        again.find_user_by_subject("anon").await.unwrap(),
        Some(anonymous)
    );
}

async fn numbers_start_at_one_and_never_repeat(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.insert_user(&new_user("a")).await.unwrap(), user(1));
    let users = [new_user("b"), new_user("c"), new_user("d")];
    let (b, c, d) = tokio::join!(
        store.insert_user(&users[0]),
        store.insert_user(&users[1]),
        store.insert_user(&users[2]),
    );
    let mut ids = [b.unwrap(), c.unwrap(), d.unwrap()];
    ids.sort();
    assert_eq!(ids, [user(2), user(3), user(4)]);
    let (found, _) = store
        .find_account_by_key("hash of a")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.id, found.username.as_str()), (user(1), "a"));
    assert_eq!(store.find_user(user(5)).await.unwrap(), None);
}

async fn keys_and_subjects_are_unique(database: &Database) {
    let store = database.open().await;
    store.insert_user(&new_user("a")).await.unwrap();
    let taken = store.insert_user(&new_user("a")).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    let b = store.insert_user(&new_user("b")).await.unwrap();
    assert_eq!(b, user(2), "a refused account uses up no number");
    let change = UserChange {
        key_hash: Some("hash of a".to_owned()),
        ..UserChange::default()
    };
    let taken = store.update_user(b, &change).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
}

async fn a_change_touches_only_what_it_names(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let before = store.find_user(a).await.unwrap().unwrap();
    let change = UserChange {
        trusted: Some(true),
        contact: Some("a@example.org".to_owned()),
        usage_multiplier: Some(0.5),
        monthly_kudos: Some(Kudos::new(7)),
        ..UserChange::default()
    };
    store.update_user(a, &change).await.unwrap();
    let mut expected = before;
    expected.roles.trusted = true;
    expected.contact = Some("a@example.org".to_owned());
    expected.usage_multiplier = 0.5;
    expected.monthly_kudos = Kudos::new(7);
    assert_eq!(store.find_user(a).await.unwrap().as_ref(), Some(&expected));
    let removal = UserChange {
        contact: Some(String::new()),
        ..UserChange::default()
    };
    store.update_user(a, &removal).await.unwrap();
    assert_eq!(store.find_user(a).await.unwrap().unwrap().contact, None);
    let missing = store.update_user(user(99), &change).await;
    assert!(matches!(missing, Err(Error::NotFound)));
}

async fn the_list_is_sorted_and_cut(database: &Database) {
    let store = database.open().await;
    for number in 0..30 {
        let mut new = new_user(&format!("u{number}"));
        new.created = Timestamp(NOW.0 - number);
        store.insert_user(&new).await.unwrap();
    }
    let oldest = store.rank_users(UserSort::Age, 25).await.unwrap();
    assert_eq!(oldest.len(), 25);
    assert_eq!(oldest[0], user(30));
    let all = store.rank_users(UserSort::Age, 100).await.unwrap();
    assert_eq!((all.len(), all[..25] == oldest[..]), (31, true));
    let event = Event {
        id: id(),
        at: NOW,
        kind: None,
        entries: vec![Entry::reward(user(7), Kudos::new(100), Reason::Admin)],
    };
    store.record(&event).await.unwrap();
    store.fold(10, NOW).await.unwrap();
    let richest = store.rank_users(UserSort::Kudos, 2).await.unwrap();
    assert_eq!(richest, [user(7), UserId::ANONYMOUS]);
}

async fn some_accounts_are_read_at_once(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let b = store.insert_user(&new_user("b")).await.unwrap();
    let contact = |text: &str| UserChange {
        contact: Some(text.to_owned()),
        ..UserChange::default()
    };
    store.update_user(a, &contact("a@\"x\"")).await.unwrap();
    store.update_user(b, &contact("b@x")).await.unwrap();
    let mut found = store.list_users(&[b, user(99), a]).await.unwrap();
    found.sort_by_key(|user| user.id);
    let names: Vec<&str> = found.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(store.list_users(&[]).await.unwrap().is_empty());
    let asked = ["a@\"x\"".to_owned(), "nobody".to_owned()];
    let found = store.find_users_by_contact(&asked).await.unwrap();
    assert_eq!(found, [(a, "a@\"x\"".to_owned())]);
    store.wipe_user(a).await.unwrap();
    assert!(store.list_users(&[a]).await.unwrap().is_empty());
    assert!(
        store
            .find_users_by_contact(&asked)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_wiped_account_is_never_found(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    let b = store.insert_user(&new_user("b")).await.unwrap();
    let worker = new_worker("w", a);
    store.insert_worker(&worker).await.unwrap();
    store.wipe_user(a).await.unwrap();
    store.wipe_user(b).await.unwrap();
    assert_eq!(store.find_user(a).await.unwrap(), None);
    assert_eq!(store.find_account_by_key("hash of a").await.unwrap(), None);
    assert_eq!(store.find_worker(worker.id).await.unwrap(), None);
    assert!(matches!(store.wipe_user(a).await, Err(Error::NotFound)));
    assert!(matches!(
        store.wipe_user(UserId::ANONYMOUS).await,
        Err(Error::NotFound)
    ));
    assert_eq!(store.insert_user(&new_user("a")).await.unwrap(), user(3));
}

async fn the_last_activity_is_written_behind(database: &Database) {
    let store = database.open().await;
    let a = store.insert_user(&new_user("a")).await.unwrap();
    store.active_later(a, Timestamp(NOW.0 + 10));
    store.active_later(a, Timestamp(NOW.0 + 5));
    store.close().await;
    let store = database.open().await;
    let found = store.find_user(a).await.unwrap().unwrap();
    assert_eq!(found.last_active, Timestamp(NOW.0 + 10));
}
