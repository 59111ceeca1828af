//! The autoencoder: pixels to latents and back (Esser et al. 2021, without the codebook; Kingma and
//! Welling 2013).
//!
//! Pictures are `[b, 3, h, w]` in −1…1, latents `[b, c, h/f, w/f]` scaled to about unit spread, `f`
//! a power of two.

use candle_core::{DType, Result, Tensor};

use super::config::VaeConfig;
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{
    Beside, Conv2d, Edges, Followed, Geometry, GroupNorm, Linear, add, attention, enlarge,
    to_picture, to_tokens,
};
use crate::native::weights::{Scope, Weights};

/// The autoencoder.
#[derive(Clone, Debug)]
pub struct Vae {
    compute: Compute,
    encoder: Stack,
    decoder: Stack,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
    latent_channels: usize,
    scale: f64,
    shift: f64,
}

impl Vae {
    /// Takes all tensors of the autoencoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the configuration or the tensors do not fit.
    pub fn new(
        weights: &Weights,
        config: &VaeConfig,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        config.check()?;
        let root = weights.root(compute);
        let latent = config.latent_channels;
        let point = |name: &str, channels: usize| {
            Conv2d::new(&root.sub(name), channels, channels, Geometry::POINT)
        };
        let vae = Self {
            compute: compute.clone(),
            encoder: Stack::encoder(&root.sub("encoder"), config)?,
            decoder: Stack::decoder(&root.sub("decoder"), config)?,
            quant: config
                .use_quant_conv
                .then(|| point("quant_conv", 2 * latent))
                .transpose()?,
            post_quant: config
                .use_post_quant_conv
                .then(|| point("post_quant_conv", latent))
                .transpose()?,
            latent_channels: latent,
            scale: config.scaling_factor,
            shift: config.shift_factor.unwrap_or_default(),
        };
        root.finish("vae", &["model_ema.decay", "model_ema.num_updates"])?;
        Ok(vae)
    }

    /// `[b, 3, h, w]` in −1…1 to scaled latents in f32 on the autoencoder's device. The mean of what the encoder proposes is taken,
    /// not a sample of it.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn encode(&self, pictures: &Tensor, edges: Edges) -> Result<Tensor> {
        let mut x = self.encoder.forward(&self.compute.take(pictures)?, edges)?;
        if let Some(quant) = &self.quant {
            x = quant.forward(&x, edges)?;
        }
        let mean = x.narrow(1, 0, self.latent_channels)?.to_dtype(DType::F32)?;
        (mean - self.shift)? * self.scale
    }

    /// Scaled latents to those that the encoder made.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn unscaled(&self, latents: &Tensor) -> Result<Tensor> {
        (latents / self.scale)? + self.shift
    }

    /// Scaled latents to `[b, 3, h, w]` in f32, about −1…1.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn decode(&self, latents: &Tensor, edges: Edges) -> Result<Tensor> {
        let mut x = self.compute.take(&self.unscaled(latents)?)?;
        if let Some(post_quant) = &self.post_quant {
            x = post_quant.forward(&x, edges)?;
        }
        self.decoder.forward(&x, edges)?.to_dtype(DType::F32)
    }
}

/// One half of the autoencoder.
#[derive(Clone, Debug)]
struct Stack {
    conv_in: Conv2d,
    parts: Vec<Part>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What lies one after the other between the first and the last convolution.
#[derive(Clone, Debug)]
enum Part {
    Resnet(Resnet),
    Attention(Attention),
    Halve(Conv2d),
    Double(Conv2d),
}

/// Autoencoders use another number than diffusion networks.
const EPSILON: f64 = 1e-6;

/// How pictures are normalised between layers.
#[derive(Clone, Copy, Debug)]
pub(in crate::native) struct Norms {
    pub(in crate::native) groups: usize,
    pub(in crate::native) epsilon: f64,
}

impl Norms {
    fn of(config: &VaeConfig) -> Self {
        Self {
            groups: config.norm_num_groups,
            epsilon: EPSILON,
        }
    }

