//! Filters, addresses, suspicions, notices.

use ordu_api::{JobId, UserId, WorkerId};
use ordu_core::address::{Entry, Scope};
use ordu_core::suspicion::{Reason, Suspect};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Error, Filter, NewFilter, Notice, ProblemJob, Store, Suspicion};

use crate::database::{Database, NOW};
use crate::world::{id, new_user, new_worker, user};

on_both!(
    filters_are_kept_once,
    addresses_are_read_by_what_changed,
    old_addresses_are_deleted,
    suspicions_are_counted_and_forgotten,
    a_deleted_worker_takes_its_suspicions_along,
    a_wiped_account_takes_its_suspicions_along,
    notices_are_listed_and_counted,
    problem_jobs_are_counted_by_account_and_address,
);

fn at(minutes: i64) -> Timestamp {
    NOW + Millis::from_minutes(minutes)
}

async fn filters_are_kept_once(database: &Database) {
    let store = database.open().await;
    let new = NewFilter {
        regex: r"\ba\b".to_owned(),
        kind: 10,
        description: None,
        replacement: "b".to_owned(),
        editor: user(7),
    };
    let first = store.insert_filter(&new).await.unwrap();
    let again = NewFilter {
        replacement: "c".to_owned(),
        ..new.clone()
    };
    assert_eq!(store.insert_filter(&again).await.unwrap(), first);
    let other = NewFilter { kind: 20, ..new };
    let other = store.insert_filter(&other).await.unwrap();
    assert!(other.id > first.id);
    let changed = Filter {
        kind: 10,
        ..other.clone()
    };
    let taken = store.update_filter(&changed).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    let changed = Filter {
        regex: "z".to_owned(),
        description: Some("why".to_owned()),
        replacement: String::new(),
        editor: user(8),
        ..other.clone()
    };
    store.update_filter(&changed).await.unwrap();
    assert_eq!(
        store.list_filters().await.unwrap(),
        [first.clone(), changed]
    );
    assert!(store.delete_filter(other.id).await.unwrap());
    assert!(!store.delete_filter(other.id).await.unwrap());
    let missing = store.update_filter(&other).await;
    assert!(matches!(missing, Err(Error::NotFound)), "{missing:?}");
    assert_eq!(store.list_filters().await.unwrap(), [first]);
}

fn entry(network: &str, scope: Scope, changed: Timestamp) -> Entry {
    Entry {
        network: network.parse().unwrap(),
        scope,
        suspicion: 2,
        suspicion_until: at(60),
        shut_until: at(9),
        changed,
    }
}

async fn addresses_are_read_by_what_changed(database: &Database) {
    let store = database.open().await;
    let old = entry("203.0.113.5/32", Scope::Single, at(0));
    let block = entry("2001:db8::/32", Scope::Block, at(1));
    let same = entry("2001:db8::/32", Scope::Single, at(1));
    for entry in [&block, &old, &same] {
        store.put_address(entry).await.unwrap();
    }
    let all = store.list_addresses(Timestamp(0)).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], old);
    assert_eq!(store.list_addresses(at(1)).await.unwrap().len(), 2);
    let newer = Entry {
        suspicion: 3,
        changed: at(2),
        ..old.clone()
    };
    store.put_address(&newer).await.unwrap();
    store.put_address(&old).await.unwrap();
    assert_eq!(store.list_addresses(at(2)).await.unwrap(), [newer]);
}

async fn old_addresses_are_deleted(database: &Database) {
    let store = database.open().await;
    let over = entry("203.0.113.5/32", Scope::Single, at(0));
    store.put_address(&over).await.unwrap();
    assert_eq!(store.delete_addresses(at(59), at(59)).await.unwrap(), 0);
    assert_eq!(store.delete_addresses(at(60), at(0)).await.unwrap(), 0);
    assert_eq!(store.delete_addresses(at(60), at(1)).await.unwrap(), 1);
}

fn suspicion(owner: UserId, worker: Option<WorkerId>, count: u32) -> Suspicion {
    Suspicion {
        suspect: Suspect {
            user: owner,
            worker,
        },
        reason: Reason::UnreasonablyFast,
        count,
        changed: at(i64::from(count)),
    }
}

async fn suspicions(store: &Store) -> Vec<Suspicion> {
    store.list_suspicions(Timestamp(0)).await.unwrap()
}

