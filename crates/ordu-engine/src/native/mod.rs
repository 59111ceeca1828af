//! The engines that need nothing but this program: Stable Diffusion and texts on the processor, and
//! pictures on a card that this program was built for.
//!
//! Top to bottom: the engine keeps a registry and loaded models; the pipeline turns a task into
//! pictures with a model of [`sd`], the steps of [`sampling`] and the numbers of [`noise`];
//! networks are built of [`ops`], whose kernels for the processor are in `cpu`, and filled from
//! [`weights`]. [`measure`] has them compute for nothing but the time it takes. `text` is the engine for texts, [`vision`]
//! reads pictures.

mod add_ons;
mod budget;
pub mod cascade;
mod compute;
pub mod control;
mod cpu;
pub mod cutout;
pub mod faces;
#[cfg(feature = "cuda")]
mod gpu;
pub mod measure;
pub mod noise;
pub mod ops;
mod pipeline;
pub mod pixels;
pub mod post;
mod qr;
mod registry;
pub mod sampling;
pub mod sd;
mod text;
pub mod transparent;
pub mod upscale;
pub mod vision;
pub mod weights;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::{DynamicImage, RgbImage};
use serde_json::{Map, Value};

use self::add_ons::{AddOns, LoraKey};
pub use self::budget::{Budget, Budgets};
use self::cascade::Cascades;
use self::cascade::files::CascadeFiles;
pub use self::compute::{Compute, DeviceChoice, Precision};
use self::control::Controls;
use self::pixels::Size;
use self::post::PostProcessors;
use self::registry::Registry;
use self::sd::StableDiffusion;
use self::sd::files::ModelFiles;
use self::sd::lora::Changes;
pub use self::text::{NativeText, NativeTextOptions};
use self::transparent::{Kit, Kits};
use self::vision::Readers;
use crate::plan::control::ControlType;
use crate::plan::pipeline::draws;
use crate::plan::post::{PostProcessor, ordered};
use crate::plan::prompt::with_embeddings;
use crate::{
    AlchemyEngine, Answer, Baseline, Capabilities, Engine, EngineError, Feature, Held, Holdings,
    ImageTask, Limits, Mode, Origin, Picture, Place, ProgressSink, Sampler, Source, Workflow,
};

/// How to open a [`NativeEngine`].
#[derive(Clone, Debug)]
pub struct NativeOptions {
    /// A folder with models beside the bundled one: `.safetensors` files and diffusers folders. Files
    /// that are named like an upscaler of the protocol, such as `RealESRGAN_x4plus.safetensors`, are
    /// upscalers.
    pub models: Option<PathBuf>,
    /// Whether `ordu-tiny-cascade`, the bundled Stable Cascade, is one of the models, too. It mixes toy
    /// pictures and draws worse than `ordu-tiny`: who did not ask for it should not get it.
    pub cascade: bool,
    /// Folders with LoRAs, `.safetensors` files that tasks name. Who has none draws with none.
    pub loras: Vec<PathBuf>,
    /// Folders with textual inversions, files of the same kind that prompts name.
    pub embeddings: Vec<PathBuf>,
    /// Weights that may lie in memory. One model is always held, however large.
    pub memory: Budgets,
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which numbers.
    pub precision: Precision,
}

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            models: None,
            cascade: false,
            loras: Vec::new(),
            embeddings: Vec::new(),
            memory: Budgets::default(),
            device: DeviceChoice::Auto,
            precision: Precision::Auto,
        }
    }
}

/// Stable Diffusion in this process.
#[derive(Debug)]
pub struct NativeEngine {
    registry: Registry,
    post: PostProcessors,
    readers: Readers,
    add_ons: AddOns,
    controls: Controls,
    kits: Kits,
    cascades: Cascades,
    compute: Compute,
    /// Weights that may lie in memory, in bytes.
    memory: u64,
    /// Most recently used first.
    loaded: Mutex<Vec<Arc<Loaded>>>,
    /// Held while a model is being loaded, so that two tasks never load at once.
    loading: Mutex<()>,
    /// Held while a card computes: two tasks at once would take turns there all the same, and twice
    /// the memory.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Loaded {
    model: StableDiffusion,
    changed: Changed,
    bytes: u64,
}

