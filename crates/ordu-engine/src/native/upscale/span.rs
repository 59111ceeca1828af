//! SPAN: few plain layers, and attention without numbers of its own.
//!
//! ```text
//! [1, 3, h, w] ─► first ─┬─► six blocks ─► last ─┐
//!                        └─ and what some made ──┴─► joined ─► [1, 3 s², h, w] ─► [1, 3, s h, s w]
//! ```
//!
//! # Source
//! Wan et al. 2024, "Swift Parameter-free Attention Network for Efficient Super-Resolution".

use candle_core::{D, Tensor};

use super::super::ops::{Conv2d, Edges, Geometry};
use super::super::weights::{Scope, Weights};
use crate::EngineError;
use crate::native::Compute;

/// Blocks in a row.
const BLOCKS: usize = 6;
/// The mean colours of the pictures that it was trained with, and what spreads the rest.
const MEANS: [f32; 3] = [0.4488, 0.4371, 0.4040];
const SPREAD: f64 = 255.0;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Span {
    first: Conv2d,
    blocks: Vec<[Conv2d; 3]>,
    last: Conv2d,
    joined: Conv2d,
    leave: Conv2d,
    scale: usize,
    is_normed: bool,
}

/// The factor by which a network of these tensors enlarges; `None` if they are those of another.
pub(super) fn scale_of(weights: &Weights) -> Option<usize> {
    weights.shape("block_6.c3_r.sk.weight")?;
    weights.shape("conv_cat.weight")?;
    let outputs = *weights.shape("upsampler.0.weight")?.first()?;
    root_of(outputs / 3)
}

/// The whole number whose square this is.
pub(super) fn root_of(square: usize) -> Option<usize> {
    (1..=8).find(|root| root * root == square)
}

impl Span {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let root = weights.root(compute);
        let scale = scale_of(weights)
            .ok_or_else(|| EngineError::bad_model(name, "its last layer makes no square pixels"))?;
        let width = weights
            .shape("conv_1.sk.weight")
            .and_then(|shape| shape.first().copied())
            .unwrap_or(1);
        let block = |number: usize| {
            let scope = root.sub(format!("block_{number}"));
            let layer = |name: &str| merged(&scope.sub(name), (width, width));
            Ok::<_, EngineError>([layer("c1_r")?, layer("c2_r")?, layer("c3_r")?])
        };
        let blocks: Result<Vec<_>, _> = (1..=BLOCKS).map(block).collect();
        let is_normed = weights.shape("no_norm").is_none();
        let network = Self {
            first: merged(&root.sub("conv_1"), (3, width))?,
            blocks: blocks?,
            last: merged(&root.sub("conv_2"), (width, width))?,
            joined: Conv2d::new(&root.sub("conv_cat"), 4 * width, width, Geometry::POINT)?,
            leave: Conv2d::new(
                &root.sub("upsampler").sub(0),
                width,
                3 * scale * scale,
                Geometry::SAME,
            )?,
            scale,
            is_normed,
        };
        root.finish(name, &["no_norm", "eval_conv.weight", "eval_conv.bias"])?;
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
        let x = if self.is_normed {
            let means = Tensor::new(&MEANS, x.device())?.to_dtype(x.dtype())?;
            (x.broadcast_sub(&means.reshape((1, 3, 1, 1))?)? * SPREAD)?
        } else {
            x.clone()
        };
        let first = self.first.forward(&x, Edges::Zero)?;
        let (mut x, mut after_first, mut inner) = (first.clone(), first.clone(), first.clone());
        for (number, [enter, middle, leave]) in self.blocks.iter().enumerate() {
            let seen = enter.forward(&x, Edges::Zero)?;
            let y = middle.forward(&seen.silu()?, Edges::Zero)?;
            let y = leave.forward(&y.silu()?, Edges::Zero)?;
            let attention = (candle_nn::ops::sigmoid(&y)? - 0.5)?;
            x = ((y + x)? * attention)?;
            if number == 0 {
                after_first = x.clone();
            }
            // What the last block made of it first, activated in place by those who trained it.
            inner = seen.silu()?;
            go_on()?;
        }
        let last = self.last.forward(&x, Edges::Zero)?;
        let all = Tensor::cat(&[first, last, after_first, inner], 1)?;
        let y = self.joined.forward(&all, Edges::Zero)?;
        let y = self.leave.forward(&y, Edges::Zero)?;
        Ok(candle_nn::ops::pixel_shuffle(&y, self.scale)?)
    }
}

/// Three layers in a row and one beside them, which were one layer only while training took its time.
fn merged(scope: &Scope<'_>, (inputs, outputs): (usize, usize)) -> Result<Conv2d, EngineError> {
    let width = |name: &str| {
        let shape = scope.shape(name);
        shape.and_then(|shape| shape.first().copied()).unwrap_or(1)
    };
    let (wide, wider) = (width("conv.0.weight"), width("conv.1.weight"));
    let enter = scope.take("conv.0.weight", &[wide, inputs])?;
    let kernel = scope.take("conv.1.weight", &[wider, wide, 3, 3])?;
    let leave = scope.take("conv.2.weight", &[outputs, wider])?;
    let [enter_bias, kernel_bias, leave_bias, beside_bias] = [
        scope.take("conv.0.bias", &[wide])?,
        scope.take("conv.1.bias", &[wider])?,
        scope.take("conv.2.bias", &[outputs])?,
        scope.take("sk.bias", &[outputs])?,
    ];
    let beside = scope.take("sk.weight", &[outputs, inputs])?;
    // As matrices: outputs of the kernel and its taps, by its inputs.
    let taps = kernel.permute((0, 2, 3, 1))?.contiguous()?;
    let taps = taps.reshape((wider * 9, wide))?.matmul(&enter)?;
    let taps = taps.reshape((wider, 9 * inputs))?;
    let taps = leave.matmul(&taps)?.reshape((outputs, 3, 3, inputs))?;
    let whole = taps.permute((0, 3, 1, 2))?.contiguous()?;
    let beside = beside.reshape((outputs, inputs, 1, 1))?;
    let beside = beside.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;

    let summed = kernel.sum(D::Minus1)?.sum(D::Minus1)?;
    let column = |x: &Tensor| x.unsqueeze(1);
    let bias = (summed.matmul(&column(&enter_bias)?)? + column(&kernel_bias)?)?;
    let bias = leave.matmul(&bias)?.squeeze(1)?;
    let bias = ((bias + leave_bias)? + beside_bias)?;
    Ok(Conv2d::of(&(whole + beside)?, &bias, Geometry::SAME)?)
}
