//! Who must be able to pay before anything is made.
//!
//! # Source
//! `generation.md` § 7.6.

use crate::image::ImageSpec;
use crate::model_reference::{Baseline, ModelReference};

/// How busy the horde is with one kind of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait or run.
    pub queued: u64,
    /// Threads of workers that are online.
    pub threads: u64,
}

/// Why a request needs its kudos upfront.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It wants fast workers only.
    FastWorkers,
    /// More steps than few-step models make sense of: more than this.
    FewSteps(u32),
    /// More steps than its models want: more than this.
    Steps(u32),
    /// A larger picture than a square with sides of this many pixels.
    Size(u32),
    /// More steps than a control type makes sense of: more than this.
    ControlSteps(u32),
    /// A longer text than this many tokens.
    Tokens(u32),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FastWorkers => write!(f, "only fast workers may serve it"),
            Self::FewSteps(limit) => write!(f, "it has more than {limit} LCM steps"),
            Self::Steps(limit) => write!(f, "it has more than {limit} steps"),
            Self::Size(side) => write!(f, "it is larger than {side}×{side}"),
            Self::ControlSteps(limit) => {
                write!(f, "it has more than {limit} steps with a control type")
            }
            Self::Tokens(limit) => write!(f, "it is longer than {limit} tokens"),
        }
    }
}

/// Steps of LCM that are free.
const FREE_LCM_STEPS: u32 = 10;
/// Steps with a control type that are free.
const FREE_CONTROL_STEPS: u32 = 20;
/// Steps that are free when the model does not say.
const FREE_STEPS: u32 = 40;
/// Steps that a downgraded request is left with when the model does not say.
const DOWNGRADED_STEPS: u32 = 30;
/// A downgrade leaves at least this many steps.
const FEWEST_STEPS: u32 = 5;

/// Whether a request needs its kudos upfront, and why.
pub fn image(spec: &ImageSpec, load: Load, reference: &ModelReference) -> Option<Need> {
    let steps = spec.accurate_steps();
    if !spec.slow_workers {
        return Some(Need::FastWorkers);
    }
    if spec.is_lcm() && steps > FREE_LCM_STEPS {
        return Some(Need::FewSteps(FREE_LCM_STEPS));
    }
    if let Some(limit) = max_steps(spec, reference, FREE_STEPS)
        && steps > limit
    {
        return Some(Need::Steps(limit));
    }
    let side = side_limit(spec, load, reference);
    if spec.pixels() > u64::from(side) * u64::from(side) {
        return Some(Need::Size(side));
    }
    if spec.control_type.is_some() && steps > FREE_CONTROL_STEPS {
        return Some(Need::ControlSteps(FREE_CONTROL_STEPS));
    }
    None
}

/// The side of the largest square that is free now, in pixels: 576…1024.
pub fn side_limit(spec: &ImageSpec, load: Load, reference: &ModelReference) -> u32 {
    /// What a family can hardly be used below.
    const fn least(baseline: Baseline) -> u32 {
        match baseline {
            Baseline::StableDiffusionXl | Baseline::StableCascade | Baseline::Flux1 => 1024,
            Baseline::StableDiffusion2 => 768,
            _ => 576,
        }
    }
    let busy = load.queued.saturating_mul(9).saturating_add(5) / 10;
    let room = load.threads.saturating_mul(10).saturating_add(1024);
    let side = u32::try_from(room.saturating_sub(busy)).unwrap_or(u32::MAX);
    let floor = spec.baselines(reference).map(least).max().unwrap_or(576);
    side.max(floor).min(1024)
}

/// Shrinks a request until it needs nothing upfront: same shape, fewer pixels and steps.
pub fn downgrade(spec: &ImageSpec, load: Load, reference: &ModelReference) -> ImageSpec {
    let mut small = spec.clone();
    small.slow_workers = true;
    shrink(&mut small, side_limit(spec, load, reference));
    let mut limit = max_steps(spec, reference, DOWNGRADED_STEPS).unwrap_or(DOWNGRADED_STEPS);
    if spec.control_type.is_some() {
        limit = limit.min(FREE_CONTROL_STEPS);
    }
    if spec.is_lcm() {
        limit = limit.min(FREE_LCM_STEPS);
    }
    while small.accurate_steps() > limit && small.steps > FEWEST_STEPS {
        small.steps -= 1;
    }
    small
}

