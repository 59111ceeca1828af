//! The residual-in-residual dense network: ESRGAN, Real-ESRGAN and all that were trained after them.
//!
//! ```text
//! [1, 3, h, w] ─► unshuffle ─► first ─┬─► body (dense blocks) ─► after ─► + ─► (×2, up)… ─► high ─► last ─► [1, 3, h·scale, w·scale]
//!                                     └──────────────────────────────────┘
//! ```
//!
//! # Source
//! Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", § 3.1;
//! Wang et al. 2021, "Real-ESRGAN", § 3.2 (pixel-unshuffle in front for smaller factors).

use candle_core::Tensor;

use super::super::ops::{self, Conv2d, Edges, Geometry};
use super::super::weights::{Scope, Weights};
use crate::EngineError;
use crate::native::Compute;

/// The slope of activations below zero.
const SLOPE: f64 = 0.2;
/// How much of what a block finds is added to what came in.
const RESIDUAL: f64 = 0.2;
/// No known network has half as many blocks.
const MAX_BLOCKS: usize = 64;
/// No known network has more steps of enlarging: each doubles the sides.
const MAX_STEPS: usize = 3;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Rrdb {
    shape: Shape,
    first: Conv2d,
    body: Vec<[Dense; 3]>,
    after: Conv2d,
    ups: Vec<Conv2d>,
    high: Conv2d,
    last: Conv2d,
}

/// What the tensors tell of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Channels between blocks.
    width: usize,
    /// Channels that each layer of a dense block adds.
    growth: usize,
    blocks: usize,
    /// Pixels of a side that the network takes as one.
    unshuffle: usize,
    /// Steps of enlarging.
    steps: usize,
}

impl Shape {
    fn of(weights: &Weights) -> Result<Self, String> {
        let dims = |name: &str| match weights.shape(name) {
            Some(&[outputs, inputs, 3, 3]) => Ok((outputs, inputs)),
            Some(other) => Err(format!("`{name}` is {other:?}, expected a kernel of 3x3")),
            None => Err(format!("`{name}` is missing")),
        };
        let (width, inputs) = dims("conv_first.weight")?;
        let (growth, _) = dims("body.0.rdb1.conv1.weight")?;
        let unshuffle = match inputs {
            3 => 1,
            12 => 2,
            48 => 4,
            _ => {
                return Err(format!(
                    "its first layer takes {inputs} channels, expected 3, 12 or 48: only networks for \
                     colour pictures are built in"
                ));
            }
        };
        let count = |name: &dyn Fn(usize) -> String| {
            let there = |number: &usize| weights.shape(&name(*number)).is_some();
            (0..MAX_BLOCKS).take_while(there).count()
        };
        let blocks = count(&|number| format!("body.{number}.rdb1.conv1.weight"));
        let steps = count(&|number| format!("conv_up{}.weight", number + 1));
        if steps > MAX_STEPS || (1 << steps) % unshuffle != 0 {
            return Err(format!(
                "{steps} steps of enlarging behind {unshuffle} pixels taken as one"
            ));
        }
        Ok(Self {
            width,
            growth,
            blocks,
            unshuffle,
            steps,
        })
    }

    fn scale(self) -> usize {
        (1 << self.steps) / self.unshuffle
    }
}

/// The factor by which a network of these tensors enlarges; or why there is none.
pub(super) fn scale_of(weights: &Weights) -> Result<usize, String> {
    Shape::of(weights).map(Shape::scale)
}

