//! The part of BLIP that writes (Li et al. 2022): BERT (Devlin et al. 2019) that looks back only, and
//! at a picture.
//!
//! A token for each beam → word and place, normalised → layers: attention to what was before, to the
//! picture, feed-forward, each added and normalised → a number for each word that may come next.

use candle_core::{D, Device, Result, Tensor};

use super::config::DecoderConfig;
use crate::EngineError;
use crate::native::ops::{Activation, LayerNorm, Linear, attention};
use crate::native::weights::Scope;

/// What BERT normalises with.
const EPSILON: f32 = 1e-12;

/// The network.
#[derive(Debug)]
pub(super) struct Decoder {
    words: Tensor,
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    head: Head,
}

/// What it has seen of a picture and of the beams of one text.
#[derive(Debug)]
pub(super) struct Seen {
    /// Keys and values of the picture, for each layer: `[1, seen, width]`.
    picture: Vec<(Tensor, Tensor)>,
    /// Those of the words, for each layer: `[beams, words, width]`.
    words: Vec<Option<(Tensor, Tensor)>>,
    length: usize,
}

impl Seen {
    /// Each beam goes on from the beam of this number.
    pub(super) fn follow(&mut self, beams: &[u32]) -> Result<()> {
        let beams = Tensor::new(beams, &Device::Cpu)?;
        for (keys, values) in self.words.iter_mut().flatten() {
            *keys = keys.index_select(&beams, 0)?;
            *values = values.index_select(&beams, 0)?;
        }
        Ok(())
    }
}

impl Decoder {
    /// Takes all tensors of the decoder, which looks at vectors of `picture` numbers.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the numbers are impossible, and those of [`Scope::take`].
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &DecoderConfig,
        picture: usize,
    ) -> std::result::Result<Self, EngineError> {
        let activation = config.check()?;
        let width = config.hidden_size;
        let bert = scope.sub("bert");
        let embeddings = bert.sub("embeddings");
        let table = |name: &str, rows: usize| embeddings.sub(name).take("weight", &[rows, width]);
        let words = table("word_embeddings", config.vocab_size)?;
        let layers = bert.sub("encoder").sub("layer");
        let layer = |number| Layer::new(&layers.sub(number), config, (picture, activation));
        Ok(Self {
            places: table("position_embeddings", config.max_position_embeddings)?,
            norm: norm(&embeddings, width)?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<std::result::Result<_, _>>()?,
            head: Head::new(&scope.sub("cls").sub("predictions"), &words, activation)?,
            words,
        })
    }

    /// Looks at a picture `[1, seen, picture]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub(super) fn look(&self, picture: &Tensor) -> Result<Seen> {
        let views = |layer: &Layer| {
            let Attention { key, value, .. } = &layer.picture;
            Ok((key.forward(picture)?, value.forward(picture)?))
        };
        Ok(Seen {
            picture: self.layers.iter().map(views).collect::<Result<_>>()?,
            words: vec![None; self.layers.len()],
            length: 0,
        })
    }

    /// Reads the next token of each beam: `[beams, vocabulary]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library, as for tokens beyond the table or too many of them.
    pub(super) fn next(&self, tokens: &[u32], seen: &mut Seen) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let words = self.words.index_select(&ids, 0)?;
        let place = self.places.narrow(0, seen.length, 1)?;
        let mut x = self
            .norm
            .forward(&words.broadcast_add(&place)?)?
            .unsqueeze(1)?;
        let held = seen.picture.iter().zip(&mut seen.words);
        for (layer, (picture, words)) in self.layers.iter().zip(held) {
            x = layer.forward(&x, picture, words)?;
        }
        seen.length += 1;
        self.head.forward(&x.squeeze(1)?)
    }
}

fn norm(scope: &Scope<'_>, width: usize) -> std::result::Result<LayerNorm, EngineError> {
    Ok(LayerNorm::new(&scope.sub("LayerNorm"), width)?.with_epsilon(EPSILON))
}