/// What is changed in a model.
#[derive(Clone, Debug, Default, PartialEq)]
struct Changed {
    loras: Vec<LoraKey>,
    /// What lets it draw transparent pictures.
    kit: Option<Arc<Kit>>,
}

impl Changed {
    /// All that is added to its weights: first come LoRAs, in their order.
    fn weights(&self, files: &ModelFiles) -> Result<Changes, EngineError> {
        let mut changes = add_ons::changes(&self.loras, files)?;
        if let Some(kit) = &self.kit {
            changes.append(kit.changes(files)?);
        }
        Ok(changes)
    }
}

const FEATURES: [Feature; 5] = [
    Feature::Img2Img,
    Feature::Inpainting,
    Feature::Tiling,
    Feature::ClipSkip,
    Feature::HiresFix,
];

/// Further ones, where there is a Stable Cascade.
const CASCADE_FEATURES: [Feature; 2] = [Feature::CascadeTwoPass, Feature::Remix];

/// Above these a CPU is busy for hours and memory for pixels runs out.
const LIMITS: Limits = Limits {
    max_pixels: 2048 * 2048,
    max_batch: 20,
    max_steps: 500,
};

impl NativeEngine {
    /// Opens the engine: reads the headers of the models in the folder, loads nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoDevice`]; [`EngineError::Io`] if the models folder cannot be listed. A single
    /// bad model does not keep the engine from opening: see [`NativeEngine::problems`].
    pub fn open(options: &NativeOptions) -> Result<Self, EngineError> {
        let mut registry = Registry::open(options.models.as_deref(), options.cascade)?;
        let mut post = PostProcessors::open(options.models.as_deref());
        registry.complain(post.take_problems());
        let readers = options
            .models
            .as_deref()
            .map_or_else(Readers::default, Readers::open);
        registry.complain(readers.problems());
        let mut controls = Controls::open(options.models.as_deref());
        registry.complain(controls.take_problems());
        let mut kits = Kits::open(options.models.as_deref());
        registry.complain(kits.take_problems());
        let compute = Compute::open(options.device, options.precision)?;
        Ok(Self {
            registry,
            post,
            readers,
            add_ons: AddOns::new(&options.loras, &options.embeddings),
            controls,
            kits,
            cascades: Cascades::default(),
            memory: options.memory.of(&compute),
            compute,
            loaded: Mutex::default(),
            loading: Mutex::default(),
            turn: Mutex::default(),
        })
    }

    /// Where it computes, and in which numbers.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Why files and folders that look like models are not among the models.
    pub fn problems(&self) -> &[EngineError] {
        self.registry.problems()
    }

    /// A picture through the autoencoder of a model and back: what of it survives as latents. Sides
    /// are rounded up to whole latent pixels.
    ///
    /// # Errors
    ///
    /// As [`Engine::run`].
    pub fn reconstruct(&self, model: &str, picture: &RgbImage) -> Result<RgbImage, EngineError> {
        let files = self.registry.get(model)?;
        pipeline::reconstruct(&self.model(&files, Changed::default())?.model, picture)
    }

    /// A model with changes, loaded if it is not yet, at the cost of the least recently used one. A
    /// changed model is a model of its own: the one without changes stays what it was.
    ///
    /// # Errors
    ///
    /// What is wrong with its files or with the changes.
    fn model(&self, files: &ModelFiles, changed: Changed) -> Result<Arc<Loaded>, EngineError> {
        let _one_at_a_time = lock(&self.loading);
        if let Some(held) = self.touch(&files.name, &changed) {
            return Ok(held);
        }
        let (mut model, mut bytes) = self.load(files, &changed.weights(files)?)?;
        if let Some(kit) = &changed.kit {
            model.alpha = Some(kit.decoder(files, &self.compute)?);
            bytes += kit.bytes();
        }
        let held = Arc::new(Loaded {
            model,
            changed,
            bytes,
        });
        lock(&self.loaded).insert(0, Arc::clone(&held));
        Ok(held)
    }

