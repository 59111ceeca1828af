//! Workers.

use ordu_api::worker::WorkKind;
use ordu_api::{TeamId, UserId};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{CheckIn, Claim, Error, NewWorker, Settled, Worker, WorkerChange};

use crate::database::{Database, NOW};
use crate::world::{assignment, id, new_worker, request, settlement, user};

on_both!(
    a_new_worker_is_stored_as_it_came,
    names_are_unique_and_found_in_two_ways,
    workers_are_listed_by_owner_and_all,
    a_check_in_is_written_behind_and_the_newest_wins,
    a_change_touches_only_what_it_names,
    a_worker_with_a_running_job_stays,
);

async fn a_new_worker_is_stored_as_it_came(database: &Database) {
    let store = database.open().await;
    let odd = NewWorker {
        kind: WorkKind::Text,
        agent: r#"a "quoted" \agent:1:\u0000"#.to_owned(),
        declared: r#"{"models":["\u0000","\"x\""],"n":12345678901234}"#.to_owned(),
        ip: None,
        created: Timestamp(NOW.0 + 1),
        ..new_worker("12\t'\"\\\u{1}\u{2028}", user(7))
    };
    for worker in [new_worker("plain", user(3)), odd] {
        store.insert_worker(&worker).await.unwrap();
        let found = store.find_worker(worker.id).await.unwrap().unwrap();
        let stored = NewWorker {
            id: found.id,
            name: found.name,
            kind: found.kind,
            owner: found.owner,
            agent: found.agent,
            declared: found.declared,
            ip: found.ip,
            created: found.created,
        };
        assert_eq!(stored, worker);
        assert_eq!(found.last_check_in, worker.created);
        let named = store.list_workers_named(&worker.name.to_uppercase()).await;
        assert_eq!(named.unwrap().len(), 1);
    }
}

async fn names_are_unique_and_found_in_two_ways(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("Ärger", user(1));
    store.insert_worker(&worker).await.unwrap();
    store
        .insert_worker(&new_worker("ärger", user(2)))
        .await
        .unwrap();
    let taken = store.insert_worker(&new_worker("Ärger", user(2))).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    let exact = store.find_worker_by_name("Ärger").await.unwrap().unwrap();
    assert_eq!(exact.id, worker.id);
    assert_eq!(store.find_worker_by_name("ÄRGER").await.unwrap(), None);
    assert_eq!(store.list_workers_named("ÄRGER").await.unwrap().len(), 2);
}

async fn workers_are_listed_by_owner_and_all(database: &Database) {
    let store = database.open().await;
    let first = new_worker("a", user(1));
    let second = NewWorker {
        created: Timestamp(NOW.0 + 1),
        ..new_worker("b", user(2))
    };
    store.insert_worker(&second).await.unwrap();
    store.insert_worker(&first).await.unwrap();
    let names = |workers: Vec<Worker>| workers.into_iter().map(|w| w.name).collect::<Vec<_>>();
    assert_eq!(names(store.list_workers().await.unwrap()), ["a", "b"]);
    assert_eq!(names(store.list_workers_of(user(2)).await.unwrap()), ["b"]);
}

fn check_in(worker: &NewWorker, seconds: i64) -> CheckIn {
    CheckIn {
        worker: worker.id,
        at: Timestamp(NOW.0 + seconds * 1000),
        agent: "test:2:nobody".to_owned(),
        declared: "{}".to_owned(),
        ip: None,
        uptime: seconds,
        uncompleted: 1,
        kudos_uptime: Kudos::new(seconds),
        speeds: vec![0.5, 1e6],
        drops: (3, NOW),
    }
}

async fn a_check_in_is_written_behind_and_the_newest_wins(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("w", user(1));
    store.insert_worker(&worker).await.unwrap();
    store.check_in_later(check_in(&worker, 30));
    store.check_in_later(check_in(&worker, 60));
    store.flush().await.unwrap();
    let found = store.find_worker(worker.id).await.unwrap().unwrap();
    assert_eq!(found.last_check_in, Timestamp(NOW.0 + 60_000));
    assert_eq!((found.uptime, found.uncompleted), (60, 1));
    assert_eq!((found.kudos_uptime, found.ip), (Kudos::new(60), None));
    assert_eq!((found.speeds, found.drops), (vec![0.5, 1e6], (3, NOW)));
    assert_eq!(
        (found.agent.as_str(), found.declared.as_str()),
        ("test:2:nobody", "{}")
    );
    assert_eq!(store.counters().written_behind, 1);
}

async fn a_change_touches_only_what_it_names(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("w", user(1));
    store.insert_worker(&worker).await.unwrap();
    store
        .insert_worker(&new_worker("other", user(1)))
        .await
        .unwrap();
    let change = WorkerChange {
        maintenance: Some(true),
        maintenance_message: Some("back soon".to_owned()),
        ..WorkerChange::default()
    };
    store.update_worker(worker.id, &change).await.unwrap();
    let team = TeamId::from_uuid(id());
    let joins = |team| WorkerChange {
        team: Some(team),
        ..WorkerChange::default()
    };
    let joined = store.update_worker(worker.id, &joins(Some(team))).await;
    joined.unwrap();
    let found = store.find_worker(worker.id).await.unwrap().unwrap();
    assert_eq!(found.maintenance_message.as_deref(), Some("back soon"));
    assert!(found.maintenance && !found.paused);
    assert_eq!((found.name.as_str(), found.team), ("w", Some(team)));
    let rename = |name: &str| WorkerChange {
        name: Some(name.to_owned()),
        maintenance_message: Some(String::new()),
        ..WorkerChange::default()
    };
    let taken = store.update_worker(worker.id, &rename("other")).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    store.update_worker(worker.id, &rename("W2")).await.unwrap();
    store.update_worker(worker.id, &joins(None)).await.unwrap();
    let found = store.list_workers_named("w2").await.unwrap().remove(0);
    assert_eq!((found.maintenance_message, found.team), (None, None));
}

async fn a_worker_with_a_running_job_stays(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("w", UserId::ANONYMOUS);
    store.insert_worker(&worker).await.unwrap();
    let request = request(1);
    store.insert_request(&request).await.unwrap();
    let mut assignment = assignment(request.id, 0..1);
    assignment.jobs[0].worker = worker.id;
    assert_eq!(store.assign(&assignment).await.unwrap(), Claim::Won);
    assert!(!store.delete_worker(worker.id).await.unwrap());
    let settlement = settlement(request.id, assignment.jobs[0].id, UserId::ANONYMOUS);
    assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Now);
    assert!(store.delete_worker(worker.id).await.unwrap());
    assert!(!store.delete_worker(worker.id).await.unwrap());
    let job = store.find_job(settlement.job).await.unwrap().unwrap();
    assert_eq!(job.worker, worker.id);
}
