//! A worker as numbers: `/metrics` for Prometheus, `/status` as JSON. Pure.
//!
//! # Source
//! Prometheus' text format, version 0.0.4, and its page on naming.

use std::fmt::{Display, Write as _};

use ordu_worker::{Stage, Status};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::memory::Memory;
use super::screen;

/// Every stage, as it is counted.
const STAGES: [Stage; 5] = [
    Stage::Fetching,
    Stage::Ready,
    Stage::Sampling { step: 0, of: 0 },
    Stage::Delivering,
    Stage::Faulting,
];

/// A text in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    /// What the lines behind it are about.
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Everything that is counted.
pub(crate) fn prometheus(status: &Status, memory: Memory, now: Instant) -> String {
    let mut text = Text::default();
    text.about("ordu_build_info", "gauge", "The program that runs.");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.line("ordu_build_info", &version, 1);
    jobs(&mut text, status);
    let name = "ordu_worker_kudos_total";
    text.about(name, "counter", "Rewards since the start.");
    text.line(name, &[], status.kudos);
    account(&mut text, status);
    let name = "ordu_worker_uptime_seconds";
    text.about(name, "gauge", "Since the start.");
    text.line(name, &[], status.earned.age(now).as_secs_f64());
    let name = "ordu_worker_resident_memory_bytes";
    text.about(
        name,
        "gauge",
        "Memory of the worker and of its engines' processes.",
    );
    for (process, bytes) in [("worker", memory.worker), ("engine", memory.engine)] {
        if let Some(bytes) = bytes {
            text.line(name, &[("process", process)], bytes);
        }
    }
    engines(&mut text, status);
    stages(&mut text, status);
    text.0
}

/// Who works here, and for whom.
fn account(text: &mut Text, status: &Status) {
    let name = "ordu_worker_info";
    text.about(name, "gauge", "What the worker is called, in each role.");
    for (kind, worker) in &status.names {
        text.line(name, &[("kind", kind.name()), ("name", worker)], 1);
    }
    let name = "ordu_worker_account_kudos";
    text.about(name, "gauge", "What the owner's account has.");
    if let Some(account) = &status.account {
        text.line(name, &[], account.kudos);
    }
}

fn jobs(text: &mut Text, status: &Status) {
    let name = "ordu_worker_jobs_total";
    text.about(name, "counter", "Jobs that ended, by how.");
    for (end, count) in [
        ("done", status.done),
        ("faulted", status.faulted),
        ("lost", status.lost),
    ] {
        text.line(name, &[("end", end)], count);
    }
    let name = "ordu_worker_results_total";
    text.about(name, "counter", "Results that were delivered, by kind.");
    for (kind, count) in [
        ("image", status.pictures),
        ("text", status.texts),
        ("interrogation", status.forms),
    ] {
        text.line(name, &[("kind", kind)], count);
    }
    let name = "ordu_worker_faults_total";
    text.about(name, "counter", "Jobs that were not delivered, by cause.");
    for (cause, count) in &status.faults {
        text.line(name, &[("cause", cause)], count);
    }
    let name = "ordu_worker_pops_total";
    text.about(name, "counter", "Pops, by what came of them.");
    for (result, count) in &status.pops {
        text.line(name, &[("result", result)], count);
    }
    let name = "ordu_worker_jobs";
    text.about(
        name,
        "gauge",
        "Jobs that have not ended, by where they are.",
    );
    for stage in STAGES {
        let here = status
            .jobs
            .iter()
            .filter(|job| job.stage.name() == stage.name());
        text.line(name, &[("stage", stage.name())], here.count());
    }
}

fn engines(text: &mut Text, status: &Status) {
    let name = "ordu_worker_engine_up";
    text.about(name, "gauge", "Whether what does the work can do anything.");
    for (kind, engine) in &status.engines {
        text.line(name, &[("kind", kind.name())], u8::from(engine.is_up));
    }
    let name = "ordu_worker_backlog_seconds";
    text.about(
        name,
        "gauge",
        "Until all popped jobs are done, as predicted.",
    );
    for (kind, engine) in &status.engines {
        if let Some(backlog) = engine.backlog {
            text.line(name, &[("kind", kind.name())], backlog.as_secs_f64());
        }
    }
    let name = "ordu_worker_model_up";
    text.about(
        name,
        "gauge",
        "Models and forms that are offered (1) or were left out because they failed (0).",
    );
    for (kind, engine) in &status.engines {
        let offered = engine.offered.iter().map(|model| (model, 1));
        let out = engine.quarantined.keys().map(|model| (model, 0));
        for (model, up) in offered.chain(out) {
            text.line(name, &[("kind", kind.name()), ("model", model)], up);
        }
    }
    let name = "ordu_worker_model_seconds_per_work";
    text.about(
        name,
        "gauge",
        "How long a megapixelstep, a token or a form takes, as measured.",
    );
    for (kind, engine) in &status.engines {
        for (model, seconds) in &engine.speeds {
            text.line(name, &[("kind", kind.name()), ("model", model)], seconds);
        }
    }
    let name = "ordu_worker_model_memory_bytes";
    text.about(name, "gauge", "Weights that lie in memory.");
    for held in status.engines.values().flat_map(|engine| &engine.held) {
        text.line(name, &[("model", &held.model)], held.bytes);
    }
}

