//! One task from its prompt to its pictures: text to picture, picture to picture, filling in, steered
//! by a map, and a second, larger pass.
//!
//! ```text
//! prompt ─► text encoder ─────────────┐
//! source ─► resize ─► autoencoder ─► + noise ─► sampler ─► autoencoder ─► scale ─► put under the mask's black ─► pictures
//! ```

use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::{DynamicImage, GrayImage, Luma, RgbImage};

use super::control::Steer;
use super::noise::NoiseStream;
use super::ops::Edges;
use super::pixels::{self, Prepared, Size};
use super::sampling::{self, Denoiser, Guided, Level, Masked, Side, sample};
use super::sd::unet::ControlNet;
use super::sd::words::Words;
use super::sd::{Condition, StableDiffusion};
use crate::plan::hires;
use crate::{EngineError, Fit, ImageTask, Mode, ModelInfo, Picture, ProgressSink, Source, Step};

/// Pixels by which filling in goes beyond the mask, and at least one latent pixel: the latents
/// right beside a mask tell much about what lay under it. With less, 8 of 100 shapes that
/// `ordu-tiny` paints over took a wrong colour; with it, 2 of 100. The pixels between are put back
/// in the end.
const GROWTH: u32 = 6;

/// The second pass of a model that draws at one size alone: how many times as long its sides are at
/// most.
const LARGER: u32 = 2;

/// Runs a task on a loaded model, with the learned words that it may name.
///
/// # Errors
///
/// [`EngineError::Cancelled`], or those of the tensor library.
pub(super) fn run(
    model: &StableDiffusion,
    (task, words): (&ImageTask, &Words),
    steer: Option<&Steer>,
    progress: &dyn ProgressSink,
) -> Result<Vec<Picture>, EngineError> {
    let asked = Size {
        width: task.width,
        height: task.height,
    };
    let passes = Passes::new(model, task, asked);
    let edges = if task.tiling {
        Edges::Wrap
    } else {
        Edges::Zero
    };
    let mut start = Start::new(model, task, passes.first, edges)?;
    start.steered = steer
        .map(|steer| Steered::by(steer, passes.first, edges))
        .transpose()?;
    let levels = model.schedule.levels_for(
        (task.sampler, task.schedule),
        task.steps as usize,
        start.strength,
    );
    let watch = Watch {
        progress,
        before: 0,
        of: task.steps + passes.second.map_or(0, |second| second.steps),
    };
    let mut latents = denoise(model, (task, words), &start, (&levels, watch))?;
    if let Some(second) = passes.second {
        let start = start.enlarged(model, &latents, second.size)?;
        let strength = f64::from(second.strength);
        let levels = model.schedule.simple(second.steps as usize, strength);
        let watch = Watch {
            before: task.steps,
            ..watch
        };
        latents = denoise(model, (task, words), &start, (&levels, watch))?;
    }
    let mut pictures = Vec::new();
    for index in 0..task.batch as usize {
        watch.go_on()?;
        // One by one: pixels need far more memory than latents.
        let latent = latents.narrow(0, index, 1)?;
        let made = model.vae.decode(&latent, edges)?;
        let image = if let Some(alpha) = &model.alpha {
            let latent = model.vae.unscaled(&latent)?;
            let go_on = || watch.go_on();
            let made = alpha.cut_out((&made, &latent), edges, &go_on)?;
            pixels::resize(&DynamicImage::ImageRgba8(made), asked)
        } else {
            let made = DynamicImage::ImageRgb8(pixels::to_image(&made)?);
            let made = pixels::resize(&made, asked).to_rgb8();
            DynamicImage::ImageRgb8(finish(made, task, asked))
        };
        pictures.push(Picture {
            image,
            seed: task.seed,
            scans: None,
        });
    }
    Ok(pictures)
}

/// A picture through the autoencoder and back.
pub(super) fn reconstruct(
    model: &StableDiffusion,
    picture: &RgbImage,
) -> Result<RgbImage, EngineError> {
    let size = Size {
        width: picture.width().max(1),
        height: picture.height().max(1),
    }
    .in_steps_of(model.factor);
    let picture = pixels::resize(&DynamicImage::ImageRgb8(picture.clone()), size).to_rgb8();
    let latents = model
        .vae
        .encode(&pixels::to_tensor(&picture)?, Edges::Zero)?;
    pixels::to_image(&model.vae.decode(&latents, Edges::Zero)?)
}

