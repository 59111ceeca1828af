//! Attention over the pixels of a picture, and from them to the text.
//!
//! `[b, c, h, w]` → norm, projection → `[b, h w, c]` → layers of (self-attention, cross-attention,
//! feed-forward), each added to what it was given → projection → `[b, c, h, w]`, added to what came
//! in.

use candle_core::{D, Result, Tensor};

use super::super::config::UNetConfig;
use super::Conditions;
use crate::EngineError;
use crate::native::ops::{Activation, Followed, GroupNorm, LayerNorm, Linear, attention};
use crate::native::weights::Scope;

#[derive(Clone, Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    enter: Linear,
    layers: Vec<Layer>,
    leave: Linear,
}

/// Sizes of one transformer.
#[derive(Clone, Copy)]
struct Sizes {
    channels: usize,
    heads: usize,
    text: usize,
}

impl Transformer {
    /// The attention of a block; `block` counts from the outermost.
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        block: usize,
        channels: usize,
    ) -> std::result::Result<Self, EngineError> {
        let heads = config.heads(block).unwrap_or(1);
        let sizes = Sizes {
            channels,
            heads,
            text: config.cross_attention_dim,
        };
        let depth = config.transformer_layers_per_block.at(block).unwrap_or(1);
        Ok(Self {
            norm: GroupNorm::new(&scope.sub("norm"), channels, config.norm_num_groups, 1e-6)?,
            // 1×1 convolutions in older models, linear in newer: the same product either way.
            enter: Linear::new(&scope.sub("proj_in"), channels, channels)?,
            layers: (0..depth)
                .map(|layer| Layer::new(&scope.sub("transformer_blocks").sub(layer), sizes))
                .collect::<std::result::Result<_, _>>()?,
            leave: Linear::new(&scope.sub("proj_out"), channels, channels)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, conditions: &Conditions<'_>) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let normed = self.norm.forward(x, Followed::ByNothing)?;
        let tokens = normed.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let mut tokens = self.enter.forward(&tokens)?;
        for layer in &self.layers {
            tokens = layer.forward(&tokens, conditions.text)?;
        }
        let y = self.leave.forward(&tokens)?.transpose(1, 2)?;
        x + y.reshape((batch, channels, height, width))?
    }
}

#[derive(Clone, Debug)]
struct Layer {
    norm1: LayerNorm,
    to_self: Attention,
    norm2: LayerNorm,
    to_text: Attention,
    norm3: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Layer {
    fn new(scope: &Scope<'_>, sizes: Sizes) -> std::result::Result<Self, EngineError> {
        let channels = sizes.channels;
        let feed = scope.sub("ff").sub("net");
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), channels)?,
            to_self: Attention::new(
                &scope.sub("attn1"),
                Sizes {
                    text: channels,
                    ..sizes
                },
            )?,
            norm2: LayerNorm::new(&scope.sub("norm2"), channels)?,
            to_text: Attention::new(&scope.sub("attn2"), sizes)?,
            norm3: LayerNorm::new(&scope.sub("norm3"), channels)?,
            widen: Linear::new(&feed.sub(0).sub("proj"), channels, 8 * channels)?,
            narrow: Linear::new(&feed.sub(2), 4 * channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor, text: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = (x + self.to_self.forward(&normed, &normed)?)?;
        let x = (&x + self.to_text.forward(&self.norm2.forward(&x)?, text)?)?;
        // GEGLU (Shazeer 2020): one half gates the other.
        let inner = self.widen.forward(&self.norm3.forward(&x)?)?;
        let half = inner.dim(D::Minus1)? / 2;
        let gate = inner.narrow(D::Minus1, half, half)?.contiguous()?;
        let inner = (inner.narrow(D::Minus1, 0, half)? * Activation::Gelu.apply(&gate)?)?;
        &x + self.narrow.forward(&inner)?
    }
}

#[derive(Clone, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(scope: &Scope<'_>, sizes: Sizes) -> std::result::Result<Self, EngineError> {
        let Sizes {
            channels,
            heads,
            text,
        } = sizes;
        Ok(Self {
            q: Linear::without_bias(&scope.sub("to_q"), channels, channels)?,
            k: Linear::without_bias(&scope.sub("to_k"), text, channels)?,
            v: Linear::without_bias(&scope.sub("to_v"), text, channels)?,
            out: Linear::new(&scope.sub("to_out").sub(0), channels, channels)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, to: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(to)?, self.v.forward(to)?);
        self.out.forward(&attention(&q, &k, &v, self.heads, None)?)
    }
}
