//! Pictures of which a part is drawn anew.

use image::{Rgb, RgbImage};

use super::{Draft, Drawn};
use crate::plan::source;
use crate::{EngineError, Source};

impl Draft<'_> {
    pub(super) fn masked_img2img(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let source = self.source_or_noise();
        let (image, mask) = self.prepared(&source, self.size());
        let mut latent = self.graph.encode(image, parts.vae);
        if let Some(mask) = mask {
            latent = self.graph.noise_mask(latent, mask);
        }
        let latent = self.graph.repeat(latent, self.task.batch);
        let walk = self.walk(source.denoising_strength);
        let latent = self.sample(walk, parts.model, prompts, latent);
        Ok(self.decoded(parts, latent))
    }

    pub(super) fn paint(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let source = self.source_or_noise();
        let size = self.size();
        let (image, mask) = self.prepared(&source, size);
        let mask = mask.unwrap_or_else(|| {
            let upload = self.graph.upload(source::everything(size.0, size.1));
            self.graph.load_mask(upload)
        });
        let latent = self.graph.encode_for_inpaint(image, mask, parts.vae);
        let latent = self.graph.repeat(latent, self.task.batch);
        let walk = self.walk(source.denoising_strength);
        let latent = self.sample(walk, parts.model, prompts, latent);
        Ok(self.decoded(parts, latent))
    }

    /// The source; where there is none, noise of the job's seed, all of it to be drawn anew.
    fn source_or_noise(&self) -> Source {
        let (width, height) = self.size();
        let mut state = self.task.seed | 1;
        let mut level = || {
            // Xorshift: nobody will see these pixels.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        let noise = || {
            let pixels = RgbImage::from_fn(width, height, |_, _| Rgb([level(), level(), level()]));
            Source::new(pixels.into())
        };
        self.task.source().cloned().unwrap_or_else(noise)
    }
}
