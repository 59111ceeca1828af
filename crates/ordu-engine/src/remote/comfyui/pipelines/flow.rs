//! The families that follow a flow instead of removing noise: Flux, Qwen-Image, Z-Image.

use super::super::models::ModelFiles;
use super::super::nodes::{Parts, Walk};
use super::{Draft, Drawn, missing};
use crate::{Baseline, EngineError, Schedule};

/// Latents of 16 channels.
const EMPTY: &str = "EmptySD3LatentImage";

/// How far Qwen-Image's noise levels are shifted.
const QWEN_SHIFT: f32 = 3.1;

/// How far Z-Image's noise levels are shifted: what its makers publish it with.
const Z_IMAGE_SHIFT: f32 = 3.0;

impl Draft<'_> {
    pub(super) fn flux(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let (latent, denoise) = self.start(parts, self.size(), EMPTY);
        let walk = Walk {
            cfg: match self.model.baseline {
                Baseline::FluxSchnell => 1.0,
                _ => self.task.cfg_scale,
            },
            scheduler: self.flow_scheduler("normal"),
            ..self.walk(denoise)
        };
        self.graph.count_steps(walk.steps);
        let noise = self.graph.noise(walk.seed);
        let guider = self.graph.guider(parts.model, prompts, walk.cfg);
        let sampler = self.graph.sampler_named(walk.sampler);
        let sigmas = self.graph.sigmas(parts.model, walk);
        let latent = self
            .graph
            .sample_custom(noise, guider, (sampler, sigmas), latent);
        Ok(self.decoded(parts, latent))
    }

    pub(super) fn qwen_image(&mut self) -> Result<Drawn, EngineError> {
        self.split("qwen_image", QWEN_SHIFT)
    }

    pub(super) fn z_image(&mut self) -> Result<Drawn, EngineError> {
        self.split("lumina2", Z_IMAGE_SHIFT)
    }

    /// A model of three files, its noise levels shifted.
    fn split(&mut self, encoder: &'static str, shift: f32) -> Result<Drawn, EngineError> {
        let ModelFiles::Split {
            diffusion,
            text_encoder,
            vae,
        } = self.files
        else {
            return Err(missing("the three files of this model"));
        };
        let parts = Parts {
            model: self.graph.diffusion_file(diffusion),
            clip: self.graph.text_encoder_file(text_encoder, encoder),
            vae: self.graph.vae_file(vae),
        };
        let (mut parts, prompts) = self.dress(parts)?;
        parts.model = self.graph.shift_auraflow(parts.model, shift);
        let (latent, denoise) = self.start(parts, self.size(), EMPTY);
        let walk = Walk {
            scheduler: self.flow_scheduler("karras"),
            ..self.walk(denoise)
        };
        let latent = self.sample(walk, parts.model, prompts, latent);
        Ok(self.decoded(parts, latent))
    }

    fn flow_scheduler(&self, karras: &'static str) -> &'static str {
        match self.task.schedule {
            Schedule::Normal => "simple",
            Schedule::Karras => karras,
        }
    }
}
