//! What a walk from noise to latents needs beside its formulas.

use candle_core::Tensor;

use super::denoiser::Denoiser;
use super::schedule::Level;
use crate::EngineError;

/// Fresh noise, one tensor shaped like the latents at a time. Ancestral samplers and LCM draw one for
/// each step, DPM++ SDE two.
pub type Noise<'a> = dyn FnMut() -> Result<Tensor, EngineError> + 'a;

/// Who is told of each step: its number, counted from 1, and the present guess of the clean latents.
pub(super) type Watch<'a> = dyn FnMut(usize, &Tensor) -> Result<(), EngineError> + 'a;

/// A walk under way.
pub(super) struct Run<'r, 'a> {
    denoiser: &'r dyn Denoiser,
    noise: &'r mut Noise<'a>,
    watch: &'r mut Watch<'a>,
    done: usize,
}

impl<'r, 'a> Run<'r, 'a> {
    pub(super) fn new(
        denoiser: &'r dyn Denoiser,
        noise: &'r mut Noise<'a>,
        watch: &'r mut Watch<'a>,
    ) -> Self {
        Self {
            denoiser,
            noise,
            watch,
            done: 0,
        }
    }

    /// The clean latents that `z` seems to hold.
    pub(super) fn denoise(&self, z: &Tensor, level: Level) -> Result<Tensor, EngineError> {
        Ok(self.denoiser.denoise(z, level)?)
    }

    /// The same for `x`.
    pub(super) fn clean(&self, x: &Tensor, level: Level) -> Result<Tensor, EngineError> {
        self.denoise(&(x * level.alpha)?, level)
    }

    /// The level of a `σ`.
    pub(super) fn level(&self, sigma: f64) -> Level {
        self.denoiser.level(sigma)
    }

    pub(super) fn fresh(&mut self) -> Result<Tensor, EngineError> {
        (self.noise)()
    }

    /// Steps that are done.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// One more step is done.
    pub(super) fn told(&mut self, clean: &Tensor) -> Result<(), EngineError> {
        self.told_all(self.done + 1, clean)
    }

    /// So many steps are done.
    pub(super) fn told_all(&mut self, done: usize, clean: &Tensor) -> Result<(), EngineError> {
        self.done = self.done.max(done);
        (self.watch)(self.done, clean)
    }
}
