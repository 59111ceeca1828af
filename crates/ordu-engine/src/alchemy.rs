//! Alchemy: what can be said about a picture, or made of it. The trait, and the forms that need no
//! model.
//!
//! # Source
//! `worker.md` § 6. BlurHash: the public description of its algorithm. Perceptual hash: C. Zauner,
//! "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, the one by cosine
//! transform.

use std::f64::consts::PI;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use serde_json::{Map, Value, json};

use crate::{EngineError, ProgressSink};

/// Something that answers forms about pictures.
///
/// All methods block, as those of [`crate::Engine`].
pub trait AlchemyEngine: Send + Sync {
    /// The forms it answers at this moment, by their names in the protocol.
    fn forms(&self) -> Vec<String>;

    /// Whether its work takes the device that pictures are drawn on.
    fn shares_device(&self) -> bool {
        false
    }

    /// Answers one form. `options` are what was asked for, whatever it is.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] for a form that it does not know or a picture that it cannot work on,
    /// [`EngineError::Cancelled`] if `progress` asked for it.
    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError>;
}

/// What came of a form.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Words and numbers.
    Words(Value),
    /// Another picture.
    Picture(DynamicImage),
}

/// Answers the forms that are pure computation: `palette` and `describe`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeAlchemy;

const PALETTE: &str = "palette";
const DESCRIBE: &str = "describe";

/// Colours of a palette at most.
const COLOURS: usize = 8;

/// The side to which pictures are brought before their colours are counted, in pixels.
const PALETTE_SIDE: u32 = 128;

/// The same for a BlurHash, which keeps twelve numbers of it.
const BLUR_SIDE: u32 = 64;

