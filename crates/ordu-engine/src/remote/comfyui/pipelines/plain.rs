//! From noise or a picture, in one pass or two; and enlarging with invention.

use super::super::nodes::Walk;
use super::{Draft, Drawn, missing};
use crate::EngineError;
use crate::plan::hires;

/// Latents of the Stable Diffusion family.
pub(super) const EMPTY: &str = "EmptyLatentImage";

impl Draft<'_> {
    pub(super) fn plain(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let (latent, denoise) = self.start(parts, self.size(), EMPTY);
        let latent = self.sample(self.walk(denoise), parts.model, prompts, latent);
        Ok(self.decoded(parts, latent))
    }

    pub(super) fn hires(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let (latent, denoise) = self.start(parts, self.first_size(), EMPTY);
        let first = self.sample(self.walk(denoise), parts.model, prompts, latent);
        let larger = self
            .graph
            .resize_latent(first, self.size(), "nearest-exact");
        let second = self.sample(self.second_walk(), parts.model, prompts, larger);
        Ok(self.decoded(parts, second))
    }

    pub(super) fn creative_upscale(&mut self) -> Result<Drawn, EngineError> {
        let source = self
            .task
            .source()
            .ok_or_else(|| missing("anything to enlarge"))?;
        let (parts, prompts) = self.open()?;
        let own_size = (source.image.width(), source.image.height());
        let whole = |side: u32| side.clamp(64, 8192).next_multiple_of(8);
        let (image, _) = self.prepared(source, (whole(own_size.0), whole(own_size.1)));
        let latent = self.graph.encode(image, parts.vae);
        let latent = self.graph.repeat(latent, self.task.batch);
        let larger = self.graph.resize_latent(latent, self.size(), "bislerp");
        let walk = self.walk(source.denoising_strength);
        let latent = self.sample(walk, parts.model, prompts, larger);
        Ok(self.decoded(parts, latent))
    }

    /// The size of the first of two passes.
    pub(super) fn first_size(&self) -> (u32, u32) {
        let (width, height) = self.size();
        hires::first_pass(self.model.baseline, width, height)
    }

    /// The second of two passes.
    pub(super) fn second_walk(&self) -> Walk {
        Walk {
            steps: hires::second_steps(self.task, self.model),
            scheduler: "simple",
            ..self.walk(hires::denoising_strength(self.task))
        }
    }
}
