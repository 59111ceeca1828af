//! Pictures that scan: background and finders are drawn apart, merged while there is noise left in
//! them, and finished together.
//!
//! ```text
//! modules ─► autoencoder ─► + noise ─► steps 0…h, steered by the modules ───┐
//! finders ─► autoencoder ─► + noise ─► steps 1…h, steered by the finders ─► merge ─► steps h…, steered by all ─► picture ─► scanner
//! ```
//!
//! A picture that does not scan is finished once more, following the symbol more strictly.
//!
//! Models far smaller than what clients ask for draw one latent pixel for each module, and the picture
//! is scaled to measure: so fine a pattern survives no other way.
//!
//! # Source
//! `worker.md` § 2.12.

use std::sync::Arc;

use candle_core::Tensor;
use image::{DynamicImage, RgbImage};

use super::noise::NoiseStream;
use super::ops::Edges;
use super::pipeline::{Start, Steered, Watch, denoise, guide};
use super::pixels::{self, Size};
use super::sampling::{Level, Side, sample};
use super::sd::StableDiffusion;
use super::sd::unet::ControlNet;
use super::sd::words::Words;
use crate::plan::qr::{self, BACKGROUND_STRENGTH, FINDER_STRENGTH, Finish, Rasters, Symbol};
use crate::plan::steps;
use crate::{EngineError, Feature, Fit, ImageTask, Mode, Picture, ProgressSink, QrSpec, Schedule};

/// What may be offered, of models that are like SDXL or not, and can draw symbols or not: jobs may
/// name any model of a family.
pub(super) fn features(models: &[(bool, bool)]) -> Vec<Feature> {
    let of = |xl: bool| models.iter().filter(move |model| model.0 == xl);
    let can = |xl: bool| of(xl).all(|model| model.1);
    let xl = of(true).next().is_some() && can(true);
    let others = can(false) && (of(false).next().is_some() || xl);
    let found = [(others, Feature::QrCode), (xl, Feature::QrCodeXl)];
    let found = found.into_iter().filter(|feature| feature.0);
    found.map(|feature| feature.1).collect()
}

/// Runs a task on a loaded model, with the learned words that it may name.
///
/// # Errors
///
/// [`EngineError::BadTask`] if no symbol fits into the picture; [`EngineError::Cancelled`], or those of
/// the tensor library.
pub(super) fn run(
    model: &StableDiffusion,
    (task, words): (&ImageTask, &Words),
    (spec, network): (&QrSpec, &Arc<ControlNet>),
    progress: &dyn ProgressSink,
) -> Result<Vec<Picture>, EngineError> {
    let canvas = Canvas::new(model, task, spec)?;
    let walk = Walk::new(model, task);
    let painter = Painter {
        model,
        // Nothing else steers, and there is no second pass.
        task: &ImageTask {
            mode: Mode::Txt2Img,
            control: None,
            hires: None,
            ..task.clone()
        },
        words,
        network,
        size: canvas.size,
        progress,
    };
    let merged = painter.merged(&canvas.rasters, spec, &walk)?;
    let usual = painter.finished(&canvas, &walk, (&merged, Finish::Usual))?;
    if usual.iter().all(|picture| picture.scans == Some(true)) {
        return Ok(usual);
    }
    let again = painter.finished(&canvas, &walk, (&merged, Finish::Insistent))?;
    let better = usual.into_iter().zip(again).map(|(usual, again)| {
        let is_better = usual.scans != Some(true) && again.scans == Some(true);
        if is_better { again } else { usual }
    });
    Ok(better.collect())
}

/// The symbol and its rasters at the size that is drawn at.
struct Canvas {
    size: Size,
    rasters: Rasters,
    text: String,
}

impl Canvas {
    fn new(model: &StableDiffusion, task: &ImageTask, spec: &QrSpec) -> Result<Self, EngineError> {
        let (width, height) = (task.width, task.height);
        let symbol = qr::place(spec, width, height).ok_or_else(|| {
            EngineError::bad_task(format!("no QR code fits into {width}x{height} pixels"))
        })?;
        let (size, symbol) = drawn_at(Size { width, height }, symbol, model);
        Ok(Self {
            size,
            rasters: qr::rasters(&symbol, size.width, size.height),
            text: symbol.text,
        })
    }
}

