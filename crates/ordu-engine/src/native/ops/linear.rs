//! Matrix times vector plus bias.

use candle_core::{Result, Tensor};

use crate::EngineError;
#[cfg(feature = "cuda")]
use crate::native::gpu;
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

    /// Layers that read the same, as one: their results come one behind the other.
    ///
    /// # Errors
    ///
    /// Those of the tensor library; if only some have a bias.
    pub fn joined(layers: &[&Self]) -> Result<Self> {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<&Tensor> = layers
            .iter()
            .filter_map(|layer| layer.bias.as_ref())
            .collect();
        if !biases.is_empty() && biases.len() != layers.len() {
            candle_core::bail!("layers with and without bias cannot be joined");
        }
        let bias = (!biases.is_empty()).then(|| Tensor::cat(&biases, 0));
        Ok(Self {
            weight: Tensor::cat(&weights, 0)?,
            bias: bias.transpose()?,
        })
    }

    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_onto(x, None)
    }

    /// The same, added to something shaped like the result.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward_onto(&self, x: &Tensor, onto: Option<&Tensor>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return gpu::linear(&x.contiguous()?, &self.weight, self.bias.as_ref(), onto);
        }
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or_default();
        shape.push(self.weight.dim(0)?);
        // One large product instead of one per picture of the batch.
        let y = x.reshape(((), inputs))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        let y = y.reshape(shape)?;
        match onto {
            Some(onto) => onto + y,
            None => Ok(y),
        }
    }
}