/// Attention, what comes of it added and normalised.
#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl Attention {
    fn new(
        scope: &Scope<'_>,
        config: &DecoderConfig,
        seen: usize,
    ) -> std::result::Result<Self, EngineError> {
        let width = config.hidden_size;
        let (own, output) = (scope.sub("self"), scope.sub("output"));
        Ok(Self {
            query: Linear::new(&own.sub("query"), width, width)?,
            key: Linear::new(&own.sub("key"), seen, width)?,
            value: Linear::new(&own.sub("value"), seen, width)?,
            out: Linear::new(&output.sub("dense"), width, width)?,
            norm: norm(&output, width)?,
            heads: config.num_attention_heads,
        })
    }

    /// `x` is `[batch, tokens, width]`, keys and values `[batch, seen, width]`.
    fn forward(&self, x: &Tensor, (keys, values): (&Tensor, &Tensor)) -> Result<Tensor> {
        let mixed = attention(&self.query.forward(x)?, keys, values, self.heads, None)?;
        self.norm.forward(&(self.out.forward(&mixed)? + x)?)
    }
}

#[derive(Debug)]
struct Layer {
    words: Attention,
    picture: Attention,
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
    activation: Activation,
}

impl Layer {
    fn new(
        scope: &Scope<'_>,
        config: &DecoderConfig,
        (picture, activation): (usize, Activation),
    ) -> std::result::Result<Self, EngineError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let output = scope.sub("output");
        Ok(Self {
            words: Attention::new(&scope.sub("attention"), config, width)?,
            picture: Attention::new(&scope.sub("crossattention"), config, picture)?,
            widen: Linear::new(&scope.sub("intermediate").sub("dense"), width, inner)?,
            narrow: Linear::new(&output.sub("dense"), inner, width)?,
            norm: norm(&output, width)?,
            activation,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        picture: &(Tensor, Tensor),
        words: &mut Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let (mut keys, mut values) = (self.words.key.forward(x)?, self.words.value.forward(x)?);
        if let Some((before, told)) = words.take() {
            keys = Tensor::cat(&[&before, &keys], 1)?;
            values = Tensor::cat(&[&told, &values], 1)?;
        }
        let x = self.words.forward(x, (&keys, &values))?;
        *words = Some((keys, values));
        // All beams look at the same picture: they are tokens of one text there.
        let beams = x.transpose(0, 1)?.contiguous()?;
        let looked = self.picture.forward(&beams, (&picture.0, &picture.1))?;
        let x = looked.transpose(0, 1)?.contiguous()?;
        let inner = self.activation.apply(&self.widen.forward(&x)?)?;
        self.norm.forward(&(self.narrow.forward(&inner)? + x)?)
    }
}

/// From vectors to words.
#[derive(Debug)]
struct Head {
    dense: Linear,
    norm: LayerNorm,
    activation: Activation,
    /// `[vocabulary, width]`.
    words: Tensor,
    bias: Tensor,
}

impl Head {
    fn new(
        scope: &Scope<'_>,
        words: &Tensor,
        activation: Activation,
    ) -> std::result::Result<Self, EngineError> {
        let (vocabulary, width) = words.dims2()?;
        let transform = scope.sub("transform");
        let decoder = scope.sub("decoder");
        // What reads words writes them, too, unless a file says otherwise; the bias has two names,
        // under either or both of which it lies.
        let words = if decoder.has("weight") {
            decoder.take("weight", &[vocabulary, width])?
        } else {
            words.clone()
        };
        let own = decoder.has("bias");
        let bias = if own {
            Some(decoder.take("bias", &[vocabulary])?)
        } else {
            None
        };
        let bias = match bias {
            Some(bias) if !scope.has("bias") => bias,
            _ => scope.take("bias", &[vocabulary])?,
        };
        Ok(Self {
            dense: Linear::new(&transform.sub("dense"), width, width)?,
            norm: norm(&transform, width)?,
            activation,
            words,
            bias,
        })
    }

    /// `[beams, width]` to `[beams, vocabulary]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.activation.apply(&self.dense.forward(x)?)?;
        let x = self
            .norm
            .forward(&x)?
            .reshape(((), self.words.dim(D::Minus1)?))?;
        x.matmul(&self.words.t()?)?.broadcast_add(&self.bias)
    }
}
