//! A worker that one can look at and steer: tried out, measured, reloaded, kept from working.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ordu_api::ApiKey;
use ordu_api::worker::WorkerView;
use ordu_client::Horde;
use serde_json::Value;

use crate::program::{Running, Worker, run, run_json, text};
use crate::write::program;

/// How long anything may take before a test counts as stuck.
const STUCK: Duration = Duration::from_mins(1);

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let waited = tokio::time::timeout(STUCK, future).await;
        waited.expect("the test is stuck")
    })
}

pub(crate) fn admin(folder: &Path, server: &Running) -> Horde {
    let key = std::fs::read_to_string(folder.join("data/admin.key")).unwrap();
    Horde::new(&server.url, ApiKey::new(key.trim()), "tests:1:here").unwrap()
}

/// Waits until a worker is as described.
pub(crate) async fn until(horde: &Horde, name: &str, holds: impl Fn(&WorkerView) -> bool) {
    loop {
        if let Ok(view) = horde.worker_by_name(name).await
            && holds(&view)
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The next line that holds these words.
pub(crate) fn hear(heard: &Receiver<String>, words: &str) -> String {
    let end = Instant::now() + STUCK;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = heard.recv_timeout(left).expect("the test is stuck");
        if line.contains(words) {
            return line;
        }
    }
}

#[test]
fn engines_are_tried_before_anything_is_popped() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["openai", "kobold"] {
        let engine = format!("{kind}={}", program());
        let trials = run_json(
            folder.path(),
            &[
                "work",
                "--check",
                "--json",
                "--api-key",
                "a key of its own",
                "--dreamer",
                "--scribe",
                "--alchemist",
                "--engine",
                &engine,
            ],
        );
        let shown: Vec<_> = trials
            .as_array()
            .unwrap()
            .iter()
            .map(|trial| (&trial["kind"], &trial["works"], &trial["tried"]))
            .collect();
        let model = if kind == "openai" {
            "org_tiny"
        } else {
            "koboldcpp/tiny"
        };
        let told = |text: &str| Value::from(text);
        assert_eq!(
            shown,
            [
                (&told("image"), &Value::Bool(true), &told("ordu-tiny")),
                (&told("text"), &Value::Bool(true), &told(model)),
                (
                    &told("interrogation"),
                    &Value::Bool(true),
                    &told("describe")
                ),
            ],
            "{trials:#}"
        );
        assert_eq!(trials[0]["offer"]["models"][0], "ordu-tiny");
        assert!(trials[0]["offer"]["bridge_agent"].is_string());
    }
}

#[test]
fn an_engine_that_lacks_something_is_told_what() {
    let folder = tempfile::tempdir().unwrap();
    let engine = format!("comfyui={}", program());
    // A reference that nobody answers at: a test asks nobody outside.
    let nowhere = "http://127.0.0.1:1/api";
    let output = run(
        folder.path(),
        &[
            "work",
            "--check",
            "--api-key",
            "k",
            "--engine",
            &engine,
            "--reference-url",
            nowhere,
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(told.contains("image: does not work"), "{told}");
    assert!(told.contains("node `CLIPTextEncode`"), "{told}");
    assert!(!told.contains("`KSampler`"), "{told}");
}

#[test]
fn a_worker_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    // Whoever makes a client first chooses how it encrypts.
    admin(folder.path(), &server);
    let arguments = ["--alchemist", "--metrics", "127.0.0.1:0"];
    let (worker, heard) = Worker::heard(folder.path(), &arguments);
    let told = hear(&heard, "metrics at ");
    let url = told.strip_prefix("metrics at ").unwrap();
    let url = url.strip_suffix("/metrics").unwrap();
    wait(async {
        let client = reqwest::Client::new();
        let get = async |path: &str| client.get(format!("{url}{path}")).send().await.unwrap();
        loop {
            let metrics = get("/metrics").await.text().await.unwrap();
            assert!(metrics.contains("ordu_worker_resident_memory_bytes{process=\"worker\"}"));
            if metrics.contains("ordu_worker_pops_total{result=\"nothing\"}") {
                break;
            }
        }
        let status: Value = get("/status").await.json().await.unwrap();
        assert_eq!(status["phase"], "serving");
        assert_eq!(status["engines"]["interrogation"]["up"], true);
        assert_eq!(get("/secrets").await.status().as_u16(), 404);
        let posted = client.post(format!("{url}/status")).send().await.unwrap();
        assert_eq!(posted.status().as_u16(), 405);
    });
    assert_eq!(worker.terminate(), Some(0));
}

#[test]
fn a_file_that_changes_takes_effect_and_a_wrong_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let horde = admin(folder.path(), &server);
    let key = std::fs::read_to_string(folder.path().join("data/admin.key")).unwrap();
    let file = folder.path().join("bridgeData.yaml");
    let engine = program();
    let write = |more: &str| {
        let text = format!(
            "horde_url: {}\nscribe_name: A steady scribe\nroles: [scribe]\nkai_url: {engine}\n\
             openai_api: true\nmodels_to_load: []\nbranded_model: false\n{more}",
            server.url
        );
        std::fs::write(&file, text).unwrap();
    };
    write("max_length: 100\n");
    let arguments = ["--api-key", key.trim(), "--bridge-data", "bridgeData.yaml"];
    let (worker, heard) = Worker::heard(folder.path(), &arguments);
    let offers = |length: i64| {
        let offered = |view: &WorkerView| view.max_length == Some(length);
        wait(until(&horde, "A steady scribe", offered));
    };
    offers(100);
    write("max_length: 200\nnsfw: false\n");
    hear(&heard, "the new settings are in effect");
    offers(200);
    write("max_length: many\n");
    let told = hear(&heard, "the new settings are wrong");
    assert!(told.contains("max_length"), "{told}");
    offers(200);
    write("max_length: 300\nstats_output_frequency: 5\n");
    let told = hear(&heard, "but for what needs the worker to be started anew");
    assert!(told.contains("\"keys\":\"console\""), "{told}");
    offers(300);
    assert_eq!(worker.terminate(), Some(0));
}

#[test]
fn a_signal_switches_maintenance() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let horde = admin(folder.path(), &server);
    let worker = Worker::start(folder.path(), &["--alchemist", "--name", "A steady one"]);
    wait(async {
        until(&horde, "A steady one", |view| view.online).await;
        worker.signal("-USR1");
        until(&horde, "A steady one", |view| view.maintenance_mode).await;
        worker.signal("-USR1");
        until(&horde, "A steady one", |view| !view.maintenance_mode).await;
    });
    assert_eq!(worker.terminate(), Some(0));
}
