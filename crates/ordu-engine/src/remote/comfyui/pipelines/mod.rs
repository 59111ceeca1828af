//! One module per family of pipelines, and what they share: loading, prompts, the start, the finish.
//!
//! Everywhere: loader, then LoRAs, then modifiers (layer diffusion, tiling, shift), then samplers; and
//! loader, LoRAs, clip skip, then encoders.
//!
//! # Source
//! `worker.md` § 2.6, 2.8, 2.11 to 2.13.

mod cascade;
mod control;
mod flow;
mod paint;
mod plain;
mod post;
mod qr;

pub(super) use control::{annotator, weights as control_weights};
pub(super) use post::{is_possible as can_post_process, knows_alpha};
pub(super) use qr::weights as qr_weights;

use super::graph::{Graph, Image, Latent, Link, Mask, Model};
use super::models::{ModelFiles, Stocked};
use super::nodes::{Parts, Prompts, Walk};
use super::samplers;
use super::shelf::Shelf;
use crate::plan::pipeline::Pipeline;
use crate::plan::qr::Finish;
use crate::plan::{pipeline, prompt, source};
use crate::{Baseline, EngineError, ImageTask, ModelInfo, Source};

/// The graph of a task.
///
/// # Errors
///
/// [`EngineError::BadTask`] if it needs a node or file that is not there.
pub(super) fn build(
    task: &ImageTask,
    model: &Stocked,
    shelf: &Shelf,
    finish: Finish,
) -> Result<Graph, EngineError> {
    let mut draft = Draft {
        task,
        model: &model.info,
        files: &model.files,
        shelf,
        finish,
        graph: Graph::default(),
    };
    let image = match pipeline::choose(task, &model.info) {
        Pipeline::PostProcess => draft.untouched()?,
        Pipeline::QrCode => draft.qr_code()?,
        Pipeline::CreativeUpscale => draft.creative_upscale()?,
        Pipeline::CascadeRemix => draft.cascade_remix()?,
        Pipeline::CascadeTwoPass => draft.cascade_two_pass()?,
        Pipeline::Cascade => draft.cascade()?,
        Pipeline::Flux => draft.flux()?,
        Pipeline::QwenImage => draft.qwen_image()?,
        Pipeline::ZImage => draft.z_image()?,
        Pipeline::Annotator => draft.annotator()?,
        Pipeline::ControlHires => draft.control_hires()?,
        Pipeline::Control => draft.control()?,
        Pipeline::MaskedImg2Img => draft.masked_img2img()?,
        Pipeline::Paint => draft.paint()?,
        Pipeline::Hires => draft.hires()?,
        Pipeline::Plain => draft.plain()?,
    };
    draft.post_process(image)?;
    Ok(draft.graph)
}

/// A graph in the making and what it is made from.
struct Draft<'a> {
    task: &'a ImageTask,
    model: &'a ModelInfo,
    files: &'a ModelFiles,
    shelf: &'a Shelf,
    finish: Finish,
    graph: Graph,
}

/// What a pipeline hands to the post-processors.
#[derive(Clone, Copy)]
struct Drawn {
    image: Link<Image>,
    has_alpha: bool,
}

impl From<Link<Image>> for Drawn {
    fn from(image: Link<Image>) -> Self {
        Self {
            image,
            has_alpha: false,
        }
    }
}

