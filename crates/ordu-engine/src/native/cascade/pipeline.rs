//! One task from its prompt to its pictures: text to picture, picture to picture, two passes, remix.
//!
//! # Source
//! `worker.md` § 2.8 (Stable Cascade, remix), 2.10.

use candle_core::{Result as TensorResult, Tensor};
use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};

use super::network::{Condition, Network, Wish};
use super::schedule::level;
use super::text::Read;
use super::{StableCascade, encoder, stage_a};
use crate::native::noise::NoiseStream;
use crate::native::pipeline::{finish, working_size};
use crate::native::pixels::{self, Prepared, Size};
use crate::native::sampling::{Denoiser, Level, sample};
use crate::plan::pipeline::{Pipeline, choose};
use crate::plan::{hires, steps};
use crate::{EngineError, ImageTask, Mode, Picture, ProgressSink, RemixImage, Step, Workflow};

/// How much smaller than the picture the latents of stage C are.
const COMPRESSION: u32 = 42;
/// The same where the picture is refined.
const FINE_COMPRESSION: u32 = 32;
/// Guidance of stage B where the picture is refined.
const FINE_GUIDANCE: f64 = 1.1;
/// Guidance of stage C when it refines.
const REFINING_GUIDANCE: f64 = 4.0;
/// Pictures that one mix may have.
const MAX_PICTURES: usize = 6;
/// The strongest that one counts, and the weakest, which pushes away.
const MAX_STRENGTH: f32 = 10.0;

