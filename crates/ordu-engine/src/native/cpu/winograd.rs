//! Convolutions of 3×3 that keep the size, with less than half of the multiplications.
//!
//! A picture is cut into tiles of 2×2 places of the result; each sees 4×4 pixels. Pixels and weights
//! are brought to a form in which the sixteen numbers of a tile meet those of the weights one by one,
//! so that over channels it is sixteen products of matrices, and what comes out is brought back.
//! Weights are brought to that form each time: it is little work beside the products, and kept they
//! would take nearly twice the memory.
//!
//! ```text
//! pixels [in, h, w] → V [in, 16, tiles];  weights [out, 9, in] → U [16, out, in]
//! M [16, out, tiles] = U V → [out, h, w]
//! ```
//!
//! # Source
//! Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", § 4.1, F(2×2, 3×3).

use candle_core::Result;
use rayon::prelude::*;

use super::gather::{Added, Pictures};
use super::product::{Into, Matrix, Threads, product};
use super::simd::{LANES, Lanes, added, wide};
use crate::native::ops::Edges;

/// Numbers of a tile in the form.
const FORM: usize = 16;
/// Tiles that are worked on at once, about: their forms stay in the last cache.
const TILES: usize = 256;
/// Channels of the result that one thread works on at once, at most.
const OUTPUTS: usize = 64;
/// With fewer channels or tiles the way there and back costs more than it saves.
const FEW_CHANNELS: usize = 16;
const FEW_TILES: usize = 16;

/// Planes of an output, each with its number.
type Planes<'p> = Vec<(usize, &'p mut [f32])>;

/// Whether it is less work than gathering.
pub(super) fn pays(x: &Pictures<'_>, outputs: usize) -> bool {
    let tiles = x.batch * x.height.div_ceil(2) * x.width.div_ceil(2);
    x.channels.min(outputs) >= FEW_CHANNELS && tiles >= FEW_TILES
}

/// How pictures are cut, and which part is worked on. Rows of tiles are counted over all pictures.
#[derive(Clone, Copy)]
struct Cut {
    /// Rows of tiles of one picture.
    rows: usize,
    /// Tiles of a row.
    columns: usize,
    /// The first row, and the one behind the last.
    first: usize,
    end: usize,
}

impl Cut {
    fn tiles(self) -> usize {
        ((self.end - self.first) * self.columns).next_multiple_of(LANES)
    }

    /// From the forms of one channel to those of the next. A little more than they take: at powers of
    /// two all channels would fight for the same places in the cache.
    fn step(self) -> usize {
        FORM * self.tiles() + LANES
    }
}

