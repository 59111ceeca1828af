//! Writes that commit together: durable, isolated, counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ordu_api::{RequestId, UserId};
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use ordu_store::testing::Wire;
use ordu_store::{Claim, Error, NewRequest, Options, Settled, Store};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::database::{Database, NOW, variable};
use crate::world::{assignment, live, new_worker, request, running, settlement, user};

on_both!(
    callers_share_commits,
    workers_that_come_together_share_commits,
    names_that_come_in_any_order_block_nobody,
    a_bad_write_spoils_no_neighbour,
    a_text_that_cannot_be_stored_spoils_no_neighbour,
    a_hot_write_is_one_round_trip,
    no_life_reads_a_whole_table,
    connections_come_as_they_are_needed,
    a_write_that_hangs_stops_no_other_kind,
    hung_connections_are_not_waited_for,
    a_write_that_hangs_is_given_up,
    a_write_that_was_not_heard_of_may_have_happened,
    what_lasts_too_long_is_taken_back,
    closing_writes_what_waits,
    a_full_database_refuses_and_recovers,
    cut_connections_are_survived,
    what_was_acknowledged_survives_a_kill,
);

async fn callers_share_commits(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.insert_request(&request(1)).await.unwrap() });
    }
    tasks.join_all().await;
    let counters = store.counters();
    assert_eq!(counters.grouped_writes, 100);
    assert!(counters.commits < 100, "{counters:?}");
    assert!(counters.largest_group > 1, "{counters:?}");
    assert_eq!(store.list_live().await.unwrap().len(), 100);
}

async fn workers_that_come_together_share_commits(database: &Database) {
    let store = Arc::new(database.open().await);
    let name = |number: i64| format!("worker {}", number % 80);
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let (store, worker) = (
            Arc::clone(&store),
            new_worker(&name(number), user(number + 1)),
        );
        tasks.spawn(async move { (worker.clone(), store.insert_worker(&worker).await) });
    }
    let mut own_names = 0;
    for (worker, inserted) in tasks.join_all().await {
        let found = store
            .find_worker_by_name(&worker.name)
            .await
            .unwrap()
            .unwrap();
        match inserted {
            Ok(()) => assert_eq!((found.id, found.owner), (worker.id, worker.owner)),
            Err(Error::Taken) => assert_ne!(found.id, worker.id),
            Err(error) => panic!("{error}"),
        }
        own_names += i64::from(found.id == worker.id);
    }
    assert_eq!(own_names, 80);
    assert_eq!(store.list_workers().await.unwrap().len(), 80);
    let counters = store.counters();
    assert_eq!(counters.grouped_writes, 100);
    assert!(counters.commits < 50, "{counters:?}");
}

/// Two stores take the same names at the same time, one from the front, one from behind.
async fn names_that_come_in_any_order_block_nobody(database: &Database) {
    const NAMES: i64 = 60;
    if !database.is_postgres() {
        return;
    }
    let stores = [database.open().await, database.open().await].map(Arc::new);
    for round in 0..5 {
        let mut tasks = JoinSet::new();
        for number in 0..NAMES {
            for (store, place) in stores.iter().zip([number, NAMES - 1 - number]) {
                let store = Arc::clone(store);
                let worker = new_worker(&format!("worker {round} {place}"), user(1));
                tasks.spawn(async move { store.insert_worker(&worker).await });
            }
        }
        let inserted = tasks.join_all().await;
        let taken = |inserted: &&_| matches!(inserted, Err(Error::Taken));
        let taken = inserted.iter().filter(taken).count();
        assert_eq!(taken, inserted.len() / 2, "{inserted:?}");
    }
    // What waits for each other is torn apart by PostgreSQL after a second, and written one by one.
    for store in stores {
        let counters = store.counters();
        assert_eq!(counters.split_batches, 0, "{counters:?}");
    }
}

