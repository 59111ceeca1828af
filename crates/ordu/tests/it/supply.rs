//! `ordu work` with models that come while it works, with the real binary. The horde, the reference, the
//! files and the ComfyUI are one small server.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::ordu;

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the world knows.
struct World {
    url: String,
    folder: PathBuf,
    pops: Sender<Value>,
    /// Every path that was asked for.
    asked: (Mutex<Vec<String>>, Condvar),
    /// Whether the first model was offered.
    offered: (Mutex<bool>, Condvar),
}

/// Starts the world; the bodies of pops come out.
fn world(folder: &Path) -> (Arc<World>, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (pops, seen) = channel();
    let world = Arc::new(World {
        url: format!("http://{}", listener.local_addr().unwrap()),
        folder: folder.to_owned(),
        pops,
        asked: (Mutex::default(), Condvar::new()),
        offered: (Mutex::new(false), Condvar::new()),
    });
    let serving = world.clone();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let world = serving.clone();
            std::thread::spawn(move || world.serve(stream));
        }
    });
    (world, seen)
}

/// Reads one request: its path and its body.
fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let path = head.split(' ').nth(1)?.to_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < end + length {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
    }
    Some((path, bytes[end..].to_vec()))
}

impl World {
    fn serve(&self, mut stream: TcpStream) {
        let Some((path, body)) = read(&mut stream) else {
            return;
        };
        let (status, body) = self.answer(&path, &body);
        self.asked.0.lock().unwrap().push(path);
        self.asked.1.notify_all();
        let head = format!(
            "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok();
        stream.write_all(&body).ok();
    }

    /// Waits until somebody has asked for this.
    fn wait_for(&self, path: &str) {
        let asked = self.asked.0.lock().unwrap();
        let is_missing = |asked: &mut Vec<String>| !asked.iter().any(|known| known == path);
        let waited = self.asked.1.wait_timeout_while(asked, PATIENCE, is_missing);
        assert!(!waited.unwrap().1.timed_out(), "nobody asks for {path}");
    }

    fn answer(&self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let told = |value: Value| (200, value.to_string().into_bytes());
        match path {
            "/api/model_references/v2/image_generation" => told(self.reference()),
            "/api/v2/generate/pop" => {
                let pop: Value = serde_json::from_slice(body).unwrap();
                *self.offered.0.lock().unwrap() = true;
                self.offered.1.notify_all();
                self.pops.send(pop).ok();
                told(json!({"id": null, "ids": [], "payload": {}, "skipped": {}}))
            }
            "/api/model_references/v2/esrgan" => {
                let url = format!("{}/helper", self.url);
                let file = json!({"file_name": "RealESRGAN_x4plus.safetensors", "file_url": url});
                told(json!({"RealESRGAN_x4plus": {"config": {"download": [file]}}}))
            }
            "/helper" => (200, b"three".to_vec()),
            "/api/v2/status/models?type=image" => {
                let model = |name: &str, queued: f64| json!({"name": name, "queued": queued, "type": "image", "count": 1});
                let short = model("A First Model", 5e6);
                told(json!([
                    short,
                    model("B Second Model", 1e6),
                    model("C Newer Model", 9e6)
                ]))
            }
            "/comfy/system_stats" => told(json!({"system": {}, "devices": []})),
            "/comfy/object_info" => told(self.nodes()),
            "/comfy/embeddings" => told(json!(self.stems("ti"))),
            "/first" => (200, b"one".to_vec()),
            // The second model comes only after the first was offered.
            "/second" => {
                let offered = self.offered.0.lock().unwrap();
                drop(self.offered.1.wait_while(offered, |offered| !*offered));
                (200, b"two".to_vec())
            }
            _ => (404, Vec::new()),
        }
    }

    fn reference(&self) -> Value {
        let record = |path: &str, file: &str| {
            let download = json!({"file_name": file, "file_url": format!("{}{path}", self.url)});
            json!({"baseline": "stable_diffusion_1", "config": {"download": [download]}})
        };
        let mut newer = record("/first", "newer.safetensors");
        newer["min_bridge_version"] = json!(99);
        json!({
            "A First Model": record("/first", "first_v1.safetensors"),
            "B Second Model": record("/second", "second_v7.safetensors"),
            "C Newer Model": newer,
        })
    }

    /// The files of a folder of the store, as a ComfyUI that shares it lists them.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("store").join(folder));
        let files = entries.into_iter().flatten().flatten();
        let files = files.map(|entry| entry.file_name().into_string().unwrap());
        files
            .filter(|file| file.ends_with(".safetensors"))
            .collect()
    }

