//! What a detector says of a picture, as faces.

use candle_core::{Device, Tensor};
use image::RgbImage;
use image::imageops::{self, FilterType};

use super::GoOn;
use super::retinaface::{ANCHORS, Raw, RetinaFace};
use crate::EngineError;

/// The shorter side of what the detector is shown, at least, in pixels …
const SHORTER: u32 = 640;
/// … as long as these are not more pixels. A larger picture is made smaller.
const MAX_PIXELS: f64 = 2048.0 * 2048.0;
/// Taken off the colours, blue first.
const MEANS: [f32; 3] = [104.0, 117.0, 123.0];
/// Pixels from one place to the next in each level of the pyramid, and the sizes of faces there.
const LEVELS: [(usize, [f32; ANCHORS]); 3] =
    [(8, [16.0, 32.0]), (16, [64.0, 128.0]), (32, [256.0, 512.0])];
/// What the network's numbers are multiplied with: places, sizes.
const VARIANCES: [f32; 2] = [0.1, 0.2];
/// How sure it has to be.
const SURE: f32 = 0.97;
/// Two faces that share so much of what they cover together are one.
const SAME: f32 = 0.4;
/// Eyes that are nearer to each other are too small to be mended, in pixels.
const EYES: f32 = 5.0;
/// Boxes that are compared with each other.
const MAX_BOXES: usize = 2000;

/// A face in a picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Face {
    /// How sure the detector is, 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub bounds: [f32; 4],
    /// The left eye as the viewer sees it, the right one, the nose, the left and the right corner of the
    /// mouth.
    pub points: [[f32; 2]; 5],
}

/// Faces, the surest first.
pub type Found = Vec<Face>;

/// Looks for faces.
///
/// # Errors
///
/// That of `go_on`, or those of the tensor library.
pub fn detect(
    picture: &RgbImage,
    network: &RetinaFace,
    go_on: &GoOn<'_>,
) -> Result<Found, EngineError> {
    let (width, height) = picture.dimensions();
    if width.min(height) == 0 {
        return Ok(Found::new());
    }
    let scale = scale(width, height);
    let side = |side: u32| rounded(f64::from(side) * scale);
    let (wide, high) = (side(width), side(height));
    let shown = if (wide, high) == (width, height) {
        picture.clone()
    } else {
        imageops::resize(picture, wide, high, FilterType::Triangle)
    };
    let raw = network.forward(&tensor_of(&shown)?, go_on)?;
    let back = [
        f64::from(width) / f64::from(wide),
        f64::from(height) / f64::from(high),
    ];
    #[expect(clippy::cast_possible_truncation, reason = "a factor of pixels")]
    let back = back.map(|factor| factor as f32);
    let mut found = faces_of(&raw, (wide as usize, high as usize))?;
    for face in &mut found {
        for (at, value) in face.bounds.iter_mut().enumerate() {
            *value *= back[at % 2];
        }
        for point in &mut face.points {
            point[0] *= back[0];
            point[1] *= back[1];
        }
    }
    found.retain(|face| distance(face.points[0], face.points[1]) >= EYES);
    Ok(found)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as many pixels as are shown at most"
)]
fn rounded(side: f64) -> u32 {
    side.round().max(1.0) as u32
}

/// By how much a picture is made larger before it is looked at.
fn scale(width: u32, height: u32) -> f64 {
    let wanted = (f64::from(SHORTER) / f64::from(width.min(height))).max(1.0);
    let most = (MAX_PIXELS / (f64::from(width) * f64::from(height))).sqrt();
    wanted.min(most)
}

fn distance(one: [f32; 2], other: [f32; 2]) -> f32 {
    (one[0] - other[0]).hypot(one[1] - other[1])
}

/// A picture as the network sees it: blue first, without the means.
fn tensor_of(picture: &RgbImage) -> Result<Tensor, EngineError> {
    let numbers = (0..3_usize).flat_map(|channel| {
        let bytes = picture.pixels().map(move |pixel| pixel.0[2 - channel]);
        bytes.map(move |byte| f32::from(byte) - MEANS[channel])
    });
    let shape = (1, 3, picture.height() as usize, picture.width() as usize);
    Ok(Tensor::from_vec(numbers.collect(), shape, &Device::Cpu)?)
}

