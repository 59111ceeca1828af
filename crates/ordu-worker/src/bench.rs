//! How fast an engine draws: a fixed grid for each model, and what settings that speaks for. The settings
//! are a pure function of what was measured.
//!
//! # Source
//! `worker.md` § 1.20. Its grid has LoRAs, which nobody can choose for everybody: they are left out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::{DynamicImage, RgbImage};
use ordu_engine::plan::post::PostKind;
use ordu_engine::{
    Capabilities, Control, Engine, EngineError, Feature, Fit, Hires, ImageTask, Mode, ModelInfo,
    PostProcessor, ProgressSink, Source, Step,
};

use crate::Config;
use crate::offer::allowed_models;

/// Steps of each picture.
const STEPS: u32 = 20;

/// Sides are multiples of this, in pixels.
const SIDE_STEP: u32 = 64;

/// One unit of `max_power`, in pixels.
const PIXELS_PER_POWER: u32 = 32_768;

/// Steps that most requests ask for.
const USUAL_STEPS: f64 = 30.0;

/// The part of its time that a job may take: others may be before it.
const SHARE_OF_TTL: f64 = 0.5;

/// One cell of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// With which model.
    pub model: String,
    /// What was drawn.
    pub case: Case,
    /// Of each picture, in pixels.
    pub size: (u32, u32),
    /// Pictures at once.
    pub batch: u32,
    /// What came of it, or why it failed.
    pub measured: Result<Measured, String>,
}

/// What a cell draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// One step with a model that does not lie in memory.
    Cold,
    /// The same when it does.
    Warm,
    /// Pictures of the model's own size.
    Plain,
    /// Half as wide and high again, in two passes.
    Hires,
    /// By what a source shows.
    Control,
    /// Enlarged when it is done.
    Upscale,
}

impl Case {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Plain => "plain",
            Self::Hires => "hires_fix",
            Self::Control => "controlnet",
            Self::Upscale => "upscale",
        }
    }
}

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// All of it, in seconds.
    pub seconds: f64,
    /// The median between two steps, in seconds.
    pub per_step: Option<f64>,
}

/// What settings the speed speaks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The largest picture, in units of 32,768 pixels.
    pub max_power: u32,
    /// Pictures of one job.
    pub max_batch: u32,
    /// Jobs that are popped ahead.
    pub queue_size: u32,
    /// Whether control networks work.
    pub allow_controlnet: bool,
    /// Whether upscalers work.
    pub allow_post_processing: bool,
}

/// Measures every model that the settings want, one cell after the other; `told` hears of each. It blocks.
pub fn measure(config: &Config, engine: &dyn Engine, mut told: impl FnMut(&Cell)) -> Vec<Cell> {
    let ability = engine.capabilities();
    let mut cells = Vec::new();
    for name in allowed_models(config, &ability) {
        let Some(model) = ability.model(&name) else {
            continue;
        };
        engine.release();
        for (case, task) in grid(config, &ability, model) {
            let cell = Cell {
                model: name.clone(),
                case,
                size: (task.width, task.height),
                batch: task.batch,
                measured: clock(engine, task).map_err(|error| error.to_string()),
            };
            told(&cell);
            cells.push(cell);
        }
    }
    cells
}

/// What is drawn with a model.
fn grid(config: &Config, ability: &Capabilities, model: &ModelInfo) -> Vec<(Case, ImageTask)> {
    let side = match model.fit {
        Fit::Scale { native } => native,
        Fit::Exact => model.native,
    };
    let plain = ImageTask {
        width: side,
        height: side,
        steps: STEPS,
        ..ImageTask::new(&model.name, "a red circle on a blue background")
    };
    let once = ImageTask {
        steps: 1,
        ..plain.clone()
    };
    let mut cells = vec![
        (Case::Cold, once.clone()),
        (Case::Warm, once),
        (Case::Plain, plain.clone()),
    ];
    let batch = config.max_batch.min(ability.limits.max_batch);
    if batch > 1 {
        let many = ImageTask {
            batch,
            ..plain.clone()
        };
        cells.push((Case::Plain, many));
    }
    if ability.features.contains(&Feature::HiresFix) {
        let large = (side + side / 2).next_multiple_of(SIDE_STEP);
        let hires = ImageTask {
            width: large,
            height: large,
            hires: Some(Hires::default()),
            ..plain.clone()
        };
        cells.push((Case::Hires, hires));
    }
    if let Some(kind) = ability.controls.first()
        && [Feature::ControlNet, Feature::ControlLines]
            .iter()
            .any(|feature| ability.features.contains(feature))
    {
        let control = ImageTask {
            mode: Mode::Img2Img(Source::new(chequers(side))),
            control: Some(Control {
                kind: *kind,
                image_is_control: false,
                return_map: false,
                strength: 1.0,
            }),
            ..plain.clone()
        };
        cells.push((Case::Control, control));
    }
    let enlarges = |step: &&PostProcessor| matches!(step.kind(), PostKind::Upscaler(_));
    if let Some(step) = ability.post_processors.iter().find(enlarges) {
        let upscale = ImageTask {
            post: vec![*step],
            ..plain
        };
        cells.push((Case::Upscale, upscale));
    }
    cells
}

