//! Every fault of the harness, and what `doctor` says while it lasts.
#![expect(
    clippy::print_stdout,
    reason = "a run says what it does, and how long that takes"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::skipped;
use crate::chaos::cluster::{Cluster, FAKETIME, Options};
use crate::chaos::fault::{self, Fault};
use crate::chaos::link::{FAIR, Link, SILENT, Weather};
use crate::chaos::load::{Load, People};
use crate::chaos::postgres;
use crate::chaos::slow::{Manner, crowd};
use crate::program::{ordu, text};

/// Within which a fault is named: a node that fell silent is dead after five seconds, and a machine may
/// have much else to do.
const NAMED: Duration = Duration::from_mins(2);

/// Within which everything is as it should be once a fault has passed.
const RECOVERY: Duration = Duration::from_mins(1);

/// So much later a job should be done, and is not given up yet.
const LATER: i64 = 120;

/// Not the same on every machine that runs tests.
const OF_THE_MACHINE: &[&str] = &["disk", "files", "fsync", "writes"];

const PAUSE: Duration = Duration::from_millis(20);

/// So long a crowd stays: less than a server has patience with it, and not as long as `doctor` pauses.
const CROWDED: Duration = Duration::from_millis(1700);

/// What must be said about a fault: the check, and a word of what it found.
const fn named(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Kill => ("server", "is gone without having ended"),
        Fault::Lost | Fault::Apart => ("nodes", "`node-1` was last heard of"),
        Fault::KillDatabase | Fault::Cut => ("database", ""),
        Fault::KillWorkers => ("jobs", "(times out in"),
        Fault::FullDisk => ("disk", ""),
        Fault::Distance(_) => ("database", "a round trip takes"),
        Fault::Silence => ("database", "no answer"),
        Fault::Clock(..0) => ("clock", "s behind ours"),
        Fault::Clock(_) => ("clock", "s ahead of ours"),
        Fault::Crowd(Manner::Silent | Manner::Slow) => ("connections", "a whole request"),
        Fault::Crowd(Manner::Promising) => ("connections", "bodies were promised"),
        Fault::Crowd(Manner::Giant | Manner::Garbled | Manner::Fickle) => {
            ("connections", "end badly")
        }
    }
}

#[test]
fn what_can_happen_on_one_machine_is_named() {
    let options = Options {
        roomy: true,
        ..Options::default()
    };
    look_at(&options, &once(fault::of_sqlite(), &[]));
}

#[test]
fn what_can_happen_to_a_database_elsewhere_is_named() {
    if !postgres::is_here() {
        return;
    }
    let options = Options {
        roomy: true,
        postgres: true,
        ..Options::default()
    };
    // What is apart is the only one here: it hears nothing.
    let known = [fault::of_sqlite(), vec![Fault::Apart]].concat();
    look_at(&options, &once(fault::of_postgres(), &known));
}

#[test]
fn what_can_happen_to_two_nodes_is_named() {
    if !postgres::is_here() {
        return;
    }
    let options = Options {
        roomy: true,
        postgres: true,
        two: true,
        ..Options::default()
    };
    let mut known = fault::of_postgres();
    known.retain(|fault| *fault != Fault::Apart);
    look_at(&options, &once(fault::of_two(), &known));
}

/// Each fault once, without those that are looked at elsewhere.
fn once(faults: Vec<Fault>, known: &[Fault]) -> Vec<Fault> {
    let mut new = Vec::new();
    for fault in faults {
        if !new.contains(&fault) && !known.contains(&fault) {
            new.push(fault);
        }
    }
    new
}

fn look_at(options: &Options, faults: &[Fault]) {
    let runtime = Runtime::new().unwrap();
    let mut cluster = Cluster::start(options, &runtime);
    runtime.block_on(async {
        let people = People::mint(&cluster.urls()).await;
        healthy(&cluster).await;
        let mut unheard = Vec::new();
        for fault in faults {
            if !strike(*fault, &mut cluster, &people).await {
                continue;
            }
            println!("{fault:?}");
            let unnamed = tokio::select! {
                looked = until_named(*fault, &cluster) => looked.err(),
                () = go_on(*fault, &cluster) => None,
            };
            unheard.extend(unnamed);
            heal(&mut cluster);
            if let Err(breach) = cluster.recovered(&people, RECOVERY).await {
                panic!("{fault:?}: {breach}");
            }
        }
        assert!(unheard.is_empty(), "{}", unheard.join("\n"));
    });
    cluster.stop();
}

/// Lets a fault happen; says whether this machine can have it.
async fn strike(fault: Fault, cluster: &mut Cluster, people: &People) -> bool {
    match fault {
        Fault::Kill => cluster.kill(0),
        Fault::Lost => cluster.kill(1),
        Fault::KillDatabase => cluster.postgres.as_ref().unwrap().kill(),
        Fault::KillWorkers | Fault::Clock(_) if cluster.clock.is_none() => {
            skipped("there is no clock to be moved");
            return false;
        }
        Fault::KillWorkers => leave_jobs(cluster, people).await,
        Fault::FullDisk if !cluster.disk.can_be_full() => {
            skipped("no disk can be mounted that may be full");
            return false;
        }
        Fault::FullDisk => cluster.disk.fill(),
        Fault::Distance(delay) => weather(cluster, 0, Weather { delay, ..FAIR }),
        Fault::Silence => weather(cluster, 0, SILENT),
        Fault::Apart => weather(cluster, 1, SILENT),
        // They go on and on.
        Fault::Cut | Fault::Crowd(_) => (),
        Fault::Clock(seconds) => {
            cluster.set_clock(seconds);
            // The library looks at its file once a second.
            sleep(Duration::from_secs(1)).await;
        }
    }
    true
}

