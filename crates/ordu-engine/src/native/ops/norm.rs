//! Normalisation over channels and over groups of channels.

use candle_core::{D, DType, Result, Tensor};

use crate::EngineError;
#[cfg(feature = "cuda")]
use crate::native::gpu;
use crate::native::weights::Scope;
use crate::native::{Compute, cpu};

/// Layer normalisation (Ba et al. 2016) over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    /// What nearly all networks use.
    const EPSILON: f32 = 1e-5;

    /// Takes `weight` and `bias`.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            weight: scope.take("weight", &[width])?.contiguous()?,
            bias: scope.take("bias", &[width])?.contiguous()?,
            epsilon: Self::EPSILON,
        })
    }

    /// One that scales and shifts nothing, and takes no tensors.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn plain(compute: &Compute, width: usize, epsilon: f32) -> Result<Self> {
        Ok(Self {
            weight: Tensor::ones(width, compute.dtype(), compute.device())?,
            bias: Tensor::zeros(width, compute.dtype(), compute.device())?,
            epsilon,
        })
    }

    /// The same with another epsilon.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f32) -> Self {
        Self { epsilon, ..self }
    }

    /// `[…, width]` to the same shape.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return gpu::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon);
        }
        if x.device().is_cpu() {
            return cpu::layer_norm(x, (&self.weight, &self.bias), self.epsilon);
        }
        candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}

/// What comes right after a normalisation; computed in the same pass over memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing.
    ByNothing,
    /// `x * sigmoid(x)`.
    BySilu,
}

/// Group normalisation (Wu and He 2018).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// Takes `weight` and `bias`.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub fn new(
        scope: &Scope<'_>,
        channels: usize,
        groups: usize,
        epsilon: f64,
    ) -> std::result::Result<Self, EngineError> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            let reason = format!("{channels} channels cannot be normalised in {groups} groups");
            return Err(EngineError::bad_model("config.json", reason));
        }
        Ok(Self {
            weight: scope.take("weight", &[channels])?.contiguous()?,
            bias: scope.take("bias", &[channels])?.contiguous()?,
            groups,
            epsilon,
        })
    }

    /// `[batch, channels, …]` to the same shape.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor, followed: Followed) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() && gpu::group_norm_fits(self.weight.elem_count()) {
            #[expect(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
            let numbers = (self.groups, self.epsilon as f32);
            let weights = (&self.weight, &self.bias);
            return gpu::first(&gpu::group_norm(
                &gpu::last(x)?,
                weights,
                numbers,
                followed,
            )?);
        }
        if !x.device().is_cpu() {
            return self.composed(x, followed);
        }
        let weights = (&self.weight, &self.bias);
        cpu::group_norm(x, weights, (self.groups, self.epsilon), followed)
    }

    /// The same of the library's operations, in f32.
    fn composed(&self, x: &Tensor, followed: Followed) -> Result<Tensor> {
        let (batch, channels) = (x.dim(0)?, x.dim(1)?);
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        let per_channel =
            |numbers: &Tensor| numbers.to_dtype(DType::F32)?.reshape((1, channels, 1));
        let y = normal
            .reshape((batch, channels, ()))?
            .broadcast_mul(&per_channel(&self.weight)?)?
            .broadcast_add(&per_channel(&self.bias)?)?;
        let y = if followed == Followed::BySilu {
            y.silu()?
        } else {
            y
        };
        y.reshape(x.shape())?.to_dtype(x.dtype())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::NoiseSource;
    use crate::native::noise::NoiseStream;

    #[test]
    fn the_composed_way_gives_what_ours_gives() {
        let draw = |seed: u64, shape: [usize; 4]| {
            let mut stream = NoiseStream::new(NoiseSource::Philox, seed, shape);
            stream.draw(&Device::Cpu).unwrap()
        };
        let x = ((draw(1, [2, 12, 5, 7]) * 3.0).unwrap() + 2.0).unwrap();
        let norm = GroupNorm {
            weight: draw(2, [1, 1, 1, 12]).flatten_all().unwrap(),
            bias: draw(3, [1, 1, 1, 12]).flatten_all().unwrap(),
            groups: 4,
            epsilon: 1e-5,
        };
        for followed in [Followed::ByNothing, Followed::BySilu] {
            let ours = norm.forward(&x, followed).unwrap();
            let difference = (ours - norm.composed(&x, followed).unwrap()).unwrap();
            let worst = difference.abs().unwrap().max_all().unwrap();
            assert!(worst.to_scalar::<f32>().unwrap() < 1e-5);
        }
    }
}
