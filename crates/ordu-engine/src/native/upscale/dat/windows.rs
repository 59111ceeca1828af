//! Attention inside of windows, half of the channels in lying ones, half in standing ones.

use candle_core::{D, Device, Result, Tensor};

use super::super::super::ops::{LayerNorm, Linear};
use super::super::super::weights::{Scope, Weights};
use crate::EngineError;

/// Queries times keys that are held at once, of all heads.
const MAX_SCORES: usize = 16 * 1024 * 1024;
/// What separates pixels that only came together because a picture was moved.
const APART: f32 = -100.0;
/// No known network has larger windows.
const MAX_SIDE: usize = 64;

/// The sides of a window: of the first half of the channels height and width, of the second half the
/// other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    sides: [usize; 2],
}

impl Split {
    /// What the file tells by the farthest that two pixels of a window are apart.
    pub(super) fn of(weights: &Weights) -> std::result::Result<Option<Self>, EngineError> {
        let Some(entry) = weights.get("layers.0.blocks.0.attn.attns.0.rpe_biases") else {
            return Ok(None);
        };
        let numbers = entry
            .to_f32(&Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let [.., down, right] = numbers[..] else {
            return Ok(None);
        };
        let side =
            |most: f32| (2..=MAX_SIDE).find(|side| (most - (*side as f32 - 1.0)).abs() < 0.1);
        Ok(side(down).zip(side(right)).map(|(down, right)| Self {
            sides: [down, right],
        }))
    }

    /// Height and width of the windows of a half.
    fn window(self, half: usize) -> (usize, usize) {
        let [down, right] = self.sides;
        if half == 0 {
            (down, right)
        } else {
            (right, down)
        }
    }

    /// By how much a half is moved, down and to the right.
    fn moved(self, half: usize) -> (usize, usize) {
        let (down, right) = self.window(half);
        (down / 2, right / 2)
    }

    /// A size in whole windows of both kinds.
    fn whole(self, (height, width): (usize, usize)) -> (usize, usize) {
        let longest = self.sides[0].max(self.sides[1]);
        (
            height.next_multiple_of(longest),
            width.next_multiple_of(longest),
        )
    }
}

/// What keeps pixels apart in windows that were moved: `[windows, 1, n, n]` for each half.
#[derive(Clone, Debug)]
pub(super) struct Masks([Tensor; 2]);

impl Masks {
    /// For pictures of a size, like a tensor.
    pub(super) fn new(split: Split, size: (usize, usize), like: &Tensor) -> Result<Self> {
        let (height, width) = split.whole(size);
        let mask = |half: usize| {
            let (down, right) = split.window(half);
            let (by_down, by_right) = split.moved(half);
            // Three stripes along each side: what was not moved, and the two parts of the last windows.
            let stripe = |at: usize, side: usize, window: usize, by: usize| {
                usize::from(at >= side - window) + usize::from(at >= side - by)
            };
            let mut numbers = Vec::new();
            for top in (0..height).step_by(down) {
                for left in (0..width).step_by(right) {
                    let stripes: Vec<usize> = (0..down * right)
                        .map(|place| {
                            let (y, x) = (top + place / right, left + place % right);
                            let row = stripe(y, height, down, by_down);
                            row * 3 + stripe(x, width, right, by_right)
                        })
                        .collect();
                    for one in &stripes {
                        numbers.extend(
                            stripes
                                .iter()
                                .map(|other| if one == other { 0.0 } else { APART }),
                        );
                    }
                }
            }
            let pixels = down * right;
            let shape = (height / down * (width / right), 1, pixels, pixels);
            Tensor::from_vec(numbers, shape, like.device())?.to_dtype(like.dtype())
        };
        Ok(Self([mask(0)?, mask(1)?]))
    }
}

/// Attention in the windows of one half of the channels.
#[derive(Clone, Debug)]
pub(super) struct WindowAttention {
    half: usize,
    heads: usize,
    split: Split,
    /// `[heads, n, n]`: how much pixels count by where they are to each other.
    places: Tensor,
}

impl WindowAttention {
    /// `width` is that of the half.
    pub(super) fn new(
        scope: &Scope<'_>,
        width: usize,
        half: usize,
        split: &Split,
    ) -> std::result::Result<Self, EngineError> {
        let scope = scope.sub("pos");
        let heads = scope
            .shape("pos3.2.weight")
            .and_then(|shape| shape.first().copied())
            .filter(|heads| *heads > 0 && width.is_multiple_of(*heads))
            .unwrap_or(1);
        let inner = width / 4 / 4;
        let project = Linear::new(&scope.sub("pos_proj"), 2, inner)?;
        let layer = |name: &str, outputs: usize| {
            let scope = scope.sub(name);
            let norm = LayerNorm::new(&scope.sub(0), inner)?;
            Ok::<_, EngineError>((norm, Linear::new(&scope.sub(2), inner, outputs)?))
        };
        let layers = [
            layer("pos1", inner)?,
            layer("pos2", inner)?,
            layer("pos3", heads)?,
        ];
        let (down, right) = split.window(half);
        let compute = scope.compute();
        let steps = |side: usize| (1..2 * side).map(move |at| at as f32 - side as f32);
        let ways: Vec<f32> = steps(down)
            .flat_map(|y| steps(right).flat_map(move |x| [y, x]))
            .collect();
        let ways = Tensor::from_vec(ways, ((2 * down - 1) * (2 * right - 1), 2), &Device::Cpu)?;
        let mut table = project.forward(&compute.take(&ways)?)?;
        for (norm, linear) in &layers {
            table = linear.forward(&norm.forward(&table)?.relu()?)?;
        }
        let pixels = down * right;
        let index = (0..pixels * pixels).map(|pair| {
            let (one, other) = (pair / pixels, pair % pixels);
            let y = one / right + down - 1 - other / right;
            let x = one % right + right - 1 - other % right;
            u32::try_from(y * (2 * right - 1) + x).unwrap_or_default()
        });
        let index = Tensor::from_vec(index.collect::<Vec<u32>>(), pixels * pixels, table.device())?;
        let places = table.index_select(&index, 0)?.t()?.contiguous()?;
        Ok(Self {
            half,
            heads,
            split: *split,
            places: places.reshape((heads, pixels, pixels))?,
        })
    }

