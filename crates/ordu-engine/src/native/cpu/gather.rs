//! Convolutions: which way each of them is computed, and the way that suits all. There, what the
//! kernel sees at each place is gathered into a column, and one product does the rest.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::product::{Into, Matrix, Threads, product};
use super::{PARALLEL, numbers, simd, tensor, winograd};
use crate::native::ops::{Edges, Geometry};

/// Numbers that are gathered at once. A large picture is worked off in bands of rows: gathered
/// whole, one layer of the decoder at 1024×1024 pixels would take 5 GB.
const MAX_GATHERED: usize = 4 * 1024 * 1024;

/// What a convolution is done to, and where its numbers lie.
#[derive(Clone, Copy)]
pub(super) struct Pictures<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) edges: Edges,
}

impl<'a> Pictures<'a> {
    /// One channel of one picture.
    pub(super) fn plane(&self, picture: usize, channel: usize) -> &'a [f32] {
        let pixels = self.height * self.width;
        let start = (picture * self.channels + channel) * pixels;
        self.numbers.get(start..start + pixels).unwrap_or_default()
    }
}

/// What is added to the result: a number for each channel of each picture, and a picture.
pub(super) struct Added<'a> {
    pub(super) shifts: Vec<f32>,
    pub(super) onto: Option<&'a [f32]>,
}

impl Added<'_> {
    /// For a plane, counted over all pictures: its number, and what lies from a place on.
    pub(super) fn of(&self, plane: usize, start: usize) -> (f32, Option<&[f32]>) {
        let onto = self.onto.map(|onto| onto.get(start..).unwrap_or_default());
        (self.shifts.get(plane).copied().unwrap_or_default(), onto)
    }
}

/// `[batch, in, h, w]` to `[batch, out, h', w']`, for weights `[out, kernel * kernel * in]`. What is
/// added is a number for each channel `[1, out]` or `[batch, out]`, and something shaped like the
/// result.
pub(in crate::native) fn convolution(
    x: &Tensor,
    weight: &Tensor,
    (geometry, edges): (Geometry, Edges),
    (shift, onto): (&Tensor, Option<&Tensor>),
) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (outputs, seen) = weight.dims2()?;
    let shape = [
        batch,
        outputs,
        geometry.output(height),
        geometry.output(width),
    ];
    if seen != channels * geometry.kernel * geometry.kernel {
        candle_core::bail!(
            "{:?} is no picture for weights {:?}",
            x.shape(),
            weight.shape()
        );
    }
    if onto.is_some_and(|onto| onto.dims() != shape) {
        candle_core::bail!("{shape:?} cannot be added to something shaped otherwise");
    }
    let (x, shift) = (x.contiguous()?, shift.contiguous()?);
    let onto = onto.map(Tensor::contiguous).transpose()?;
    let (x, weight, shift) = (numbers(&x)?, numbers(weight)?, numbers(&shift)?);
    let onto = onto.as_ref().map(numbers).transpose()?;
    let x = Pictures {
        numbers: &x,
        batch,
        channels,
        height,
        width,
        edges,
    };
    let shifts = shift.iter().copied().cycle().take(batch * outputs);
    let added = Added {
        shifts: shifts.collect(),
        onto: onto.as_deref(),
    };
    let mut y = vec![0_f32; shape.iter().product()];
    if y.is_empty() {
        return tensor(y, &shape);
    }
    if geometry == Geometry::POINT {
        point((&x, &weight), &added, &mut y)?;
    } else if geometry == Geometry::SAME && winograd::pays(&x, outputs) {
        winograd::convolve((&x, &weight), &added, (&mut y, outputs))?;
    } else {
        gathered(
            &Gather::new(x, geometry),
            &weight,
            &added,
            (&mut y, outputs),
        )?;
    }
    tensor(y, &shape)
}

