//! The engine that lets a ComfyUI draw.
//!
//! Tasks become graphs of typed nodes ([`graph`]), one module per family of pipelines. Symbols, masks
//! and sizes are made here, so that core nodes do; what needs an add-on is offered only where
//! `/object_info` lists it. Pictures go to and fro among ComfyUI's temporary files, and its memory of
//! a prompt is deleted with the job.
//!
//! # Source
//! `worker.md` § 2.14; ComfyUI's documentation of its server (docs.comfy.org).

mod breaker;
mod client;
mod features;
pub mod graph;
mod job;
mod models;
mod nodes;
mod pipelines;
mod samplers;
mod shelf;
mod watch;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use self::breaker::Breaker;
use self::client::Api;
pub use self::models::{ComfyModel, ModelFiles};
use self::models::{Stocked, from_metadata, stocked, unlisted};
use self::shelf::Shelf;
use crate::plan::qr::Finish;
use crate::plan::{pipeline, qr};
use crate::{
    Capabilities, Engine, EngineError, Feature, Held, Holdings, ImageTask, Limits, Picture, Place,
    ProgressSink, Workflow,
};

/// How to use a ComfyUI.
#[derive(Clone, Debug)]
pub struct ComfyOptions {
    /// Models by the names that tasks use. One whose files are not there is not offered.
    pub models: Vec<ComfyModel>,
    /// The stem of a file that lies among the add-ons of jobs, LoRAs and textual inversions. Unless it
    /// is listed, what jobs bring does not get here, and neither is offered. `None`: nobody asks.
    pub proof: Option<String>,
    /// Whether checkpoints that are no such model are offered under the names of their files.
    pub unlisted: bool,
    /// The borders of a task.
    pub limits: Limits,
    /// How long what was found out is believed.
    pub probe_interval: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long a job may show no progress. Loading a large model takes minutes.
    pub stall_timeout: Duration,
    /// How often the history is asked where the WebSocket says nothing.
    pub poll_interval: Duration,
    /// How long a dead ComfyUI is left alone at first.
    pub retry_first: Duration,
    /// How long at most.
    pub retry_last: Duration,
}

impl Default for ComfyOptions {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            proof: None,
            unlisted: true,
            limits: Limits {
                max_pixels: 4096 * 4096,
                max_batch: 20,
                max_steps: 500,
            },
            probe_interval: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_mins(5),
            poll_interval: Duration::from_secs(2),
            retry_first: Duration::from_secs(2),
            retry_last: Duration::from_mins(1),
        }
    }
}

/// What a ComfyUI says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its version.
    pub version: String,
    /// The device it draws with.
    pub device: String,
    /// Memory of that device, in bytes.
    pub vram: u64,
}

/// A ComfyUI, used over its HTTP and WebSocket interface.
#[derive(Debug)]
pub struct ComfyEngine {
    api: Api,
    handle: Handle,
    options: ComfyOptions,
    known: Mutex<Known>,
    /// Held while it is being asked, so that only one thread asks.
    probing: Mutex<()>,
}

/// What was found out last.
#[derive(Debug, Default)]
struct Known {
    /// Models by the names that tasks use.
    listed: Vec<ComfyModel>,
    stock: Arc<Stock>,
    probed: Option<Instant>,
    breaker: Breaker,
    /// The model used last.
    held: Option<String>,
}

#[derive(Debug, Default)]
struct Stock {
    about: About,
    shelf: Shelf,
    models: Vec<Stocked>,
    /// Checkpoints that belong to no known model.
    unlisted: Vec<ComfyModel>,
    /// Learned words, if it says which it has.
    embeddings: Option<BTreeSet<String>>,
}

impl Stock {
    fn has_lora(&self, file: &str) -> bool {
        self.shelf.file("LoraLoader", "lora_name", file).is_some()
    }

    /// Whether it has a learned word, as far as it says.
    fn has_embedding(&self, name: &str) -> bool {
        let Some(known) = &self.embeddings else {
            return true;
        };
        known.iter().any(|word| shelf::base_name(word) == name)
    }

