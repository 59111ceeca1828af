//! Noise levels: those of training, and those of a run.

use crate::native::sd::config::SchedulerConfig;
use crate::{EngineError, Prediction, Sampler, Schedule};

/// A noise level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Spread of the noise relative to the picture; 0 is clean, infinity is noise alone.
    pub sigma: f64,
    /// Share of the picture in `z`, `1/√(1 + σ²)`.
    pub alpha: f64,
    /// Share of the noise in `z`, `σ/√(1 + σ²)`.
    pub noise: f64,
    /// The time step that the network is told.
    pub time: f64,
}

impl Level {
    /// The clean end of every schedule.
    pub const CLEAN: Self = Self {
        sigma: 0.0,
        alpha: 1.0,
        noise: 0.0,
        time: 0.0,
    };
}

/// The noise levels a model was trained with.
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    /// `σ` of each training step; rising, the last may be infinite.
    sigmas: Vec<f64>,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Whether runs count time steps from the noisy end, as models that start from pure noise need.
    trailing: bool,
}

/// The most training steps that a configuration may claim.
const MAX_STEPS: usize = 100_000;
/// Karras schedules that begin with pure noise go here in one step: it is where ordinary Stable
/// Diffusion begins. Tried on `ordu-tiny`, 10 steps of DPM++ 2M, 16 prompts: from 80, the value of
/// the paper, 13 backgrounds were right (steps are spent where a picture is too faint to be seen,
/// and the second order extrapolates from guesses that mean nothing); from here, all 16.
const KARRAS_MAX_SIGMA: f64 = 14.6;
/// Curvature of the Karras schedule, as in the paper.
const KARRAS_RHO: f64 = 7.0;

