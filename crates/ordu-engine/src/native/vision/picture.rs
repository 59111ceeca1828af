//! Pictures as networks want to see them: scaled as Pillow scales, cut, normalised.
//!
//! # Source
//! Keys 1981, "Cubic convolution interpolation" (with a = -0.5); what Pillow's resampling does with
//! numbers of 8 bits, by its documentation and by comparison with Pillow 13: two passes, each rounded to
//! 8 bits, and which of them goes first.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use image::{DynamicImage, RgbImage};

/// What is taken off each channel, and what it is divided by: those of CLIP, which others took over.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The shorter side is made to fit; of the longer one the middle is taken.
    Cut,
    /// Both sides are made to fit.
    Squeeze,
}

/// A picture as `[1, 3, side, side]`, normalised. What is transparent keeps its colours.
///
/// # Errors
///
/// Those of the tensor library; for a picture without pixels.
pub fn prepared(picture: &DynamicImage, side: u32, fit: Fit) -> Result<Tensor> {
    let picture = scaled(&picture.to_rgb8(), side, fit);
    if picture.width() != side || picture.height() != side {
        candle_core::bail!("a picture without pixels");
    }
    let length = side as usize;
    let mut numbers = Vec::with_capacity(3 * length * length);
    for ((channel, mean), deviation) in (0..3).zip(MEAN).zip(DEVIATION) {
        let values = picture.as_raw().iter().skip(channel).step_by(3);
        numbers.extend(values.map(|value| (f32::from(*value) / 255.0 - mean) / deviation));
    }
    Tensor::from_vec(numbers, (1, 3, length, length), &Device::Cpu)
}

/// The square that a network sees.
fn scaled(picture: &RgbImage, side: u32, fit: Fit) -> RgbImage {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return RgbImage::new(0, 0);
    }
    let (wide, high) = match fit {
        Fit::Squeeze => (side, side),
        Fit::Cut if width <= height => (side, longer(side, height, width)),
        Fit::Cut => (longer(side, width, height), side),
    };
    let middle = |length: u32| {
        let first = (length - side) / 2;
        first..first + side
    };
    let across = Spans::of(width, wide, middle(wide));
    let down = Spans::of(height, high, middle(high));
    // Where little is left of the height, rows go first: less is left for the second pass.
    let rows_first = high < height && height - high > 2 * width.saturating_sub(wide);
    if rows_first {
        transposed(&in_two_passes(&transposed(picture), &down, &across))
    } else {
        in_two_passes(picture, &across, &down)
    }
}

/// Scaled across, then down.
fn in_two_passes(picture: &RgbImage, across: &Spans, down: &Spans) -> RgbImage {
    // Only the rows that are looked at later.
    let rows = down.reach();
    let narrow = transposed(&resampled(picture, across, rows.clone()));
    let columns = 0..narrow.height();
    transposed(&resampled(&narrow, &down.behind(rows.start), columns))
}

/// A side that grows as `shorter` grows to `side`.
fn longer(side: u32, long: u32, short: u32) -> u32 {
    let length = u64::from(side) * u64::from(long) / u64::from(short.max(1));
    u32::try_from(length).unwrap_or(u32::MAX).max(side)
}

/// Of which pixels each pixel of a result is made.
#[derive(Clone, Debug)]
enum Spans {
    /// Of itself: nothing is scaled.
    Same(Range<u32>),
    /// From which one on, and with which weights.
    Mixed(Vec<(u32, Vec<i64>)>),
}

/// Bits behind the point of a weight.
const PRECISION: u32 = 22;
/// How far a cubic reaches, in pixels.
const REACH: f64 = 2.0;

impl Spans {
    /// Those of a part of a line of `output` pixels that is made of one of `input`.
    fn of(input: u32, output: u32, part: Range<u32>) -> Self {
        if input == output {
            return Self::Same(part);
        }
        let scale = f64::from(input) / f64::from(output);
        let stretch = scale.max(1.0);
        Self::Mixed(
            part.map(|place| {
                let centre = (f64::from(place) + 0.5) * scale;
                let first = whole(centre - REACH * stretch + 0.5);
                let end = whole(centre + REACH * stretch + 0.5).min(input);
                let weight = |pixel: u32| cubic((f64::from(pixel) - centre + 0.5) / stretch);
                let weights: Vec<f64> = (first..end).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                (
                    first,
                    weights.iter().map(|weight| fixed(weight / sum)).collect(),
                )
            })
            .collect(),
        )
    }

