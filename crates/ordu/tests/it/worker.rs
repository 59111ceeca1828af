//! A worker that one can look at and steer: tried out, measured, reloaded, kept from working.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ordu_api::ApiKey;
use ordu_api::image::{ImageParams, ImageRequest};
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

#[test]
fn each_device_has_a_process_and_a_job_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let horde = admin(folder.path(), &server);
    let arguments = ["--devices", "cpu,cpu", "--name", "A broad one"];
    let worker = Worker::start(folder.path(), &arguments);
    wait(until(&horde, "A broad one", |view| {
        view.online && view.threads == 2
    }));
    let engines: usize = std::fs::read_dir(format!("/proc/{}/task", worker.id()))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum();
    assert_eq!(engines, 2);
    let request = ImageRequest {
        prompt: "a red circle".to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        params: ImageParams {
            width: Some(64),
            height: Some(64),
            steps: Some(1),
            ..ImageParams::default()
        },
        ..ImageRequest::default()
    };
    wait(async {
        for _ in 0..3 {
            let id = horde.async_image(&request).await.unwrap().id;
            while !horde.check(id).await.unwrap().done {
                tokio::task::yield_now().await;
            }
        }
    });
    assert_eq!(worker.terminate(), Some(0));
}

#[test]
fn one_job_is_done_without_a_horde() {
    let folder = tempfile::tempdir().unwrap();
    let job = serde_json::json!({
        "prompt": "a red circle on a blue background", "seed": "hello", "width": 64, "height": 64,
        "ddim_steps": 1, "n_iter": 2, "loras": [{"name": "1"}],
    });
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    let arguments = [
        "work",
        "--one-shot",
        "job.json",
        "--out",
        "made.webp",
        "--json",
    ];
    let made = run_json(folder.path(), &arguments);
    assert_eq!(made["model"], "ordu-tiny");
    assert_eq!(made["pictures"][1]["file"], "made-2.webp");
    assert_eq!(made["pictures"][0]["seed"], 111);
    assert_eq!(made["gen_metadata"][0]["type"], "lora");
    for file in ["made.webp", "made-2.webp"] {
        let picture = image::open(folder.path().join(file)).unwrap();
        assert_eq!((picture.width(), picture.height()), (64, 64));
    }
    std::fs::write(folder.path().join("job.json"), "[]").unwrap();
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("it is no job"), "{told}");
}

#[test]
fn a_machine_is_measured_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let arguments = [
        "work",
        "--bench",
        "--json",
        "--horde",
        &server.url,
        "--cache-home",
        "store",
        "--max-batch",
        "1",
    ];
    let told = run_json(folder.path(), &arguments);
    let cases: Vec<_> = told["cells"].as_array().unwrap().iter().collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|cell| cell["case"].as_str().unwrap())
        .collect();
    assert_eq!(cases[..3], ["cold", "warm", "plain"], "{told:#}");
    assert!(told["proposal"]["max_power"].as_u64().unwrap() >= 1);
    assert!(told["kudos_per_hour"]["ordu-tiny"].as_f64().unwrap() > 0.0);
    assert!(told["peak_memory_bytes"]["engine"].as_u64().unwrap() > 0);
    let kept = std::fs::read(folder.path().join("store/ordu-speeds.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert!(kept["ordu-tiny"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_file_of_settings_can_be_an_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridgeData.yaml");
    std::fs::write(&file, "max_power: 32\nmodels_to_load: [top 2]\n").unwrap();
    let output = run(folder.path(), &["config", "to-env", "bridgeData.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "AIWORKER_REGEN_MAX_POWER=32\nAIWORKER_REGEN_MODELS_TO_LOAD=[top 2]\n";
    assert_eq!(text(&output.stdout), expected);
}

/// The options of a deployed worker's start script.
#[test]
fn an_old_start_script_goes_on_working() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let horde = admin(folder.path(), &server);
    let key = std::fs::read_to_string(folder.path().join("data/admin.key")).unwrap();
    let arguments = [
        "-u",
        &server.url,
        "-a",
        key.trim(),
        "-n",
        "An old one",
        "-p",
        "18",
        "--max_threads",
        "2",
        "-y",
        "-v",
        "--skip_checksum",
    ];
    let worker = Worker::start(folder.path(), &arguments);
    let holds = |view: &WorkerView| view.threads == 2 && view.max_pixels == Some(18 * 32_768);
    wait(until(&horde, "An old one", holds));
    assert_eq!(worker.terminate(), Some(0));
}
