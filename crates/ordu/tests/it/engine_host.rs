//! The engine in a process of its own: what it makes, and what is left when it dies.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
use ordu_engine::{
    Engine as _, EngineError, HostTiming, HostedEngine, ImageTask, Mode, NativeEngine,
    NativeOptions, Picture, ProgressSink, Quiet, Source, Step,
};

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
    assert_eq!(there.capabilities(), here.capabilities());
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
