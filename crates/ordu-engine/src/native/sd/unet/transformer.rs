//! Attention over the pixels of a picture, and from them to the text.
//!
//! `[b, c, h, w]` → norm, projection → `[b, h w, c]` → layers of (self-attention, cross-attention,
//! feed-forward), each added to what it was given → projection → `[b, c, h, w]`, added to what came
//! in.

use candle_core::{D, Result, Tensor};

use super::super::config::UNetConfig;
use super::Conditions;
use crate::EngineError;
use crate::native::ops::{
    Followed, GroupNorm, LayerNorm, Linear, add, attention, gated_gelu, to_picture, to_tokens,
};
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
        let (_, _, height, width) = x.dims4()?;
        let mut tokens = to_tokens(&self.norm.forward(x, Followed::ByNothing)?)?;
        tokens = self.enter.forward(&tokens)?;
        for layer in &self.layers {
            tokens = layer.forward(tokens, conditions.text)?;
        }
        tokens = self.leave.forward(&tokens)?;
        add(x, &to_picture(&tokens, height, width)?)
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
            to_self: Attention::new(&scope.sub("attn1"), sizes, To::Itself)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), channels)?,
            to_text: Attention::new(&scope.sub("attn2"), sizes, To::Text)?,
            norm3: LayerNorm::new(&scope.sub("norm3"), channels)?,
            widen: Linear::new(&feed.sub(0).sub("proj"), channels, 8 * channels)?,
            narrow: Linear::new(&feed.sub(2), 4 * channels, channels)?,
        })
    }

    /// Takes the place of what it is given, which is let go of on the way.
    fn forward(&self, mut x: Tensor, text: &Tensor) -> Result<Tensor> {
        x = {
            let normed = self.norm1.forward(&x)?;
            self.to_self.forward((&normed, &normed), &x)?
        };
        x = self.to_text.forward((&self.norm2.forward(&x)?, text), &x)?;
        let mut inner = self.norm3.forward(&x)?;
        inner = self.widen.forward(&inner)?;
        inner = gated_gelu(&inner)?;
        self.narrow.forward_onto(&inner, Some(&x))
    }
}

#[derive(Clone, Debug)]
struct Attention {
    reads: Reads,
    out: Linear,
    heads: usize,
    sharing: Option<Sharing>,
}

/// What a layer of a transparent picture tells itself after an attention, see [`crate::native::transparent`].
#[derive(Clone, Debug)]
struct Sharing {
    norm: LayerNorm,
    told: Linear,
}

impl Sharing {
    const EPSILON: f32 = 1e-6;

    /// With one frame, attention over frames gives back its values: what goes in, values and what comes
    /// out are three layers one after the other.
    fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        let layer = |name: &str| Linear::new(&scope.sub(name), width, width);
        let (enter, values, leave) = (
            layer("temporal_i")?,
            layer("temporal_v")?,
            layer("temporal_o")?,
        );
        Ok(Self {
            norm: LayerNorm::new(&scope.sub("temporal_n"), width)?.with_epsilon(Self::EPSILON),
            told: Linear::chained(&[&enter, &values, &leave])?,
        })
    }

    /// What is added to `onto`, for tokens and what an attention made of them.
    fn forward(&self, tokens: &Tensor, made: &Tensor, onto: &Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(&(tokens + made)?)?;
        onto + self.told.forward_onto(&normed, Some(made))?
    }
}

/// How queries, keys and values are made.
#[derive(Clone, Debug)]
enum Reads {
    /// One by one.
    Apart { q: Linear, k: Linear, v: Linear },
    /// All of the same tokens, in one product: on a card few large products beat many small ones.
    /// On the processor cutting the result apart would cost what that saves.
    Itself { qkv: Linear },
    /// Keys and values of the text, in one product.
    Text { q: Linear, kv: Linear },
}

impl Attention {
    fn new(scope: &Scope<'_>, sizes: Sizes, to: To) -> std::result::Result<Self, EngineError> {
        let Sizes {
            channels,
            heads,
            text,
        } = sizes;
        let width = match to {
            To::Itself => channels,
            To::Text => text,
        };
        let q = Linear::without_bias(&scope.sub("to_q"), channels, channels)?;
        let k = Linear::without_bias(&scope.sub("to_k"), width, channels)?;
        let v = Linear::without_bias(&scope.sub("to_v"), width, channels)?;
        let reads = match to {
            _ if scope.compute().device().is_cpu() => Reads::Apart { q, k, v },
            To::Itself => Reads::Itself {
                qkv: Linear::joined(&[&q, &k, &v])?,
            },
            To::Text => Reads::Text {
                kv: Linear::joined(&[&k, &v])?,
                q,
            },
        };
        Ok(Self {
            reads,
            out: Linear::new(&scope.sub("to_out").sub(0), channels, channels)?,
            heads,
            sharing: if scope.has("temporal_o.weight") {
                Some(Sharing::new(scope, channels)?)
            } else {
                None
            },
        })
    }

    /// From one sequence to another; the result is added to `onto`.
    fn forward(&self, (x, to): (&Tensor, &Tensor), onto: &Tensor) -> Result<Tensor> {
        let part = |y: &Tensor, index: usize, of: usize| {
            let width = y.dim(D::Minus1)? / of;
            y.narrow(D::Minus1, index * width, width)
        };
        let y = {
            let (q, k, v) = match &self.reads {
                Reads::Apart { q, k, v } => (q.forward(x)?, k.forward(to)?, v.forward(to)?),
                Reads::Itself { qkv } => {
                    let y = qkv.forward(x)?;
                    (part(&y, 0, 3)?, part(&y, 1, 3)?, part(&y, 2, 3)?)
                }
                Reads::Text { q, kv } => {
                    let y = kv.forward(to)?;
                    (q.forward(x)?, part(&y, 0, 2)?, part(&y, 1, 2)?)
                }
            };
            attention(&q, &k, &v, self.heads, None)?
        };
        match &self.sharing {
            None => self.out.forward_onto(&y, Some(onto)),
            Some(sharing) => sharing.forward(x, &self.out.forward(&y)?, onto),
        }
    }
}

/// What a sequence attends to.
#[derive(Clone, Copy)]
enum To {
    Itself,
    Text,
}