/// Does again what is over soon.
async fn go_on(fault: Fault, cluster: &Cluster) {
    loop {
        match fault {
            Fault::Cut => {
                cluster.links().for_each(Link::cut);
                sleep(PAUSE / 4).await;
            }
            Fault::Crowd(manner) => {
                // Some do not come again once they were shown the door.
                let _crowd = crowd(manner, cluster.address());
                sleep(CROWDED).await;
            }
            _ => std::future::pending().await,
        }
    }
}

/// Changes what the way of a node to the database is like.
fn weather(cluster: &Cluster, place: usize, weather: Weather) {
    cluster.links().nth(place).unwrap().set(weather);
}

/// Lets everybody work until somebody vanishes with a job, and time pass.
async fn leave_jobs(cluster: &Cluster, people: &People) {
    loop {
        let load = Load::start(&cluster.urls(), people);
        sleep(PAUSE * 10).await;
        drop(load);
        if running(&cluster.urls()[0]).await > 0 {
            break;
        }
    }
    cluster.set_clock(LATER);
}

/// How many jobs are at workers.
async fn running(url: &str) -> u64 {
    let answer = reqwest::get(format!("{url}/metrics")).await.unwrap();
    let text = answer.text().await.unwrap();
    let lines = text.lines().filter_map(|line| {
        let (_, count) = line.strip_prefix("ordu_jobs_running{")?.split_once("} ")?;
        count.parse::<u64>().ok()
    });
    lines.sum()
}

/// Everything is as it was, as far as it does not come by itself.
fn heal(cluster: &mut Cluster) {
    cluster.set_clock(0);
    cluster.disk.empty();
    for link in cluster.links() {
        link.set(FAIR);
    }
    if let Some(postgres) = &mut cluster.postgres {
        postgres.revive();
    }
    cluster.reconnect();
    cluster.revive();
}

/// Looks until the fault is named.
async fn until_named(fault: Fault, cluster: &Cluster) -> Result<(), String> {
    let (check, word) = named(fault);
    let started = Instant::now();
    loop {
        let told = doctor(cluster, fault == Fault::KillWorkers).await;
        let is_named = told.iter().any(|finding| {
            let is_bad = matches!(finding["level"].as_str(), Some("warning" | "wrong"));
            let found = finding["found"].as_str().unwrap();
            is_bad && finding["check"] == check && found.contains(word)
        });
        if is_named {
            println!("named after {:?}", started.elapsed());
            return Ok(());
        }
        if started.elapsed() > NAMED {
            return Err(format!(
                "{fault:?} is not named by `{check}` ({word}): {told:#?}"
            ));
        }
    }
}

/// Nothing is said where nothing is wrong: once all have met, on a machine that others use, too.
async fn healthy(cluster: &Cluster) {
    let started = Instant::now();
    loop {
        let mut told = doctor(cluster, false).await;
        told.retain(|finding| {
            let check = finding["check"].as_str().unwrap();
            match finding["level"].as_str() {
                Some("wrong") => !OF_THE_MACHINE.contains(&check),
                // A machine with much to do makes every way long.
                Some("warning") => check != "database" && !OF_THE_MACHINE.contains(&check),
                _ => false,
            }
        });
        if told.is_empty() {
            return;
        }
        assert!(started.elapsed() < RECOVERY, "{told:#?}");
    }
}

/// What `doctor` finds at the first node, with its options; it may see the time that the servers see.
async fn doctor(cluster: &Cluster, is_later: bool) -> Vec<Value> {
    let mut command = command(cluster);
    if let Some(clock) = cluster.clock.as_ref().filter(|_| is_later) {
        command.env("LD_PRELOAD", FAKETIME);
        command.env("FAKETIME_TIMESTAMP_FILE", clock);
        command.env("DONT_FAKE_MONOTONIC", "1");
    }
    let looking = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = looking.await.unwrap();
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect(&all);
    let findings = report["findings"].as_array().unwrap();
    let is_wrong = findings.iter().any(|finding| finding["level"] == "wrong");
    assert_eq!(output.status.code(), Some(i32::from(is_wrong)), "{all}");
    findings.clone()
}

fn command(cluster: &Cluster) -> Command {
    let are_several = cluster.count() > 1;
    let disk = cluster.disk.path();
    let home: PathBuf = if are_several {
        disk.join("node-0")
    } else {
        disk.to_owned()
    };
    let mut command = ordu(&home);
    command.args(["doctor", "--json", "--data", "data"]);
    command.args(["--listen", "127.0.0.1:0"]);
    if let (Some(link), Some(postgres)) = (cluster.links().next(), &cluster.postgres) {
        let mut url = postgres.url.clone();
        url.set_port(Some(link.port)).unwrap();
        command.arg("--database").arg(url.as_str());
    }
    if are_several {
        let pictures = format!("file://{}", disk.join("pictures").display());
        command.args(["--blobs", &pictures, "--shared-blobs"]);
        command.args(["--secret-key", "of all nodes", "--node", "node-0"]);
    }
    command
}
