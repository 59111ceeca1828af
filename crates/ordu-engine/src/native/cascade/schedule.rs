//! The noise that Stable Cascade was trained with, and the levels of its runs.
//!
//! The share of the picture falls as a cosine over the time 0…1 (Nichol and Dhariwal 2021, "Improved
//! Denoising Diffusion Probabilistic Models"). A run may be shifted towards noise, which changes where its
//! levels lie and not what the network is told at one: the time that belongs to its noise.

use std::f64::consts::FRAC_PI_2;

use crate::Sampler;
use crate::native::sampling::Level;

/// Levels that runs choose from.
const KNOWN: usize = 10_000;
/// Keeps the share of the picture from falling too fast at the beginning.
const OFFSET: f64 = 0.008;
/// Shares of the picture beyond which it is neither clean nor gone.
const SHARES: (f64, f64) = (1e-4, 1.0 - 1e-4);

/// The levels of a stage.
#[derive(Clone, Debug)]
pub struct Cosine {
    /// Rising.
    sigmas: Vec<f64>,
}

impl Cosine {
    /// The levels, shifted towards noise: at `shift` 2 there is twice as much of it at each time.
    pub fn new(shift: f64) -> Self {
        let sigma = |step: usize| {
            let share = share((step + 1) as f64 / KNOWN as f64);
            // The share whose noise is so many times as strong.
            let odds = share / (1.0 - share) / (shift * shift);
            let share = if odds.is_finite() {
                odds / (1.0 + odds)
            } else {
                1.0
            };
            let share = share.clamp(SHARES.0, SHARES.1);
            ((1.0 - share) / share).sqrt()
        };
        Self {
            sigmas: (0..KNOWN).map(sigma).collect(),
        }
    }

    /// The levels of a run, noisiest first, the clean one last: those known, of which evenly many are left
    /// out. With a `strength` below 1 they are the last of as many more.
    ///
    /// # Source
    /// `worker.md` § 2.1 and 2.8: `simple`, `floor(steps / strength)`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 100 times the steps"
    )]
    pub fn levels(&self, sampler: Sampler, steps: usize, strength: f64) -> Vec<Level> {
        let steps = steps.max(1);
        // Their last step before the clean end would be too short to mean anything.
        let left_out = usize::from(matches!(
            sampler,
            Sampler::Dpm2 | Sampler::Dpm2A | Sampler::UniPc | Sampler::UniPcBh2
        ));
        let whole = |steps: usize| (steps as f64 / strength.clamp(0.01, 1.0)).floor() as usize;
        let all = whole(steps + left_out).max(1);
        let at = |index: usize| {
            let place = KNOWN.saturating_sub(1 + index * KNOWN / all);
            self.sigmas.get(place).copied().unwrap_or_default()
        };
        let mut sigmas: Vec<f64> = (0..all).map(at).collect();
        sigmas.truncate(all - left_out.min(all - 1));
        // Beyond the clamp neighbours are equal, and a step between them is none.
        sigmas.dedup();
        let skipped = sigmas.len().saturating_sub(steps);
        let mut levels: Vec<Level> = sigmas.split_off(skipped).into_iter().map(level).collect();
        levels.push(Level::CLEAN);
        levels
    }

    /// Whether a level is the noisiest of all, so that a run starts from noise alone.
    pub fn is_start(&self, level: Level) -> bool {
        self.sigmas
            .last()
            .is_some_and(|last| level.sigma >= last * (1.0 - 1e-5))
    }
}

/// The share of the picture's variance at a time.
fn share(time: f64) -> f64 {
    let at = |time: f64| ((time + OFFSET) / (1.0 + OFFSET) * FRAC_PI_2).cos().powi(2);
    at(time) / at(0.0)
}

/// The level of a `σ`.
pub fn level(sigma: f64) -> Level {
    let spread = f64::hypot(1.0, sigma);
    let first = (OFFSET / (1.0 + OFFSET) * FRAC_PI_2).cos();
    let time = (first / spread).clamp(0.0, 1.0).acos() / FRAC_PI_2;
    Level {
        sigma,
        alpha: 1.0 / spread,
        noise: sigma / spread,
        time: time * (1.0 + OFFSET) - OFFSET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_span_what_the_clamp_leaves_and_fall() {
        for shift in [1.0, 2.0] {
            let schedule = Cosine::new(shift);
            for (steps, strength) in [(1, 1.0), (10, 1.0), (20, 0.5), (7, 0.01), (335, 1.0)] {
                let levels = schedule.levels(Sampler::Euler, steps, strength);
                assert!(levels.len() > 1 && levels.len() <= steps + 1);
                assert_eq!(levels[levels.len() - 1], Level::CLEAN);
                assert!(levels.windows(2).all(|pair| pair[0].sigma > pair[1].sigma));
                assert_eq!(schedule.is_start(levels[0]), strength >= 1.0);
            }
            // √(0.9999 / 0.0001).
            let first = schedule.levels(Sampler::Euler, 20, 1.0)[0];
            assert!((first.sigma - 99.995).abs() < 1e-6);
        }
    }

    #[test]
    fn the_time_is_that_of_the_noise_whatever_the_shift() {
        // cos²((0.5 + 0.008) / 1.008 · π/2) / cos²(0.008 / 1.008 · π/2) = 0.493844.
        let share: f64 = 0.493_844;
        let middle = ((1.0 - share) / share).sqrt();
        assert!((level(middle).time - 0.5).abs() < 1e-5);
        let shifted = Cosine::new(2.0).levels(Sampler::Euler, 2, 1.0)[1];
        assert!((shifted.sigma - 2.0 * middle).abs() < 1e-3, "{shifted:?}");
        assert!(shifted.time > 0.69 && shifted.time < 0.71, "{shifted:?}");
    }
}