    /// Queries, keys and values, each `[h, w, width]`, to the same; moved where there are masks.
    pub(super) fn forward(&self, asked: &[Tensor; 3], masks: Option<&Masks>) -> Result<Tensor> {
        let (height, width, channels) = asked[0].dims3()?;
        let (full_height, full_width) = self.split.whole((height, width));
        let (by_down, by_right) = self.split.moved(self.half);
        let shifted = |x: &Tensor, sign: i32| {
            if masks.is_none() {
                return Ok(x.clone());
            }
            let by = |pixels: usize| i32::try_from(pixels).unwrap_or_default() * sign;
            x.contiguous()?.roll(by(by_down), 0)?.roll(by(by_right), 1)
        };
        let mut windows = Vec::new();
        for x in asked {
            let x = x
                .pad_with_zeros(0, 0, full_height - height)?
                .pad_with_zeros(1, 0, full_width - width)?;
            windows.push(self.windows(&shifted(&x, -1)?)?);
        }
        let [q, k, v] = &windows[..] else {
            candle_core::bail!("queries, keys and values");
        };
        let mask = masks.map(|masks| &masks.0[self.half]);
        let y = self.attend((q, k, v), mask)?;
        let (down, right) = self.split.window(self.half);
        let each = channels / self.heads;
        let y = y
            .reshape(&[
                full_height / down,
                full_width / right,
                self.heads,
                down,
                right,
                each,
            ])?
            .permute([0, 3, 1, 4, 2, 5])?
            .contiguous()?
            .reshape((full_height, full_width, channels))?;
        shifted(&y, 1)?.narrow(0, 0, height)?.narrow(1, 0, width)
    }

    /// `[h, w, c]` to `[windows, heads, n, c / heads]`.
    fn windows(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = x.dims3()?;
        let (down, right) = self.split.window(self.half);
        let (rows, columns) = (height / down, width / right);
        let each = channels / self.heads;
        x.contiguous()?
            .reshape(&[rows, down, columns, right, self.heads, each])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((rows * columns, self.heads, down * right, each))
    }

    fn attend(
        &self,
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (windows, heads, pixels, each) = q.dims4()?;
        let scale = 1.0 / (each as f64).sqrt();
        let band = (MAX_SCORES / (heads * pixels * pixels).max(1)).max(1);
        let mut bands = Vec::new();
        for first in (0..windows).step_by(band) {
            let count = band.min(windows - first);
            let part = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
            let scores = (part(q)? * scale)?.matmul(&part(k)?.t()?)?;
            let mut scores = scores.broadcast_add(&self.places)?;
            if let Some(mask) = mask {
                scores = scores.broadcast_add(&part(mask)?)?;
            }
            bands.push(candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&part(v)?)?);
        }
        Tensor::cat(&bands, 0)
    }
}
