//! Pictures at other sizes, and what lies beyond their edges.

use candle_core::{Result, Tensor};

use super::{Conv2d, Edges};
use crate::native::cpu;

/// A picture at another size, each pixel a mixture of the four nearest ones; corners are not aligned.
///
/// # Errors
///
/// Those of the tensor library, as in all of this module.
pub fn bilinear(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    x.contiguous()?.upsample_bilinear2d(height, width, false)
}

/// The largest of each square of two by two; at odd edges of what is left of it.
///
/// # Errors
///
/// Those of the tensor library.
pub fn halved_by_max(x: &Tensor) -> Result<Tensor> {
    let even = |x: Tensor, dimension: usize| {
        let side = x.dim(dimension)?;
        if side.is_multiple_of(2) {
            return Ok(x);
        }
        Tensor::cat(&[&x, &x.narrow(dimension, side - 1, 1)?], dimension)
    };
    even(even(x.clone(), 2)?, 3)?.max_pool2d(2)
}

/// `x`, or a part of it where it is below zero.
///
/// # Errors
///
/// Those of the tensor library.
pub fn leaky(x: &Tensor, slope: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        return cpu::leaky(x, slope);
    }
    x.maximum(&(x * slope)?)
}

/// A picture with pixels added at all edges that mirror those inside, the outermost ones left out.
///
/// # Errors
///
/// Those of the tensor library; if there are not so many inside.
pub fn mirrored(x: &Tensor, pixels: usize) -> Result<Tensor> {
    let along = |x: &Tensor, dimension: usize| {
        let side = x.dim(dimension)?;
        let before = (1..=pixels).rev().map(|at| x.narrow(dimension, at, 1));
        let after = (1..=pixels).map(|at| x.narrow(dimension, side.saturating_sub(1 + at), 1));
        let before: Vec<Tensor> = before.collect::<Result<_>>()?;
        let after: Vec<Tensor> = after.collect::<Result<_>>()?;
        let middle = std::iter::once(x.clone());
        let parts: Vec<Tensor> = before.into_iter().chain(middle).chain(after).collect();
        Tensor::cat(&parts, dimension)
    };
    along(&along(x, 2)?, 3)
}

/// A convolution of 3×3 whose taps stand further apart (Yu and Koltun 2016); the size stays. Pixels of
/// one phase never meet those of another: each phase is a picture of its own.
#[derive(Clone, Debug)]
pub struct Spread {
    conv: Conv2d,
    apart: usize,
}

impl Spread {
    /// A convolution of [`super::Geometry::SAME`] with its taps so many pixels apart.
    #[must_use]
    pub fn new(conv: Conv2d, apart: usize) -> Self {
        Self {
            conv,
            apart: apart.max(1),
        }
    }

    /// `[1, in, h, w]` to `[1, out, h, w]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let apart = self.apart;
        if apart == 1 {
            return self.conv.forward(x, Edges::Zero);
        }
        let (_, inputs, height, width) = x.dims4()?;
        let (rows, columns) = (height.div_ceil(apart), width.div_ceil(apart));
        let phases = x
            .pad_with_zeros(2, 0, rows * apart - height)?
            .pad_with_zeros(3, 0, columns * apart - width)?
            .reshape(&[inputs, rows, apart, columns, apart])?
            .permute([2, 4, 0, 1, 3])?
            .contiguous()?
            .reshape((apart * apart, inputs, rows, columns))?;
        let y = self.conv.forward(&phases, Edges::Zero)?;
        let outputs = y.dim(1)?;
        y.reshape(&[apart, apart, outputs, rows, columns])?
            .permute([2, 3, 0, 4, 1])?
            .contiguous()?
            .reshape((1, outputs, rows * apart, columns * apart))?
            .narrow(2, 0, height)?
            .narrow(3, 0, width)?
            .contiguous()
    }
}
