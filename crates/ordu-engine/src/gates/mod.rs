//! What the bundled models must be able to do: that of pictures, measured by image processing alone, and
//! in [`stories`] that of texts.
//!
//! Pictures are drawn and judged as in `training/` (its README describes both; the numbers here
//! repeat those there). The prompts ask for combinations that were held out of training.

mod backgrounds;
mod cut_outs;
mod drawing;
mod judge;
mod remixes;
pub mod stories;

use std::fmt;

use image::{DynamicImage, GrayImage, Luma, RgbImage, imageops};

pub use backgrounds::{Backgrounds, backgrounds};
pub use cut_outs::{CutOuts, cut_outs};
pub use drawing::{Scene, draw, held_out};
pub use judge::{CutOut, Verdict, judge, judge_cut_out};
pub use remixes::{Remixes, remixes};

use crate::native::NativeEngine;
use crate::{
    Control, ControlType, Engine, EngineError, Hires, ImageTask, Mode, Quiet, Sampler, Schedule,
    Source,
};

/// Side of the pictures that the gates ask for.
pub const SIDE: u32 = 64;
/// How much longer the sides of larger pictures are.
const LARGER: u32 = 2;
/// Guidance of all gates.
const GUIDANCE: f32 = 5.0;
/// Pictures whose shape is painted over.
const INPAINTED: usize = 40;
/// Pictures that are drawn from edges.
const STEERED: usize = 50;
/// Pictures that are drawn over at each strength.
const REDRAWN: usize = 24;
/// Pictures that go through the autoencoder.
const RECONSTRUCTED: usize = 64;
/// Strengths that must order the distance to the source. Above about 0.4 this model's schedule
/// leaves nothing of a source, and distances differ by chance alone; hence one strength from up
/// there.
const STRENGTHS: [f32; 5] = [0.05, 0.1, 0.2, 0.3, 1.0];

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Name of the model.
    pub model: String,
    /// Prompts for obedience; the other gates take a share of their usual number when this is below
    /// 200.
    pub prompts: usize,
    /// Decides prompts, jitter of the drawings and noise.
    pub seed: u64,
    /// Steps of each picture.
    pub steps: u32,
    /// How to step.
    pub sampler: Sampler,
    /// How to space the steps.
    pub schedule: Schedule,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            model: "ordu-tiny".to_owned(),
            prompts: 200,
            seed: 100,
            steps: 25,
            sampler: Sampler::Euler,
            schedule: Schedule::Normal,
        }
    }
}

impl GateOptions {
    /// How many of a gate's usual number of pictures are made.
    fn share(&self, usual: usize) -> usize {
        (usual * self.prompts.min(200)).div_ceil(200).max(1)
    }

    fn task(&self, scene: Scene, seed: u64) -> ImageTask {
        ImageTask {
            width: SIDE,
            height: SIDE,
            steps: self.steps,
            cfg_scale: GUIDANCE,
            sampler: self.sampler,
            schedule: self.schedule,
            seed,
            ..ImageTask::new(self.model.as_str(), scene.caption())
        }
    }
}

/// Shares of pictures with what was asked for, 0…1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Obedience {
    /// The background.
    pub background: f64,
    /// The colour.
    pub colour: f64,
    /// The place.
    pub place: f64,
    /// The shape.
    pub shape: f64,
    /// The size. Not a gate.
    pub size: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct GateReport {
    /// Pictures judged for obedience.
    pub prompts: usize,
    /// How far pictures are what their prompts say.
    pub obedience: Obedience,
    /// The same where the prompt tells colours alone, and the edges of a drawing the rest.
    pub steered: Obedience,
    /// The same of pictures of four times the area, drawn in two passes; an eighth as many.
    pub larger: Obedience,
    /// Mean square error of pictures in −1…1 that go through the autoencoder.
    pub autoencoder: f64,
    /// Share of painted-over shapes that take the new colour.
    pub inpaint_colour: f64,
    /// Mean absolute error outside the mask, pixels in −1…1.
    pub inpaint_outside: f64,
    /// Mean absolute distance to the source, pixels in −1…1, for each strength in rising order.
    pub distances: Vec<(f32, f64)>,
}

/// One line of a report: what, its value, the bound and whether it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// What was measured.
    pub name: &'static str,
    /// What it came to.
    pub value: f64,
    /// What it must come to, in words.
    pub bound: String,
    /// Whether it did.
    pub passed: bool,
}