    fn stems(&self, folder: &str) -> Vec<String> {
        let files = self.files(folder).into_iter();
        files
            .map(|file| file.trim_end_matches(".safetensors").to_owned())
            .collect()
    }

    fn nodes(&self) -> Value {
        let node =
            |input: &str, listed: Value| json!({"input": {"required": {input: [listed, {}]}}});
        let plain = || node("x", json!(["y"]));
        json!({
            "KSampler": node("sampler_name", json!(["euler"])),
            "CheckpointLoaderSimple": node("ckpt_name", json!(self.files("compvis"))),
            "LoraLoader": node("lora_name", json!(self.files("lora"))),
            "CLIPTextEncode": plain(), "VAEDecode": plain(), "PreviewImage": plain(),
            "EmptyLatentImage": plain(),
        })
    }
}

/// Weakness 9: a model is offered as soon as it is there, under the name that hordes know, while others
/// are still coming.
#[test]
fn the_offer_grows_while_models_come() {
    let folder = tempfile::tempdir().unwrap();
    let (world, pops) = world(folder.path());
    let worker = start(
        &world,
        "allow_lora: true\nmodels_to_load: [A First Model, B Second Model, C Newer Model]\n",
    );
    let first = pops.recv_timeout(PATIENCE).expect("a pop");
    assert_eq!(first["models"], json!(["A First Model"]));
    assert_eq!(
        first["allow_lora"], true,
        "the proof lies in the shared folder"
    );
    let both = json!(["A First Model", "B Second Model"]);
    let grown = loop {
        let pop = pops.recv_timeout(PATIENCE).expect("a pop with both models");
        if pop["models"] != first["models"] {
            break pop;
        }
    };
    assert_eq!(grown["models"], both);
    let here = |name: &str| folder.path().join("store/compvis").join(name).exists();
    assert!(here("first_v1.safetensors") && here("second_v7.safetensors"));
    assert!(!here("newer.safetensors"), "it needs a newer worker");
    stop(worker);
}

/// A worker in front of the ComfyUI of the world, with these settings.
fn start(world: &World, settings: &str) -> Child {
    configure(world, settings);
    let mut command = ordu(&world.folder);
    command.args([
        "work",
        "--bridge-data",
        "bridgeData.yaml",
        "--cache-home",
        "store",
    ]);
    command.args([
        "--horde",
        &world.url,
        "--reference-url",
        &format!("{}/api", world.url),
    ]);
    command.args(["--engine", &format!("comfyui={}/comfy", world.url), "--sfw"]);
    // Nobody outside this machine is asked.
    command.env("GITHUB_PROXY_URL_BASE", format!("{}/", world.url));
    command.stderr(Stdio::null()).spawn().unwrap()
}

fn configure(world: &World, settings: &str) {
    let settings = format!("api_key: abcdefghijklmnopqrstuv\ndreamer_name: Me\n{settings}");
    std::fs::write(world.folder.join("bridgeData.yaml"), settings).unwrap();
}

fn stop(mut worker: Child) {
    let id = worker.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert_eq!(worker.wait().unwrap().code(), Some(0));
}

/// Waits for a pop that offers these models.
fn offered(pops: &Receiver<Value>, models: &Value) {
    while pops.recv_timeout(PATIENCE).expect("a pop")["models"] != *models {}
}

#[test]
fn what_much_work_waits_for_is_fetched_and_offered() {
    let folder = tempfile::tempdir().unwrap();
    let (world, pops) = world(folder.path());
    let follows = "models_to_load: [A First Model]\ndynamic_models: true\n";
    let worker = start(&world, &format!("{follows}number_of_dynamic_models: 1\n"));
    offered(&pops, &json!(["A First Model", "B Second Model"]));
    stop(worker);
}

#[test]
fn what_a_feature_needs_is_fetched_when_it_is_switched_on() {
    let folder = tempfile::tempdir().unwrap();
    let (world, pops) = world(folder.path());
    let worker = start(&world, "models_to_load: [A First Model]\n");
    offered(&pops, &json!(["A First Model"]));
    let on = "models_to_load: [A First Model]\nallow_post_processing: true\n";
    configure(&world, on);
    world.wait_for("/helper");
    stop(worker);
}