/// Refuses what Stable Cascade cannot do.
///
/// # Errors
///
/// [`EngineError::AddOnMismatch`] naming the first add-on, [`EngineError::BadTask`].
pub(super) fn check(task: &ImageTask) -> Result<(), EngineError> {
    let loras = task.loras.iter().map(|lora| &lora.file);
    let mut add_ons = loras.chain(task.embeddings.iter().map(|word| &word.name));
    if let Some(name) = add_ons.next() {
        return Err(EngineError::mismatch(
            name,
            "Stable Cascade takes no add-ons",
        ));
    }
    let works = task
        .workflow
        .as_ref()
        .is_some_and(|work| *work != Workflow::PostProcess);
    let refused = [
        (task.tiling, "tile"),
        (task.control.is_some(), "be steered by a control type"),
        (task.transparent, "make the background transparent"),
        (works, "run a workflow"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(asked, _)| *asked) {
        return Err(EngineError::bad_task(format!(
            "Stable Cascade cannot {what}"
        )));
    }
    let Mode::Remix(pictures) = &task.mode else {
        return Ok(());
    };
    let strange = pictures
        .iter()
        .find(|picture| !picture.strength.is_finite());
    match (pictures.first(), strange) {
        (None, _) => Err(EngineError::bad_task("a remix without pictures")),
        (_, Some(picture)) => Err(EngineError::bad_task(format!(
            "a picture of strength {} in a remix",
            picture.strength
        ))),
        _ => Ok(()),
    }
}

/// Runs a checked task.
///
/// # Errors
///
/// [`EngineError::Cancelled`], or those of the tensor library.
pub(super) fn run(
    model: &StableCascade,
    task: &ImageTask,
    progress: &dyn ProgressSink,
) -> Result<Vec<Picture>, EngineError> {
    let asked = Size {
        width: task.width,
        height: task.height,
    };
    let size = drawable(model, working_size(&model.info, asked, grid(model)));
    let drawn = match (choose(task, &model.info), &task.mode) {
        (Pipeline::CascadeRemix, Mode::Remix(pictures)) => {
            remixed(model, (task, progress), size, pictures)?
        }
        (Pipeline::CascadeTwoPass, _) => twice(model, (task, progress), size)?,
        _ => once(model, (task, progress), size)?,
    };
    let picture = |made: RgbImage| {
        let made = pixels::resize(&DynamicImage::ImageRgb8(made), asked).to_rgb8();
        Picture {
            image: DynamicImage::ImageRgb8(finish(made, task, asked)),
            seed: task.seed,
            scans: None,
        }
    };
    Ok(drawn.into_iter().map(picture).collect())
}

/// Sides are whole squares of stage B's latents, in pixels.
fn grid(model: &StableCascade) -> u32 {
    pixels_of(model.stage_b.patch())
}

/// A size at which no level of stage B is left without a pixel.
fn drawable(model: &StableCascade, size: Size) -> Size {
    let least = pixels_of(model.stage_b.shortest());
    Size {
        width: size.width.max(least),
        height: size.height.max(least),
    }
}

fn pixels_of(latents: usize) -> u32 {
    let latents = u32::try_from(latents).unwrap_or(1);
    latents.saturating_mul(stage_a::FACTOR)
}

/// A task and who is told of it.
type Asked<'a> = (&'a ImageTask, &'a dyn ProgressSink);

fn once(
    model: &StableCascade,
    (task, progress): Asked<'_>,
    size: Size,
) -> Result<Vec<RgbImage>, EngineError> {
    let told = Told::of(model, task)?;
    let (known, strength) = source(model, task, size, COMPRESSION)?;
    let pass = Pass {
        model,
        task,
        watch: Watch::new(progress, task, 1),
        size,
        compression: COMPRESSION,
    };
    let start = (known, strength);
    let c = pass.draw(&told, f64::from(task.cfg_scale), start)?;
    pass.fill(&c, (&told.nothing, &told.nothing), 1.0)
}

/// A first, coarser picture is looked at, and drawn again with its help.
fn twice(
    model: &StableCascade,
    (task, progress): Asked<'_>,
    size: Size,
) -> Result<Vec<RgbImage>, EngineError> {
    let told = Told::of(model, task)?;
    let (width, height) = hires::first_pass(model.info.baseline, size.width, size.height);
    let small = drawable(model, Size { width, height }.in_steps_of(grid(model)));
    let (known, strength) = source(model, task, small, FINE_COMPRESSION)?;
    let pass = Pass {
        model,
        task,
        watch: Watch::new(progress, task, 2),
        size: small,
        compression: FINE_COMPRESSION,
    };
    let nothing = (&told.nothing, &told.nothing);
    let c = pass.draw(&told, f64::from(task.cfg_scale), (known, strength))?;
    let first = pass.fill(&c, nothing, FINE_GUIDANCE)?;
    let seen: Vec<Tensor> = first
        .iter()
        .map(|picture| encoded(model, &nearest(picture, size), FINE_COMPRESSION))
        .collect::<Result<_, _>>()?;
    let pass = Pass {
        size,
        watch: pass.watch.next(),
        ..pass
    };
    let strength = f64::from(hires::denoising_strength(task));
    let start = (Some(Tensor::cat(&seen, 0)?), strength);
    let c = pass.draw(&told, REFINING_GUIDANCE, start)?;
    pass.fill(&c, nothing, FINE_GUIDANCE)
}

/// What pictures show, mixed.
fn remixed(
    model: &StableCascade,
    (task, progress): Asked<'_>,
    size: Size,
    pictures: &[RemixImage],
) -> Result<Vec<RgbImage>, EngineError> {
    let mut told = Told::of(model, task)?;
    let go_on = || {
        if progress.cancelled() {
            Err(EngineError::Cancelled)
        } else {
            Ok(())
        }
    };
    let mut seen = Vec::with_capacity(pictures.len().min(MAX_PICTURES));
    for picture in pictures.iter().take(MAX_PICTURES) {
        let strength = picture.strength.clamp(-MAX_STRENGTH, MAX_STRENGTH);
        let vector = model.sight.of(&picture.image, &go_on)?;
        seen.push((vector.unsqueeze(1)? * f64::from(strength))?);
    }
    told.pictures = Some(Tensor::cat(&seen, 1)?);
    let pass = Pass {
        model,
        task,
        watch: Watch::new(progress, task, 1),
        size,
        compression: COMPRESSION,
    };
    let c = pass.draw(&told, f64::from(task.cfg_scale), (None, 1.0))?;
    let (positive, negative) = (&told.positive.summary, &told.negative.summary);
    pass.fill(&c, (positive, negative), 1.0)
}

/// What both stages are told.
struct Told {
    positive: Read,
    negative: Read,
    /// `[1, pictures, width]`.
    pictures: Option<Tensor>,
    /// A summary of no text at all.
    nothing: Tensor,
}

impl Told {
    fn of(model: &StableCascade, task: &ImageTask) -> Result<Self, EngineError> {
        let skip = task.clip_skip as usize;
        let positive = model.text.encode(&task.prompt, skip)?;
        let negative = model.text.encode(&task.negative_prompt, skip)?;
        Ok(Self {
            nothing: positive.summary.zeros_like()?,
            positive,
            negative,
            pictures: None,
        })
    }
}

/// The source as latents of stage C, for the whole batch, and how much of the way is run.
fn source(
    model: &StableCascade,
    task: &ImageTask,
    size: Size,
    compression: u32,
) -> Result<(Option<Tensor>, f64), EngineError> {
    let Some(source) = task.source() else {
        return Ok((None, 1.0));
    };
    let seen = encoded(model, &Prepared::new(source, size).image, compression)?;
    let known = seen.repeat((task.batch as usize, 1, 1, 1))?;
    Ok((Some(known), f64::from(source.denoising_strength)))
}

/// A picture as latents of stage C, as many as a drawn one has.
fn encoded(
    model: &StableCascade,
    picture: &RgbImage,
    compression: u32,
) -> Result<Tensor, EngineError> {
    let (width, height) = picture.dimensions();
    let side = |pixels: u32| cells(pixels, compression) * encoder::FACTOR;
    let (wide, high) = (side(width), side(height));
    // Cut to the shape of whole latents, from the middle.
    let shape = |whole: u32, of: u32, by: u32| {
        let part = u64::from(whole) * u64::from(of) / u64::from(by.max(1));
        u32::try_from(part).unwrap_or(u32::MAX).max(1)
    };
    let (cut_wide, cut_high) =
        if u64::from(width) * u64::from(high) > u64::from(height) * u64::from(wide) {
            (shape(height, wide, high).min(width), height)
        } else {
            (width, shape(width, high, wide).min(height))
        };
    let (left, top) = ((width - cut_wide) / 2, (height - cut_high) / 2);
    let cut = imageops::crop_imm(picture, left, top, cut_wide, cut_high).to_image();
    let scaled = imageops::resize(&cut, wide, high, FilterType::CatmullRom);
    Ok(model.encoder.encode(&scaled)?)
}

/// Latents of stage C on a side.
fn cells(pixels: u32, compression: u32) -> u32 {
    (pixels / compression).max(1)
}

/// A picture at another size, each pixel the nearest one.
fn nearest(picture: &RgbImage, size: Size) -> RgbImage {
    let (width, height) = picture.dimensions();
    let place = |at: u32, to: u32, from: u32| {
        let place = (2 * u64::from(at) + 1) * u64::from(from) / (2 * u64::from(to.max(1)));
        u32::try_from(place)
            .unwrap_or(0)
            .min(from.saturating_sub(1))
    };
    RgbImage::from_fn(size.width, size.height, |x, y| {
        *picture.get_pixel(place(x, size.width, width), place(y, size.height, height))
    })
}

/// Both stages at one size.
struct Pass<'a> {
    model: &'a StableCascade,
    task: &'a ImageTask,
    watch: Watch<'a>,
    size: Size,
    compression: u32,
}

