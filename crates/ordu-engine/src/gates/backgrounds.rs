//! Whether what the bundled model draws is told from what is behind it.

use image::{DynamicImage, RgbaImage};

use super::judge::shape_of;
use super::{GateOptions, held_out};
use crate::native::NativeEngine;
use crate::plan::post::PostProcessor;
use crate::{Engine, EngineError, ImageTask, Mode, Quiet, Source, Workflow};

/// Half of the pictures are as large, the others twice that.
const SIDES: [u32; 2] = [64, 128];
/// A pixel whose alpha is this much or more belongs to the shape.
const HALF: u8 = 128;
/// What alpha has to share with the shape.
const ENOUGH: f64 = 0.9;

/// How well shapes were cut out.
#[derive(Clone, Debug, PartialEq)]
pub struct Backgrounds {
    /// For each picture what its alpha and its shape have in common of what they cover together, and what
    /// was asked for.
    pub shared: Vec<(f64, String)>,
}

impl Backgrounds {
    /// The share of pictures that were cut out well.
    pub fn good(&self) -> f64 {
        let good = self.shared.iter().filter(|(shared, _)| *shared >= ENOUGH);
        good.count() as f64 / self.shared.len().max(1) as f64
    }

    /// The mean of what alpha and shape share.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.shared.iter().map(|(shared, _)| shared).sum();
        sum / self.shared.len().max(1) as f64
    }
}

/// Draws held-out scenes and takes their backgrounds away. Pictures without a shape are left out.
///
/// # Errors
///
/// Those of the engine.
pub fn backgrounds(
    engine: &NativeEngine,
    options: &GateOptions,
) -> Result<Backgrounds, EngineError> {
    let mut shared = Vec::new();
    for (number, scene) in held_out().into_iter().take(options.prompts).enumerate() {
        let side = SIDES[number % SIDES.len()];
        let seed = options.seed + number as u64;
        let task = ImageTask {
            width: side,
            height: side,
            ..options.task(scene, seed)
        };
        for drawn in engine.run(task, &Quiet)? {
            let Some(shape) = shape_of(&drawn.image.to_rgb8()) else {
                continue;
            };
            let cut = engine.run(without_background(drawn.image), &Quiet)?;
            for picture in cut {
                let part = overlap(&picture.image.to_rgba8(), &shape);
                shared.push((part, scene.caption()));
            }
        }
    }
    Ok(Backgrounds { shared })
}

fn without_background(picture: DynamicImage) -> ImageTask {
    ImageTask {
        width: picture.width(),
        height: picture.height(),
        steps: 1,
        workflow: Some(Workflow::PostProcess),
        post: vec![PostProcessor::StripBackground],
        mode: Mode::Img2Img(Source::new(picture)),
        ..ImageTask::new("", "")
    }
}

fn overlap(cut: &RgbaImage, shape: &[bool]) -> f64 {
    let pixels = cut.pixels().map(|pixel| pixel.0[3] >= HALF).zip(shape);
    let (mut both, mut either) = (0_u32, 0_u32);
    for (cut, shape) in pixels {
        both += u32::from(cut && *shape);
        either += u32::from(cut || *shape);
    }
    f64::from(both) / f64::from(either.max(1))
}
