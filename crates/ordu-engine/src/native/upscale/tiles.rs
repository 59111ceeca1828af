//! A large picture through a network that would need too much memory for it at once: in squares that
//! overlap and are blended where they do.

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};

use super::Network;
use crate::EngineError;

/// The side of a square, in pixels of the source.
const TILE: u32 = 192;
/// By how much a square reaches into the next one on the right and below, where the two are blended.
const BLEND: u32 = 8;
/// What a network sees beyond what is kept of its square.
const CONTEXT: u32 = 16;

/// What a square covers of one side of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// What is seen: its start and length.
    seen: (u32, u32),
    /// What is kept: its start and length.
    kept: (u32, u32),
}

/// The squares along a side.
fn spans(side: u32) -> impl Iterator<Item = Span> {
    (0..side).step_by(TILE as usize).map(move |start| {
        let end = (start + TILE + BLEND).min(side);
        let from = start.saturating_sub(CONTEXT);
        let to = (end + CONTEXT).min(side);
        Span {
            seen: (from, to - from),
            kept: (start, end - start),
        }
    })
}

/// How many squares a picture has.
pub(super) fn count(picture: &RgbImage) -> u32 {
    picture.width().div_ceil(TILE) * picture.height().div_ceil(TILE)
}

/// Asked whether to go on.
type GoOn<'a> = &'a dyn Fn() -> Result<(), EngineError>;

/// Makes a picture larger by the factor of a network. `go_on` is asked often, `done` after each square.
///
/// # Errors
///
/// That of `go_on` or `done`, or those of the tensor library.
pub(super) fn enlarge(
    picture: &RgbImage,
    network: &Network,
    (go_on, done): (GoOn<'_>, GoOn<'_>),
) -> Result<RgbImage, EngineError> {
    let scale = u32::try_from(network.scale()).unwrap_or(1);
    let mut result = RgbImage::new(picture.width() * scale, picture.height() * scale);
    for down in spans(picture.height()) {
        for right in spans(picture.width()) {
            go_on()?;
            let tile = network.forward(&cut(picture, right, down)?, go_on)?;
            paste(&mut result, &to_picture(&tile)?, (right, down), scale);
            done()?;
        }
    }
    Ok(result)
}

/// What a network is to see, `[1, 3, h, w]` in 0…1.
fn cut(picture: &RgbImage, right: Span, down: Span) -> candle_core::Result<Tensor> {
    let ((left, width), (top, height)) = (right.seen, down.seen);
    let view = image::imageops::crop_imm(picture, left, top, width, height).to_image();
    let numbers: Vec<f32> = view
        .as_raw()
        .iter()
        .map(|byte| f32::from(*byte) / 255.0)
        .collect();
    let shape = (height as usize, width as usize, 3);
    Tensor::from_vec(numbers, shape, &Device::Cpu)?
        .permute((2, 0, 1))?
        .unsqueeze(0)?
        .contiguous()
}

fn to_picture(tile: &Tensor) -> Result<RgbImage, EngineError> {
    // −1…1 is what the rest of the house draws in.
    super::super::pixels::to_image(&tile.affine(2.0, -1.0)?)
}

/// Puts what is kept of a square into place, growing out of what is there already.
fn paste(result: &mut RgbImage, tile: &RgbImage, (right, down): (Span, Span), scale: u32) {
    let ((left, width), (top, height)) = (right.kept, down.kept);
    let (skip_x, skip_y) = (left - right.seen.0, top - down.seen.0);
    for y in 0..height * scale {
        for x in 0..width * scale {
            let new = *tile.get_pixel(skip_x * scale + x, skip_y * scale + y);
            let old = result.get_pixel_mut(left * scale + x, top * scale + y);
            *old = mixed(*old, new, share(x, left, scale) * share(y, top, scale));
        }
    }
}

/// How much a square counts at a distance from its start: nothing lies before the first one.
#[expect(clippy::cast_precision_loss, reason = "some hundred pixels")]
fn share(distance: u32, start: u32, scale: u32) -> f32 {
    if start == 0 {
        return 1.0;
    }
    ((distance as f32 + 0.5) / (BLEND * scale) as f32).min(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between two bytes"
)]
fn mixed(old: Rgb<u8>, new: Rgb<u8>, share: f32) -> Rgb<u8> {
    if share >= 1.0 {
        return new;
    }
    let mut mixed = new;
    for (to, from) in mixed.0.iter_mut().zip(old.0) {
        *to = (f32::from(from) + (f32::from(*to) - f32::from(from)) * share).round() as u8;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_cover_a_side_and_see_beyond_what_they_keep() {
        for side in [1, 7, TILE - 1, TILE, TILE + 1, TILE + BLEND, 1000, 4096] {
            let mut covered = 0;
            for span in spans(side) {
                let (start, length) = span.kept;
                assert!(start <= covered, "a gap at {start} of {side}");
                covered = start + length;
                let (from, seen) = span.seen;
                assert!(from <= start && from + seen >= covered && from + seen <= side);
                assert!(from == 0 || start - from == CONTEXT);
            }
            assert_eq!(covered, side);
        }
    }

    #[test]
    fn shares_grow_from_nothing_to_all() {
        assert!(share(0, 0, 4) >= 1.0);
        let shares: Vec<f32> = (0..40).map(|distance| share(distance, 192, 4)).collect();
        assert!(shares[0] < 0.02 && shares.is_sorted() && shares[31] > 0.98 && shares[32] >= 1.0);
    }
}
