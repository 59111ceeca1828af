//! What a worker in front of another program costs: memory, CPU while nothing is to be done, time on top of
//! the program's. With `ORDU_FIGURES=1` it is measured at length and held against the budget, which is for
//! a release build on a quiet machine: `ORDU_FIGURES=1 cargo nextest run -p ordu --release figures`.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ordu_api::text::{TextParams, TextRequest};
use ordu_client::Horde;
use serde_json::Value;

use crate::program::{Running, Worker};
use crate::worker::{admin, hear, until, wait};
use crate::write::program;

/// What is allowed, and how long is measured.
struct Budget {
    memory_mib: u64,
    times: Option<Times>,
    jobs: usize,
    idle: Duration,
}

struct Times {
    cpu_percent: f64,
    overhead_ms: u64,
}

/// Unoptimised, beside other tests: memory can be held against something, times cannot.
const LOOSE: Budget = Budget {
    memory_mib: 80,
    times: None,
    jobs: 3,
    idle: Duration::ZERO,
};

const STRICT: Budget = Budget {
    memory_mib: 30,
    times: Some(Times {
        cpu_percent: 1.0,
        overhead_ms: 30,
    }),
    jobs: 100,
    idle: Duration::from_mins(1),
};

/// Ticks of the clock that the system counts CPU time with, per second.
const TICKS: f64 = 100.0;

fn resident_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib.div_ceil(1024)
}

/// CPU seconds of a process so far.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name before may hold anything; fields 14 and 15 are 11 and 12 behind it.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u32 = [11, 12]
        .map(|at: usize| fields[at].parse::<u32>().unwrap())
        .iter()
        .sum();
    f64::from(ticks) / TICKS
}

fn idle_percent(process: u32, idle: Duration) -> f64 {
    let (before, started) = (cpu_seconds(process), Instant::now());
    std::thread::park_timeout(idle);
    (cpu_seconds(process) - before) / started.elapsed().as_secs_f64() * 100.0
}

/// Milliseconds from the arrival of a job to its end, without those of the engine: reading it, handing it
/// over, submitting the text. If the horde had it at hand, the way of the pop there and back, too.
fn overhead(horde: &Horde, heard: &Receiver<String>) -> u64 {
    let request = TextRequest {
        prompt: "Once".to_owned(),
        params: TextParams {
            max_length: Some(16),
            max_context_length: Some(80),
            ..TextParams::default()
        },
        validated_backends: false,
        ..TextRequest::default()
    };
    wait(horde.async_text(&request)).unwrap();
    let line: Value = serde_json::from_str(&hear(heard, "a job ended")).unwrap();
    let fields = &line["fields"];
    assert_eq!(fields["verdict"], "Done", "{line}");
    let number = |name: &str| -> u64 {
        let text = fields[name].to_string();
        text.trim_matches('"').parse().unwrap()
    };
    number("took_ms").saturating_sub(number("duration_ms"))
}

#[test]
fn a_worker_in_front_of_another_program_costs_little() {
    let is_strict = std::env::vars().any(|(name, _)| name == "ORDU_FIGURES");
    let budget = if is_strict { STRICT } else { LOOSE };
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let horde = admin(folder.path(), &server);
    let engine = format!("openai={}", program());
    let arguments = ["--scribe", "--engine", &engine, "--name", "A cheap one"];
    let (worker, heard) = Worker::heard(folder.path(), &arguments);
    wait(until(&horde, "A cheap one", |view| view.online));
    let before = resident_mib(worker.id());
    let cpu = idle_percent(worker.id(), budget.idle);
    let mut overheads: Vec<_> = (0..budget.jobs).map(|_| overhead(&horde, &heard)).collect();
    overheads.sort_unstable();
    let at = |share: usize| overheads[(overheads.len() * share / 100).min(overheads.len() - 1)];
    let (median, slow) = (at(50), at(99));
    let after = resident_mib(worker.id());
    println!(
        "idle memory {before} MiB, after {} jobs {after} MiB; idle CPU {cpu:.2} % over {} s; overhead \
         median {median} ms, 99 % {slow} ms",
        budget.jobs,
        budget.idle.as_secs()
    );
    assert!(before <= budget.memory_mib, "{before} MiB");
    if let Some(times) = budget.times {
        assert!(cpu <= times.cpu_percent, "{cpu} %");
        assert!(median <= times.overhead_ms, "{overheads:?} ms");
    }
    assert_eq!(worker.terminate(), Some(0));
}
