//! What a caller asks for and what it gets.

use image::{DynamicImage, GrayImage};
use serde::{Deserialize, Serialize};

use crate::{Sampler, Schedule};

/// One job: `batch` pictures of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageTask {
    /// Name of a model in [`crate::Capabilities::models`].
    pub model: String,
    /// What to draw. Words a model's tokenizer does not know become its "unknown" token.
    pub prompt: String,
    /// What to keep away from; may be empty.
    pub negative_prompt: String,
    /// Width of each picture in pixels, at least 1. Any value works; see [`crate::Fit`] for how a
    /// model meets it.
    pub width: u32,
    /// Height of each picture in pixels, at least 1.
    pub height: u32,
    /// Denoising steps that are really run, at least 1.
    pub steps: u32,
    /// Classifier-free guidance; at 1 or below the negative prompt is not computed at all.
    pub cfg_scale: f32,
    /// How to walk down the noise levels.
    pub sampler: Sampler,
    /// How the noise levels are spaced.
    pub schedule: Schedule,
    /// Decides all randomness of the task.
    pub seed: u64,
    /// Pictures to make, at least 1. Their noise is drawn in one go from the one seed.
    pub batch: u32,
    /// Which layer of the text encoder to read, counted from the end: 1 is the last, 2 the last but
    /// one, …
    pub clip_skip: u32,
    /// Makes the picture tile seamlessly: all convolutions wrap around.
    pub tiling: bool,
    /// Where the noise comes from.
    pub noise: NoiseSource,
    /// From noise alone, or from a picture.
    pub mode: Mode,
}

impl ImageTask {
    /// A 512×512 picture in 25 Euler steps with guidance 7.5 from seed 0; set the other fields as
    /// needed.
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            prompt: prompt.into(),
            negative_prompt: String::new(),
            width: 512,
            height: 512,
            steps: 25,
            cfg_scale: 7.5,
            sampler: Sampler::Euler,
            schedule: Schedule::Normal,
            seed: 0,
            batch: 1,
            clip_skip: 1,
            tiling: false,
            noise: NoiseSource::Philox,
            mode: Mode::Txt2Img,
        }
    }
}

/// The pipeline of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Mode {
    /// From noise alone.
    #[default]
    Txt2Img,
    /// The source is re-noised as far as its strength says and denoised again; where it has a mask,
    /// only there.
    Img2Img(Source),
    /// As masked [`Mode::Img2Img`], but what lies under the mask is greyed out first and the mask
    /// is grown a little, so that nothing of the old content shines through. Without mask and
    /// transparency, everything is regenerated.
    Inpaint(Source),
    /// The same as [`Mode::Inpaint`]; the source has been placed on a larger, transparent or masked
    /// canvas by the caller.
    Outpaint(Source),
}

/// The picture a task starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Resized to the task's size with Lanczos, aspect not preserved. Transparent pixels count as
    /// masked.
    #[serde(with = "crate::host::pixels")]
    pub image: DynamicImage,
    /// White: regenerate, black: keep, grey: in between. Resized to the task's size.
    #[serde(with = "crate::host::pixels::optional")]
    pub mask: Option<GrayImage>,
    /// 0.01 to 1: how much of the schedule is run. A schedule of `floor(steps / strength)` levels
    /// is built and its last `steps` are run, so the cost does not depend on it.
    pub denoising_strength: f32,
}

impl Source {
    /// A source without mask that is replaced entirely.
    pub fn new(image: DynamicImage) -> Self {
        Self {
            image,
            mask: None,
            denoising_strength: 1.0,
        }
    }
}

/// The generator that the initial noise and the noise of ancestral samplers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoiseSource {
    /// Counter-based: the same numbers on every kind of device, at any batch size.
    #[default]
    Philox,
    /// Bit for bit what PyTorch's CPU generator yields, hence what programs built on it make of the
    /// same seed.
    TorchCpu,
}

/// One finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// RGB, of exactly the size asked for.
    #[serde(with = "crate::host::pixels")]
    pub image: DynamicImage,
    /// The seed of the task; all pictures of a batch share it and differ by their place in it.
    pub seed: u64,
}
