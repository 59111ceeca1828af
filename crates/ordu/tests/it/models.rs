//! `ordu work --models` with the real binary.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::program::{ordu, run, run_json, text};

/// What the files of the models hold.
const CONTENT: &[u8] = b"not really a model, but its checksum is right";
const SUM: &str = "c132c4efe1c542cf6050981fd96879067d3c5d10b91eebe428abefa133a0f234";

/// Knows two models that share a file, and has their files. Runs until the test ends.
struct Service {
    url: String,
    fetched: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fetched = Arc::new(AtomicUsize::new(0));
        let (here, count) = (url.clone(), fetched.clone());
        let held = Arc::new(Mutex::new(()));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (here, count, held) = (here.clone(), count.clone(), held.clone());
                std::thread::spawn(move || {
                    let mut head = [0; 4096];
                    let read = stream.read(&mut head).unwrap_or_default();
                    let head = text(&head[..read]);
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let _one_at_a_time = held.lock().unwrap();
                    let body = match path {
                        "/api/model_references/v2/image_generation" => {
                            records(&here).to_string().into_bytes()
                        }
                        "/api/v2/stats/img/models?model_state=known" => {
                            json!({"month": {"One": 5, "Two": 9, "null": 70}})
                                .to_string()
                                .into_bytes()
                        }
                        "/wrong" => b"something else".to_vec(),
                        _ => {
                            count.fetch_add(1, Ordering::SeqCst);
                            CONTENT.to_vec()
                        }
                    };
                    let answer = format!(
                        "HTTP/1.1 200 -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).ok();
                    stream.write_all(&body).ok();
                });
            }
        });
        Self { url, fetched }
    }

    /// The arguments of every call.
    fn arguments<'a>(&'a self, task: &'a str, api: &'a str) -> Vec<&'a str> {
        vec![
            "work",
            "--cache-home",
            "store",
            "--reference-url",
            api,
            "--horde",
            &self.url,
            "--models",
            task,
        ]
    }
}

fn records(here: &str) -> Value {
    let file = |name: &str, path: &str| json!({"file_name": name, "file_url": format!("{here}{path}"), "sha256sum": SUM, "size_bytes": CONTENT.len()});
    let mut shared = file("shared.safetensors", "/shared");
    shared["file_purpose"] = json!("vae");
    json!({
        "One": {"name": "One", "baseline": "stable_diffusion_1",
                "config": {"download": [file("one.safetensors", "/one"), shared]}},
        "Two": {"name": "Two", "baseline": "stable_diffusion_xl",
                "config": {"download": [file("two.safetensors", "/two"), shared]}},
        "Wrong": {"name": "Wrong", "baseline": "stable_diffusion_1",
                  "config": {"download": [file("wrong.safetensors", "/wrong")]}}
    })
}

fn states(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| {
        format!(
            "{} {}",
            row["name"].as_str().unwrap(),
            row["state"].as_str().unwrap()
        )
    })
    .collect()
}

fn asked(folder: &Path, service: &Service, task: &str, names: &[&str]) -> Value {
    let api = format!("{}/api", service.url);
    let arguments = [&service.arguments(task, &api)[..], names, &["--json"]].concat();
    run_json(folder, &arguments)
}

#[test]
fn models_are_listed_fetched_verified_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let ask = |task: &str, names: &[&str]| asked(folder.path(), &service, task, names);
    assert_eq!(
        states(&ask("list", &[]))[..3],
        ["One missing", "Two missing", "Wrong missing"]
    );
    let plan = ask("fetch", &["One", "--plan"]);
    assert_eq!(plan[0]["missing_bytes"], 2 * CONTENT.len());
    assert_eq!(service.fetched.load(Ordering::SeqCst), 0);
    assert_eq!(states(&ask("fetch", &["top 1"])), ["Two fetched"]);
    assert_eq!(
        states(&ask("fetch", &["Two", "One"])),
        ["One fetched", "Two present"]
    );
    assert_eq!(service.fetched.load(Ordering::SeqCst), 3);
    assert_eq!(
        states(&ask("verify", &[])),
        ["One right", "One right", "Two right", "Two right"]
    );
    let removed = ask("remove", &["One"]);
    assert_eq!(
        removed[0]["freed_bytes"],
        CONTENT.len(),
        "the other model needs the shared file"
    );
    assert_eq!(
        states(&ask("list", &[])),
        [
            "One partial",
            "Two present",
            "Wrong missing",
            "blip-image-captioning-large missing",
            "clip-vit-large-patch14 missing",
            "stable-diffusion-safety-checker missing"
        ]
    );
}

