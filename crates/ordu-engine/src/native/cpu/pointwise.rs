//! Work on each number by itself, and numbers that change places.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::{PARALLEL, numbers, simd, tensor};

/// `[…, 2 n]` to `[…, n]`: the left half times the GELU of the right half.
pub(in crate::native) fn gated_gelu(x: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = x.dim(D::Minus1)? / 2;
    shape.pop();
    shape.push(width);
    let x = x.contiguous()?;
    let x = numbers(&x)?;
    let mut y = vec![0_f32; x.len() / 2];
    if width == 0 {
        return tensor(y, shape);
    }
    let rows = y
        .par_chunks_exact_mut(width)
        .zip(x.par_chunks_exact(2 * width));
    rows.with_min_len((PARALLEL / width).max(1))
        .for_each(|(y, x)| {
            let (x, gate) = x.split_at(width);
            simd::gated_gelu(x, gate, y);
        });
    tensor(y, shape)
}

/// Each number, or a part of it where it is below zero.
#[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
pub(in crate::native) fn leaky(x: &Tensor, slope: f64) -> Result<Tensor> {
    let shape = x.dims().to_vec();
    let x = x.contiguous()?;
    let x = numbers(&x)?;
    let mut y = vec![0_f32; x.len()];
    let parts = y.par_chunks_mut(PARALLEL).zip(x.par_chunks(PARALLEL));
    parts.for_each(|(y, x)| simd::leaky(x, y, slope as f32));
    tensor(y, shape)
}

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
pub(in crate::native) fn swapped(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns) = x.dims3()?;
    let x = x.contiguous()?;
    let x = numbers(&x)?;
    let mut y = vec![0_f32; x.len()];
    let each = rows * columns;
    if each > 0 {
        for (x, y) in x.chunks_exact(each).zip(y.chunks_exact_mut(each)) {
            swap((x, columns), (y, rows));
        }
    }
    tensor(y, (batch, columns, rows))
}

/// Rows become columns; each of the two is given with the length of its rows.
pub(super) fn swap((x, columns): (&[f32], usize), (y, rows): (&mut [f32], usize)) {
    /// Squares of this side lie in the nearest cache, whichever way they are walked.
    const SIDE: usize = 16;
    let strip = |(strip, y): (usize, &mut [f32])| {
        let first = strip * SIDE;
        for start in (0..rows).step_by(SIDE) {
            let end = (start + SIDE).min(rows);
            for (column, y) in (first..).zip(y.chunks_exact_mut(rows)) {
                let from = x.iter().skip(start * columns + column).step_by(columns);
                let to = y.get_mut(start..end).unwrap_or_default();
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
    };
    let strips = y.par_chunks_mut((SIDE * rows).max(1));
    let few = PARALLEL.div_ceil((SIDE * rows).max(1));
    strips.with_min_len(few).enumerate().for_each(strip);
}

/// `[b, c, h, w]` at another size, each pixel the nearest one.
pub(in crate::native) fn enlarge(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, channels, old_height, old_width) = x.dims4()?;
    let x = x.contiguous()?;
    let x = numbers(&x)?;
    let mut y = vec![0_f32; batch * channels * height * width];
    let from =
        |at: usize, old: usize, new: usize| (at * old / new.max(1)).min(old.saturating_sub(1));
    let columns: Vec<usize> = (0..width).map(|at| from(at, old_width, width)).collect();
    let doubled = width == 2 * old_width;
    if height * width > 0 && old_height * old_width > 0 {
        let planes = y.par_chunks_exact_mut(height * width);
        let planes = planes.zip(x.par_chunks_exact(old_height * old_width));
        planes
            .with_min_len(PARALLEL.div_ceil(height * width))
            .for_each(|(y, x)| {
                for (row, y) in y.chunks_exact_mut(width).enumerate() {
                    let start = from(row, old_height, height) * old_width;
                    let x = x.get(start..start + old_width).unwrap_or_default();
                    if doubled {
                        for (y, x) in y.as_chunks_mut::<2>().0.iter_mut().zip(x) {
                            *y = [*x, *x];
                        }
                    } else {
                        for (y, at) in y.iter_mut().zip(&columns) {
                            *y = x.get(*at).copied().unwrap_or_default();
                        }
                    }
                }
            });
    }
    tensor(y, (batch, channels, height, width))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn counted(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>();
        let count = f32::from(u16::try_from(count).unwrap());
        let line = Tensor::arange(0_f32, count, &Device::Cpu).unwrap();
        line.reshape(shape).unwrap()
    }

    fn same(left: &Tensor, right: &Tensor) {
        assert_eq!(left.dims(), right.dims());
        let line = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(line(left), line(right));
    }

    #[test]
    fn rows_become_columns() {
        for shape in [[1, 1, 1], [2, 3, 5], [3, 16, 33], [1, 70, 129]] {
            let x = counted(&shape);
            let wanted = x.transpose(1, 2).unwrap().contiguous().unwrap();
            same(&swapped(&x).unwrap(), &wanted);
        }
    }

    #[test]
    fn pixels_are_the_nearest_ones() {
        for (shape, height, width) in [
            ([2, 3, 4, 5], 8, 10),
            ([1, 2, 5, 3], 10, 5),
            ([1, 1, 7, 9], 13, 17),
            ([1, 2, 4, 4], 4, 4),
        ] {
            let x = counted(&shape);
            let wanted = x.upsample_nearest2d(height, width).unwrap();
            same(&enlarge(&x, height, width).unwrap(), &wanted);
        }
    }

    #[test]
    fn what_is_below_zero_leaks() {
        let x = (counted(&[1, 1, 5, 9]) - 20.0).unwrap();
        let wanted = x.maximum(&(&x * 0.25).unwrap()).unwrap();
        same(&leaky(&x, 0.25).unwrap(), &wanted);
    }
}
