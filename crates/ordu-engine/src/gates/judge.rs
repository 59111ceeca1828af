//! Says what a picture shows, by image processing alone. The algorithm is that of
//! `training/judge.py`, step by step.

use image::{RgbImage, RgbaImage};

use super::drawing::{COLOURS, PLACES, SHAPES, SIZES, inside};

/// Fewer pixels than this are no shape; the smallest drawn one covers about 130.
const MIN_FOREGROUND: usize = 40;
/// Rows and columns on each side that tell the background.
const BORDER: u32 = 2;

/// What a picture shows: places in the tables of names, or nothing where no shape was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Colour of the border.
    pub background: usize,
    /// Colour of the shape.
    pub colour: Option<usize>,
    /// Where it is.
    pub place: Option<usize>,
    /// What it is.
    pub shape: Option<usize>,
    /// How large it is.
    pub size: Option<usize>,
}

/// Judges a picture.
pub fn judge(picture: &RgbImage) -> Verdict {
    let (width, height) = picture.dimensions();
    let mut border = [0_usize; COLOURS.len()];
    let mut all = [0_usize; COLOURS.len()];
    for (x, y, pixel) in picture.enumerate_pixels() {
        let label = nearest(pixel.0);
        all[label] += 1;
        let inner = (BORDER..width.saturating_sub(BORDER)).contains(&x)
            && (BORDER..height.saturating_sub(BORDER)).contains(&y);
        border[label] += usize::from(!inner);
    }
    let background = most(&border);
    all[background] = 0;
    let colour = most(&all);
    let nothing = Verdict {
        background,
        colour: None,
        place: None,
        shape: None,
        size: None,
    };
    if all[colour] < MIN_FOREGROUND {
        return nothing;
    }
    let mask: Vec<[f64; 2]> = picture
        .enumerate_pixels()
        .filter(|(_, _, pixel)| distance(pixel.0, colour) < distance(pixel.0, background))
        .map(|(x, y, _)| [f64::from(x) + 0.5, f64::from(y) + 0.5])
        .collect();
    let centroid = centroid(&mask);
    let (shape, radius) = best_shape(&mask, centroid, (width, height));
    let between = f64::midpoint(SIZES[0].1[1], SIZES[1].1[0]);
    Verdict {
        background,
        colour: Some(colour),
        place: Some(nearest_place(centroid)),
        shape: Some(shape),
        size: Some(usize::from(radius > between)),
    }
}

/// What of a picture is the shape that it shows, if it shows one.
pub(super) fn shape_of(picture: &RgbImage) -> Option<Vec<bool>> {
    let Verdict {
        background,
        colour: Some(colour),
        ..
    } = judge(picture)
    else {
        return None;
    };
    let is_shape =
        |pixel: &image::Rgb<u8>| distance(pixel.0, colour) < distance(pixel.0, background);
    Some(picture.pixels().map(is_shape).collect())
}

/// Squared distance in RGB.
fn distance(pixel: [u8; 3], colour: usize) -> u32 {
    let square = |(left, right): (u8, u8)| u32::from(left.abs_diff(right)).pow(2);
    pixel.into_iter().zip(COLOURS[colour].1).map(square).sum()
}

/// The first of the nearest colours.
fn nearest(pixel: [u8; 3]) -> usize {
    (0..COLOURS.len())
        .min_by_key(|colour| distance(pixel, *colour))
        .unwrap_or(0)
}

/// The first of the most frequent labels.
fn most(counts: &[usize]) -> usize {
    (0..counts.len())
        .rev()
        .max_by_key(|label| counts[*label])
        .unwrap_or(0)
}

fn centroid(mask: &[[f64; 2]]) -> [f64; 2] {
    let mean =
        |axis: usize| mask.iter().map(|point| point[axis]).sum::<f64>() / mask.len().max(1) as f64;
    [mean(0), mean(1)]
}

fn nearest_place(centroid: [f64; 2]) -> usize {
    let distance = |place: usize| {
        let [x, y] = PLACES[place].1;
        (x - centroid[0]).powi(2) + (y - centroid[1]).powi(2)
    };
    (0..PLACES.len())
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .unwrap_or(0)
}

/// The shape whose template of equal area overlaps the mask best, and its radius.
fn best_shape(mask: &[[f64; 2]], centroid: [f64; 2], size: (u32, u32)) -> (usize, f64) {
    let shapes = (0..SHAPES.len()).map(|shape| (shape, overlap(mask, (centroid, size), shape)));
    let best = shapes.rev().max_by(|a, b| a.1.total_cmp(&b.1));
    let shape = best.map_or(0, |(shape, _)| shape);
    (shape, fitted(mask, shape))
}

/// The radius at which a shape has the area of a mask.
fn fitted(mask: &[[f64; 2]], shape: usize) -> f64 {
    (mask.len() as f64 / SHAPES[shape].1).sqrt()
}

/// How much of a mask and of a shape of equal area around a point lies in both.
fn overlap(
    mask: &[[f64; 2]],
    ([x, y], (width, height)): ([f64; 2], (u32, u32)),
    shape: usize,
) -> f64 {
    let radius = fitted(mask, shape);
    let centres = |side: u32| (0..side).map(|at| f64::from(at) + 0.5);
    let set = |row: f64, column: f64| inside(shape, [column - x, row - y], radius);
    let template: usize = centres(height)
        .map(|row| centres(width).filter(|column| set(row, *column)).count())
        .sum();
    let both = mask.iter().filter(|point| set(point[1], point[0])).count();
    both as f64 / (template + mask.len() - both).max(1) as f64
}

/// What a cut-out shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutOut {
    /// How much of what is opaque and of the shape that was asked for, as large and in the same place,
    /// lies in both: 0…1.
    pub overlap: f64,
    /// The colour of what is opaque.
    pub colour: usize,
    /// Where that is.
    pub place: usize,
}

/// Judges a cut-out by what of it is more opaque than not; `None` if that is nothing.
pub fn judge_cut_out(picture: &RgbaImage, shape: usize) -> Option<CutOut> {
    let opaque = picture
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel.0[3] > 127);
    let (mut mask, mut sums) = (Vec::new(), [0_u64; 3]);
    for (x, y, pixel) in opaque {
        mask.push([f64::from(x) + 0.5, f64::from(y) + 0.5]);
        for (sum, part) in sums.iter_mut().zip(pixel.0) {
            *sum += u64::from(part);
        }
    }
    let count = u64::try_from(mask.len()).ok().filter(|count| *count > 0)?;
    let centroid = centroid(&mask);
    Some(CutOut {
        overlap: overlap(&mask, (centroid, picture.dimensions()), shape),
        colour: nearest(sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX))),
        place: nearest_place(centroid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::drawing::{Scene, draw, held_out};

    #[test]
    fn drawn_pictures_are_judged_right() {
        for (scene, seed) in held_out().into_iter().zip(0..) {
            let Scene {
                colour,
                shape,
                place,
                size,
                background,
            } = scene;
            let right = Verdict {
                background,
                colour: Some(colour),
                place: Some(place),
                shape: Some(shape),
                size: Some(size),
            };
            assert_eq!(judge(&draw(scene, seed)), right, "{}", scene.caption());
        }
    }

    #[test]
    fn a_plain_picture_shows_nothing() {
        let verdict = judge(&RgbImage::from_pixel(64, 64, image::Rgb([30, 60, 220])));
        assert_eq!((verdict.background, verdict.colour), (2, None));
    }
}
