//! Scaled dot-product attention (Vaswani et al. 2017) with several heads.

use candle_core::{D, Result, Tensor};

use crate::native::cpu;
#[cfg(feature = "cuda")]
use crate::native::gpu;

/// Queries times keys of all heads that are held at once where attention is composed of products.
/// Above it, queries are worked off in slices, so that a large picture never needs its full matrix of
/// tokens times tokens.
const MAX_SCORES: usize = 128 * 1024 * 1024;

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
    if q.device().is_cpu() {
        return cpu::attention((q, k, v), heads, mask);
    }
    #[cfg(feature = "cuda")]
    if q.device().is_cuda()
        && mask.is_none()
        && let Some(y) = gpu::attention(q, k, v, heads)?
    {
        return Ok(y);
    }
    composed((q, k, v), heads, mask, MAX_SCORES)
}

fn composed(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    mask: Option<&Tensor>,
    most: usize,
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
    let rows = (most / (keys * batch * heads).max(1)).max(1);
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

    fn wave(shape: [usize; 3], phase: f32) -> Tensor {
        let count = u16::try_from(shape.iter().product::<usize>()).unwrap();
        let numbers: Vec<f32> = (0..count)
            .map(|at| (f32::from(at) * 0.37 + phase).sin())
            .collect();
        Tensor::from_vec(numbers, &shape, &Device::Cpu).unwrap()
    }

    fn worst(left: &Tensor, right: &Tensor) -> f32 {
        let difference = (left - right).unwrap().abs().unwrap();
        difference.max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn slices_give_what_the_whole_gives() {
        let (q, k, v) = (
            wave([2, 300, 12], 0.0),
            wave([2, 200, 12], 1.0),
            wave([2, 200, 12], 2.0),
        );
        let whole = composed((&q, &k, &v), 3, None, MAX_SCORES).unwrap();
        let sliced = composed((&q, &k, &v), 3, None, 70 * 200 * 6).unwrap();
        assert!(worst(&whole, &sliced) < 1e-6);
    }

    #[test]
    fn our_way_gives_what_the_composed_way_gives() {
        // Parts of queries and keys that are full and that are not, and scores up to some hundreds.
        for (queries, keys, steep) in [
            (1, 1, 1.0),
            (77, 77, 3.0),
            (300, 1100, 1.0),
            (513, 40, 200.0),
        ] {
            let q = (wave([2, queries, 20], 0.0) * steep).unwrap();
            let (k, v) = (wave([2, keys, 20], 1.0), wave([2, keys, 20], 2.0));
            let beyond = (0..queries * keys).map(|at| {
                let (query, key) = (at / keys, at % keys);
                if key > query { f32::NEG_INFINITY } else { 0.0 }
            });
            let mask = Tensor::from_iter(beyond, &Device::Cpu).unwrap();
            let mask = mask.reshape((queries, keys)).unwrap();
            for mask in [None, Some(&mask)] {
                let ours = attention(&q, &k, &v, 5, mask).unwrap();
                let wanted = composed((&q, &k, &v), 5, mask, MAX_SCORES).unwrap();
                assert!(worst(&ours, &wanted) < 3e-6, "{queries} {keys}");
            }
        }
    }

    #[test]
    fn a_score_that_grows_from_part_to_part_takes_all_the_weight() {
        let keys = 1300;
        let rising = Tensor::arange(0_f32, 1300.0, &Device::Cpu).unwrap();
        let k = rising.reshape((1, keys, 1)).unwrap();
        let q = Tensor::ones((1, 3, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let y = attention(&q, &k, &k, 1, None).unwrap();
        for number in y.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
            // The mean of a geometric series that falls by e.
            assert!((number - (1299.0 - 0.581_976_7)).abs() < 1e-3, "{number}");
        }
    }
}
