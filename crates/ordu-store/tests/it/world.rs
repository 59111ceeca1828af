//! Things to put into a store.

use std::sync::atomic::{AtomicU64, Ordering};

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId, WorkerId};
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Millis};
use ordu_store::{
    Activity, Assignment, NewJob, NewRequest, NewUser, NewWorker, Request, Settlement, Store,
};
use uuid::Uuid;

use crate::database::NOW;

/// A fresh id. Like random ones, they do not come in order.
pub(crate) fn id() -> Uuid {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u64_pair(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number)
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

pub(crate) fn new_user(name: &str) -> NewUser {
    NewUser {
        username: name.to_owned(),
        key_hash: Some(format!("hash of {name}")),
        subject: format!("g_{name}"),
        concurrency: 30,
        created: NOW,
    }
}

pub(crate) fn new_worker(name: &str, owner: UserId) -> NewWorker {
    NewWorker {
        id: WorkerId::from_uuid(id()),
        name: name.to_owned(),
        kind: WorkKind::Image,
        owner,
        agent: "test:1:nobody".to_owned(),
        declared: r#"{"models":["sd"]}"#.to_owned(),
        ip: Some("127.0.0.1".to_owned()),
        created: NOW,
    }
}

/// What waits or runs, oldest first.
pub(crate) async fn live(store: &Store) -> Vec<Request> {
    let ids = store.list_live().await.unwrap();
    store.list_requests(&ids).await.unwrap()
}

/// A request for `n` images by the anonymous account, without a price.
pub(crate) fn request(n: u32) -> NewRequest {
    NewRequest {
        id: RequestId::from_uuid(id()),
        owner: UserId::ANONYMOUS,
        kind: WorkKind::Image,
        spec: r#"{"prompt":"a \"quoted\" horse\n\u0000"}"#.to_owned(),
        n,
        priority: -5,
        created: NOW,
        expires: NOW + Millis::from_minutes(20),
        client_agent: "test".to_owned(),
        ip: None,
        shared_key: None,
        hold: Kudos::ZERO,
        consumed: Kudos::ZERO,
        activation: None,
        activity: None,
        answer: None,
    }
}

/// The first `slots` slots of a request for a worker nobody knows.
pub(crate) fn assignment(request: RequestId, slots: std::ops::Range<u32>) -> Assignment {
    let worker = WorkerId::from_uuid(id());
    let job = |slot: u32| NewJob {
        id: JobId::from_uuid(id()),
        worker,
        slot: Some(slot),
        seed: Some(i64::from(slot) + 1_000_000_000_000),
        model: "sd".to_owned(),
        assigned_at: NOW,
        ttl: Millis::from_seconds(150),
    };
    Assignment {
        request,
        expires: NOW + Millis::from_minutes(21),
        jobs: slots.map(job).collect(),
    }
}

/// A settlement that moves 10 kudos to `owner` and takes 11 from the anonymous account.
pub(crate) fn settlement(request: RequestId, job: JobId, owner: UserId) -> Settlement {
    Settlement {
        job,
        request,
        result: r#"{"seed":1}"#.to_owned(),
        at: NOW + Millis::from_seconds(5),
        expires: NOW + Millis::from_minutes(22),
        kudos: Kudos::new(10),
        consumed: Kudos::new(11),
        event: Some(Event {
            id: job.uuid(),
            at: NOW,
            kind: Some(WorkKind::Image),
            entries: vec![
                Entry::reward(owner, Kudos::new(10), Reason::Generation),
                Entry::burn(UserId::ANONYMOUS, Kudos::new(11), Reason::Generation),
            ],
        }),
        activity: Some(Activity {
            event: job.uuid(),
            at: NOW,
            kind: WorkKind::Image,
            requester: Some(UserId::ANONYMOUS),
            usage: 500,
            owner: Some(owner),
            worker: None,
            team: None,
            things: 1000,
            worker_kudos: Kudos::new(12),
            style_owner: None,
            model: Some("sd".to_owned()),
        }),
        webhook: None,
    }
}

/// A request with all its slots at workers.
pub(crate) async fn running(store: &Store, n: u32) -> (RequestId, Vec<JobId>) {
    let request = request(n);
    store.insert_request(&request).await.unwrap();
    let assignment = assignment(request.id, 0..n);
    assert_eq!(
        store.assign(&assignment).await.unwrap(),
        ordu_store::Claim::Won
    );
    (
        request.id,
        assignment.jobs.iter().map(|job| job.id).collect(),
    )
}

/// The same numbers every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// A number below `sides`, signed.
    pub(crate) fn amount(&mut self, sides: u64) -> i64 {
        i64::try_from(self.roll(sides)).unwrap()
    }
}
