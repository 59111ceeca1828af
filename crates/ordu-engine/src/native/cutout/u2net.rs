//! U²-Net, which tells what a picture shows from what is behind it, and its successor for finer masks,
//! IS-Net: a network of small networks.
//!
//! ```text
//! [1, 3, s, s] ─► (IS-Net: half) ─► stage 1 ─► 2 ─► … ─► 6      each a U-Net of its own, halved between
//!                                      │       │         │
//!                                   stage 1d ◄ 2d ◄ … ◄ 5d ─► sides ─► joined ─► [1, 1, s, s]
//! ```
//!
//! # Source
//! Qin et al. 2020, "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection", § 3;
//! Qin et al. 2022, "Highly Accurate Dichotomous Image Segmentation", § 4.

use candle_core::Tensor;

use super::super::ops::{
    Conv2d, Edges, Geometry, Spread, bilinear, halved_by_max, join, normed_conv,
};
use super::super::weights::{Scope, Weights};
use crate::EngineError;
use crate::native::Compute;

/// Stages on the way down.
const STAGES: usize = 6;
/// How deep the small network of each stage is. The last two do not halve: their taps stand further
/// apart instead.
const DEPTHS: [usize; STAGES] = [7, 6, 5, 4, 4, 4];
const FIRST_FLAT: usize = 5;
/// The usual sides of what they are shown.
const SIDE: usize = 320;
const SIDE_FINE: usize = 1024;
/// The most channels of any layer: what none of them has by far.
const MAX_CHANNELS: usize = 4096;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct U2Net {
    /// IS-Net looks at half of the pixels of each side.
    enter: Option<Conv2d>,
    down: Vec<Rsu>,
    /// From the smallest to the largest.
    up: Vec<Rsu>,
    /// From the largest to the smallest. Of IS-Net the first alone.
    sides: Vec<Conv2d>,
    /// Of U²-Net.
    joined: Option<Conv2d>,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let first = weights.shape("stage1.rebnconvin.conv_s1.weight");
    first.is_some() && weights.shape("stage6.rebnconvin.conv_s1.weight").is_some()
}

/// Whether it is an IS-Net.
pub(super) fn is_fine(weights: &Weights) -> bool {
    weights.shape("conv_in.weight").is_some()
}

/// The side of what it is usually shown.
pub(super) fn usual_side(weights: &Weights) -> usize {
    if is_fine(weights) { SIDE_FINE } else { SIDE }
}

impl U2Net {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let root = weights.root(compute);
        let fine = is_fine(weights);
        let mut width = 3;
        let enter = if fine {
            width = outputs(&root, "conv_in.weight");
            let scope = root.sub("conv_in");
            Some(Conv2d::new(&scope, 3, width, Geometry::HALVE)?)
        } else {
            None
        };
        let mut down: Vec<Rsu> = Vec::new();
        for stage in 1..=STAGES {
            let rsu = Rsu::new(&root.sub(format!("stage{stage}")), stage, width)?;
            width = rsu.outputs;
            down.push(rsu);
        }
        let (mut up, mut sides) = (Vec::new(), Vec::new());
        for stage in (1..=STAGES).rev() {
            if let Some(beside) = down.get(stage - 1).filter(|_| stage < STAGES) {
                let inputs = width + beside.outputs;
                let rsu = Rsu::new(&root.sub(format!("stage{stage}d")), stage, inputs)?;
                width = rsu.outputs;
                up.push(rsu);
            }
            let scope = root.sub(format!("side{stage}"));
            sides.insert(0, Conv2d::new(&scope, width, 1, Geometry::SAME)?);
        }
        let joined = if fine {
            // The others were only for training.
            sides.truncate(1);
            None
        } else {
            let scope = root.sub("outconv");
            Some(Conv2d::new(&scope, STAGES, 1, Geometry::POINT)?)
        };
        root.finish(name, &["num_batches_tracked"])?;
        Ok(Self {
            enter,
            down,
            up,
            sides,
            joined,
        })
    }

    /// `[1, 3, s, s]` as it was trained on to `[1, 1, s, s]`, how much of each pixel belongs to what is
    /// shown, before it is pressed into 0…1. `go_on` is asked after each stage.
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
        let mut y = match &self.enter {
            Some(enter) => enter.forward(x, Edges::Zero)?,
            None => x.clone(),
        };
        let mut seen: Vec<Tensor> = Vec::new();
        for (stage, rsu) in self.down.iter().enumerate() {
            if stage > 0 {
                y = halved_by_max(&y)?;
            }
            y = rsu.forward(&y)?;
            seen.push(y.clone());
            go_on()?;
        }
        seen.pop();
        let mut scales = vec![y.clone()];
        for rsu in &self.up {
            let Some(beside) = seen.pop() else { break };
            y = rsu.forward(&onto(&y, &beside)?)?;
            scales.insert(0, y.clone());
            go_on()?;
        }
        let mut sides = Vec::new();
        for (scale, side) in scales.iter().zip(&self.sides) {
            sides.push(bilinear(&side.forward(scale, Edges::Zero)?, height, width)?);
        }
        let sides = Tensor::cat(&sides, 1)?;
        Ok(match &self.joined {
            Some(joined) => joined.forward(&sides, Edges::Zero)?,
            None => sides,
        })
    }
}