    pub(in crate::native) fn layer(
        self,
        scope: &Scope<'_>,
        width: usize,
    ) -> std::result::Result<GroupNorm, EngineError> {
        GroupNorm::new(scope, width, self.groups, self.epsilon)
    }
}

impl Stack {
    fn encoder(scope: &Scope<'_>, config: &VaeConfig) -> std::result::Result<Self, EngineError> {
        let channels = &config.block_out_channels;
        let first = channels.first().copied().unwrap_or_default();
        let last = channels.last().copied().unwrap_or_default();
        let (mut parts, mut inputs) = (Vec::new(), first);
        for (block, width) in channels.iter().copied().enumerate() {
            let scope = scope.sub("down_blocks").sub(block);
            push_resnets(
                &mut parts,
                &scope,
                config,
                (config.layers_per_block, inputs, width),
            )?;
            if block + 1 < channels.len() {
                let scope = scope.sub("downsamplers").sub(0).sub("conv");
                parts.push(Part::Halve(Conv2d::new(
                    &scope,
                    width,
                    width,
                    Geometry::HALVE_ONE_SIDED,
                )?));
            }
            inputs = width;
        }
        push_middle(&mut parts, &scope.sub("mid_block"), config, last)?;
        let conv_in = (config.in_channels, first);
        Self::close(
            scope,
            config,
            parts,
            [conv_in, (last, 2 * config.latent_channels)],
        )
    }

    fn decoder(scope: &Scope<'_>, config: &VaeConfig) -> std::result::Result<Self, EngineError> {
        let channels = &config.block_out_channels;
        let first = channels.first().copied().unwrap_or_default();
        let last = channels.last().copied().unwrap_or_default();
        let (mut parts, mut inputs) = (Vec::new(), last);
        push_middle(&mut parts, &scope.sub("mid_block"), config, last)?;
        for (block, width) in channels.iter().rev().copied().enumerate() {
            let scope = scope.sub("up_blocks").sub(block);
            push_resnets(
                &mut parts,
                &scope,
                config,
                (config.layers_per_block + 1, inputs, width),
            )?;
            if block + 1 < channels.len() {
                let scope = scope.sub("upsamplers").sub(0).sub("conv");
                parts.push(Part::Double(Conv2d::new(
                    &scope,
                    width,
                    width,
                    Geometry::SAME,
                )?));
            }
            inputs = width;
        }
        let conv_in = (config.latent_channels, last);
        Self::close(scope, config, parts, [conv_in, (first, config.in_channels)])
    }

    /// Adds the first and the last convolution, each given as (inputs, outputs).
    fn close(
        scope: &Scope<'_>,
        config: &VaeConfig,
        parts: Vec<Part>,
        ends: [(usize, usize); 2],
    ) -> std::result::Result<Self, EngineError> {
        let [enter, leave] = ends;
        Ok(Self {
            conv_in: Conv2d::new(&scope.sub("conv_in"), enter.0, enter.1, Geometry::SAME)?,
            parts,
            norm_out: Norms::of(config).layer(&scope.sub("conv_norm_out"), leave.0)?,
            conv_out: Conv2d::new(&scope.sub("conv_out"), leave.0, leave.1, Geometry::SAME)?,
        })
    }

    fn forward(&self, x: &Tensor, edges: Edges) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x, edges)?;
        for part in &self.parts {
            x = match part {
                Part::Resnet(resnet) => resnet.forward(&x, edges)?,
                Part::Attention(attention) => attention.forward(&x)?,
                Part::Halve(conv) => conv.forward(&x, edges)?,
                Part::Double(conv) => {
                    let (_, _, height, width) = x.dims4()?;
                    conv.forward(&enlarge(&x, 2 * height, 2 * width)?, edges)?
                }
            };
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, Followed::BySilu)?, edges)
    }
}

