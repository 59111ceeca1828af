//! ParseNet: which pixels of an upright face are skin, brows, eyes, …, and which belong to something else.
//!
//! ```text
//! [1, 3, s, s] ─► first ─► halve… ─┬─► body ─► + ─► double… ─► [1, 19, s, s]
//!                                  └───────────┘
//! ```
//!
//! # Source
//! Chen et al. 2021, "Progressive Semantic-Aware Style Transformation for Blind Face Restoration", whose
//! authors trained it.

use candle_core::{Result, Tensor};

use super::super::ops::{Conv2d, Edges, Geometry, leaky, mirrored, normed_conv};
use super::super::weights::{Scope, Weights};
use super::GoOn;
use crate::EngineError;
use crate::native::Compute;

/// What is left of numbers below zero.
const SLOPE: f64 = 0.2;
/// No such network is longer.
const MAX_BLOCKS: usize = 64;
/// 3×3 over what was mirrored before.
const INSIDE: Geometry = Geometry {
    kernel: 3,
    stride: 1,
    before: 0,
    after: 0,
};
const INSIDE_HALVE: Geometry = Geometry {
    stride: 2,
    ..INSIDE
};

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct ParseNet {
    first: Layer,
    down: Vec<Block>,
    body: Vec<Block>,
    up: Vec<Block>,
    last: Layer,
    /// A smaller side is made larger.
    least: usize,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let has = |name: &str| weights.shape(name).is_some();
    has("out_mask_conv.conv2d.weight") && has("encoder.0.conv2d.weight")
}

impl ParseNet {
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
        let encoder = root.sub("encoder");
        let width = outputs(&encoder.sub(0));
        let first = Layer::new(&encoder.sub(0), (3, width), Scale::Same)?;
        let part = |scope: &Scope<'_>, first: usize, mut width: usize, scale: Scale| {
            let mut blocks = Vec::new();
            for number in first..MAX_BLOCKS {
                let scope = scope.sub(number);
                if !scope.has("conv1.conv2d.weight") {
                    break;
                }
                let block = Block::new(&scope, width, scale)?;
                width = outputs(&scope.sub("conv1"));
                blocks.push(block);
            }
            Ok::<_, EngineError>((blocks, width))
        };
        let (down, width) = part(&encoder, 1, width, Scale::Halve)?;
        let (body, width) = part(&root.sub("body"), 0, width, Scale::Same)?;
        let (up, width) = part(&root.sub("decoder"), 0, width, Scale::Double)?;
        // It can draw the face as well, which nobody asks for.
        Layer::new(&root.sub("out_img_conv"), (width, 3), Scale::Same)?;
        let kinds = outputs(&root.sub("out_mask_conv"));
        let network = Self {
            first,
            least: 2 << down.len(),
            down,
            body,
            up,
            last: Layer::new(&root.sub("out_mask_conv"), (width, kinds), Scale::Same)?,
        };
        root.finish(name, &["num_batches_tracked"])?;
        Ok(network)
    }

    /// The smallest side that it can be shown, in pixels; sides are multiples of half of it.
    pub fn least(&self) -> usize {
        self.least
    }

    /// `[1, 3, s, s]` in −1…1 to `[1, kinds, s, s]`: how likely each pixel is of each kind. `go_on` is
    /// asked after each block.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(
        &self,
        x: &Tensor,
        go_on: &GoOn<'_>,
    ) -> std::result::Result<Tensor, EngineError> {
        let through = |mut x: Tensor, blocks: &[Block]| {
            for block in blocks {
                x = block.forward(&x)?;
                go_on()?;
            }
            Ok::<_, EngineError>(x)
        };
        let seen = through(self.first.forward(x)?, &self.down)?;
        let body = through(seen.clone(), &self.body)?;
        let x = through((seen + body)?, &self.up)?;
        Ok(self.last.forward(&x)?)
    }
}

/// The channels that a layer of the file makes; one if it is not there, which is said later.
fn outputs(scope: &Scope<'_>) -> usize {
    let shape = scope.shape("conv2d.weight");
    let first = shape.and_then(|shape| shape.first().copied());
    first.unwrap_or(1).max(1)
}

/// What becomes of the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Same,
    Halve,
    Double,
}

/// A convolution over a picture whose edges are mirrored.
#[derive(Clone, Debug)]
struct Layer {
    conv: Conv2d,
    scale: Scale,
}

impl Layer {
    fn new(
        scope: &Scope<'_>,
        sides: (usize, usize),
        scale: Scale,
    ) -> std::result::Result<Self, EngineError> {
        let geometry = if scale == Scale::Halve {
            INSIDE_HALVE
        } else {
            INSIDE
        };
        let norm = scope.sub("norm").sub("norm");
        let conv = if norm.has("weight") {
            normed_conv((&scope.sub("conv2d"), &norm), sides, geometry)?
        } else {
            Conv2d::new(&scope.sub("conv2d"), sides.0, sides.1, geometry)?
        };
        Ok(Self { conv, scale })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let x = if self.scale == Scale::Double {
            x.upsample_nearest2d(2 * height, 2 * width)?
        } else {
            x.clone()
        };
        self.conv.forward(&mirrored(&x, 1)?, Edges::Zero)
    }
}

#[derive(Clone, Debug)]
struct Block {
    first: Layer,
    second: Layer,
    shortcut: Option<Layer>,
}

impl Block {
    fn new(
        scope: &Scope<'_>,
        inputs: usize,
        scale: Scale,
    ) -> std::result::Result<Self, EngineError> {
        let width = outputs(&scope.sub("conv1"));
        let (first, second) = match scale {
            Scale::Same => (Scale::Same, Scale::Same),
            Scale::Halve => (Scale::Same, Scale::Halve),
            Scale::Double => (Scale::Double, Scale::Same),
        };
        let shortcut = scope.sub("shortcut_func");
        let shortcut = shortcut
            .has("conv2d.weight")
            .then(|| Layer::new(&shortcut, (inputs, width), scale));
        Ok(Self {
            first: Layer::new(&scope.sub("conv1"), (inputs, width), first)?,
            second: Layer::new(&scope.sub("conv2"), (width, width), second)?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = leaky(&self.first.forward(x)?, SLOPE)?;
        let y = self.second.forward(&y)?;
        match &self.shortcut {
            Some(shortcut) => y + shortcut.forward(x)?,
            None => y + x,
        }
    }
}