async fn a_bad_write_spoils_no_neighbour(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut settlements = Vec::new();
    for _ in 0..40 {
        let (request, jobs) = running(&store, 1).await;
        settlements.push(settlement(request, jobs[0], UserId::ANONYMOUS));
    }
    // The ledger has another event with this id and reason.
    let bad = settlements[20].job;
    let clash = Event {
        id: bad.uuid(),
        at: NOW,
        kind: None,
        entries: vec![Entry::burn(
            UserId::ANONYMOUS,
            Kudos::new(1),
            Reason::Generation,
        )],
    };
    store.record(&clash).await.unwrap();
    let mut tasks = JoinSet::new();
    for settlement in settlements {
        let store = Arc::clone(&store);
        tasks.spawn(async move { (settlement.job, store.settle(&settlement).await) });
    }
    for (job, settled) in tasks.join_all().await {
        if job == bad {
            assert!(matches!(settled, Err(Error::Taken)), "{settled:?}");
        } else {
            assert_eq!(settled.unwrap(), Settled::Now);
        }
    }
    assert!(store.counters().split_batches > 0);
    let live = live(&store).await;
    assert_eq!(live.len(), 1);
    assert_eq!(
        (live[0].running, live[0].done, live[0].consumed),
        (1, 0, Kudos::ZERO)
    );
    let balance = store.balance(UserId::ANONYMOUS).await.unwrap();
    assert_eq!(balance.unfolded_credit, Kudos::new(390));
}

async fn a_text_that_cannot_be_stored_spoils_no_neighbour(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        let mut request = request(1);
        if number == 10 {
            request.client_agent.push_str("\0byte");
        }
        tasks.spawn(async move { (number, store.insert_request(&request).await) });
    }
    for (number, inserted) in tasks.join_all().await {
        // PostgreSQL has no zero bytes in texts; SQLite does not mind.
        if number == 10 && database.is_postgres() {
            assert!(matches!(inserted, Err(Error::Invalid(_))), "{inserted:?}");
        } else {
            inserted.unwrap();
        }
    }
}

/// One life of a request: the round trips of insert, assign and settle.
async fn life(store: &Store) -> [u64; 3] {
    let request = request(1);
    let assignment = assignment(request.id, 0..1);
    let settlement = settlement(request.id, assignment.jobs[0].id, UserId::ANONYMOUS);
    let mut trips = [store.counters().round_trips; 4];
    store.insert_request(&request).await.unwrap();
    trips[1] = store.counters().round_trips;
    assert_eq!(store.assign(&assignment).await.unwrap(), Claim::Won);
    trips[2] = store.counters().round_trips;
    assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Now);
    trips[3] = store.counters().round_trips;
    [
        trips[1] - trips[0],
        trips[2] - trips[1],
        trips[3] - trips[2],
    ]
}

async fn a_hot_write_is_one_round_trip(database: &Database) {
    let store = Arc::new(database.open().await);
    let (trips, waited) = ordu_store::counted(life(&store)).await;
    assert_eq!(store.counters().commits, 3);
    assert_eq!(waited, 3, "shared or not, each is one for who waits");
    let ((), read) = ordu_store::counted(async {
        let mut tasks = JoinSet::new();
        let apart = Arc::clone(&store);
        tasks.spawn(ordu_store::counted_along(async move {
            apart.ping().await.unwrap();
        }));
        tasks.join_all().await;
        store.ping().await.unwrap();
    })
    .await;
    assert_eq!(read, 2, "also in a task of its own");
    if database.is_postgres() {
        assert_eq!(trips, [1, 1, 1]);
    }
}

/// How PostgreSQL found its rows, and not how often it was asked: a way that reads everything goes
/// unnoticed until there is much.
async fn no_life_reads_a_whole_table(database: &Database) {
    const LIVES: i64 = 40;
    if !database.is_postgres() {
        return;
    }
    database.open().await.close().await;
    let before = database.whole_tables_read().await;
    let store = database.open().await;
    for _ in 0..LIVES {
        life(&store).await;
    }
    // What connections count is told when they end, at the latest.
    store.close().await;
    let read = database.whole_tables_read().await - before;
    assert!(read < LIVES, "{read} whole tables in {LIVES} lives");
}

