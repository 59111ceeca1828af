//! Jobs: claimed, settled, failed.

use std::sync::Arc;

use ordu_api::{JobId, UserId};
use ordu_core::Kudos;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_store::{
    Assignment, Claim, Error, Fault, Faulted, Flaw, JobState, RequestState, Settled, Store,
};
use tokio::task::JoinSet;

use crate::database::{Database, NOW};
use crate::world::{assignment, request, running, settlement};

on_both!(
    the_last_slot_goes_to_one_of_many,
    the_same_slot_is_never_given_twice,
    slots_that_do_not_differ_are_counted,
    several_slots_are_claimed_all_or_none,
    several_requests_are_claimed_each_for_itself,
    a_request_comes_with_its_jobs,
    a_job_is_settled_once,
    one_of_many_settlements_wins,
    a_failed_job_gives_its_slot_back_once,
    a_released_job_does_not_count_as_failed,
    a_request_is_given_up_with_its_job,
    a_slot_is_given_up_and_the_others_go_on,
    many_jobs_of_one_request_settle_together,
    what_does_not_fit_is_seen,
);

async fn claims(store: &Arc<Store>, assignments: Vec<Assignment>) -> usize {
    let mut tasks = JoinSet::new();
    for assignment in assignments {
        let store = Arc::clone(store);
        tasks.spawn(async move { store.assign(&assignment).await.unwrap() });
    }
    let claims = tasks.join_all().await;
    claims
        .into_iter()
        .filter(|claim| *claim == Claim::Won)
        .count()
}

async fn the_last_slot_goes_to_one_of_many(database: &Database) {
    // Two stores on one database stand for two nodes.
    let (here, there) = (
        Arc::new(database.open().await),
        Arc::new(database.open().await),
    );
    for _ in 0..10 {
        let request = request(1);
        here.insert_request(&request).await.unwrap();
        let candidates = || (0..8).map(|_| assignment(request.id, 0..1)).collect();
        let (won_here, won_there) =
            tokio::join!(claims(&here, candidates()), claims(&there, candidates()));
        assert_eq!(won_here + won_there, 1);
        let found = here.find_request(request.id).await.unwrap().unwrap();
        assert_eq!((found.open, found.running, found.jobs.len()), (0, 1, 1));
    }
}

async fn the_same_slot_is_never_given_twice(database: &Database) {
    let store = Arc::new(database.open().await);
    let request = request(4);
    store.insert_request(&request).await.unwrap();
    let candidates = (0..6).map(|_| assignment(request.id, 2..3)).collect();
    assert_eq!(claims(&store, candidates).await, 1);
    let found = store.find_request(request.id).await.unwrap().unwrap();
    assert_eq!((found.open, found.running, found.jobs.len()), (3, 1, 1));
}

async fn slots_that_do_not_differ_are_counted(database: &Database) {
    let store = Arc::new(database.open().await);
    let request = request(4);
    store.insert_request(&request).await.unwrap();
    let mut any = Vec::new();
    for _ in 0..6 {
        let mut assignment = assignment(request.id, 0..1);
        assignment.jobs[0].slot = None;
        any.push(assignment);
    }
    assert_eq!(claims(&store, any).await, 4);
}

async fn several_slots_are_claimed_all_or_none(database: &Database) {
    let store = database.open().await;
    let request = request(3);
    store.insert_request(&request).await.unwrap();
    assert_eq!(
        store.assign(&assignment(request.id, 0..2)).await.unwrap(),
        Claim::Won
    );
    assert_eq!(
        store.assign(&assignment(request.id, 1..3)).await.unwrap(),
        Claim::Lost
    );
    let found = store.find_request(request.id).await.unwrap().unwrap();
    assert_eq!((found.open, found.running, found.jobs.len()), (1, 2, 2));
    assert_eq!(found.expires, assignment(request.id, 0..0).expires);
    let unknown = assignment(crate::world::request(1).id, 0..1);
    assert_eq!(store.assign(&unknown).await.unwrap(), Claim::Lost);
}

async fn several_requests_are_claimed_each_for_itself(database: &Database) {
    let store = database.open().await;
    let (free, taken) = (request(1), request(1));
    store.insert_request(&free).await.unwrap();
    store.insert_request(&taken).await.unwrap();
    store.assign(&assignment(taken.id, 0..1)).await.unwrap();
    let both = [assignment(taken.id, 0..1), assignment(free.id, 0..1)];
    let claims = store.assign_all(&both).await;
    let claims: Vec<Claim> = claims.into_iter().map(Result::unwrap).collect();
    assert_eq!(claims, [Claim::Lost, Claim::Won]);
}

