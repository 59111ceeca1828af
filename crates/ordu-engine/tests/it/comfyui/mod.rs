//! The ComfyUI engine against a server that speaks ComfyUI's protocol and checks every graph.

mod capabilities;
mod failures;
mod forms;
mod pipelines;
mod server;
mod stock;
mod validate;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ordu_engine::remote::comfyui::{ComfyEngine, ComfyOptions};
use ordu_engine::{Engine, EngineError, ImageTask, Picture, ProgressSink, Step};
use server::Comfy;
use tokio::runtime::Runtime;

/// A runtime, a server and an engine that uses it.
pub(crate) struct Stage {
    pub(crate) comfy: Comfy,
    pub(crate) engine: ComfyEngine,
    pub(crate) runtime: Runtime,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(stock::full())
    }

    pub(crate) fn with(info: serde_json::Value) -> Self {
        Self::opened(info, options())
    }

    pub(crate) fn opened(info: serde_json::Value, options: ComfyOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let comfy = Comfy::start(&runtime, info);
        let engine = ComfyEngine::open(&comfy.url(), runtime.handle().clone(), options).unwrap();
        Self {
            comfy,
            engine,
            runtime,
        }
    }

    pub(crate) fn run(&self, task: ImageTask) -> Result<Vec<Picture>, EngineError> {
        self.engine.run(task, &Notes::default())
    }

    pub(crate) fn fails(&self, task: ImageTask) -> String {
        self.run(task).unwrap_err().to_string()
    }
}

pub(crate) fn options() -> ComfyOptions {
    ComfyOptions {
        models: stock::models(),
        poll_interval: Duration::from_millis(20),
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
        retry_first: Duration::from_millis(1),
        retry_last: Duration::from_millis(1),
        ..ComfyOptions::default()
    }
}

/// Takes notes, and stops after the first step if it is told to.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) steps: Mutex<Vec<(u32, u32)>>,
    pub(crate) previews: Mutex<usize>,
    pub(crate) stop_at_first: bool,
    pub(crate) stop: AtomicBool,
}

impl ProgressSink for Notes {
    fn step(&self, step: Step) {
        self.steps.lock().unwrap().push((step.step, step.of));
        *self.previews.lock().unwrap() += usize::from(step.preview.is_some());
        self.stop.fetch_or(self.stop_at_first, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wants_preview(&self) -> bool {
        true
    }
}