/// Weights are `[out, 9, in]`; the result is `[batch, out, h, w]`.
pub(super) fn convolve(
    (x, weight): (&Pictures<'_>, &[f32]),
    beside: &Added<'_>,
    (y, outputs): (&mut [f32], usize),
) -> Result<()> {
    let (rows, columns) = (x.height.div_ceil(2), x.width.div_ceil(2));
    let all = x.batch * rows;
    let some = (TILES / columns).clamp(1, all);
    // Bands of equal height, and shares of equal size for all threads.
    let some = all.div_ceil(all.div_ceil(some));
    let threads = rayon::current_num_threads().max(1);
    let shares = threads * outputs.div_ceil(threads * OUTPUTS);
    let share = outputs.div_ceil(shares).max(1);
    let mut forms = Vec::new();
    for first in (0..all).step_by(some) {
        let cut = Cut {
            rows,
            columns,
            first,
            end: (first + some).min(all),
        };
        forms.resize(x.channels * cut.step(), 0.0);
        let channels = forms.par_chunks_exact_mut(cut.step()).enumerate();
        channels.with_min_len(4).for_each_init(
            || Lines::new(columns),
            |lines, (channel, forms)| wide(|| lines.form(x, channel, cut, forms)),
        );
        share_out(y, (x.height * x.width, outputs), share)
            .into_par_iter()
            .enumerate()
            .try_for_each_init(Room::default, |room, (number, planes)| {
                let start = number * share;
                room.multiply(
                    (x, weight),
                    &forms,
                    cut,
                    (start, share.min(outputs - start)),
                )?;
                room.put(x, beside, cut, ((start, outputs), planes));
                Ok::<_, candle_core::Error>(())
            })?;
    }
    Ok(())
}

/// Planes of all pictures by shares of channels: of each share, channel by channel, those of all
/// pictures.
fn share_out(
    y: &mut [f32],
    (pixels, outputs): (usize, usize),
    share: usize,
) -> Vec<Vec<(usize, &mut [f32])>> {
    let mut shares = Vec::new();
    shares.resize_with(outputs.div_ceil(share), Vec::new);
    for (number, plane) in y.chunks_exact_mut(pixels).enumerate() {
        if let Some(planes) = shares.get_mut(number % outputs / share) {
            planes.push((number, plane));
        }
    }
    shares
}

/// Four lines of pixels, those of even and those of odd places apart, and what becomes of them.
struct Lines {
    /// `[4, columns + 1]`.
    even: Vec<f32>,
    odd: Vec<f32>,
    mixed: [Vec<f32>; 2],
}

impl Lines {
    fn new(columns: usize) -> Self {
        let line = || vec![0.0; columns + 1];
        Self {
            even: vec![0.0; 4 * (columns + 1)],
            odd: vec![0.0; 4 * (columns + 1)],
            mixed: [line(), line()],
        }
    }

    /// The forms of all tiles of a channel, `[16, tiles]`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `wide`")]
    fn form(&mut self, x: &Pictures<'_>, channel: usize, cut: Cut, forms: &mut [f32]) {
        for row in cut.first..cut.end {
            let plane = x.plane(row / cut.rows, channel);
            self.read(x, plane, row % cut.rows);
            let place = (row - cut.first) * cut.columns;
            for down in 0..4 {
                self.mix(down, cut.columns + 1);
                let [even, odd] = &self.mixed;
                let next = even.get(1..).unwrap_or_default();
                let start = 4 * down * cut.tiles() + place;
                let to = forms.get_mut(start..).unwrap_or_default();
                let mut to = to.chunks_mut(cut.tiles()).take(4).map(|to| to.iter_mut());
                let mut next_form = || to.next().unwrap_or_default();
                for ((to, a), c) in next_form().zip(even).zip(next) {
                    *to = a - c;
                }
                for ((to, b), c) in next_form().zip(odd).zip(next) {
                    *to = b + c;
                }
                for ((to, b), c) in next_form().zip(odd).zip(next) {
                    *to = c - b;
                }
                for ((to, b), d) in next_form().zip(odd).zip(odd.get(1..).unwrap_or_default()) {
                    *to = b - d;
                }
            }
        }
    }

    /// The four lines that a row of tiles sees.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `wide`")]
    fn read(&mut self, x: &Pictures<'_>, plane: &[f32], row: usize) {
        let length = self.even.len() / 4;
        let lines = self.even.chunks_exact_mut(length);
        for (line, (even, odd)) in lines.zip(self.odd.chunks_exact_mut(length)).enumerate() {
            // The first line is the one above the row.
            let at = 2 * row + line;
            let at = match x.edges {
                Edges::Zero => at.checked_sub(1).filter(|at| *at < x.height),
                Edges::Wrap => Some((at + x.height - 1) % x.height),
            };
            let from = at.and_then(|at| plane.get(at * x.width..(at + 1) * x.width));
            let Some(from) = from else {
                even.fill(0.0);
                odd.fill(0.0);
                continue;
            };
            // The first place is the one left of the first tile.
            let beyond = match x.edges {
                Edges::Zero => (0.0, 0.0),
                Edges::Wrap => (
                    from.last().copied().unwrap_or_default(),
                    from.first().copied().unwrap_or_default(),
                ),
            };
            let (pairs, rest) = from.as_chunks::<2>();
            for ((next, odd), pair) in even.iter_mut().skip(1).zip(odd.iter_mut()).zip(pairs) {
                *odd = pair[0];
                *next = pair[1];
            }
            if let Some(even) = even.first_mut() {
                *even = beyond.0;
            }
            match rest.first() {
                // Behind the last pixel of an odd line lies one that is beyond.
                Some(last) => {
                    let end = odd.iter_mut().skip(pairs.len());
                    for (odd, number) in end.zip([*last, 0.0]) {
                        *odd = number;
                    }
                    if let Some(even) = even.get_mut(pairs.len() + 1) {
                        *even = beyond.1;
                    }
                }
                None => {
                    if let Some(odd) = odd.get_mut(pairs.len()) {
                        *odd = beyond.1;
                    }
                }
            }
        }
    }

    /// One of the four mixtures of lines.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `wide`")]
    fn mix(&mut self, down: usize, length: usize) {
        for (mixed, lines) in self.mixed.iter_mut().zip([&self.even, &self.odd]) {
            let line = |at: usize| {
                lines
                    .get(at * length..(at + 1) * length)
                    .unwrap_or_default()
            };
            let (left, right, subtract) = match down {
                0 => (line(0), line(2), true),
                1 => (line(1), line(2), false),
                2 => (line(2), line(1), true),
                _ => (line(1), line(3), true),
            };
            let both = mixed.iter_mut().zip(left.iter().zip(right));
            if subtract {
                both.for_each(|(to, (left, right))| *to = left - right);
            } else {
                both.for_each(|(to, (left, right))| *to = left + right);
            }
        }
    }
}

/// Room of one thread.
#[derive(Default)]
struct Room {
    /// `[16, share, in]`.
    weights: Vec<f32>,
    /// `[16, share, tiles]`.
    made: Vec<f32>,
    /// What comes of one channel: `[4, tiles]`.
    places: Vec<f32>,
}

impl Room {
    /// Some channels of the result, still in the form.
    fn multiply(
        &mut self,
        (x, weight): (&Pictures<'_>, &[f32]),
        forms: &[f32],
        cut: Cut,
        (start, count): (usize, usize),
    ) -> Result<()> {
        let (inputs, tiles) = (x.channels, cut.tiles());
        self.weights.resize(FORM * count * inputs, 0.0);
        self.made.resize(FORM * count * tiles, 0.0);
        let each = 9 * inputs;
        let kernels = weight
            .get(start * each..(start + count) * each)
            .unwrap_or_default();
        wide(|| {
            for (output, kernel) in kernels.chunks_exact(each).enumerate() {
                form_weights(kernel, &mut self.weights, (output, count));
            }
        });
        let numbers = self.weights.chunks_exact(count * inputs);
        for (number, (weights, made)) in numbers
            .zip(self.made.chunks_exact_mut(count * tiles))
            .enumerate()
        {
            let forms = forms.get(number * tiles..).unwrap_or_default();
            product(
                (made, tiles),
                Matrix::rows(weights, (count, inputs), inputs),
                Matrix::rows(forms, (inputs, tiles), cut.step()),
                Into::Nothing,
                Threads::This,
            )?;
        }
        Ok(())
    }

    /// Brings them back and puts them into their planes.
    fn put(
        &mut self,
        x: &Pictures<'_>,
        beside: &Added<'_>,
        cut: Cut,
        ((start, outputs), mut planes): ((usize, usize), Planes<'_>),
    ) {
        let tiles = cut.tiles();
        let count = self.made.len() / (FORM * tiles);
        self.places.resize(4 * tiles, 0.0);
        planes.sort_by_key(|(number, _)| number % outputs);
        let mut known = None;
        for (number, plane) in planes {
            let output = number % outputs - start;
            if known != Some(output) {
                let (made, places) = (&self.made, &mut self.places);
                wide(|| unform(made, (output, count), places));
                known = Some(output);
            }
            let picture = number / outputs;
            let from = (picture * cut.rows).max(cut.first);
            let to = ((picture + 1) * cut.rows).min(cut.end);
            for row in from..to {
                let place = (row - cut.first) * cut.columns;
                self.put_row(
                    x,
                    beside,
                    (number, plane),
                    (row % cut.rows, place, cut.columns),
                );
            }
        }
    }

    /// Two lines of a plane, of a row of tiles that lies at a place of its own among all.
    fn put_row(
        &self,
        x: &Pictures<'_>,
        beside: &Added<'_>,
        (number, plane): (usize, &mut [f32]),
        (row, place, columns): (usize, usize, usize),
    ) {
        let tiles = self.places.len() / 4;
        let start = 2 * row * x.width;
        let lines = plane.get_mut(start..).unwrap_or_default();
        for (line, y) in lines.chunks_exact_mut(x.width).take(2).enumerate() {
            let part = |at: usize| {
                let from = self.places.get(at * tiles + place..).unwrap_or_default();
                from.get(..columns).unwrap_or_default()
            };
            let (left, right) = (part(2 * line), part(2 * line + 1));
            let (pairs, rest) = y.as_chunks_mut::<2>();
            wide(|| {
                for (y, (left, right)) in pairs.iter_mut().zip(left.iter().zip(right)) {
                    *y = [*left, *right];
                }
            });
            if let (Some(y), Some(left)) = (rest.first_mut(), left.last()) {
                *y = *left;
            }
            let at = number * x.height * x.width + start + line * x.width;
            let (shift, onto) = beside.of(number, at);
            match onto {
                Some(onto) => added(y, onto, shift),
                None => y.iter_mut().for_each(|y| *y += shift),
            }
        }
    }
}

/// The form of the weights of one channel of the result, `[9, in]`, into `[16, outputs, in]`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `wide`")]
fn form_weights(kernel: &[f32], to: &mut [f32], (output, outputs): (usize, usize)) {
    let inputs = kernel.len() / 9;
    for start in (0..inputs).step_by(LANES) {
        let count = LANES.min(inputs - start);
        let mut taps = [[[0.0; LANES]; 3]; 3];
        for (number, tap) in taps.as_flattened_mut().iter_mut().enumerate() {
            let from = kernel.get(number * inputs + start..).unwrap_or_default();
            match from.first_chunk().filter(|_| count == LANES) {
                Some(from) => *tap = *from,
                None => tap
                    .iter_mut()
                    .zip(from)
                    .take(count)
                    .for_each(|(to, from)| *to = *from),
            }
        }
        let mut mixed = [[[0.0; LANES]; 3]; 4];
        for right in 0..3 {
            let four = four([&taps[0][right], &taps[1][right], &taps[2][right]]);
            for (mixed, one) in mixed.iter_mut().zip(four) {
                mixed[right] = one;
            }
        }
        let numbers = mixed.iter().flat_map(|[a, b, c]| four([a, b, c]));
        for (number, from) in numbers.enumerate() {
            let start = (number * outputs + output) * inputs + start;
            let to = to.get_mut(start..).unwrap_or_default();
            match to.first_chunk_mut().filter(|_| count == LANES) {
                Some(to) => *to = from,
                None => to
                    .iter_mut()
                    .zip(from)
                    .take(count)
                    .for_each(|(to, from)| *to = from),
            }
        }
    }
}

/// How the three weights of a line become four.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `wide`")]
fn four([a, b, c]: [&Lanes; 3]) -> [Lanes; 4] {
    let half = lanes(|at| 0.5 * (a[at] + c[at]));
    let other = lanes(|at| 0.5 * b[at]);
    [
        *a,
        lanes(|at| half[at] + other[at]),
        lanes(|at| half[at] - other[at]),
        *c,
    ]
}

/// The four places of all tiles of a channel, `[4, tiles]`, from their forms, `[16, outputs, tiles]`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `wide`")]
fn unform(made: &[f32], (output, outputs): (usize, usize), places: &mut [f32]) {
    let tiles = places.len() / 4;
    let (upper, lower) = places.split_at_mut(2 * tiles);
    let (upper_left, upper_right) = upper.split_at_mut(tiles);
    let (lower_left, lower_right) = lower.split_at_mut(tiles);
    let blocks = upper_left
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(upper_right.as_chunks_mut().0);
    let more = lower_left
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(lower_right.as_chunks_mut().0);
    for (block, (upper, lower)) in blocks.zip(more).enumerate() {
        let form = |number: usize| -> Lanes {
            let start = (number * outputs + output) * tiles + block * LANES;
            let found = made.get(start..).and_then(|rest| rest.first_chunk());
            found.copied().unwrap_or_default()
        };
        let (mut above, mut below) = ([[0.0; LANES]; 4], [[0.0; LANES]; 4]);
        for (right, (above, below)) in above.iter_mut().zip(&mut below).enumerate() {
            let [a, b, c, d] = [
                form(right),
                form(4 + right),
                form(8 + right),
                form(12 + right),
            ];
            *above = lanes(|at| a[at] + b[at] + c[at]);
            *below = lanes(|at| b[at] - c[at] - d[at]);
        }
        for ([a, b, c, d], (left, right)) in [(above, upper), (below, lower)] {
            *left = lanes(|at| a[at] + b[at] + c[at]);
            *right = lanes(|at| b[at] - c[at] - d[at]);
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "see `wide`")]
fn lanes(number: impl Fn(usize) -> f32) -> Lanes {
    std::array::from_fn(number)
}
