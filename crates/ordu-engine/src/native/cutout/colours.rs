//! The colours of what a picture shows without those of what is behind it, which shine through where
//! alpha is neither all nor nothing. Guessed small first, then larger and larger.
//!
//! # Source
//! Germer et al. 2020, "Fast Multi-Level Foreground Estimation".

use image::{GrayImage, Rgb, RgbImage};

/// How strongly neighbours are alike, and how much more so where alpha changes.
const ALIKE: f32 = 1e-5;
/// Rounds on small pictures, and on others.
const ROUNDS: [usize; 2] = [10, 2];
/// The side of small pictures.
const SMALL: usize = 32;

/// One of the pictures on the way.
struct Level {
    width: usize,
    height: usize,
    /// The colours of what is shown, and of what is behind it.
    both: Vec<[[f32; 3]; 2]>,
}

/// A picture with what is behind taken out of its colours. Alpha has its size.
pub fn without_background(picture: &RgbImage, alpha: &GrayImage) -> RgbImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let colours: Vec<[f32; 3]> = picture
        .pixels()
        .map(|pixel| pixel.0.map(|byte| f32::from(byte) / 255.0))
        .collect();
    let alpha: Vec<f32> = alpha
        .pixels()
        .map(|pixel| f32::from(pixel.0[0]) / 255.0)
        .collect();
    let mut level = Level {
        width: 1,
        height: 1,
        both: vec![[
            mean(&colours, &alpha, |alpha| alpha > 0.9),
            mean(&colours, &alpha, |alpha| alpha < 0.1),
        ]],
    };
    let levels = width
        .max(height)
        .next_power_of_two()
        .trailing_zeros()
        .max(1);
    for number in 0..=levels {
        let share = f64::from(number) / f64::from(levels);
        let (wide, high) = (part(width, share), part(height, share));
        let places = nearest((width, height), (wide, high));
        let colours: Vec<[f32; 3]> = places.iter().map(|place| colours[*place]).collect();
        let alpha: Vec<f32> = places.iter().map(|place| alpha[*place]).collect();
        let before = nearest((level.width, level.height), (wide, high));
        level = Level {
            width: wide,
            height: high,
            both: before.iter().map(|place| level.both[*place]).collect(),
        };
        let rounds = ROUNDS[usize::from(wide.max(high) > SMALL)];
        for _ in 0..rounds {
            level.settle(&colours, &alpha);
        }
    }
    let mut pixels = level.both.iter();
    RgbImage::from_fn(picture.width(), picture.height(), |_, _| {
        let [shown, _] = pixels.next().copied().unwrap_or_default();
        Rgb(shown.map(byte))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
fn byte(colour: f32) -> u8 {
    (colour * 255.0).round().clamp(0.0, 255.0) as u8
}

/// The side of a level.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the side of a picture"
)]
fn part(side: usize, share: f64) -> usize {
    ((side as f64).powf(share).round_ties_even() as usize).clamp(1, side)
}

/// Where each pixel of a picture lies in another.
fn nearest(from: (usize, usize), to: (usize, usize)) -> Vec<usize> {
    let rows = (0..to.1).map(|y| y * from.1 / to.1);
    rows.flat_map(|row| (0..to.0).map(move |x| row * from.0 + x * from.0 / to.0))
        .collect()
}

fn mean(colours: &[[f32; 3]], alpha: &[f32], counts: impl Fn(f32) -> bool) -> [f32; 3] {
    let (mut sum, mut count) = ([0.0; 3], 1e-5);
    for (colour, alpha) in colours.iter().zip(alpha) {
        if counts(*alpha) {
            for (sum, colour) in sum.iter_mut().zip(colour) {
                *sum += colour;
            }
            count += 1.0;
        }
    }
    sum.map(|sum| sum / count)
}

impl Level {
    /// One round: each pixel is explained by its own two colours, which are to be like its neighbours'.
    fn settle(&mut self, colours: &[[f32; 3]], alpha: &[f32]) {
        let (width, height) = (self.width, self.height);
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let beside = [
                    y * width + x.saturating_sub(1),
                    y * width + (x + 1).min(width - 1),
                    y.saturating_sub(1) * width + x,
                    (y + 1).min(height - 1) * width + x,
                ];
                let shares = [alpha[at], 1.0 - alpha[at]];
                let mut own = shares.map(|share| share * share);
                let mixed = shares[0] * shares[1];
                let mut wanted = shares.map(|share| colours[at].map(|colour| share * colour));
                for beside in beside {
                    let weight = ALIKE + (alpha[at] - alpha[beside]).abs();
                    own = own.map(|own| own + weight);
                    for (wanted, near) in wanted.iter_mut().zip(&self.both[beside]) {
                        for (wanted, near) in wanted.iter_mut().zip(near) {
                            *wanted += weight * near;
                        }
                    }
                }
                let whole = own[0] * own[1] - mixed * mixed;
                let [shown, behind] = wanted;
                let share = |own: f32, wanted: f32, other: f32| {
                    ((own * wanted - mixed * other) / whole).clamp(0.0, 1.0)
                };
                self.both[at] = [
                    std::array::from_fn(|it| share(own[1], shown[it], behind[it])),
                    std::array::from_fn(|it| share(own[0], behind[it], shown[it])),
                ];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    #[test]
    fn colours_lose_what_shines_through() {
        // Red over blue, with a soft edge.
        let alpha = GrayImage::from_fn(48, 20, |x, _| {
            Luma([u8::try_from((x.saturating_sub(16) * 16).min(255)).unwrap()])
        });
        let picture = RgbImage::from_fn(48, 20, |x, y| {
            let share = f32::from(alpha.get_pixel(x, y).0[0]) / 255.0;
            Rgb([byte(share), 0, byte(1.0 - share)])
        });
        let shown = without_background(&picture, &alpha);
        for (pixel, alpha) in shown.pixels().zip(alpha.pixels()) {
            if alpha.0[0] > 40 {
                assert!(
                    pixel.0[0] > 235 && pixel.0[2] < 20,
                    "{pixel:?} at {alpha:?}"
                );
            }
        }
    }
}