async fn closing_writes_what_waits(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let request = request(1);
            (request.id, store.insert_request(&request).await)
        });
    }
    tokio::task::yield_now().await;
    store.close().await;
    let again = database.open().await;
    for (id, inserted) in tasks.join_all().await {
        let found = again.find_request(id).await.unwrap().is_some();
        match inserted {
            Ok(()) => assert!(found),
            Err(Error::Closed) => assert!(!found),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(matches!(
        store.insert_request(&request(1)).await,
        Err(Error::Closed)
    ));
    assert!(matches!(
        store.find_user(UserId::ANONYMOUS).await,
        Err(Error::Closed)
    ));
}

async fn a_full_database_refuses_and_recovers(database: &Database) {
    if database.is_postgres() {
        return;
    }
    let mut options = Options::default();
    options.max_pages = Some(300);
    let store = database.open_with(&options).await;
    let big = || NewRequest {
        spec: "x".repeat(20_000),
        ..request(1)
    };
    // Nothing but requests that are over, so that there is something to delete in the end.
    let mut written = Vec::new();
    let (refused, error) = loop {
        let request = big();
        if let Err(error) = store.insert_request(&request).await {
            break (request.id, error);
        }
        written.push(request.id);
        assert!(written.len() < 300, "the limit does not hold");
        if let Err(error) = store.cancel_request(request.id).await {
            break (crate::world::request(1).id, error);
        }
    };
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!(store.find_request(refused).await.unwrap(), None);
    assert!(store.counters().unavailable > 0);
    for id in &written {
        assert!(store.find_request(*id).await.unwrap().is_some());
    }
    store.delete_ended(Timestamp(i64::MAX)).await.unwrap();
    store.insert_request(&big()).await.unwrap();
    assert!(store.list_live().await.unwrap().len() <= 2);
}

async fn connections_come_as_they_are_needed(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let store = Arc::new(database.open().await);
    for _ in 0..20 {
        life(&store).await;
    }
    let few = database.connections().await;
    assert!(
        few < 6,
        "one at a time needs no more than one or two: {few}"
    );
    let mut rounds = 0;
    while database.connections().await < few + 2 {
        rounds += 1;
        assert!(rounds < 100, "nothing was opened for all that");
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let store = Arc::clone(&store);
            tasks.spawn(async move { life(&store).await });
        }
        tasks.join_all().await;
    }
}

/// Long for what is a matter of milliseconds.
const LONG: Duration = Duration::from_secs(20);

/// Long enough for a write, and short enough to be waited for.
const SOME: Duration = Duration::from_secs(3);

/// How long after one write the next one comes.
const SHORT: Duration = Duration::from_millis(100);

async fn a_write_that_hangs_stops_no_other_kind(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let store = Arc::new(database.open().await);
    life(&store).await;
    let locked = database.lock("requests").await;
    let waiting = Arc::clone(&store);
    let mut hanging = JoinSet::new();
    hanging.spawn(async move { waiting.insert_request(&request(1)).await });
    let event = Event {
        id: uuid::Uuid::from_u128(7),
        at: NOW,
        kind: None,
        entries: vec![Entry::reward(
            UserId::ANONYMOUS,
            Kudos::new(1),
            Reason::Award,
        )],
    };
    let recorded = timeout(LONG, store.record(&event)).await;
    recorded.expect("it has a way of its own").unwrap();
    assert!(hanging.try_join_next().is_none());
    drop(locked);
    hanging.join_next().await.unwrap().unwrap().unwrap();
}

async fn hung_connections_are_not_waited_for(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let wire = Wire::begin(database.address()).await.unwrap();
    let url = wire.url.parse().unwrap();
    let store = Store::open(&url, &Options::default(), NOW).await.unwrap();
    let store = Arc::new(store);
    life(&store).await;
    wire.cut();
    // Those that find a connection hang with it. Nothing shows that before another has to be opened,
    // for those that come later, and cannot be.
    let mut tried = JoinSet::new();
    let until = Instant::now() + LONG;
    let refused = loop {
        assert!(Instant::now() < until, "{} hang", tried.len());
        let store = Arc::clone(&store);
        tried.spawn(async move { store.insert_request(&request(1)).await });
        if let Ok(ended) = timeout(SHORT, tried.join_next()).await {
            break ended.unwrap().unwrap();
        }
    };
    assert!(refused.is_err_and(|error| error.is_unavailable()));
    wire.mend();
    let mut failures = 0;
    while timeout(LONG, store.insert_request(&request(1)))
        .await
        .expect("it has a way of its own")
        .is_err()
    {
        failures += 1;
        assert!(failures < 30);
    }
}

async fn a_write_that_hangs_is_given_up(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let wire = Wire::begin(database.address()).await.unwrap();
    let url = wire.url.parse().unwrap();
    let mut options = Options::default();
    options.patience = Some(SOME);
    let store = Store::open(&url, &options, NOW).await.unwrap();
    let request = request(1);
    store.insert_request(&request).await.unwrap();
    wire.cut();
    let cancelled = || timeout(LONG, store.cancel_request(request.id));
    let given_up = cancelled().await.expect("nobody waits for what hangs");
    assert!(matches!(given_up, Err(Error::Unheard(_))), "{given_up:?}");
    wire.mend();
    let mut failures = 0;
    while cancelled()
        .await
        .expect("it does not wait behind what hung")
        .is_err()
    {
        failures += 1;
        assert!(failures < 30);
    }
}

