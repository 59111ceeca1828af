//! What a caller asks for and what it gets.

use image::{DynamicImage, GrayImage};
use serde::{Deserialize, Serialize};

use crate::plan::control::ControlType;
use crate::plan::post::PostProcessor;
use crate::plan::qr::QrSpec;
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
    /// Draws small first, then refines at the size asked for.
    pub hires: Option<Hires>,
    /// Steers by what the source shows; means nothing without a source.
    pub control: Option<Control>,
    /// Changes to the weights, in their order.
    pub loras: Vec<Lora>,
    /// Learned words.
    pub embeddings: Vec<Embedding>,
    /// Makes the background transparent.
    pub transparent: bool,
    /// A pipeline of its own, instead of the one that the rest asks for.
    pub workflow: Option<Workflow>,
    /// What to do with finished pictures; [`crate::plan::post::ordered`] says in which order.
    pub post: Vec<PostProcessor>,
    /// How true face fixers stay to the picture, 0 (strongest) to 1; `None` is 0.5.
    pub face_strength: Option<f32>,
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
            hires: None,
            control: None,
            loras: Vec::new(),
            embeddings: Vec::new(),
            transparent: false,
            workflow: None,
            post: Vec::new(),
            face_strength: None,
        }
    }

    /// Takes an add-on of this name out of the task. Whether there was one.
    pub fn leave_out(&mut self, add_on: &str) -> bool {
        let before = self.loras.len() + self.embeddings.len();
        self.loras.retain(|lora| lora.file != add_on);
        self.embeddings.retain(|word| word.name != add_on);
        self.loras.len() + self.embeddings.len() < before
    }

    /// The picture it starts from.
    pub fn source(&self) -> Option<&Source> {
        match &self.mode {
            Mode::Txt2Img | Mode::Remix(_) => None,
            Mode::Img2Img(source) | Mode::Inpaint(source) | Mode::Outpaint(source) => Some(source),
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
    /// Mixes what the pictures show, 1 to 6 of them.
    Remix(Vec<RemixImage>),
}

/// One picture of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemixImage {
    /// Seen by the model's vision tower, cropped to a square.
    #[serde(with = "crate::host::pixels")]
    pub image: DynamicImage,
    /// How much it counts; 1 is usual, below 0 pushes away.
    pub strength: f32,
}

/// How to refine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hires {
    /// Of the second pass, 0.01 to 1. `None`: that of the source, or 0.65.
    pub denoising_strength: Option<f32>,
}

/// How a source steers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What of the source is looked at.
    pub kind: ControlType,
    /// The source is such a map already.
    pub image_is_control: bool,
    /// The map is the picture asked for; nothing is drawn.
    pub return_map: bool,
    /// 0.01 to 3; 1 is usual.
    pub strength: f32,
}

/// A change to the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Name of its file in the folder for LoRAs.
    pub file: String,
    /// How much of it goes into the diffusion model.
    pub model: f32,
    /// How much of it goes into the text encoder.
    pub clip: f32,
}

/// A learned word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Name of its file in the folder for embeddings, without extension.
    pub name: String,
    /// 1 is usual.
    pub strength: f32,
    /// Where it is put by itself; `None` if the prompt names it already.
    pub place: Option<EmbeddingPlace>,
}

/// One of the two prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbeddingPlace {
    /// In front of what to draw.
    Prompt,
    /// Behind what to keep away from.
    Negative,
}

/// A pipeline of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Workflow {
    /// A picture that scans as a QR code.
    QrCode(QrSpec),
    /// The source, larger, with detail invented.
    CreativeUpscale,
    /// The source as it is, without its transparency, in the hands of the post-processors. The task has
    /// its size and may leave the model empty.
    PostProcess,
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
    /// Whether the QR code that it was to be can be read; `None` if it was to be none.
    pub scans: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_with_everything_goes_to_another_process_and_comes_back() {
        let image = DynamicImage::new_rgba8(2, 3);
        let task = ImageTask {
            hires: Some(Hires::default()),
            control: Some(Control {
                kind: ControlType::Hough,
                image_is_control: true,
                return_map: false,
                strength: 0.5,
            }),
            loras: vec![Lora {
                file: "a".to_owned(),
                model: 1.0,
                clip: -1.0,
            }],
            embeddings: vec![Embedding {
                name: "b".to_owned(),
                strength: 1.0,
                place: Some(EmbeddingPlace::Negative),
            }],
            workflow: Some(Workflow::QrCode(QrSpec::new("c"))),
            post: vec![PostProcessor::StripBackground],
            face_strength: Some(0.1),
            mode: Mode::Remix(vec![RemixImage {
                image,
                strength: 2.0,
            }]),
            ..ImageTask::new("m", "x")
        };
        let bytes = postcard::to_extend(&task, Vec::new()).unwrap();
        assert_eq!(postcard::from_bytes::<ImageTask>(&bytes).unwrap(), task);
    }
}
