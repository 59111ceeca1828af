//! The fault harness: what can go wrong does go wrong, again and again, under load; what was
//! acknowledged is there afterwards, nothing happened twice, the books are right.
//!
//! Each round lets one [fault](fault::Fault) happen while [people](load) ask, work and give kudos away, waits
//! until every node is ready again, and has the [record](record::Record) of what was acknowledged
//! [checked](check) against API and database. After the last one, workers bring what is left to an end:
//! then every job is in one final state, and every result was paid once.
//!
//! `ORDU_CHAOS_ROUNDS=N` plays N rounds instead of a few, `ORDU_CHAOS_SEED=N` the rounds of another run once
//! more, `ORDU_CHAOS_FAULT=Kill` only faults whose names begin so. Built with `--features chaos`, the server can be made to lose writes that it acknowledges: the
//! harness must see it.
//!
//! # Source
//! `platform.md` § 3, § 8.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a run says how to repeat it, and what it could not do"
)]

mod check;
pub(crate) mod cluster;
mod disk;
pub(crate) mod fault;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod postgres;
mod record;
pub(crate) mod slow;

use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use self::cluster::{Cluster, Options};
use self::fault::Fault;
use self::load::{Load, People};
use self::record::Record;

const ROUNDS: usize = 8;

/// Within which every node must be ready again after the end of a fault.
///
/// The product's own goal is five seconds; a machine that also compiles gets more.
const RECOVERY: Duration = Duration::from_secs(20);

/// How a run went.
#[derive(Debug, Default)]
struct Outcome {
    breaches: Vec<String>,
    requests: usize,
    jobs: usize,
    rewards: usize,
    /// Rewards for jobs that another node had given away.
    elsewhere: usize,
    gifts: usize,
    slowest_recovery: Duration,
}

#[test]
fn a_horde_on_sqlite_survives_what_can_happen() {
    let faults = fault::of_sqlite();
    survive(&Options::default(), &faults, "SQLite");
}

#[test]
fn a_horde_on_postgres_survives_what_can_happen() {
    if !postgres::is_here() {
        return;
    }
    let options = Options {
        postgres: true,
        ..Options::default()
    };
    survive(&options, &fault::of_postgres(), "PostgreSQL");
}

#[test]
fn two_nodes_survive_what_can_happen() {
    if !postgres::is_here() {
        return;
    }
    let options = Options {
        postgres: true,
        two: true,
        ..Options::default()
    };
    survive(&options, &fault::of_two(), "PostgreSQL, two nodes");
}

#[test]
fn the_jobs_of_a_node_that_is_killed_go_on_through_the_other() {
    if !postgres::is_here() {
        return;
    }
    let options = Options {
        postgres: true,
        two: true,
        ..Options::default()
    };
    // Whether anybody works for a node at the moment it dies is chance, on a busy machine a small one.
    let is_seen = (0..5).any(|_| {
        let outcome = survive(&options, &[Fault::Kill, Fault::Lost], "two nodes, kill -9");
        outcome.elsewhere > 0
    });
    assert!(is_seen, "nobody handed a job in elsewhere");
}

/// A harness that cannot fail proves nothing.
#[cfg(feature = "chaos")]
#[test]
fn what_is_planted_is_seen() {
    for (plant, every, seen) in [
        ("lost", 20, ""),
        ("unpaid", 50, "paid: None"),
        ("double", 50, "Pay"),
    ] {
        let options = Options {
            plant: Some((plant, every)),
            ..Options::default()
        };
        let told = play(&options, &[Fault::Kill], 3, 1).breaches;
        assert!(!told.is_empty(), "what was {plant} went unseen");
        assert!(told.iter().all(|told| told.contains(seen)), "{told:#?}");
        println!("{plant}: {}", told.join("\n"));
    }
}

fn survive(options: &Options, faults: &[Fault], database: &str) -> Outcome {
    let rounds =
        number("ORDU_CHAOS_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap());
    let seed = number("ORDU_CHAOS_SEED").unwrap_or_else(rand::random);
    println!("ORDU_CHAOS_SEED={seed}");
    let mut faults = faults.to_vec();
    if let Some(name) = variable("ORDU_CHAOS_FAULT") {
        faults.retain(|fault| format!("{fault:?}").starts_with(&name));
    }
    let outcome = play(options, &faults, rounds, seed);
    println!(
        "{rounds} rounds on {database}: {} requests, {} jobs, {} rewards ({} elsewhere), {} gifts \
         acknowledged; the slowest recovery took {:?}",
        outcome.requests,
        outcome.jobs,
        outcome.rewards,
        outcome.elsewhere,
        outcome.gifts,
        outcome.slowest_recovery
    );
    assert!(
        outcome.breaches.is_empty(),
        "{}",
        outcome.breaches.join("\n")
    );
    assert!(outcome.rewards > 0, "the load must reach the end");
    outcome
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Plays rounds until one shows a breach.
fn play(options: &Options, faults: &[Fault], rounds: usize, seed: u64) -> Outcome {
    let mut dice = ChaCha12Rng::seed_from_u64(seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cluster = Cluster::start(options, &runtime);
    let people = runtime.block_on(People::mint(&cluster.urls()));
    let mut record = Record::default();
    let mut outcome = Outcome::default();
    let mut deck: Vec<Fault> = Vec::new();
    for round in 1..=rounds {
        // Every fault as often as every other, in any order.
        let fault = deck.pop().unwrap_or_else(|| {
            deck = faults.to_vec();
            deck.shuffle(&mut dice);
            deck.pop().unwrap()
        });
        println!("round {round}: {fault:?}");
        runtime.block_on(async {
            let mut load = Load::start(&cluster.urls(), &people);
            pause(&mut dice, 20..250).await;
            let strike = fault.strike(&mut cluster, &mut load, &mut dice).await;
            record.breaches.extend(strike.err());
            let healed = Instant::now();
            match cluster.recovered(&people, RECOVERY).await {
                Ok(heard) => heard.into_iter().for_each(|heard| record.hear(heard)),
                Err(breach) => record.breaches.push(breach),
            }
            outcome.slowest_recovery = outcome.slowest_recovery.max(healed.elapsed());
            pause(&mut dice, 20..100).await;
            load.end(&mut record).await;
            if record.breaches.is_empty() {
                check::requests(&cluster.urls(), &mut record).await;
                check::rows(&cluster.database_url(), &cluster.urls(), &mut record).await;
            }
        });
        if !record.breaches.is_empty() {
            outcome.breaches = record.told(&format!("round {round}, {fault:?}, seed {seed}"));
            break;
        }
        record.forget();
    }
    if outcome.breaches.is_empty() {
        runtime.block_on(check::drain(&cluster, &people, &mut record));
    }
    outcome.count(&record);
    cluster.stop();
    if outcome.breaches.is_empty() {
        runtime.block_on(check::books(&cluster.database_url(), &people, &mut record));
        outcome.breaches = record.told("at the end");
    }
    outcome
}

impl Outcome {
    fn count(&mut self, record: &Record) {
        (self.requests, self.jobs) = (record.requests_ever, record.jobs_ever);
        (self.rewards, self.gifts) = (record.rewards_ever, record.gifts);
        self.elsewhere = record.elsewhere;
    }
}

/// The time between things, by chance.
async fn pause(dice: &mut ChaCha12Rng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(dice.random_range(milliseconds))).await;
}
