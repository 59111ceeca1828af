//! Attention without a matrix of scores.
//!
//! Some queries at a time walk over the keys in parts. Each part's scores become weights right away;
//! what was summed up so far is scaled down when a larger score turns up.
//!
//! # Source
//! Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
//! "FlashAttention", § 3.1.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::product::{Into, Matrix, Threads, product};
use super::{numbers, pointwise, simd, tensor};

/// Queries that walk together at most, and keys that they look at together: their scores, half a
/// megabyte, stay in the second cache.
const QUERIES: usize = 256;
const KEYS: usize = 512;
/// So few queries are not split any further.
const FEW_QUERIES: usize = 16;

/// Sizes of an attention.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Of one head.
    width: usize,
}

impl Sizes {
    /// The width of all heads together.
    fn whole(self) -> usize {
        self.heads * self.width
    }

    /// Queries that walk together: fewer, if otherwise threads would have nothing to do.
    fn walking(self) -> usize {
        let shares = 2 * rayon::current_num_threads();
        let share = (self.batch * self.queries).div_ceil(shares);
        share
            .next_multiple_of(FEW_QUERIES)
            .clamp(FEW_QUERIES, QUERIES)
    }
}

/// `softmax(q kᵀ / √d + mask) v` as in [`crate::native::ops::attention`].
pub(in crate::native) fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, whole) = q.dims3()?;
    let (_, keys, _) = k.dims3()?;
    let sizes = Sizes {
        batch,
        queries,
        keys,
        heads,
        width: whole / heads.max(1),
    };
    if k.dims3()? != (batch, keys, whole) || v.dims3()? != (batch, keys, whole) {
        candle_core::bail!("{:?} cannot attend to {:?}", q.shape(), k.shape());
    }
    if sizes.whole() != whole || keys == 0 {
        candle_core::bail!("{heads} heads over {whole} numbers and {keys} keys");
    }
    if mask.is_some_and(|mask| mask.dims() != [queries, keys]) {
        candle_core::bail!("a mask for {queries} queries and {keys} keys is shaped otherwise");
    }
    let mask = mask.map(Tensor::contiguous).transpose()?;
    let mask = mask.as_ref().map(numbers).transpose()?;
    // Keys with their numbers one below the other: products want them so, and each is used often.
    let turned = pointwise::swapped(k)?;
    let (q, v) = (q.contiguous()?, v.contiguous()?);
    let (q, turned, v) = (numbers(&q)?, numbers(&turned)?, numbers(&v)?);
    let (walking, whole) = (sizes.walking(), sizes.whole());
    let mut y = vec![0_f32; q.len()];
    let blocks = y
        .chunks_mut((queries * whole).max(1))
        .enumerate()
        .flat_map(|(picture, y)| {
            let blocks = y.chunks_mut(walking * whole).enumerate();
            blocks.map(move |(block, y)| (picture, block * walking, y))
        });
    let blocks: Vec<_> = blocks.collect();
    let attend = |scratch: &mut Scratch, (picture, first, y): (usize, usize, &mut [f32])| {
        let part = |x: &[f32]| -> Result<(usize, usize)> {
            let each = keys * whole;
            let range = (picture * each, (picture + 1) * each);
            x.get(range.0..range.1).map(|_| range).ok_or_else(beyond)
        };
        let (start, end) = part(&v)?;
        let start_q = (picture * queries + first) * whole;
        let seen = Seen {
            q: q.get(start_q..start_q + y.len()).ok_or_else(beyond)?,
            k: turned.get(start..end).ok_or_else(beyond)?,
            v: v.get(start..end).ok_or_else(beyond)?,
            mask: mask.as_ref().and_then(|mask| mask.get(first * keys..)),
        };
        scratch.walk(sizes, &seen, y)
    };
    blocks
        .into_par_iter()
        .try_for_each_init(|| Scratch::new(sizes), attend)?;
    tensor(y, (batch, queries, whole))
}

