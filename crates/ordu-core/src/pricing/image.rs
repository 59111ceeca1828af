//! What a picture costs.
//!
//! The base price is a formula of size and steps; the fitted model of measured prices takes the
//! place of `drawing` and nothing else.
//!
//! # Source
//! `generation.md` § 7.1–7.5.

use crate::Kudos;
use crate::image::{ImageSpec, UPSCALERS};
use crate::model_reference::{Baseline, ModelReference};

/// The price of one LoRA.
const PER_LORA: f64 = 3.0;
/// The price of any number of textual inversions.
const TEXTUAL_INVERSIONS: f64 = 1.0;
/// Of one step at the smallest size.
const PER_STEP: f64 = 0.1232;
/// How much dearer a step is at 1024×1024 than at the smallest size, plus 1.
const BY_SIZE: f64 = 8.75;
/// How the price grows with the area.
const SIZE_EXPONENT: f64 = 1.75;
/// The smallest area, 64×64, in pixels.
const SMALLEST_AREA: f64 = 4096.0;
/// The area that [`BY_SIZE`] is about, 1024×1024, in pixels.
const LARGE_AREA: f64 = 1_048_576.0;

/// What one picture costs before burn and model: the number that clients are shown, and what the
/// worker of a Stable Diffusion 1 model earns.
pub fn base_price(spec: &ImageSpec) -> Kudos {
    let inversions = if spec.tis.is_empty() {
        0.0
    } else {
        TEXTUAL_INVERSIONS
    };
    let loras = PER_LORA * count(spec.loras.len());
    Kudos::round_to_cents(drawing(spec) + loras + inversions)
}

/// The price of the drawing itself, in kudos.
///
/// # Source
/// The fallback formula of `generation.md` § 7.1, with model evaluations for steps: the measured
/// prices of samplers that evaluate twice are about twice as high.
fn drawing(spec: &ImageSpec) -> f64 {
    let area = f64::from(spec.width) * f64::from(spec.height);
    let relative = ((area - SMALLEST_AREA) / (LARGE_AREA - SMALLEST_AREA)).max(0.0);
    let steps = f64::from(spec.accurate_steps());
    let mut price = cents(PER_STEP * steps * (1.0 + BY_SIZE * relative.powf(SIZE_EXPONENT)));
    for _ in &spec.post_processing {
        price = cents(price * 1.2);
    }
    if spec.control_type.is_some() && !spec.return_control_map {
        price = cents(price * 3.0);
    }
    price
}

/// How many times dearer a job is with the model that is actually used.
///
/// # Source
/// `generation.md` § 7.2.
pub fn model_multiplier(spec: &ImageSpec, baseline: Baseline) -> u8 {
    match baseline {
        Baseline::StableDiffusionXl if spec.workflow.is_some() => 4,
        Baseline::StableCascade if spec.hires_fix => 7,
        _ => estimated_multiplier(baseline),
    }
}

/// The multiplier before anything but the model is known.
const fn estimated_multiplier(baseline: Baseline) -> u8 {
    match baseline {
        Baseline::StableDiffusionXl => 2,
        Baseline::StableCascade => 4,
        Baseline::Flux1 | Baseline::ZImageTurbo => 8,
        Baseline::QwenImage => 12,
        Baseline::StableDiffusion1 | Baseline::StableDiffusion2 | Baseline::Other => 1,
    }
}

/// What a job is worth with the model that is actually used, before burn and agent.
pub fn job_kudos(spec: &ImageSpec, baseline: Baseline) -> Kudos {
    let multiplier = f64::from(model_multiplier(spec, baseline));
    Kudos::round_to_cents(base_price(spec).as_f64() * multiplier)
}

/// What the requester pays for a job that is worth `worth`; zero for a censored one.
///
/// # Source
/// `generation.md` § 7.3.
pub fn burn(spec: &ImageSpec, worth: Kudos) -> Kudos {
    let mut price = worth.as_f64();
    if spec.source_image.is_some() {
        price *= 1.3;
    }
    for name in &spec.post_processing {
        if UPSCALERS.contains(&name.as_str()) {
            price *= 1.05;
        }
    }
    price += 1.0;
    if !spec.slow_workers {
        price *= 1.2;
    }
    if spec.worker_blacklist {
        price *= 1.1;
    }
    Kudos::round_to_cents(price)
}

/// What it costs to make a request active, once and never given back.
///
/// # Source
/// `generation.md` § 7.4: for pictures the part for a style is always charged.
pub fn activation_tax(spec: &ImageSpec) -> Kudos {
    let extra_images = i64::try_from(spec.extra_source_images.len()).unwrap_or(i64::MAX);
    Kudos::new(3) + Kudos::new(extra_images.saturating_mul(5))
}

/// What is expected to be paid in all.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// What one picture costs before burn and model.
    pub base: Kudos,
    /// The model that was assumed: the dearest that may be used; `None` if any may.
    pub model: Option<String>,
    /// How many times dearer it is.
    pub multiplier: u8,
    /// The price of all pictures and the activation.
    pub total: Kudos,
}

/// Estimates the price of a whole request, by its dearest model.
///
/// # Source
/// `generation.md` § 7.5; the dearest model is `observed.md` 13.
pub fn estimate(spec: &ImageSpec, reference: &ModelReference) -> Estimate {
    let mut dearest: Option<(&String, u8)> = None;
    for model in &spec.models {
        let multiplier = estimated_multiplier(reference.baseline(model));
        if dearest.is_none_or(|(_, most)| multiplier > most) {
            dearest = Some((model, multiplier));
        }
    }
    let base = base_price(spec);
    let multiplier = dearest.map_or_else(
        || estimated_multiplier(Baseline::StableDiffusionXl),
        |(_, multiplier)| multiplier,
    );
    let each = burn(spec, base).as_f64();
    let total = each * f64::from(spec.n) * f64::from(multiplier) + 1.0;
    Estimate {
        base,
        model: dearest.map(|(model, _)| model.clone()),
        multiplier,
        total: Kudos::round_to_cents(total),
    }
}

/// Rounds to two decimals, half away from zero.
fn cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

/// A small count as a number to calculate with.
fn count(items: usize) -> f64 {
    u32::try_from(items).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests;
