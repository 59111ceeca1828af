//! RealPLKSR: wide kernels over a few channels see far, others see near.
//!
//! ```text
//! [1, 3, h, w] ─┬─► first ─► blocks ─► last ─► + ─► [1, 3, s h, s w]
//!               └─ each channel s² times ───────┘
//! ```
//!
//! The last step shuffles channels into pixels, or looks where to take each pixel from (`DySample`).
//!
//! # Source
//! Lee et al. 2024, "Partial Large Kernel CNNs for Efficient Super-Resolution"; Liu et al. 2023,
//! "Learning to Upsample by Learning to Sample".

use candle_core::{Device, Tensor};

use super::super::ops::{
    Conv2d, Edges, Followed, Geometry, GroupNorm, LayerNorm, conv_without_bias, to_picture,
    to_tokens,
};
use super::super::weights::{Scope, Weights};
use super::span::root_of;
use crate::EngineError;
use crate::native::Compute;

/// Groups of channels that are normalised together, which no tensor tells.
const GROUPS: usize = 4;
const EPSILON: f64 = 1e-5;
const LAYER_EPSILON: f32 = 1e-6;
/// No known network has half as many blocks.
const MAX_BLOCKS: usize = 128;
/// No known network has wider kernels.
const MAX_KERNEL: usize = 63;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct RealPlksr {
    first: Conv2d,
    blocks: Vec<Block>,
    last: Conv2d,
    sample: Option<DySample>,
    scale: usize,
}

/// What the tensors of such a network tell.
struct Shape {
    width: usize,
    blocks: usize,
    /// The place of the last layer.
    last: usize,
    scale: usize,
}

impl Shape {
    fn of(weights: &Weights) -> Option<Self> {
        let outputs = |name: &str| weights.shape(name)?.first().copied();
        let width = outputs("feats.0.weight")?;
        let is_block =
            |number: &usize| outputs(&format!("feats.{number}.channel_mixer.0.weight")).is_some();
        let blocks = (1..=MAX_BLOCKS).take_while(is_block).count();
        if blocks == 0 {
            return None;
        }
        // Something that was only there for training may stand between.
        let mut ends = blocks + 1..=blocks + 2;
        let last = ends.find(|at| outputs(&format!("feats.{at}.weight")).is_some())?;
        let scale = root_of(outputs(&format!("feats.{last}.weight"))? / 3)?;
        Some(Self {
            width,
            blocks,
            last,
            scale,
        })
    }
}

/// The factor by which a network of these tensors enlarges; `None` if they are those of another.
pub(super) fn scale_of(weights: &Weights) -> Option<usize> {
    Shape::of(weights).map(|shape| shape.scale)
}

