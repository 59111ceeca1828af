//! Numbers of the diffusion network.

use serde::Deserialize;

use super::{MAX_DEPTH, check, depth_ok, first_two, groups, width_ok, yes};
use crate::EngineError;
use crate::native::weights::Weights;

/// One number for all blocks, or one per block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum PerBlock {
    /// The same everywhere.
    One(usize),
    /// From the outermost block inwards.
    Each(Vec<usize>),
}

impl PerBlock {
    /// The number of a block.
    pub fn at(&self, block: usize) -> Option<usize> {
        match self {
            Self::One(number) => Some(*number),
            Self::Each(numbers) => numbers.get(block).copied(),
        }
    }
}

/// `unet/config.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct UNetConfig {
    /// Side in latent pixels of what it was trained on.
    #[serde(default)]
    pub sample_size: Option<usize>,
    /// Channels in: those of the latents, or 2 × those + 1 for inpainting.
    pub in_channels: usize,
    /// Channels out: those of the latents.
    pub out_channels: usize,
    /// Kind of each block on the way down.
    pub down_block_types: Vec<String>,
    /// Kind of each block on the way up.
    pub up_block_types: Vec<String>,
    /// Kind of the block at the bottom.
    #[serde(default = "mid_block")]
    pub mid_block_type: Option<String>,
    /// Channels of each block.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each block; one more on the way up.
    #[serde(default = "two")]
    pub layers_per_block: usize,
    /// Width of the text.
    pub cross_attention_dim: usize,
    /// Despite its name, the number of heads: an early mistake of diffusers that all its files of
    /// this class share.
    #[serde(default = "eight")]
    pub attention_head_dim: PerBlock,
    /// The same under its right name, where given.
    #[serde(default)]
    pub num_attention_heads: Option<PerBlock>,
    /// Transformer layers of each attention.
    #[serde(default = "one")]
    pub transformer_layers_per_block: PerBlock,
    /// Groups of channels that are normalised together.
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    /// Added to variances in normalisation.
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
    /// Whether attention is entered through linear layers instead of 1×1 convolutions; the numbers
    /// are the same.
    #[serde(default)]
    pub use_linear_projection: bool,
    /// Whether cosines come before sines in the embedding of the time step.
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    /// Shift of the frequencies in that embedding.
    #[serde(default)]
    pub freq_shift: f64,
    /// Name of the pointwise function.
    #[serde(default = "silu")]
    pub act_fn: String,
    /// Further inputs beside the time step: `text_time` is a summary of the text and the sizes of the
    /// picture, as SDXL has them. No others are built here.
    #[serde(default)]
    pub addition_embed_type: Option<String>,
    /// Waves for each number of those sizes.
    #[serde(default)]
    pub addition_time_embed_dim: Option<usize>,
    /// Width of all further inputs together.
    #[serde(default)]
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// Class labels. None are built here.
    #[serde(default)]
    pub class_embed_type: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn mid_block() -> Option<String> {
    Some("UNetMidBlock2DCrossAttn".to_owned())
}
fn two() -> usize {
    2
}
fn epsilon() -> f64 {
    1e-5
}
fn one() -> PerBlock {
    PerBlock::One(1)
}
fn eight() -> PerBlock {
    PerBlock::One(8)
}
fn silu() -> String {
    "silu".to_owned()
}

/// The one kind of further inputs that is built.
const TEXT_AND_SIZES: &str = "text_time";
/// Numbers that tell the sizes of a picture.
pub const SIZES: usize = 6;

/// The block kinds that are built.
pub(super) const DOWN_ATTENTION: &str = "CrossAttnDownBlock2D";
pub(super) const DOWN_PLAIN: &str = "DownBlock2D";
pub(super) const UP_ATTENTION: &str = "CrossAttnUpBlock2D";
pub(super) const UP_PLAIN: &str = "UpBlock2D";
/// Of small control networks alone.
pub(super) const MID_PLAIN: &str = "UNetMidBlock2D";

