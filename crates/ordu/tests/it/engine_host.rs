//! The engine in a process of its own: what it makes, and what is left when it dies.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
use ordu_api::ApiKey;
use ordu_api::image::{ImageParams, ImageRequest};
use ordu_client::{Horde, Pace};
use ordu_engine::{
    Engine, EngineError, Feature, HostTiming, HostedEngine, ImageTask, Lora, Mode, NativeEngine,
    NativeOptions, NativeText, NativeTextOptions, Picture, ProgressSink, Quiet, Source, Spread,
    Step, TextEngine, TextError, TextTask,
};
use ordu_worker::{Config, Engines, Level, Shutdown, Stage, Status, Timing};
use tokio::sync::watch;

use crate::program::{Running, run_json};

/// Waits that end soon where the defaults are long.
const HASTY: HostTiming = HostTiming {
    start: Duration::from_secs(20),
    silence: Duration::from_secs(20),
    step: Duration::from_secs(2),
    cancel: Duration::from_secs(20),
    back_off: Duration::from_millis(1),
    max_back_off: Duration::from_millis(2),
};

fn start() -> HostedEngine {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordu"));
    command.arg("engine-host");
    HostedEngine::start(command, HASTY).unwrap()
}

fn task(steps: u32) -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps,
        seed: 7,
        ..ImageTask::new("ordu-tiny", "a large red circle on a blue background")
    }
}

/// What is added to the weights of a model, and what is wrong with it, goes through the process.
#[test]
fn loras_of_a_folder_are_drawn_with_and_strange_ones_told() {
    let folder = tempfile::tempdir().unwrap();
    let from = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../ordu-engine/testdata/ordu-tiny-yellow.safetensors"
    );
    std::fs::copy(from, folder.path().join("yellow.safetensors")).unwrap();
    std::fs::write(folder.path().join("bad.safetensors"), "x").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordu"));
    command
        .arg("engine-host")
        .arg("--loras-dir")
        .arg(folder.path());
    let hosted = HostedEngine::start(command, HASTY).unwrap();
    let offered = Engine::capabilities(&hosted).features;
    assert!(offered.contains(&Feature::Lora));
    let with = |file: &str| ImageTask {
        loras: vec![Lora {
            file: file.to_owned(),
            model: 1.0,
            clip: 1.0,
        }],
        ..task(4)
    };
    let here = NativeEngine::open(&NativeOptions {
        loras: vec![folder.path().to_owned()],
        ..NativeOptions::default()
    })
    .unwrap();
    let drawn = |engine: &dyn Engine, task| engine.run(task, &Quiet).unwrap();
    let changed = drawn(&hosted, with("yellow.safetensors"));
    assert_eq!(changed, drawn(&here, with("yellow.safetensors")));
    assert_ne!(changed, drawn(&here, task(4)));
    let error = Engine::run(&hosted, with("bad.safetensors"), &Quiet).unwrap_err();
    assert!(matches!(error, EngineError::BadAddOn { .. }), "{error}");
    let error = Engine::run(&hosted, with("none"), &Quiet).unwrap_err();
    assert!(matches!(error, EngineError::NoAddOn { .. }), "{error}");
}

/// Counts steps, and does something at one of them.
struct At<F> {
    step: u32,
    what: F,
    cancelled: AtomicBool,
    seen: AtomicU32,
}

impl<F: Fn() -> bool> At<F> {
    fn new(step: u32, what: F) -> Self {
        Self {
            step,
            what,
            cancelled: AtomicBool::new(false),
            seen: AtomicU32::new(0),
        }
    }
}