    /// Whether everything that a task brings is there; if not, the first that is missing.
    fn lacks(&self, task: &ImageTask) -> Option<String> {
        let loras = task.loras.iter().map(|lora| &lora.file);
        let words = task.embeddings.iter().map(|word| &word.name);
        let lora = loras.filter(|file| !self.has_lora(file));
        lora.chain(words.filter(|name| !self.has_embedding(name)))
            .next()
            .cloned()
    }
}

impl ComfyEngine {
    /// Opens the ComfyUI at this address. It need not be there yet: until it is, no model is offered.
    /// Its work is done on the runtime of `handle`.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if the address is none.
    pub fn open(url: &str, handle: Handle, options: ComfyOptions) -> Result<Self, EngineError> {
        let known = Known {
            listed: options.models.clone(),
            ..Known::default()
        };
        Ok(Self {
            api: Api::new(url, &options)?,
            handle,
            options,
            known: Mutex::new(known),
            probing: Mutex::default(),
        })
    }

    /// Uses these models from now on, by the names that tasks use, instead of those it was opened with.
    pub fn learn(&self, models: Vec<ComfyModel>) {
        let mut known = lock(&self.known);
        known.listed = models;
        known.probed = None;
    }

    /// What it says about itself; empty until it answered once.
    pub fn about(&self) -> About {
        lock(&self.known).stock.about.clone()
    }

    /// Lets go of all models and other memory.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unreachable`] or [`EngineError::Backend`].
    pub fn free(&self) -> Result<(), EngineError> {
        lock(&self.known).held = None;
        let body = json!({"unload_models": true, "free_memory": true});
        self.handle.block_on(self.api.tell("free", &body))
    }

    /// What it has, found out anew if that is due.
    fn stock(&self) -> Result<Arc<Stock>, EngineError> {
        let _one_at_a_time = lock(&self.probing);
        let now = Instant::now();
        {
            let known = lock(&self.known);
            if known.breaker.is_open(now) {
                return Err(EngineError::Unreachable {
                    backend: self.api.name(),
                    reason: "it did not answer; it is tried again soon".to_owned(),
                });
            }
            let is_fresh = |at: Instant| now.duration_since(at) < self.options.probe_interval;
            if !known.breaker.is_broken() && known.probed.is_some_and(is_fresh) {
                return Ok(known.stock.clone());
            }
        }
        self.probe()
    }

    /// Finds out what it has.
    fn probe(&self) -> Result<Arc<Stock>, EngineError> {
        match self.handle.block_on(self.look()) {
            Ok(stock) => {
                let mut known = lock(&self.known);
                if known.breaker.answered() {
                    tracing::info!("{} answers again", self.api.name());
                }
                known.probed = Some(Instant::now());
                known.stock = Arc::new(stock);
                Ok(known.stock.clone())
            }
            Err(error) => {
                self.broken(&error);
                Err(error)
            }
        }
    }

    /// Leaves it alone for a while.
    fn broken(&self, error: &EngineError) {
        let (first, last) = (self.options.retry_first, self.options.retry_last);
        let mut known = lock(&self.known);
        let is_news = !known.breaker.is_broken();
        let pause = known.breaker.failed(Instant::now(), first, last);
        drop(known);
        if is_news {
            tracing::warn!(%error, retry_s = pause.as_secs(), "no pictures for the time being");
        } else {
            tracing::debug!(%error, retry_s = pause.as_secs(), "still no answer");
        }
    }

    async fn look(&self) -> Result<Stock, EngineError> {
        let stats = self.api.get("system_stats").await?;
        let info = self.api.get("object_info").await?;
        let shelf = Shelf::read(&info);
        let shelf = shelf.ok_or_else(|| self.api.failed("`/object_info` lists no nodes"))?;
        let (listed, before) = {
            let known = lock(&self.known);
            (known.listed.clone(), known.stock.clone())
        };
        let mut models = stocked(&listed, &shelf);
        // What a file says about itself is asked once.
        let mut further = Vec::new();
        if self.options.unlisted {
            for file in unlisted(&models, &shelf) {
                let is_it =
                    |model: &&ComfyModel| model.files == ModelFiles::Checkpoint(file.clone());
                if let Some(known) = before.unlisted.iter().find(is_it) {
                    further.push(known.clone());
                    continue;
                }
                let said = self.api.metadata(&file).await?;
                further.push(from_metadata(file, said.as_ref()));
            }
            let is_new =
                |model: &&ComfyModel| models.iter().all(|known| known.info.name != model.name);
            let offered: Vec<ComfyModel> = further.iter().filter(is_new).cloned().collect();
            models.extend(stocked(&offered, &shelf));
        }
        Ok(Stock {
            about: about(&stats),
            shelf,
            models,
            unlisted: further,
            embeddings: self.embeddings().await,
        })
    }