fn stages(text: &mut Text, status: &Status) {
    let name = "ordu_worker_stage_seconds";
    text.about(name, "histogram", "How long jobs were where.");
    for (stage, histogram) in &status.seconds {
        let bucket = format!("{name}_bucket");
        for (border, count) in histogram.cumulated() {
            let border = border.to_string();
            text.line(&bucket, &[("stage", stage), ("le", &border)], count);
        }
        text.line(
            &bucket,
            &[("stage", stage), ("le", "+Inf")],
            histogram.count(),
        );
        text.line(&format!("{name}_sum"), &[("stage", stage)], histogram.sum());
        text.line(
            &format!("{name}_count"),
            &[("stage", stage)],
            histogram.count(),
        );
    }
}

/// The same for programs that read JSON, with the jobs one by one.
pub(crate) fn json(status: &Status, memory: Memory, now: Instant) -> Value {
    let jobs = status.jobs.iter().map(|job| {
        let (step, of) = match job.stage {
            Stage::Sampling { step, of } => (step, of),
            _ => (0, 0),
        };
        let age = now.saturating_duration_since(job.popped).as_secs_f64();
        json!({
            "id": job.id, "kind": job.kind.name(), "model": job.model, "parts": job.parts,
            "stage": job.stage.name(), "step": step, "of": of, "age_seconds": age,
        })
    });
    let engines = status.engines.iter().map(|(kind, engine)| {
        let held = engine.held.iter();
        let held = held.map(|held| json!({"model": held.model, "bytes": held.bytes}));
        let quarantined = engine.quarantined.iter().map(|(name, until)| {
            let left = until.saturating_duration_since(now).as_secs();
            (name.clone(), Value::from(left))
        });
        let about = json!({
            "up": engine.is_up, "offered": engine.offered,
            "in_memory": held.collect::<Vec<_>>(),
            "left_out_seconds": quarantined.collect::<serde_json::Map<_, _>>(),
            "seconds_per_work": engine.speeds,
            "backlog_seconds": engine.backlog.map(|backlog| backlog.as_secs_f64()),
        });
        (kind.name().to_owned(), about)
    });
    let names = status.names.iter();
    let names = names.map(|(kind, name)| (kind.name().to_owned(), Value::from(name.as_str())));
    let account = status.account.as_ref();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "names": names.collect::<serde_json::Map<_, _>>(),
        "account": account.map(|account| json!({"alias": account.alias, "kudos": account.kudos})),
        "phase": screen::phase(&status.phase),
        "uptime_seconds": status.earned.age(now).as_secs(),
        "jobs": jobs.collect::<Vec<_>>(),
        "done": status.done, "faulted": status.faulted, "lost": status.lost,
        "pictures": status.pictures, "texts": status.texts, "forms": status.forms,
        "kudos": status.kudos, "kudos_per_hour": status.earned.per_hour(now),
        "pops": status.pops, "faults": status.faults, "skipped": status.skipped,
        "engines": engines.collect::<serde_json::Map<_, _>>(),
        "memory_bytes": {"worker": memory.worker, "engine": memory.engine},
        "last_error": status.last_error,
        "messages": status.messages,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use ordu_api::worker::WorkKind;
    use ordu_worker::{Account, EngineStatus};

    use super::*;

    fn status(now: Instant) -> Status {
        let engine = EngineStatus {
            is_up: true,
            offered: vec!["a \"b\"\\".to_owned()],
            quarantined: BTreeMap::from([("bad".to_owned(), now + Duration::from_secs(9))]),
            backlog: Some(Duration::from_millis(1500)),
            ..EngineStatus::default()
        };
        Status {
            done: 2,
            pictures: 3,
            kudos: 21.5,
            names: BTreeMap::from([(WorkKind::Image, "me".to_owned())]),
            account: Some(Account {
                alias: "alice#7".to_owned(),
                kudos: 1234.5,
            }),
            pops: BTreeMap::from([("job", 2)]),
            faults: BTreeMap::from([("deadline", 1)]),
            engines: BTreeMap::from([(WorkKind::Image, engine)]),
            ..Status::default()
        }
    }

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let now = Instant::now();
        let memory = Memory {
            worker: Some(5),
            engine: None,
        };
        let text = prometheus(&status(now), memory, now);
        for line in [
            "# TYPE ordu_worker_jobs_total counter",
            "ordu_worker_jobs_total{end=\"done\"} 2",
            "ordu_worker_results_total{kind=\"image\"} 3",
            "ordu_worker_kudos_total 21.5",
            "ordu_worker_account_kudos 1234.5",
            "ordu_worker_info{kind=\"image\",name=\"me\"} 1",
            "ordu_worker_faults_total{cause=\"deadline\"} 1",
            "ordu_worker_pops_total{result=\"job\"} 2",
            "ordu_worker_jobs{stage=\"generating\"} 0",
            "ordu_worker_engine_up{kind=\"image\"} 1",
            "ordu_worker_backlog_seconds{kind=\"image\"} 1.5",
            "ordu_worker_model_up{kind=\"image\",model=\"a \\\"b\\\"\\\\\"} 1",
            "ordu_worker_model_up{kind=\"image\",model=\"bad\"} 0",
            "ordu_worker_resident_memory_bytes{process=\"worker\"} 5",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        // Every line belongs to what was announced before it.
        let mut announced = "";
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                announced = about.split(' ').next().unwrap();
            }
            assert!(
                line.starts_with('#') || line.starts_with(announced),
                "{line}"
            );
        }
    }

    #[test]
    fn the_status_is_told_in_json() {
        let now = Instant::now();
        let told = json(&status(now), Memory::default(), now);
        assert_eq!(told["phase"], "starting");
        assert_eq!(told["names"]["image"], "me");
        assert_eq!(
            told["account"],
            json!({"alias": "alice#7", "kudos": 1234.5})
        );
        assert_eq!(told["engines"]["image"]["left_out_seconds"]["bad"], 9);
        assert_eq!(told["memory_bytes"]["worker"], Value::Null);
    }
}
