//! How much of each pixel belongs to what a picture shows, where a mask is not sure: closed-form matting.
//! Around each pixel alpha is taken to be a linear function of the colours; what is known spreads from
//! there.
//!
//! # Source
//! Levin, Lischinski and Weiss 2008, "A Closed-Form Solution to Natural Image Matting"; thresholds:
//! `worker.md` § 2.13. Windows of 3×3, regularised by 1e-7, as in pymatting.

use image::{GrayImage, Luma, RgbImage};

use super::solver::{self, LOWER, System};
use crate::EngineError;

/// A mask this bright is sure of what is shown …
const SHOWN: u8 = 240;
/// … this dark of what is not …
const HIDDEN: u8 = 10;
/// … unless something else is this near, in pixels; even, and reaching one further to the left and up.
const EROSION: u32 = 10;
/// What keeps windows of one colour from dividing by nothing.
const EPSILON: f64 = 1e-7;
/// Pixels of a window.
const WINDOW: usize = 9;
/// Pixels that may be in doubt: each takes some 260 bytes and a microsecond a step.
const MAX_PIXELS: usize = 1 << 20;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matting {
    /// Alpha.
    Done(GrayImage),
    /// Nothing to spread: the mask is sure of nothing on one of the two sides.
    Unneeded,
    /// So many pixels are in doubt, which is too many, or they do not settle.
    TooLarge(usize),
}

/// What is known of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Shown,
    Hidden,
    No,
}

