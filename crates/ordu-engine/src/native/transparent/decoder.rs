//! The network that tells what of a picture is opaque, and in which colour: a UNet over pixels that sees
//! the latents where it is as small as they are.
//!
//! ```text
//! picture [1, 3, h, w] in 0…1 → conv_in → down 0 → down 1 → down 2 → + → down 3 → … → bottom → … → up → norm, silu, conv_out → [1, 4, h, w]
//! latents [1, c, h/8, w/8] → 1×1 ──────────────────────────────────────┘
//! ```
//!
//! It looks at a picture in all eight ways to lay it down; of what it says then, the (lower) median
//! counts, number by number. First comes alpha, then the colours, which are not multiplied by it.

use candle_core::Tensor;
use image::RgbaImage;

use super::config::{AlphaConfig, HEAD};
use super::looks::{Look, filled, median};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Conv2d, Edges, Followed, Geometry, GroupNorm, add, enlarge, join};
use crate::native::sd::vae::{Attention, Norms, Resnet};
use crate::native::weights::{Scope, Weights};

/// How all networks of this class are normalised.
const NORMS: Norms = Norms {
    groups: 4,
    epsilon: 1e-5,
};
/// Alpha and three colours.
const OUTPUTS: usize = 4;

/// The network.
#[derive(Clone, Debug)]
pub struct AlphaDecoder {
    compute: Compute,
    conv_in: Conv2d,
    latent_in: Conv2d,
    downs: Vec<Level>,
    middle: (Resnet, Attention, Resnet),
    ups: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    /// At which level the latents come in.
    entry: usize,
    step: usize,
}

/// Residual blocks of one resolution, with attention or without, and a change of resolution.
#[derive(Clone, Debug)]
struct Level {
    steps: Vec<(Resnet, Option<Attention>)>,
    resample: Option<Conv2d>,
}

impl Level {
    /// `steps` are inputs and outputs of each block.
    fn new(
        scope: &Scope<'_>,
        steps: &[(usize, usize)],
        resample: Option<(&str, Geometry)>,
    ) -> Result<Self, EngineError> {
        let mut made = Vec::new();
        let mut width = 0;
        for (layer, (inputs, outputs)) in steps.iter().copied().enumerate() {
            width = outputs;
            let resnet = Resnet::new(&scope.sub("resnets").sub(layer), NORMS, inputs, outputs)?;
            let own = scope.sub("attentions").sub(layer);
            let attention = own.has("to_q.weight").then(|| attention(&own, outputs));
            made.push((resnet, attention.transpose()?));
        }
        let resample = resample.map(|(name, geometry)| {
            Conv2d::new(&scope.sub(name).sub(0).sub("conv"), width, width, geometry)
        });
        Ok(Self {
            steps: made,
            resample: resample.transpose()?,
        })
    }
}

fn attention(scope: &Scope<'_>, width: usize) -> Result<Attention, EngineError> {
    Attention::new(scope, NORMS, (width, width / HEAD))
}

