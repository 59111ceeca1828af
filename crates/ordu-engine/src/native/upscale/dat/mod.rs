//! DAT, the dual aggregation transformer: blocks look at pixels in windows and at channels in turn.
//!
//! ```text
//! [1, 3, h, w] ─► first ─┬─► groups of blocks ─► norm ─► after ─► + ─► (×2, up)… ─► last ─► [1, 3, s h, s w]
//!                        └───────────────────────────────────────┘
//! ```
//!
//! # Source
//! Chen et al. 2023, "Dual Aggregation Transformer for Image Super-Resolution".

mod block;
mod windows;

use candle_core::Tensor;

use self::block::{Block, Kind};
use self::windows::{Masks, Split};
use super::super::ops::{Conv2d, Edges, Geometry, LayerNorm, leaky, to_picture, to_tokens};
use super::super::weights::{Scope, Weights};
use crate::EngineError;
use crate::native::Compute;

/// The mean colours of the pictures that it was trained with.
const MEANS: [f32; 3] = [0.4488, 0.4371, 0.4040];
/// No known network has half as many groups, or blocks in one.
const MAX_PARTS: usize = 32;
/// No known network has more steps of enlarging.
const MAX_STEPS: usize = 3;
/// What is left of numbers below zero between convolutions, and before enlarging.
const SLOPE: f64 = 0.2;
const SLOPE_BEFORE: f64 = 0.01;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Dat {
    first: Conv2d,
    before: LayerNorm,
    groups: Vec<Group>,
    norm: LayerNorm,
    after: Convs,
    before_steps: Conv2d,
    /// Convolutions, and by how much what they make is larger.
    steps: Vec<(Conv2d, usize)>,
    last: Conv2d,
    split: Split,
}

#[derive(Clone, Debug)]
struct Group {
    blocks: Vec<Block>,
    after: Convs,
}

/// One convolution, or three.
#[derive(Clone, Debug)]
struct Convs(Vec<Conv2d>);

/// What tensors tell of the steps of enlarging: channels, and by how much each enlarges.
fn steps_of(weights: &Weights) -> Option<(usize, Vec<usize>)> {
    weights.shape("conv_last.weight")?;
    let first = weights.shape("upsample.0.weight")?;
    let channels = *first.get(1)?;
    let mut steps = Vec::new();
    for number in 0..MAX_STEPS {
        let Some(shape) = weights.shape(&format!("upsample.{}.weight", 2 * number)) else {
            break;
        };
        let outputs = *shape.first()?;
        steps.push(super::span::root_of(outputs.checked_div(channels)?)?);
    }
    Some((channels, steps))
}

/// The factor by which a network of these tensors enlarges; `None` if they are those of another.
pub(super) fn scale_of(weights: &Weights) -> Option<usize> {
    weights.shape("layers.0.blocks.0.attn.attns.0.rpe_biases")?;
    weights.shape("layers.0.blocks.0.ffn.sg.conv.weight")?;
    let (_, steps) = steps_of(weights)?;
    Some(steps.into_iter().product())
}

