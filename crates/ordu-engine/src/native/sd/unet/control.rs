//! A control network: a copy of the way down of a UNet that sees a map beside the latents, and adds
//! what it makes of it to what the UNet keeps for its way up (Zhang et al. 2023, "Adding Conditional
//! Control to Text-to-Image Diffusion Models").
//!
//! ```text
//! map [b, 3, 8 h, 8 w] → layers that halve three times → [b, c, h, w] ┐
//! latents [b, 4, h, w] → conv_in ─────────────────────────────────────┴→ down 0 → down 1 → … → bottom
//!                                                                      1×1 ↓      ↓            ↓
//!                                                          one picture for each that the UNet keeps
//! ```

use candle_core::{Result, Tensor};

use super::super::condition::Condition;
use super::super::config::{ControlConfig, UNetConfig};
use super::block::{Down, Mid};
use super::{Conditions, TimeEmbedding};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Conv2d, Edges, Geometry, add};
use crate::native::weights::{Scope, Weights};

/// A control network.
#[derive(Clone, Debug)]
pub struct ControlNet {
    compute: Compute,
    map: MapLayers,
    time: TimeEmbedding,
    conv_in: Conv2d,
    downs: Vec<Down>,
    mid: Mid,
    /// One for each picture that is kept on the way down, and one for the bottom.
    taps: Vec<Conv2d>,
}

/// What is added to a UNet's pictures: one for each that it keeps on the way down, then that of the
/// bottom.
#[derive(Clone, Debug)]
pub struct Steering(pub(super) Vec<Tensor>);

impl Steering {
    /// The pictures.
    pub fn pictures(&self) -> &[Tensor] {
        &self.0
    }

    /// The same for a batch twice as large, of which the second half is not steered.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn beside_nothing(&self) -> Result<Self> {
        let doubled =
            |picture: &Tensor| Tensor::cat(&[picture, &picture.zeros_like()?], 0)?.contiguous();
        Ok(Self(self.0.iter().map(doubled).collect::<Result<_>>()?))
    }
}

impl ControlNet {
    /// Takes all tensors of a control network for a UNet of these numbers.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it is made for another UNet or its tensors do not fit.
    pub fn new(
        weights: &Weights,
        steered: &UNetConfig,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        let config = ControlConfig::new(weights, steered)?;
        let unet = &config.unet;
        let root = weights.root(compute);
        let first = unet.block_out_channels.first().copied().unwrap_or_default();
        let (mut downs, mut kept) = (Vec::new(), vec![first]);
        let mut previous = first;
        for (block, width) in unet.block_out_channels.iter().copied().enumerate() {
            let down = Down::new(&root.sub("down_blocks").sub(block), unet, block, previous)?;
            kept.extend(std::iter::repeat_n(width, down.outputs()));
            downs.push(down);
            previous = width;
        }
        let mid = Mid::new(&root.sub("mid_block"), unet, previous)?;
        let mut taps = Vec::new();
        for (index, width) in kept.into_iter().enumerate() {
            let scope = root.sub("controlnet_down_blocks").sub(index);
            taps.push(Conv2d::new(&scope, width, width, Geometry::POINT)?);
        }
        let scope = root.sub("controlnet_mid_block");
        taps.push(Conv2d::new(&scope, previous, previous, Geometry::POINT)?);
        let network = Self {
            compute: compute.clone(),
            map: MapLayers::new(&root.sub("controlnet_cond_embedding"), &config, first)?,
            time: TimeEmbedding::new(&root, unet)?,
            conv_in: Conv2d::new(
                &root.sub("conv_in"),
                unet.in_channels,
                first,
                Geometry::SAME,
            )?,
            downs,
            mid,
            taps,
        };
        root.finish("controlnet", &[])?;
        Ok(network)
    }

    /// What the network sees of a map, `[1, channels, 8 h, 8 w]` in 0…1: the same at each step.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn see(&self, map: &Tensor, edges: Edges) -> Result<Tensor> {
        self.map.forward(&self.compute.take(map)?, edges)
    }

    /// What steers at one step: latents `[b, in, h, w]` at time step `time` under a condition, and what
    /// [`ControlNet::see`] made of the map. All of it counts `strength`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(
        &self,
        (latents, time): (&Tensor, f64),
        (condition, edges): (&Condition, Edges),
        seen: &Tensor,
        strength: f64,
    ) -> Result<Steering> {
        let time = self.time.under(time, condition, &self.compute)?;
        let conditions = Conditions {
            time: &time,
            text: &self.compute.take(&condition.text)?,
            edges,
        };
        let x = self.conv_in.forward(&self.compute.take(latents)?, edges)?;
        let mut x = add(&x, &seen.broadcast_as(x.shape())?.contiguous()?)?;
        let mut kept = vec![x.clone()];
        for down in &self.downs {
            x = down.forward(x, &conditions, &mut kept)?;
        }
        kept.push(self.mid.forward(&x, &conditions)?);
        let taps = self.taps.iter().zip(&kept);
        let pictures = taps.map(|(tap, kept)| tap.forward(kept, edges)? * strength);
        Ok(Steering(pictures.collect::<Result<_>>()?))
    }
}

/// The layers that a map goes through, with an activation behind all but the last.
#[derive(Clone, Debug)]
struct MapLayers {
    first: Conv2d,
    between: Vec<Conv2d>,
    last: Conv2d,
}

impl MapLayers {
    fn new(
        scope: &Scope<'_>,
        config: &ControlConfig,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let widths = &config.map_widths;
        let blocks = scope.sub("blocks");
        let mut between = Vec::new();
        for (from, to) in widths.iter().zip(widths.iter().skip(1)) {
            let same = blocks.sub(between.len());
            between.push(Conv2d::new(&same, *from, *from, Geometry::SAME)?);
            let halve = blocks.sub(between.len());
            between.push(Conv2d::new(&halve, *from, *to, Geometry::HALVE)?);
        }
        let first = widths.first().copied().unwrap_or_default();
        let last = widths.last().copied().unwrap_or_default();
        let (entry, exit) = (scope.sub("conv_in"), scope.sub("conv_out"));
        Ok(Self {
            first: Conv2d::new(&entry, config.map_channels, first, Geometry::SAME)?,
            between,
            last: Conv2d::new(&exit, last, outputs, Geometry::SAME)?,
        })
    }

    fn forward(&self, map: &Tensor, edges: Edges) -> Result<Tensor> {
        let mut x = self.first.forward(map, edges)?.silu()?;
        for layer in &self.between {
            x = layer.forward(&x, edges)?.silu()?;
        }
        self.last.forward(&x, edges)
    }
}