/// The size a model draws at, in whole latent pixels.
pub(super) fn working_size(info: &ModelInfo, asked: Size, factor: u32) -> Size {
    match info.fit {
        Fit::Exact => asked.in_steps_of(factor),
        Fit::Scale { native } => {
            let ratio = f64::from(asked.width) / f64::from(asked.height);
            let whole = |side: f64| {
                // Eight to one is the limit: beyond it one side would vanish.
                let latent = (side / f64::from(factor))
                    .round()
                    .clamp(1.0, 8.0 * f64::from(native));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped before"
                )]
                let latent = latent as u32;
                latent * factor
            };
            let ratio = ratio.clamp(0.125, 8.0).sqrt();
            Size {
                width: whole(f64::from(native) * ratio),
                height: whole(f64::from(native) / ratio),
            }
        }
    }
}

/// At which sizes a task is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Passes {
    first: Size,
    second: Option<Second>,
}

/// The second pass of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Second {
    size: Size,
    steps: u32,
    strength: f32,
}

impl Passes {
    fn new(model: &StableDiffusion, task: &ImageTask, asked: Size) -> Self {
        let (info, factor) = (&model.info, model.factor);
        let once = working_size(info, asked, factor);
        let whole = match info.fit {
            // Beyond that it would not know what to draw, and what is larger is scaled up anyway.
            Fit::Scale { native } => {
                let most = native.saturating_mul(LARGER);
                let longest = asked.width.max(asked.height);
                let part = |side: u32| {
                    let side = u64::from(side) * u64::from(most) / u64::from(longest.max(1));
                    u32::try_from(side).unwrap_or(most).max(1)
                };
                let size = if longest > most {
                    Size {
                        width: part(asked.width),
                        height: part(asked.height),
                    }
                } else {
                    asked
                };
                size.in_steps_of(factor)
            }
            Fit::Exact => asked.in_steps_of(factor),
        };
        let first = match info.fit {
            Fit::Scale { .. } => once,
            Fit::Exact => {
                let (width, height) = hires::first_pass(info.baseline, asked.width, asked.height);
                Size { width, height }.in_steps_of(factor)
            }
        };
        let pixels = |size: Size| u64::from(size.width) * u64::from(size.height);
        if !hires::applies(task, info) || pixels(first) >= pixels(whole) {
            return Self {
                first: once,
                second: None,
            };
        }
        Self {
            first,
            second: Some(Second {
                size: whole,
                steps: hires::second_steps(task, info),
                strength: hires::denoising_strength(task),
            }),
        }
    }
}

/// What a run starts from, beside noise.
pub(super) struct Start {
    /// `[batch, c, h, w]` of the whole batch.
    pub(super) shape: [usize; 4],
    edges: Edges,
    /// Clean latents of the source, `[1, c, h, w]`.
    pub(super) known: Option<Tensor>,
    /// `[1, 1, h, w]`; 1 is made anew.
    mask: Option<Tensor>,
    /// Further channels of inpainting networks, `[1, c + 1, h, w]`.
    beside: Option<Tensor>,
    strength: f64,
    /// What steers; the second pass goes on by itself.
    pub(super) steered: Option<Steered>,
}

/// A control network, and what it made of the map.
pub(super) struct Steered {
    pub(super) network: Arc<ControlNet>,
    pub(super) seen: Tensor,
    pub(super) strength: f64,
    pub(super) side: Side,
}

impl Steered {
    fn by(steer: &Steer, size: Size, edges: Edges) -> Result<Self, EngineError> {
        Ok(Self {
            seen: steer.network.see(&steer.map(size)?, edges)?,
            network: Arc::clone(&steer.network),
            strength: f64::from(steer.how.strength),
            side: Side::Positive,
        })
    }
}

impl Start {
    pub(super) fn new(
        model: &StableDiffusion,
        task: &ImageTask,
        size: Size,
        edges: Edges,
    ) -> Result<Self, EngineError> {
        let latent = |side: u32| (side / model.factor) as usize;
        let shape = [
            task.batch as usize,
            model.latent_channels,
            latent(size.height),
            latent(size.width),
        ];
        let prepared = prepare(model, task, size);
        let mut start = Self {
            shape,
            edges,
            known: None,
            mask: None,
            beside: None,
            strength: 1.0,
            steered: None,
        };
        if let (Some(prepared), Some(source)) = (&prepared, source_of(&task.mode)) {
            let encode = |image: &RgbImage| -> Result<Tensor, EngineError> {
                Ok(model.vae.encode(&pixels::to_tensor(image)?, edges)?)
            };
            let mask = prepared.mask.as_ref().map(|mask| {
                let mask = pixels::to_latent_mask(mask, model.factor)?;
                Ok::<_, EngineError>(mask.to_device(model.compute().device())?)
            });
            start.mask = mask.transpose()?;
            start.known = Some(match (&start.mask, fills(&task.mode)) {
                // An encoder sees far: beside the mask, latents would tell what lay under it, or of
                // the grey there.
                (Some(mask), true) => {
                    let around = encode(&prepared.continued())?;
                    (&around + (encode(&prepared.greyed())? - &around)?.broadcast_mul(mask)?)?
                }
                _ => encode(&prepared.image)?,
            });
            start.strength = f64::from(source.denoising_strength);
        }
        if model.info.inpainting {
            start.beside = Some(beside(model, prepared, size, edges)?);
        }
        Ok(start)
    }
}

