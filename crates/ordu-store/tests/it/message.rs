//! Messages to workers.

use ordu_api::{MessageId, UserId, WorkerId};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Error, Message, MessageFilter, Validity};

use crate::database::{Database, NOW};
use crate::world::{id, new_worker, user};

on_both!(
    messages_are_listed_by_filter,
    active_ones_are_those_that_end_later,
    a_deleted_worker_takes_its_messages_along,
);

fn message(author: UserId, worker: Option<WorkerId>, seconds: i64) -> Message {
    Message {
        id: MessageId::from_uuid(id()),
        author,
        worker,
        message: "a \"text\"".to_owned(),
        origin: "somebody".to_owned(),
        created: NOW + Millis(seconds),
        expires: NOW + Millis::from_seconds(seconds),
    }
}

async fn messages_are_listed_by_filter(database: &Database) {
    let store = database.open().await;
    let worker = WorkerId::from_uuid(id());
    let own = message(user(1), Some(worker), 60);
    let all = message(user(2), None, 10);
    let over = message(user(2), Some(worker), -1);
    for message in [&own, &all, &over] {
        store.insert_message(message).await.unwrap();
    }
    assert_eq!(store.find_message(own.id).await.unwrap(), Some(own.clone()));
    let list = async |filter: MessageFilter| {
        let listed = store.list_messages(filter, NOW, 0).await.unwrap();
        listed.iter().map(|message| message.id).collect::<Vec<_>>()
    };
    let none = MessageFilter::default();
    assert_eq!(
        list(none).await,
        [own.id, all.id, over.id],
        "the newest first"
    );
    let by = MessageFilter {
        author: Some(user(2)),
        ..none
    };
    assert_eq!(list(by).await, [all.id, over.id]);
    let to = MessageFilter {
        worker: Some(worker),
        ..none
    };
    assert_eq!(list(to).await, [own.id, over.id]);
    let seen = MessageFilter {
        seen_by: Some(user(1)),
        ..none
    };
    assert_eq!(list(seen).await, [own.id, all.id]);
    let active = MessageFilter {
        validity: Some(Validity::Active),
        ..none
    };
    assert_eq!(list(active).await, [own.id, all.id]);
    let expired = MessageFilter {
        validity: Some(Validity::Expired),
        ..to
    };
    assert_eq!(list(expired).await, [over.id]);
    assert_eq!(store.list_messages(none, NOW, 1).await.unwrap(), []);
}

async fn active_ones_are_those_that_end_later(database: &Database) {
    let store = database.open().await;
    for seconds in [1, 2, 3] {
        let message = message(user(1), None, seconds);
        store.insert_message(&message).await.unwrap();
    }
    let at = |seconds: i64| Timestamp(NOW.0 + seconds * 1000);
    let count = async |now, limit| store.list_active_messages(now, limit).await.unwrap().len();
    assert_eq!(count(at(0), 9).await, 3);
    assert_eq!(count(at(1), 9).await, 2);
    assert_eq!(count(at(0), 2).await, 2);
    assert_eq!(count(at(3), 9).await, 0);
}

async fn a_deleted_worker_takes_its_messages_along(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("w", user(1));
    store.insert_worker(&worker).await.unwrap();
    let own = message(user(1), Some(worker.id), 60);
    let all = message(user(1), None, 60);
    store.insert_message(&own).await.unwrap();
    store.insert_message(&all).await.unwrap();
    store.delete_worker(worker.id).await.unwrap();
    assert_eq!(store.find_message(own.id).await.unwrap(), None);
    store.delete_message(all.id).await.unwrap();
    assert!(matches!(
        store.delete_message(all.id).await,
        Err(Error::NotFound)
    ));
}
