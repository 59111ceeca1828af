//! The text tower of CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural
//! Language Supervision").
//!
//! Token ids `[batch, tokens]` → token and position tables → layers of causal attention and
//! feed-forward, each added to what it was given → last normalisation → `[batch, tokens, width]`.
//! Some end in a projection of the row of the end mark: a summary of the text, `[batch, projected]`.

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
    /// `[projected, width]`.
    projection: Option<Tensor>,
}

/// What is read of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// After which layer, counted from the end: 1 is the last.
    pub layer: usize,
    /// Whether the last normalisation follows, whatever the layer.
    pub normed: bool,
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
            projection: projection(&root, width)?,
        };
        // Older exports carry the row numbers of the position table.
        root.finish("text_encoder", &["position_ids", "logit_scale"])?;
        Ok(clip)
    }

    /// Tokens of one chunk, its two end marks included.
    pub fn context(&self) -> usize {
        self.positions.dim(0).unwrap_or_default()
    }

    /// Width of a token.
    pub fn width(&self) -> usize {
        self.positions.dim(1).unwrap_or_default()
    }

    /// Rows of the token table; ids beyond it are rows of what was learned later.
    pub fn vocabulary(&self) -> u32 {
        self.tokens
            .dim(0)
            .ok()
            .and_then(|rows| u32::try_from(rows).ok())
            .unwrap_or_default()
    }

    /// Width of the summary of a text; `None` if it makes none.
    pub fn summary(&self) -> Option<usize> {
        self.projection.as_ref().and_then(|it| it.dim(0).ok())
    }

    /// `[batch, tokens]` u32 to `[batch, tokens, width]` in f32 on the encoder's device, read after the `skip`-th layer from the
    /// end (1 is the last) and normalised.
    ///
    /// # Errors
    ///
    /// Those of the tensor library, as for ids beyond the table.
    pub fn forward(&self, ids: &Tensor, skip: usize) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        let ids: Vec<u32> = ids.flatten_all()?.to_vec1()?;
        let embedded = self
            .embed(&ids, None)?
            .reshape((batch, tokens, self.width()))?;
        let reading = Reading {
            layer: skip,
            normed: true,
        };
        self.read(&embedded, reading)
    }

    /// The rows of ids, `[ids, width]`: of the token table, and of `learned` `[rows, width]` for ids beyond
    /// it.
    ///
    /// # Errors
    ///
    /// Those of the tensor library, as for ids beyond both.
    pub fn embed(&self, ids: &[u32], learned: Option<&Tensor>) -> Result<Tensor> {
        let vocabulary = self.vocabulary();
        let runs = ids.chunk_by(|left, right| (*left < vocabulary) == (*right < vocabulary));
        let rows = runs.map(|run| {
            let is_known = run.first().is_none_or(|id| *id < vocabulary);
            let (table, base) = match learned {
                Some(learned) if !is_known => (self.compute.take(learned)?, vocabulary),
                _ => (self.tokens.clone(), 0),
            };
            let run: Vec<u32> = run.iter().map(|id| id.saturating_sub(base)).collect();
            let count = run.len();
            table.index_select(&Tensor::from_vec(run, count, self.compute.device())?, 0)
        });
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }

    /// `[batch, tokens, width]` of the tables to the same in f32, as it leaves a layer.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn read(&self, embedded: &Tensor, reading: Reading) -> Result<Tensor> {
        Ok(self.run(embedded, (reading, None), false)?.0)
    }

    /// The same, and the last layer normalised, of which [`Self::summarise`] reads one row.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn read_all(&self, embedded: &Tensor, reading: Reading) -> Result<(Tensor, Tensor)> {
        self.run(embedded, (reading, None), true)
    }

    /// The same, where nobody looks at tokens from the `seen`-th on: what fills a chunk.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn read_seen(
        &self,
        embedded: &Tensor,
        reading: Reading,
        seen: usize,
    ) -> Result<(Tensor, Tensor)> {
        self.run(embedded, (reading, Some(seen)), true)
    }

    fn run(
        &self,
        embedded: &Tensor,
        (reading, seen): (Reading, Option<usize>),
        to_end: bool,
    ) -> Result<(Tensor, Tensor)> {
        let (_, tokens, _) = embedded.dims3()?;
        let mut x = embedded.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        let mask = causal_mask(tokens, seen.unwrap_or(tokens), &self.compute)?;
        let used = (self.layers.len() + 1)
            .saturating_sub(reading.layer.max(1))
            .max(1);
        for layer in self.layers.iter().take(used) {
            x = layer.forward(&x, &mask)?;
        }
        let read = if reading.normed {
            self.last_norm.forward(&x)?
        } else {
            x.clone()
        };
        if to_end {
            for layer in self.layers.iter().skip(used) {
                x = layer.forward(&x, &mask)?;
            }
            x = self.last_norm.forward(&x)?;
        }
        Ok((read.to_dtype(DType::F32)?, x))
    }

    /// The summary of the first of some texts, `[1, projected]` in f32, from its last layer and the place
    /// of its end mark. `None` if this encoder makes none.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn summarise(&self, last: &Tensor, end: usize) -> Result<Option<Tensor>> {
        let Some(projection) = &self.projection else {
            return Ok(None);
        };
        let row = last.narrow(0, 0, 1)?.narrow(1, end, 1)?.squeeze(1)?;
        let summary = row.contiguous()?.matmul(&projection.t()?)?;
        summary.to_dtype(DType::F32).map(Some)
    }
}

/// `[projected, width]`, as a linear layer has it or the other way around.
fn projection(root: &Scope<'_>, width: usize) -> std::result::Result<Option<Tensor>, EngineError> {
    let side = |name: &str, place: usize| root.shape(name).and_then(|it| it.get(place)).copied();
    if let Some(projected) = side("text_projection.weight", 0) {
        let taken = root.take("text_projection.weight", &[projected, width])?;
        return Ok(Some(taken));
    }
    let Some(projected) = side("text_projection", 1) else {
        return Ok(None);
    };
    let taken = root.take("text_projection", &[width, projected])?;
    Ok(Some(taken.t()?.contiguous()?))
}

/// `[tokens, tokens]`: 0 for tokens up to one's own, minus infinity for those that follow and for those
/// that nobody looks at.
fn causal_mask(tokens: usize, seen: usize, compute: &Compute) -> Result<Tensor> {
    let hidden = move |own: usize, other: usize| other > own || other >= seen.max(1);
    let row = |own: usize| {
        (0..tokens).map(move |other| {
            if hidden(own, other) {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
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