    /// What a task wants changed in its model.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoAddOn`] for a LoRA that is not there, or why there is no kit for the model.
    fn changed(&self, task: &ImageTask, files: &ModelFiles) -> Result<Changed, EngineError> {
        Ok(Changed {
            loras: self.add_ons.loras(&task.loras)?,
            kit: if task.transparent {
                self.kits.of(files)?
            } else {
                None
            },
        })
    }

    /// A model with changes, and the memory that it takes. What is not changed is shared with the model
    /// without changes, if that is there and there is room for both.
    fn load(
        &self,
        files: &ModelFiles,
        changes: &Changes,
    ) -> Result<(StableDiffusion, u64), EngineError> {
        let more = files.bytes_changed(&self.compute);
        let base = self
            .touch(&files.name, &Changed::default())
            .filter(|base| base.bytes.saturating_add(more) <= self.memory);
        if let Some(base) = base {
            self.make_room(more);
            return Ok((base.model.changed(files, changes)?, more));
        }
        let bytes = files.bytes_loaded(&self.compute);
        self.make_room(bytes);
        let model = StableDiffusion::load_changed(files, &self.compute, changes)?;
        Ok((model, bytes))
    }

    /// A loaded model, which becomes the most recently used one.
    fn touch(&self, name: &str, changed: &Changed) -> Option<Arc<Loaded>> {
        let mut loaded = lock(&self.loaded);
        let place = loaded
            .iter()
            .position(|held| held.model.info.name == name && held.changed == *changed)?;
        let held = loaded.remove(place);
        loaded.insert(0, Arc::clone(&held));
        Some(held)
    }

    /// Lets go of the least recently used models until this many bytes fit. Those in use stay until
    /// their task ends.
    fn make_room(&self, bytes: u64) {
        let mut room = self.cascades.leaves(self.memory.saturating_sub(bytes));
        lock(&self.loaded).retain(|held| {
            let fits = held.bytes <= room;
            room = if fits { room - held.bytes } else { 0 };
            fits
        });
    }
}

impl NativeEngine {
    /// Whether all its models can be steered by lines: a job may name any of them.
    fn steers_by_lines(&self) -> Option<Feature> {
        let lines = [ControlType::Canny, ControlType::Scribble];
        let models = self.registry.all();
        let steered = models.iter().all(|files| {
            let kinds = self.controls.kinds(&files.unet.1);
            lines.iter().all(|line| kinds.contains(line))
        });
        steered.then_some(Feature::ControlLines)
    }

    /// What it can do with finished pictures. The network for backgrounds that is built in knows drawings
    /// of the bundled model and little else: where there are other models it is no offer.
    fn post_processors(&self) -> BTreeSet<PostProcessor> {
        let mut here = self.post.available();
        let models = self.registry.infos();
        if models.iter().all(|model| model.origin == Origin::Bundled) {
            here.insert(PostProcessor::StripBackground);
        }
        here
    }

    /// Whether all its models that may be asked for it draw transparent pictures.
    fn cuts_out(&self) -> Option<Feature> {
        let covered = self.kits.cover(&self.registry.all());
        covered.then_some(Feature::Transparent)
    }

    /// With which of its models it draws pictures that scan.
    fn draws_symbols(&self) -> Vec<Feature> {
        let infos = self.registry.infos();
        let known = infos.iter().filter_map(|info| {
            let files = self.registry.get(&info.name).ok()?;
            let is_xl = info.baseline == Baseline::StableDiffusionXl;
            Some((is_xl, self.controls.draws_symbols(&files.unet.1)))
        });
        qr::features(&known.collect::<Vec<_>>())
    }

