//! A mended face put back into its picture, through a mask of what is face.
//!
//! # Source
//! `worker.md` § 2.13.

use candle_core::Tensor;
use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::align::{self, Similarity, between, byte};
use super::{GoOn, ParseNet};
use crate::EngineError;
use crate::native::pixels;

/// The kinds of pixels that are no part of a face: background, and neck, clothes, hats and hair apart.
const OTHER: [u32; 5] = [0, 14, 16, 17, 18];
/// How softly a face ends, in pixels; blurred twice.
const SOFT: f64 = 11.0;
const REACH: usize = 50;
/// Pixels at the edges that are never taken.
const RIM: usize = 10;

/// What of a face is to be taken, at the size of upright faces.
///
/// # Errors
///
/// That of `go_on`, or those of the tensor library.
pub fn mask_of(
    network: &ParseNet,
    face: &RgbImage,
    go_on: &GoOn<'_>,
) -> Result<GrayImage, EngineError> {
    let side = u32::try_from(align::SIDE).unwrap_or(u32::MAX);
    let shown = if face.dimensions() == (side, side) {
        face.clone()
    } else {
        imageops::resize(face, side, side, FilterType::Triangle)
    };
    let kinds = network.forward(&pixels::to_tensor(&shown)?, go_on)?;
    mask_of_kinds(&kinds)
}

/// The mask of what a parser says, `[1, kinds, side, side]`.
///
/// # Errors
///
/// Those of the tensor library.
pub fn mask_of_kinds(kinds: &Tensor) -> Result<GrayImage, EngineError> {
    let (_, _, height, width) = kinds.dims4()?;
    let kinds = kinds.argmax(1)?.flatten_all()?.to_vec1::<u32>()?;
    let shares = kinds
        .iter()
        .map(|kind| if OTHER.contains(kind) { 0.0 } else { 1.0 });
    let mut shares: Vec<f64> = shares.collect();
    let kernel = kernel();
    for _ in 0..2 {
        shares = blurred(&shares, width, &kernel);
        shares = turned(&blurred(&turned(&shares, width), height, &kernel), height);
    }
    let mask = shares.iter().enumerate().map(|(place, share)| {
        let (x, y) = (place % width, place / width);
        let inside = |at: usize, side: usize| at >= RIM && at + RIM < side;
        if inside(x, width) && inside(y, height) {
            byte(share * 255.0)
        } else {
            0
        }
    });
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    GrayImage::from_raw(side(width), side(height), mask.collect())
        .ok_or_else(|| EngineError::bad_task("a mask of another size"))
}

/// The bell curve, from the middle on.
fn kernel() -> [f64; REACH + 1] {
    let curve: [f64; REACH + 1] =
        std::array::from_fn(|at| (-0.5 * (at as f64 / SOFT).powi(2)).exp());
    let sum: f64 = curve.iter().sum::<f64>() * 2.0 - curve[0];
    curve.map(|value| value / sum)
}

/// Each line blurred; beyond its ends it is mirrored.
fn blurred(shares: &[f64], width: usize, kernel: &[f64; REACH + 1]) -> Vec<f64> {
    let mut result = Vec::with_capacity(shares.len());
    for line in shares.chunks_exact(width.max(1)) {
        let last = line.len().saturating_sub(1);
        let mirror = |at: usize| {
            if last == 0 {
                0
            } else {
                last - last.abs_diff(at % (2 * last))
            }
        };
        for x in 0..line.len() {
            let mut sum = kernel[0] * line[x];
            for (distance, weight) in kernel.iter().enumerate().skip(1) {
                let before = x.abs_diff(distance);
                sum += weight * (line[mirror(before)] + line[mirror(x + distance)]);
            }
            result.push(sum);
        }
    }
    result
}

/// Lines become columns.
fn turned(shares: &[f64], width: usize) -> Vec<f64> {
    let height = shares.len() / width.max(1);
    let places = (0..width).flat_map(|x| (0..height).map(move |y| y * width + x));
    places.map(|place| shares[place]).collect()
}