impl GateReport {
    /// Each gate with its bound.
    pub fn gates(&self) -> Vec<Gate> {
        let at_least = |name, value: f64, bound: f64| Gate {
            name,
            value,
            bound: format!("at least {bound}"),
            passed: value >= bound,
        };
        let below = |name, value: f64, bound: f64| Gate {
            name,
            value,
            bound: format!("below {bound}"),
            passed: value < bound,
        };
        let rises = self.distances.windows(2).all(|pair| pair[0].1 < pair[1].1);
        vec![
            at_least("background", self.obedience.background, 0.95),
            at_least("colour", self.obedience.colour, 0.95),
            at_least("place", self.obedience.place, 0.90),
            at_least("shape", self.obedience.shape, 0.85),
            at_least("background, steered", self.steered.background, 0.95),
            at_least("colour, steered", self.steered.colour, 0.95),
            at_least("place, steered", self.steered.place, 0.90),
            at_least("shape, steered", self.steered.shape, 0.85),
            at_least("background, larger", self.larger.background, 0.95),
            at_least("colour, larger", self.larger.colour, 0.95),
            at_least("place, larger", self.larger.place, 0.90),
            at_least("shape, larger", self.larger.shape, 0.85),
            below("autoencoder, mean square error", self.autoencoder, 0.005),
            at_least("inpaint, new colour", self.inpaint_colour, 0.95),
            below("inpaint, error outside", self.inpaint_outside, 0.05),
            Gate {
                name: "img2img, distance at full strength",
                value: self.distances.last().map_or(0.0, |last| last.1),
                bound: "rising with strength".to_owned(),
                passed: rises,
            },
        ]
    }

    /// Whether all gates are kept.
    pub fn passed(&self) -> bool {
        self.gates().iter().all(|gate| gate.passed)
    }
}

impl fmt::Display for GateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for gate in self.gates() {
            let verdict = if gate.passed { "passed" } else { "FAILED" };
            writeln!(
                f,
                "{:<36} {:>8.4}   {:<22} {verdict}",
                gate.name, gate.value, gate.bound
            )?;
        }
        for (name, obedience) in [
            ("size", self.obedience),
            ("size, steered", self.steered),
            ("size, larger", self.larger),
        ] {
            writeln!(f, "{name:<36} {:>8.4}   (no gate)", obedience.size)?;
        }
        let distances = self
            .distances
            .iter()
            .map(|(strength, distance)| format!("{strength}: {distance:.3}"));
        writeln!(
            f,
            "img2img distances                    {}",
            distances.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Measures all gates.
///
/// # Errors
///
/// Those of [`Engine::run`].
pub fn gates(engine: &NativeEngine, options: &GateOptions) -> Result<GateReport, EngineError> {
    let mut report = GateReport {
        prompts: options.prompts,
        obedience: obedience(engine, options, 1)?,
        steered: steered(engine, options)?,
        larger: obedience(engine, options, LARGER)?,
        autoencoder: autoencoder(engine, options)?,
        inpaint_colour: 0.0,
        inpaint_outside: 0.0,
        distances: Vec::new(),
    };
    inpaint(engine, options, &mut report)?;
    image_to_image(engine, options, &mut report)?;
    Ok(report)
}

/// How far pictures are what their prompts say, `times` as long on each side as the gates' others.
fn obedience(
    engine: &NativeEngine,
    options: &GateOptions,
    times: u32,
) -> Result<Obedience, EngineError> {
    let count = if times == 1 {
        options.prompts
    } else {
        options.prompts.div_ceil(8)
    };
    let scenes = drawing::scenes(options.seed, count);
    let mut found = Count::default();
    for (scene, seed) in scenes.into_iter().zip(options.seed..) {
        let task = ImageTask {
            width: times * SIDE,
            height: times * SIDE,
            hires: (times > 1).then(Hires::default),
            ..options.task(scene, seed)
        };
        let picture = run(engine, task)?;
        found.add(&imageops::thumbnail(&picture, SIDE, SIDE), scene);
    }
    Ok(found.shares())
}

/// Of how many pictures what is right.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u32,
    background: u32,
    colour: u32,
    place: u32,
    shape: u32,
    size: u32,
}

impl Count {
    fn add(&mut self, picture: &RgbImage, wanted: Scene) {
        let verdict = judge(picture);
        self.all += 1;
        self.background += u32::from(verdict.background == wanted.background);
        self.colour += u32::from(verdict.colour == Some(wanted.colour));
        self.place += u32::from(verdict.place == Some(wanted.place));
        self.shape += u32::from(verdict.shape == Some(wanted.shape));
        self.size += u32::from(verdict.size == Some(wanted.size));
    }

    fn shares(self) -> Obedience {
        let share = |right: u32| f64::from(right) / f64::from(self.all.max(1));
        Obedience {
            background: share(self.background),
            colour: share(self.colour),
            place: share(self.place),
            shape: share(self.shape),
            size: share(self.size),
        }
    }
}

/// How far pictures are what the edges of a drawing and the colours of a prompt say.
///
/// # Errors
///
/// Those of [`Engine::run`].
pub fn steered(engine: &NativeEngine, options: &GateOptions) -> Result<Obedience, EngineError> {
    let scenes = drawing::scenes(options.seed + 5, options.share(STEERED));
    let mut found = Count::default();
    for (scene, seed) in scenes.into_iter().zip(options.seed..) {
        let wanted = scene.in_another_colour(seed);
        let drawing = DynamicImage::ImageRgb8(draw(scene, seed));
        let task = ImageTask {
            prompt: wanted.colours(),
            mode: Mode::Img2Img(Source::new(drawing)),
            control: Some(Control {
                kind: ControlType::Canny,
                image_is_control: false,
                return_map: false,
                strength: 1.0,
            }),
            ..options.task(wanted, seed)
        };
        found.add(&run(engine, task)?, wanted);
    }
    Ok(found.shares())
}

