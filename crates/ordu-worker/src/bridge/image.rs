//! An image job as a task of the engine.
//!
//! Nothing is refused here: numbers are clamped, unknown names replaced, and what the engine has no
//! word for is left out.
//!
//! # Source
//! `worker.md` § 2.1 to 2.7.

use image::{DynamicImage, GrayImage};
use ordu_api::image::{ImageJob, ImagePayload, SourceProcessing};
use ordu_engine::{ImageTask, Limits, Mode, NoiseSource, Sampler, Schedule, Source};

use super::prompt;

/// Sides of a picture, in pixels.
const SIDE: std::ops::RangeInclusive<u32> = 64..=8192;

/// Sides are rounded up to a multiple of this, in pixels.
const SIDE_STEP: u32 = 64;

const STEPS: std::ops::RangeInclusive<u32> = 1..=500;
const CFG_SCALE: std::ops::RangeInclusive<f64> = 1.0..=100.0;
const DENOISING_STRENGTH: std::ops::RangeInclusive<f64> = 0.01..=1.0;
const CLIP_SKIP: std::ops::RangeInclusive<u32> = 1..=20;

/// The pictures that came with a job, as far as they could be had.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) source: Option<DynamicImage>,
    pub(crate) mask: Option<GrayImage>,
}

/// The task of a job: one picture per id, from this seed.
pub(crate) fn task(job: &ImageJob, sources: Sources, seed: u64, limits: Limits) -> ImageTask {
    let payload = &job.payload;
    let written = payload.prompt.as_deref().unwrap_or_default();
    let (prompt, negative_prompt) = prompt::split(written, seed);
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
        SourceProcessing::Img2Img | SourceProcessing::Remix => Mode::Img2Img(source),
        SourceProcessing::Inpainting => Mode::Inpaint(source),
        SourceProcessing::Outpainting => Mode::Outpaint(source),
    }
}

/// The seed of a payload; `None` if the worker has to choose one.
///
/// Digits are the number; any other text is its bytes as a little-endian number. What is larger than 32
/// bits is shifted right by 32 until it is not.
pub(crate) fn seed(text: Option<&str>) -> Option<u64> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
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
