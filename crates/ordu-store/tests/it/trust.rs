//! Escrow and trust.

use ordu_api::UserId;
use ordu_core::Kudos;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_store::{Error, Store, UserChange};

use crate::database::{Database, NOW};
use crate::world::{id, new_user, new_worker};

on_both!(
    trust_frees_escrow_and_workers,
    who_drains_at_once_drains_once,
    those_with_enough_escrow_are_listed,
    grants_are_due_once_they_are_old_enough,
);

async fn earn(store: &Store, user: UserId, kudos: i64) {
    let event = Event {
        id: id(),
        at: NOW,
        kind: None,
        entries: vec![Entry {
            from: Account::Mint,
            to: Account::Escrow(user),
            amount: Kudos::new(kudos),
            reason: Reason::Generation,
        }],
    };
    store.record(&event).await.unwrap();
}

async fn trust_frees_escrow_and_workers(database: &Database) {
    let store = database.open().await;
    let user = store.insert_user(&new_user("owner")).await.unwrap();
    let worker = new_worker("w", user);
    store.insert_worker(&worker).await.unwrap();
    let paused = ordu_store::WorkerChange {
        paused: Some(true),
        ..Default::default()
    };
    store.update_worker(worker.id, &paused).await.unwrap();
    earn(&store, user, 70).await;
    store.fold(100, NOW).await.unwrap();
    earn(&store, user, 5).await;
    let freed = store.trust_user(user, NOW).await.unwrap();
    assert_eq!(freed, Kudos::new(75), "what is not folded yet counts too");
    store.fold(100, NOW).await.unwrap();
    let trusted = store.find_user(user).await.unwrap().unwrap();
    assert!(trusted.roles.trusted);
    assert_eq!(
        (trusted.spendable, trusted.escrow),
        (Kudos::new(75), Kudos::ZERO)
    );
    let worker = store.find_worker(worker.id).await.unwrap().unwrap();
    assert!(!worker.paused);
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    let nobody = store.trust_user(UserId::ANONYMOUS, NOW).await;
    assert!(matches!(nobody, Err(Error::NotFound)));
}

async fn who_drains_at_once_drains_once(database: &Database) {
    let store = database.open().await;
    let user = store.insert_user(&new_user("owner")).await.unwrap();
    earn(&store, user, 70).await;
    let (first, second) =
        tokio::join!(store.drain_escrow(user, NOW), store.drain_escrow(user, NOW));
    assert_eq!(first.unwrap() + second.unwrap(), Kudos::new(70));
}

async fn those_with_enough_escrow_are_listed(database: &Database) {
    let store = database.open().await;
    let mut users = Vec::new();
    for (name, kudos, trusted) in [
        ("a", 10, false),
        ("b", 11, false),
        ("c", 1, true),
        ("d", 0, true),
    ] {
        let user = store.insert_user(&new_user(name)).await.unwrap();
        if kudos > 0 {
            earn(&store, user, kudos).await;
        }
        let change = UserChange {
            trusted: Some(trusted),
            ..UserChange::default()
        };
        store.update_user(user, &change).await.unwrap();
        users.push(user);
    }
    store.fold(100, NOW).await.unwrap();
    let listed = store.list_with_escrow(Kudos::new(10), 9).await.unwrap();
    assert_eq!(listed, [users[1], users[2]]);
    assert_eq!(
        store
            .list_with_escrow(Kudos::new(10), 1)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn grants_are_due_once_they_are_old_enough(database: &Database) {
    let store = database.open().await;
    let change = |monthly: i64, received, moderator| UserChange {
        monthly_kudos: Some(Kudos::new(monthly)),
        monthly_received: received,
        moderator: Some(moderator),
        ..UserChange::default()
    };
    let later = ordu_core::Timestamp(NOW.0 + 1);
    let cases = [
        (change(5, None, false), true),
        (change(0, None, true), true),
        (change(0, None, false), false),
        (change(5, Some(NOW), false), true),
        (change(5, Some(later), false), false),
    ];
    let mut wanted = Vec::new();
    for (number, (change, is_due)) in cases.into_iter().enumerate() {
        let user = store
            .insert_user(&new_user(&number.to_string()))
            .await
            .unwrap();
        store.update_user(user, &change).await.unwrap();
        if is_due {
            wanted.push(user);
        }
    }
    let due = store.list_grants(NOW, 9).await.unwrap();
    assert_eq!(due.iter().map(|user| user.id).collect::<Vec<_>>(), wanted);
}