fn autoencoder(engine: &NativeEngine, options: &GateOptions) -> Result<f64, EngineError> {
    let scenes = drawing::scenes(options.seed + 1, options.share(RECONSTRUCTED));
    let mut sum = 0.0;
    for (scene, seed) in scenes.iter().zip(options.seed..) {
        let picture = draw(*scene, seed);
        let again = engine.reconstruct(&options.model, &picture)?;
        sum += mean(&picture, &again, None, |difference| difference * difference);
    }
    Ok(sum / scenes.len() as f64)
}

/// The shape of a drawn picture is masked and painted again in another colour.
fn inpaint(
    engine: &NativeEngine,
    options: &GateOptions,
    report: &mut GateReport,
) -> Result<(), EngineError> {
    let scenes = drawing::scenes(options.seed + 2, options.share(INPAINTED));
    let (mut taken, mut error) = (0.0, 0.0);
    for (scene, seed) in scenes.iter().zip(options.seed..) {
        let picture = draw(*scene, seed);
        let wanted = scene.in_another_colour(seed);
        let mask = mask_of(&picture);
        let source = Source {
            mask: Some(mask.clone()),
            ..Source::new(DynamicImage::ImageRgb8(picture.clone()))
        };
        let task = ImageTask {
            mode: Mode::Inpaint(source),
            ..options.task(wanted, seed)
        };
        let painted = run(engine, task)?;
        taken += f64::from(judge(&painted).colour == Some(wanted.colour));
        error += mean(&picture, &painted, Some(&mask), f64::abs);
    }
    report.inpaint_colour = taken / scenes.len() as f64;
    report.inpaint_outside = error / scenes.len() as f64;
    Ok(())
}

/// Everything that is not background, with a margin, in whole squares of eight pixels.
fn mask_of(picture: &RgbImage) -> GrayImage {
    const MARGIN: u32 = 4;
    const CELL: u32 = 8;
    let background = *picture.get_pixel(0, 0);
    let shape = || {
        picture
            .enumerate_pixels()
            .filter(|(_, _, pixel)| **pixel != background)
    };
    let low = |value: Option<u32>| value.unwrap_or(0).saturating_sub(MARGIN) / CELL * CELL;
    let high = |value: Option<u32>| {
        (value.unwrap_or(0) + MARGIN + 1)
            .min(SIDE)
            .next_multiple_of(CELL)
    };
    let (left, right) = (
        low(shape().map(|p| p.0).min()),
        high(shape().map(|p| p.0).max()),
    );
    let (top, bottom) = (
        low(shape().map(|p| p.1).min()),
        high(shape().map(|p| p.1).max()),
    );
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let inside = (left..right).contains(&x) && (top..bottom).contains(&y);
        Luma([if inside { 255 } else { 0 }])
    })
}

/// The higher the strength, the farther the picture is from its source, on average.
fn image_to_image(
    engine: &NativeEngine,
    options: &GateOptions,
    report: &mut GateReport,
) -> Result<(), EngineError> {
    let count = options.share(REDRAWN);
    let scenes = drawing::scenes(options.seed + 3, count);
    let others = drawing::scenes(options.seed + 4, count);
    for strength in STRENGTHS {
        let mut sum = 0.0;
        for ((scene, other), seed) in scenes.iter().zip(&others).zip(options.seed..) {
            let picture = draw(*scene, seed);
            let image = DynamicImage::ImageRgb8(picture.clone());
            let source = Source {
                denoising_strength: strength,
                ..Source::new(image)
            };
            let task = ImageTask {
                mode: Mode::Img2Img(source),
                ..options.task(*other, seed)
            };
            sum += mean(&picture, &run(engine, task)?, None, f64::abs);
        }
        report.distances.push((strength, sum / count as f64));
    }
    Ok(())
}

fn run(engine: &NativeEngine, task: ImageTask) -> Result<RgbImage, EngineError> {
    let picture = engine.run(task, &Quiet)?.into_iter().next();
    let missing = || EngineError::bad_task("the engine made no picture");
    Ok(picture.ok_or_else(missing)?.image.to_rgb8())
}

/// Mean of a measure of differences, pixels in −1…1, where the mask (if any) is black.
fn mean(
    left: &RgbImage,
    right: &RgbImage,
    mask: Option<&GrayImage>,
    measure: impl Fn(f64) -> f64,
) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for ((x, y, left), right) in left.enumerate_pixels().zip(right.pixels()) {
        if mask.is_some_and(|mask| mask.get_pixel(x, y).0[0] > 0) {
            continue;
        }
        for (left, right) in left.0.iter().zip(right.0) {
            sum += measure((f64::from(*left) - f64::from(right)) / 127.5);
            count += 1.0;
        }
    }
    sum / f64::max(count, 1.0)
}
