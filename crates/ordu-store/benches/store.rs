//! What the store does a second, and how fast it starts: `cargo bench -p ordu-store`.
//!
//! PostgreSQL is measured when `ORDU_TEST_POSTGRES` names one, near and 25 ms away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a measurement fails by panicking, talks to whoever runs it, and borrows from the tests"
)]

#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/world.rs"]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ordu_api::UserId;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{NewRequest, Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::database::{Database, NOW, run_on_postgres, run_on_sqlite};
use crate::world::{assignment, request, settlement};

fn main() {
    println!("SQLite");
    run_on_sqlite(async |database| measure_lives(&database.open().await.into(), 100, 200).await);
    run_on_sqlite(async |database| measure_start(database).await);
    println!("PostgreSQL");
    run_on_postgres(async |database| {
        measure_lives(&database.open().await.into(), 100, 200).await;
        measure_lives(&database.open().await.into(), 256, 60).await;
        println!("PostgreSQL, 25 ms away");
        let address = far_away(database.address(), Duration::from_micros(12_500)).await;
        let url = address.parse().unwrap();
        let store = Store::open(&url, &Options::default(), NOW).await.unwrap();
        measure_lives(&store.into(), 256, 30).await;
    });
}

async fn measure_lives(store: &Arc<Store>, callers: usize, lives: usize) {
    let before = store.counters();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..lives {
                times.push(life(&store).await);
            }
            times
        });
    }
    let times: Vec<[Duration; 3]> = tasks.join_all().await.into_iter().flatten().collect();
    let seconds = begun.elapsed().as_secs_f64();
    let after = store.counters();
    let writes = after.grouped_writes - before.grouped_writes;
    let commits = after.commits - before.commits;
    println!(
        "{callers} callers: {:.0} lives/s, {:.0} writes/s, {:.0} commits/s, {:.1} writes/commit, \
         {} round trips",
        per_second(times.len() as u64, seconds),
        per_second(writes, seconds),
        per_second(commits, seconds),
        per_second(writes, per_second(commits, 1.0)),
        after.round_trips - before.round_trips,
    );
    for (number, name) in ["insert", "assign", "settle"].into_iter().enumerate() {
        let mut column: Vec<Duration> = times.iter().map(|life| life[number]).collect();
        column.sort_unstable();
        let at = |percent: usize| column[(column.len() - 1) * percent / 100];
        println!(
            "  {name}: p50 {:?} p95 {:?} p99 {:?}",
            at(50),
            at(95),
            at(99)
        );
    }
    let begun = Instant::now();
    let mut lines = 0;
    loop {
        let folded = store.fold(1000, NOW).await.unwrap();
        lines += folded.lines + folded.activities;
        if folded.lines + folded.activities == 0 {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "  folded {lines} lines, {:.0}/s",
        per_second(lines as u64, seconds)
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

async fn life(store: &Store) -> [Duration; 3] {
    let mut request = NewRequest {
        spec: format!(r#"{{"prompt":"{}"}}"#, "word ".repeat(200)),
        ..request(1)
    };
    request.activation = Some(Event {
        id: request.id.uuid(),
        at: NOW,
        kind: Some(request.kind),
        entries: vec![Entry::burn(
            UserId::ANONYMOUS,
            Kudos::new(3),
            Reason::Activation,
        )],
    });
    let assignment = assignment(request.id, 0..1);
    let settlement = settlement(request.id, assignment.jobs[0].id, UserId::ANONYMOUS);
    let begun = Instant::now();
    store.insert_request(&request).await.unwrap();
    let inserted = begun.elapsed();
    let begun = Instant::now();
    store.assign(&assignment).await.unwrap();
    let assigned = begun.elapsed();
    let begun = Instant::now();
    store.settle(&settlement).await.unwrap();
    [inserted, assigned, begun.elapsed()]
}

/// The address of a way to the same database that takes this long in each direction.
async fn far_away(address: &str, delay: Duration) -> String {
    let server = address
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let address = address.replace(&server, &here);
    let mut ways = JoinSet::new();
    ways.spawn(async move {
        let mut ways = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(&server).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            ways.spawn(carry(near_read, far_write, delay));
            ways.spawn(carry(far_read, near_write, delay));
        }
    });
    ways.detach_all();
    address
}

/// Carries bytes, each so much later than it came.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(10_000);
    let read = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + delay;
            if sender.send((due, buffer[..read].to_vec())).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = async {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}

async fn measure_start(database: &Database) {
    let store = Arc::new(database.open().await);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for _ in 0..100 {
                let mut request = request(1);
                request.spec = format!(r#"{{"prompt":"{}"}}"#, "word ".repeat(200));
                store.insert_request(&request).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    store.close().await;
    database
        .execute(
            "WITH RECURSIVE numbers (number) AS (
                 SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 1000000)
             INSERT INTO requests
                 (id, owner, kind, spec, n, open, priority, created, expires, client_agent, state)
             SELECT randomblob(16), 0, 'text', hex(zeroblob(100)), 1, 0, 0, number, number, 'x',
                 'finished'
             FROM numbers",
        )
        .await;
    let begun = Instant::now();
    let store = database.open().await;
    let opened = begun.elapsed();
    let begun = Instant::now();
    let live = store.list_live().await.unwrap();
    println!(
        "open {opened:?}, {} live requests in {:?}",
        live.len(),
        begun.elapsed()
    );
    let begun = Instant::now();
    let deleted = store.delete_ended(Timestamp(100_000)).await.unwrap();
    println!("deleted {deleted} in {:?}", begun.elapsed());
}
