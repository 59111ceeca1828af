//! Requests: stored, cancelled, ended.

use ordu_api::{SharedKeyId, UserId};
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Claim, Error, NewRequest, RequestState, Settled};

use crate::database::{Database, NOW};
use crate::world::{assignment, id, live, request, running, settlement};

on_both!(
    a_request_comes_back_as_it_went_in,
    a_request_and_its_price_are_one,
    an_id_is_used_once,
    a_cancelled_request_lets_its_jobs_finish,
    an_ended_request_drops_its_jobs,
    the_live_ones_are_listed_with_their_jobs,
    ended_ones_are_deleted_in_time,
);

async fn a_request_comes_back_as_it_went_in(database: &Database) {
    let store = database.open().await;
    let new = NewRequest {
        ip: Some("::1".to_owned()),
        shared_key: Some(SharedKeyId::from_uuid(id())),
        hold: Kudos::from_milli(12_345),
        consumed: Kudos::from_milli(3),
        spec: format!(r#"{{"prompt":"{}"}}"#, "ünï'\\n".repeat(1000)),
        ..request(3)
    };
    store.insert_request(&new).await.unwrap();
    let found = store.find_request(new.id).await.unwrap().unwrap();
    assert_eq!(found.spec, new.spec);
    assert_eq!(
        (found.n, found.open, found.running, found.done),
        (3, 3, 0, 0)
    );
    assert_eq!((found.owner, found.kind), (new.owner, new.kind));
    assert_eq!((found.priority, found.ip), (-5, new.ip));
    assert_eq!((found.created, found.expires), (new.created, new.expires));
    assert_eq!((found.hold, found.consumed), (new.hold, new.consumed));
    assert_eq!(
        (found.shared_key, found.state),
        (new.shared_key, RequestState::Live)
    );
    assert_eq!(store.find_request(request(1).id).await.unwrap(), None);
}

fn priced() -> NewRequest {
    let request = request(1);
    let activation = Event {
        id: request.id.uuid(),
        at: NOW,
        kind: Some(request.kind),
        entries: vec![Entry::burn(
            UserId::ANONYMOUS,
            Kudos::new(3),
            Reason::Activation,
        )],
    };
    NewRequest {
        activation: Some(activation),
        ..request
    }
}

async fn a_request_and_its_price_are_one(database: &Database) {
    let store = database.open().await;
    let spent = async || {
        store
            .balance(UserId::ANONYMOUS)
            .await
            .unwrap()
            .unfolded_debit
    };
    let good = priced();
    store.insert_request(&good).await.unwrap();
    assert_eq!(spent().await, Kudos::new(3));
    let mut bad = priced();
    bad.activation.as_mut().unwrap().id = good.id.uuid();
    assert!(store.insert_request(&bad).await.is_err());
    assert_eq!(store.find_request(bad.id).await.unwrap(), None);
    assert_eq!(spent().await, Kudos::new(3));
    bad.activation.as_mut().unwrap().entries[0].amount = Kudos::new(-1);
    assert!(matches!(
        store.insert_request(&bad).await,
        Err(Error::Invalid(_))
    ));
}

async fn an_id_is_used_once(database: &Database) {
    let store = database.open().await;
    let new = priced();
    store.insert_request(&new).await.unwrap();
    assert!(matches!(
        store.insert_request(&new).await,
        Err(Error::Taken)
    ));
    let balance = store.balance(UserId::ANONYMOUS).await.unwrap();
    assert_eq!(balance.unfolded_debit, Kudos::new(3));
}

async fn a_cancelled_request_lets_its_jobs_finish(database: &Database) {
    let store = database.open().await;
    let new = request(3);
    store.insert_request(&new).await.unwrap();
    let first = assignment(new.id, 0..1);
    assert_eq!(store.assign(&first).await.unwrap(), Claim::Won);
    assert!(store.cancel_request(new.id).await.unwrap());
    assert!(!store.cancel_request(new.id).await.unwrap());
    assert_eq!(
        store.assign(&assignment(new.id, 1..2)).await.unwrap(),
        Claim::Lost
    );
    let found = store.find_request(new.id).await.unwrap().unwrap();
    assert!(found.cancelled);
    assert_eq!(
        (found.n, found.open, found.state),
        (1, 0, RequestState::Live)
    );
    let settled = store
        .settle(&settlement(new.id, first.jobs[0].id, UserId::ANONYMOUS))
        .await;
    assert_eq!(settled.unwrap(), Settled::Now);
    let found = store.find_request(new.id).await.unwrap().unwrap();
    assert_eq!((found.done, found.state), (1, RequestState::Finished));
    let idle = request(1);
    store.insert_request(&idle).await.unwrap();
    assert!(store.cancel_request(idle.id).await.unwrap());
    let found = store.find_request(idle.id).await.unwrap().unwrap();
    assert_eq!(found.state, RequestState::Finished);
}

async fn an_ended_request_drops_its_jobs(database: &Database) {
    let store = database.open().await;
    let (one, jobs) = running(&store, 2).await;
    let (other, _) = running(&store, 1).await;
    let unknown = request(1).id;
    let ended = store
        .end_requests(&[one, unknown], RequestState::Expired)
        .await;
    assert_eq!(ended.unwrap(), [one]);
    let again = store.end_requests(&[one], RequestState::Finished).await;
    assert_eq!(again.unwrap(), []);
    let found = store.find_request(one).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.open, found.running),
        (RequestState::Expired, 0, 0)
    );
    let late = store
        .settle(&settlement(one, jobs[0], UserId::ANONYMOUS))
        .await
        .unwrap();
    assert_eq!(late, Settled::Already(ordu_store::JobState::Aborted));
    assert_eq!(store.list_live().await.unwrap(), [other]);
}