/// Many at once, with and without jobs, one of them twice: they share a statement.
async fn a_request_comes_with_its_jobs(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut tasks = JoinSet::new();
    for taken in (0..=3).cycle().take(40) {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let request = request(3);
            let assignment = assignment(request.id, 0..taken);
            match taken {
                0 => store.insert_request(&request).await.unwrap(),
                _ => store.insert_assigned(&request, &assignment).await.unwrap(),
            }
            (request, assignment)
        });
    }
    for (request, assignment) in tasks.join_all().await {
        let found = store.find_request(request.id).await.unwrap().unwrap();
        let taken = i64::try_from(assignment.jobs.len()).unwrap();
        assert_eq!((found.n, found.open, found.running), (3, 3 - taken, taken));
        let jobs: Vec<_> = assignment
            .jobs
            .iter()
            .map(|job| (job.id, job.worker, job.slot, job.ttl))
            .collect();
        let stored: Vec<_> = found
            .jobs
            .iter()
            .map(|job| (job.id, job.worker, job.slot, job.ttl))
            .collect();
        assert_eq!(stored, jobs);
        let expires = if taken == 0 {
            request.expires
        } else {
            assignment.expires
        };
        assert_eq!(found.expires, expires);
        // Whoever asks with the same id again changes nothing, and claims nothing.
        let again = Assignment {
            jobs: crate::world::assignment(request.id, 0..1).jobs,
            ..assignment
        };
        let inserted = store.insert_assigned(&request, &again).await;
        assert!(matches!(inserted, Err(Error::Taken)));
        assert_eq!(
            store.find_request(request.id).await.unwrap().unwrap(),
            found
        );
        if let Some(job) = found.jobs.first() {
            let settled = settlement(request.id, job.id, UserId::ANONYMOUS);
            assert_eq!(store.settle(&settled).await.unwrap(), Settled::Now);
        }
    }
    let [first, second] = [request(1), request(1)];
    let held = assignment(first.id, 0..1);
    store.insert_assigned(&first, &held).await.unwrap();
    // A job that there is already: nothing of the second request is there, and its neighbours do not suffer.
    let stolen = Assignment {
        request: second.id,
        ..held
    };
    let beside = request(1);
    let (refused, inserted) = tokio::join!(
        store.insert_assigned(&second, &stolen),
        store.insert_request(&beside)
    );
    assert!(refused.is_err());
    inserted.unwrap();
    assert_eq!(store.find_request(second.id).await.unwrap(), None);
    assert!(store.find_request(beside.id).await.unwrap().is_some());
}

async fn a_job_is_settled_once(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 1).await;
    let settlement = settlement(request, jobs[0], UserId::ANONYMOUS);
    assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Now);
    let once = store.balance(UserId::ANONYMOUS).await.unwrap();
    assert_eq!(once.unfolded_credit, Kudos::new(10));
    assert_eq!(once.unfolded_debit, Kudos::new(11));
    let again = store.settle(&settlement).await.unwrap();
    assert_eq!(again, Settled::Already(JobState::Done));
    assert_eq!(store.balance(UserId::ANONYMOUS).await.unwrap(), once);
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!(
        (found.done, found.running, found.state),
        (1, 0, RequestState::Finished)
    );
    assert_eq!(found.consumed, Kudos::new(11));
    assert_eq!(found.expires, settlement.expires);
    assert_eq!(found.jobs[0].state, JobState::Done);
}

async fn one_of_many_settlements_wins(database: &Database) {
    let (here, there) = (
        Arc::new(database.open().await),
        Arc::new(database.open().await),
    );
    let (request, jobs) = running(&here, 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(if number % 2 == 0 { &here } else { &there });
        let settlement = settlement(request, jobs[0], UserId::ANONYMOUS);
        tasks.spawn(async move { store.settle(&settlement).await.unwrap() });
    }
    let settled = tasks.join_all().await;
    assert_eq!(
        settled
            .iter()
            .filter(|settled| **settled == Settled::Now)
            .count(),
        1
    );
    let balance = here.balance(UserId::ANONYMOUS).await.unwrap();
    assert_eq!(balance.unfolded_credit, Kudos::new(10));
}

fn fault(request: ordu_api::RequestId, job: ordu_api::JobId, how: Faulted) -> Fault {
    Fault {
        job,
        request,
        at: NOW,
        how,
    }
}