impl Pass<'_> {
    /// Stage C: what is told, to latents of the whole batch.
    fn draw(
        &self,
        told: &Told,
        guidance: f64,
        (known, strength): (Option<Tensor>, f64),
    ) -> Result<Tensor, EngineError> {
        let network = &self.model.stage_c;
        let batch = self.task.batch as usize;
        let condition = |read: &Read, pictures: Option<Tensor>| {
            let wish = Wish {
                text: read.text.clone(),
                summary: read.summary.clone(),
                pictures,
            };
            Network::repeated(&network.wish(&wish)?, batch)
        };
        let negative = (guidance > 1.0)
            .then(|| Ok::<_, EngineError>((condition(&told.negative, None)?, guidance)))
            .transpose()?;
        let guided = Guided::new(
            network,
            condition(&told.positive, told.pictures.clone())?,
            negative,
        )?;
        let cells = |pixels: u32| cells(pixels, self.compression) as usize;
        let shape = [batch, 16, cells(self.size.height), cells(self.size.width)];
        let (count, _) = steps::cascade(self.task.steps);
        let levels = self
            .model
            .levels_c
            .levels(self.task.sampler, count as usize, strength);
        let is_start = levels
            .first()
            .is_some_and(|first| self.model.levels_c.is_start(*first));
        self.sampled((shape, known), (&levels, is_start), &guided, (0, false))
    }

    /// Stage B and A: latents of stage C, and summaries of what to draw and what to keep away from, to
    /// pixels.
    fn fill(
        &self,
        drawn: &Tensor,
        (positive, negative): (&Tensor, &Tensor),
        guidance: f64,
    ) -> Result<Vec<RgbImage>, EngineError> {
        let network = &self.model.stage_b;
        let side = |pixels: u32| (pixels / stage_a::FACTOR) as usize;
        let (rows, columns) = (side(self.size.height), side(self.size.width));
        let condition = network.filling(positive, drawn, (rows, columns))?;
        let negative = (guidance > 1.0)
            .then(|| {
                let nothing = network.filling(negative, &drawn.zeros_like()?, (rows, columns))?;
                Ok::<_, EngineError>((nothing, guidance))
            })
            .transpose()?;
        let guided = Guided::new(network, condition, negative)?;
        let shape = [self.task.batch as usize, 4, rows, columns];
        let (before, count) = steps::cascade(self.task.steps);
        let levels = self
            .model
            .levels_b
            .levels(self.task.sampler, count as usize, 1.0);
        let latents = self.sampled((shape, None), (&levels, true), &guided, (before, true))?;
        let mut pictures = Vec::with_capacity(self.task.batch as usize);
        for index in 0..self.task.batch as usize {
            if self.watch.progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            pictures.push(decoded(self.model, &latents.narrow(0, index, 1)?)?);
        }
        Ok(pictures)
    }

    /// Noise to clean latents of one stage.
    fn sampled(
        &self,
        (shape, known): ([usize; 4], Option<Tensor>),
        (levels, is_start): (&[Level], bool),
        guided: &Guided<'_>,
        (before, may_show): (u32, bool),
    ) -> Result<Tensor, EngineError> {
        let device = self.model.compute.device();
        let Some(first) = levels.first().copied() else {
            return Err(EngineError::bad_task("a schedule without levels"));
        };
        let mut stream = NoiseStream::new(self.task.noise, self.task.seed, shape);
        // At the noisiest level the little that is not noise is left to noise as well.
        let noise = (stream.draw(device)? * if is_start { 1.0 } else { first.noise })?;
        let z = match known {
            Some(known) => ((known.to_device(device)? * first.alpha)? + noise)?,
            None => noise,
        };
        if self.watch.progress.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let mut look = |step: usize, clean: &Tensor| {
            let shown = may_show.then_some(clean);
            self.watch.report(self.model, (before, step), shown)
        };
        let mut fresh = || stream.draw(device);
        sample(
            (self.task.sampler, levels),
            z,
            guided,
            &mut fresh,
            &mut look,
        )
    }
}