impl NoiseSchedule {
    /// The levels of a configuration.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for kinds that are not built and numbers that make no sense.
    pub fn new(config: &SchedulerConfig) -> Result<Self, EngineError> {
        let refuse = |reason: String| Err(EngineError::bad_model("scheduler", reason));
        let steps = config.num_train_timesteps;
        if !(2..=MAX_STEPS).contains(&steps) {
            return refuse(format!("{steps} training steps"));
        }
        let sound = |beta: f64| beta > 0.0 && beta < 1.0;
        if !sound(config.beta_start) || !sound(config.beta_end) {
            return refuse("betas outside 0…1".to_owned());
        }
        let share = |step: usize| step as f64 / (steps - 1) as f64;
        let between = |from: f64, to: f64, at: f64| from + (to - from) * at;
        let betas: Vec<f64> = match config.beta_schedule.as_str() {
            "scaled_linear" => (0..steps)
                .map(|step| {
                    between(
                        config.beta_start.sqrt(),
                        config.beta_end.sqrt(),
                        share(step),
                    )
                    .powi(2)
                })
                .collect(),
            "linear" => (0..steps)
                .map(|step| between(config.beta_start, config.beta_end, share(step)))
                .collect(),
            other => return refuse(format!("unknown spacing of betas `{other}`")),
        };
        let mut signal: Vec<f64> = betas
            .iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(f64::sqrt(*product))
            })
            .collect();
        if config.rescale_betas_zero_snr {
            rescale_to_zero_terminal(&mut signal);
        }
        let trailing =
            config.rescale_betas_zero_snr || config.timestep_spacing.as_deref() == Some("trailing");
        Ok(Self {
            // With 1 − signal² and signal² the last one of a rescaled schedule is 1/0, that is
            // infinity.
            sigmas: signal
                .iter()
                .map(|signal| ((1.0 - signal * signal) / (signal * signal)).sqrt())
                .collect(),
            prediction: config.prediction()?,
            trailing,
        })
    }

    /// The levels of a run, noisiest first, the clean one last: `steps + 1` of them.
    ///
    /// With a `strength` below 1 the schedule is built for `floor(steps / strength)` steps and its
    /// last `steps` are taken, so that the work stays the same and only the end of the way is gone.
    pub fn levels(&self, schedule: Schedule, steps: usize, strength: f64) -> Vec<Level> {
        self.end_of(schedule, (steps, strength), 0)
    }

    /// The same for a sampler: some leave the last level before the clean one out, since their last step
    /// from there would be too short to mean anything, and have one more before it.
    pub fn levels_for(
        &self,
        (sampler, schedule): (Sampler, Schedule),
        steps: usize,
        strength: f64,
    ) -> Vec<Level> {
        let leaves_out = matches!(
            sampler,
            Sampler::Dpm2 | Sampler::Dpm2A | Sampler::UniPc | Sampler::UniPcBh2
        );
        self.end_of(schedule, (steps, strength), usize::from(leaves_out))
    }

    fn end_of(
        &self,
        schedule: Schedule,
        (steps, strength): (usize, f64),
        left_out: usize,
    ) -> Vec<Level> {
        let steps = steps.max(1);
        let all = whole_way(steps, strength) + left_out;
        let mut sigmas = match schedule {
            Schedule::Normal => self.normal(all),
            Schedule::Karras => self.karras(all),
        };
        sigmas.truncate(all - left_out);
        self.last_of(sigmas, steps)
    }

    /// The levels of a second pass: those of training, noisiest first, of which evenly many are left
    /// out. Otherwise as [`NoiseSchedule::levels`].
    ///
    /// # Source
    /// `worker.md` § 2.4, `simple`.
    pub fn simple(&self, steps: usize, strength: f64) -> Vec<Level> {
        let steps = steps.max(1);
        let all = whole_way(steps, strength);
        let known = self.sigmas.len();
        let at = |index: usize| {
            let back = index * known / all;
            self.sigmas
                .get(known.saturating_sub(1 + back))
                .copied()
                .unwrap_or_default()
        };
        let mut sigmas: Vec<f64> = (0..all).map(at).collect();
        sigmas.dedup();
        self.last_of(sigmas, steps)
    }

    /// The last levels of a schedule, and the clean one.
    fn last_of(&self, sigmas: Vec<f64>, steps: usize) -> Vec<Level> {
        let mut levels: Vec<Level> = sigmas.into_iter().map(|sigma| self.level(sigma)).collect();
        levels.push(Level::CLEAN);
        let skipped = levels.len().saturating_sub(steps + 1);
        levels.split_off(skipped)
    }

    /// Whether a level is the noisiest of the schedule, so that a run starts from noise alone.
    pub fn is_start(&self, level: Level) -> bool {
        self.sigmas
            .last()
            .is_some_and(|last| level.sigma >= last * (1.0 - 1e-5))
    }

    /// The level of a `σ`; its time step is the nearest one of training.
    pub fn level(&self, sigma: f64) -> Level {
        if sigma.is_infinite() {
            return Level {
                sigma,
                alpha: 0.0,
                noise: 1.0,
                time: self.last_step(),
            };
        }
        let spread = f64::hypot(1.0, sigma);
        Level {
            sigma,
            alpha: 1.0 / spread,
            noise: sigma / spread,
            time: self.nearest_step(sigma),
        }
    }

    fn last_step(&self) -> f64 {
        self.sigmas.len().saturating_sub(1) as f64
    }

    fn nearest_step(&self, sigma: f64) -> f64 {
        let distance = |at: usize| {
            let other = self.sigmas.get(at).copied().unwrap_or(f64::INFINITY);
            (other.ln() - sigma.ln()).abs()
        };
        let above = self.sigmas.partition_point(|other| *other < sigma);
        let below = above.saturating_sub(1);
        (if distance(below) <= distance(above) {
            below
        } else {
            above
        }) as f64
    }

    /// `σ` at a fractional training step, interpolated in logarithm.
    fn sigma_at(&self, step: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "steps are small and positive"
        )]
        let below = step.max(0.0).floor() as usize;
        let at = |index: usize| {
            self.sigmas
                .get(index)
                .or(self.sigmas.last())
                .copied()
                .unwrap_or_default()
        };
        let share = step - step.floor();
        if share == 0.0 {
            return at(below);
        }
        ((1.0 - share) * at(below).ln() + share * at(below + 1).ln()).exp()
    }

    /// Evenly in training steps: from the last to the first, both included; or, for models that
    /// count from the noisy end, from the last in equal strides that stop one stride above zero.
    fn normal(&self, steps: usize) -> Vec<f64> {
        let last = self.last_step();
        if self.trailing {
            let stride = (last + 1.0) / steps as f64;
            let step = |index: usize| ((last + 1.0) - index as f64 * stride).round() - 1.0;
            return (0..steps).map(|index| self.sigma_at(step(index))).collect();
        }
        let gaps = steps.saturating_sub(1).max(1) as f64;
        (0..steps)
            .map(|index| self.sigma_at(last * (1.0 - index as f64 / gaps)))
            .collect()
    }

    /// Karras et al. 2022, equation 5. A schedule that begins with pure noise keeps that beginning
    /// as its first step.
    fn karras(&self, steps: usize) -> Vec<f64> {
        let first = self.sigmas.first().copied().unwrap_or_default();
        let last = self.sigmas.last().copied().unwrap_or_default();
        if last.is_infinite() && steps > 1 {
            let mut sigmas = vec![last];
            sigmas.extend(karras_between(
                KARRAS_MAX_SIGMA.max(first),
                first,
                steps - 1,
            ));
            return sigmas;
        }
        karras_between(last, first, steps)
    }
}

/// The steps of a whole schedule whose end takes so many.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 100 times the steps"
)]
fn whole_way(steps: usize, strength: f64) -> usize {
    (steps as f64 / strength.clamp(0.01, 1.0)).floor() as usize
}