/// Something with edges to steer by.
fn chequers(side: u32) -> DynamicImage {
    let field = (side / 8).max(1);
    DynamicImage::ImageRgb8(RgbImage::from_fn(side, side, |x, y| {
        let is_white = (x / field + y / field).is_multiple_of(2);
        image::Rgb(if is_white { [255; 3] } else { [0; 3] })
    }))
}

/// When steps came.
#[derive(Default)]
struct Steps(Arc<Mutex<Vec<Instant>>>);

impl ProgressSink for Steps {
    fn step(&self, _: Step) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(Instant::now());
    }
}

fn clock(engine: &dyn Engine, task: ImageTask) -> Result<Measured, EngineError> {
    let (steps, started) = (Steps::default(), Instant::now());
    engine.run(task, &steps)?;
    let took = started.elapsed();
    let times = steps.0.lock().unwrap_or_else(PoisonError::into_inner);
    let pairs = times.iter().zip(times.iter().skip(1));
    let mut gaps: Vec<Duration> = pairs.map(|(one, next)| *next - *one).collect();
    gaps.sort_unstable();
    Ok(Measured {
        seconds: took.as_secs_f64(),
        per_step: gaps.get(gaps.len() / 2).map(Duration::as_secs_f64),
    })
}

impl Cell {
    /// Work, in megapixelsteps.
    pub fn work(&self) -> f64 {
        let (width, height) = self.size;
        let pixels = f64::from(width) * f64::from(height);
        pixels * f64::from(STEPS) * (1.0 + 0.2 * f64::from(self.batch.saturating_sub(1))) / 1e6
    }

    /// Seconds per megapixelstep, of a single plain picture.
    pub fn rate(&self) -> Option<f64> {
        let measured = self.measured.as_ref().ok()?;
        (self.case == Case::Plain && self.batch == 1).then(|| measured.seconds / self.work())
    }

    fn works(&self, case: Case) -> bool {
        self.case == case && self.measured.is_ok()
    }
}

/// What settings these measurements speak for, with a machine that draws no more than so many pixels.
/// Nothing if no model draws.
pub fn propose(cells: &[Cell], max_pixels: u64) -> Option<Proposal> {
    let slowest = cells.iter().filter_map(Cell::rate).reduce(f64::max)?;
    let in_time = |power: &u32| {
        let pixels = f64::from(*power) * f64::from(PIXELS_PER_POWER);
        slowest * pixels * USUAL_STEPS / 1e6 <= SHARE_OF_TTL * ttl(pixels)
    };
    let most = u32::try_from(max_pixels / u64::from(PIXELS_PER_POWER)).unwrap_or(u32::MAX);
    let max_power = (1..=most.clamp(1, 512))
        .take_while(in_time)
        .last()
        .unwrap_or(1);
    let all = |case| {
        let mut of_case = cells
            .iter()
            .filter(move |cell| cell.case == case)
            .peekable();
        of_case.peek().is_some() && of_case.all(|cell| cell.works(case))
    };
    Some(Proposal {
        max_power,
        max_batch: batch(cells),
        // The job before it must be done by then.
        queue_size: u32::from(seconds(cells, 1).is_some_and(|one| one <= ttl(0.0) / 4.0)),
        allow_controlnet: all(Case::Control),
        allow_post_processing: all(Case::Upscale),
    })
}

/// The longest that plain pictures of so many at once took.
fn seconds(cells: &[Cell], batch: u32) -> Option<f64> {
    let plain = cells
        .iter()
        .filter(|cell| cell.case == Case::Plain && cell.batch == batch);
    let times = plain.map(|cell| cell.measured.as_ref().ok().map(|measured| measured.seconds));
    times.reduce(|one, other| Some(one?.max(other?)))?
}