/// The size that a model draws a symbol at, and the symbol there.
fn drawn_at(asked: Size, symbol: Symbol, model: &StableDiffusion) -> (Size, Symbol) {
    let factor = model.factor;
    match model.info.fit {
        Fit::Exact => (asked.in_steps_of(factor), symbol),
        Fit::Scale { .. } => {
            let scaled = |side: u32| {
                let side = u64::from(side) * u64::from(factor) / u64::from(symbol.module.max(1));
                u32::try_from(side).unwrap_or(u32::MAX).max(1)
            };
            let size = Size {
                width: scaled(asked.width),
                height: scaled(asked.height),
            };
            (size.in_steps_of(factor), symbol.scaled(factor))
        }
    }
}

/// The noise levels of the stretches, and where they meet.
struct Walk {
    background: Vec<Level>,
    finders: Vec<Level>,
    rest: Vec<Level>,
    /// What latents are multiplied by where one stretch hands over to the other, whose level may be
    /// another one: it is the picture with its noise, undivided, that is handed over.
    hand_over: f64,
    /// The whole way, one finish included.
    steps: u32,
}

impl Walk {
    fn new(model: &StableDiffusion, task: &ImageTask) -> Self {
        let levels = |schedule| {
            let steps = task.steps as usize;
            let how = (task.sampler, schedule);
            model.schedule.levels_for(how, steps, 1.0)
        };
        let (normal, own) = (levels(Schedule::Normal), levels(task.schedule));
        let hand_over = steps::qr_hand_over(task.steps);
        let meet = hand_over as usize;
        let first = steps::qr_finder_start(task.steps) as usize;
        let part = |levels: &[Level], range: std::ops::RangeInclusive<usize>| {
            levels.get(range).unwrap_or_default().to_vec()
        };
        let alpha = |levels: &[Level]| levels.get(meet).map_or(1.0, |level| level.alpha);
        let finders = part(&normal, first..=meet);
        let steps = |levels: &[Level]| u32::try_from(levels.len()).unwrap_or(1).saturating_sub(1);
        Self {
            hand_over: alpha(&own) / alpha(&normal),
            steps: task.steps + steps(&finders),
            background: part(&normal, 0..=meet),
            rest: own.get(meet..).unwrap_or_default().to_vec(),
            finders,
        }
    }
}

/// What is the same for all stretches.
struct Painter<'a> {
    model: &'a StableDiffusion,
    task: &'a ImageTask,
    words: &'a Words,
    network: &'a Arc<ControlNet>,
    size: Size,
    progress: &'a dyn ProgressSink,
}

