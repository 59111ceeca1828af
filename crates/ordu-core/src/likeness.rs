//! How alike two pictures look.
//!
//! A picture is reduced to what survives another card, another program and other compression: the
//! coarse pattern of light and dark (the signs of its lowest frequencies, a cosine transform as in
//! perceptual hashes) and its colours in sixteen fields. The same seed on another machine differs
//! by a few bits; another picture differs by half of them.
//!
//! Knows no formats: whoever decodes a picture brings it as [`SIDE`]² pixels.
//!
//! # Source
//! `platform.md` § 4 ("Trust audits"); the measure is ours.

use serde::{Deserialize, Serialize};

/// The side of the reduced picture, in pixels.
pub const SIDE: usize = 32;

/// The side of the square of lowest frequencies that counts.
const FREQUENCIES: usize = 8;
/// Their number, without the mean brightness.
const BITS: u32 = 63;
/// The side of the square of colour fields.
const FIELDS: usize = 4;
/// Pixels a side of a field.
const FIELD: usize = SIDE / FIELDS;
/// Half of the bits differ between pictures that have nothing to do with each other.
const UNRELATED: f64 = 0.5;
/// A mean difference of colours from which on two pictures are as different as can be told.
const FAR_COLOURS: f64 = 64.0;

/// What is remembered of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likeness {
    /// Which of the lowest frequencies are stronger than their median.
    pattern: u64,
    /// The mean red, green and blue of each field, row by row.
    colours: Vec<u8>,
}

/// A picture of [`SIDE`]² pixels, row by row.
pub type Pixels = [[u8; 3]; SIDE * SIDE];

impl Likeness {
    /// Looks at a reduced picture.
    pub fn of(pixels: &Pixels) -> Self {
        Self {
            pattern: pattern(pixels),
            colours: colours(pixels),
        }
    }

    /// How different two pictures look: 0 for the same, 1 for pictures that have nothing to do with
    /// each other.
    pub fn distance(&self, other: &Self) -> f64 {
        let differing = f64::from((self.pattern ^ other.pattern).count_ones());
        let pattern = (differing / f64::from(BITS) / UNRELATED).min(1.0);
        let pairs = self.colours.iter().zip(&other.colours);
        let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), (one, another)| {
            (sum + f64::from(one.abs_diff(*another)), count + 1.0)
        });
        let colours = if count > 0.0 {
            (sum / count / FAR_COLOURS).min(1.0)
        } else {
            1.0
        };
        f64::midpoint(pattern, colours)
    }
}

/// The brightness of a pixel.
fn brightness([red, green, blue]: [u8; 3]) -> f64 {
    0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue)
}

/// The signs of the lowest frequencies.
fn pattern(pixels: &Pixels) -> u64 {
    let mut strengths = Vec::with_capacity(FREQUENCIES * FREQUENCIES);
    for down in 0..FREQUENCIES {
        for across in 0..FREQUENCIES {
            strengths.push(strength(pixels, across, down));
        }
    }
    // The first is the mean brightness, which says nothing about the pattern.
    let waves = strengths.get(1..).unwrap_or_default();
    let mut sorted = waves.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let bits = waves.iter().enumerate();
    bits.filter(|(_, strength)| **strength > median)
        .fold(0, |pattern, (bit, _)| pattern | 1 << bit)
}

/// How strong one frequency is: a term of the cosine transform.
#[expect(clippy::cast_precision_loss, reason = "at most 32")]
fn strength(pixels: &Pixels, across: usize, down: usize) -> f64 {
    let wave = |place: usize, frequency: usize| {
        let angle = (2 * place + 1) as f64 * frequency as f64;
        (angle * std::f64::consts::PI / (2 * SIDE) as f64).cos()
    };
    let columns: Vec<f64> = (0..SIDE).map(|x| wave(x, across)).collect();
    let mut sum = 0.0;
    for (y, row) in pixels.chunks(SIDE).enumerate() {
        let terms = row.iter().zip(&columns);
        let of_row: f64 = terms.map(|(pixel, wave)| brightness(*pixel) * wave).sum();
        sum += of_row * wave(y, down);
    }
    // Far below what eight bits of brightness can tell apart, so that even pictures have no pattern.
    (sum * 1e3).round() / 1e3
}

