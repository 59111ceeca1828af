//! Normalisation.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{PARALLEL, numbers, simd, tensor};
use crate::native::ops::Followed;

/// Mean and one over standard deviation.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the results are applied to f32 numbers"
)]
fn statistics(x: &[f32], epsilon: f64) -> (f32, f32) {
    let count = x.len().max(1) as f64;
    let (sum, squares) = simd::sums(x);
    let mean = sum / count;
    let variance = (squares / count - mean * mean).max(0.0);
    (mean as f32, (1.0 / (variance + epsilon).sqrt()) as f32)
}

/// `[batch, channels, …]` to the same shape: mean, spread, scale, shift and activation of one group
/// while it is in cache.
pub(in crate::native) fn group_norm(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (groups, epsilon): (usize, f64),
    followed: Followed,
) -> Result<Tensor> {
    let shape = x.dims().to_vec();
    let batch = x.dim(0)?;
    let x = x.contiguous()?;
    let (x, weight, bias) = (numbers(&x)?, numbers(weight)?, numbers(bias)?);
    let channels = weight.len();
    let pixels = x.len() / (batch * channels).max(1);
    let per_group = channels / groups.max(1);
    let mut y = vec![0_f32; x.len()];
    let each = (per_group * pixels).max(1);
    let normalise = |(number, (y, x)): (usize, (&mut [f32], &[f32]))| {
        let first = (number % groups) * per_group;
        let (mean, inverse) = statistics(x, epsilon);
        let channels = weight.iter().zip(bias.iter()).skip(first);
        let planes = x
            .chunks_exact(pixels.max(1))
            .zip(y.chunks_exact_mut(pixels.max(1)));
        for ((x, y), (weight, bias)) in planes.zip(channels) {
            let scale = weight * inverse;
            let numbers = (scale, bias - mean * scale);
            match followed {
                Followed::ByNothing => simd::shifted(x, y, numbers),
                Followed::BySilu => simd::shifted_silu(x, y, numbers),
            }
        }
    };
    let all = y.par_chunks_exact_mut(each).zip(x.par_chunks_exact(each));
    let few = PARALLEL.div_ceil(each);
    all.enumerate().with_min_len(few).for_each(normalise);
    tensor(y, shape)
}

/// `[…, width]` to the same shape.
pub(in crate::native) fn layer_norm(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    epsilon: f32,
) -> Result<Tensor> {
    let shape = x.dims().to_vec();
    let x = x.contiguous()?;
    let (x, weight, bias) = (numbers(&x)?, numbers(weight)?, numbers(bias)?);
    let width = weight.len().max(1);
    if !x.len().is_multiple_of(width) || shape.last() != Some(&width) {
        candle_core::bail!("rows of {shape:?} are not {width} wide");
    }
    let mut y = vec![0_f32; x.len()];
    let rows = y.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width));
    rows.with_min_len(PARALLEL.div_ceil(width))
        .for_each(|(y, x)| {
            let statistics = statistics(x, f64::from(epsilon));
            simd::normalised((x, y), statistics, (&weight, &bias));
        });
    tensor(y, shape)
}