impl<F: Fn() -> bool> ProgressSink for At<F> {
    fn step(&self, step: Step) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if step.step == self.step {
            self.cancelled.store((self.what)(), Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn signal(engine: &HostedEngine, name: &str) {
    let id = engine.process_id().unwrap().to_string();
    let sent = Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn it_makes_what_the_engine_makes_here() {
    let here = NativeEngine::open(&NativeOptions::default()).unwrap();
    let there = start();
    assert_eq!(Engine::capabilities(&there), here.capabilities());
    let mut mask = GrayImage::new(64, 64);
    for (x, _, pixel) in mask.enumerate_pixels_mut() {
        *pixel = Luma([if x < 32 { 255 } else { 0 }]);
    }
    let source = Source {
        image: DynamicImage::ImageRgb8(RgbImage::from_pixel(64, 64, Rgb([200, 30, 30]))),
        mask: Some(mask),
        denoising_strength: 0.7,
    };
    let inpaint = ImageTask {
        mode: Mode::Inpaint(source),
        batch: 2,
        ..task(4)
    };
    for task in [task(4), inpaint] {
        let expected: Vec<Picture> = here.run(task.clone(), &Quiet).unwrap();
        assert_eq!(there.run(task, &Quiet).unwrap(), expected);
    }
    assert_eq!(there.holdings().models[0].model, "ordu-tiny");
    let unknown = there.run(ImageTask::new("nobody", "x"), &Quiet);
    assert!(
        matches!(&unknown, Err(EngineError::UnknownModel { name, .. }) if name == "nobody"),
        "{unknown:?}"
    );
}

/// Checklist: child messages of an old launch are ignored.
#[test]
fn a_killed_one_costs_one_task_and_is_replaced() {
    let engine = start();
    let first = engine.process_id().unwrap();
    let sink = At::new(3, || {
        signal(&engine, "-KILL");
        false
    });
    let lost = engine.run(task(500), &sink);
    assert!(
        matches!(&lost, Err(EngineError::Crashed { reason }) if reason.contains("signal: 9")),
        "{lost:?}"
    );
    assert_eq!(engine.run(task(2), &Quiet).unwrap().len(), 1);
    assert_ne!(engine.process_id(), Some(first));
}

#[test]
fn a_cancelled_task_ends_and_the_process_lives_on() {
    let engine = start();
    let first = engine.process_id();
    let sink = At::new(2, || true);
    let ended = engine.run(task(500), &sink);
    assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
    assert!(sink.seen.load(Ordering::Relaxed) < 400);
    assert_eq!(engine.process_id(), first);
}

#[test]
fn a_stopped_one_is_taken_for_hung() {
    let engine = start();
    let sink = At::new(3, || {
        signal(&engine, "-STOP");
        false
    });
    let began = Instant::now();
    let hung = engine.run(task(500), &sink);
    assert!(
        matches!(&hung, Err(EngineError::Crashed { reason }) if reason == "it hung"),
        "{hung:?}"
    );
    assert!(began.elapsed() < HASTY.silence);
}

#[test]
fn nothing_is_left_behind() {
    let engine = start();
    let id = engine.process_id().unwrap();
    drop(engine);
    let began = Instant::now();
    while std::path::Path::new(&format!("/proc/{id}")).exists() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

#[test]
fn what_is_no_engine_is_told() {
    let impatient = HostTiming {
        start: Duration::from_millis(500),
        ..HASTY
    };
    for (program, arguments, told) in [
        ("/nowhere/ordu", vec![], "cannot be started"),
        ("true", vec![], "exit status: 0"),
        ("sh", vec!["-c", "exit 3"], "exit status: 3"),
        ("sh", vec!["-c", "echo hello world; cat"], "not a message"),
        ("cat", vec![], "did not start in time"),
    ] {
        let mut command = Command::new(program);
        command.args(arguments);
        let refused = HostedEngine::start(command, impatient);
        assert!(
            matches!(&refused, Err(EngineError::Crashed { reason }) if reason.contains(told)),
            "{program}: {refused:?}"
        );
    }
}

/// How often the engine is killed unless `ORDU_ENGINE_KILLS=N` says otherwise.
const KILLS: u64 = 5;

/// Kills the engine once in each job, while it is being sampled.
async fn kill_in_each_job(engine: &HostedEngine, mut status: watch::Receiver<Status>) -> u64 {
    let mut killed = BTreeSet::new();
    while status.changed().await.is_ok() {
        let seen = status.borrow_and_update().clone();
        for job in &seen.jobs {
            let is_sampled = matches!(job.stage, Stage::Sampling { step: 2.., .. });
            if is_sampled && killed.insert(job.id) {
                signal(engine, "-KILL");
            }
        }
    }
    killed.len() as u64
}

/// Memory of this process that is not swapped out, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// Asks for pictures, twenty at a time, and waits for all of them.
async fn ask_for(horde: &Horde, pictures: u64) -> u64 {
    let mut finished = 0;
    let mut left = pictures;
    while left > 0 {
        let n = left.min(20);
        let request = ImageRequest {
            prompt: "a red circle on blue".to_owned(),
            models: vec!["ordu-tiny".to_owned()],
            params: ImageParams {
                width: Some(64),
                height: Some(64),
                steps: Some(12),
                n: Some(u32::try_from(n).unwrap()),
                ..ImageParams::default()
            },
            ..ImageRequest::default()
        };
        let accepted = horde.async_image(&request).await.unwrap();
        let done = horde.wait_for(accepted.id, &Pace::default(), |_| {}).await;
        finished += u64::from(done.unwrap().finished);
        left -= n;
    }
    finished
}

#[expect(
    clippy::disallowed_methods,
    reason = "a setting of the test, not of the program"
)]
fn kills() -> u64 {
    std::env::var("ORDU_ENGINE_KILLS").map_or(KILLS, |text| text.parse().unwrap())
}

/// Says to this program that it is the process of the test alone.
const ALONE: &str = "ORDU_TEST_ALONE";

/// Checklist: killing the engine host mid-job gives exactly one fault; here none, since a job is tried
/// once more. In a process of its own: what other tests do would count as the worker's memory.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a setting of the test, not of the program"
)]
fn jobs_survive_the_death_of_their_engine() {
    if std::env::var(ALONE).is_ok() {
        return jobs_are_done_through_deaths(kills());
    }
    let name = "engine_host::jobs_survive_the_death_of_their_engine";
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&test.stdout);
    println!("{told}{}", String::from_utf8_lossy(&test.stderr));
    assert!(test.status.success() && told.contains("1 passed"));
}

