//! Convolutions of networks that were trained with batch normalisation (Ioffe and Szegedy 2015). Once
//! trained it is a factor and a shift for each channel, which go into the convolution before it.

use candle_core::Tensor;

use super::{Conv2d, Geometry};
use crate::EngineError;
use crate::native::weights::Scope;

/// What all networks of this kind use.
const EPSILON: f64 = 1e-5;

/// A convolution and the normalisation behind it, as one. The convolution may have a `bias`.
///
/// # Errors
///
/// Those of [`Scope::take`].
pub fn normed_conv(
    (conv, norm): (&Scope<'_>, &Scope<'_>),
    (inputs, outputs): (usize, usize),
    geometry: Geometry,
) -> Result<Conv2d, EngineError> {
    let side = geometry.kernel;
    let kernel = conv.take("weight", &[outputs, inputs, side, side])?;
    let [weight, bias, mean, variance] =
        ["weight", "bias", "running_mean", "running_var"].map(|name| norm.take(name, &[outputs]));
    let factor = (weight? / (variance? + EPSILON)?.sqrt()?)?;
    let mut shift = (bias? - (mean? * &factor)?)?;
    if conv.has("bias") {
        shift = (shift + (conv.take("bias", &[outputs])? * &factor)?)?;
    }
    let kernel = kernel.broadcast_mul(&factor.reshape((outputs, 1, 1, 1))?)?;
    Ok(Conv2d::of(&kernel, &shift, geometry)?)
}

/// A convolution that adds nothing.
///
/// # Errors
///
/// Those of [`Scope::take`].
pub fn conv_without_bias(
    scope: &Scope<'_>,
    (inputs, outputs): (usize, usize),
    geometry: Geometry,
) -> Result<Conv2d, EngineError> {
    let side = geometry.kernel;
    let kernel = scope.take("weight", &[outputs, inputs, side, side])?;
    let nothing = Tensor::zeros(outputs, kernel.dtype(), kernel.device())?;
    Ok(Conv2d::of(&kernel, &nothing, geometry)?)
}
