//! A past that is made up looks like one that happened.

use ordu_api::{UserId, WorkerId};
use ordu_core::{Kudos, Millis};
use ordu_store::{Error, JobState, Past};

use crate::database::{Database, NOW};
use crate::world::{id, request};

on_both!(a_past_is_finished_and_balanced);

async fn a_past_is_finished_and_balanced(database: &Database) {
    let store = database.open().await;
    let past = Past {
        // More than one transaction makes up.
        requests: 20_003,
        owner: UserId::ANONYMOUS,
        worker: WorkerId::from_uuid(id()),
        spec: "{}".to_owned(),
        result: r#"{"seed":1}"#.to_owned(),
        at: NOW,
        expires: NOW + Millis::from_minutes(20),
    };
    store.rehearse(&past).await.unwrap();
    let waiting = request(1);
    store.insert_request(&waiting).await.unwrap();
    let live = store.list_live().await.unwrap();
    assert_eq!(live, [waiting.id], "only what waits is live");
    let mut first = [0_u8; 16];
    first[..4].copy_from_slice(&2_654_435_761_u32.to_be_bytes());
    first[15] = 1;
    let first = ordu_api::RequestId::from_uuid(uuid::Uuid::from_bytes(first));
    let found = store.find_request(first).await.unwrap().unwrap();
    assert_eq!((found.done, found.open), (1, 0));
    assert_eq!(found.jobs[0].state, JobState::Done);
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    assert_eq!(store.fold(1000, NOW).await.unwrap().lines, 0);
    assert_eq!(store.audit().await.unwrap(), []);
    assert!(matches!(store.rehearse(&past).await, Err(Error::Taken)));
    let deleted = store.delete_ended(past.expires + Millis(1)).await.unwrap();
    assert_eq!(deleted, 20_003);
    store.close().await;
}