impl Rrdb {
    /// Takes all tensors, which must be under the names of new files.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let shape = Shape::of(weights).map_err(|reason| EngineError::bad_model(name, reason))?;
        let root = weights.root(compute);
        let Shape { width, .. } = shape;
        let inputs = 3 * shape.unshuffle * shape.unshuffle;
        let same = |layer: &str, inputs, outputs| {
            Conv2d::new(&root.sub(layer), inputs, outputs, Geometry::SAME)
        };
        let block = |number: usize| -> Result<[Dense; 3], EngineError> {
            let block = root.sub("body").sub(number);
            let dense = |name: &str| Dense::new(&block.sub(name), shape);
            Ok([dense("rdb1")?, dense("rdb2")?, dense("rdb3")?])
        };
        let ups = (1..=shape.steps).map(|number| same(&format!("conv_up{number}"), width, width));
        let network = Self {
            shape,
            first: same("conv_first", inputs, width)?,
            body: (0..shape.blocks).map(block).collect::<Result<_, _>>()?,
            after: same("conv_body", width, width)?,
            ups: ups.collect::<Result<_, _>>()?,
            high: same("conv_hr", width, width)?,
            last: same("conv_last", width, 3)?,
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// The factor of the sides.
    pub fn scale(&self) -> usize {
        self.shape.scale()
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
        let x = unshuffled(x, self.shape.unshuffle)?;
        let first = self.first.forward(&x, Edges::Zero)?;
        let mut x = first.clone();
        for block in &self.body {
            let mut y = x.clone();
            for dense in block {
                y = dense.forward(&y)?;
            }
            x = ((y * RESIDUAL)? + x)?;
            go_on()?;
        }
        x = (self.after.forward(&x, Edges::Zero)? + first)?;
        for up in &self.ups {
            let (_, _, height, width) = x.dims4()?;
            x = leaky(&up.forward(&x.upsample_nearest2d(2 * height, 2 * width)?, Edges::Zero)?)?;
            go_on()?;
        }
        let x = leaky(&self.high.forward(&x, Edges::Zero)?)?;
        let x = self.last.forward(&x, Edges::Zero)?;
        // What was added to make the sides even goes again.
        let x = x.narrow(2, 0, height * self.scale())?;
        Ok(x.narrow(3, 0, width * self.scale())?)
    }
}

/// Five layers, each of which sees what all before it made.
#[derive(Clone, Debug)]
struct Dense {
    layers: Vec<Conv2d>,
    last: Conv2d,
}

impl Dense {
    fn new(scope: &Scope<'_>, shape: Shape) -> Result<Self, EngineError> {
        let Shape { width, growth, .. } = shape;
        let layer = |number: usize, outputs| {
            let inputs = width + (number - 1) * growth;
            let scope = scope.sub(format!("conv{number}"));
            Conv2d::new(&scope, inputs, outputs, Geometry::SAME)
        };
        Ok(Self {
            layers: (1..=4)
                .map(|number| layer(number, growth))
                .collect::<Result<_, _>>()?,
            last: layer(5, width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut seen = x.clone();
        for layer in &self.layers {
            let more = leaky(&layer.forward(&seen, Edges::Zero)?)?;
            seen = Tensor::cat(&[seen, more], 1)?;
        }
        (self.last.forward(&seen, Edges::Zero)? * RESIDUAL)? + x
    }
}

fn leaky(x: &Tensor) -> candle_core::Result<Tensor> {
    ops::leaky(x, SLOPE)
}

/// Each square of pixels as the channels of one. Sides are made even by mirroring the last pixels.
fn unshuffled(x: &Tensor, factor: usize) -> candle_core::Result<Tensor> {
    if factor == 1 {
        return Ok(x.clone());
    }
    let x = mirrored(&mirrored(x, 2, factor)?, 3, factor)?;
    candle_nn::ops::pixel_unshuffle(&x, factor)
}

fn mirrored(x: &Tensor, dim: usize, factor: usize) -> candle_core::Result<Tensor> {
    let side = x.dim(dim)?;
    let missing = side.next_multiple_of(factor) - side;
    let mut parts = vec![x.clone()];
    for number in 1..=missing {
        parts.push(x.narrow(dim, (side - 1).saturating_sub(number), 1)?);
    }
    Tensor::cat(&parts, dim)
}
