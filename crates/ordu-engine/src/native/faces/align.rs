//! Landmarks to the place of a face, and pictures seen through it.
//!
//! # Source
//! `worker.md` § 2.13; Umeyama 1991, "Least-Squares Estimation of Transformation Parameters".

use image::{Rgb, RgbImage};

/// The side of upright faces, in pixels.
pub(super) const SIDE: usize = 512;
/// Where eyes, nose and corners of the mouth are in them.
pub const TEMPLATE: [[f64; 2]; 5] = [
    [192.981_38, 239.947_08],
    [318.902_77, 240.193_6],
    [256.634_16, 314.019_35],
    [201.261_17, 371.410_43],
    [313.089_05, 371.151_18],
];
/// What is beyond the picture: grey.
const BEYOND: Rgb<u8> = Rgb([132, 133, 135]);
/// A face that would have to be made larger or smaller than this is none.
const FACTORS: std::ops::RangeInclusive<f64> = 1e-3..=1e3;

/// A point, and where it belongs.
type Pair = ([f64; 2], [f64; 2]);

/// Turns, scales and moves: `(x, y)` to `(a x − b y + u, b x + a y + v)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// Scale times cosine.
    pub a: f64,
    /// Scale times sine.
    pub b: f64,
    /// To the right.
    pub u: f64,
    /// Down.
    pub v: f64,
}

impl Similarity {
    /// The one that brings points as near to others as possible; `None` if they are all at one place.
    fn best(pairs: &[Pair]) -> Option<Self> {
        let count = pairs.len() as f64;
        let mean = |of: &dyn Fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / count;
        let from = [mean(&|pair| pair.0[0]), mean(&|pair| pair.0[1])];
        let to = [mean(&|pair| pair.1[0]), mean(&|pair| pair.1[1])];
        let (mut along, mut across, mut spread) = (0.0, 0.0, 0.0);
        for (one, other) in pairs {
            let (x, y) = (one[0] - from[0], one[1] - from[1]);
            let (s, t) = (other[0] - to[0], other[1] - to[1]);
            along += x * s + y * t;
            across += x * t - y * s;
            spread += x * x + y * y;
        }
        let (a, b) = (along / spread, across / spread);
        let fits = FACTORS.contains(&a.hypot(b));
        fits.then_some(Self {
            a,
            b,
            u: to[0] - a * from[0] + b * from[1],
            v: to[1] - b * from[0] - a * from[1],
        })
    }

    /// Where a point goes.
    pub fn of(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            self.a * x - self.b * y + self.u,
            self.b * x + self.a * y + self.v,
        ]
    }

    /// The way back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let whole = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / whole, -self.b / whole);
        Self {
            a,
            b,
            u: -(a * self.u - b * self.v),
            v: -(b * self.u + a * self.v),
        }
    }
}

/// From landmarks in a picture to an upright face of this side: what brings all of them nearest to where
/// they belong.
pub fn aligned(points: &[[f32; 2]; 5], side: usize) -> Option<Similarity> {
    let factor = side as f64 / SIDE as f64;
    let pairs = points.iter().zip(TEMPLATE);
    let pairs: Vec<Pair> = pairs
        .map(|(point, place)| (point.map(f64::from), place.map(|it| it * factor)))
        .collect();
    Similarity::best(&pairs)
}

/// What is seen of a picture in a square of this side; `None` if there is no such picture.
pub fn warped(picture: &RgbImage, place: &Similarity, side: usize) -> Option<RgbImage> {
    let back = place.inverse();
    let side = u32::try_from(side).ok()?;
    Some(RgbImage::from_fn(side, side, |x, y| {
        let [x, y] = back.of([f64::from(x), f64::from(y)]);
        Rgb(std::array::from_fn(|channel| {
            let at = |column: i64, row: i64| {
                let inside = u32::try_from(column).ok().zip(u32::try_from(row).ok());
                let inside = inside.and_then(|(x, y)| picture.get_pixel_checked(x, y));
                f64::from(inside.unwrap_or(&BEYOND).0[channel])
            };
            byte(between(x, y, &at))
        }))
    }))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
pub(super) fn byte(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// A value between four pixels.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is far beyond the picture may be anywhere there"
)]
pub(super) fn between(x: f64, y: f64, at: &dyn Fn(i64, i64) -> f64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let (right, down) = (x - left, y - top);
    let (column, row) = (left as i64, top as i64);
    let (next, below) = (column.saturating_add(1), row.saturating_add(1));
    let upper = at(column, row) * (1.0 - right) + at(next, row) * right;
    let lower = at(column, below) * (1.0 - right) + at(next, below) * right;
    upper * (1.0 - down) + lower * down
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_possible_truncation, reason = "test points")]
    fn seen_by(place: &Similarity) -> [[f32; 2]; 5] {
        let back = place.inverse();
        TEMPLATE.map(|point| back.of(point).map(|it| it as f32))
    }

    #[test]
    fn a_face_is_brought_upright() {
        let place = Similarity {
            a: 2.3,
            b: -0.7,
            u: -120.0,
            v: 45.0,
        };
        let found = aligned(&seen_by(&place), SIDE).unwrap();
        for (one, other) in [(found.a, place.a), (found.b, place.b)] {
            assert!((one - other).abs() < 1e-5);
        }
        assert!((found.u - place.u).abs() < 1e-2 && (found.v - place.v).abs() < 1e-2);
        let [x, y] = place.inverse().of(place.of([7.0, -3.0]));
        assert!((x - 7.0).abs() < 1e-9 && (y + 3.0).abs() < 1e-9);
    }

    #[test]
    fn points_at_one_place_are_no_face() {
        for at in [0.0, 7.0, f32::MAX, f32::NAN, f32::INFINITY] {
            assert_eq!(aligned(&[[at; 2]; 5], SIDE), None, "{at}");
        }
    }
}