impl Start {
    /// The start of a second pass over what the first one made: its latents, enlarged without
    /// mixing, since a mean of noisy latents is no latent.
    fn enlarged(
        &self,
        model: &StableDiffusion,
        latents: &Tensor,
        size: Size,
    ) -> Result<Self, EngineError> {
        let side = |pixels: u32| (pixels / model.factor) as usize;
        let [batch, channels, height, width] = self.shape;
        let (rows, columns) = (side(size.height), side(size.width));
        let known = latents
            .index_select(&nearest(height, rows, latents.device())?, 2)?
            .index_select(&nearest(width, columns, latents.device())?, 3)?;
        Ok(Self {
            shape: [batch, channels, rows, columns],
            edges: self.edges,
            known: Some(known),
            mask: None,
            beside: None,
            strength: 1.0,
            steered: None,
        })
    }
}

/// For each place of a longer side, the nearest one of a shorter side: centres are compared.
fn nearest(from: usize, to: usize, device: &Device) -> Result<Tensor, EngineError> {
    let place = |index: usize| (2 * index + 1) * from / (2 * to);
    let places: Vec<u32> = (0..to)
        .map(|index| u32::try_from(place(index)).unwrap_or(u32::MAX))
        .collect();
    Ok(Tensor::from_vec(places, to, device)?)
}

/// The source at the size the model draws at, masked as the mode wants it.
fn prepare(model: &StableDiffusion, task: &ImageTask, size: Size) -> Option<Prepared> {
    let mut prepared = Prepared::new(source_of(&task.mode)?, size);
    if !fills(&task.mode) && !model.info.inpainting {
        return Some(prepared);
    }
    if prepared.mask.is_none() {
        prepared.mask = Some(GrayImage::from_pixel(size.width, size.height, Luma([255])));
    }
    Some(prepared.grown(GROWTH.max(model.factor)))
}

/// Whether what lies under the mask is to be forgotten.
fn fills(mode: &Mode) -> bool {
    matches!(mode, Mode::Inpaint(_) | Mode::Outpaint(_))
}

fn source_of(mode: &Mode) -> Option<&Source> {
    match mode {
        Mode::Txt2Img | Mode::Remix(_) => None,
        Mode::Img2Img(source) | Mode::Inpaint(source) | Mode::Outpaint(source) => Some(source),
    }
}

/// What an inpainting network sees behind the latents: the mask and the picture without what lies
/// under it.
fn beside(
    model: &StableDiffusion,
    prepared: Option<Prepared>,
    size: Size,
    edges: Edges,
) -> Result<Tensor, EngineError> {
    // Without a source everything is to be made.
    let prepared = prepared.unwrap_or_else(|| Prepared {
        image: RgbImage::new(size.width, size.height),
        mask: Some(GrayImage::from_pixel(size.width, size.height, Luma([255]))),
    });
    let mask = prepared
        .mask
        .clone()
        .unwrap_or_else(|| GrayImage::new(size.width, size.height));
    let mask = pixels::to_latent_mask(&mask, model.factor)?;
    let masked = model
        .vae
        .encode(&pixels::to_tensor(&prepared.greyed())?, edges)?;
    let mask = mask.to_device(masked.device())?;
    Ok(Tensor::cat(&[&mask, &masked.contiguous()?], 1)?)
}

