//! The numbers of networks that look at pictures, from `config.json`. What a file leaves out is what
//! transformers takes then.

use serde::Deserialize;

use crate::EngineError;
use crate::native::ops::Activation;
use crate::native::weights::Weights;

/// The widest layer and the deepest network that are built.
const MAX_WIDTH: usize = 16_384;
const MAX_DEPTH: usize = 128;
/// The largest square that is looked at, in pixels.
const MAX_SIDE: usize = 2048;

/// A tower that looks at pictures.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::native) struct TowerConfig {
    pub(in crate::native) hidden_size: usize,
    pub(in crate::native) intermediate_size: usize,
    pub(in crate::native) num_hidden_layers: usize,
    pub(in crate::native) num_attention_heads: usize,
    pub(in crate::native) image_size: usize,
    pub(in crate::native) patch_size: usize,
    pub(in crate::native) hidden_act: Option<String>,
}

impl Default for TowerConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: None,
        }
    }
}

impl TowerConfig {
    /// The numbers of a tower of CLIP, from its tensors. Heads are 64 wide in all published ones.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the tables or the first layer are missing.
    pub(in crate::native) fn from_shapes(
        weights: &Weights,
        heads: Option<usize>,
    ) -> Result<Self, EngineError> {
        let side = |name: &str, place: usize| {
            let full = format!("vision_model.{name}");
            let missing =
                || EngineError::bad_model("vision_config", format!("tensor `{full}` is missing"));
            let side = weights.shape(&full).and_then(|shape| shape.get(place));
            side.copied().ok_or_else(missing)
        };
        let hidden_size = side("embeddings.patch_embedding.weight", 0)?;
        let patch_size = side("embeddings.patch_embedding.weight", 2)?;
        let places = side("embeddings.position_embedding.weight", 0)?;
        let layer =
            |layer: &usize| side(&format!("encoder.layers.{layer}.mlp.fc1.weight"), 0).is_ok();
        Ok(Self {
            hidden_size,
            intermediate_size: side("encoder.layers.0.mlp.fc1.weight", 0)?,
            num_hidden_layers: (0..MAX_DEPTH).take_while(layer).count(),
            num_attention_heads: heads.unwrap_or((hidden_size / 64).max(1)),
            image_size: patch_size.saturating_mul(places.saturating_sub(1).isqrt()),
            patch_size,
            hidden_act: None,
        })
    }

    /// Refuses what cannot be built; the pointwise function otherwise.
    pub(in crate::native) fn check(&self, usual: Activation) -> Result<Activation, EngineError> {
        let sides = self.patch_size >= 1
            && (self.patch_size..=MAX_SIDE).contains(&self.image_size)
            && self.image_size.is_multiple_of(self.patch_size);
        sound("vision_config", sides, "sides that make no grid")?;
        widths("vision_config", &[self.hidden_size, self.intermediate_size])?;
        let heads = (self.num_attention_heads, self.hidden_size);
        depth("vision_config", self.num_hidden_layers, heads)?;
        activation("vision_config", self.hidden_act.as_deref(), usual)
    }

    /// Patches of a picture.
    pub(in crate::native) fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// The side of a picture, as pictures count.
    pub(in crate::native) fn side(&self) -> u32 {
        u32::try_from(self.image_size).unwrap_or(u32::MAX)
    }
}

/// The part of BLIP that writes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct DecoderConfig {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) bos_token_id: u32,
    pub(super) sep_token_id: u32,
    pub(super) hidden_act: Option<String>,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 512,
            bos_token_id: 30_522,
            sep_token_id: 102,
            hidden_act: None,
        }
    }
}

impl DecoderConfig {
    /// Refuses what cannot be built; the pointwise function otherwise.
    pub(super) fn check(&self) -> Result<Activation, EngineError> {
        let part = "text_config";
        widths(part, &[self.hidden_size, self.intermediate_size])?;
        let heads = (self.num_attention_heads, self.hidden_size);
        depth(part, self.num_hidden_layers, heads)?;
        let places = (2..=65_536).contains(&self.max_position_embeddings);
        sound(part, places, "an impossible number of positions")?;
        let words = (4..=10_000_000).contains(&self.vocab_size);
        sound(part, words, "an impossible vocabulary")?;
        let marks = [self.bos_token_id, self.sep_token_id];
        let known = |mark: &u32| (*mark as usize) < self.vocab_size;
        sound(part, marks.iter().all(known), "marks beyond its vocabulary")?;
        activation(part, self.hidden_act.as_deref(), Activation::Gelu)
    }
}

fn sound(part: &str, sound: bool, what: &str) -> Result<(), EngineError> {
    if sound {
        return Ok(());
    }
    let reason = format!("its configuration has {what}");
    Err(EngineError::bad_model(part, reason))
}

fn widths(part: &str, widths: &[usize]) -> Result<(), EngineError> {
    let known = widths.iter().all(|width| (1..=MAX_WIDTH).contains(width));
    sound(part, known, "an impossible width")
}

fn depth(part: &str, layers: usize, (heads, width): (usize, usize)) -> Result<(), EngineError> {
    let known = (1..=MAX_DEPTH).contains(&layers);
    sound(part, known, "an impossible number of layers")?;
    let divides = heads > 0 && width.is_multiple_of(heads);
    sound(part, divides, "heads that do not divide its width")
}

fn activation(
    part: &str,
    name: Option<&str>,
    usual: Activation,
) -> Result<Activation, EngineError> {
    let Some(name) = name else {
        return Ok(usual);
    };
    Activation::from_name(name)
        .ok_or_else(|| EngineError::bad_model(part, format!("unknown activation `{name}`")))
}
