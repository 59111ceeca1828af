//! Matrix times vector plus bias.

use candle_core::{DType, Result, Tensor};

use crate::EngineError;
use crate::native::cpu;
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

    /// One layer that does what these do one after the other.
    ///
    /// # Errors
    ///
    /// Those of the tensor library; layers without bias.
    pub fn chained(layers: &[&Self]) -> Result<Self> {
        let mut whole: Option<(Tensor, Tensor)> = None;
        let mut dtype = None;
        for layer in layers {
            let Some(bias) = &layer.bias else {
                candle_core::bail!("layers without bias are not chained");
            };
            dtype = Some(bias.dtype());
            // Products of numbers of 16 bits are only exact in 32.
            let weight = layer.weight.to_dtype(DType::F32)?;
            let bias = bias.to_dtype(DType::F32)?;
            whole = Some(match whole {
                None => (weight, bias),
                Some((before, shift)) => {
                    let shift = weight.matmul(&shift.unsqueeze(1)?)?.squeeze(1)?;
                    (weight.matmul(&before)?, (shift + bias)?)
                }
            });
        }
        let (Some((weight, bias)), Some(dtype)) = (whole, dtype) else {
            candle_core::bail!("no layers to chain");
        };
        Ok(Self {
            weight: weight.to_dtype(dtype)?,
            bias: Some(bias.to_dtype(dtype)?),
        })
    }

    /// Of tensors that were made otherwise: `weight` is `[out, in]`, `bias` is `[out]`.
    pub fn of(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
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
        if x.device().is_cpu() {
            return cpu::linear(x, &self.weight, (self.bias.as_ref(), onto));
        }
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