/// Where the kernel covers one pixel, pictures are matrices already.
fn point((x, weight): (&Pictures<'_>, &[f32]), added: &Added<'_>, y: &mut [f32]) -> Result<()> {
    let pixels = x.height * x.width;
    let outputs = weight.len() / x.channels.max(1);
    let planes = y.par_chunks_exact_mut(pixels).enumerate();
    planes
        .with_min_len(PARALLEL.div_ceil(pixels))
        .for_each(|(plane, y)| {
            let (shift, onto) = added.of(plane, plane * pixels);
            match onto {
                Some(onto) => {
                    for (y, onto) in y.iter_mut().zip(onto) {
                        *y = onto + shift;
                    }
                }
                None => y.fill(shift),
            }
        });
    let pictures = y.chunks_exact_mut(outputs * pixels);
    for (y, x_numbers) in pictures.zip(x.numbers.chunks_exact(x.channels * pixels)) {
        product(
            (y, pixels),
            Matrix::rows(weight, (outputs, x.channels), x.channels),
            Matrix::rows(x_numbers, (x.channels, pixels), pixels),
            Into::WhatIsThere,
            Threads::All,
        )?;
    }
    Ok(())
}

/// What lies at one end of the rows is gathered, multiplied, and put into place.
fn gathered(
    gather: &Gather<'_>,
    weight: &[f32],
    added: &Added<'_>,
    (y, outputs): (&mut [f32], usize),
) -> Result<()> {
    let (batch, seen) = (gather.x.batch, weight.len() / outputs.max(1));
    let (all_rows, columns) = (gather.rows, gather.columns);
    let band = (MAX_GATHERED / (seen * batch * columns).max(1)).clamp(1, all_rows);
    let mut seen_there = vec![0_f32; seen * batch * band * columns];
    let mut made = vec![0_f32; outputs * batch * band * columns];
    for first in (0..all_rows).step_by(band) {
        let rows = band.min(all_rows - first);
        let places = batch * rows * columns;
        let (seen_there, _) = seen_there.split_at_mut(seen * places);
        let (made, _) = made.split_at_mut(outputs * places);
        gather.band((first, rows), seen_there);
        // All pictures of the batch side by side: one wide product is faster than several narrow ones.
        product(
            (made, places),
            Matrix::rows(weight, (outputs, seen), seen),
            Matrix::rows(seen_there, (seen, places), places),
            Into::Nothing,
            Threads::All,
        )?;
        let each = all_rows * columns;
        let planes = y.par_chunks_exact_mut(each).enumerate();
        planes
            .with_min_len(PARALLEL.div_ceil(rows * columns))
            .for_each(|(plane, y)| {
                let (picture, output) = (plane / outputs, plane % outputs);
                let start = output * places + picture * rows * columns;
                let made = made.get(start..start + rows * columns).unwrap_or_default();
                let (shift, onto) = added.of(plane, plane * each + first * columns);
                let y = y.get_mut(first * columns..(first + rows) * columns);
                let y = y.unwrap_or_default();
                y.copy_from_slice(made);
                match onto {
                    Some(onto) => simd::added(y, onto, shift),
                    None => simd::shifted(made, y, (1.0, shift)),
                }
            });
    }
    Ok(())
}

/// Gathers what a kernel sees.
struct Gather<'a> {
    x: Pictures<'a>,
    geometry: Geometry,
    /// Of the result.
    rows: usize,
    columns: usize,
}

impl<'a> Gather<'a> {
    fn new(x: Pictures<'a>, geometry: Geometry) -> Self {
        Self {
            x,
            geometry,
            rows: geometry.output(x.height),
            columns: geometry.output(x.width),
        }
    }

    /// `[kernel * kernel * in, batch * rows * columns]` for some rows of the result: each column is
    /// what the kernel sees at one place.
    fn band(&self, (first, rows): (usize, usize), to: &mut [f32]) {
        let places = rows * self.columns;
        let fill = |(number, lines): (usize, &mut [f32])| {
            let (tap, channel) = (number / self.x.channels, number % self.x.channels);
            for (picture, lines) in lines.chunks_exact_mut(places).enumerate() {
                self.fill((first, lines), tap, self.x.plane(picture, channel));
            }
        };
        let each = self.x.batch * places;
        let lines = to.par_chunks_exact_mut(each).enumerate();
        lines.with_min_len(PARALLEL.div_ceil(each)).for_each(fill);
    }

    /// What one tap sees of a plane; zero where that is beyond the edge.
    fn fill(&self, (first, lines): (usize, &mut [f32]), tap: usize, plane: &[f32]) {
        let (tap_y, tap_x) = (tap / self.geometry.kernel, tap % self.geometry.kernel);
        for (row, line) in (first..).zip(lines.chunks_exact_mut(self.columns)) {
            let from = self
                .place(row, tap_y, self.x.height)
                .and_then(|at| plane.get(at * self.x.width..(at + 1) * self.x.width));
            match from {
                Some(from) => self.fill_line(line, from, tap_x),
                None => line.fill(0.0),
            }
        }
    }

    /// Where in a picture of this side a tap of the kernel falls, if not beyond the edge.
    fn place(&self, step: usize, tap: usize, side: usize) -> Option<usize> {
        let padded = step * self.geometry.stride + tap;
        match self.x.edges {
            Edges::Zero => padded
                .checked_sub(self.geometry.before)
                .filter(|at| *at < side),
            // A side shorter than what is to be added goes round more than once.
            Edges::Wrap => {
                Some((padded + side * self.geometry.before - self.geometry.before) % side)
            }
        }
    }

    /// One line of the picture as one tap sees it.
    fn fill_line(&self, line: &mut [f32], from: &[f32], tap: usize) {
        let before = self.geometry.before;
        if self.geometry.stride == 1 && self.x.edges == Edges::Zero {
            // The common case is a shifted copy.
            let skip = before.saturating_sub(tap).min(line.len());
            let (outside, line) = line.split_at_mut(skip);
            outside.fill(0.0);
            let from = from.get(tap.saturating_sub(before)..).unwrap_or_default();
            let (inside, outside) = line.split_at_mut(from.len().min(line.len()));
            inside.copy_from_slice(from.get(..inside.len()).unwrap_or_default());
            outside.fill(0.0);
            return;
        }
        for (step, to) in line.iter_mut().enumerate() {
            let value = self
                .place(step, tap, from.len())
                .and_then(|at| from.get(at));
            *to = value.copied().unwrap_or(0.0);
        }
    }
}
