//! The numbers of the network that tells what is opaque: its file tells them by the shapes of its tensors.

use crate::EngineError;
use crate::native::weights::Weights;

/// Channels of one head of attention.
pub(super) const HEAD: usize = 8;
/// Bounds for a stranger's file.
const MAX_BLOCKS: usize = 10;
const MAX_LAYERS: usize = 8;
const MAX_WIDTH: usize = 4096;

/// The numbers of such a network, told by the shapes of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlphaConfig {
    /// Channels at each resolution, from the outermost.
    pub widths: Vec<usize>,
    /// Residual blocks of each resolution on the way down.
    pub layers: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels that the latents are made into.
    latent_width: usize,
}

impl AlphaConfig {
    /// The numbers of a file.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it holds another network, or one beyond all bounds.
    pub fn from_shapes(name: &str, weights: &Weights) -> Result<Self, EngineError> {
        let refuse = |reason: String| EngineError::bad_model(name, reason);
        let resnet = |block: usize, layer: usize| {
            let name = format!("down_blocks.{block}.resnets.{layer}.conv1.weight");
            weights.shape(&name)?.first().copied()
        };
        let widths: Vec<usize> = (0..=MAX_BLOCKS)
            .map_while(|block| resnet(block, 0))
            .collect();
        let layers = (0..=MAX_LAYERS)
            .take_while(|layer| resnet(0, *layer).is_some())
            .count();
        let latent = weights.shape("latent_conv_in.weight");
        let Some([latent_width, latent_channels, ..]) = latent else {
            return Err(refuse(
                "it is no decoder of transparent pictures".to_owned(),
            ));
        };
        let is_sound =
            |width: &usize| width.is_multiple_of(HEAD) && (1..=MAX_WIDTH).contains(width);
        let within = (2..=MAX_BLOCKS).contains(&widths.len()) && (1..=MAX_LAYERS).contains(&layers);
        if !within || !widths.iter().all(is_sound) || !(1..=MAX_WIDTH).contains(latent_channels) {
            return Err(refuse(format!(
                "{layers} layers of widths {widths:?} are not built: 1 to {MAX_LAYERS} layers, 2 to \
                 {MAX_BLOCKS} widths that {HEAD} divides"
            )));
        }
        Ok(Self {
            widths,
            layers,
            latent_channels: *latent_channels,
            latent_width: *latent_width,
        })
    }

    /// Whether it is for latents of so many channels that are smaller than pictures by a factor; if not,
    /// why.
    ///
    /// # Errors
    ///
    /// The reason.
    pub fn fits(&self, latent_channels: usize, factor: usize) -> Result<(), String> {
        if latent_channels != self.latent_channels {
            return Err(format!(
                "it sees latents of {} channels, this model has {latent_channels}",
                self.latent_channels
            ));
        }
        match self.entry(factor).map(|(_, width)| width) {
            Some(width) if width == self.latent_width => Ok(()),
            _ => Err(format!(
                "it does not see latents that are {factor} times as small as pictures"
            )),
        }
    }

    /// At which block the latents come in, and how many channels there are before it.
    pub(super) fn entry(&self, factor: usize) -> Option<(usize, usize)> {
        let block = factor.checked_ilog2()? as usize;
        let width = self.widths.get(block.checked_sub(1)?)?;
        (factor.is_power_of_two() && block < self.widths.len()).then_some((block, *width))
    }

    /// What sides of pictures have to be multiples of.
    pub(super) fn step(&self) -> usize {
        1 << (self.widths.len() - 1)
    }
}