/// Noise to clean latents.
pub(super) fn denoise(
    model: &StableDiffusion,
    (task, words): (&ImageTask, &Words),
    start: &Start,
    (levels, watch): (&[Level], Watch<'_>),
) -> Result<Tensor, EngineError> {
    // Noise is drawn on the processor wherever it goes: a seed gives one picture everywhere.
    let device = model.compute().device();
    let mut stream = NoiseStream::new(task.noise, task.seed, start.shape);
    let noise = stream.draw(device)?;
    let known = start
        .known
        .as_ref()
        .map(|known| known.broadcast_as(&start.shape)?.contiguous())
        .transpose()?;
    let z = begin(model, levels, &noise, known.as_ref())?;
    let guided = guide(model, (task, words), start)?;
    let denoiser: Box<dyn Denoiser> = match (&start.mask, known) {
        (Some(mask), Some(known)) => Box::new(Masked {
            inner: guided,
            mask: mask.clone(),
            known,
            noise,
        }),
        _ => Box::new(guided),
    };
    if watch.progress.cancelled() {
        return Err(EngineError::Cancelled);
    }
    let mut look = |step: usize, clean: &Tensor| watch.report(model, step, clean);
    let mut fresh = || stream.draw(device);
    sample(
        (task.sampler, levels),
        z,
        denoiser.as_ref(),
        &mut fresh,
        &mut look,
    )
}

/// The picture at the first level of a run.
fn begin(
    model: &StableDiffusion,
    levels: &[Level],
    noise: &Tensor,
    known: Option<&Tensor>,
) -> Result<Tensor, EngineError> {
    let Some(first) = levels.first().copied() else {
        return Err(EngineError::bad_task("a schedule without levels"));
    };
    // At the noisiest level of training the little that is not noise is left to noise as well.
    let share = if model.schedule.is_start(first) {
        1.0
    } else {
        first.noise
    };
    let noise = (noise * share)?;
    Ok(match known {
        Some(known) => ((known * first.alpha)? + noise)?,
        None => noise,
    })
}

pub(super) fn guide<'a>(
    model: &'a StableDiffusion,
    (task, words): (&ImageTask, &Words),
    start: &'a Start,
) -> Result<Guided<'a>, EngineError> {
    let skip = task.clip_skip as usize;
    let batch = start.shape[0];
    let [_, _, rows, columns] = start.shape;
    let side = |latent: usize| {
        u32::try_from(latent)
            .unwrap_or(u32::MAX)
            .saturating_mul(model.factor)
    };
    let fitted = |one: Condition| one.for_size(side(columns), side(rows)).repeat(batch);
    let (positive, negative) = if task.cfg_scale > 1.0 {
        let prompts = (task.prompt.as_str(), task.negative_prompt.as_str());
        let (positive, negative) = model.text.encode_pair(prompts, words, skip)?;
        let scale = f64::from(task.cfg_scale);
        (fitted(positive)?, Some((fitted(negative)?, scale)))
    } else {
        (fitted(model.text.encode(&task.prompt, words, skip)?)?, None)
    };
    let beside = start
        .beside
        .as_ref()
        .map(|beside| beside.repeat((batch, 1, 1, 1)));
    Ok(Guided {
        unet: &model.unet,
        schedule: &model.schedule,
        positive,
        negative,
        beside: beside.transpose()?,
        steered: start.steered.as_ref().map(|steered| sampling::Steered {
            network: &steered.network,
            seen: steered.seen.clone(),
            strength: steered.strength,
            side: steered.side,
        }),
        edges: start.edges,
    })
}

/// Who is told of the steps of a pass.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) progress: &'a dyn ProgressSink,
    /// Steps of passes before this one.
    pub(super) before: u32,
    /// Steps of all passes.
    pub(super) of: u32,
}

impl Watch<'_> {
    pub(super) fn report(
        self,
        model: &StableDiffusion,
        step: usize,
        clean: &Tensor,
    ) -> Result<(), EngineError> {
        let preview = if self.progress.wants_preview() {
            preview(model, clean)?
        } else {
            None
        };
        let step = u32::try_from(step).unwrap_or(self.of);
        self.progress.step(Step {
            step: self.before.saturating_add(step),
            of: self.of,
            preview,
        });
        self.go_on()
    }

    fn go_on(self) -> Result<(), EngineError> {
        if self.progress.cancelled() {
            Err(EngineError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// A rough picture of the first of some clean latents.
fn preview(model: &StableDiffusion, clean: &Tensor) -> Result<Option<RgbImage>, EngineError> {
    /// Pictures of so few pixels are decoded in milliseconds; their autoencoders are not linear
    /// enough for a map.
    const SMALL: usize = 128 * 128;
    let (_, _, height, width) = clean.dims4()?;
    let pixels = height * width * (model.factor * model.factor) as usize;
    if pixels <= SMALL {
        let decoded = model.vae.decode(&clean.narrow(0, 0, 1)?, Edges::Zero)?;
        return pixels::to_image(&decoded).map(Some);
    }
    model
        .preview()
        .map(|preview| preview.draw(clean))
        .transpose()
}

/// Puts what the mask keeps back, pixel for pixel: the autoencoder alone would change it a little.
pub(super) fn finish(made: RgbImage, task: &ImageTask, asked: Size) -> RgbImage {
    let Some(source) = source_of(&task.mode) else {
        return made;
    };
    let prepared = Prepared::new(source, asked);
    match &prepared.mask {
        Some(mask) => pixels::composite(&made, &prepared.image, mask),
        None => made,
    }
}