/// Puts an upright face back. The mask may have another size; `place` leads from the picture to the face.
pub fn pasted(picture: &mut RgbImage, face: &RgbImage, mask: &GrayImage, place: &Similarity) {
    let (width, height) = picture.dimensions();
    let side = f64::from(face.width());
    let larger = f64::from(mask.width()) / side;
    let [left, top, right, bottom] = reach(place, side);
    let (columns, rows) = (within(left, right, width), within(top, bottom, height));
    for (x, y) in rows.flat_map(|y| columns.clone().map(move |x| (x, y))) {
        let [s, t] = place.of([f64::from(x), f64::from(y)]);
        // Pixels are looked at in their middles when sizes differ.
        let in_mask = |at: f64| (at + 0.5) * larger - 0.5;
        let share = between(in_mask(s), in_mask(t), &|column, row| {
            pixel(column, row, &|x, y| {
                mask.get_pixel_checked(x, y).map(|Luma([it])| *it)
            })
        });
        if share <= 0.0 {
            continue;
        }
        let share = share / 255.0;
        let Some(to) = picture.get_pixel_mut_checked(x, y) else {
            continue;
        };
        let Rgb(old) = *to;
        to.0 = std::array::from_fn(|channel| {
            let new = between(s, t, &|column, row| {
                pixel(column, row, &|x, y| {
                    face.get_pixel_checked(x, y).map(|it| it.0[channel])
                })
            });
            byte(new * share + f64::from(old[channel]) * (1.0 - share))
        });
    }
}

/// A pixel; black beyond the picture.
fn pixel(column: i64, row: i64, at: &dyn Fn(u32, u32) -> Option<u8>) -> f64 {
    let inside = u32::try_from(column).ok().zip(u32::try_from(row).ok());
    let inside = inside.and_then(|(x, y)| at(x, y));
    inside.map_or(0.0, f64::from)
}

/// Left, top, right and bottom of where an upright face of this side lies.
fn reach(place: &Similarity, side: f64) -> [f64; 4] {
    let back = place.inverse();
    let corners =
        [[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]].map(|corner| back.of(corner));
    let least = |at: usize| {
        corners
            .iter()
            .map(|it| it[at])
            .fold(f64::INFINITY, f64::min)
    };
    let most = |at: usize| {
        corners
            .iter()
            .map(|it| it[at])
            .fold(f64::NEG_INFINITY, f64::max)
    };
    [least(0), least(1), most(0), most(1)]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the picture before"
)]
fn within(from: f64, to: f64, side: u32) -> std::ops::Range<u32> {
    let clamp = |at: f64| at.clamp(0.0, f64::from(side)) as u32;
    clamp(from.floor())..clamp(to.ceil() + 1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_mask_is_soft_and_ends_before_the_edge() {
        // Skin in the middle, hair at the top, background elsewhere.
        let side = 128_usize;
        let kind = |place: usize| match (place % side, place / side) {
            (_, 0..40) => 17,
            (30..98, 40..128) => 1,
            _ => 0,
        };
        let mut numbers = vec![0_f32; 19 * side * side];
        for place in 0..side * side {
            numbers[kind(place) * side * side + place] = 1.0;
        }
        let kinds = Tensor::from_vec(numbers, (1, 19, side, side), &Device::Cpu).unwrap();
        let mask = mask_of_kinds(&kinds).unwrap();
        let at = |x, y| mask.get_pixel(x, y).0[0];
        assert!(at(64, 90) > 230 && at(64, 10) < 20 && at(5, 90) == 0);
        assert_eq!((at(64, 127), at(64, 118), at(9, 64)), (0, 0, 0));
        assert!((100..156).contains(&at(64, 40)), "{}", at(64, 40));
    }

    #[test]
    fn a_face_goes_back_to_where_it_was_and_nowhere_else() {
        let mut picture = RgbImage::from_pixel(100, 80, Rgb([10, 20, 30]));
        let before = picture.clone();
        let face = RgbImage::from_pixel(64, 64, Rgb([200, 100, 50]));
        let mut mask = GrayImage::new(128, 128);
        for (x, y) in (20..108).flat_map(|x| (20..108).map(move |y| (x, y))) {
            mask.put_pixel(x, y, Luma([255]));
        }
        // The face is 32 pixels wide in the picture, from 40, 20 on.
        let place = Similarity {
            a: 2.0,
            b: 0.0,
            u: -80.0,
            v: -40.0,
        };
        pasted(&mut picture, &face, &mask, &place);
        assert_eq!(picture.get_pixel(56, 36).0, [200, 100, 50]);
        for (x, y, pixel) in picture.enumerate_pixels() {
            if !(44..69).contains(&x) || !(24..49).contains(&y) {
                assert_eq!(pixel, before.get_pixel(x, y), "{x}, {y}");
            }
        }
        let nowhere = Similarity { u: 1e9, ..place };
        let same = picture.clone();
        pasted(&mut picture, &face, &mask, &nowhere);
        assert_eq!(picture, same);
    }
}