fn beyond() -> candle_core::Error {
    candle_core::Error::Msg("an attention reaches beyond its tensors".to_owned())
}

/// What some queries of one picture look at.
struct Seen<'a> {
    /// `[walking, whole]`.
    q: &'a [f32],
    /// `[whole, keys]`.
    k: &'a [f32],
    /// `[keys, whole]`.
    v: &'a [f32],
    /// `[walking, keys]`.
    mask: Option<&'a [f32]>,
}

/// Room of one thread.
struct Scratch {
    /// `[walking, keys]` of one head and one part of the keys.
    scores: Vec<f32>,
    /// Of each query the largest score so far and the sum of weights.
    found: Vec<(f32, f32)>,
}

impl Scratch {
    fn new(sizes: Sizes) -> Self {
        Self {
            scores: vec![0.0; sizes.walking() * KEYS.min(sizes.keys)],
            found: vec![(0.0, 0.0); sizes.walking()],
        }
    }

    /// All heads of some queries.
    fn walk(&mut self, sizes: Sizes, seen: &Seen<'_>, y: &mut [f32]) -> Result<()> {
        for head in 0..sizes.heads {
            self.found.fill((f32::NEG_INFINITY, 0.0));
            for first in (0..sizes.keys).step_by(KEYS) {
                self.look(sizes, seen, (head, first), y)?;
            }
            let start = head * sizes.width;
            for (y, (_, sum)) in y.chunks_exact_mut(sizes.whole()).zip(&self.found) {
                let y = y.get_mut(start..start + sizes.width).ok_or_else(beyond)?;
                simd::scaled(y, 1.0 / sum);
            }
        }
        Ok(())
    }

    /// One head of some queries looks at one part of the keys.
    fn look(
        &mut self,
        sizes: Sizes,
        seen: &Seen<'_>,
        (head, first): (usize, usize),
        y: &mut [f32],
    ) -> Result<()> {
        let (width, whole) = (sizes.width, sizes.whole());
        let (start, keys) = (head * width, KEYS.min(sizes.keys - first));
        let queries = y.len() / whole;
        let from = |x: &'_ [f32], at: usize| x.len().min(at);
        let q = seen.q.split_at(from(seen.q, start)).1;
        let k_at = start * sizes.keys + first;
        let k = seen.k.split_at(from(seen.k, k_at)).1;
        let v_at = first * whole + start;
        let v = seen.v.split_at(from(seen.v, v_at)).1;
        product(
            (&mut self.scores, keys),
            Matrix::rows(q, (queries, width), whole),
            Matrix::rows(k, (width, keys), sizes.keys),
            Into::Nothing,
            Threads::This,
        )?;
        let scale = 1.0 / (width as f32).sqrt();
        let rows = self.scores.chunks_exact_mut(keys).zip(&mut self.found);
        for (row, ((scores, found), y)) in rows.zip(y.chunks_exact_mut(whole)).enumerate() {
            simd::scaled(scores, scale);
            if let Some(mask) = seen.mask {
                let mask = mask.get(row * sizes.keys + first..).unwrap_or_default();
                simd::added(scores, mask, 0.0);
            }
            let most = found.0.max(simd::largest(scores));
            // A row of which nothing is seen yet has no largest score to be measured by.
            let most = if most == f32::NEG_INFINITY { 0.0 } else { most };
            let sum = simd::exp_below(scores, most);
            if first > 0 && most > found.0 {
                let shrink = (found.0 - most).exp();
                found.1 *= shrink;
                let y = y.get_mut(start..start + width).ok_or_else(beyond)?;
                simd::scaled(y, shrink);
            }
            *found = (most, found.1 + sum);
        }
        let y = y.get_mut(start..).ok_or_else(beyond)?;
        product(
            (y, whole),
            Matrix::rows(&self.scores, (queries, keys), keys),
            Matrix::rows(v, (keys, width), whole),
            if first == 0 {
                Into::Nothing
            } else {
                Into::WhatIsThere
            },
            Threads::This,
        )
    }
}
