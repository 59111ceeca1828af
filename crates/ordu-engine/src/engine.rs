//! The trait that every engine implements, and what an engine says about itself.

use std::collections::BTreeSet;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::plan::control::ControlType;
use crate::plan::post::PostProcessor;
use crate::{EngineError, ImageTask, ModelInfo, Picture, Sampler};

/// Something that turns tasks into pictures.
///
/// All methods block. A caller inside an async runtime runs them on a thread that may block;
/// several tasks may run at once on one engine, each from a thread of its own.
pub trait Engine: Send + Sync {
    /// What this engine can do at this moment. Cheap enough to be asked before each task.
    fn capabilities(&self) -> Capabilities;

    /// Makes `task.batch` pictures. Between two steps `progress` is told how far it is, and asked
    /// whether to go on.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownModel`] if the engine has no model of that name,
    /// [`EngineError::Cancelled`] if `progress` asked for it, [`EngineError::BadTask`] for sizes
    /// and counts outside [`Limits`], and the model-file errors if the model turns out to be
    /// unusable when it is loaded.
    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError>;

    /// Which models lie in memory now.
    fn holdings(&self) -> Holdings;

    /// Lets go of the models that lie in memory and are not in use. They come back when a task needs them.
    fn release(&self) {}

    /// What it cannot do at this moment and could, with what keeps it from that: for people.
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Takes note of progress and may stop the work.
pub trait ProgressSink {
    /// A step has been finished.
    fn step(&self, step: Step);

    /// Asked between steps; `true` ends the task with [`EngineError::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }

    /// Asked before each step; `true` lets the next [`Step`] carry a preview.
    fn wants_preview(&self) -> bool {
        false
    }

    /// Asked after each token of a text; `true` has [`Self::text`] told.
    fn wants_text(&self) -> bool {
        false
    }

    /// The whole text so far, as far as it is certain what [`crate::Format`] makes of it: what comes
    /// later only adds to it, unless the engine begins anew.
    fn text(&self, _so_far: &str) {}
}

/// A [`ProgressSink`] that wants to know nothing and never stops the work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ProgressSink for Quiet {
    fn step(&self, _step: Step) {}
}

/// One finished step of sampling.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Steps done, from 1 to `of`.
    pub step: u32,
    /// Steps this task takes in all.
    pub of: u32,
    /// A small, rough picture of what the first picture of the batch will be: one pixel per latent
    /// pixel, or all pixels where the picture is tiny itself.
    #[serde(with = "crate::host::pixels::optional")]
    pub preview: Option<RgbImage>,
}

/// What an engine can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Models a task may name, bundled ones first.
    pub models: Vec<ModelInfo>,
    /// Samplers that a task may name.
    pub samplers: Vec<Sampler>,
    /// What a task may ask for at most.
    pub limits: Limits,
    /// What a task may ask for besides a plain picture.
    pub features: BTreeSet<Feature>,
    /// Which control types run.
    pub controls: BTreeSet<ControlType>,
    /// Which post-processors run.
    pub post_processors: BTreeSet<PostProcessor>,
}

impl Capabilities {
    /// Those of an engine that can do nothing at this moment.
    #[must_use]
    pub fn nothing(limits: Limits) -> Self {
        Self {
            models: Vec::new(),
            samplers: Vec::new(),
            limits,
            features: BTreeSet::new(),
            controls: BTreeSet::new(),
            post_processors: BTreeSet::new(),
        }
    }

    /// Those of no engine at all.
    #[must_use]
    pub fn none() -> Self {
        Self::nothing(Limits {
            max_pixels: 0,
            max_batch: 0,
            max_steps: 0,
        })
    }

    /// The model of this name, compared exactly.
    pub fn model(&self, name: &str) -> Option<&ModelInfo> {
        self.models.iter().find(|model| model.name == name)
    }
}

/// Something beyond a plain picture that an engine may be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Feature {
    /// Starting from a picture.
    Img2Img,
    /// In- and outpainting.
    Inpainting,
    /// Pictures that repeat without a seam.
    Tiling,
    /// Reading an earlier layer of the text encoder.
    ClipSkip,
    /// A second, larger pass.
    HiresFix,
    /// Steering Stable Diffusion 1.x by a source.
    ControlNet,
    /// Steering every model by lines (`canny`, `scribble`), and returning their maps.
    ControlLines,
    /// Returning the map that would steer, without a model.
    ControlMap,
    /// Changes to the weights.
    Lora,
    /// Learned words.
    TextualInversion,
    /// QR codes with Stable Diffusion 1.x.
    QrCode,
    /// QR codes with Stable Diffusion XL.
    QrCodeXl,
    /// Transparent backgrounds.
    Transparent,
    /// Stable Cascade in two passes.
    CascadeTwoPass,
    /// Mixing several pictures.
    Remix,
}

/// The borders of a task. Beyond them [`Engine::run`] answers [`EngineError::BadTask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Width times height of one picture, in pixels.
    pub max_pixels: u64,
    /// Pictures of one task.
    pub max_batch: u32,
    /// Sampling steps.
    pub max_steps: u32,
}

/// What an engine holds in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// One entry per model, most recently used first.
    pub models: Vec<Held>,
}

/// One model in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name in [`Capabilities::models`].
    pub model: String,
    /// Size of its weights as held, in bytes.
    pub bytes: u64,
    /// Where it lies.
    pub place: Place,
}

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The computer's own memory.
    Ram,
    /// The memory of an accelerator.
    Vram,
}
