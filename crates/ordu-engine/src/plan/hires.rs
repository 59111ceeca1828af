//! Hires fix: whether, from which size, and how long the second pass is.
//!
//! # Source
//! `worker.md` § 2.10.

use crate::{Baseline, ImageTask, Mode, ModelInfo};

/// Of the second pass, where nothing says otherwise.
const DENOISING_STRENGTH: f32 = 0.65;

/// The sizes that Stable Diffusion XL was trained on, in pixels.
const BUCKETS: [(u32, u32); 9] = [
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
];

/// First passes are made of squares of so many pixels a side.
const GRID: f64 = 64.0;

/// Whether the task is drawn in two passes.
#[must_use]
pub fn applies(task: &ImageTask, model: &ModelInfo) -> bool {
    let paints = matches!(task.mode, Mode::Inpaint(_) | Mode::Outpaint(_)) || model.inpainting;
    let least = match model.baseline {
        Baseline::StableDiffusion1 => 512,
        Baseline::StableDiffusionXl => 1024,
        _ => 0,
    };
    task.hires.is_some() && !paints && task.width > least && task.height > least
}

/// How much of the schedule the second pass runs, 0.01 to 1.
#[must_use]
pub fn denoising_strength(task: &ImageTask) -> f32 {
    let asked = task.hires.and_then(|hires| hires.denoising_strength);
    let of_source = || task.source().map(|source| source.denoising_strength);
    let strength = asked.or_else(of_source).unwrap_or(DENOISING_STRENGTH);
    if strength.is_nan() {
        DENOISING_STRENGTH
    } else {
        strength.clamp(0.01, 1.0)
    }
}

/// Width and height of the first pass, in pixels.
#[must_use]
pub fn first_pass(baseline: Baseline, width: u32, height: u32) -> (u32, u32) {
    match baseline {
        Baseline::StableDiffusionXl => nearest_bucket(width, height),
        Baseline::StableCascade if width.max(height) > 1024 => {
            divided(width, height, f64::from(width.max(height)) / 1024.0)
        }
        Baseline::StableCascade => (width, height),
        Baseline::Custom => (1024, 1024),
        _ if width > 512 && height > 512 => {
            divided(width, height, f64::from(width.min(height)) / 512.0)
        }
        _ => (width, height),
    }
}

fn nearest_bucket(width: u32, height: u32) -> (u32, u32) {
    let aspect = f64::from(width) / f64::from(height.max(1));
    let away = |bucket: &(u32, u32)| (f64::from(bucket.0) / f64::from(bucket.1) - aspect).abs();
    let nearer = |best: (u32, u32), next: (u32, u32)| {
        if away(&next) < away(&best) {
            next
        } else {
            best
        }
    };
    BUCKETS.into_iter().fold((1024, 1024), nearer)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a side of at most 2^32 divided by at least 1"
)]
fn divided(width: u32, height: u32, by: f64) -> (u32, u32) {
    let side = |side: u32| ((f64::from(side) / (GRID * by)).floor() * GRID).max(GRID) as u32;
    (side(width), side(height))
}

/// The side of the square that the rules count with; `None` if nobody knows it.
fn native_side(model: &ModelInfo) -> Option<f64> {
    match model.baseline {
        Baseline::Custom => None,
        Baseline::StableDiffusion2 if model.native == 768 => Some(768.0),
        Baseline::StableDiffusion1 | Baseline::StableDiffusion2 => Some(512.0),
        _ => Some(1024.0),
    }
}

