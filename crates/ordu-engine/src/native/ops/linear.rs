//! Matrix times vector plus bias.

use candle_core::{Result, Tensor};

use crate::EngineError;
use crate::native::weights::Scope;

/// A linear layer; weights `[out, in]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` and `bias`.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub fn new(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let bias = scope.take("bias", &[outputs])?;
        Ok(Self {
            bias: Some(bias),
            ..Self::without_bias(scope, inputs, outputs)?
        })
    }

    /// Takes `weight` alone.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub fn without_bias(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            weight: scope.take("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or_default();
        shape.push(self.weight.dim(0)?);
        // One large product instead of one per picture of the batch.
        let y = x.reshape(((), inputs))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape(shape)
    }
}