    /// By what of a source its models can be steered.
    fn steers(&self) -> BTreeSet<ControlType> {
        let models = self.registry.all();
        let kinds = models
            .iter()
            .map(|files| self.controls.kinds(&files.unet.1));
        kinds.flatten().collect()
    }

    /// Pictures of a Stable Cascade.
    ///
    /// # Errors
    ///
    /// As [`Engine::run`].
    fn draw_cascade(
        &self,
        files: &CascadeFiles,
        task: &ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        if !self.cascades.has(&files.name) {
            self.make_room(files.bytes_loaded(&self.compute));
        }
        let turn = (!self.compute.device().is_cpu()).then(|| lock(&self.turn));
        let mut pictures = self.cascades.run(files, task, &self.compute, progress)?;
        drop(turn);
        for picture in &mut pictures {
            let steps = (task.post.as_slice(), task.face_strength);
            self.finish(steps, picture, progress)?;
        }
        Ok(pictures)
    }

    /// A source, or the map of it, with the steps of its task, which is all that is asked for: one that
    /// fails is an error.
    fn processed(
        &self,
        source: &Source,
        task: &ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Picture, EngineError> {
        let maps = task.control.filter(|control| control.return_map);
        let mut image = match (maps, &task.workflow) {
            (Some(how), None) => {
                let size = Size {
                    width: task.width,
                    height: task.height,
                };
                let resized = pixels::resize(&source.image, size).to_rgb8();
                DynamicImage::ImageRgb8(if how.image_is_control {
                    resized
                } else {
                    control::map(how.kind, &resized)?
                })
            }
            _ => source.image.clone(),
        };
        for step in ordered(&task.post) {
            image = self.post.run(step, &image, task.face_strength, progress)?;
        }
        Ok(Picture {
            image,
            seed: task.seed,
            scans: None,
        })
    }

    /// What is done with a finished picture. A step that fails leaves the picture as it was.
    ///
    /// # Errors
    ///
    /// [`EngineError::Cancelled`].
    fn finish(
        &self,
        (steps, strength): (&[PostProcessor], Option<f32>),
        picture: &mut Picture,
        progress: &dyn ProgressSink,
    ) -> Result<(), EngineError> {
        for step in ordered(steps) {
            match self.post.run(step, &picture.image, strength, progress) {
                Ok(image) => picture.image = image,
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(error) => {
                    tracing::warn!(step = step.name(), %error, "a picture is left as it was");
                }
            }
        }
        Ok(())
    }
}

/// A panic elsewhere does not make a list of models wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for NativeEngine {
    fn capabilities(&self) -> Capabilities {
        let models = self.registry.infos();
        let has_cascade = self.registry.has_cascade();
        let cascades = CASCADE_FEATURES.into_iter().filter(|_| has_cascade);
        Capabilities {
            models,
            samplers: Sampler::all().collect(),
            limits: LIMITS,
            features: FEATURES
                .into_iter()
                .chain(self.add_ons.features())
                .chain(self.steers_by_lines())
                .chain(self.cuts_out())
                .chain(self.draws_symbols())
                .chain(cascades)
                .collect(),
            controls: self.steers(),
            post_processors: self.post_processors(),
        }
    }