    /// The learned words it has. Not all versions say.
    async fn embeddings(&self) -> Option<BTreeSet<String>> {
        let answer = self.api.get("embeddings").await.ok()?;
        let listed = answer.as_array()?.iter();
        let names = listed.filter_map(Value::as_str).map(str::to_owned);
        Some(names.collect())
    }

    /// What is not proven to work: add-ons that would not get here.
    fn unproven(&self, stock: &Stock) -> Vec<Feature> {
        let Some(proof) = &self.options.proof else {
            return Vec::new();
        };
        let mut unproven = Vec::new();
        if !stock.has_lora(&format!("{proof}.safetensors")) {
            unproven.push(Feature::Lora);
        }
        if stock.embeddings.is_none() || !stock.has_embedding(proof) {
            unproven.push(Feature::TextualInversion);
        }
        unproven
    }

    /// What it has, with everything that a task names, as far as asking again helps.
    fn stock_for(&self, task: &ImageTask) -> Result<Arc<Stock>, EngineError> {
        let stock = self.stock()?;
        if stock.lacks(task).is_none() {
            return Ok(stock);
        }
        // It may have been fetched a moment ago.
        let fresh = {
            let _one_at_a_time = lock(&self.probing);
            self.probe()?
        };
        match fresh.lacks(task) {
            Some(name) => Err(EngineError::NoAddOn { name }),
            None => Ok(fresh),
        }
    }

    fn check(&self, task: &ImageTask) -> Result<(), EngineError> {
        let limits = self.options.limits;
        let pixels = u64::from(task.width) * u64::from(task.height);
        let within = (1..=limits.max_pixels).contains(&pixels)
            && (1..=limits.max_steps).contains(&task.steps)
            && (1..=limits.max_batch).contains(&task.batch);
        if within && task.cfg_scale.is_finite() {
            return Ok(());
        }
        Err(EngineError::bad_task(format!(
            "{} pictures of {}x{} in {} steps with guidance {}; the most is {} of {} pixels in {} steps",
            task.batch,
            task.width,
            task.height,
            task.steps,
            task.cfg_scale,
            limits.max_batch,
            limits.max_pixels,
            limits.max_steps
        )))
    }
}

/// What tries at one task share.
struct Attempt<'a> {
    task: &'a ImageTask,
    model: &'a Stocked,
    shelf: &'a Shelf,
    name: String,
}

impl ComfyEngine {
    fn attempt(
        &self,
        attempt: &Attempt<'_>,
        finish: Finish,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        let graph = pipelines::build(attempt.task, attempt.model, attempt.shelf, finish)?;
        let job = job::Job {
            api: &self.api,
            options: &self.options,
            task: attempt.task,
            graph: &graph,
            model: &attempt.model.info,
            name: &attempt.name,
        };
        self.handle.block_on(job.run(progress))
    }

    /// Tries to scan pictures that should, and draws those that do not once more.
    fn scanned(
        &self,
        attempt: &Attempt<'_>,
        pictures: Vec<Picture>,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        let (width, height) = (attempt.task.width, attempt.task.height);
        let symbol = match &attempt.task.workflow {
            Some(Workflow::QrCode(spec)) => qr::place(spec, width, height),
            _ => None,
        };
        let Some(symbol) = symbol else {
            return Ok(pictures);
        };
        let first = self.checked(pictures, &symbol.text);
        if first.iter().all(|picture| picture.scans == Some(true)) {
            return Ok(first);
        }
        match self.attempt(attempt, Finish::Insistent, progress) {
            Ok(second) => {
                let second = self.checked(second, &symbol.text);
                let better = |(first, second): (Picture, Picture)| {
                    let is_better = first.scans != Some(true) && second.scans == Some(true);
                    if is_better { second } else { first }
                };
                Ok(first.into_iter().zip(second).map(better).collect())
            }
            Err(EngineError::Cancelled) => Err(EngineError::Cancelled),
            // Pictures that look well are worth more than none.
            Err(error) => {
                tracing::warn!(%error, "a picture that does not scan could not be drawn again");
                Ok(first)
            }
        }
    }