async fn the_live_ones_are_listed_with_their_jobs(database: &Database) {
    let store = database.open().await;
    let (older, jobs) = running(&store, 2).await;
    let newer = NewRequest {
        created: Timestamp(NOW.0 + 1),
        ..request(1)
    };
    store.insert_request(&newer).await.unwrap();
    let (finished, its_jobs) = running(&store, 1).await;
    store
        .settle(&settlement(finished, its_jobs[0], UserId::ANONYMOUS))
        .await
        .unwrap();
    store
        .settle(&settlement(older, jobs[1], UserId::ANONYMOUS))
        .await
        .unwrap();
    // A process that dies closes nothing.
    let after_crash = database.open().await;
    let live = live(&after_crash).await;
    assert_eq!(live.len(), 2);
    assert_eq!((live[0].id, live[1].id), (older, newer.id));
    assert_eq!(
        (live[0].running, live[0].done, live[0].jobs.len()),
        (1, 1, 2)
    );
    let job = live[0].jobs.iter().find(|job| job.id == jobs[1]).unwrap();
    assert_eq!(job.result.as_deref(), Some(r#"{"seed":1}"#));
    assert_eq!((job.slot, job.seed), (Some(1), Some(1_000_000_000_001)));
    assert_eq!(job.kudos, Some(Kudos::new(10)));
}

async fn ended_ones_are_deleted_in_time(database: &Database) {
    let store = database.open().await;
    let (finished, jobs) = running(&store, 1).await;
    let settlement = settlement(finished, jobs[0], UserId::ANONYMOUS);
    store.settle(&settlement).await.unwrap();
    let (live, _) = running(&store, 1).await;
    let expires = store.find_request(finished).await.unwrap().unwrap().expires;
    assert_eq!(store.delete_ended(expires).await.unwrap(), 0);
    assert_eq!(
        store.delete_ended(Timestamp(expires.0 + 1)).await.unwrap(),
        1
    );
    assert_eq!(store.find_request(finished).await.unwrap(), None);
    assert_eq!(store.find_job(jobs[0]).await.unwrap(), None);
    assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Unknown);
    assert!(store.find_request(live).await.unwrap().is_some());
}
