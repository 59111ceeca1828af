//! Maps that are found without a network: lines, strokes, brightness, colours at large.
//!
//! # Source
//! `worker.md` § 2.9: the rows without an annotator to download.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::canny::{self, canny};
use crate::plan::brightness::dark_up_to;
use crate::plan::control::ControlType;

/// The pixels of a drawing that are this dark in their darkest channel are its strokes.
const STROKE: u8 = 127;
/// How much brighter its surroundings must be for a pixel to be a stroke.
const STROKE_DEPTH: f32 = 16.0;
/// The blurs between which strokes are looked for.
const STROKE_BLURS: (f32, f32) = (0.5, 5.0);
/// The blur that line art is compared with.
const LINE_BLUR: f32 = 6.0;
/// Depths of lines below this are paper.
const LINE_DEPTH: f32 = 8.0;
/// What of a picture a tile keeps: one pixel of so many in each direction.
const TILE: u32 = 8;

/// Whether the map of a type is found here.
pub fn detects(kind: ControlType) -> bool {
    detector(kind).is_some()
}

/// The map of a picture, of its size; `None` if that takes a network.
pub fn detect(kind: ControlType, picture: &RgbImage) -> Option<RgbImage> {
    let detector = detector(kind)?;
    if picture.width() == 0 || picture.height() == 0 {
        return Some(picture.clone());
    }
    Some(detector(picture))
}

type Detector = fn(&RgbImage) -> RgbImage;

fn detector(kind: ControlType) -> Option<Detector> {
    Some(match kind {
        ControlType::Canny => |picture| grey(&canny(picture, canny::THRESHOLDS)),
        ControlType::Scribble => {
            |picture| per_pixel(picture, |[r, g, b]| white(r.min(g).min(b) < STROKE))
        }
        ControlType::Binary => binary,
        ControlType::ScribbleXdog => strokes,
        ControlType::StandardLineart => lines,
        ControlType::RecolorLuminance => |picture| per_pixel(picture, lightness),
        ControlType::RecolorIntensity => |picture| per_pixel(picture, |[r, g, b]| r.max(g).max(b)),
        ControlType::Tile => tile,
        _ => return None,
    })
}

fn white(is_it: bool) -> u8 {
    if is_it { 255 } else { 0 }
}

fn grey(picture: &GrayImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        Rgb([picture.get_pixel(x, y).0[0]; 3])
    })
}

fn per_pixel(picture: &RgbImage, of: impl Fn([u8; 3]) -> u8) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        Rgb([of(picture.get_pixel(x, y).0); 3])
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255"
)]
fn to_byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn brightness([r, g, b]: [u8; 3]) -> u8 {
    to_byte(0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b))
}

