//! What is asked at each step: given a noisy picture, what is the clean one?

use candle_core::{Result, Tensor};

use super::schedule::{Level, NoiseSchedule};
use crate::Prediction;
use crate::native::ops::Edges;
use crate::native::sd::Condition;
use crate::native::sd::unet::{ControlNet, Steering, UNet};

/// Guesses the clean latents of noisy ones.
pub trait Denoiser {
    /// `z` at `level`, `[batch, c, h, w]`, to the clean latents it seems to hold, of the same
    /// shape.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    fn denoise(&self, z: &Tensor, level: Level) -> Result<Tensor>;

    /// The level of a `σ` between those of a run.
    fn level(&self, sigma: f64) -> Level;
}

/// A diffusion network under classifier-free guidance (Ho and Salimans 2022).
#[derive(Debug)]
pub struct Guided<'a> {
    /// The network.
    pub unet: &'a UNet,
    /// How to read what it predicts.
    pub schedule: &'a NoiseSchedule,
    /// What to draw, for the whole batch.
    pub positive: Condition,
    /// What to keep away from, and how strongly (1 is not at all).
    pub negative: Option<(Condition, f64)>,
    /// Further channels `[batch, c, h, w]` that inpainting networks see behind the latents: mask,
    /// then masked picture.
    pub beside: Option<Tensor>,
    /// What steers it.
    pub steered: Option<Steered<'a>>,
    /// Whether the picture tiles.
    pub edges: Edges,
}

/// A control network and the map that it sees.
#[derive(Debug)]
pub struct Steered<'a> {
    /// The network.
    pub network: &'a ControlNet,
    /// What it made of the map.
    pub seen: Tensor,
    /// How much it counts; 1 is usual.
    pub strength: f64,
    /// Which of the two predictions it steers.
    pub side: Side,
}

/// What a control network steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The prediction of what to draw.
    Positive,
    /// That of what to keep away from, too.
    Both,
}

impl Steered<'_> {
    /// What is added at one step under a condition, for as many pictures as that has.
    fn at(
        &self,
        (z, time): (&Tensor, f64),
        (condition, edges): (&Condition, Edges),
    ) -> Result<Steering> {
        self.network
            .forward((z, time), (condition, edges), &self.seen, self.strength)
    }
}

impl Guided<'_> {
    fn steering(&self, z: &Tensor, time: f64, condition: &Condition) -> Result<Option<Steering>> {
        let steer = |steered: &Steered<'_>| steered.at((z, time), (condition, self.edges));
        self.steered.as_ref().map(steer).transpose()
    }

    /// What is added for both prompts, which are asked about in one go, the positive one first.
    fn steering_of_both(
        &self,
        z: &Tensor,
        time: f64,
        prompts: &Condition,
    ) -> Result<Option<Steering>> {
        match &self.steered {
            Some(steered) if steered.side == Side::Positive => {
                let steering = steered.at((z, time), (&self.positive, self.edges))?;
                Ok(Some(steering.beside_nothing()?))
            }
            Some(_) => self.steering(&Tensor::cat(&[z, z], 0)?, time, prompts),
            None => Ok(None),
        }
    }

    fn predict(&self, z: &Tensor, time: f64) -> Result<Tensor> {
        let input = match &self.beside {
            Some(beside) => Tensor::cat(&[z, beside], 1)?,
            None => z.clone(),
        };
        let Some((negative, scale)) = &self.negative else {
            let steering = self.steering(z, time, &self.positive)?;
            let positive = (&self.positive, self.edges);
            return self
                .unet
                .forward_steered(&input, time, positive, steering.as_ref());
        };
        // Both in one go, which is faster than twice, as long as the two prompts are equally long.
        if negative.text.dims() != self.positive.text.dims() {
            let steering = self.steering(z, time, &self.positive)?;
            let ask = |condition: &Condition, steering: Option<&Steering>| {
                let condition = (condition, self.edges);
                self.unet.forward_steered(&input, time, condition, steering)
            };
            let with = ask(&self.positive, steering.as_ref())?;
            let both = self.steered.as_ref().filter(|it| it.side == Side::Both);
            let steering = both
                .map(|steered| steered.at((z, time), (negative, self.edges)))
                .transpose()?;
            let without = ask(negative, steering.as_ref())?;
            return &without + ((with - &without)? * *scale)?;
        }
        let prompts = self.positive.join(negative)?;
        let steering = self.steering_of_both(z, time, &prompts)?;
        let both = self.unet.forward_steered(
            &Tensor::cat(&[&input, &input], 0)?,
            time,
            (&prompts, self.edges),
            steering.as_ref(),
        )?;
        let batch = z.dim(0)?;
        let (with, without) = (both.narrow(0, 0, batch)?, both.narrow(0, batch, batch)?);
        &without + ((with - &without)? * *scale)?
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&self, z: &Tensor, level: Level) -> Result<Tensor> {
        let predicted = self.predict(z, level.time)?;
        match self.schedule.prediction {
            Prediction::Epsilon => (z - (predicted * level.noise)?)? / level.alpha,
            Prediction::Velocity => (z * level.alpha)? - (predicted * level.noise)?,
        }
    }

    fn level(&self, sigma: f64) -> Level {
        self.schedule.level(sigma)
    }
}

/// Keeps what lies outside a mask: before each question the known latents are put back, with as
/// much noise as the step has, and in each answer they are put back clean.
#[derive(Debug)]
pub struct Masked<D> {
    /// Who is asked.
    pub inner: D,
    /// `[1, 1, h, w]`: 1 where the picture is made anew, 0 where it is kept.
    pub mask: Tensor,
    /// Clean latents `[batch, c, h, w]`.
    pub known: Tensor,
    /// The noise the run started from, `[batch, c, h, w]`.
    pub noise: Tensor,
}

impl<D> Masked<D> {
    fn join(&self, made: &Tensor, known: &Tensor) -> Result<Tensor> {
        known + (made - known)?.broadcast_mul(&self.mask)?
    }
}

impl<D: Denoiser> Denoiser for Masked<D> {
    fn denoise(&self, z: &Tensor, level: Level) -> Result<Tensor> {
        let renoised = ((&self.known * level.alpha)? + (&self.noise * level.noise)?)?;
        let clean = self.inner.denoise(&self.join(z, &renoised)?, level)?;
        self.join(&clean, &self.known)
    }

    fn level(&self, sigma: f64) -> Level {
        self.inner.level(sigma)
    }
}
