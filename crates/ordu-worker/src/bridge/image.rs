//! An image job as a task of the engine.
//!
//! Nothing is refused here: numbers are clamped, unknown names replaced or left out. Whether an engine
//! can do what is asked is its own business; a horde asks only for what was offered.
//!
//! # Source
//! `worker.md` § 2.1 to 2.13.

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
use ordu_api::image::{ImageJob, ImagePayload, Metadata, SourceProcessing};
use ordu_engine::plan::post::PostKind;
use ordu_engine::{
    Control, ControlType, Embedding, Hires, ImageTask, Limits, Lora, Mode, NoiseSource,
    PostProcessor, QrSpec, RemixImage, Sampler, Schedule, Source, Workflow,
};

use super::prompt;
use crate::manager::AddOns;

/// Sides of a picture, in pixels.
const SIDE: std::ops::RangeInclusive<u32> = 64..=8192;

/// Sides are rounded up to a multiple of this, in pixels.
const SIDE_STEP: u32 = 64;

const STEPS: std::ops::RangeInclusive<u32> = 1..=500;
const CFG_SCALE: std::ops::RangeInclusive<f64> = 1.0..=100.0;
const DENOISING_STRENGTH: std::ops::RangeInclusive<f64> = 0.01..=1.0;
const CLIP_SKIP: std::ops::RangeInclusive<u32> = 1..=20;

const EXTRA_STRENGTH: std::ops::RangeInclusive<f64> = -5.0..=5.0;
const FACE_STRENGTH: std::ops::RangeInclusive<f64> = 0.0..=1.0;

/// The longest side of noise that stands for a source, in pixels; engines resize it.
const NOISE_SIDE: u32 = 1024;

/// How much of the text of a seed is read, in bytes.
const MAX_SEED_BYTES: usize = 1024;

/// How strongly a source steers; the protocol has no word for it.
const CONTROL_STRENGTH: f32 = 1.0;

/// What came with a job, as far as it could be had.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) source: Option<DynamicImage>,
    pub(crate) mask: Option<GrayImage>,
    /// Further pictures and how much each counts, in their order.
    pub(crate) extras: Vec<(DynamicImage, f64)>,
}

/// The task of a job: one picture per id, from this seed.
pub(crate) fn task(
    job: &ImageJob,
    sources: Sources,
    add_ons: &AddOns,
    seed: u64,
    limits: Limits,
) -> ImageTask {
    let payload = &job.payload;
    let written = payload.prompt.as_deref().unwrap_or_default();
    let (positive, negative) = prompt::split(written, seed);
    let (prompt, negative_prompt) = add_ons.inject(&positive, &negative);
    ImageTask {
        model: job.model.clone().unwrap_or_default(),
        prompt,
        negative_prompt,
        width: side(payload.width),
        height: side(payload.height),
        steps: within(&STEPS, payload.ddim_steps).min(limits.max_steps.max(1)),
        cfg_scale: single(clamped(&CFG_SCALE, payload.cfg_scale)),
        sampler: Sampler::from_name(&payload.sampler_name),
        schedule: Schedule::from_karras(payload.karras),
        seed,
        batch: u32::try_from(job.ids.len()).unwrap_or(u32::MAX).max(1),
        clip_skip: within(&CLIP_SKIP, payload.clip_skip.unwrap_or(1)),
        tiling: payload.tiling,
        noise: NoiseSource::default(),
        mode: mode(job.source_processing, payload, sources),
        hires: payload.hires_fix.then(|| hires(payload)),
        control: control(payload),
        loras: loras(add_ons),
        embeddings: embeddings(add_ons),
        transparent: payload.transparent,
        workflow: workflow(payload),
        post: post(payload),
        face_strength: payload
            .facefixer_strength
            .map(|strength| single(clamped(&FACE_STRENGTH, strength))),
    }
}

fn loras(add_ons: &AddOns) -> Vec<Lora> {
    let loras = add_ons.loras.iter().map(|lora| Lora {
        file: lora.file(),
        model: single(lora.model),
        clip: single(lora.clip),
    });
    loras.collect()
}

/// Their words are in the prompts already.
fn embeddings(add_ons: &AddOns) -> Vec<Embedding> {
    let embeddings = add_ons.tis.iter().map(|ti| Embedding {
        name: ti.id.to_string(),
        strength: single(ti.strength),
        place: None,
    });
    embeddings.collect()
}