impl Dat {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let refuse = |reason: &str| EngineError::bad_model(name, reason);
        let (channels, factors) =
            steps_of(weights).ok_or_else(|| refuse("its last layers make no square pixels"))?;
        let split = Split::of(weights)?.ok_or_else(|| refuse("its windows have no size"))?;
        let width = weights
            .shape("conv_first.weight")
            .and_then(|shape| shape.first().copied())
            .unwrap_or(1);
        if width < 16 {
            return Err(refuse("it has less than 16 channels"));
        }
        let root = weights.root(compute);
        let mut groups = Vec::new();
        for number in 0..MAX_PARTS {
            let scope = root.sub("layers").sub(number);
            if !scope.has("blocks.0.norm1.weight") {
                break;
            }
            groups.push(Group::new(&scope, (width, number), &split)?);
        }
        let same = |name: &str, inputs, outputs| {
            Conv2d::new(&root.sub(name), inputs, outputs, Geometry::SAME)
        };
        let mut steps = Vec::new();
        for (number, factor) in factors.into_iter().enumerate() {
            let outputs = channels * factor * factor;
            let conv = same(&format!("upsample.{}", 2 * number), channels, outputs)?;
            steps.push((conv, factor));
        }
        let network = Self {
            first: same("conv_first", 3, width)?,
            before: LayerNorm::new(&root.sub("before_RG").sub(1), width)?,
            groups,
            norm: LayerNorm::new(&root.sub("norm"), width)?,
            after: Convs::new(&root.sub("conv_after_body"), width)?,
            before_steps: same("conv_before_upsample.0", width, channels)?,
            steps,
            last: same("conv_last", channels, 3)?,
            split,
        };
        root.finish(name, &IGNORED)?;
        Ok(network)
    }

    /// The factor of the sides.
    pub fn scale(&self) -> usize {
        self.steps.iter().map(|step| step.1).product()
    }

    /// `[1, 3, h, w]` in 0…1 to `[1, 3, h * scale, w * scale]`, which may go a little beyond. `go_on`
    /// is asked after each block.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(
        &self,
        x: &Tensor,
        go_on: &dyn Fn() -> Result<(), EngineError>,
    ) -> Result<Tensor, EngineError> {
        let (_, _, height, width) = x.dims4()?;
        let means = Tensor::new(&MEANS, x.device())?.to_dtype(x.dtype())?;
        let means = means.reshape((1, 3, 1, 1))?;
        let first = self.first.forward(&x.broadcast_sub(&means)?, Edges::Zero)?;
        let size = (height, width);
        let masks = Masks::new(self.split, size, &first)?;
        let mut tokens = self.before.forward(&to_tokens(&first)?)?;
        for group in &self.groups {
            let mut inner = tokens.clone();
            for block in &group.blocks {
                inner = block.forward(&inner, size, &masks)?;
                go_on()?;
            }
            let picture = group.after.forward(&to_picture(&inner, height, width)?)?;
            tokens = (tokens + to_tokens(&picture)?)?;
        }
        let y = to_picture(&self.norm.forward(&tokens)?, height, width)?;
        let y = (self.after.forward(&y)? + first)?;
        let mut y = leaky(&self.before_steps.forward(&y, Edges::Zero)?, SLOPE_BEFORE)?;
        for (conv, factor) in &self.steps {
            y = candle_nn::ops::pixel_shuffle(&conv.forward(&y, Edges::Zero)?, *factor)?;
            go_on()?;
        }
        Ok(self.last.forward(&y, Edges::Zero)?.broadcast_add(&means)?)
    }
}

/// What follows from the sizes of windows and pictures.
const IGNORED: [&str; 5] = [
    "rpe_biases",
    "relative_position_index",
    "attn_mask_0",
    "attn_mask_1",
    "num_batches_tracked",
];

impl Group {
    /// `place` is its width and its number: in every other group windows are moved in other blocks.
    fn new(
        scope: &Scope<'_>,
        (width, number): (usize, usize),
        split: &Split,
    ) -> Result<Self, EngineError> {
        let mut blocks = Vec::new();
        for block in 0..MAX_PARTS {
            let scope = scope.sub("blocks").sub(block);
            if !scope.has("norm1.weight") {
                break;
            }
            let moved = if number.is_multiple_of(2) { 2 } else { 0 };
            let kind = match block % 4 {
                1 | 3 => Kind::Channels,
                place if place == moved => Kind::MovedWindows,
                _ => Kind::Windows,
            };
            blocks.push(Block::new(&scope, width, kind, split)?);
        }
        Ok(Self {
            blocks,
            after: Convs::new(&scope.sub("conv"), width)?,
        })
    }
}

impl Convs {
    fn new(scope: &Scope<'_>, width: usize) -> Result<Self, EngineError> {
        if scope.has("weight") || !scope.has("0.weight") {
            let only = Conv2d::new(scope, width, width, Geometry::SAME)?;
            return Ok(Self(vec![only]));
        }
        let inner = width / 4;
        let conv = |place: usize, inputs, outputs, geometry| {
            Conv2d::new(&scope.sub(place), inputs, outputs, geometry)
        };
        Ok(Self(vec![
            conv(0, width, inner, Geometry::SAME)?,
            conv(2, inner, inner, Geometry::POINT)?,
            conv(4, inner, width, Geometry::SAME)?,
        ]))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.clone();
        for (number, conv) in self.0.iter().enumerate() {
            if number > 0 {
                y = leaky(&y, SLOPE)?;
            }
            y = conv.forward(&y, Edges::Zero)?;
        }
        Ok(y)
    }
}
