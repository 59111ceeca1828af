//! Numbers of the autoencoder.

use serde::Deserialize;

use super::{MAX_DEPTH, check, depth_ok, first_two, groups, width_ok, yes};
use crate::EngineError;
use crate::native::weights::Weights;

/// `vae/config.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct VaeConfig {
    /// Channels of the pictures.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of each block.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each block; one more in the decoder.
    #[serde(default = "single")]
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of channels that are normalised together.
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    /// What latents are multiplied by before a diffusion network sees them.
    #[serde(default = "scaling")]
    pub scaling_factor: f64,
    /// What is subtracted before that.
    #[serde(default)]
    pub shift_factor: Option<f64>,
    /// Whether the middle has an attention.
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    /// Whether a 1×1 convolution follows the encoder.
    #[serde(default = "yes")]
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    #[serde(default = "yes")]
    pub use_post_quant_conv: bool,
}

fn three() -> usize {
    3
}
fn single() -> usize {
    1
}
fn scaling() -> f64 {
    0.18215
}

impl VaeConfig {
    /// The numbers of an autoencoder under diffusers names, from its tensors.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if tensors that tell the sizes are missing.
    pub fn from_shapes(weights: &Weights) -> Result<Self, EngineError> {
        let exists = |name: String| weights.shape(&name).is_some();
        let count = |name: &dyn Fn(usize) -> String| {
            (0..MAX_DEPTH).take_while(|n| exists(name(*n))).count()
        };
        let mut block_out_channels = Vec::new();
        let blocks = count(&|n| format!("encoder.down_blocks.{n}.resnets.0.conv1.weight"));
        for block in 0..blocks.max(1) {
            let name = format!("encoder.down_blocks.{block}.resnets.0.conv1.weight");
            block_out_channels.push(first_two(weights, &name)?.0);
        }
        Ok(Self {
            in_channels: first_two(weights, "encoder.conv_in.weight")?.1,
            block_out_channels,
            layers_per_block: count(&|n| format!("encoder.down_blocks.0.resnets.{n}.conv1.weight")),
            latent_channels: first_two(weights, "decoder.conv_in.weight")?.1,
            norm_num_groups: groups(),
            scaling_factor: scaling(),
            shift_factor: None,
            mid_block_add_attention: exists(
                "decoder.mid_block.attentions.0.to_q.weight".to_owned(),
            ),
            use_quant_conv: exists("quant_conv.weight".to_owned()),
            use_post_quant_conv: exists("post_quant_conv.weight".to_owned()),
        })
    }

    /// Pixels per latent pixel, in each direction.
    pub fn factor(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming the number.
    pub fn check(&self) -> Result<(), EngineError> {
        let part = "vae";
        let blocks = self.block_out_channels.len();
        check(
            part,
            (1..=8).contains(&blocks) && depth_ok(self.layers_per_block),
            "an impossible number of blocks",
        )?;
        check(
            part,
            self.in_channels == 3,
            "pictures of other than 3 channels",
        )?;
        check(
            part,
            (1..=256).contains(&self.latent_channels),
            "an impossible number of latent channels",
        )?;
        check(
            part,
            self.block_out_channels.iter().copied().all(width_ok),
            "an impossible width",
        )?;
        check(
            part,
            self.scaling_factor.is_normal() && self.scaling_factor > 0.0,
            "an impossible scaling factor",
        )
    }
}
