//! RetinaFace: where faces are, and where in them eyes, nose and corners of the mouth.
//!
//! ```text
//! [1, 3, h, w] ─► ResNet-50 ─► a pyramid of three ─► context ─► for each place and size: is it one, where, which points
//! ```
//!
//! # Source
//! Deng et al. 2020, "RetinaFace: Single-Shot Multi-Level Face Localisation in the Wild"; He et al. 2016,
//! "Deep Residual Learning" (strides in the middle layer of a block).

use candle_core::{D, Result, Tensor};

use super::super::ops::{Conv2d, Edges, Geometry, leaky, normed_conv};
use super::super::weights::{Scope, Weights};
use super::GoOn;
use crate::EngineError;
use crate::native::Compute;

/// Sizes of faces that each place is asked for.
pub(super) const ANCHORS: usize = 2;
/// The first layer.
const STEM: Geometry = Geometry {
    kernel: 7,
    stride: 2,
    before: 3,
    after: 3,
};
const POINT_HALVE: Geometry = Geometry {
    kernel: 1,
    stride: 2,
    before: 0,
    after: 0,
};
/// No such network has longer layers.
const MAX_BLOCKS: usize = 64;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct RetinaFace {
    stem: Conv2d,
    layers: [Vec<Block>; 4],
    outputs: [Conv2d; 3],
    merges: [Conv2d; 2],
    contexts: [Context; 3],
    /// Of each level of the pyramid: boxes, classes, landmarks.
    heads: [[Conv2d; 3]; 3],
    slope: f64,
}

/// What the network says of each place and size, the large pyramid first.
#[derive(Clone, Debug)]
pub struct Raw {
    /// `[places, 4]`
    pub boxes: Tensor,
    /// `[places, 2]`: no face, a face; they add up to one.
    pub classes: Tensor,
    /// `[places, 10]`
    pub landmarks: Tensor,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let has = |name: &str| weights.shape(name).is_some();
    has("body.layer1.0.conv1.weight") && has("LandmarkHead.0.conv1x1.weight")
}

/// The channels that a layer of the file makes; one if it is not there, which is said later.
fn outputs(scope: &Scope<'_>, name: &str) -> usize {
    let first = scope.shape(name).and_then(|shape| shape.first().copied());
    first.unwrap_or(1).max(1)
}

/// A convolution and the normalisation behind it, as parts of a sequence.
fn in_sequence(
    scope: &Scope<'_>,
    sides: (usize, usize),
    geometry: Geometry,
) -> std::result::Result<Conv2d, EngineError> {
    normed_conv((&scope.sub(0), &scope.sub(1)), sides, geometry)
}

impl RetinaFace {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(
        name: &str,
        weights: &Weights,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        let root = weights.root(compute);
        let body = root.sub("body");
        let mut width = outputs(&body, "conv1.weight");
        let stem = normed_conv((&body.sub("conv1"), &body.sub("bn1")), (3, width), STEM)?;
        let mut layers: [Vec<Block>; 4] = Default::default();
        let mut widths = [0; 4];
        for (number, layer) in layers.iter_mut().enumerate() {
            let scope = body.sub(format!("layer{}", number + 1));
            for block in 0..MAX_BLOCKS {
                if !scope.has(&format!("{block}.conv1.weight")) {
                    break;
                }
                // The first block of each layer but the first halves.
                let stride = if block == 0 && number > 0 { 2 } else { 1 };
                let block = Block::new(&scope.sub(block), width, stride)?;
                width = block.outputs;
                layer.push(block);
            }
            widths[number] = width;
        }
        let fpn = root.sub("fpn");
        let channels = outputs(&fpn, "output1.0.weight");
        let output = |number: usize| {
            let scope = fpn.sub(format!("output{number}"));
            in_sequence(&scope, (widths[number], channels), Geometry::POINT)
        };
        let merge = |number: usize| {
            let scope = fpn.sub(format!("merge{number}"));
            in_sequence(&scope, (channels, channels), Geometry::SAME)
        };
        let context = |number: usize| Context::new(&root.sub(format!("ssh{number}")), channels);
        let head = |level: usize| {
            let one = |kind: &str, numbers: usize| {
                let scope = root.sub(kind).sub(level).sub("conv1x1");
                Conv2d::new(&scope, channels, ANCHORS * numbers, Geometry::POINT)
            };
            Ok::<_, EngineError>([
                one("BboxHead", 4)?,
                one("ClassHead", 2)?,
                one("LandmarkHead", 10)?,
            ])
        };
        let network = Self {
            stem,
            layers,
            outputs: [output(1)?, output(2)?, output(3)?],
            merges: [merge(1)?, merge(2)?],
            contexts: [context(1)?, context(2)?, context(3)?],
            heads: [head(0)?, head(1)?, head(2)?],
            slope: slope(channels),
        };
        root.finish(name, &["num_batches_tracked"])?;
        Ok(network)
    }