/// Alpha of a picture, of a mask of its size. `go_on` is asked every few steps.
///
/// # Errors
///
/// That of `go_on`.
pub fn alpha_of(
    picture: &RgbImage,
    mask: &GrayImage,
    go_on: &dyn Fn() -> Result<(), EngineError>,
) -> Result<Matting, EngineError> {
    let (width, height) = picture.dimensions();
    let known = known(mask);
    let has = |what: Known| known.contains(&what);
    if width.min(height) < 3 || !has(Known::Shown) || !has(Known::Hidden) {
        return Ok(Matting::Unneeded);
    }
    let doubts = known.iter().filter(|known| **known == Known::No).count();
    if doubts > MAX_PIXELS {
        return Ok(Matting::TooLarge(doubts));
    }
    let window = Windows::new(picture, &known);
    let Some(solved) = solver::solve(&window.system(), go_on)? else {
        return Ok(Matting::TooLarge(doubts));
    };
    let mut in_doubt = solved.into_iter();
    let alpha = known.iter().map(|known| match known {
        Known::Shown => 255,
        Known::Hidden => 0,
        Known::No => byte(in_doubt.next().unwrap_or_default()),
    });
    let alpha = GrayImage::from_raw(width, height, alpha.collect());
    Ok(alpha.map_or(Matting::Unneeded, Matting::Done))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
fn byte(alpha: f64) -> u8 {
    (alpha * 255.0).round().clamp(0.0, 255.0) as u8
}

fn known(mask: &GrayImage) -> Vec<Known> {
    // Beyond the edges nothing is shown.
    let shown = eroded(mask, |byte| byte >= SHOWN, false);
    let hidden = eroded(mask, |byte| byte <= HIDDEN, true);
    let pixels = shown.into_iter().zip(hidden);
    pixels
        .map(|(shown, hidden)| match (shown, hidden) {
            (true, _) => Known::Shown,
            (_, true) => Known::Hidden,
            _ => Known::No,
        })
        .collect()
}

/// Whether all pixels in a square around each are so; beyond the edges they are as is said.
fn eroded(mask: &GrayImage, is_so: impl Fn(u8) -> bool, beyond: bool) -> Vec<bool> {
    let (width, height) = mask.dimensions();
    let before = i64::from(EROSION / 2);
    let near = |at: u32, side: u32, is_so: &dyn Fn(u32) -> bool| {
        let mut reached = (0..i64::from(EROSION)).map(|step| i64::from(at) + step - before);
        reached.all(|at| match u32::try_from(at) {
            Ok(at) if at < side => is_so(at),
            _ => beyond,
        })
    };
    let across = GrayImage::from_fn(width, height, |x, y| {
        let all = near(x, width, &|x| is_so(mask.get_pixel(x, y).0[0]));
        Luma([u8::from(all)])
    });
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    places
        .map(|(x, y)| near(y, height, &|y| across.get_pixel(x, y).0[0] == 1))
        .collect()
}

/// All windows that somebody in doubt is in.
struct Windows {
    width: usize,
    height: usize,
    colours: Vec<[f64; 3]>,
    known: Vec<Known>,
    /// The number among those in doubt, where that is so.
    number: Vec<u32>,
}

impl Windows {
    fn new(picture: &RgbImage, known: &[Known]) -> Self {
        let pixels = picture.pixels();
        let mut doubts = 0..u32::MAX;
        let number = known.iter().map(|known| match known {
            Known::No => doubts.next().unwrap_or(solver::NOBODY),
            _ => solver::NOBODY,
        });
        Self {
            width: picture.width() as usize,
            height: picture.height() as usize,
            colours: pixels
                .map(|pixel| pixel.0.map(|byte| f64::from(byte) / 255.0))
                .collect(),
            known: known.to_vec(),
            number: number.collect(),
        }
    }

    /// The equations of those in doubt.
    fn system(&self) -> System {
        let doubts = self.known.iter().filter(|known| **known == Known::No);
        let mut system = System::new(doubts.count());
        for y in 0..self.height {
            for x in 0..self.width {
                self.neighbours(&mut system, x, y);
            }
        }
        for y in 1..self.height - 1 {
            for x in 1..self.width - 1 {
                let places: [usize; WINDOW] =
                    std::array::from_fn(|step| (y + step / 3 - 1) * self.width + x + step % 3 - 1);
                if places
                    .iter()
                    .any(|place| self.number[*place] != solver::NOBODY)
                {
                    self.add(&mut system, &places);
                }
            }
        }
        system
    }

    /// Notes who of those in doubt come before a pixel in doubt, two pixels away at most.
    fn neighbours(&self, system: &mut System, x: usize, y: usize) {
        let number = self.number[y * self.width + x];
        if number == solver::NOBODY {
            return;
        }
        for slot in 0..LOWER - 1 {
            // Two rows above, the row above, and what is left in this row.
            let (up, right) = (2 - slot / 5, slot % 5);
            let Some(row) = y.checked_sub(up) else {
                continue;
            };
            let Some(column) = (x + right).checked_sub(2).filter(|it| *it < self.width) else {
                continue;
            };
            system.neighbours[number as usize][slot] = self.number[row * self.width + column];
        }
    }

    /// Adds what a window says of the pairs in it.
    fn add(&self, system: &mut System, places: &[usize; WINDOW]) {
        let colours = places.map(|place| self.colours[place]);
        let alike = alike(&colours);
        for (one, place) in places.iter().enumerate() {
            let number = self.number[*place];
            if number == solver::NOBODY {
                continue;
            }
            for (other, beside) in places.iter().enumerate() {
                let itself = if one == other { 1.0 } else { 0.0 };
                let value = itself - alike[one][other];
                match self.known[*beside] {
                    Known::Shown => system.right[number as usize] -= value,
                    Known::No if other <= one => {
                        let (up, left) = (one / 3 - other / 3, one % 3 + 2 - other % 3);
                        // `left` counts from two to the right.
                        let slot = (2 - up) * 5 + 4 - left;
                        system.lower[number as usize][slot] += value;
                    }
                    Known::Hidden | Known::No => {}
                }
            }
        }
    }
}

/// How much the colours of each two pixels of a window say that they belong together.
fn alike(colours: &[[f64; 3]; WINDOW]) -> [[f64; WINDOW]; WINDOW] {
    let count = WINDOW as f64;
    let mean: [f64; 3] =
        std::array::from_fn(|channel| colours.iter().map(|it| it[channel]).sum::<f64>() / count);
    let centred = colours.map(|it| std::array::from_fn::<f64, 3, _>(|at| it[at] - mean[at]));
    let mut spread = [[0.0; 3]; 3];
    for (row, line) in spread.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            let sum: f64 = centred.iter().map(|it| it[row] * it[column]).sum();
            let regular = if row == column { EPSILON } else { 0.0 };
            *value = (sum + regular) / count;
        }
    }
    let inverse = inverse(&spread);
    let weighed = centred.map(|it| {
        std::array::from_fn::<f64, 3, _>(|row| (0..3).map(|at| inverse[row][at] * it[at]).sum())
    });
    std::array::from_fn(|one| {
        std::array::from_fn(|other| {
            let likeness: f64 = (0..3).map(|at| weighed[one][at] * centred[other][at]).sum();
            (1.0 + likeness) / count
        })
    })
}

