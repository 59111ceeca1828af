//! Messages to requesters.

use std::collections::BTreeSet;

use ordu_api::{JobId, RequestId, UserId};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Due, NewWebhook, Settled, Store};

use crate::database::{Database, NOW};
use crate::world::{running, settlement, user};

on_both!(
    a_message_is_written_with_its_settlement_once,
    messages_of_a_request_go_out_in_turn,
    a_claim_ends_and_a_failure_postpones_the_whole_request,
    busy_hosts_are_left_alone,
);

const LEASE: Millis = Millis::from_seconds(30);

/// When all messages of these tests are due: they are written five seconds after the start.
const LATER: Timestamp = Timestamp(NOW.0 + 5_000);

async fn settle(store: &Store, request: RequestId, job: JobId, turn: i64) -> Settled {
    let mut settlement = settlement(request, job, user(1));
    settlement.webhook = Some(NewWebhook {
        owner: UserId::ANONYMOUS,
        turn,
        url: "https://example.org/hook".to_owned(),
        host: "example.org:443".to_owned(),
        payload: format!(r#"{{"turn":{turn},"text":"a \"quoted\" one"}}"#),
    });
    store.settle(&settlement).await.unwrap()
}

async fn claim(store: &Store, now: Timestamp) -> Vec<Due> {
    let nobody = BTreeSet::new();
    let claimed = store.claim_webhooks(now, now + LEASE, 10, &nobody).await;
    claimed.unwrap()
}

async fn a_message_is_written_with_its_settlement_once(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 2).await;
    assert_eq!(settle(&store, request, jobs[0], 1).await, Settled::Now);
    assert!(matches!(
        settle(&store, request, jobs[0], 2).await,
        Settled::Already(_)
    ));
    // The other one has no message.
    store
        .settle(&settlement(request, jobs[1], user(1)))
        .await
        .unwrap();
    assert_eq!(store.count_webhooks().await.unwrap(), 1);
    let due = claim(&store, LATER).await;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].id, due[0].request), (jobs[0].uuid(), request));
    assert_eq!(due[0].payload, r#"{"turn":1,"text":"a \"quoted\" one"}"#);
    assert_eq!((due[0].created, due[0].attempts), (LATER, 1));
}

async fn messages_of_a_request_go_out_in_turn(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 2).await;
    settle(&store, request, jobs[0], 9).await;
    settle(&store, request, jobs[1], 8).await;
    let first = claim(&store, LATER).await;
    assert_eq!(
        first.iter().map(|due| due.id).collect::<Vec<_>>(),
        [jobs[1].uuid()]
    );
    assert!(claim(&store, LATER).await.is_empty());
    store.delete_webhook(first[0].id).await.unwrap();
    assert_eq!(claim(&store, LATER).await[0].id, jobs[0].uuid());
}

async fn a_claim_ends_and_a_failure_postpones_the_whole_request(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 2).await;
    settle(&store, request, jobs[0], 1).await;
    settle(&store, request, jobs[1], 2).await;
    assert_eq!(claim(&store, LATER).await.len(), 1);
    let again = claim(&store, LATER + LEASE).await;
    assert_eq!((again[0].id, again[0].attempts), (jobs[0].uuid(), 2));
    let until = LATER + Millis::from_minutes(10);
    store.postpone_webhooks(request, until).await.unwrap();
    assert!(claim(&store, until - Millis(1)).await.is_empty());
    assert_eq!(claim(&store, until).await[0].attempts, 3);
}

async fn busy_hosts_are_left_alone(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 1).await;
    settle(&store, request, jobs[0], 1).await;
    let busy = BTreeSet::from(["example.org:443".to_owned()]);
    let claim = async |busy: &BTreeSet<String>| {
        let claimed = store.claim_webhooks(LATER, LATER + LEASE, 10, busy).await;
        claimed.unwrap().len()
    };
    assert_eq!(claim(&busy).await, 0);
    assert_eq!(claim(&BTreeSet::from(["a\"b".to_owned()])).await, 1);
}