impl Draft<'_> {
    fn size(&self) -> (u32, u32) {
        (self.task.width, self.task.height)
    }

    /// The one checkpoint of the model with everything that changes it, and the prompts.
    fn open(&mut self) -> Result<(Parts, Prompts), EngineError> {
        let ModelFiles::Checkpoint(file) = self.files else {
            return Err(missing("a single checkpoint of this model"));
        };
        let parts = self.graph.checkpoint(file);
        self.dress(parts)
    }

    /// Applies LoRAs, modifiers and clip skip, and encodes the prompts.
    fn dress(&mut self, parts: Parts) -> Result<(Parts, Prompts), EngineError> {
        let mut parts = self.with_loras(parts)?;
        if let Some(config) = self.transparency() {
            self.demand(&["LayeredDiffusionApply", "LayeredDiffusionDecodeRGBA"])?;
            parts.model = self.graph.layer_diffusion(parts.model, config);
        }
        if self.task.tiling && self.is_convolutional() {
            self.demand(&["SeamlessTile", "MakeCircularVAE"])?;
            parts.model = self.graph.tile_model(parts.model);
            parts.vae = self.graph.tile_vae(parts.vae);
        }
        if self.task.clip_skip > 1 && self.is_convolutional() {
            parts.clip = self.graph.clip_layer(parts.clip, self.task.clip_skip);
        }
        let prompts = self.prompts(parts);
        Ok((parts, prompts))
    }

    /// Whether the model is a network of convolutions behind CLIP. Others have no edges to wrap, and
    /// encoders whose last layer is the only one that was trained for them.
    fn is_convolutional(&self) -> bool {
        matches!(
            self.model.baseline,
            Baseline::StableDiffusion1
                | Baseline::StableDiffusion2
                | Baseline::StableDiffusionXl
                | Baseline::Custom
        )
    }

    fn with_loras(&mut self, mut parts: Parts) -> Result<Parts, EngineError> {
        for lora in &self.task.loras {
            if lora.model == 0.0 && lora.clip == 0.0 {
                continue;
            }
            let file = self.shelf.file("LoraLoader", "lora_name", &lora.file);
            let file = file.ok_or_else(|| EngineError::NoAddOn {
                name: lora.file.clone(),
            })?;
            parts = self.graph.lora(lora, file, parts);
        }
        Ok(parts)
    }

    fn prompts(&mut self, parts: Parts) -> Prompts {
        let (positive, negative) = prompt::with_embeddings(self.task);
        Prompts {
            positive: self.graph.encode_text(parts.clip, &positive),
            negative: self.graph.encode_text(parts.clip, &negative),
        }
    }

    fn walk(&self, denoise: f32) -> Walk {
        Walk {
            seed: self.task.seed,
            steps: self.task.steps,
            cfg: self.task.cfg_scale,
            sampler: samplers::sampler(self.task.sampler),
            scheduler: samplers::scheduler(self.task.schedule),
            denoise,
        }
    }

    /// The source at a size, uploaded, with its mask.
    fn prepared(&mut self, source: &Source, size: (u32, u32)) -> (Link<Image>, Option<Link<Mask>>) {
        let prepared = source::prepare(source, size.0, size.1);
        let upload = self.graph.upload(prepared.image);
        let image = self.graph.load_image(upload);
        let mask = prepared.mask.map(|mask| {
            let upload = self.graph.upload(mask);
            self.graph.load_mask(upload)
        });
        (image, mask)
    }

    /// Latents to start from, and how much of the schedule to run: the source, or nothing.
    fn start(
        &mut self,
        parts: Parts,
        size: (u32, u32),
        empty: &'static str,
    ) -> (Link<Latent>, f32) {
        let Some(source) = self.task.source() else {
            return (self.graph.empty(empty, size, self.task.batch), 1.0);
        };
        let (image, _) = self.prepared(source, size);
        let latent = self.graph.encode(image, parts.vae);
        let latent = self.graph.repeat(latent, self.task.batch);
        (latent, source.denoising_strength)
    }

    /// The picture that latents are; with transparency, if that was asked for.
    fn decoded(&mut self, parts: Parts, latent: Link<Latent>) -> Drawn {
        let image = self.graph.decode(latent, parts.vae);
        let version = match self.model.baseline {
            Baseline::StableDiffusionXl => "SDXL",
            _ => "SD15",
        };
        if self.transparency().is_none() {
            return image.into();
        }
        Drawn {
            image: self.graph.decode_transparent(latent, image, version),
            has_alpha: true,
        }
    }

    /// How layer diffusion is applied to this family, if it was asked for and exists.
    fn transparency(&self) -> Option<&'static str> {
        let config = match self.model.baseline {
            Baseline::StableDiffusion1 => "SD15, Attention Injection, attn_sharing",
            Baseline::StableDiffusionXl => "SDXL, Conv Injection",
            _ => return None,
        };
        self.task.transparent.then_some(config)
    }

    /// Refuses the task if a class is missing.
    fn demand(&self, classes: &[&str]) -> Result<(), EngineError> {
        match classes.iter().find(|class| !self.shelf.has(class)) {
            Some(class) => Err(missing(&format!("the node `{class}`"))),
            None => Ok(()),
        }
    }

    /// Samples with the whole model.
    fn sample(
        &mut self,
        walk: Walk,
        model: Link<Model>,
        prompts: Prompts,
        latent: Link<Latent>,
    ) -> Link<Latent> {
        self.graph.sample(walk, model, prompts, latent)
    }
}

fn missing(what: &str) -> EngineError {
    EngineError::bad_task(format!("this ComfyUI has not {what}"))
}