/// Of a symmetric matrix.
fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |row: usize, column: usize| {
        let (r, c) = ([1, 0, 0], [2, 2, 1]);
        let (up, down) = (r[row], c[row]);
        let (left, right) = (r[column], c[column]);
        let sign = if (row + column).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        };
        sign * (m[up][left] * m[down][right] - m[up][right] * m[down][left])
    };
    let whole: f64 = (0..3).map(|at| m[0][at] * minor(0, at)).sum();
    std::array::from_fn(|row| std::array::from_fn(|column| minor(column, row) / whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: u32, height: u32, is_shown: impl Fn(u32, u32) -> bool) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| {
            Luma([if is_shown(x, y) { 255 } else { 0 }])
        })
    }

    #[test]
    fn what_is_near_something_else_is_in_doubt() {
        let known = known(&mask(60, 40, |x, _| x < 30));
        let row: Vec<Known> = known[20 * 60..21 * 60].to_vec();
        let first = |what: Known| row.iter().position(|known| *known == what).unwrap();
        let last = |what: Known| row.iter().rposition(|known| *known == what).unwrap();
        // Five pixels at the edge of the picture, beyond which nothing is shown; four before the end.
        assert_eq!((first(Known::Shown), last(Known::Shown)), (5, 25));
        assert_eq!((first(Known::Hidden), last(Known::Hidden)), (35, 59));
        assert_eq!(known[2 * 60 + 15], Known::No);
    }

    #[test]
    fn a_mask_that_is_sure_of_one_side_alone_stays() {
        let picture = RgbImage::new(40, 40);
        for sure in [true, false] {
            let made = alpha_of(&picture, &mask(40, 40, |_, _| sure), &|| Ok(()));
            assert_eq!(made.unwrap(), Matting::Unneeded);
        }
        let tiny = alpha_of(&RgbImage::new(2, 2), &mask(2, 2, |x, _| x == 0), &|| Ok(()));
        assert_eq!(tiny.unwrap(), Matting::Unneeded);
    }

    #[test]
    fn an_edge_of_colours_becomes_an_edge_of_alpha() {
        // The mask is off by three pixels; the colours are not.
        let picture = RgbImage::from_fn(64, 48, |x, _| {
            image::Rgb(if x < 32 { [200, 30, 30] } else { [20, 40, 210] })
        });
        let made = alpha_of(&picture, &mask(64, 48, |x, _| x < 35), &|| Ok(()));
        let Matting::Done(alpha) = made.unwrap() else {
            panic!("no alpha")
        };
        for (x, _, pixel) in alpha.enumerate_pixels() {
            let expected = if x < 32 { 255 } else { 0 };
            assert!(pixel.0[0].abs_diff(expected) <= 2, "{x}: {}", pixel.0[0]);
        }
    }

    #[test]
    fn it_can_be_stopped() {
        let picture = RgbImage::new(64, 48);
        let stopped = alpha_of(&picture, &mask(64, 48, |x, _| x < 35), &|| {
            Err(EngineError::Cancelled)
        });
        assert!(matches!(stopped, Err(EngineError::Cancelled)));
    }
}