    /// The pixels that are looked at.
    fn reach(&self) -> Range<u32> {
        match self {
            Self::Same(part) => part.clone(),
            Self::Mixed(spans) => {
                let ends = spans
                    .iter()
                    .map(|(first, weights)| first + u32::try_from(weights.len()).unwrap_or(0));
                let first = spans.iter().map(|(first, _)| *first).min();
                first.unwrap_or(0)..ends.max().unwrap_or(0)
            }
        }
    }

    /// The same for a line that lacks so many pixels at its beginning.
    fn behind(&self, gone: u32) -> Self {
        match self {
            Self::Same(part) => Self::Same(part.start - gone..part.end - gone),
            Self::Mixed(spans) => {
                let moved = spans.iter().cloned();
                Self::Mixed(moved.map(|(first, parts)| (first - gone, parts)).collect())
            }
        }
    }
}

/// Cut to a whole number, from 0 on.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

#[expect(clippy::cast_possible_truncation, reason = "weights are small")]
fn fixed(weight: f64) -> i64 {
    (weight * f64::from(1 << PRECISION)).round() as i64
}

/// Keys' cubic.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Some rows of a picture, scaled across.
fn resampled(picture: &RgbImage, spans: &Spans, rows: Range<u32>) -> RgbImage {
    let taken = |x: u32, y: u32| {
        picture
            .get_pixel_checked(x, y)
            .map_or([0; 3], |pixel| pixel.0)
    };
    let first_row = rows.start;
    let height = rows.end.saturating_sub(rows.start).min(picture.height());
    match spans {
        Spans::Same(part) => RgbImage::from_fn(part.end - part.start, height, |x, y| {
            image::Rgb(taken(part.start + x, first_row + y))
        }),
        Spans::Mixed(spans) => {
            let width = u32::try_from(spans.len()).unwrap_or(0);
            RgbImage::from_fn(width, height, |x, y| {
                let Some((first, weights)) = spans.get(x as usize) else {
                    return image::Rgb([0; 3]);
                };
                let mut sums = [1_i64 << (PRECISION - 1); 3];
                for (pixel, weight) in (*first..).zip(weights) {
                    let values = taken(pixel, first_row + y);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += weight * i64::from(value);
                    }
                }
                image::Rgb(
                    sums.map(|sum| {
                        u8::try_from((sum >> PRECISION).clamp(0, 255)).unwrap_or(u8::MAX)
                    }),
                )
            })
        }
    }
}

/// Rows as columns.
fn transposed(picture: &RgbImage) -> RgbImage {
    RgbImage::from_fn(picture.height(), picture.width(), |x, y| {
        *picture.get_pixel(y, x)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_stays_that_colour_in_any_size() {
        for size in [(1, 1), (5, 900), (2000, 3), (32, 32)] {
            let plain = RgbImage::from_pixel(size.0, size.1, image::Rgb([7, 130, 255]));
            for fit in [Fit::Cut, Fit::Squeeze] {
                let seen = scaled(&plain, 32, fit);
                assert_eq!(seen.dimensions(), (32, 32));
                assert!(
                    seen.pixels().all(|pixel| pixel.0 == [7, 130, 255]),
                    "{size:?}"
                );
            }
        }
    }

    #[test]
    fn a_line_of_pixels_needs_no_more_memory_than_the_square() {
        // Scaled whole it would have 32 × 2,000,000 pixels.
        let line = RgbImage::from_fn(1, 60_000, |_, y| {
            image::Rgb([u8::from(y > 30_000) * 255; 3])
        });
        let seen = scaled(&line, 32, Fit::Cut);
        assert_eq!(seen.dimensions(), (32, 32));
        assert!(prepared(&DynamicImage::new_rgb8(0, 4), 8, Fit::Cut).is_err());
    }
}