/// Each step once, and one that enlarges at most: what is more than that is a mistake, or worse.
fn post(payload: &ImagePayload) -> Vec<PostProcessor> {
    let enlarges = |step: &PostProcessor| matches!(step.kind(), PostKind::Upscaler(_));
    let mut steps: Vec<PostProcessor> = Vec::new();
    for name in &payload.post_processing {
        let Some(step) = PostProcessor::from_name(name) else {
            continue;
        };
        let is_too_much = enlarges(&step) && steps.iter().any(enlarges);
        if !is_too_much && !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

fn hires(payload: &ImagePayload) -> Hires {
    let strength = payload.hires_fix_denoising_strength;
    Hires {
        denoising_strength: strength.map(|strength| single(clamped(&DENOISING_STRENGTH, strength))),
    }
}

/// Steering by something that nobody knows is no steering.
fn control(payload: &ImagePayload) -> Option<Control> {
    Some(Control {
        kind: ControlType::from_name(payload.control_type.as_deref()?)?,
        image_is_control: payload.image_is_control,
        return_map: payload.return_control_map,
        strength: CONTROL_STRENGTH,
    })
}

fn workflow(payload: &ImagePayload) -> Option<Workflow> {
    match payload.workflow.as_deref()? {
        "qr_code" => {
            let texts = payload.extra_texts.iter();
            let texts = texts
                .filter_map(|extra| Some((extra.reference.as_deref()?, extra.text.as_deref()?)));
            Some(Workflow::QrCode(QrSpec::from_texts(texts)))
        }
        "creative_upscale" => Some(Workflow::CreativeUpscale),
        _ => None,
    }
}

/// Without a source there is nothing to start from, whatever was asked.
fn mode(processing: SourceProcessing, payload: &ImagePayload, sources: Sources) -> Mode {
    let Some(image) = sources.source else {
        return Mode::Txt2Img;
    };
    let strength = payload.denoising_strength.unwrap_or(1.0);
    let source = Source {
        image,
        mask: sources.mask,
        denoising_strength: single(clamped(&DENOISING_STRENGTH, strength)),
    };
    match processing {
        SourceProcessing::Remix => Mode::Remix(remix(source.image, sources.extras)),
        SourceProcessing::Img2Img => Mode::Img2Img(source),
        SourceProcessing::Inpainting => Mode::Inpaint(source),
        SourceProcessing::Outpainting => Mode::Outpaint(source),
    }
}

/// The source counts fully, the others as they are said to.
fn remix(source: DynamicImage, extras: Vec<(DynamicImage, f64)>) -> Vec<RemixImage> {
    let first = RemixImage {
        image: source,
        strength: 1.0,
    };
    let further = extras.into_iter().map(|(image, strength)| RemixImage {
        image,
        strength: single(clamped(&EXTRA_STRENGTH, strength)),
    });
    std::iter::once(first).chain(further).collect()
}

/// Makes a task fit for a model that can only fill in: noise to fill where there is no picture, all of it
/// where nothing is masked, and remarks that these were missing.
pub(crate) fn fill_in(task: &mut ImageTask) -> Vec<Metadata> {
    let mut remarks = Vec::new();
    let mut missing = |kind: &str| {
        remarks.push(Metadata {
            kind: kind.to_owned(),
            value: "parse_failed".to_owned(),
            reference: Some(kind.to_owned()),
        });
    };
    let outpaints = matches!(task.mode, Mode::Outpaint(_));
    let mut source = match std::mem::take(&mut task.mode) {
        Mode::Img2Img(source) | Mode::Inpaint(source) | Mode::Outpaint(source) => Some(source),
        Mode::Remix(pictures) => pictures.into_iter().next().map(|p| Source::new(p.image)),
        Mode::Txt2Img => None,
    }
    .unwrap_or_else(|| {
        missing("source_image");
        let (width, height) = (task.width.min(NOISE_SIDE), task.height.min(NOISE_SIDE));
        Source::new(noise(width, height, task.seed))
    });
    if source.mask.is_none() && !source.image.color().has_alpha() {
        missing("source_mask");
        let (width, height) = (source.image.width(), source.image.height());
        source.mask = Some(GrayImage::from_pixel(width, height, Luma([u8::MAX])));
    }
    task.hires = None;
    task.mode = if outpaints {
        Mode::Outpaint(source)
    } else {
        Mode::Inpaint(source)
    };
    remarks
}

fn noise(width: u32, height: u32, seed: u64) -> DynamicImage {
    let mut dice = prompt::Dice::new(seed);
    let mut value = || u8::try_from(dice.below(256)).unwrap_or_default();
    RgbImage::from_fn(width, height, |_, _| Rgb([value(), value(), value()])).into()
}

/// The seed of a payload; `None` if the worker has to choose one.
///
/// Digits are the number; any other text is its bytes as a little-endian number. What is larger than 32
/// bits is shifted right by 32 until it is not. Of an endless text only the start counts.
pub(crate) fn seed(text: Option<&str>) -> Option<u64> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
    let text = text.get(..MAX_SEED_BYTES).unwrap_or(text);
    let mut digits = text.bytes().map(|byte| byte.wrapping_sub(b'0'));
    let words = if digits.clone().all(|digit| digit < 10) {
        digits.try_fold(Vec::new(), |words, digit| {
            Some(appended(words, u32::from(digit)))
        })?
    } else {
        words_of(text.as_bytes())
    };
    // Shifting by one word at a time until one is left keeps the highest word that is not zero.
    let highest = words.iter().rev().find(|word| **word != 0);
    Some(u64::from(highest.copied().unwrap_or_default()))
}

/// Ten times a number of 32-bit words, lowest first, plus a digit.
fn appended(mut words: Vec<u32>, digit: u32) -> Vec<u32> {
    let mut carry = u64::from(digit);
    for word in &mut words {
        let scaled = u64::from(*word) * 10 + carry;
        *word = low_half(scaled);
        carry = scaled >> 32;
    }
    if carry != 0 {
        words.push(low_half(carry));
    }
    words
}

fn low_half(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks(4)
        .map(|chunk| {
            chunk
                .iter()
                .rev()
                .fold(0, |word, byte| (word << 8) | u32::from(*byte))
        })
        .collect()
}

fn side(pixels: u32) -> u32 {
    within(&SIDE, pixels).next_multiple_of(SIDE_STEP)
}

fn within(range: &std::ops::RangeInclusive<u32>, value: u32) -> u32 {
    value.clamp(*range.start(), *range.end())
}

fn clamped(range: &std::ops::RangeInclusive<f64>, value: f64) -> f64 {
    if value.is_nan() {
        return *range.end();
    }
    value.clamp(*range.start(), *range.end())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the engine computes in single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests;
