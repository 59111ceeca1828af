//! One graph from upload to pictures.

use std::collections::BTreeMap;
use std::time::Duration;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ComfyOptions;
use super::client::{Api, StoredPicture};
use super::graph::Graph;
use super::watch::{Told, Watch, failure};
use crate::plan::pipeline::{self, Pipeline};
use crate::plan::post;
use crate::{EngineError, ImageTask, ModelInfo, Picture, ProgressSink, Step};

/// How often the job is asked whether to go on.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// How often in a row the history may not answer.
const MAX_UNANSWERED: u32 = 3;

/// A job and what it needs.
pub(super) struct Job<'a> {
    pub(super) api: &'a Api,
    pub(super) options: &'a ComfyOptions,
    pub(super) task: &'a ImageTask,
    pub(super) graph: &'a Graph,
    pub(super) model: &'a ModelInfo,
    /// What uploads are called: the same for a second try, so that ComfyUI sees what it has drawn
    /// already.
    pub(super) name: &'a str,
}

/// Why a job ends without pictures.
enum Stop {
    Cancelled,
    Error(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Error(error)
    }
}

impl Job<'_> {
    /// Runs it. When it has to stop, ComfyUI is told to stop too.
    pub(super) async fn run(
        &self,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        let mut queued = None;
        let made = tokio::select! {
            biased;
            made = self.make(progress, &mut queued) => made.map_err(Stop::Error),
            () = cancelled(progress) => Err(Stop::Cancelled),
        };
        let Some(id) = queued else {
            return made.map_err(reason);
        };
        if made.is_err() {
            self.abort(&id).await;
        }
        if let Err(Stop::Error(error)) = &made
            && is_out_of_memory(error)
        {
            let everything = json!({"unload_models": true, "free_memory": true});
            drop(self.api.tell("free", &everything).await);
        }
        // Its memory of the prompt goes with the job. That this fails is no reason to lose pictures.
        drop(self.api.tell("history", &json!({"delete": [id]})).await);
        made.map_err(reason)
    }

    async fn make(
        &self,
        progress: &dyn ProgressSink,
        queued: &mut Option<String>,
    ) -> Result<Vec<Picture>, EngineError> {
        let client = super::random_name();
        let mut names = Vec::new();
        for (place, picture) in self.graph.uploads().iter().enumerate() {
            let name = format!("ordu-{}-{place}.png", self.name);
            names.push(self.api.upload(&name, picture.clone()).await?);
        }
        let opened = tokio::time::timeout(
            self.options.connect_timeout,
            Watch::open(self.api.base(), &client),
        );
        let watch = opened.await.ok().flatten();
        let graph = self.graph.to_json(&names);
        let id = self.api.queue(&graph, &client).await?;
        *queued = Some(id.clone());
        let entry = self.wait(&id, watch, progress).await?;
        self.collect(&entry).await
    }

    /// Takes it out of the queue, and interrupts it if it is no longer there.
    async fn abort(&self, id: &str) {
        drop(self.api.tell("queue", &json!({"delete": [id]})).await);
        // Old versions interrupt whatever runs and know no id: ask first whether that is this one.
        if self.is_running(id).await {
            drop(self.api.tell("interrupt", &json!({"prompt_id": id})).await);
        }
    }

    async fn is_running(&self, id: &str) -> bool {
        let queue = self.api.get("queue").await.unwrap_or_default();
        let running = queue.get("queue_running").and_then(Value::as_array);
        let mut entries = running.into_iter().flatten();
        entries.any(|entry| entry.get(1).and_then(Value::as_str) == Some(id))
    }

    /// Waits until the graph is done; its entry of the history.
    async fn wait(
        &self,
        id: &str,
        mut watch: Option<Watch>,
        progress: &dyn ProgressSink,
    ) -> Result<Value, EngineError> {
        let mut meter = Meter::new(self.graph, progress);
        let mut unanswered = 0;
        let mut alive = Instant::now();
        let mut poll = interval(self.options.poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.tick().await;
        loop {
            // What the socket holds is heard before the history is asked, which would be the end of it.
            let told = tokio::select! {
                biased;
                told = next(&mut watch) => told,
                _ = poll.tick() => None,
            };
            if alive.elapsed() > self.options.stall_timeout {
                let limit = self.options.stall_timeout.as_secs();
                return Err(self.api.failed(format!("no progress for {limit} s")));
            }
            match told {
                Some(Told::Done { graph }) if graph == id => {}
                Some(Told::Failed { graph, reason }) if graph == id => {
                    return Err(self.api.failed(reason));
                }
                Some(told) => {
                    if meter.note(told, id) {
                        alive = Instant::now();
                    }
                    continue;
                }
                None => {}
            }
            match self.history(id).await {
                Ok(Some(entry)) => return Ok(entry),
                Ok(None) => unanswered = 0,
                Err(error @ EngineError::Unreachable { .. }) => {
                    unanswered += 1;
                    if unanswered >= MAX_UNANSWERED {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The entry of a graph that has ended; `None` while it has not.
    async fn history(&self, id: &str) -> Result<Option<Value>, EngineError> {
        let history = self.api.get(&format!("history/{id}")).await?;
        let Some(entry) = history.get(id) else {
            return Ok(None);
        };
        let status = entry.get("status");
        let word = status.and_then(|status| status.get("status_str")?.as_str());
        if word == Some("error") {
            let messages = status.and_then(|status| status.get("messages")?.as_array());
            let mut messages = messages.into_iter().flatten();
            let told = messages.find(|message| message.get(0) == Some(&json!("execution_error")));
            let told = told.and_then(|message| message.get(1));
            let reason = told.map_or_else(|| "the history says: error".to_owned(), failure);
            return Err(self.api.failed(reason));
        }
        Ok(Some(entry.clone()))
    }

    /// The pictures of an entry, if they are what was asked for.
    async fn collect(&self, entry: &Value) -> Result<Vec<Picture>, EngineError> {
        let result = self.graph.result().unwrap_or_default();
        let output = entry
            .get("outputs")
            .and_then(|outputs| outputs.get(&result));
        let listed = output.and_then(|output| output.get("images")?.as_array());
        let stored: Option<Vec<StoredPicture>> = listed.map_or(Some(Vec::new()), |listed| {
            listed.iter().map(StoredPicture::read).collect()
        });
        let stored = stored.ok_or_else(|| self.api.failed("its list of pictures is none"))?;
        let is_map = pipeline::choose(self.task, self.model) == Pipeline::Annotator;
        let expected = if is_map { 1 } else { self.task.batch as usize };
        if stored.len() != expected {
            return Err(self
                .api
                .failed(format!("{} pictures, not {expected}", stored.len())));
        }
        let mut pictures = Vec::new();
        for picture in &stored {
            let image = self.api.picture(picture).await?;
            let image = self.measured(image, is_map)?;
            pictures.push(Picture {
                image,
                seed: self.task.seed,
                scans: None,
            });
        }
        if is_map && let Some(map) = pictures.first().cloned() {
            pictures.resize(self.task.batch as usize, map);
        }
        Ok(pictures)
    }

    /// A picture of the right size. Maps come in the size that their maker likes.
    fn measured(&self, image: DynamicImage, is_map: bool) -> Result<DynamicImage, EngineError> {
        let factor = post::factor(&self.task.post);
        let (width, height) = (self.task.width * factor, self.task.height * factor);
        if (image.width(), image.height()) == (width, height) {
            return Ok(image);
        }
        if is_map {
            return Ok(image.resize_exact(width, height, FilterType::Lanczos3));
        }
        let (got, tall) = (image.width(), image.height());
        Err(self
            .api
            .failed(format!("a picture of {got}x{tall}, not {width}x{height}")))
    }
}

fn reason(stop: Stop) -> EngineError {
    match stop {
        Stop::Cancelled => EngineError::Cancelled,
        Stop::Error(error) => error,
    }
}

fn is_out_of_memory(error: &EngineError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("out of memory") || text.contains("outofmemory")
}

async fn cancelled(progress: &dyn ProgressSink) {
    let mut ticks = interval(CANCEL_INTERVAL);
    while !progress.cancelled() {
        ticks.tick().await;
    }
}

/// The next message; nothing, for ever, once the socket is closed.
async fn next(watch: &mut Option<Watch>) -> Option<Told> {
    let Some(open) = watch else {
        return std::future::pending().await;
    };
    let told = open.next().await;
    if told.is_none() {
        *watch = None;
    }
    told
}

/// Adds up the progress of all samplers.
struct Meter<'a> {
    progress: &'a dyn ProgressSink,
    samplers: Vec<String>,
    of: u32,
    done: BTreeMap<String, u32>,
    preview: Option<RgbImage>,
}

impl<'a> Meter<'a> {
    fn new(graph: &Graph, progress: &'a dyn ProgressSink) -> Self {
        Self {
            progress,
            samplers: graph.samplers(),
            of: graph.steps().max(1),
            done: BTreeMap::new(),
            preview: None,
        }
    }

    /// Whether it is a sign of life of this graph.
    fn note(&mut self, told: Told, id: &str) -> bool {
        match told {
            Told::Executing { graph } => graph == id,
            Told::Preview(picture) => {
                if self.progress.wants_preview() {
                    self.preview = Some(picture);
                }
                true
            }
            Told::Progress { graph, node, value } if graph == id => {
                if self.samplers.contains(&node) {
                    self.step(node, value);
                }
                true
            }
            _ => false,
        }
    }

    fn step(&mut self, node: String, value: u32) {
        self.done.insert(node, value);
        let sum = self
            .done
            .values()
            .fold(0, |sum: u32, steps| sum.saturating_add(*steps));
        self.progress.step(Step {
            step: sum.clamp(1, self.of),
            of: self.of,
            preview: self.preview.take(),
        });
    }
}