    /// `[1, 3, h, w]`, blue first, in 0…255 without the means, to what it says of each place. `go_on` is
    /// asked after each layer.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(&self, x: &Tensor, go_on: &GoOn<'_>) -> std::result::Result<Raw, EngineError> {
        let x = self.stem.forward(x, Edges::Zero)?.relu()?;
        // Beyond the edges zeros do no harm: nothing is smaller.
        let x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        let mut x = x.max_pool2d_with_stride(3, 2)?;
        let mut seen = Vec::new();
        for layer in &self.layers {
            for block in layer {
                x = block.forward(&x)?;
            }
            seen.push(x.clone());
            go_on()?;
        }
        let level = |number: usize| -> Result<Tensor> {
            let Some(seen) = seen.get(number + 1) else {
                candle_core::bail!("a pyramid without level {number}");
            };
            let output = self.outputs[number].forward(seen, Edges::Zero)?;
            leaky(&output, self.slope)
        };
        let onto = |small: &Tensor, large: &Tensor, merge: &Conv2d| -> Result<Tensor> {
            let (_, _, height, width) = large.dims4()?;
            let sum = (large + small.upsample_nearest2d(height, width)?)?;
            leaky(&merge.forward(&sum, Edges::Zero)?, self.slope)
        };
        let small = level(2)?;
        let middle = onto(&small, &level(1)?, &self.merges[1])?;
        let large = onto(&middle, &level(0)?, &self.merges[0])?;
        let mut said: [Vec<Tensor>; 3] = Default::default();
        for (level, seen) in [large, middle, small].iter().enumerate() {
            let seen = self.contexts[level].forward(seen, self.slope)?;
            for (head, said) in self.heads[level].iter().zip(&mut said) {
                said.push(head.forward(&seen, Edges::Zero)?);
            }
            go_on()?;
        }
        let [boxes, classes, landmarks] = said;
        let flat = |levels: &[Tensor], numbers: usize| -> Result<Tensor> {
            let rows = levels.iter().map(|level| {
                let last = level.permute((0, 2, 3, 1))?.contiguous()?;
                last.reshape(((), numbers))
            });
            Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
        };
        Ok(Raw {
            boxes: flat(&boxes, 4)?,
            classes: candle_nn::ops::softmax(&flat(&classes, 2)?, D::Minus1)?,
            landmarks: flat(&landmarks, 10)?,
        })
    }
}

/// What is left of numbers below zero.
fn slope(channels: usize) -> f64 {
    if channels <= 64 { 0.1 } else { 0.0 }
}

/// A block of ResNet-50.
#[derive(Clone, Debug)]
struct Block {
    outputs: usize,
    enter: Conv2d,
    middle: Conv2d,
    leave: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn new(
        scope: &Scope<'_>,
        inputs: usize,
        stride: usize,
    ) -> std::result::Result<Self, EngineError> {
        let (inner, outer) = (
            outputs(scope, "conv1.weight"),
            outputs(scope, "conv3.weight"),
        );
        let layer = |number: usize, sides: (usize, usize), geometry: Geometry| {
            let (conv, norm) = (format!("conv{number}"), format!("bn{number}"));
            normed_conv((&scope.sub(conv), &scope.sub(norm)), sides, geometry)
        };
        let (point, middle) = if stride == 1 {
            (Geometry::POINT, Geometry::SAME)
        } else {
            (POINT_HALVE, Geometry::HALVE)
        };
        let shortcut = scope
            .has("downsample.0.weight")
            .then(|| in_sequence(&scope.sub("downsample"), (inputs, outer), point));
        Ok(Self {
            outputs: outer,
            enter: layer(1, (inputs, inner), Geometry::POINT)?,
            middle: layer(2, (inner, inner), middle)?,
            leave: layer(3, (inner, outer), Geometry::POINT)?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.enter.forward(x, Edges::Zero)?.relu()?;
        let y = self.middle.forward(&y, Edges::Zero)?.relu()?;
        let y = self.leave.forward(&y, Edges::Zero)?;
        match &self.shortcut {
            Some(shortcut) => (y + shortcut.forward(x, Edges::Zero)?)?.relu(),
            None => (y + x)?.relu(),
        }
    }
}

/// Looks around a place, near and further off.
#[derive(Clone, Debug)]
struct Context {
    near: Conv2d,
    further: [Conv2d; 2],
    furthest: [Conv2d; 2],
}

impl Context {
    fn new(scope: &Scope<'_>, channels: usize) -> std::result::Result<Self, EngineError> {
        let quarter = channels / 4;
        let layer = |name: &str, sides: (usize, usize)| {
            in_sequence(&scope.sub(name), sides, Geometry::SAME)
        };
        Ok(Self {
            near: layer("conv3X3", (channels, channels / 2))?,
            further: [
                layer("conv5X5_1", (channels, quarter))?,
                layer("conv5X5_2", (quarter, quarter))?,
            ],
            furthest: [
                layer("conv7X7_2", (quarter, quarter))?,
                layer("conv7x7_3", (quarter, quarter))?,
            ],
        })
    }

    fn forward(&self, x: &Tensor, slope: f64) -> Result<Tensor> {
        let near = self.near.forward(x, Edges::Zero)?;
        let first = leaky(&self.further[0].forward(x, Edges::Zero)?, slope)?;
        let further = self.further[1].forward(&first, Edges::Zero)?;
        let second = leaky(&self.furthest[0].forward(&first, Edges::Zero)?, slope)?;
        let furthest = self.furthest[1].forward(&second, Edges::Zero)?;
        Tensor::cat(&[near, further, furthest], 1)?.relu()
    }
}