/// Scales a picture into `side`², both sides multiples of 64.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the quotient is a positive number of at most 48"
)]
pub(crate) fn shrink(spec: &mut ImageSpec, side: u32) {
    let limit = f64::from(side) * f64::from(side);
    let area = f64::from(spec.width) * f64::from(spec.height);
    if area <= limit {
        return;
    }
    let scale = (limit / area).sqrt();
    let fit = |length: u32| (f64::from(length) * scale / 64.0).floor() as u32 * 64;
    let (width, height) = (fit(spec.width), fit(spec.height));
    if u64::from(width) * u64::from(height) < 512 * 512 {
        (spec.width, spec.height) = (512, 512);
    } else {
        (spec.width, spec.height) = (width, height);
    }
}

/// The fewest steps that any of the named models sets as its most; `default` for models that do
/// not say; `None` without models.
fn max_steps(spec: &ImageSpec, reference: &ModelReference, default: u32) -> Option<u32> {
    let of_model = |name: &String| {
        let model = reference.get(name);
        model
            .and_then(|model| model.requirements.max_steps)
            .unwrap_or(default)
    };
    spec.models.iter().map(of_model).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut ImageSpec)) -> ImageSpec {
        let mut spec = ImageSpec::default();
        change(&mut spec);
        spec
    }

    fn reference() -> ModelReference {
        ModelReference::from_json(
            r#"{"flux": {"baseline": "flux_1", "requirements": {"max_steps": 8}},
                "sd2": {"baseline": "stable diffusion 2"}}"#,
        )
        .unwrap()
    }

    const IDLE: Load = Load {
        queued: 0,
        threads: 0,
    };

    /// The recorded scenario `image-price/upfront`.
    #[test]
    fn upfront_rules_match_what_was_recorded() {
        let cases: &[(ImageSpec, Option<Need>)] = &[
            (spec(|s| s.steps = 41), Some(Need::Steps(40))),
            (spec(|s| s.steps = 40), None),
            (spec(|s| s.slow_workers = false), Some(Need::FastWorkers)),
            (
                spec(|s| (s.width, s.height) = (1152, 1024)),
                Some(Need::Size(1024)),
            ),
            (
                spec(|s| (s.steps, s.sampler_name) = (11, "lcm".to_owned())),
                Some(Need::FewSteps(10)),
            ),
            (
                spec(|s| (s.steps, s.sampler_name) = (10, "lcm".to_owned())),
                None,
            ),
            (
                spec(|s| (s.steps, s.sampler_name) = (21, "k_heun".to_owned())),
                Some(Need::Steps(40)),
            ),
            (
                spec(|s| (s.steps, s.sampler_name) = (20, "k_heun".to_owned())),
                None,
            ),
            (
                spec(|s| (s.steps, s.models) = (9, vec!["flux".to_owned()])),
                Some(Need::Steps(8)),
            ),
            (
                spec(|s| (s.steps, s.control_type) = (21, Some("canny".to_owned()).into())),
                Some(Need::ControlSteps(20)),
            ),
            (spec(|s| (s.steps, s.models) = (200, Vec::new())), None),
        ];
        for (spec, need) in cases {
            assert_eq!(image(spec, IDLE, &reference()), *need, "{spec:?}");
        }
    }

    #[test]
    fn side_limit_follows_the_load_between_its_bounds() {
        let load = |queued, threads| Load { queued, threads };
        let plain = spec(|_| ());
        let sd2 = spec(|s| s.models = vec!["sd2".to_owned()]);
        let flux = spec(|s| s.models = vec!["flux".to_owned()]);
        let cases = [
            (&plain, load(0, 0), 1024),
            (&plain, load(200, 0), 844),
            (&plain, load(200, 10), 944),
            (&plain, load(10_000, 0), 576),
            (&plain, load(0, 1000), 1024),
            (&sd2, load(10_000, 0), 768),
            (&flux, load(10_000, 0), 1024),
        ];
        for (spec, load, side) in cases {
            assert_eq!(side_limit(spec, load, &reference()), side, "{load:?}");
        }
    }

    #[test]
    fn downgrade_needs_nothing_any_more() {
        let shapes = [
            (spec(|s| s.steps = 50), (512, 512, 30)),
            (
                spec(|s| (s.width, s.height) = (2048, 1024)),
                (1408, 704, 30),
            ),
            (spec(|s| (s.width, s.height) = (3072, 64)), (3072, 64, 30)),
            (
                spec(|s| (s.steps, s.sampler_name) = (50, "k_heun".to_owned())),
                (512, 512, 15),
            ),
            (
                spec(|s| (s.steps, s.models) = (50, vec!["flux".to_owned()])),
                (512, 512, 8),
            ),
        ];
        for (before, (width, height, steps)) in shapes {
            let after = downgrade(&before, IDLE, &reference());
            assert_eq!(
                (after.width, after.height, after.steps),
                (width, height, steps)
            );
            assert_eq!(image(&after, IDLE, &reference()), None);
        }
    }
}