async fn a_write_that_was_not_heard_of_may_have_happened(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let wire = Wire::begin(database.address()).await.unwrap();
    let url = wire.url.parse().unwrap();
    let store = Store::open(&url, &Options::default(), NOW).await.unwrap();
    for _ in 0..30 {
        // Of what a connection knows of a statement it need not hear before.
        while store.insert_request(&request(1)).await.is_err() {}
        let request = request(1);
        wire.deafen();
        let unheard = store.insert_request(&request).await;
        assert!(matches!(unheard, Err(Error::Unheard(_))), "{unheard:?}");
        // None can be opened to ask.
        let refused = store.insert_request(&request).await;
        assert!(refused.is_err_and(|error| error.is_unavailable()));
        wire.mend();
        let again = loop {
            match store.insert_request(&request).await {
                Err(error) if error.is_unavailable() => {}
                other => break other,
            }
        };
        if matches!(again, Err(Error::Taken)) {
            return;
        }
    }
    panic!("nothing happens that was not heard of");
}

async fn what_lasts_too_long_is_taken_back(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let url = database.address().parse().unwrap();
    let mut options = Options::default();
    options.patience = Some(SOME);
    let store = Store::open(&url, &options, NOW).await.unwrap();
    life(&store).await;
    let before = store.list_live().await.unwrap();
    let locked = database.lock("requests").await;
    let refused = timeout(LONG, store.insert_request(&request(1))).await;
    let refused = refused.expect("it does not wait for the lock");
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    drop(locked);
    // Had it been left to wait for the lock, it would be first.
    store.insert_request(&request(1)).await.unwrap();
    let after = store.list_live().await.unwrap();
    assert_eq!(after.len(), before.len() + 1);
}

async fn cut_connections_are_survived(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let store = database.open().await;
    life(&store).await;
    database.cut_connections().await;
    let request = request(1);
    let mut failures = 0;
    while let Err(error) = store.insert_request(&request).await {
        assert!(error.is_unavailable(), "{error:?}");
        failures += 1;
        assert!(failures < 30);
    }
    // Those that read are others.
    let found = loop {
        match store.find_request(request.id).await {
            Ok(found) => break found,
            Err(error) => assert!(matches!(error, Error::Unavailable(_)), "{error:?}"),
        }
        failures += 1;
        assert!(failures < 60);
    };
    assert!(found.is_some());
}

/// How many acknowledgements the parent waits for before it kills.
const ACKNOWLEDGED: usize = 150;

async fn what_was_acknowledged_survives_a_kill(database: &Database) {
    database.open().await.close().await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "group::writes_until_it_is_killed"])
        .env("ORDU_TEST_CHILD", database.address())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged: Vec<RequestId> = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // What was printed before the kill counts even if it is read after.
        let id = line
            .split_whitespace()
            .find_map(|word| word.parse::<RequestId>().ok());
        acknowledged.extend(id);
        if acknowledged.len() == ACKNOWLEDGED {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(
        acknowledged.len() >= ACKNOWLEDGED,
        "only {}",
        acknowledged.len()
    );
    let store = database.open().await;
    for id in &acknowledged {
        let found = store
            .find_request(*id)
            .await
            .unwrap()
            .expect("acknowledged, so durable");
        assert_eq!(
            (found.done, found.state),
            (1, ordu_store::RequestState::Finished)
        );
    }
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    while store.fold(1000, NOW).await.unwrap().lines > 0 {}
    assert_eq!(store.audit().await.unwrap(), []);
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
}

/// The other half of the test above: lives requests and prints which were settled. Does nothing
/// unless that test has started it.
#[test]
fn writes_until_it_is_killed() {
    let Some(address) = variable("ORDU_TEST_CHILD") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = address.parse().unwrap();
        let store = Arc::new(Store::open(&url, &Options::default(), NOW).await.unwrap());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                loop {
                    println!("\n{}\n", settled_life(&store).await);
                }
            });
        }
        tasks.join_next().await;
    });
}

async fn settled_life(store: &Store) -> RequestId {
    let request = request(1);
    store.insert_request(&request).await.unwrap();
    let assignment = assignment(request.id, 0..1);
    store.assign(&assignment).await.unwrap();
    let job = assignment.jobs[0].id;
    store
        .settle(&settlement(request.id, job, UserId::ANONYMOUS))
        .await
        .unwrap();
    request.id
}