/// Centres and sizes that the network's numbers start from, as shares of a picture of this width and
/// height.
fn priors(width: usize, height: usize) -> impl Iterator<Item = [f32; 4]> {
    let (across, down) = (width as f64, height as f64);
    LEVELS.into_iter().flat_map(move |(step, sizes)| {
        let (columns, rows) = (width.div_ceil(step), height.div_ceil(step));
        (0..rows * columns).flat_map(move |place| {
            let centre = |at: usize| (at as f64 + 0.5) * step as f64;
            let (x, y) = (centre(place % columns), centre(place / columns));
            sizes.map(|size| {
                let size = f64::from(size);
                #[expect(clippy::cast_possible_truncation, reason = "shares of a picture")]
                [x / across, y / down, size / across, size / down].map(|share| share as f32)
            })
        })
    })
}

/// The faces in what the network says of a picture of this width and height.
///
/// # Errors
///
/// Those of the tensor library; if there are not as many numbers as places.
pub fn faces_of(raw: &Raw, (width, height): (usize, usize)) -> Result<Found, EngineError> {
    let boxes = raw.boxes.to_vec2::<f32>()?;
    let classes = raw.classes.to_vec2::<f32>()?;
    let landmarks = raw.landmarks.to_vec2::<f32>()?;
    let said = boxes.iter().zip(&classes).zip(&landmarks);
    let mut faces: Found = Vec::new();
    #[expect(clippy::cast_possible_truncation, reason = "a side in pixels")]
    let (across, down) = (width as f64 as f32, height as f64 as f32);
    for (prior, ((bounds, class), marks)) in priors(width, height).zip(said) {
        let (&[x, y, wide, high], &[_, score]) = (bounds.as_slice(), class.as_slice()) else {
            continue;
        };
        // Not a number is not sure either.
        if score.is_nan() || score <= SURE || marks.len() < 10 {
            continue;
        }
        let [px, py, pw, ph] = prior;
        let place = |x: f32, y: f32| [px + x * VARIANCES[0] * pw, py + y * VARIANCES[0] * ph];
        let [cx, cy] = place(x, y);
        let (half_w, half_h) = (
            pw * (wide * VARIANCES[1]).exp() / 2.0,
            ph * (high * VARIANCES[1]).exp() / 2.0,
        );
        let points = std::array::from_fn(|point| {
            let [x, y] = place(marks[2 * point], marks[2 * point + 1]);
            [x * across, y * down]
        });
        let bounds = [
            (cx - half_w) * across,
            (cy - half_h) * down,
            (cx + half_w) * across,
            (cy + half_h) * down,
        ];
        let is_somewhere = bounds
            .iter()
            .chain(points.as_flattened())
            .all(|it| it.is_finite());
        if is_somewhere {
            faces.push(Face {
                score,
                bounds,
                points,
            });
        }
    }
    faces.sort_by(|one, other| other.score.total_cmp(&one.score));
    faces.truncate(MAX_BOXES);
    Ok(without_doubles(&faces))
}

/// Of faces that are the same the surest.
fn without_doubles(faces: &[Face]) -> Found {
    let mut kept: Found = Vec::new();
    for face in faces {
        if kept
            .iter()
            .all(|other| shared(&face.bounds, &other.bounds) <= SAME)
        {
            kept.push(*face);
        }
    }
    kept
}

/// The share that two boxes have in common of what they cover together.
fn shared(one: &[f32; 4], other: &[f32; 4]) -> f32 {
    let area = |bounds: &[f32; 4]| (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]);
    let both = [
        one[0].max(other[0]),
        one[1].max(other[1]),
        one[2].min(other[2]),
        one[3].min(other[3]),
    ];
    let both = (both[2] - both[0]).max(0.0) * (both[3] - both[1]).max(0.0);
    both / (area(one) + area(other) - both).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_are_enlarged_and_huge_ones_made_smaller() {
        assert!((scale(320, 640) - 2.0).abs() < 1e-9);
        assert!((scale(640, 2000) - 1.0).abs() < 1e-9);
        assert!((scale(8192, 8192) - 0.25).abs() < 1e-9);
        let (wide, high) = (16_000.0 * scale(16_000, 4), 4.0 * scale(16_000, 4));
        assert!(wide * high <= MAX_PIXELS + 1.0);
    }

    #[test]
    fn of_two_that_are_the_same_the_surer_stays() {
        let face = |score: f32, left: f32| Face {
            score,
            bounds: [left, 0.0, left + 10.0, 10.0],
            points: [[0.0; 2]; 5],
        };
        let kept = without_doubles(&[face(0.99, 0.0), face(0.98, 3.0), face(0.98, 6.0)]);
        let lefts: Vec<f32> = kept.iter().map(|face| face.bounds[0]).collect();
        assert_eq!(lefts, [0.0, 6.0]);
    }
}
