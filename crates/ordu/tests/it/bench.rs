//! The load generator: each scenario, small and for a second, against a real server.

use serde_json::Value;

use crate::program::{Running, ordu, run, run_json, text};

/// Runs a scenario small and short; answers its report.
fn measured(scenario: &str, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec![
        "bench",
        "run",
        scenario,
        "--seconds",
        "1",
        "--scale",
        "0.001",
        "--json",
    ];
    arguments.extend(more);
    let report = run_json(folder.path(), &arguments);
    let found = report["scenarios"][0].clone();
    assert_eq!(found["name"], scenario);
    found
}

fn phases(report: &Value) -> &Vec<Value> {
    report["phases"].as_array().unwrap()
}

/// What is true of every phase: nothing went wrong, and the server's own numbers are there.
fn check(report: &Value) {
    for phase in phases(report) {
        let endpoints = phase["endpoints"].as_object().unwrap();
        for (name, endpoint) in endpoints {
            assert_eq!(endpoint["errors"], Value::Null, "{name}: {phase:#}");
            assert!(endpoint["count"].as_u64().unwrap() > 0, "{name}");
        }
        assert!(phase["server"]["peak_mib"].as_f64().unwrap() > 1.0);
        assert!(phase["figures"]["ready_seconds"].as_f64().unwrap() > 0.0);
    }
    let errors = report["verdicts"].as_array().unwrap();
    let errors = errors.iter().find(|verdict| verdict["what"] == "errors");
    assert!(
        errors.is_none_or(|errors| errors["kept"] == true),
        "{report:#}"
    );
}

fn lifecycles(phase: &Value) -> f64 {
    phase["lifecycles_per_second"].as_f64().unwrap_or_default()
}