impl AlchemyEngine for NativeAlchemy {
    fn forms(&self) -> Vec<String> {
        vec![PALETTE.to_owned(), DESCRIBE.to_owned()]
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        _options: &Map<String, Value>,
        _progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError> {
        if picture.width() == 0 || picture.height() == 0 {
            return Err(EngineError::bad_task("a side of the picture is 0 pixels"));
        }
        match form {
            PALETTE => Ok(Answer::Words(json!(palette(picture)))),
            DESCRIBE => Ok(Answer::Words(json!({
                "width": picture.width(),
                "height": picture.height(),
                "blurhash": blurhash(&small(picture, BLUR_SIDE), 4, 3),
                "phash": format!("{:016x}", perceptual_hash(picture)),
                "dhash": format!("{:016x}", difference_hash(picture)),
            }))),
            other => Err(EngineError::bad_task(format!(
                "`{other}` is no form that is answered here"
            ))),
        }
    }
}

fn small(picture: &DynamicImage, side: u32) -> RgbImage {
    if picture.width() <= side && picture.height() <= side {
        return picture.to_rgb8();
    }
    picture.thumbnail(side, side).to_rgb8()
}

/// The main colours, as `#rrggbb`, the most frequent first: median cut.
fn palette(picture: &DynamicImage) -> Vec<String> {
    let pixels: Vec<[u8; 3]> = small(picture, PALETTE_SIDE)
        .pixels()
        .map(|pixel| pixel.0)
        .collect();
    let mut boxes = vec![pixels];
    while boxes.len() < COLOURS {
        // The box with the widest channel, weighed by how many pixels it concerns.
        let widest = boxes.iter().enumerate().filter_map(|(place, pixels)| {
            let (channel, width) = widest_channel(pixels);
            (width > 0).then_some((pixels.len() * usize::from(width), place, channel))
        });
        let Some((_, place, channel)) = widest.max() else {
            break;
        };
        let mut pixels = boxes.swap_remove(place);
        pixels.sort_unstable_by_key(|pixel| pixel.get(channel).copied());
        let middle = middle_of(&pixels, channel);
        let upper = pixels.split_off(middle);
        boxes.extend([pixels, upper]);
    }
    boxes.sort_by_key(|pixels| std::cmp::Reverse(pixels.len()));
    boxes.iter().map(|pixels| mean(pixels)).collect()
}

fn widest_channel(pixels: &[[u8; 3]]) -> (usize, u8) {
    let width = |channel: usize| {
        let values = || pixels.iter().filter_map(move |pixel| pixel.get(channel));
        let (least, most) = (values().min(), values().max());
        most.zip(least).map_or(0, |(most, least)| most - least)
    };
    let widths = [0, 1, 2].map(|channel| (width(channel), channel));
    let (width, channel) = widths.into_iter().max().unwrap_or_default();
    (channel, width)
}

/// Where to cut sorted pixels: in the middle, but between two different values.
fn middle_of(pixels: &[[u8; 3]], channel: usize) -> usize {
    let value = |place: usize| pixels.get(place).and_then(|pixel| pixel.get(channel));
    let middle = pixels.len() / 2;
    let border = |place: &usize| value(*place) != value(place.saturating_sub(1));
    let below = (1..=middle).rev().find(border);
    let above = (middle + 1..pixels.len()).find(border);
    below.or(above).unwrap_or(middle)
}

fn mean(pixels: &[[u8; 3]]) -> String {
    let sums = pixels.iter().fold([0_usize; 3], |[r, g, b], pixel| {
        let [red, green, blue] = pixel.map(usize::from);
        [r + red, g + green, b + blue]
    });
    let count = pixels.len().max(1);
    let [r, g, b] = sums.map(|sum| (sum + count / 2) / count);
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The digits of BlurHash.
const BASE83: &[u8] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

fn base83(value: u32, digits: u32, text: &mut String) {
    for place in (0..digits).rev() {
        let digit = value / 83_u32.pow(place) % 83;
        let byte = BASE83.get(digit as usize).copied().unwrap_or(b'0');
        text.push(char::from(byte));
    }
}

/// A picture in some twenty letters: its mean colour and a few waves.
fn blurhash(picture: &RgbImage, across: u32, down: u32) -> String {
    let waves: Vec<[f64; 3]> = (0..down)
        .flat_map(|y| (0..across).map(move |x| (x, y)))
        .map(|(x, y)| wave(picture, x, y))
        .collect();
    let (mean, others) = waves
        .split_first()
        .map_or(([0.0; 3], &[][..]), |(mean, others)| (*mean, others));
    let largest = others
        .iter()
        .flatten()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let scale = whole((largest * 166.0 - 0.5).floor().clamp(0.0, 82.0));
    let mut text = String::new();
    base83((across - 1) + (down - 1) * 9, 1, &mut text);
    base83(scale, 1, &mut text);
    let [red, green, blue] = mean.map(to_srgb);
    base83((red << 16) + (green << 8) + blue, 4, &mut text);
    let most = f64::from(scale + 1) / 166.0;
    for wave in others {
        let quantum = |value: f64| {
            let share = value / most;
            whole(
                (share.abs().sqrt().copysign(share) * 9.0 + 9.5)
                    .floor()
                    .clamp(0.0, 18.0),
            )
        };
        let [red, green, blue] = wave.map(quantum);
        base83(red * 19 * 19 + green * 19 + blue, 2, &mut text);
    }
    text
}

/// How much of one wave is in a picture, in linear light.
fn wave(picture: &RgbImage, across: u32, down: u32) -> [f64; 3] {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let mut sums = [0.0; 3];
    for (x, y, pixel) in picture.enumerate_pixels() {
        let basis = (PI * f64::from(across) * f64::from(x) / width).cos()
            * (PI * f64::from(down) * f64::from(y) / height).cos();
        for (sum, value) in sums.iter_mut().zip(pixel.0) {
            *sum += basis * to_linear(value);
        }
    }
    let normal = if across == 0 && down == 0 { 1.0 } else { 2.0 };
    sums.map(|sum| sum * normal / (width * height))
}

fn to_linear(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.04045 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

fn to_srgb(value: f64) -> u32 {
    let value = value.clamp(0.0, 1.0);
    let curved = if value <= 0.003_130_8 {
        value * 12.92
    } else {
        1.055 * value.powf(1.0 / 2.4) - 0.055
    };
    whole((curved * 255.0 + 0.5).floor())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers clamp to small numbers that are not negative"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

/// 64 bits that change little when a picture is scaled, compressed or brightened.
fn perceptual_hash(picture: &DynamicImage) -> u64 {
    const SIDE: u32 = 32;
    const KEPT: u32 = 8;
    let grey = picture
        .resize_exact(SIDE, SIDE, FilterType::Triangle)
        .to_luma8();
    let cosine =
        |at: u32, wave: u32| (PI / f64::from(SIDE) * (f64::from(at) + 0.5) * f64::from(wave)).cos();
    let mut waves = Vec::new();
    for v in 0..KEPT {
        for u in 0..KEPT {
            let parts = grey
                .enumerate_pixels()
                .map(|(x, y, pixel)| f64::from(pixel.0[0]) * cosine(x, u) * cosine(y, v));
            waves.push(parts.sum::<f64>());
        }
    }
    // The first one is the brightness, which must not count.
    let mut sorted: Vec<f64> = waves.iter().skip(1).copied().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    bits(waves.iter().map(|wave| *wave > median))
}

/// 64 bits that say where a picture gets brighter from left to right.
fn difference_hash(picture: &DynamicImage) -> u64 {
    let grey = picture.resize_exact(9, 8, FilterType::Triangle).to_luma8();
    let pairs = (0..8).flat_map(|y| (0..8).map(move |x| (x, y)));
    bits(pairs.map(|(x, y)| grey.get_pixel(x, y).0 < grey.get_pixel(x + 1, y).0))
}

fn bits(bits: impl Iterator<Item = bool>) -> u64 {
    bits.fold(0, |hash, bit| (hash << 1) | u64::from(bit))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::Quiet;

    fn two_halves(width: u32) -> DynamicImage {
        RgbImage::from_fn(width, 40, |x, _| {
            if x < width * 3 / 4 {
                Rgb([200, 10, 10])
            } else {
                Rgb([10, 10, 200])
            }
        })
        .into()
    }

    #[test]
    fn a_palette_starts_with_the_colour_that_covers_most() {
        assert_eq!(palette(&two_halves(40)), ["#c80a0a", "#0a0ac8"]);
        let plain = DynamicImage::from(RgbImage::from_pixel(3, 3, Rgb([1, 2, 3])));
        assert_eq!(palette(&plain), ["#010203"]);
        let many: DynamicImage = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([x, y, 0].map(|value| u8::try_from(value * 4).unwrap()))
        })
        .into();
        assert_eq!(palette(&many).len(), COLOURS);
    }

    #[test]
    fn a_plain_picture_has_the_blurhash_of_its_colour() {
        // No wave: digit 0 twice. White: 0xffffff in four digits of 83.
        let white = RgbImage::from_pixel(8, 8, Rgb([255, 255, 255]));
        assert_eq!(blurhash(&white, 1, 1), "00TSUA");
        // 4×3 waves are digit 21, `L`; then how strong they are, the mean, and two digits for each.
        let text = blurhash(&white, 4, 3);
        assert_eq!(text.len(), 6 + 2 * 11);
        assert_eq!((&text[..1], &text[2..6]), ("L", "TSUA"));
    }

    #[test]
    fn a_wave_is_found_where_it_is() {
        // Bright on the left: the first wave across is positive, that down is nothing.
        let picture = RgbImage::from_fn(32, 32, |x, _| Rgb([if x < 16 { 255 } else { 0 }; 3]));
        let [across, ..] = wave(&picture, 1, 0);
        let [down, ..] = wave(&picture, 0, 1);
        assert!(across > 0.5, "{across}");
        assert!(down.abs() < 0.1, "{down}");
    }

    /// Soft hills.
    fn hills(side: u32) -> DynamicImage {
        RgbImage::from_fn(side, side, |x, y| {
            let (u, v) = (
                f64::from(x) / f64::from(side),
                f64::from(y) / f64::from(side),
            );
            let height = (7.0 * u + 3.0 * v).sin() + (11.0 * v - 5.0 * u * u).cos();
            Rgb([u8::try_from(whole(128.0 + 60.0 * height)).unwrap(); 3])
        })
        .into()
    }

    #[test]
    fn hashes_hardly_see_a_change_of_size() {
        let differ = |a: u64, b: u64| (a ^ b).count_ones();
        let (small, large) = (hills(48), hills(200));
        assert!(differ(perceptual_hash(&small), perceptual_hash(&large)) <= 6);
        assert!(differ(difference_hash(&small), difference_hash(&large)) <= 6);
        let other = small.rotate90();
        assert!(differ(perceptual_hash(&small), perceptual_hash(&other)) > 12);
    }

    #[test]
    fn only_known_forms_are_answered() {
        let ask = |form: &str| {
            let options = Map::new();
            NativeAlchemy.answer(form, &two_halves(8), &options, &Quiet)
        };
        for form in NativeAlchemy.forms() {
            assert!(ask(&form).is_ok(), "{form}");
        }
        assert!(ask("caption").is_err());
    }
}
