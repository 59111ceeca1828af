//! Gifts, and edits of accounts.

use ordu_api::{SharedKeyId, UserId};
use ordu_core::Kudos;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::shared_key::Terms;
use ordu_store::{Error, NewSharedKey, Store, Transfer, Transferred, UserChange, UserEdit};

use crate::database::{Database, NOW};
use crate::world::{id, new_user};

on_both!(
    a_gift_moves_once_and_never_too_much,
    gifts_at_once_leave_the_reserve,
    a_gift_to_a_key_grows_its_budget,
    gifts_are_remembered_for_a_while,
    an_edit_is_all_or_nothing,
);

async fn two_users(store: &Store) -> (UserId, UserId) {
    let from = store.insert_user(&new_user("from")).await.unwrap();
    let to = store.insert_user(&new_user("to")).await.unwrap();
    let event = event(Entry::reward(from, Kudos::new(100), Reason::Admin));
    store.record(&event).await.unwrap();
    store.fold(100, NOW).await.unwrap();
    (from, to)
}

fn event(entry: Entry) -> Event {
    Event {
        id: id(),
        at: NOW,
        kind: None,
        entries: vec![entry],
    }
}

fn gift(source: UserId, target: UserId, kudos: i64) -> Transfer {
    Transfer {
        event: id(),
        source,
        target,
        amount: Kudos::new(kudos),
        reserve: Kudos::new(25),
        shared_key: None,
        at: NOW,
    }
}

async fn spendable(store: &Store, user: UserId) -> Kudos {
    store.fold(100, NOW).await.unwrap();
    store.find_user(user).await.unwrap().unwrap().spendable
}

async fn a_gift_moves_once_and_never_too_much(database: &Database) {
    let store = database.open().await;
    let (from, to) = two_users(&store).await;
    let first = gift(from, to, 50);
    assert_eq!(store.transfer(&first).await.unwrap(), Transferred::Now);
    assert_eq!(store.transfer(&first).await.unwrap(), Transferred::Already);
    let other = Transfer {
        amount: Kudos::new(1),
        ..first.clone()
    };
    assert_eq!(store.transfer(&other).await.unwrap(), Transferred::Conflict);
    let much = gift(from, to, 26);
    let short = Transferred::Short(Kudos::new(25));
    assert_eq!(
        store.transfer(&much).await.unwrap(),
        short,
        "what is not folded counts"
    );
    assert_eq!(
        store.transfer(&gift(to, from, 1)).await.unwrap(),
        Transferred::Short(Kudos::ZERO)
    );
    assert_eq!(spendable(&store, from).await, Kudos::new(50));
    assert_eq!(spendable(&store, to).await, Kudos::new(50));
    let nobody = gift(UserId::new(99).unwrap(), to, 1);
    assert!(matches!(
        store.transfer(&nobody).await,
        Err(Error::NotFound)
    ));
}

async fn gifts_at_once_leave_the_reserve(database: &Database) {
    let store = database.open().await;
    let (from, to) = two_users(&store).await;
    let gifts = [gift(from, to, 40), gift(from, to, 40), gift(from, to, 40)];
    let (a, b, c) = tokio::join!(
        store.transfer(&gifts[0]),
        store.transfer(&gifts[1]),
        store.transfer(&gifts[2])
    );
    let moved = [a, b, c]
        .into_iter()
        .filter(|done| matches!(done, Ok(Transferred::Now)));
    assert_eq!(moved.count(), 1);
    assert_eq!(spendable(&store, from).await, Kudos::new(60));
}

async fn a_gift_to_a_key_grows_its_budget(database: &Database) {
    let store = database.open().await;
    let (from, to) = two_users(&store).await;
    let key = NewSharedKey {
        id: SharedKeyId::from_uuid(id()),
        owner: to,
        name: None,
        terms: Terms {
            budget: Some(Kudos::ZERO),
            ..Terms::default()
        },
        created: NOW,
    };
    store.insert_shared_key(&key, 1).await.unwrap();
    let gift = Transfer {
        shared_key: Some(key.id),
        ..gift(from, to, 50)
    };
    for _ in 0..2 {
        store.transfer(&gift).await.unwrap();
        let found = store.find_shared_key(key.id).await.unwrap().unwrap();
        assert_eq!(
            (found.terms.budget, found.utilized),
            (Some(Kudos::new(50)), Kudos::ZERO)
        );
        store.fold(100, NOW).await.unwrap();
    }
}

async fn gifts_are_remembered_for_a_while(database: &Database) {
    let store = database.open().await;
    let (from, to) = two_users(&store).await;
    store.transfer(&gift(from, to, 10)).await.unwrap();
    let before = ordu_core::Timestamp(NOW.0 - 1);
    assert!(store.gave_since(from, to, before).await.unwrap());
    assert!(!store.gave_since(to, from, before).await.unwrap());
    assert!(!store.gave_since(from, to, NOW).await.unwrap());
}

async fn an_edit_is_all_or_nothing(database: &Database) {
    let store = database.open().await;
    let (user, other) = two_users(&store).await;
    let movement = event(Entry::reward(user, Kudos::new(7), Reason::Admin));
    let edit = |key: &str| UserEdit {
        change: UserChange {
            concurrency: Some(40),
            key_hash: Some(key.to_owned()),
            ..UserChange::default()
        },
        movements: vec![movement.clone()],
        frees: false,
    };
    let taken = store.edit_user(user, &edit("hash of to"), NOW).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?} of {other}");
    assert_eq!(spendable(&store, user).await, Kudos::new(100));
    store
        .edit_user(user, &edit("a new hash"), NOW)
        .await
        .unwrap();
    assert_eq!(spendable(&store, user).await, Kudos::new(107));
    let edited = store.find_user(user).await.unwrap().unwrap();
    assert_eq!(edited.concurrency, 40);
    let nobody = UserId::new(99).unwrap();
    let missing = store.edit_user(nobody, &edit("x"), NOW).await;
    assert!(matches!(missing, Err(Error::NotFound)));
}
