//! Remixes: what is made of two pictures must carry colours of both.

use image::DynamicImage;

use super::drawing::{self, Scene, draw};
use super::{GateOptions, judge};
use crate::native::NativeEngine;
use crate::{Engine, EngineError, ImageTask, Mode, Quiet, RemixImage};

/// The bundled model that mixes.
const MODEL: &str = "ordu-tiny-cascade";
/// What is said beside the pictures: nothing of what they show.
const PROMPT: &str = "a picture";
/// Pairs that are mixed.
const PAIRS: usize = 50;

/// How well pictures are mixed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remixes {
    /// Pairs.
    pub count: usize,
    /// Share of pictures with the colour of one's shape on the ground of the other.
    pub both: f64,
    /// The pairs that went wrong.
    pub wrong: Vec<String>,
}

/// Mixes pairs of pictures that share no colour, all of held-out scenes.
///
/// # Errors
///
/// Those of [`Engine::run`].
pub fn remixes(engine: &NativeEngine, options: &GateOptions) -> Result<Remixes, EngineError> {
    let scenes = drawing::scenes(options.seed + 7, 8 * drawing::held_out().len());
    let pairs = scenes.chunks_exact(2).filter_map(|pair| match pair {
        [one, two] if share_nothing(*one, *two) => Some((*one, *two)),
        _ => None,
    });
    let mut found = Remixes::default();
    let mut good = 0;
    for ((one, two), seed) in pairs.take(options.share(PAIRS)).zip(options.seed..) {
        let drawn = [(one, seed), (two, seed + 1)];
        let task = ImageTask {
            model: MODEL.to_owned(),
            prompt: PROMPT.to_owned(),
            mode: Mode::Remix(drawn.map(|(scene, seed)| picture(scene, seed)).to_vec()),
            ..options.task(one, seed)
        };
        let made = engine.run(task, &Quiet)?;
        found.count += 1;
        let is_good = made.first().is_some_and(|made| {
            let made = judge(&made.image.to_rgb8());
            let crosses = |shape: Scene, ground: Scene| {
                made.colour == Some(shape.colour) && made.background == ground.background
            };
            crosses(one, two) || crosses(two, one)
        });
        if is_good {
            good += 1;
        } else {
            let pair = format!("{} and {}", one.caption(), two.caption());
            found.wrong.push(pair);
        }
    }
    found.both = f64::from(good) / found.count.max(1) as f64;
    Ok(found)
}

fn picture(scene: Scene, seed: u64) -> RemixImage {
    RemixImage {
        image: DynamicImage::ImageRgb8(draw(scene, seed)),
        strength: 1.0,
    }
}

/// Whether two scenes have four colours.
fn share_nothing(one: Scene, two: Scene) -> bool {
    let of = |scene: Scene| [scene.colour, scene.background];
    of(one).iter().all(|colour| !of(two).contains(colour))
}
