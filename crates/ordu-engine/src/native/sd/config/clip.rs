//! Numbers of the text encoder.

use serde::Deserialize;

use super::{MAX_DEPTH, check, depth_ok, first_two, width_ok};
use crate::EngineError;
use crate::native::ops::Activation;
use crate::native::sd::clip;
use crate::native::weights::Weights;

/// `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClipConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Tokens of one chunk, its two end marks included.
    pub max_position_embeddings: usize,
    /// Name of the pointwise function.
    #[serde(default = "quick_gelu")]
    pub hidden_act: String,
}

fn quick_gelu() -> String {
    ClipConfig::OPEN_AI.to_owned()
}

impl ClipConfig {
    /// The numbers of a text encoder, from its tensors and its pointwise function. Heads are 64 wide in
    /// all published ones.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the token or position table or the first layer is missing.
    pub fn from_shapes(weights: &Weights, hidden_act: &str) -> Result<Self, EngineError> {
        let prefix = clip::prefix(weights);
        let shape = |name: &str| first_two(weights, &format!("{prefix}{name}"));
        let (vocab_size, hidden_size) = shape("embeddings.token_embedding.weight")?;
        let (positions, _) = shape("embeddings.position_embedding.weight")?;
        let (intermediate_size, _) = shape("encoder.layers.0.mlp.fc1.weight")?;
        let layer = |n: usize| format!("{prefix}encoder.layers.{n}.mlp.fc1.weight");
        Ok(Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: (0..MAX_DEPTH)
                .take_while(|n| weights.shape(&layer(*n)).is_some())
                .count(),
            num_attention_heads: (hidden_size / 64).max(1),
            max_position_embeddings: positions,
            hidden_act: hidden_act.to_owned(),
        })
    }

    /// The pointwise function of OpenAI's encoders.
    pub const OPEN_AI: &str = "quick_gelu";
    /// That of OpenCLIP's.
    pub const OPEN_CLIP: &str = "gelu";

    /// Refuses what cannot be built.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming the number.
    pub fn check(&self) -> Result<Activation, EngineError> {
        let part = "text_encoder";
        check(
            part,
            width_ok(self.hidden_size) && width_ok(self.intermediate_size),
            "an impossible width",
        )?;
        check(
            part,
            depth_ok(self.num_hidden_layers),
            "an impossible number of layers",
        )?;
        check(
            part,
            (3..=4096).contains(&self.max_position_embeddings),
            "an impossible number of positions",
        )?;
        check(
            part,
            (1..=10_000_000).contains(&self.vocab_size),
            "an impossible vocabulary",
        )?;
        let heads = self.num_attention_heads;
        check(
            part,
            heads > 0 && self.hidden_size.is_multiple_of(heads),
            "heads that do not divide its width",
        )?;
        Activation::from_name(&self.hidden_act).ok_or_else(|| {
            EngineError::bad_model(part, format!("unknown activation `{}`", self.hidden_act))
        })
    }
}