    /// The pictures, each with whether it scans. A scanner that breaks has not scanned.
    fn checked(&self, pictures: Vec<Picture>, text: &str) -> Vec<Picture> {
        let checked = pictures.into_iter().map(|mut picture| {
            let (image, text) = (picture.image.clone(), text.to_owned());
            let read = self.handle.spawn_blocking(move || qr::reads(&image, &text));
            picture.scans = Some(self.handle.block_on(read).unwrap_or_default());
            picture
        });
        checked.collect()
    }
}

impl Engine for ComfyEngine {
    fn capabilities(&self) -> Capabilities {
        match self.stock() {
            Ok(stock) => {
                let (models, limits) = (&stock.models, self.options.limits);
                let mut found = features::capabilities(models, &stock.shelf, limits);
                let unproven = self.unproven(&stock);
                found.features.retain(|feature| !unproven.contains(feature));
                found
            }
            Err(_) => Capabilities::nothing(self.options.limits),
        }
    }

    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        self.check(&task)?;
        let stock = self.stock_for(&task)?;
        let none = Stocked::none();
        let mut models = stock.models.iter();
        let model = models.find(|model| model.info.name == task.model);
        let needs_one = pipeline::draws(&task) || !task.model.is_empty();
        let model = model.or((!needs_one).then_some(&none));
        let Some(model) = model else {
            return Err(EngineError::UnknownModel {
                name: task.model,
                known: stock
                    .models
                    .iter()
                    .map(|model| model.info.name.clone())
                    .collect(),
            });
        };
        if needs_one {
            lock(&self.known).held = Some(task.model.clone());
        }
        let attempt = Attempt {
            task: &task,
            model,
            shelf: &stock.shelf,
            name: random_name(),
        };
        let made = self.attempt(&attempt, Finish::Usual, progress);
        let made = match made {
            Ok(pictures) => self.scanned(&attempt, pictures, progress),
            Err(error) => Err(error),
        };
        if let Err(error @ EngineError::Unreachable { .. }) = &made {
            self.broken(error);
        }
        made
    }

    fn holdings(&self) -> Holdings {
        let held = lock(&self.known).held.clone();
        let held = held.map(|model| Held {
            model,
            bytes: 0,
            place: Place::Vram,
        });
        Holdings {
            models: held.into_iter().collect(),
        }
    }

    fn release(&self) {
        if let Err(error) = self.free() {
            tracing::debug!(%error, "memory is not given back");
        }
    }

    fn missing(&self) -> Vec<String> {
        match self.stock() {
            Ok(stock) => features::missing(&stock.models, &stock.shelf),
            Err(error) => vec![error.to_string()],
        }
    }
}

fn about(stats: &Value) -> About {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let device = stats.get("devices").and_then(|devices| devices.get(0));
    let vram = device.and_then(|device| device.get("vram_total")?.as_u64());
    About {
        version: text(
            stats
                .get("system")
                .and_then(|system| system.get("comfyui_version")),
        ),
        device: text(device.and_then(|device| device.get("name"))),
        vram: vram.unwrap_or_default(),
    }
}

/// Whether bytes are anything that a ComfyUI says.
#[cfg(any(test, fuzzing))]
pub(super) fn is_read(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return watch::is_read(bytes);
    };
    about(&value);
    let stored = client::StoredPicture::read(&value);
    let shelf = Shelf::read(&value).unwrap_or_default();
    for file in unlisted(&[], &shelf) {
        let model = from_metadata(file, Some(&value));
        features::capabilities(
            &stocked(&[model], &shelf),
            &shelf,
            ComfyOptions::default().limits,
        );
    }
    stored.is_some()
        | (shelf != Shelf::default())
        | client::refusal(&value).is_some()
        | watch::is_read(bytes)
}

/// A name that nobody else has.
fn random_name() -> String {
    let state = RandomState::new();
    format!("{:016x}{:016x}", state.hash_one(1), state.hash_one(2))
}

/// A panic elsewhere does not make what is known wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
