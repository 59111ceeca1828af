//! What is done row by row, by the thread that asks.
//!
//! The tensor library has all of this, too, but hands each row to a pool of threads. For a single token that
//! costs more than the work, and on a busy machine much more.

use candle_core::{D, Result, Tensor};

/// Numbers from which on threads are worth it.
const MANY: usize = 1 << 16;

/// A tensor whose rows were worked on, each with its number.
pub(super) fn each_row(x: &Tensor, work: impl Fn(usize, &mut [f32])) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let mut numbers = x.flatten_all()?.to_vec1::<f32>()?;
    for (place, row) in numbers.chunks_exact_mut(width).enumerate() {
        work(place, row);
    }
    Tensor::from_vec(numbers, x.shape(), x.device())
}

/// Rows divided by the root of the mean of their squares, times `weight`.
pub(super) fn norm(x: &Tensor, weight: &[f32], epsilon: f32) -> Result<Tensor> {
    each_row(x, |_, row| {
        let squares: f32 = row.iter().map(|number| number * number).sum();
        let factor = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
        for (number, weight) in row.iter_mut().zip(weight) {
            *number *= factor * weight;
        }
    })
}

/// Rows as probabilities.
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() >= MANY {
        return candle_nn::ops::softmax_last_dim(x);
    }
    each_row(x, |_, row| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for number in row.iter_mut() {
            *number = (*number - most).exp();
            sum += *number;
        }
        for number in row {
            *number /= sum;
        }
    })
}
