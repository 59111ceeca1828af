//! Vision transformers (Dosovitskiy et al. 2021), as CLIP and BLIP have them.
//!
//! Pixels `[batch, 3, side, side]` → a vector for each patch, one of its own in front, places added
//! → layers of attention and feed-forward, each added to what it was given → `[batch, 1 + patches,
//! width]`.

use candle_core::{D, Result, Tensor};

use super::GoOn;
use super::config::TowerConfig;
use crate::EngineError;
use crate::native::ops::{Activation, LayerNorm, Linear, attention};
use crate::native::weights::Scope;

/// Whose names and habits a tower has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Normalises before its layers; the last normalisation is for the first vector.
    Clip,
    /// Patches have a bias; queries, keys and values are one matrix.
    Blip,
}

/// A network that looks at pictures.
#[derive(Debug)]
pub(super) struct Tower {
    patch: usize,
    /// `[width, 3 * patch * patch]`.
    patches: Tensor,
    patch_bias: Option<Tensor>,
    /// `[1, 1, width]`.
    first: Tensor,
    /// `[1, 1 + patches, width]`.
    places: Tensor,
    before: Option<LayerNorm>,
    layers: Vec<Layer>,
    after: LayerNorm,
}

impl Tower {
    /// Takes all tensors of a tower.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &TowerConfig,
        (kind, activation): (Kind, Activation),
    ) -> std::result::Result<Self, EngineError> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let seen = 1 + config.patches();
        let embeddings = scope.sub("embeddings");
        let patching = embeddings.sub("patch_embedding");
        let patches = patching.take("weight", &[width, 3, patch, patch])?;
        let (first, places, patch_bias, before) = match kind {
            Kind::Clip => (
                embeddings.take("class_embedding", &[width])?,
                embeddings
                    .sub("position_embedding")
                    .take("weight", &[seen, width])?,
                None,
                // The name is misspelt in all files.
                Some(LayerNorm::new(&scope.sub("pre_layrnorm"), width)?),
            ),
            Kind::Blip => (
                embeddings.take("class_embedding", &[1, 1, width])?,
                embeddings.take("position_embedding", &[1, seen, width])?,
                Some(patching.take("bias", &[width])?),
                None,
            ),
        };
        let layers = scope.sub("encoder").sub("layers");
        let layer = |number| Layer::new(&layers.sub(number), config, (kind, activation));
        Ok(Self {
            patch,
            patches: patches.reshape((width, 3 * patch * patch))?,
            patch_bias,
            first: first.reshape((1, 1, width))?,
            places: places.reshape((1, seen, width))?,
            before,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<std::result::Result<_, _>>()?,
            after: LayerNorm::new(&scope.sub("post_layernorm"), width)?,
        })
    }

    /// `[1, 3, side, side]` to `[1, 1 + patches, width]`, not yet normalised. `go_on` is asked before
    /// each layer.
    fn layers(&self, pixels: &Tensor, go_on: GoOn<'_>) -> std::result::Result<Tensor, EngineError> {
        let mut x = self.embedded(pixels)?;
        if let Some(before) = &self.before {
            x = before.forward(&x)?;
        }
        for layer in &self.layers {
            go_on()?;
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    /// All vectors of a picture, normalised.
    ///
    /// # Errors
    ///
    /// What `go_on` says, and those of the tensor library.
    pub(super) fn all(
        &self,
        pixels: &Tensor,
        go_on: GoOn<'_>,
    ) -> std::result::Result<Tensor, EngineError> {
        Ok(self.after.forward(&self.layers(pixels, go_on)?)?)
    }

    /// The first vector of a picture, normalised: `[1, width]`.
    ///
    /// # Errors
    ///
    /// As [`Self::all`].
    pub(super) fn first(
        &self,
        pixels: &Tensor,
        go_on: GoOn<'_>,
    ) -> std::result::Result<Tensor, EngineError> {
        let x = self.layers(pixels, go_on)?.narrow(1, 0, 1)?.squeeze(1)?;
        Ok(self.after.forward(&x)?)
    }

    fn embedded(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = pixels.dims4()?;
        let (down, across) = (height / self.patch, width / self.patch);
        let cut = pixels
            .reshape(vec![batch, channels, down, self.patch, across, self.patch])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((batch * down * across, ()))?;
        let mut x = cut.matmul(&self.patches.t()?)?;
        if let Some(bias) = &self.patch_bias {
            x = x.broadcast_add(bias)?;
        }
        let x = x.reshape((batch, down * across, ()))?;
        let first = self.first.broadcast_as((batch, 1, x.dim(D::Minus1)?))?;
        Tensor::cat(&[&first.contiguous()?, &x], 1)?.broadcast_add(&self.places)
    }
}

#[derive(Debug)]
enum Views {
    Apart([Linear; 3]),
    /// One behind the other.
    Together(Linear),
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    views: Views,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
    activation: Activation,
}

impl Layer {
    fn new(
        scope: &Scope<'_>,
        config: &TowerConfig,
        (kind, activation): (Kind, Activation),
    ) -> std::result::Result<Self, EngineError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let own = scope.sub("self_attn");
        let linear = |name: &str| Linear::new(&own.sub(name), width, width);
        let (views, out) = match kind {
            Kind::Clip => (
                Views::Apart([linear("q_proj")?, linear("k_proj")?, linear("v_proj")?]),
                linear("out_proj")?,
            ),
            Kind::Blip => (
                Views::Together(Linear::new(&own.sub("qkv"), width, 3 * width)?),
                linear("projection")?,
            ),
        };
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("layer_norm1"), width)?,
            views,
            out,
            norm2: LayerNorm::new(&scope.sub("layer_norm2"), width)?,
            widen: Linear::new(&scope.sub("mlp").sub("fc1"), width, inner)?,
            narrow: Linear::new(&scope.sub("mlp").sub("fc2"), inner, width)?,
            heads: config.num_attention_heads,
            activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let [q, k, v] = match &self.views {
            Views::Apart([q, k, v]) => [
                q.forward(&normed)?,
                k.forward(&normed)?,
                v.forward(&normed)?,
            ],
            Views::Together(all) => {
                let all = all.forward(&normed)?;
                let width = normed.dim(D::Minus1)?;
                let part = |number: usize| all.narrow(D::Minus1, number * width, width);
                [part(0)?, part(1)?, part(2)?]
            }
        };
        let attended = attention(&q, &k, &v, self.heads, None)?;
        let x = (x + self.out.forward(&attended)?)?;
        let inner = self.widen.forward(&self.norm2.forward(&x)?)?;
        &x + self.narrow.forward(&self.activation.apply(&inner)?)?
    }
}
