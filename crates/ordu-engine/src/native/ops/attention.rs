//! Scaled dot-product attention (Vaswani et al. 2017) with several heads.

use candle_core::{D, Result, Tensor};

#[cfg(feature = "cuda")]
use crate::native::gpu;

/// Queries times keys that are held at once, per head. Above it, queries are worked off in slices,
/// so that a large picture never needs its full matrix of tokens times tokens.
const MAX_SCORES: usize = 1024 * 1024;
/// The same on other devices, where few large products are faster, of all heads together.
const MAX_SCORES_ELSEWHERE: usize = 128 * 1024 * 1024;

/// `softmax(q kᵀ / √d + mask) v`.
///
/// `q` is `[batch, queries, heads * d]`, `k` and `v` are `[batch, keys, heads * d]`, `mask` is
/// `[queries, keys]` and is added to the scores; the result is shaped like `q`.
///
/// # Errors
///
/// Those of the tensor library.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if q.device().is_cuda()
        && mask.is_none()
        && let Some(y) = gpu::attention(q, k, v, heads)?
    {
        return Ok(y);
    }
    composed(q, k, v, heads, mask)
}

fn composed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let scale = 1.0 / f64::sqrt((width / heads) as f64);
    let split = |x: &Tensor, tokens: usize| {
        x.reshape((batch, tokens, heads, width / heads))?
            .transpose(1, 2)?
            .contiguous()
    };
    let q = split(&(q * scale)?, queries)?;
    let k = split(k, keys)?.transpose(2, 3)?;
    let v = split(v, keys)?;
    let rows = if q.device().is_cpu() {
        (MAX_SCORES / keys).max(1)
    } else {
        (MAX_SCORES_ELSEWHERE / (keys * batch * heads)).max(1)
    };
    let mut slices = Vec::new();
    for start in (0..queries).step_by(rows) {
        let length = rows.min(queries - start);
        let scores = q
            .narrow(D::Minus2, start, length)?
            .contiguous()?
            .matmul(&k)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.narrow(0, start, length)?)?,
            None => scores,
        };
        slices.push(candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?);
    }
    let y = if slices.len() == 1 {
        slices.remove(0)
    } else {
        Tensor::cat(&slices, D::Minus2)?
    };
    y.transpose(1, 2)?.reshape((batch, queries, width))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn slices_give_what_the_whole_gives() {
        // 1500 tokens squared are above the limit, 750 queries by 1500 keys are above it as well:
        // two to three slices.
        let tokens = 1500;
        let wave = |phase: f32| {
            let numbers: Vec<f32> = (0_u16..1500 * 4)
                .map(|i| (f32::from(i) * 0.37 + phase).sin())
                .collect();
            Tensor::from_vec(numbers, (1, tokens, 4), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (wave(0.0), wave(1.0), wave(2.0));
        let sliced = attention(&q, &k, &v, 2, None).unwrap();
        let first = attention(&q.narrow(1, 0, 100).unwrap(), &k, &v, 2, None).unwrap();
        let last = attention(&q.narrow(1, 1400, 100).unwrap(), &k, &v, 2, None).unwrap();
        for (start, small) in [(0, first), (1400, last)] {
            let difference = (sliced.narrow(1, start, 100).unwrap() - small).unwrap();
            let worst = difference
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(worst < 1e-6, "{worst}");
        }
    }
}