    fn run(
        &self,
        mut task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        check(&task)?;
        let here = self.post_processors();
        if let Some(step) = task.post.iter().find(|step| !here.contains(step)) {
            let reason = format!("the native engine has no {}", step.name());
            return Err(EngineError::bad_task(reason));
        }
        if !draws(&task)
            && let Some(source) = task.source()
        {
            return Ok(vec![self.processed(source, &task, progress)?]);
        }
        if let Some(files) = self.registry.cascade(&task.model) {
            return self.draw_cascade(&files, &task, progress);
        }
        if matches!(task.mode, Mode::Remix(_)) {
            let reason = format!("`{}` cannot mix pictures, a Stable Cascade can", task.model);
            return Err(EngineError::bad_task(reason));
        }
        (task.prompt, task.negative_prompt) = with_embeddings(&task);
        let files = self.registry.get(&task.model)?;
        let held = self.model(&files, self.changed(&task, &files)?)?;
        let words = self.add_ons.words(&task, &held.model.text)?;
        let turn = (!self.compute.device().is_cpu()).then(|| lock(&self.turn));
        let mut pictures = if let Some(Workflow::QrCode(spec)) = &task.workflow {
            let network = self.controls.for_symbols(&files, &self.compute)?;
            qr::run(&held.model, (&task, &words), (spec, &network), progress)?
        } else {
            let steer = self.controls.steer(&mut task, &files, &self.compute)?;
            pipeline::run(&held.model, (&task, &words), steer.as_ref(), progress)?
        };
        drop((held, turn));
        for picture in &mut pictures {
            let steps = (task.post.as_slice(), task.face_strength);
            self.finish(steps, picture, progress)?;
        }
        Ok(pictures)
    }

    fn release(&self) {
        lock(&self.loaded).clear();
        self.post.release();
        self.controls.release();
        self.cascades.release();
        self.compute.trim();
    }

    fn holdings(&self) -> Holdings {
        let mut models: Vec<Held> = Vec::new();
        for held in lock(&self.loaded).iter() {
            let name = &held.model.info.name;
            match models.iter_mut().find(|other| other.model == *name) {
                // One with LoRAs and one without are the same model.
                Some(other) => other.bytes += held.bytes,
                None => models.push(Held {
                    model: name.clone(),
                    bytes: held.bytes,
                    place: self.compute.place(),
                }),
            }
        }
        let post = self.post.held().into_iter().map(|(model, bytes)| Held {
            model,
            bytes,
            place: Place::Ram,
        });
        let control = self.controls.held().map(|(model, bytes)| Held {
            model,
            bytes,
            place: self.compute.place(),
        });
        models.extend(post);
        models.extend(self.readers.held());
        models.extend(control);
        models.extend(self.cascades.held(&self.compute));
        Holdings { models }
    }
}

/// What it says about pictures, with the readers in its folder, on the processor.
impl AlchemyEngine for NativeEngine {
    fn forms(&self) -> Vec<String> {
        self.readers.forms()
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError> {
        self.readers.answer(form, picture, options, progress)
    }
}

/// Refuses what cannot be computed; everything else is taken as it is.
fn check(task: &ImageTask) -> Result<(), EngineError> {
    let bad = |what: String| Err(EngineError::bad_task(what));
    let pixels = u64::from(task.width) * u64::from(task.height);
    if pixels == 0 || pixels > LIMITS.max_pixels {
        return bad(format!(
            "{}x{} pixels, 1 to {} are possible",
            task.width, task.height, LIMITS.max_pixels
        ));
    }
    if !(1..=LIMITS.max_steps).contains(&task.steps) {
        return bad(format!(
            "{} steps, 1 to {} are possible",
            task.steps, LIMITS.max_steps
        ));
    }
    if !(1..=LIMITS.max_batch).contains(&task.batch) {
        return bad(format!(
            "{} pictures, 1 to {} are possible",
            task.batch, LIMITS.max_batch
        ));
    }
    if !task.cfg_scale.is_finite() {
        return bad(format!("a guidance of {}", task.cfg_scale));
    }
    let strengths = task.loras.iter().flat_map(|lora| [lora.model, lora.clip]);
    if let Some(strength) = strengths.into_iter().find(|it| !it.is_finite()) {
        return bad(format!("a LoRA of strength {strength}"));
    }
    if task.workflow == Some(Workflow::CreativeUpscale) {
        return bad("the native engine has no creative upscaling".to_owned());
    }
    Ok(())
}
