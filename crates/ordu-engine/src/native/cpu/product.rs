//! Products of matrices.

#![expect(
    unsafe_code,
    reason = "the product takes bare addresses; what it may touch is checked before"
)]

use candle_core::{Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{PARALLEL, numbers, tensor};

/// A matrix that lies in other numbers.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next, from one column to the next.
    steps: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Row after row, `step` from the start of one to the start of the next.
    pub(super) fn rows(numbers: &'a [f32], (rows, columns): (usize, usize), step: usize) -> Self {
        Self {
            numbers,
            rows,
            columns,
            steps: (step, 1),
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            steps: (self.steps.1, self.steps.0),
            ..self
        }
    }

    /// How many numbers it reaches over.
    fn reach(self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.steps.0 + (self.columns - 1) * self.steps.1 + 1
    }
}

/// What becomes of what lies in the place of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// It is written over.
    Nothing,
    /// The product is added to it.
    WhatIsThere,
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    /// The thread that asks.
    This,
    /// All of the pool.
    All,
}

/// `left` times `right`, into rows of `to` that are `step` apart.
///
/// # Errors
///
/// If sizes do not fit.
pub(super) fn product(
    (to, step): (&mut [f32], usize),
    left: Matrix<'_>,
    right: Matrix<'_>,
    into: Into,
    threads: Threads,
) -> Result<()> {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    let place = Matrix::rows(to, (rows, columns), step);
    let fits = right.rows == depth && step >= columns;
    let inside = |matrix: Matrix<'_>| matrix.reach() <= matrix.numbers.len();
    if !(fits && inside(place) && inside(left) && inside(right)) {
        candle_core::bail!("{rows}x{depth} times {}x{columns} does not fit", right.rows);
    }
    #[cfg(any(feature = "mkl", feature = "accelerate"))]
    if super::product::blas::product((to, step), left, right, into) {
        return Ok(());
    }
    let steps = |steps: (usize, usize)| {
        let step = |step: usize| isize::try_from(step).map_err(candle_core::Error::wrap);
        Ok::<_, candle_core::Error>((step(steps.0)?, step(steps.1)?))
    };
    let (to_step, left_steps, right_steps) =
        (steps((step, 1))?, steps(left.steps)?, steps(right.steps)?);
    // SAFETY: the three matrices lie inside their slices, as checked above, and the one that is
    // written is borrowed for that alone.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            to.as_mut_ptr(),
            to_step.1,
            to_step.0,
            into == Into::WhatIsThere,
            left.numbers.as_ptr(),
            left_steps.1,
            left_steps.0,
            right.numbers.as_ptr(),
            right_steps.1,
            right_steps.0,
            1.0,
            1.0,
            false,
            false,
            false,
            match threads {
                Threads::This => Parallelism::None,
                Threads::All => Parallelism::Rayon(0),
            },
        );
    }
    Ok(())
}

/// `x` `[…, in]` times the transpose of `weight` `[out, in]`, and what is added to it: a row of
/// numbers, something shaped like the result.
pub(in crate::native) fn linear(
    x: &Tensor,
    weight: &Tensor,
    (bias, onto): (Option<&Tensor>, Option<&Tensor>),
) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if shape.pop() != Some(inputs) {
        candle_core::bail!(
            "{:?} times the transpose of {:?}",
            x.shape(),
            weight.shape()
        );
    }
    let rows = shape.iter().product::<usize>();
    shape.push(outputs);
    if onto.is_some_and(|onto| onto.dims() != shape) {
        candle_core::bail!("{shape:?} cannot be added to something shaped otherwise");
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let (x, weight) = (numbers(&x)?, numbers(&weight)?);
    let onto = onto.map(Tensor::contiguous).transpose()?;
    let onto = onto.as_ref().map(numbers).transpose()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(numbers).transpose()?;
    let into = if onto.is_some() || bias.is_some() {
        Into::WhatIsThere
    } else {
        Into::Nothing
    };
    let mut y = prepared(rows * outputs, bias.as_deref(), onto.as_deref());
    product(
        (&mut y, outputs),
        Matrix::rows(&x, (rows, inputs), inputs),
        Matrix::rows(&weight, (outputs, inputs), inputs).transposed(),
        into,
        Threads::All,
    )?;
    tensor(y, shape)
}

/// Numbers of `onto`, with `bias` added to each row of them.
fn prepared(count: usize, bias: Option<&[f32]>, onto: Option<&[f32]>) -> Vec<f32> {
    let mut y = match (bias, onto) {
        (None, Some(onto)) => return onto.to_vec(),
        _ => vec![0_f32; count],
    };
    let Some(bias) = bias.filter(|bias| !bias.is_empty()) else {
        return y;
    };
    let fill = |(row, to): (usize, &mut [f32])| match onto {
        None => to.copy_from_slice(bias),
        Some(onto) => {
            let from = onto.get(row * bias.len()..).unwrap_or_default();
            for ((to, from), bias) in to.iter_mut().zip(from).zip(bias) {
                *to = from + bias;
            }
        }
    };
    if count < PARALLEL {
        y.chunks_exact_mut(bias.len()).enumerate().for_each(fill);
    } else {
        let rows = y.par_chunks_exact_mut(bias.len()).with_min_len(64);
        rows.enumerate().for_each(fill);
    }
    y
}