async fn suspicions_are_counted_and_forgotten(database: &Database) {
    let store = database.open().await;
    let worker = Some(WorkerId::from_uuid(id()));
    let account = suspicion(user(7), None, 1);
    let of_worker = suspicion(user(7), worker, 2);
    let other = suspicion(user(8), None, 1);
    for suspicion in [account, of_worker, other] {
        store.put_suspicion(&suspicion).await.unwrap();
    }
    assert_eq!(suspicions(&store).await, [account, other, of_worker]);
    store
        .put_suspicion(&suspicion(user(7), worker, 3))
        .await
        .unwrap();
    store.put_suspicion(&of_worker).await.unwrap();
    let newest = store.list_suspicions(at(3)).await.unwrap();
    assert_eq!(newest, [suspicion(user(7), worker, 3)]);
    store.forget_suspicions(user(7), at(9)).await.unwrap();
    let forgotten = store.list_suspicions(at(9)).await.unwrap();
    assert_eq!(forgotten.len(), 2);
    assert!(forgotten.iter().all(|suspicion| suspicion.count == 0));
    assert_eq!(store.delete_forgotten_suspicions(at(9)).await.unwrap(), 0);
    assert_eq!(store.delete_forgotten_suspicions(at(10)).await.unwrap(), 2);
    assert_eq!(suspicions(&store).await, [other]);
}

async fn a_deleted_worker_takes_its_suspicions_along(database: &Database) {
    let store = database.open().await;
    let worker = new_worker("w", user(7));
    store.insert_worker(&worker).await.unwrap();
    let of_worker = suspicion(user(7), Some(worker.id), 1);
    let of_owner = suspicion(user(7), None, 1);
    store.put_suspicion(&of_worker).await.unwrap();
    store.put_suspicion(&of_owner).await.unwrap();
    assert!(store.delete_worker(worker.id).await.unwrap());
    assert_eq!(suspicions(&store).await, [of_owner]);
}

async fn a_wiped_account_takes_its_suspicions_along(database: &Database) {
    let store = database.open().await;
    let owner = store.insert_user(&new_user("a")).await.unwrap();
    store
        .put_suspicion(&suspicion(owner, None, 1))
        .await
        .unwrap();
    store
        .insert_problem_job(&problem(owner, None, None, 0))
        .await
        .unwrap();
    store.wipe_user(owner).await.unwrap();
    assert!(suspicions(&store).await.is_empty());
    let count = store.count_problems_of(owner, None, Timestamp(0)).await;
    assert_eq!(count.unwrap(), 0);
}

async fn notices_are_listed_and_counted(database: &Database) {
    let store = database.open().await;
    let notice = |kind: &str, subject: &str, minutes| Notice {
        id: id(),
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        message: "look".to_owned(),
        prompt: (minutes == 0).then(|| "a \"prompt\"".to_owned()),
        happened_at: at(minutes).0,
    };
    let (first, second) = (notice("a", "user 1", 0), notice("b", "user 1", 1));
    for notice in [&first, &second, &first] {
        store.insert_notice(notice).await.unwrap();
    }
    let all = store.list_notices("", 0, 10).await.unwrap();
    assert_eq!(all, [second, first.clone()]);
    assert_eq!(store.list_notices("a", 0, 10).await.unwrap(), [first]);
    assert_eq!(store.list_notices("", 1, 1).await.unwrap().len(), 1);
    let count = async |since| store.count_notices("user 1", "a", since).await.unwrap();
    assert_eq!((count(at(-1)).await, count(at(0)).await), (1, 0));
    assert_eq!(store.delete_notices(at(1)).await.unwrap(), 1);
}

fn problem(
    owner: UserId,
    proxied_account: Option<&str>,
    address: Option<&str>,
    minutes: i64,
) -> ProblemJob {
    ProblemJob {
        job: JobId::from_uuid(id()),
        owner,
        proxied_account: proxied_account.map(str::to_owned),
        address: address.map(str::to_owned),
        worker: WorkerId::from_uuid(id()),
        at: at(minutes),
    }
}

async fn problem_jobs_are_counted_by_account_and_address(database: &Database) {
    let store = database.open().await;
    let (home, away) = (Some("203.0.113.5"), Some("203.0.113.6"));
    let problems = [
        problem(user(7), None, home, 0),
        problem(user(7), None, away, 5),
        problem(user(7), Some("theirs"), away, 5),
        problem(user(8), None, None, 5),
    ];
    for problem in &problems {
        store.insert_problem_job(problem).await.unwrap();
        store.insert_problem_job(problem).await.unwrap();
    }
    let of = async |proxied, since| store.count_problems_of(user(7), proxied, since).await;
    assert_eq!(of(None, at(-1)).await.unwrap(), 2);
    assert_eq!(of(None, at(0)).await.unwrap(), 1);
    assert_eq!(of(Some("theirs"), at(0)).await.unwrap(), 1);
    assert_eq!(of(Some("others"), at(0)).await.unwrap(), 0);
    let from = store.count_problems_from("203.0.113.6", at(0)).await;
    assert_eq!(from.unwrap(), 2);
}