/// Residual blocks of one resolution: how many, from which width, to which.
fn push_resnets(
    parts: &mut Vec<Part>,
    scope: &Scope<'_>,
    config: &VaeConfig,
    (count, inputs, width): (usize, usize, usize),
) -> std::result::Result<(), EngineError> {
    for layer in 0..count {
        let inputs = if layer == 0 { inputs } else { width };
        let scope = scope.sub("resnets").sub(layer);
        let norms = Norms::of(config);
        parts.push(Part::Resnet(Resnet::new(&scope, norms, inputs, width)?));
    }
    Ok(())
}

fn push_middle(
    parts: &mut Vec<Part>,
    scope: &Scope<'_>,
    config: &VaeConfig,
    width: usize,
) -> std::result::Result<(), EngineError> {
    let norms = Norms::of(config);
    let resnet = |index: usize| Resnet::new(&scope.sub("resnets").sub(index), norms, width, width);
    parts.push(Part::Resnet(resnet(0)?));
    if config.mid_block_add_attention {
        parts.push(Part::Attention(Attention::new(
            &scope.sub("attentions").sub(0),
            norms,
            (width, 1),
        )?));
    }
    parts.push(Part::Resnet(resnet(1)?));
    Ok(())
}

/// As the residual block of the UNet, without time.
#[derive(Clone, Debug)]
pub(in crate::native) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    pub(in crate::native) fn new(
        scope: &Scope<'_>,
        norms: Norms,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let norm = |name: &str, width| norms.layer(&scope.sub(name), width);
        let shortcut = || {
            Conv2d::new(
                &scope.sub("conv_shortcut"),
                inputs,
                outputs,
                Geometry::POINT,
            )
        };
        Ok(Self {
            norm1: norm("norm1", inputs)?,
            conv1: Conv2d::new(&scope.sub("conv1"), inputs, outputs, Geometry::SAME)?,
            norm2: norm("norm2", outputs)?,
            conv2: Conv2d::new(&scope.sub("conv2"), outputs, outputs, Geometry::SAME)?,
            shortcut: if inputs == outputs {
                None
            } else {
                Some(shortcut()?)
            },
        })
    }

    pub(in crate::native) fn forward(&self, x: &Tensor, edges: Edges) -> Result<Tensor> {
        // Each takes the place of the one before it, which is let go of.
        let mut inner = self.norm1.forward(x, Followed::BySilu)?;
        inner = self.conv1.forward(&inner, edges)?;
        inner = self.norm2.forward(&inner, Followed::BySilu)?;
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, edges)?,
            None => x.clone(),
        };
        let beside = Beside {
            shift: None,
            onto: Some(&shortcut),
        };
        self.conv2.forward_beside(&inner, edges, beside)
    }
}

/// Attention of all pixels to all pixels.
#[derive(Clone, Debug)]
pub(in crate::native) struct Attention {
    heads: usize,
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    pub(in crate::native) fn new(
        scope: &Scope<'_>,
        norms: Norms,
        (width, heads): (usize, usize),
    ) -> std::result::Result<Self, EngineError> {
        // Exports of 2022 use other names.
        let named = |new: &str, old: &str| {
            let name = if scope.has(&format!("{old}.weight")) {
                old
            } else {
                new
            };
            Linear::new(&scope.sub(name), width, width)
        };
        Ok(Self {
            heads,
            norm: norms.layer(&scope.sub("group_norm"), width)?,
            q: named("to_q", "query")?,
            k: named("to_k", "key")?,
            v: named("to_v", "value")?,
            out: named("to_out.0", "proj_attn")?,
        })
    }

    pub(in crate::native) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let mut y = to_tokens(&self.norm.forward(x, Followed::ByNothing)?)?;
        y = {
            let (q, k, v) = (
                self.q.forward(&y)?,
                self.k.forward(&y)?,
                self.v.forward(&y)?,
            );
            attention(&q, &k, &v, self.heads, None)?
        };
        y = to_picture(&self.out.forward(&y)?, height, width)?;
        add(x, &y)
    }
}