impl RealPlksr {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let shape = Shape::of(weights)
            .ok_or_else(|| EngineError::bad_model(name, "its last layer makes no square pixels"))?;
        let root = weights.root(compute);
        let feats = root.sub("feats");
        let (width, outputs) = (shape.width, 3 * shape.scale * shape.scale);
        let blocks = (1..=shape.blocks).map(|number| Block::new(&feats.sub(number), width));
        let sample = root.sub("to_img");
        let sample = sample
            .has("init_pos")
            .then(|| DySample::new(&sample, outputs, shape.scale));
        let network = Self {
            first: Conv2d::new(&feats.sub(0), 3, width, Geometry::SAME)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            last: Conv2d::new(&feats.sub(shape.last), width, outputs, Geometry::SAME)?,
            sample: sample.transpose()?,
            scale: shape.scale,
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// The factor of the sides.
    pub fn scale(&self) -> usize {
        self.scale
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
        let mut y = self.first.forward(x, Edges::Zero)?;
        for block in &self.blocks {
            y = block.forward(&y)?;
            go_on()?;
        }
        let y = self.last.forward(&y, Edges::Zero)?;
        let (_, channels, height, width) = x.dims4()?;
        let times = self.scale * self.scale;
        let repeated = x
            .unsqueeze(2)?
            .broadcast_as((1, channels, times, height, width))?;
        let y = (y + repeated.reshape((1, channels * times, height, width))?)?;
        Ok(match &self.sample {
            Some(sample) => sample.forward(&y)?,
            None => candle_nn::ops::pixel_shuffle(&y, self.scale)?,
        })
    }
}

#[derive(Clone, Debug)]
struct Block {
    layer_norm: Option<LayerNorm>,
    wide: Conv2d,
    narrow: Conv2d,
    /// Over the first channels alone.
    far: Conv2d,
    channels: usize,
    attention: Option<Conv2d>,
    refine: Conv2d,
    norm: Option<GroupNorm>,
}

impl Block {
    fn new(scope: &Scope<'_>, width: usize) -> Result<Self, EngineError> {
        let outputs = |name: &str, side: usize| {
            let shape = scope.shape(name);
            shape
                .and_then(|shape| shape.get(side).copied())
                .unwrap_or(1)
        };
        let inner = outputs("channel_mixer.0.weight", 0);
        let channels = outputs("lk.conv.weight", 0);
        let kernel = outputs("lk.conv.weight", 2).min(MAX_KERNEL);
        let far = Geometry {
            kernel,
            stride: 1,
            before: kernel / 2,
            after: kernel / 2,
        };
        let conv = |name: &str, sides: (usize, usize), geometry: Geometry| {
            Conv2d::new(&scope.sub(name), sides.0, sides.1, geometry)
        };
        let attention = scope
            .has("attn.f.0.weight")
            .then(|| conv("attn.f.0", (width, width), Geometry::SAME));
        let norm = scope
            .has("norm.weight")
            .then(|| GroupNorm::new(&scope.sub("norm"), width, GROUPS, EPSILON));
        let layer_norm = scope
            .has("layer_norm.weight")
            .then(|| LayerNorm::new(&scope.sub("layer_norm"), width));
        Ok(Self {
            layer_norm: layer_norm
                .transpose()?
                .map(|norm| norm.with_epsilon(LAYER_EPSILON)),
            wide: conv("channel_mixer.0", (width, inner), Geometry::SAME)?,
            narrow: conv("channel_mixer.2", (inner, width), Geometry::SAME)?,
            far: conv("lk.conv", (channels, channels), far)?,
            channels: channels.min(width),
            attention: attention.transpose()?,
            refine: conv("refine", (width, width), Geometry::POINT)?,
            norm: norm.transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.clone();
        if let Some(norm) = &self.layer_norm {
            let (_, _, height, width) = y.dims4()?;
            y = to_picture(&norm.forward(&to_tokens(&y)?)?, height, width)?;
        }
        y = self
            .narrow
            .forward(&mish(&self.wide.forward(&y, Edges::Zero)?)?, Edges::Zero)?;
        let rest = y.dim(1)?.saturating_sub(self.channels);
        let far = self
            .far
            .forward(&y.narrow(1, 0, self.channels)?, Edges::Zero)?;
        y = if rest == 0 {
            far
        } else {
            Tensor::cat(&[&far, &y.narrow(1, self.channels, rest)?], 1)?
        };
        if let Some(attention) = &self.attention {
            let share = candle_nn::ops::sigmoid(&attention.forward(&y, Edges::Zero)?)?;
            y = (y * share)?;
        }
        y = self.refine.forward(&y, Edges::Zero)?;
        if let Some(norm) = &self.norm {
            y = norm.forward(&y, Followed::ByNothing)?;
        }
        y + x
    }
}

/// `x tanh(ln(1 + e^x))` (Misra 2019).
fn mish(x: &Tensor) -> candle_core::Result<Tensor> {
    // So large numbers stay finite.
    let soft = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    x * soft.tanh()?
}

/// Looks where to take each pixel of a larger picture from.
#[derive(Clone, Debug)]
struct DySample {
    offset: Conv2d,
    scope: Conv2d,
    start: Tensor,
    leave: Option<Conv2d>,
    groups: usize,
    scale: usize,
}

impl DySample {
    fn new(scope: &Scope<'_>, channels: usize, scale: usize) -> Result<Self, EngineError> {
        let groups = if scale.is_multiple_of(2) { 4 } else { 3 };
        let outputs = 2 * groups * scale * scale;
        let leave = scope.sub("end_conv");
        let leave = leave
            .has("weight")
            .then(|| Conv2d::new(&leave, channels, 3, Geometry::POINT));
        Ok(Self {
            offset: Conv2d::new(&scope.sub("offset"), channels, outputs, Geometry::POINT)?,
            scope: conv_without_bias(&scope.sub("scope"), (channels, outputs), Geometry::POINT)?,
            start: scope.take("init_pos", &[1, outputs, 1, 1])?,
            leave: leave.transpose()?,
            groups,
            scale,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (_, channels, height, width) = x.dims4()?;
        let share = candle_nn::ops::sigmoid(&self.scope.forward(x, Edges::Zero)?)?;
        let offset = ((self.offset.forward(x, Edges::Zero)? * share)? * 0.5)?;
        let offset = offset.broadcast_add(&self.start)?;
        let offset = candle_nn::ops::pixel_shuffle(&offset, self.scale)?;
        let picked = Picked {
            numbers: numbers(x)?,
            offsets: numbers(&offset)?,
            groups: self.groups,
            each: channels / self.groups,
            size: (width, height),
            scale: self.scale,
        };
        let shape = (1, channels, height * self.scale, width * self.scale);
        let y = Tensor::from_vec(picked.all(), shape, &Device::Cpu)?;
        let y = y.to_device(x.device())?.to_dtype(x.dtype())?;
        match &self.leave {
            Some(leave) => leave.forward(&y, Edges::Zero),
            None => Ok(y),
        }
    }
}

fn numbers(x: &Tensor) -> candle_core::Result<Vec<f32>> {
    x.to_dtype(candle_core::DType::F32)?
        .flatten_all()?
        .to_vec1()
}

/// Pixels that are taken from somewhere near.
struct Picked {
    /// `[groups * each, h, w]`
    numbers: Vec<f32>,
    /// `[2 * groups, h * scale, w * scale]`: to the right for each group, then down.
    offsets: Vec<f32>,
    groups: usize,
    /// Channels of a group.
    each: usize,
    size: (usize, usize),
    scale: usize,
}

impl Picked {
    /// `[groups * each, h * scale, w * scale]`
    fn all(&self) -> Vec<f32> {
        let (width, height) = self.size;
        let (wide, high) = (width * self.scale, height * self.scale);
        let plane = wide * high;
        let mut result = vec![0.0; self.groups * self.each * plane];
        for group in 0..self.groups {
            for place in 0..plane {
                let (x, y) = (place % wide / self.scale, place / wide / self.scale);
                let right = self.offsets[group * plane + place];
                let down = self.offsets[(self.groups + group) * plane + place];
                let (left, next, across) = between(x, right, width);
                let (top, below, along) = between(y, down, height);
                for channel in 0..self.each {
                    let channel = group * self.each + channel;
                    let at = |x: usize, y: usize| self.numbers[(channel * height + y) * width + x];
                    let upper = at(left, top) * (1.0 - across) + at(next, top) * across;
                    let lower = at(left, below) * (1.0 - across) + at(next, below) * across;
                    result[channel * plane + place] = upper * (1.0 - along) + lower * along;
                }
            }
        }
        result
    }
}

/// The two pixels that a place lies between, and how near to the second one. Beyond the edge is the edge.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to a side of a tile before"
)]
fn between(at: usize, offset: f32, side: usize) -> (usize, usize, f32) {
    let last = side.saturating_sub(1);
    let place = at as f32 + offset;
    // Not a number is the edge, too.
    let place = if place.is_nan() {
        0.0
    } else {
        place.clamp(0.0, last as f32)
    };
    let first = (place.floor() as usize).min(last);
    (first, (first + 1).min(last), place - first as f32)
}