impl UNetConfig {
    /// The numbers of a network under diffusers names, from its tensors: 8 heads for a text width
    /// of 768 (SD 1), heads 64 wide for others (SD 2, SDXL). `summary` is the width of the summary of
    /// the text, where the text encoders make one.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if tensors that tell the sizes are missing.
    pub fn from_shapes(weights: &Weights, summary: Option<usize>) -> Result<Self, EngineError> {
        let shape = |name: &str| first_two(weights, name);
        let exists = |name: String| weights.shape(&name).is_some();
        let count = |name: &dyn Fn(usize) -> String| {
            (0..MAX_DEPTH).take_while(|n| exists(name(*n))).count()
        };
        // At least one, so that a network without any is refused by the name of what it lacks.
        let blocks = count(&|n| format!("down_blocks.{n}.resnets.0.conv1.weight")).max(1);
        let mut block_out_channels = Vec::new();
        for block in 0..blocks {
            block_out_channels
                .push(shape(&format!("down_blocks.{block}.resnets.0.conv1.weight"))?.0);
        }
        let kind = |side: &str, block: usize, kinds: (&str, &str)| {
            let attends = exists(format!("{side}.{block}.attentions.0.norm.weight"));
            if attends {
                kinds.0.to_owned()
            } else {
                kinds.1.to_owned()
            }
        };
        let (_, width) = shape("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")?;
        let heads = if width == 768 {
            eight()
        } else {
            PerBlock::Each(block_out_channels.iter().map(|c| (c / 64).max(1)).collect())
        };
        let depth = |scope: String| {
            count(&|n| format!("{scope}.transformer_blocks.{n}.norm1.weight")).max(1)
        };
        let bottom = depth("mid_block.attentions.0".to_owned());
        let depths = (0..blocks).map(|block| {
            if exists(format!("down_blocks.{block}.attentions.0.norm.weight")) {
                depth(format!("down_blocks.{block}.attentions.0"))
            } else if block + 1 == blocks {
                bottom
            } else {
                1
            }
        });
        let added = first_two(weights, "add_embedding.linear_1.weight").ok();
        let sizes = added
            .zip(summary)
            .map(|((_, all), summary)| all.saturating_sub(summary) / SIZES);
        Ok(Self {
            sample_size: Some(if sizes.is_some() { 128 } else { 64 }),
            in_channels: shape("conv_in.weight")?.1,
            out_channels: shape("conv_out.weight")?.0,
            down_block_types: (0..blocks)
                .map(|n| kind("down_blocks", n, (DOWN_ATTENTION, DOWN_PLAIN)))
                .collect(),
            up_block_types: (0..blocks)
                .map(|n| kind("up_blocks", n, (UP_ATTENTION, UP_PLAIN)))
                .collect(),
            mid_block_type: mid_block(),
            layers_per_block: count(&|n| format!("down_blocks.0.resnets.{n}.conv1.weight")),
            cross_attention_dim: width,
            attention_head_dim: heads,
            num_attention_heads: None,
            transformer_layers_per_block: PerBlock::Each(depths.collect()),
            norm_num_groups: groups(),
            norm_eps: epsilon(),
            use_linear_projection: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            act_fn: silu(),
            addition_embed_type: sizes.map(|_| TEXT_AND_SIZES.to_owned()),
            addition_time_embed_dim: sizes,
            projection_class_embeddings_input_dim: added.map(|(_, all)| all),
            class_embed_type: None,
            block_out_channels,
        })
    }

    /// Heads of the attentions of a block.
    pub fn heads(&self, block: usize) -> Option<usize> {
        self.num_attention_heads
            .as_ref()
            .unwrap_or(&self.attention_head_dim)
            .at(block)
    }

    /// Waves for each size of the picture, and the width of the summary of the text, for networks that
    /// are told of both.
    pub fn text_and_sizes(&self) -> Option<(usize, usize)> {
        if self.addition_embed_type.as_deref() != Some(TEXT_AND_SIZES) {
            return None;
        }
        let waves = self.addition_time_embed_dim?;
        let summary = self
            .projection_class_embeddings_input_dim?
            .checked_sub(SIZES.checked_mul(waves)?)?;
        Some((waves, summary))
    }

    /// Whether a block on the way down attends to the text.
    pub fn down_attends(&self, block: usize) -> bool {
        self.down_block_types
            .get(block)
            .is_some_and(|kind| kind == DOWN_ATTENTION)
    }

    /// Whether a block on the way up attends to the text; blocks count from the bottom here.
    pub fn up_attends(&self, block: usize) -> bool {
        self.up_block_types
            .get(block)
            .is_some_and(|kind| kind == UP_ATTENTION)
    }

    /// Whether the block at the bottom attends to the text.
    pub fn mid_attends(&self) -> bool {
        self.mid_block_type.as_deref() != Some(MID_PLAIN)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming the number or kind.
    pub fn check(&self) -> Result<(), EngineError> {
        let part = "unet";
        let blocks = self.block_out_channels.len();
        check(
            part,
            depth_ok(blocks) && depth_ok(self.layers_per_block),
            "an impossible number of blocks",
        )?;
        let same = self.down_block_types.len() == blocks && self.up_block_types.len() == blocks;
        check(part, same, "lists of blocks of different lengths")?;
        let known_down = self
            .down_block_types
            .iter()
            .all(|kind| kind == DOWN_ATTENTION || kind == DOWN_PLAIN);
        let known_up = self
            .up_block_types
            .iter()
            .all(|kind| kind == UP_ATTENTION || kind == UP_PLAIN);
        let known_mid = self.mid_block_type == mid_block();
        check(
            part,
            known_down && known_up && known_mid,
            "block kinds that are not Stable Diffusion's",
        )?;
        let widths = [
            self.in_channels,
            self.out_channels,
            self.cross_attention_dim,
        ];
        let all = self.block_out_channels.iter().chain(&widths);
        check(part, all.copied().all(width_ok), "an impossible width")?;
        for (block, channels) in self.block_out_channels.iter().enumerate() {
            let heads = self.heads(block).unwrap_or_default();
            check(
                part,
                heads > 0 && channels.is_multiple_of(heads),
                "heads that do not divide its channels",
            )?;
            let layers = self
                .transformer_layers_per_block
                .at(block)
                .unwrap_or_default();
            check(
                part,
                depth_ok(layers),
                "an impossible number of transformer layers",
            )?;
        }
        check(
            part,
            self.act_fn == "silu" || self.act_fn == "swish",
            "an unknown activation",
        )?;
        let told = self.text_and_sizes().filter(|(waves, summary)| {
            width_ok(*waves) && waves.is_multiple_of(2) && width_ok(*summary)
        });
        let plain = self.addition_embed_type.is_none() || told.is_some();
        check(
            part,
            plain && self.class_embed_type.is_none(),
            "additional embeddings, which only other families have",
        )
    }
}