/// The steps of the second pass of a task.
#[must_use]
pub fn second_steps(task: &ImageTask, model: &ModelInfo) -> u32 {
    let pixels = f64::from(task.width) * f64::from(task.height);
    let strength = f64::from(denoising_strength(task));
    steps(native_side(model), pixels, strength, task.steps)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the steps of the first pass"
)]
fn steps(native: Option<f64>, pixels: f64, strength: f64, first: u32) -> u32 {
    let most = f64::from(first);
    let growth = native.map_or(0.0, |side| (pixels / (side * side)) / (3.0 * 512.0 / side));
    let base = (3.0 + (most - 3.0) * strength * strength).round_ties_even();
    let grown = (base * growth.exp2() / 2.25).round_ties_even();
    let padded = if first <= 18 { grown + 3.0 } else { grown };
    padded.min(most).max(most.min(6.0)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::pipeline::tests::model;
    use crate::{Hires, Source};

    /// Checklist: vectors: second-pass steps.
    #[test]
    fn second_steps_are_those_of_the_table() {
        for (native, width, height, strength, first, expected) in [
            (Some(512.0), 768, 768, 0.65, 30, 10),
            (Some(512.0), 1024, 1024, 0.65, 30, 16),
            (Some(512.0), 1024, 1024, 0.4, 30, 8),
            (Some(512.0), 512, 512, 0.65, 30, 8),
            (Some(1024.0), 1536, 1536, 0.65, 30, 18),
            (Some(1024.0), 1536, 1024, 0.65, 25, 11),
            (Some(1024.0), 2048, 2048, 0.5, 20, 20),
            (Some(1024.0), 1280, 1280, 0.65, 8, 8),
            (Some(1024.0), 2048, 1152, 1.0, 50, 50),
            (None, 1024, 1024, 0.65, 30, 6),
        ] {
            let pixels = f64::from(width) * f64::from(height);
            let case = format!("{native:?} {width}x{height} {strength} {first}");
            assert_eq!(steps(native, pixels, strength, first), expected, "{case}");
        }
    }

    /// Checklist: vectors: first-pass size.
    #[test]
    fn first_sizes_are_those_of_the_table() {
        for ((width, height), plain, cascade, bucket) in [
            ((768, 768), (512, 512), (768, 768), (1024, 1024)),
            ((1024, 640), (768, 512), (1024, 640), (1216, 832)),
            ((1216, 832), (704, 512), (1024, 640), (1216, 832)),
            ((1536, 1024), (768, 512), (1024, 640), (1216, 832)),
            ((2048, 1152), (896, 512), (1024, 576), (1344, 768)),
            ((576, 1024), (512, 896), (576, 1024), (768, 1344)),
        ] {
            let size = |baseline| first_pass(baseline, width, height);
            assert_eq!(size(Baseline::StableDiffusion1), plain, "{width}x{height}");
            assert_eq!(size(Baseline::StableCascade), cascade, "{width}x{height}");
            assert_eq!(
                size(Baseline::StableDiffusionXl),
                bucket,
                "{width}x{height}"
            );
            assert_eq!(size(Baseline::Custom), (1024, 1024));
        }
        assert_eq!(
            first_pass(Baseline::StableDiffusion1, 512, 1024),
            (512, 1024)
        );
        assert_eq!(first_pass(Baseline::StableDiffusionXl, 64, 0), (1536, 640));
    }

    #[test]
    fn small_and_painted_pictures_have_one_pass() {
        let task = |width, height| ImageTask {
            width,
            height,
            hires: Some(Hires::default()),
            ..ImageTask::new("m", "x")
        };
        let sd1 = model(Baseline::StableDiffusion1, 512);
        let sdxl = model(Baseline::StableDiffusionXl, 1024);
        assert!(!applies(&task(512, 1024), &sd1));
        assert!(applies(&task(576, 576), &sd1));
        assert!(!applies(&task(1024, 1536), &sdxl));
        assert!(applies(&task(1088, 1088), &sdxl));
        let source = Source::new(image::DynamicImage::new_rgb8(1, 1));
        let painted = ImageTask {
            mode: Mode::Outpaint(source),
            ..task(2048, 2048)
        };
        assert!(!applies(&painted, &sd1));
        let inpainting = ModelInfo {
            inpainting: true,
            ..sd1
        };
        assert!(!applies(&task(2048, 2048), &inpainting));
    }

    #[test]
    fn strength_is_asked_for_or_of_the_source_or_usual() {
        let mut task = ImageTask::new("m", "x");
        assert!((denoising_strength(&task) - 0.65).abs() < 1e-6);
        let image = image::DynamicImage::new_rgb8(1, 1);
        task.mode = Mode::Img2Img(Source {
            denoising_strength: 0.3,
            ..Source::new(image)
        });
        assert!((denoising_strength(&task) - 0.3).abs() < 1e-6);
        task.hires = Some(Hires {
            denoising_strength: Some(7.0),
        });
        assert!((denoising_strength(&task) - 1.0).abs() < 1e-6);
    }
}