impl Painter<'_> {
    fn edges(&self) -> Edges {
        if self.task.tiling {
            Edges::Wrap
        } else {
            Edges::Zero
        }
    }

    /// Background and finders, merged, with the noise that is left in them.
    fn merged(&self, rasters: &Rasters, spec: &QrSpec, walk: &Walk) -> Result<Tensor, EngineError> {
        let watch = |before: usize| Watch {
            progress: self.progress,
            before: u32::try_from(before).unwrap_or(walk.steps),
            of: walk.steps,
        };
        let background = self.layer(
            self.task,
            (&rasters.modules, BACKGROUND_STRENGTH),
            (&walk.background, watch(0)),
        )?;
        let finder_task = ImageTask {
            prompt: spec
                .finder_prompt
                .clone()
                .unwrap_or_else(|| self.task.prompt.clone()),
            ..self.task.clone()
        };
        let finders = self.layer(
            &finder_task,
            (&rasters.finders, FINDER_STRENGTH),
            (
                &walk.finders,
                watch(walk.background.len().saturating_sub(1)),
            ),
        )?;
        let mask = pixels::to_latent_mask(&rasters.mask, self.model.factor)?;
        let mask = mask.to_device(background.device())?;
        let merged = (&background + (finders - &background)?.broadcast_mul(&mask)?)?;
        Ok((merged * walk.hand_over)?)
    }

    /// One of the two pictures that are merged.
    fn layer(
        &self,
        task: &ImageTask,
        (raster, strength): (&RgbImage, f32),
        (levels, watch): (&[Level], Watch<'_>),
    ) -> Result<Tensor, EngineError> {
        let mut start = self.start(raster, strength)?;
        let raster = pixels::to_tensor(raster)?;
        start.known = Some(self.model.vae.encode(&raster, self.edges())?);
        denoise(self.model, (task, self.words), &start, (levels, watch))
    }

    /// A start from noise that a raster steers, for both prompts.
    fn start(&self, raster: &RgbImage, strength: f32) -> Result<Start, EngineError> {
        let edges = self.edges();
        let map = ((pixels::to_tensor(raster)? + 1.0)? * 0.5)?;
        let mut start = Start::new(self.model, self.task, self.size, edges)?;
        start.steered = Some(Steered {
            seen: self.network.see(&map, edges)?,
            network: Arc::clone(self.network),
            strength: f64::from(strength),
            side: Side::Both,
        });
        Ok(start)
    }

    /// The pictures that come of what was merged, each with whether it scans.
    fn finished(
        &self,
        canvas: &Canvas,
        walk: &Walk,
        (merged, finish): (&Tensor, Finish),
    ) -> Result<Vec<Picture>, EngineError> {
        let start = self.start(&canvas.rasters.full, finish.strength())?;
        let guided = guide(self.model, (self.task, self.words), &start)?;
        let rest = u32::try_from(walk.rest.len())
            .unwrap_or(1)
            .saturating_sub(1);
        let repeats = if finish == Finish::Insistent { rest } else { 0 };
        let watch = Watch {
            progress: self.progress,
            before: walk.steps.saturating_sub(rest) + repeats,
            of: walk.steps + repeats,
        };
        let device = self.model.compute().device();
        let mut stream = NoiseStream::new(self.task.noise, self.task.seed, start.shape);
        // Beyond what noisy samplers drew before: noise that came again would add up.
        for _ in 0..2 * walk.background.len() {
            stream.draw(device)?;
        }
        let mut look = |step: usize, clean: &Tensor| watch.report(self.model, step, clean);
        let latents = sample(
            (self.task.sampler, &walk.rest),
            merged.clone(),
            &guided,
            &mut || stream.draw(device),
            &mut look,
        )?;
        let batch = 0..self.task.batch as usize;
        let pictures = batch.map(|index| self.picture(&latents.narrow(0, index, 1)?, &canvas.text));
        pictures.collect()
    }

    fn picture(&self, latents: &Tensor, text: &str) -> Result<Picture, EngineError> {
        if self.progress.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let made = pixels::to_image(&self.model.vae.decode(latents, self.edges())?)?;
        let asked = Size {
            width: self.task.width,
            height: self.task.height,
        };
        let image = pixels::resize(&DynamicImage::ImageRgb8(made), asked).to_rgb8();
        let image = DynamicImage::ImageRgb8(image);
        Ok(Picture {
            scans: Some(qr::reads(&image, text)),
            image,
            seed: self.task.seed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_offered_that_can_all_draw_symbols() {
        let offered = |models: &[(bool, bool)]| features(models);
        assert_eq!(offered(&[]), []);
        assert_eq!(offered(&[(false, false)]), []);
        assert_eq!(offered(&[(false, true)]), [Feature::QrCode]);
        assert_eq!(offered(&[(false, true), (false, false)]), []);
        let both = [Feature::QrCode, Feature::QrCodeXl];
        assert_eq!(offered(&[(false, true), (true, true)]), both);
        assert_eq!(offered(&[(true, true)]), both, "no other model suffers");
        assert_eq!(offered(&[(false, true), (true, false)]), [Feature::QrCode]);
        assert_eq!(
            offered(&[(false, false), (true, true)]),
            [Feature::QrCodeXl]
        );
    }
}