fn karras_between(from: f64, to: f64, steps: usize) -> Vec<f64> {
    let (from_root, to_root) = (from.powf(1.0 / KARRAS_RHO), to.powf(1.0 / KARRAS_RHO));
    let gaps = steps.saturating_sub(1).max(1) as f64;
    let root = |index: usize| from_root + (to_root - from_root) * (index as f64 / gaps);
    (0..steps)
        .map(|index| {
            if index == 0 {
                from
            } else {
                root(index).powf(KARRAS_RHO)
            }
        })
        .collect()
}

/// Shifts and scales `√ᾱ` so that the last is zero and the first stays (Lin et al. 2023, "Common
/// Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
fn rescale_to_zero_terminal(signal: &mut [f64]) {
    let (Some(first), Some(last)) = (signal.first().copied(), signal.last().copied()) else {
        return;
    };
    for value in signal.iter_mut() {
        *value = (*value - last) * first / (first - last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sd1() -> NoiseSchedule {
        NoiseSchedule::new(&SchedulerConfig::default()).unwrap()
    }

    fn zero_terminal() -> NoiseSchedule {
        let config = SchedulerConfig {
            rescale_betas_zero_snr: true,
            prediction_type: "v_prediction".to_owned(),
            ..SchedulerConfig::default()
        };
        NoiseSchedule::new(&config).unwrap()
    }

    #[test]
    fn stable_diffusion_spans_its_known_levels() {
        // The published limits of SD 1.x: 0.0292 and 14.6146.
        let levels = sd1().levels(Schedule::Normal, 20, 1.0);
        assert_eq!(levels.len(), 21);
        assert!((levels[0].sigma - 14.6146).abs() < 1e-4);
        assert!((levels[19].sigma - 0.029_17).abs() < 1e-5);
        assert_eq!(levels[20], Level::CLEAN);
        assert!((levels[0].time - 999.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_second_pass_leaves_evenly_many_levels_out() {
        for model in [sd1(), zero_terminal()] {
            let levels = model.simple(10, 1.0);
            let times: Vec<f64> = levels.iter().map(|level| level.time).collect();
            assert_eq!(
                times,
                [
                    999.0, 899.0, 799.0, 699.0, 599.0, 499.0, 399.0, 299.0, 199.0, 99.0, 0.0
                ]
            );
            let end = model.simple(5, 0.5);
            assert_eq!(end, levels[5..]);
            for (steps, strength) in [(1, 1.0), (16, 0.65), (500, 0.4)] {
                let levels = model.simple(steps, strength);
                assert!(levels.len() <= steps + 1 && levels.len() > 1);
                assert!(levels.windows(2).all(|pair| pair[0].sigma > pair[1].sigma));
            }
        }
    }

    #[test]
    fn levels_fall_in_every_schedule() {
        for model in [sd1(), zero_terminal()] {
            for schedule in [Schedule::Normal, Schedule::Karras] {
                for (steps, strength) in [
                    (1, 1.0),
                    (2, 1.0),
                    (25, 1.0),
                    (30, 0.6),
                    (7, 0.01),
                    (500, 1.0),
                ] {
                    let levels = model.levels(schedule, steps, strength);
                    assert_eq!(levels.len(), steps + 1);
                    assert!(
                        levels.windows(2).all(|pair| pair[0].sigma > pair[1].sigma),
                        "{schedule:?} {steps}"
                    );
                    assert!(
                        levels
                            .iter()
                            .all(|level| level.alpha.is_finite() && level.noise.is_finite())
                    );
                }
            }
        }
    }

    #[test]
    fn some_samplers_leave_the_last_level_out() {
        let model = sd1();
        let all = model.levels(Schedule::Karras, 11, 1.0);
        let without = model.levels_for((Sampler::Dpm2, Schedule::Karras), 10, 1.0);
        assert_eq!(without.len(), 11);
        assert_eq!(without[..10], all[..10]);
        assert_eq!(without[10], Level::CLEAN);
        let euler = model.levels_for((Sampler::Euler, Schedule::Karras), 11, 1.0);
        assert_eq!(euler, all);
        for steps in [1, 2, 30] {
            for strength in [0.01, 0.5, 1.0] {
                let levels = model.levels_for((Sampler::UniPc, Schedule::Normal), steps, strength);
                assert_eq!(levels.len(), steps + 1);
            }
        }
    }

    #[test]
    fn strength_keeps_the_number_of_steps_and_lowers_the_start() {
        let model = sd1();
        let full = model.levels(Schedule::Normal, 50, 1.0);
        let half = model.levels(Schedule::Normal, 25, 0.5);
        assert_eq!(half, full[25..]);
        assert!(model.is_start(full[0]) && !model.is_start(half[0]));
    }

    #[test]
    fn zero_terminal_schedules_start_from_pure_noise() {
        for schedule in [Schedule::Normal, Schedule::Karras] {
            let first = zero_terminal().levels(schedule, 25, 1.0)[0];
            assert!(first.sigma.is_infinite());
            assert_eq!((first.alpha, first.noise, first.time), (0.0, 1.0, 999.0));
        }
    }
}