impl AlphaDecoder {
    /// Takes all tensors of the network, for latents that are smaller than pictures by a factor.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the tensors do not fit.
    pub fn new(
        (name, weights): (&str, &Weights),
        config: &AlphaConfig,
        factor: usize,
        compute: &Compute,
    ) -> Result<Self, EngineError> {
        config
            .fits(config.latent_channels, factor)
            .map_err(|reason| EngineError::bad_model(name, reason))?;
        let (entry, width) = config.entry(factor).unwrap_or_default();
        let root = weights.root(compute);
        let widths = &config.widths;
        let first = widths.first().copied().unwrap_or_default();
        let bottom = widths.last().copied().unwrap_or_default();
        let (mut downs, mut kept, mut before) = (Vec::new(), vec![first], first);
        for (block, width) in widths.iter().enumerate() {
            let inputs = std::iter::once(before).chain(std::iter::repeat(*width));
            let steps: Vec<_> = inputs.take(config.layers).map(|it| (it, *width)).collect();
            let halve = (block + 1 < widths.len()).then_some(("downsamplers", Geometry::HALVE));
            kept.extend(std::iter::repeat_n(
                *width,
                steps.len() + usize::from(halve.is_some()),
            ));
            let scope = root.sub("down_blocks").sub(block);
            downs.push(Level::new(&scope, &steps, halve)?);
            before = *width;
        }
        let middle = root.sub("mid_block");
        let resnet =
            |index: usize| Resnet::new(&middle.sub("resnets").sub(index), NORMS, bottom, bottom);
        let middle = (
            resnet(0)?,
            attention(&middle.sub("attentions").sub(0), bottom)?,
            resnet(1)?,
        );
        let mut ups = Vec::new();
        for (block, width) in widths.iter().rev().enumerate() {
            let mut steps = Vec::new();
            for _ in 0..=config.layers {
                steps.push((before + kept.pop().unwrap_or_default(), *width));
                before = *width;
            }
            let double = (block + 1 < widths.len()).then_some(("upsamplers", Geometry::SAME));
            let scope = root.sub("up_blocks").sub(block);
            ups.push(Level::new(&scope, &steps, double)?);
        }
        let network = Self {
            compute: compute.clone(),
            conv_in: Conv2d::new(&root.sub("conv_in"), 3, first, Geometry::SAME)?,
            latent_in: Conv2d::new(
                &root.sub("latent_conv_in"),
                config.latent_channels,
                width,
                Geometry::POINT,
            )?,
            downs,
            middle,
            ups,
            norm_out: NORMS.layer(&root.sub("conv_norm_out"), first)?,
            conv_out: Conv2d::new(&root.sub("conv_out"), first, OUTPUTS, Geometry::SAME)?,
            entry,
            step: config.step(),
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// What it says of a picture `[b, 3, h, w]` in 0…1 and its latents, seen one way: `[b, 4, h, w]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(
        &self,
        picture: &Tensor,
        latents: &Tensor,
        edges: Edges,
    ) -> candle_core::Result<Tensor> {
        let beside = self
            .latent_in
            .forward(&self.compute.take(latents)?, edges)?;
        let mut x = self.conv_in.forward(&self.compute.take(picture)?, edges)?;
        let mut kept = vec![x.clone()];
        for (number, down) in self.downs.iter().enumerate() {
            if number == self.entry {
                x = add(&x, &beside)?;
            }
            for (resnet, attention) in &down.steps {
                x = resnet.forward(&x, edges)?;
                x = attention
                    .as_ref()
                    .map_or(Ok(x.clone()), |it| it.forward(&x))?;
                kept.push(x.clone());
            }
            if let Some(halve) = &down.resample {
                x = halve.forward(&x, edges)?;
                kept.push(x.clone());
            }
        }
        let (first, attention, second) = &self.middle;
        x = second.forward(&attention.forward(&first.forward(&x, edges)?)?, edges)?;
        for up in &self.ups {
            for (resnet, attention) in &up.steps {
                if let Some(kept) = kept.pop() {
                    x = join(&x, &kept)?;
                }
                x = resnet.forward(&x, edges)?;
                x = attention
                    .as_ref()
                    .map_or(Ok(x.clone()), |it| it.forward(&x))?;
            }
            if let Some(double) = &up.resample {
                let (_, _, height, width) = x.dims4()?;
                x = double.forward(&enlarge(&x, 2 * height, 2 * width)?, edges)?;
            }
        }
        let x = self.norm_out.forward(&x, Followed::BySilu)?;
        self.conv_out
            .forward(&x, edges)?
            .to_dtype(candle_core::DType::F32)
    }

    /// Cuts one picture out: `[1, 3, h, w]` in −1…1 as the autoencoder makes it of the latents. `go_on` is
    /// asked before each look.
    ///
    /// # Errors
    ///
    /// Those of `go_on` and of the tensor library.
    pub fn cut_out(
        &self,
        (picture, latents): (&Tensor, &Tensor),
        edges: Edges,
        go_on: &dyn Fn() -> Result<(), EngineError>,
    ) -> Result<RgbaImage, EngineError> {
        let (_, _, height, width) = picture.dims4()?;
        let picture = ((picture + 1.0)? * 0.5)?.clamp(0.0, 1.0)?;
        let factor = (height / latents.dim(2)?.max(1)).max(1);
        let picture = filled(&picture, self.step.max(factor))?;
        let latents = filled(latents, (self.step / factor).max(1))?;
        let mut looks: Vec<Vec<u8>> = Vec::new();
        for look in Look::all() {
            go_on()?;
            let said = self.forward(&look.of(&picture)?, &look.of(&latents)?, edges)?;
            let said = look.back(&said)?;
            let said = said.narrow(2, 0, height)?.narrow(3, 0, width)?;
            let pixels = said.squeeze(0)?.permute((1, 2, 0))?.flatten_all()?;
            looks.push(pixels.to_vec1::<f32>()?.into_iter().map(to_byte).collect());
        }
        let mut bytes = median(&looks);
        for pixel in bytes.chunks_exact_mut(OUTPUTS) {
            // Alpha comes last in pictures.
            pixel.rotate_left(1);
        }
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        RgbaImage::from_raw(side(width), side(height), bytes)
            .ok_or_else(|| EngineError::bad_task("pixels do not fill the picture"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
fn to_byte(value: f32) -> u8 {
    (value * 255.0).round().clamp(0.0, 255.0) as u8
}
