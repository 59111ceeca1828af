//! Pointwise functions, by the names that model configurations use.

use candle_core::{D, Result, Tensor};

use crate::native::cpu;
#[cfg(feature = "cuda")]
use crate::native::gpu;

/// A pointwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: what the first CLIP was trained with.
    QuickGelu,
    /// The exact one, with the error function. Approximating it by tanh costs parity in the fourth
    /// digit.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// `[…, 2 n]` to `[…, n]`: the left half times the GELU of the right half (Shazeer 2020, GEGLU).
///
/// # Errors
///
/// Those of the tensor library.
pub fn gated_gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return cpu::gated_gelu(x);
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return gpu::gated_gelu(&x.contiguous()?);
    }
    let half = x.dim(D::Minus1)? / 2;
    let gate = x.narrow(D::Minus1, half, half)?.contiguous()?;
    x.narrow(D::Minus1, 0, half)? * Activation::Gelu.apply(&gate)?
}

impl Activation {
    /// The function of a name in a `config.json`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu" => Some(Self::Gelu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }

    /// Applies it to each number.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
            Self::Silu => x.silu(),
        }
    }
}