#[test]
fn a_run_of_lifecycle() {
    let report = measured("lifecycle", &[]);
    check(&report);
    let phase = &phases(&report)[0];
    assert!(lifecycles(phase) > 0.0, "{phase:#}");
    let inside = &phase["inside"];
    for (route, trips) in [
        ("POST /api/v2/generate/text/async", 1.0),
        ("POST /api/v2/generate/text/pop", 1.0),
        ("POST /api/v2/generate/text/submit", 1.0),
        ("GET /api/v2/generate/text/status/{id}", 0.0),
    ] {
        // The first call of an account, and of a worker, fetches it.
        let found = inside[route]["round_trips"].as_f64().unwrap();
        assert!((found - trips).abs() < 0.2, "{route}: {found}");
    }
    assert!(phase["server"]["commits"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_run_of_check() {
    let report = measured("check", &[]);
    check(&report);
    let endpoints = &phases(&report)[0]["endpoints"];
    assert!(endpoints["check"].is_object() && endpoints["heartbeat"].is_object());
}

#[test]
fn a_run_of_queue() {
    let report = measured("queue", &[]);
    check(&report);
    assert_eq!(phases(&report).len(), 6);
    let waiting = phases(&report).iter();
    let waiting = waiting.map(|phase| phase["figures"]["waiting"].to_string());
    let waiting: Vec<_> = waiting.collect();
    assert_eq!(waiting, ["1.0", "1.0", "10.0", "10.0", "100.0", "100.0"]);
    let idle = &phases(&report)[0]["inside"]["POST /api/v2/generate/pop"];
    assert!(idle["round_trips"].as_f64().unwrap() < 0.1, "{idle}");
}

#[test]
fn a_run_of_match() {
    let report = measured("match", &[]);
    check(&report);
    assert!(phases(&report).iter().all(|phase| lifecycles(phase) > 0.0));
}

#[test]
fn a_run_of_memory() {
    check(&measured("memory", &[]));
}

#[test]
fn a_run_of_start() {
    let report = measured("start", &[]);
    check(&report);
    assert_eq!(phases(&report).len(), 3, "once, and twice after a kill");
}

#[test]
fn a_run_of_anonymous() {
    let report = measured("anonymous", &[]);
    check(&report);
    assert!(phases(&report).iter().all(|phase| lifecycles(phase) > 0.0));
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test database comes by an environment variable"
)]
fn a_run_of_far() {
    let Ok(postgres) = std::env::var("ORDU_TEST_POSTGRES") else {
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "run",
        "far",
        "--seconds",
        "2",
        "--scale",
        "0.02",
        "--json",
    ];
    let arguments = [arguments.as_slice(), &["--postgres", &postgres]].concat();
    let report = run_json(folder.path(), &arguments)["scenarios"][0].clone();
    check(&report);
    assert_eq!(
        phases(&report).len(),
        12,
        "three turns, with workers that ask and wait"
    );
    for turn in phases(&report).chunks(2) {
        let [near, far] = turn else { unreachable!() };
        assert!(lifecycles(near) > 0.0 && lifecycles(far) > 0.0);
        let wire = |phase: &Value| phase["figures"]["wire_ms"].as_f64().unwrap();
        assert!(wire(far) > wire(near), "{} and {}", wire(far), wire(near));
        let async_ms = far["endpoints"]["text async"]["p50_ms"].as_f64().unwrap();
        assert!(async_ms >= 20.0, "{async_ms} ms cannot be");
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test database comes by an environment variable"
)]
fn a_run_of_nodes() {
    let Ok(postgres) = std::env::var("ORDU_TEST_POSTGRES") else {
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "run", "nodes", "--seconds", "4", "--json"];
    let arguments = [arguments.as_slice(), &["--postgres", &postgres]].concat();
    let report = run_json(folder.path(), &arguments)["scenarios"][0].clone();
    check(&report);
    let [one, two] = phases(&report).as_slice() else {
        panic!("there are two: {report:#}");
    };
    assert!(lifecycles(one) > 0.0 && lifecycles(two) > 0.0);
    assert_eq!(one["figures"]["claims_won"], Value::Null, "it is alone");
    assert!(two["figures"]["claims_won"].as_f64().unwrap() > 0.0);
    assert!(two["figures"]["claims_lost"].is_number());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test database comes by an environment variable"
)]
fn a_run_of_across() {
    let Ok(postgres) = std::env::var("ORDU_TEST_POSTGRES") else {
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "run", "across", "--seconds", "4", "--json"];
    let arguments = [arguments.as_slice(), &["--postgres", &postgres]].concat();
    let report = run_json(folder.path(), &arguments)["scenarios"][0].clone();
    check(&report);
    assert!(lifecycles(&phases(&report)[0]) > 0.0);
}

#[test]
fn a_run_of_idle() {
    check(&measured("idle", &[]));
}

#[test]
fn a_run_of_news() {
    let folder = tempfile::tempdir().unwrap();
    // A poll takes up to a second, and so does a job.
    let arguments = ["bench", "run", "news", "--seconds", "4", "--json"];
    let report = run_json(folder.path(), &arguments)["scenarios"][0].clone();
    check(&report);
    assert!(phases(&report).iter().all(|phase| lifecycles(phase) > 0.0));
}

#[test]
fn a_run_of_soak() {
    let report = measured("soak", &[]);
    check(&report);
    let samples = phases(&report)[0]["samples"].as_array().unwrap();
    assert!(samples.len() > 100, "{}", samples.len());
    for sample in samples {
        assert!(sample["open_files"].as_u64().unwrap() > 10, "{sample}");
        assert!(sample["resident_mib"].as_f64().unwrap() > 1.0, "{sample}");
    }
    for verdict in report["verdicts"].as_array().unwrap() {
        assert!(verdict["value"].is_number(), "{verdict}");
    }
}

#[test]
fn a_run_of_horde() {
    let report = measured("horde", &[]);
    check(&report);
    let phase = &phases(&report)[0];
    for endpoint in [
        "check",
        "text status",
        "models",
        "workers",
        "find_user",
        "image async",
        "(4 KiB to the same disk)",
    ] {
        assert!(
            phase["endpoints"][endpoint].is_object(),
            "{endpoint}: {phase:#}"
        );
    }
}

#[test]
fn a_run_of_sustained() {
    check(&measured("sustained", &[]));
}

#[test]
fn a_run_of_incident() {
    let report = measured("incident", &[]);
    check(&report);
    let [_, afterwards] = phases(&report).as_slice() else {
        panic!("{report:#}");
    };
    // At least the second in which everybody gets going again.
    assert!(afterwards["figures"]["pause_seconds"].as_f64().unwrap() >= 1.0);
}

#[test]
fn a_server_that_runs_already_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let key = std::fs::read_to_string(folder.path().join("data/admin.key")).unwrap();
    let more = [
        "--seconds",
        "1",
        "--horde",
        &server.url,
        "--api-key",
        key.trim(),
    ];
    let arguments = [["bench", "run", "lifecycle", "--json"].as_slice(), &more].concat();
    let report = run_json(folder.path(), &arguments)["scenarios"][0].clone();
    assert!(lifecycles(&phases(&report)[0]) > 0.0, "{report:#}");
    let arguments = [["bench", "run", "queue"].as_slice(), &more].concat();
    let refused = run(folder.path(), &arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("leave `--horde` out"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn programs_and_reports_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_ordu");
    let ratios = run_json(
        folder.path(),
        &[
            "bench",
            "compare",
            program,
            program,
            "--scenario",
            "check",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--json",
        ],
    );
    let has = |ratios: &Value, what: &str| {
        let found = ratios
            .as_array()
            .unwrap()
            .iter()
            .find(|ratio| ratio["what"] == what);
        assert!(found.unwrap()["ratio"].as_f64().unwrap() > 0.0, "{what}");
    };
    has(&ratios, "check, /s");
    has(&ratios, "server CPU per answer, µs");

    let arguments = ["bench", "run", "check", "--seconds", "1", "--json"];
    let report = ordu(folder.path()).args(arguments).output().unwrap().stdout;
    std::fs::write(folder.path().join("a.json"), report).unwrap();
    let arguments = ["bench", "compare", "a.json", "a.json", "--json"];
    let ratios = run_json(folder.path(), &arguments);
    has(&ratios, "heartbeat, p99 ms");
    let mixed = run(folder.path(), &["bench", "compare", "a.json", program]);
    assert_eq!(mixed.status.code(), Some(1));
    assert!(text(&mixed.stderr).contains("cannot be compared"));
}

#[test]
fn what_can_be_measured_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let listed = run(folder.path(), &["bench", "list"]);
    let listed = text(&listed.stdout);
    assert!(listed.contains("lifecycles a second ≥ 1500"), "{listed}");
    let wrong = run(folder.path(), &["bench", "run", "nothing"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("`ordu bench list`"));
}