/// CIE lightness of an sRGB colour, 0…255.
fn lightness(colour: [u8; 3]) -> u8 {
    let [r, g, b] = colour.map(|byte| {
        let value = f32::from(byte) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let lightness = if luminance <= 0.008_856 {
        903.3 * luminance
    } else {
        116.0 * luminance.cbrt() - 16.0
    };
    to_byte(lightness * 2.55)
}

/// What is darker than the brightness that parts dark from bright best (Otsu 1979) is white.
fn binary(picture: &RgbImage) -> RgbImage {
    let border = dark_up_to(picture.pixels().map(|pixel| brightness(pixel.0)));
    per_pixel(picture, |colour| white(brightness(colour) <= border))
}

/// How much darker each pixel is than what is around it, in the channel where that is least.
fn depths(picture: &RgbImage, (near, far): (Option<f32>, f32)) -> Vec<f32> {
    let sharp = near.map_or_else(|| picture.clone(), |sigma| imageops::blur(picture, sigma));
    let around = imageops::blur(picture, far);
    let pairs = sharp.pixels().zip(around.pixels());
    pairs
        .map(|(here, around)| {
            let channels = here.0.into_iter().zip(around.0);
            let depths = channels.map(|(here, around)| f32::from(around) - f32::from(here));
            depths.fold(f32::INFINITY, f32::min)
        })
        .collect()
}

fn picture_of(values: &[f32], like: &RgbImage, of: impl Fn(f32) -> u8) -> RgbImage {
    let bytes: Vec<u8> = values.iter().map(|value| of(*value)).collect();
    let grey_one = GrayImage::from_raw(like.width(), like.height(), bytes);
    grey(&grey_one.unwrap_or_else(|| GrayImage::from_pixel(like.width(), like.height(), Luma([0]))))
}

/// Dark strokes of any picture, white.
fn strokes(picture: &RgbImage) -> RgbImage {
    let (near, far) = STROKE_BLURS;
    let depths = depths(picture, (Some(near), far));
    picture_of(&depths, picture, |depth| white(depth > STROKE_DEPTH))
}

/// Lines in the strength in which they stand out, the middle one of them half white.
fn lines(picture: &RgbImage) -> RgbImage {
    let depths = depths(picture, (None, LINE_BLUR));
    let mut drawn: Vec<f32> = depths
        .iter()
        .copied()
        .filter(|depth| *depth > LINE_DEPTH)
        .collect();
    drawn.sort_by(f32::total_cmp);
    let middle = drawn
        .get(drawn.len() / 2)
        .copied()
        .unwrap_or_default()
        .max(16.0);
    picture_of(&depths, picture, |depth| {
        to_byte(depth.max(0.0) / middle * 127.0)
    })
}

/// Colours without detail.
fn tile(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let side = |side: u32| (side / TILE).max(1);
    let small = imageops::resize(picture, side(width), side(height), FilterType::Triangle);
    imageops::resize(&small, width, height, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dark line on bright paper.
    fn drawing() -> RgbImage {
        RgbImage::from_fn(32, 32, |x, _| {
            if (15..17).contains(&x) {
                Rgb([20, 30, 10])
            } else {
                Rgb([230, 220, 240])
            }
        })
    }

    #[test]
    fn lines_of_a_drawing_become_white_on_black() {
        for kind in [
            ControlType::Scribble,
            ControlType::Binary,
            ControlType::ScribbleXdog,
            ControlType::StandardLineart,
            ControlType::Canny,
        ] {
            let map = detect(kind, &drawing()).unwrap();
            let name = kind.name();
            assert_eq!(map.dimensions(), (32, 32), "{name}");
            let strongest = (13..19).map(|x| map.get_pixel(x, 16).0[0]).max();
            assert!(strongest.is_some_and(|value| value > 100), "{name}");
            assert_eq!(map.get_pixel(2, 16).0, [0; 3], "{name}");
        }
    }

    #[test]
    fn brightness_and_colours_at_large_are_kept() {
        let luminance = detect(ControlType::RecolorLuminance, &drawing()).unwrap();
        assert!(luminance.get_pixel(0, 0).0[0] > 200 && luminance.get_pixel(15, 0).0[0] < 60);
        let white = RgbImage::from_pixel(1, 1, Rgb([255; 3]));
        let bright = detect(ControlType::RecolorLuminance, &white).unwrap();
        assert_eq!(bright.get_pixel(0, 0).0, [255; 3]);
        let intensity = detect(ControlType::RecolorIntensity, &drawing()).unwrap();
        assert_eq!(intensity.get_pixel(15, 9).0, [30; 3]);
        let tile = detect(ControlType::Tile, &drawing()).unwrap();
        let spread = (0..32).map(|x| tile.get_pixel(x, 4).0[0]);
        assert!(spread.clone().min() > Some(60) && spread.max() > Some(220));
    }

    #[test]
    fn what_takes_a_network_is_not_found_here() {
        for kind in [ControlType::Hed, ControlType::Depth, ControlType::Openpose] {
            assert!(!detects(kind));
            assert!(detect(kind, &drawing()).is_none());
        }
        let found = ControlType::all().filter(|kind| detects(*kind)).count();
        assert_eq!(found, 8);
    }

    #[test]
    fn pictures_of_one_colour_and_of_no_pixels_have_maps() {
        for picture in [RgbImage::new(0, 0), RgbImage::from_pixel(3, 1, Rgb([7; 3]))] {
            for kind in ControlType::all().filter(|kind| detects(*kind)) {
                let map = detect(kind, &picture).unwrap();
                assert_eq!(map.dimensions(), picture.dimensions());
            }
        }
    }
}