async fn a_failed_job_gives_its_slot_back_once(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 2).await;
    let lost = fault(request, jobs[0], Faulted::Retry);
    assert!(store.fault(&lost).await.unwrap());
    assert!(!store.fault(&lost).await.unwrap());
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!((found.open, found.running, found.faults), (1, 1, 1));
    let late = store
        .settle(&settlement(request, jobs[0], UserId::ANONYMOUS))
        .await
        .unwrap();
    assert_eq!(late, Settled::Already(JobState::Faulted));
    assert_eq!(
        store.assign(&assignment(request, 0..1)).await.unwrap(),
        Claim::Won
    );
}

async fn a_released_job_does_not_count_as_failed(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 1).await;
    assert!(
        store
            .fault(&fault(request, jobs[0], Faulted::Release))
            .await
            .unwrap()
    );
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!(
        (found.open, found.faults, found.state),
        (1, 0, RequestState::Live)
    );
    assert_eq!(found.jobs[0].state, JobState::Aborted);
}

async fn a_request_is_given_up_with_its_job(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 2).await;
    assert!(
        store
            .fault(&fault(request, jobs[0], Faulted::GiveUp))
            .await
            .unwrap()
    );
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!(
        (found.open, found.running, found.state),
        (0, 1, RequestState::Faulted)
    );
    let other = store
        .settle(&settlement(request, jobs[1], UserId::ANONYMOUS))
        .await
        .unwrap();
    assert_eq!(other, Settled::Now);
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!((found.done, found.state), (1, RequestState::Faulted));
}

async fn a_slot_is_given_up_and_the_others_go_on(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 3).await;
    let give_up = async |job| {
        let fault = fault(request, job, Faulted::GiveUpSlot);
        assert!(store.fault(&fault).await.unwrap());
        let found = store.find_request(request).await.unwrap().unwrap();
        (found.open, found.running, found.faults, found.state)
    };
    assert_eq!(give_up(jobs[0]).await, (0, 2, 1, RequestState::Live));
    let settled = settlement(request, jobs[1], UserId::ANONYMOUS);
    assert_eq!(store.settle(&settled).await.unwrap(), Settled::Now);
    assert_eq!(give_up(jobs[2]).await, (0, 0, 2, RequestState::Finished));
}

async fn many_jobs_of_one_request_settle_together(database: &Database) {
    let store = Arc::new(database.open().await);
    let (request, jobs) = running(&store, 20).await;
    let mut tasks = JoinSet::new();
    for job in jobs {
        let store = Arc::clone(&store);
        let settlement = settlement(request, job, UserId::ANONYMOUS);
        tasks.spawn(async move { store.settle(&settlement).await.unwrap() });
    }
    let settled = tasks.join_all().await;
    assert!(settled.into_iter().all(|settled| settled == Settled::Now));
    let found = store.find_request(request).await.unwrap().unwrap();
    assert_eq!(
        (found.done, found.running, found.state),
        (20, 0, RequestState::Finished)
    );
    assert_eq!(found.consumed, Kudos::new(220));
}

async fn what_does_not_fit_is_seen(database: &Database) {
    let store = database.open().await;
    let (request, jobs) = running(&store, 4).await;
    let delivery = |job: JobId| settlement(request, job, UserId::ANONYMOUS);
    store.settle(&delivery(jobs[0])).await.unwrap();
    assert_eq!(store.list_flaws().await.unwrap(), []);

    let mut unpaid = delivery(jobs[1]);
    unpaid.event = None;
    store.settle(&unpaid).await.unwrap();
    let reward = Kudos::new(3);
    let early = Event {
        id: jobs[2].uuid(),
        at: NOW,
        kind: None,
        entries: vec![Entry::reward(UserId::ANONYMOUS, reward, Reason::Generation)],
    };
    store.record(&early).await.unwrap();
    let mut twice = delivery(jobs[3]);
    if let Some(event) = &mut twice.event {
        let reward = event.entries[0].clone();
        event.entries.push(reward);
    }
    store.settle(&twice).await.unwrap();
    let mut flaws = store.list_flaws().await.unwrap();
    flaws.sort_by_key(|flaw| match flaw {
        Flaw::Pay { job, .. } => jobs.iter().position(|known| known == job),
        Flaw::Counts { .. } => None,
    });
    let wanted = [
        Flaw::Pay {
            job: jobs[1],
            state: "done".to_owned(),
            worth: Some(Kudos::new(10)),
            paid: None,
        },
        Flaw::Pay {
            job: jobs[2],
            state: "assigned".to_owned(),
            worth: None,
            paid: Some(reward),
        },
        Flaw::Pay {
            job: jobs[3],
            state: "done".to_owned(),
            worth: Some(Kudos::new(10)),
            paid: Some(Kudos::new(20)),
        },
    ];
    assert_eq!(flaws, wanted);
}