/// The mean colours of the fields.
fn colours(pixels: &Pixels) -> Vec<u8> {
    let mut sums = [[0_u32; 3]; FIELDS * FIELDS];
    for (index, pixel) in pixels.iter().enumerate() {
        let (x, y) = (index % SIDE, index / SIDE);
        let field = y / FIELD * FIELDS + x / FIELD;
        if let Some(sum) = sums.get_mut(field) {
            for (sum, value) in sum.iter_mut().zip(pixel) {
                *sum += u32::from(*value);
            }
        }
    }
    let each = u32::try_from(FIELD * FIELD).unwrap_or(1);
    let means = sums.iter().flatten().map(|sum| sum / each);
    means
        .map(|mean| u8::try_from(mean).unwrap_or(u8::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A picture by what is at each place.
    fn picture(at: impl Fn(usize, usize) -> [u8; 3]) -> Pixels {
        let mut pixels = [[0; 3]; SIDE * SIDE];
        for (index, pixel) in pixels.iter_mut().enumerate() {
            *pixel = at(index % SIDE, index / SIDE);
        }
        pixels
    }

    fn circle(x: usize, y: usize) -> [u8; 3] {
        let (x, y) = (x.abs_diff(16), y.abs_diff(14));
        if x * x + y * y < 90 {
            [200, 40, 30]
        } else {
            [230, 225, 240]
        }
    }

    fn stripes(x: usize, y: usize) -> [u8; 3] {
        if (x + y / 3) % 11 < 5 {
            [20, 90, 60]
        } else {
            [60, 20, 90]
        }
    }

    fn distance(one: &Pixels, other: &Pixels) -> f64 {
        Likeness::of(one).distance(&Likeness::of(other))
    }

    #[test]
    fn noise_changes_little_and_another_picture_much() {
        let clean = picture(circle);
        let noisy = picture(|x, y| {
            let shift = u8::try_from((x * 7 + y * 13) % 12).unwrap();
            circle(x, y).map(|value| value.saturating_sub(shift))
        });
        assert!(
            distance(&clean, &noisy) < 0.2,
            "{}",
            distance(&clean, &noisy)
        );
        let other = picture(stripes);
        assert!(
            distance(&clean, &other) > 0.7,
            "{}",
            distance(&clean, &other)
        );
        let grey = picture(|_, _| [128; 3]);
        assert!(distance(&clean, &grey) > 0.5, "{}", distance(&clean, &grey));
    }

    #[test]
    fn even_pictures_differ_by_colour_only() {
        let (black, white) = (picture(|_, _| [0; 3]), picture(|_, _| [255; 3]));
        assert!(distance(&black, &black) < f64::EPSILON);
        assert!((distance(&black, &white) - 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn distances_are_symmetric_and_bounded(
            one in proptest::collection::vec(any::<[u8; 3]>(), SIDE * SIDE),
            other in proptest::collection::vec(any::<[u8; 3]>(), SIDE * SIDE),
        ) {
            let pixels = |list: Vec<[u8; 3]>| Pixels::try_from(list).unwrap();
            let (one, other) = (Likeness::of(&pixels(one)), Likeness::of(&pixels(other)));
            let distance = one.distance(&other);
            prop_assert!((0.0..=1.0).contains(&distance));
            prop_assert!((distance - other.distance(&one)).abs() < f64::EPSILON);
            prop_assert!(one.distance(&one) < f64::EPSILON);
            let text = serde_json::to_string(&one).unwrap();
            prop_assert_eq!(serde_json::from_str::<Likeness>(&text).unwrap(), one);
        }
    }
}
