//! Transparent pictures: what is opaque must be the shape that was asked for, in its colour.

use super::drawing::{self, COLOURS, Scene};
use super::{GateOptions, judge_cut_out};
use crate::native::NativeEngine;
use crate::{Engine, EngineError, ImageTask, Quiet};

/// Pictures that are made.
const CUT_OUT: usize = 50;
/// From this overlap on a shape counts as cut out.
const ENOUGH: f64 = 0.8;

/// How well shapes are cut out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CutOuts {
    /// Pictures.
    pub count: usize,
    /// Overlap of what is opaque with the shape, the mean of all pictures.
    pub overlap: f64,
    /// Share of pictures with an overlap of at least 0.8.
    pub enough: f64,
    /// Share of pictures in the right colour.
    pub colour: f64,
    /// Share of pictures with the shape in the right place.
    pub place: f64,
}

/// How well shapes are cut out, from prompts that tell of no background.
///
/// # Errors
///
/// Those of [`Engine::run`].
pub fn cut_outs(engine: &NativeEngine, options: &GateOptions) -> Result<CutOuts, EngineError> {
    let count = options.share(CUT_OUT);
    let scenes = drawing::scenes(options.seed + 6, 8 * drawing::held_out().len());
    let scenes = scenes
        .into_iter()
        .filter(|scene| is_on_neutral_ground(*scene));
    let mut sums = CutOuts::default();
    for (scene, seed) in scenes.take(count).zip(options.seed..) {
        let task = ImageTask {
            prompt: scene.without_background(),
            transparent: true,
            ..options.task(scene, seed)
        };
        let pictures = engine.run(task, &Quiet)?;
        let found = pictures.first().and_then(|picture| {
            let picture = picture.image.as_rgba8()?;
            judge_cut_out(picture, scene.shape)
        });
        sums.count += 1;
        if let Some(found) = found {
            let one = |is: bool| f64::from(u8::from(is));
            sums.overlap += found.overlap;
            sums.enough += one(found.overlap >= ENOUGH);
            sums.colour += one(found.colour == scene.colour);
            sums.place += one(found.place == scene.place);
        }
    }
    let mean = |sum: f64| sum / sums.count.max(1) as f64;
    Ok(CutOuts {
        count: sums.count,
        overlap: mean(sums.overlap),
        enough: mean(sums.enough),
        colour: mean(sums.colour),
        place: mean(sums.place),
    })
}

/// Whether a scene lies on what the network draws under what is transparent. Scenes with another
/// ground may have been learned from on this one.
fn is_on_neutral_ground(scene: Scene) -> bool {
    let ground = |colour: usize| COLOURS.get(colour).map(|(name, _)| *name);
    let neutral = if ground(scene.colour) == Some("white") {
        "black"
    } else {
        "white"
    };
    ground(scene.background) == Some(neutral)
}