#[expect(clippy::print_stdout, reason = "a long run says what it did")]
fn jobs_are_done_through_deaths(kills: u64) {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["serve", "--no-rate-limits"]);
    let add = [
        "admin",
        "user",
        "add",
        "--name",
        "ada",
        "--trusted",
        "--kudos",
        "90000",
    ];
    let owner = run_json(
        folder.path(),
        &[&add[..], &["--data", "data", "--json"]].concat(),
    );
    let key = ApiKey::new(owner["api_key"].as_str().unwrap());
    let horde = Horde::new(&server.url, key.clone(), "test:1:x").unwrap();
    let config = Config {
        horde_url: server.url.clone(),
        api_key: key,
        worker_name: "mortal".to_owned(),
        max_power: 8,
        timing: Timing {
            pop_interval: Duration::from_millis(10),
            failure_pause: Duration::from_millis(10),
            ..Timing::default()
        },
        ..Config::default()
    };
    let engine = Arc::new(start());
    let (sender, seen) = watch::channel(Status::default());
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (finished, killed, last) = runtime.block_on(async {
        let running = ordu_worker::run(
            config,
            Engines::from(Arc::clone(&engine)),
            shutdown.clone(),
            sender,
        );
        let asking = async {
            let first = ask_for(&horde, 1).await;
            let early = resident_kib();
            let finished = first + ask_for(&horde, kills - 1).await;
            assert!(
                resident_kib() < early + 16_384,
                "the worker grew from {early} KiB"
            );
            shutdown.raise(Level::Drain);
            finished
        };
        let (finished, killed, last) =
            tokio::join!(asking, kill_in_each_job(&engine, seen), running);
        (finished, killed, last.unwrap())
    });
    println!(
        "{killed} kills: {finished} pictures, {} jobs done, {} faulted",
        last.done, last.faulted
    );
    assert_eq!((finished, killed), (kills, kills));
    assert_eq!((last.done, last.faulted), (kills, 0));
    assert_eq!(server.terminate(), Some(0));
}

/// Notes what is told of a text, and wants no more after so many pieces.
struct Listener {
    pieces: std::sync::Mutex<Vec<String>>,
    enough: usize,
}

impl ProgressSink for Listener {
    fn step(&self, _step: Step) {}

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&self, so_far: &str) {
        let mut pieces = self.pieces.lock().unwrap();
        let piece = so_far.strip_prefix(&pieces.concat()).unwrap().to_owned();
        pieces.push(piece);
    }

    fn cancelled(&self) -> bool {
        self.pieces.lock().unwrap().len() >= self.enough
    }
}

#[test]
fn it_writes_what_the_engine_writes_here() {
    let there = start();
    let task = TextTask {
        prompt: "A red circle".to_owned(),
        max_length: 60,
        max_context_length: 500,
        seed: Some(4),
        stop_sequence: vec!["happy".to_owned()],
        ..TextTask::default()
    };
    let here = NativeText::open(&NativeTextOptions::default()).unwrap();
    let known = TextEngine::capabilities(&there).unwrap();
    assert_eq!(here.capabilities().unwrap(), known);
    let listener = |enough| Listener {
        pieces: std::sync::Mutex::default(),
        enough,
    };
    let patient = listener(usize::MAX);
    let text = there.write(&task, &patient).unwrap();
    assert_eq!(text, here.write(&task, &Quiet).unwrap());
    assert_eq!(patient.pieces.into_inner().unwrap().concat(), text.text);
    let endless = TextTask {
        max_length: 4000,
        max_context_length: 4096,
        sampling: ordu_engine::Sampling {
            use_default_badwordsids: Some(true),
            ..ordu_engine::Sampling::default()
        },
        stop_sequence: Vec::new(),
        ..task.clone()
    };
    let cancelled = there.write(&endless, &listener(3));
    assert!(matches!(cancelled, Err(TextError::Cancelled)));
    let soft = TextTask {
        soft_prompt: Some("x".to_owned()),
        ..task
    };
    assert!(matches!(
        there.write(&soft, &Quiet),
        Err(TextError::Refused { .. })
    ));
}

#[test]
fn what_lies_in_memory_can_be_let_go() {
    let engine = start();
    engine.run(task(1), &Quiet).unwrap();
    assert_eq!(engine.holdings().models.len(), 1);
    engine.release();
    assert_eq!(engine.holdings().models, []);
    assert_eq!(engine.run(task(1), &Quiet).unwrap().len(), 1);
}

#[test]
fn a_device_that_dies_leaves_its_tasks_to_the_others() {
    let cards = [start(), start()].map(Arc::new);
    let engines = cards.iter().cloned();
    let spread = Spread::new(engines.map(|it| it as Arc<dyn Engine>).collect());
    let dies = At::new(1, || {
        signal(&cards[0], "-KILL");
        false
    });
    let error = spread.run(task(20), &dies).unwrap_err();
    assert!(matches!(error, EngineError::Crashed { .. }), "{error}");
    assert_eq!(spread.run(task(1), &Quiet).unwrap().len(), 1);
    assert_eq!(cards[1].holdings().models.len(), 1, "the other one drew");
    let offered = Engine::capabilities(&spread).models;
    assert_eq!(offered.len(), 1);
}