/// A small picture at the size of another, and that one behind it.
fn onto(small: &Tensor, beside: &Tensor) -> candle_core::Result<Tensor> {
    let (_, _, height, width) = beside.dims4()?;
    join(&bilinear(small, height, width)?, beside)
}

/// The channels that a layer of the file makes; one if it is not there, which is said later.
fn outputs(scope: &Scope<'_>, name: &str) -> usize {
    let first = scope.shape(name).and_then(|shape| shape.first().copied());
    first.unwrap_or(1).clamp(1, MAX_CHANNELS)
}

/// The network of one stage: a residual U-block.
#[derive(Clone, Debug)]
struct Rsu {
    outputs: usize,
    flat: bool,
    enter: Spread,
    down: Vec<Spread>,
    /// From the smallest to the largest.
    up: Vec<Spread>,
}

impl Rsu {
    /// That of a stage.
    fn new(scope: &Scope<'_>, stage: usize, inputs: usize) -> Result<Self, EngineError> {
        let depth = DEPTHS.get(stage - 1).copied().unwrap_or(4);
        let flat = stage >= FIRST_FLAT;
        let width = outputs(scope, "rebnconvin.conv_s1.weight");
        let inner = outputs(scope, "rebnconv1.conv_s1.weight");
        let layer = |name: &str, sides: (usize, usize), apart: usize| {
            let scope = scope.sub(name);
            let parts = (&scope.sub("conv_s1"), &scope.sub("bn_s1"));
            let conv = normed_conv(parts, sides, Geometry::SAME)?;
            Ok::<_, EngineError>(Spread::new(conv, apart))
        };
        let mut down = Vec::new();
        for number in 1..=depth {
            let inputs = if number == 1 { width } else { inner };
            let apart = if flat {
                1 << (number - 1)
            } else if number == depth {
                2
            } else {
                1
            };
            down.push(layer(&format!("rebnconv{number}"), (inputs, inner), apart)?);
        }
        let mut up = Vec::new();
        for number in (1..depth).rev() {
            let outputs = if number == 1 { width } else { inner };
            let apart = if flat { 1 << (number - 1) } else { 1 };
            up.push(layer(
                &format!("rebnconv{number}d"),
                (2 * inner, outputs),
                apart,
            )?);
        }
        Ok(Self {
            outputs: width,
            flat,
            enter: layer("rebnconvin", (inputs, width), 1)?,
            down,
            up,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let whole = self.enter.forward(x)?.relu()?;
        let mut seen: Vec<Tensor> = Vec::new();
        let mut y = whole.clone();
        for (number, layer) in self.down.iter().enumerate() {
            // The first looks at the whole, the last at what the one before it saw.
            if !self.flat && number > 0 && number + 1 < self.down.len() {
                y = halved_by_max(&y)?;
            }
            y = layer.forward(&y)?.relu()?;
            seen.push(y.clone());
        }
        seen.pop();
        for layer in &self.up {
            let Some(beside) = seen.pop() else { break };
            y = layer.forward(&onto(&y, &beside)?)?.relu()?;
        }
        y + whole
    }
}
