//! The text tower of CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural
//! Language Supervision").
//!
//! Token ids `[batch, tokens]` → token and position tables → layers of causal attention and
//! feed-forward, each added to what it was given → last normalisation → `[batch, tokens, width]`.

use candle_core::{DType, Result, Tensor};

use super::config::ClipConfig;
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, LayerNorm, Linear, attention};
use crate::native::weights::{Scope, Weights};

/// The text encoder.
#[derive(Clone, Debug)]
pub struct Clip {
    compute: Compute,
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
}

/// What older exports put before every name and newer ones leave out.
pub fn prefix(weights: &Weights) -> &'static str {
    let old = "text_model.";
    if weights.iter().any(|(name, _)| name.starts_with(old)) {
        old
    } else {
        ""
    }
}

impl Clip {
    /// Takes all tensors of the encoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the configuration or the tensors do not fit.
    pub fn new(
        weights: &Weights,
        config: &ClipConfig,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        let activation = config.check()?;
        let root = weights.root(compute);
        let scope = match prefix(weights) {
            "" => root.clone(),
            prefix => root.sub(prefix.trim_end_matches('.')),
        };
        let width = config.hidden_size;
        let embeddings = scope.sub("embeddings");
        let table = |name: &str, rows: usize| embeddings.sub(name).take("weight", &[rows, width]);
        let clip = Self {
            compute: compute.clone(),
            tokens: table("token_embedding", config.vocab_size)?,
            positions: table("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| {
                    Layer::new(
                        &scope.sub("encoder").sub("layers").sub(layer),
                        config,
                        activation,
                    )
                })
                .collect::<std::result::Result<_, _>>()?,
            last_norm: LayerNorm::new(&scope.sub("final_layer_norm"), width)?,
        };
        // Older exports carry the row numbers of the position table; some carry the projection that
        // only search uses.
        root.finish("text_encoder", &["position_ids", "text_projection.weight"])?;
        Ok(clip)
    }

    /// Tokens of one chunk, its two end marks included.
    pub fn context(&self) -> usize {
        self.positions.dim(0).unwrap_or_default()
    }

    /// `[batch, tokens]` u32 to `[batch, tokens, width]` in f32 on the encoder's device, read after the `skip`-th layer from the
    /// end (1 is the last).
    ///
    /// # Errors
    ///
    /// Those of the tensor library, as for ids beyond the table.
    pub fn forward(&self, ids: &Tensor, skip: usize) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        let width = self.tokens.dim(1)?;
        let ids = ids.to_device(self.compute.device())?;
        let embedded = self
            .tokens
            .index_select(&ids.flatten_all()?, 0)?
            .reshape((batch, tokens, width))?;
        let mut x = embedded.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        let mask = causal_mask(tokens, &self.compute)?;
        let used = (self.layers.len() + 1).saturating_sub(skip.max(1)).max(1);
        for layer in self.layers.iter().take(used) {
            x = layer.forward(&x, &mask)?;
        }
        self.last_norm.forward(&x)?.to_dtype(DType::F32)
    }
}

/// `[tokens, tokens]`: 0 for tokens up to one's own, minus infinity for those that follow.
fn causal_mask(tokens: usize, compute: &Compute) -> Result<Tensor> {
    let row = |own: usize| {
        (0..tokens).map(move |other| if other > own { f32::NEG_INFINITY } else { 0.0 })
    };
    let mask: Vec<f32> = (0..tokens).flat_map(row).collect();
    Tensor::from_vec(mask, (tokens, tokens), compute.device())?.to_dtype(compute.dtype())
}

#[derive(Clone, Debug)]
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
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
        config: &ClipConfig,
        activation: Activation,
    ) -> std::result::Result<Self, EngineError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let projection = |name: &str| Linear::new(&scope.sub("self_attn").sub(name), width, width);
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("layer_norm1"), width)?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            out: projection("out_proj")?,
            norm2: LayerNorm::new(&scope.sub("layer_norm2"), width)?,
            widen: Linear::new(&scope.sub("mlp").sub("fc1"), width, inner)?,
            narrow: Linear::new(&scope.sub("mlp").sub("fc2"), inner, width)?,
            heads: config.num_attention_heads,
            activation,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let (q, k, v) = (
            self.q.forward(&normed)?,
            self.k.forward(&normed)?,
            self.v.forward(&normed)?,
        );
        let attended = attention(&q, &k, &v, self.heads, Some(mask))?;
        let x = (x + self.out.forward(&attended)?)?;
        let inner = self.widen.forward(&self.norm2.forward(&x)?)?;
        &x + self.narrow.forward(&self.activation.apply(&inner)?)?
    }
}