#[test]
fn readers_of_pictures_are_fetched_by_the_form_that_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let ask = |task: &str, names: &[&str]| {
        let names = [names, &["--hub", &service.url]].concat();
        asked(folder.path(), &service, task, &names)
    };
    let fetched = ask("fetch", &["caption", "One"]);
    assert_eq!(
        states(&fetched),
        ["One fetched", "blip-image-captioning-large fetched"]
    );
    let reader = folder.path().join("store/blip/blip-image-captioning-large");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        assert_eq!(std::fs::read(reader.join(file)).unwrap(), CONTENT, "{file}");
    }
    let named = ["blip-image-captioning-large"];
    let kept = states(&ask("verify", &named));
    assert_eq!(kept, ["blip-image-captioning-large unchecked"; 3]);
    ask("remove", &named);
    assert!(!reader.join("model.safetensors").exists());
    // Where the checksum is known, no other file is taken for it.
    let api = format!("{}/api", service.url);
    let arguments = service.arguments("fetch", &api);
    let arguments = [&arguments[..], &["interrogation", "--hub", &service.url]].concat();
    let refused = run(folder.path(), &arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("checksum"), "{refused:?}");
    assert!(
        !folder
            .path()
            .join("store/clip/clip-vit-large-patch14/config.json")
            .exists()
    );
}

#[test]
fn what_goes_wrong_is_told_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let api = format!("{}/api", service.url);
    let call = |task: &str, names: &[&str]| {
        let output = run(
            folder.path(),
            &[&service.arguments(task, &api)[..], names].concat(),
        );
        assert_eq!(output.status.code(), Some(1), "{task} {names:?}");
        text(&output.stdout) + &text(&output.stderr)
    };
    assert!(call("fetch", &["Typo"]).contains("`Typo`"));
    assert!(call("fetch", &[]).contains("name the models"));
    assert!(call("remove", &[]).contains("name the models"));
    let wrong = call("fetch", &["Wrong"]);
    assert!(wrong.contains("checksum"), "{wrong}");
    let store = folder.path().join("store/compvis");
    assert!(!store.join("wrong.safetensors").exists());
    std::fs::write(store.join("one.safetensors"), "spoilt").unwrap();
    assert!(call("verify", &["One"]).contains("wrong"));
    std::fs::write(
        folder.path().join("bridgeData.yaml"),
        "max_power: 0\nqueue_size: 9",
    )
    .unwrap();
    let refused = call("list", &["--bridge-data", "bridgeData.yaml"]);
    assert!(
        refused.contains("`max_power`") && refused.contains("`queue_size`"),
        "{refused}"
    );
}

#[test]
fn the_settings_of_an_existing_worker_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |settings: &str| {
        std::fs::write(folder.path().join("bridgeData.yaml"), settings).unwrap();
        let output = run(folder.path(), &["config", "check", "bridgeData.yaml"]);
        (output.status.code(), text(&output.stderr))
    };
    let good = "api_key: abcdefghijklmnopqrstuv\ndreamer_name: Me\nbrand_new: 1\n";
    let (code, told) = check(good);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("`brand_new`"), "{told}");
    let (code, told) = check("max_threads: 99\nnsfw: perhaps\n");
    assert_eq!(code, Some(1));
    assert!(
        told.contains("`max_threads`") && told.contains("`nsfw`"),
        "{told}"
    );
    let (code, told) = check("max_power: 8");
    assert_eq!(code, Some(1));
    assert!(
        told.contains("`api_key`") && told.contains("`worker_name`"),
        "{told}"
    );
}

#[test]
fn settings_may_come_from_the_environment_and_name_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let api = format!("{}/api", service.url);
    let mut command = ordu(folder.path());
    command
        .args(service.arguments("fetch", &api))
        .args(["-e", "--json"]);
    command.env("AIWORKER_REGEN_MODELS_TO_LOAD", "[top 1]");
    command.env("AIWORKER_REGEN_SAFETY", "remote");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(states(&rows), ["Two fetched"]);
}

#[test]
fn two_processes_that_share_a_store_fetch_each_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let api = format!("{}/api", service.url);
    let start = || {
        let mut command = ordu(folder.path());
        command
            .args(service.arguments("fetch", &api))
            .args(["One", "Two"]);
        command.spawn().unwrap()
    };
    let children = [start(), start(), start()];
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(service.fetched.load(Ordering::SeqCst), 3);
}

#[test]
fn the_doctor_compares_files_with_their_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    asked(folder.path(), &service, "fetch", &["One"]);
    let api = format!("{}/api", service.url);
    let level = || {
        let arguments = [
            "doctor",
            "work",
            "--json",
            "--cache-home",
            "store",
            "--reference-url",
            &api,
        ];
        // There is no horde either; that is told beside.
        let others = ["--horde", "http://127.0.0.1:1", "--api-key", "a-key"];
        let output = run(folder.path(), &[&arguments[..], &others].concat());
        let told = text(&output.stdout);
        let report: Value = serde_json::from_str(&told).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let mut found = findings.iter().filter(|it| it["check"] == "checksums");
        let found = found.next().expect(&told);
        (found["level"].as_str().unwrap().to_owned(), told)
    };
    let (before, told) = level();
    assert_eq!(before, "fine", "{told}");
    std::fs::write(
        folder.path().join("store/compvis/one.safetensors"),
        "spoilt",
    )
    .unwrap();
    let (after, told) = level();
    assert_eq!(after, "wrong", "{told}");
}
