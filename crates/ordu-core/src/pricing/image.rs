//! What a picture costs.
//!
//! The price of the drawing itself comes from a model that is fitted to observed prices
//! (`fitted`); the rest are the rules around it.
//!
//! # Source
//! `generation.md` § 7.1–7.5.

mod fitted;

use crate::Kudos;
use crate::image::{ImageSpec, UPSCALERS};
use crate::model_reference::{Baseline, ModelReference};

/// The price of one LoRA.
const PER_LORA: f64 = 3.0;
/// The price of any number of textual inversions.
const TEXTUAL_INVERSIONS: f64 = 1.0;

/// What one picture costs before burn and model: the number that clients are shown, and what the
/// worker of a Stable Diffusion 1 model earns.
pub fn base_price(spec: &ImageSpec) -> Kudos {
    let inversions = if spec.tis.is_empty() {
        0.0
    } else {
        TEXTUAL_INVERSIONS
    };
    let loras = PER_LORA * count(spec.loras.len());
    Kudos::round_to_cents(fitted::price(spec) + loras + inversions)
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
    let worth = worth.as_f64();
    burn_of_drawing(
        spec,
        if spec.source_image.is_some() {
            worth * 1.3
        } else {
            worth
        },
    )
}

/// What the requester pays, but for the share of a source image.
fn burn_of_drawing(spec: &ImageSpec, worth: f64) -> Kudos {
    let mut price = worth;
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
    /// What must be there before anything is made, if it must: the total, but without the share of
    /// a source image, which is fetched only afterwards.
    pub upfront: Kudos,
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
    Estimate {
        base,
        model: dearest.map(|(model, _)| model.clone()),
        multiplier,
        total: all_of(spec, burn(spec, base), multiplier),
        upfront: all_of(spec, burn_of_drawing(spec, base.as_f64()), multiplier),
    }
}

/// The price of all pictures, with a model that makes them so many times dearer, and the activation.
pub(super) fn total(spec: &ImageSpec, multiplier: u8) -> Kudos {
    all_of(spec, burn(spec, base_price(spec)), multiplier)
}

fn all_of(spec: &ImageSpec, each: Kudos, multiplier: u8) -> Kudos {
    let pictures = each.as_f64() * f64::from(spec.n) * f64::from(multiplier);
    Kudos::round_to_cents(pictures + 1.0)
}

/// A small count as a number to calculate with.
fn count(items: usize) -> f64 {
    u32::try_from(items).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests;