/// The batch that was tried, if it is in time and worth it for every model.
fn batch(cells: &[Cell]) -> u32 {
    let batches = cells.iter().filter(|cell| cell.case == Case::Plain);
    let largest = batches.map(|cell| cell.batch).max().unwrap_or(1);
    let (one, many) = (seconds(cells, 1), seconds(cells, largest));
    let is_worth_it = one.zip(many).is_some_and(|(one, many)| {
        many <= SHARE_OF_TTL * ttl(0.0) && many < one * f64::from(largest)
    });
    if is_worth_it { largest } else { 1 }
}

/// How long a horde waits for a usual picture of so many pixels, in seconds.
///
/// # Source
/// `worker.md` § 1.12.
fn ttl(pixels: f64) -> f64 {
    (30.0 + 2.0 * USUAL_STEPS * pixels / (512.0 * 512.0)).max(150.0)
}

#[cfg(test)]
mod tests {
    use ordu_engine::testing::TestEngine;
    use proptest::prelude::*;

    use super::*;

    fn cell(case: Case, batch: u32, seconds: f64) -> Cell {
        Cell {
            model: "m".to_owned(),
            case,
            size: (512, 512),
            batch,
            measured: Ok(Measured {
                seconds,
                per_step: None,
            }),
        }
    }

    #[test]
    fn every_model_is_measured_cold_warm_alone_and_in_a_batch() {
        let engine = TestEngine::new(["alpha", "beta"]);
        let config = Config {
            max_batch: 3,
            models_to_skip: vec!["beta".to_owned()],
            ..Config::default()
        };
        let mut told = 0;
        let cells = measure(&config, &engine, |_| told += 1);
        let seen: Vec<_> = cells.iter().map(|cell| (cell.case, cell.batch)).collect();
        let expected = [
            (Case::Cold, 1),
            (Case::Warm, 1),
            (Case::Plain, 1),
            (Case::Plain, 3),
        ];
        assert_eq!(seen, expected);
        assert_eq!(told, 4);
        assert!(
            cells
                .iter()
                .all(|cell| cell.measured.is_ok() && cell.size == (64, 64))
        );
        assert!(cells[2].measured.as_ref().unwrap().per_step.is_some());
    }

    #[test]
    fn a_fast_machine_may_draw_large_and_a_slow_one_small() {
        let propose = |cells: &[Cell]| propose(cells, 2048 * 2048).unwrap();
        let fast = propose(&[cell(Case::Plain, 1, 2.0), cell(Case::Plain, 4, 5.0)]);
        assert_eq!(
            (fast.max_power, fast.max_batch, fast.queue_size),
            (128, 4, 1)
        );
        // 8 s a megapixelstep: 75 s are enough for a third of a megapixel in 30 steps.
        let slow = propose(&[cell(Case::Plain, 1, 42.0), cell(Case::Plain, 4, 80.0)]);
        assert_eq!((slow.max_power, slow.max_batch, slow.queue_size), (9, 1, 0));
        let crawling = propose(&[cell(Case::Plain, 1, 4000.0)]);
        assert_eq!((crawling.max_power, crawling.queue_size), (1, 0));
        assert!(!fast.allow_controlnet && !fast.allow_post_processing);
        let more = [
            cell(Case::Plain, 1, 2.0),
            cell(Case::Control, 1, 3.0),
            cell(Case::Upscale, 1, 3.0),
        ];
        let more = propose(&more);
        assert!(more.allow_controlnet && more.allow_post_processing);
    }

    #[test]
    fn what_fails_is_not_proposed() {
        let fails = |case| Cell {
            measured: Err("planned".to_owned()),
            ..cell(case, 1, 0.0)
        };
        assert_eq!(propose(&[fails(Case::Plain)], 1 << 20), None);
        let some = [
            cell(Case::Plain, 1, 1.0),
            fails(Case::Upscale),
            cell(Case::Upscale, 1, 1.0),
        ];
        assert!(!propose(&some, 1 << 20).unwrap().allow_post_processing);
    }

    proptest! {
        /// A slower machine is never told to take larger pictures.
        #[test]
        fn who_is_slower_draws_no_larger(one in 0.01..1e4_f64, more in 1.0..10.0_f64) {
            let power = |seconds| propose(&[cell(Case::Plain, 1, seconds)], 1 << 24).unwrap().max_power;
            prop_assert!(power(one * more) <= power(one));
            prop_assert!((1..=512).contains(&power(one)));
        }
    }
}