/// The picture of some latents of stage B.
fn decoded(model: &StableCascade, latents: &Tensor) -> Result<RgbImage, EngineError> {
    let pixels = model.stage_a.decode(latents)?;
    // From 0…1 to −1…1.
    pixels::to_image(&pixels.affine(2.0, -1.0)?)
}

/// A network under classifier-free guidance.
struct Guided<'a> {
    network: &'a Network,
    positive: Condition,
    negative: Option<(Condition, f64)>,
    /// Both, where they can be asked about in one go.
    both: Option<Condition>,
}

impl<'a> Guided<'a> {
    fn new(
        network: &'a Network,
        positive: Condition,
        negative: Option<(Condition, f64)>,
    ) -> Result<Self, EngineError> {
        let both = match &negative {
            Some((negative, _)) => positive.join(negative)?,
            None => None,
        };
        Ok(Self {
            network,
            positive,
            negative,
            both,
        })
    }

    fn predict(&self, z: &Tensor, time: f64) -> TensorResult<Tensor> {
        let Some((negative, scale)) = &self.negative else {
            return self.network.forward(z, time, &self.positive);
        };
        let (with, without) = match &self.both {
            Some(both) => {
                let made = self
                    .network
                    .forward(&Tensor::cat(&[z, z], 0)?, time, both)?;
                let batch = z.dim(0)?;
                (made.narrow(0, 0, batch)?, made.narrow(0, batch, batch)?)
            }
            None => (
                self.network.forward(z, time, &self.positive)?,
                self.network.forward(z, time, negative)?,
            ),
        };
        &without + ((with - &without)? * *scale)?
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&self, z: &Tensor, level: Level) -> TensorResult<Tensor> {
        let noise = self.predict(z, level.time)?;
        (z - (noise * level.noise)?)? / level.alpha
    }

    fn level(&self, sigma: f64) -> Level {
        level(sigma)
    }
}

/// Who is told of the steps of a pass.
#[derive(Clone, Copy)]
struct Watch<'a> {
    progress: &'a dyn ProgressSink,
    /// Steps of passes before this one.
    before: u32,
    /// Steps of one pass, and of all.
    each: u32,
    of: u32,
}

impl<'a> Watch<'a> {
    fn new(progress: &'a dyn ProgressSink, task: &ImageTask, passes: u32) -> Self {
        let (c, b) = steps::cascade(task.steps);
        Self {
            progress,
            before: 0,
            each: c + b,
            of: (c + b) * passes,
        }
    }

    fn next(self) -> Self {
        Self {
            before: self.before + self.each,
            ..self
        }
    }

    /// A step of a stage; what it shows is latents of stage B.
    fn report(
        self,
        model: &StableCascade,
        (before, step): (u32, usize),
        shown: Option<&Tensor>,
    ) -> Result<(), EngineError> {
        /// Pictures of so few pixels are decoded in milliseconds.
        const SMALL: usize = 128 * 128;
        let preview = match shown {
            Some(latents) if self.progress.wants_preview() => {
                let (_, _, rows, columns) = latents.dims4()?;
                let pixels = rows * columns * (stage_a::FACTOR * stage_a::FACTOR) as usize;
                (pixels <= SMALL)
                    .then(|| decoded(model, &latents.narrow(0, 0, 1)?))
                    .transpose()?
            }
            _ => None,
        };
        let step = u32::try_from(step).unwrap_or(self.of);
        self.progress.step(Step {
            step: (self.before + before).saturating_add(step).min(self.of),
            of: self.of,
            preview,
        });
        if self.progress.cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(())
    }
}
