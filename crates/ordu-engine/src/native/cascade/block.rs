//! The blocks of Stable Cascade's diffusion networks, on pictures with channels last.

use candle_core::{D, DType, Result, Tensor};

use super::config::{Config, Kind};
use super::grid::{Beyond, Depthwise};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, LayerNorm, Linear, attention};
use crate::native::weights::Scope;

/// Of all normalisations.
pub(super) const EPSILON: f32 = 1e-6;

/// What a block is told beside the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// The embedding of the time, and of the further numbers, `[1, time]` each.
    pub(super) times: &'a [Tensor],
    /// `[batch, tokens, context]`.
    pub(super) context: &'a Tensor,
}

/// A block.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Residual(Residual),
    Time(Time),
    Attention(Attention),
}

impl Block {
    /// The block of a kind at a width; `has_skip` says whether it also reads what came down.
    pub(super) fn new(
        scope: &Scope<'_>,
        (config, kind): (&Config, Kind),
        width: usize,
        skip: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(match kind {
            Kind::Residual => Self::Residual(Residual::new(scope, width, skip)?),
            Kind::Time => Self::Time(Time::new(scope, config, width)?),
            Kind::Attention => Self::Attention(Attention::new(scope, config, width)?),
        })
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        skip: Option<&Tensor>,
        told: Told<'_>,
    ) -> Result<Tensor> {
        match self {
            Self::Residual(block) => block.forward(x, skip),
            Self::Time(block) => block.forward(x, told.times),
            Self::Attention(block) => block.forward(x, told.context),
        }
    }
}

/// Mixes neighbours of each channel, then the channels of each place (Woo et al. 2023, "ConvNeXt V2").
#[derive(Clone, Debug)]
pub(super) struct Residual {
    mix: Depthwise,
    norm: LayerNorm,
    widen: Linear,
    response: Response,
    narrow: Linear,
}

impl Residual {
    fn new(scope: &Scope<'_>, width: usize, skip: usize) -> std::result::Result<Self, EngineError> {
        let channels = scope.sub("channelwise");
        Ok(Self {
            mix: Depthwise::new(&scope.sub("depthwise"), width, Beyond::Nothing)?,
            norm: LayerNorm::plain(scope.compute(), width, EPSILON)?,
            widen: Linear::new(&channels.sub(0), width + skip, 4 * width)?,
            response: Response::new(&channels.sub(2), 4 * width)?,
            narrow: Linear::new(&channels.sub(4), 4 * width, width)?,
        })
    }

    fn forward(&self, x: &Tensor, skip: Option<&Tensor>) -> Result<Tensor> {
        let mixed = self.norm.forward(&self.mix.forward(x)?)?;
        let mixed = match skip {
            Some(skip) => Tensor::cat(&[&mixed, skip], 3)?,
            None => mixed,
        };
        let wide = Activation::Gelu.apply(&self.widen.forward(&mixed)?)?;
        self.narrow
            .forward_onto(&self.response.forward(&wide)?, Some(x))
    }
}

/// Global response normalisation: a channel that says more than others in the whole picture says more
/// everywhere.
#[derive(Clone, Debug)]
struct Response {
    gamma: Tensor,
    beta: Tensor,
}

impl Response {
    fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        let shape = [1, 1, 1, width];
        Ok(Self {
            gamma: scope.take("gamma", &shape)?,
            beta: scope.take("beta", &shape)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let strength = x.to_dtype(DType::F32)?.sqr()?.sum_keepdim((1, 2))?.sqrt()?;
        let mean = (strength.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?;
        let relative = strength.broadcast_div(&mean)?.to_dtype(x.dtype())?;
        // gamma · x · relative + beta + x.
        let scale = (relative.broadcast_mul(&self.gamma)? + 1.0)?;
        x.broadcast_mul(&scale)?.broadcast_add(&self.beta)
    }
}

/// Scales and shifts all channels by the time and by further numbers.
#[derive(Clone, Debug)]
pub(super) struct Time {
    mappers: Vec<Linear>,
}

impl Time {
    fn new(
        scope: &Scope<'_>,
        config: &Config,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        let further = config.times.iter().map(|name| format!("mapper_{name}"));
        let names = std::iter::once("mapper".to_owned()).chain(further);
        let mappers = names.map(|name| Linear::new(&scope.sub(name), config.time, 2 * width));
        Ok(Self {
            mappers: mappers.collect::<std::result::Result<_, _>>()?,
        })
    }

    fn forward(&self, x: &Tensor, times: &[Tensor]) -> Result<Tensor> {
        let mut both: Option<Tensor> = None;
        for (mapper, time) in self.mappers.iter().zip(times) {
            both = Some(mapper.forward_onto(time, both.as_ref())?);
        }
        let Some(both) = both else {
            return Ok(x.clone());
        };
        let width = x.dim(D::Minus1)?;
        let part = |number: usize| both.narrow(1, number * width, width)?.squeeze(0);
        x.broadcast_mul(&(part(0)? + 1.0)?)?
            .broadcast_add(&part(1)?)
    }
}

/// Attention to all of the picture and to what is told.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    norm: LayerNorm,
    told: Linear,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(
        scope: &Scope<'_>,
        config: &Config,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        let own = scope.sub("attention").sub("attn");
        let linear = |name: &str| Linear::new(&own.sub(name), width, width);
        Ok(Self {
            norm: LayerNorm::plain(scope.compute(), width, EPSILON)?,
            told: Linear::new(&scope.sub("kv_mapper").sub(1), config.context, width)?,
            q: linear("to_q")?,
            k: linear("to_k")?,
            v: linear("to_v")?,
            out: linear("out_proj")?,
            heads: config.heads(width).unwrap_or(1),
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (batch, rows, columns, width) = x.dims4()?;
        let own = self.norm.forward(x)?;
        let own = own.reshape((batch, rows * columns, width))?;
        let told = self.told.forward(&Activation::Silu.apply(context)?)?;
        let seen = Tensor::cat(&[&own, &told], 1)?;
        let (q, k, v) = (
            self.q.forward(&own)?,
            self.k.forward(&seen)?,
            self.v.forward(&seen)?,
        );
        let attended = attention(&q, &k, &v, self.heads, None)?;
        let attended = self.out.forward(&attended)?;
        x + attended.reshape((batch, rows, columns, width))?
    }
}

/// A normalisation of a width.
pub(super) fn plain(compute: &Compute, width: usize) -> Result<LayerNorm> {
    LayerNorm::plain(compute, width, EPSILON)
}