/// The product of a library that was built in.
#[cfg(any(feature = "mkl", feature = "accelerate"))]
mod blas {
    use std::ffi::{c_char, c_int};

    use super::{Into, Matrix};

    // By the tensor library, which brings the library that has it.
    unsafe extern "C" {
        fn sgemm_(
            left_is: *const c_char,
            right_is: *const c_char,
            rows: *const c_int,
            columns: *const c_int,
            depth: *const c_int,
            alpha: *const f32,
            left: *const f32,
            left_step: *const c_int,
            right: *const f32,
            right_step: *const c_int,
            beta: *const f32,
            to: *mut f32,
            to_step: *const c_int,
        );
    }

    /// Whether it could be done. Sizes were checked.
    pub(super) fn product(
        (to, step): (&mut [f32], usize),
        left: Matrix<'_>,
        right: Matrix<'_>,
        into: Into,
    ) -> bool {
        let size = |size: usize| c_int::try_from(size).ok();
        // The library counts down columns. So it sees all three transposed, and the product turns
        // around.
        let seen = |matrix: Matrix<'_>| match matrix.steps {
            (down, 1) => Some((c_char::try_from(b'N').ok()?, size(down.max(1))?)),
            (1, right) => Some((c_char::try_from(b'T').ok()?, size(right.max(1))?)),
            _ => None,
        };
        let sizes = (size(left.rows), size(right.columns), size(left.columns));
        let (Some(first), Some(second), Some(to_step)) = (seen(right), seen(left), size(step))
        else {
            return false;
        };
        let (Some(rows), Some(columns), Some(depth)) = sizes else {
            return false;
        };
        let beta = if into == Into::WhatIsThere { 1.0 } else { 0.0 };
        // SAFETY: the matrices lie inside their slices, as was checked, and steps and sizes are theirs.
        unsafe {
            sgemm_(
                &raw const first.0,
                &raw const second.0,
                &raw const columns,
                &raw const rows,
                &raw const depth,
                &1.0,
                right.numbers.as_ptr(),
                &raw const first.1,
                left.numbers.as_ptr(),
                &raw const second.1,
                &raw const beta,
                to.as_mut_ptr(),
                &raw const to_step,
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that sums are exact.
    fn matrix(count: usize, seed: usize) -> Vec<f32> {
        let number = |at: usize| u8::try_from((at * 7 + seed * 13) % 11).unwrap_or_default();
        (0..count).map(|at| f32::from(number(at)) - 5.0).collect()
    }

    #[test]
    fn all_ways_to_lie_and_to_compute_give_one_product() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 5, 2), (17, 40, 33), (64, 9, 130)] {
            let (left, right) = (matrix(rows * depth, 1), matrix(depth * columns, 2));
            let mut wanted = vec![0.0; rows * columns];
            for row in 0..rows {
                for column in 0..columns {
                    wanted[row * columns + column] = (0..depth)
                        .map(|at| left[row * depth + at] * right[at * columns + column])
                        .sum();
                }
            }
            let mut turned = vec![0.0; depth * columns];
            for at in 0..depth {
                for column in 0..columns {
                    turned[column * depth + at] = right[at * columns + column];
                }
            }
            let left = Matrix::rows(&left, (rows, depth), depth);
            let plain = Matrix::rows(&right, (depth, columns), columns);
            let turned = Matrix::rows(&turned, (columns, depth), depth).transposed();
            let step = columns + 3;
            for right in [plain, turned] {
                for threads in [Threads::This, Threads::All] {
                    let mut to = vec![2.0; rows * step];
                    product((&mut to, step), left, right, Into::WhatIsThere, threads).unwrap();
                    product((&mut to, step), left, right, Into::Nothing, threads).unwrap();
                    product((&mut to, step), left, right, Into::WhatIsThere, threads).unwrap();
                    for (row, wanted) in to.chunks(step).zip(wanted.chunks(columns)) {
                        let twice: Vec<f32> = wanted.iter().map(|number| 2.0 * number).collect();
                        assert_eq!(row[..columns], twice);
                        assert_eq!(row[columns..].to_vec(), vec![2.0; 3]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let right = [0.0; 6];
        let ask = |to: &mut [f32], left: (usize, usize), right_shape: (usize, usize), step| {
            let left = Matrix::rows(&[0.0; 6], left, left.1);
            let right = Matrix::rows(&right, right_shape, right_shape.1);
            product((to, step), left, right, Into::Nothing, Threads::This)
        };
        assert!(ask(&mut [0.0; 4], (2, 3), (3, 2), 2).is_ok());
        assert!(ask(&mut [0.0; 3], (2, 3), (3, 2), 2).is_err());
        assert!(ask(&mut [0.0; 4], (2, 3), (2, 3), 2).is_err());
        assert!(ask(&mut [0.0; 4], (2, 3), (3, 2), 1).is_err());
        assert!(ask(&mut [0.0; 9], (3, 3), (3, 2), 2).is_err());
    }
}
