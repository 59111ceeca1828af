//! The diffusion network: a UNet whose blocks attend to the text (Rombach et al. 2022).
//!
//! ```text
//! latents [b, c, h, w] → conv_in → down 0 → down 1 → … → bottom → … → up 1 → up 0 → norm, silu, conv_out → [b, c, h, w]
//!                           └──────────┴─────────┴── outputs are kept and joined by channel on the way up
//! ```
//!
//! All blocks get the embedding of the time step `[b, 4 c₀]`; those with attention also the text
//! `[b, tokens, width]`. To the time step SDXL adds an embedding of a summary of the text and of the
//! sizes of the picture (Podell et al. 2023).

mod block;
mod control;
mod resnet;
mod transformer;

use candle_core::{DType, Result, Tensor};

use self::block::{Down, Mid, Up};
pub use self::control::{ControlNet, Steering};
use super::condition::{Condition, Summary};
use super::config::{SIZES, UNetConfig};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Conv2d, Edges, Followed, Geometry, GroupNorm, Linear, add};
use crate::native::weights::Weights;

/// The diffusion network.
#[derive(Clone, Debug)]
pub struct UNet {
    compute: Compute,
    time: TimeEmbedding,
    conv_in: Conv2d,
    downs: Vec<Down>,
    mid: Mid,
    ups: Vec<Up>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What every block gets beside its picture.
struct Conditions<'a> {
    /// Embedding of the time step, `[b, 4 c₀]` or the same for all, `[1, 4 c₀]`; activated.
    time: &'a Tensor,
    /// The text, `[b, tokens, width]`.
    text: &'a Tensor,
    edges: Edges,
}

impl UNet {
    /// Takes all tensors of the network.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the configuration or the tensors do not fit.
    pub fn new(
        weights: &Weights,
        config: &UNetConfig,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        config.check()?;
        let root = weights.root(compute);
        let channels = &config.block_out_channels;
        let first = channels.first().copied().unwrap_or_default();
        let (mut downs, mut kept) = (Vec::new(), vec![first]);
        let mut previous = first;
        for (block, width) in channels.iter().copied().enumerate() {
            let down = Down::new(&root.sub("down_blocks").sub(block), config, block, previous)?;
            kept.extend(std::iter::repeat_n(width, down.outputs()));
            downs.push(down);
            previous = width;
        }
        let mid = Mid::new(&root.sub("mid_block"), config, previous)?;
        let mut ups = Vec::new();
        for block in 0..channels.len() {
            let up = Up::new(
                &root.sub("up_blocks").sub(block),
                config,
                block,
                (previous, &mut kept),
            )?;
            previous = channels
                .iter()
                .rev()
                .nth(block)
                .copied()
                .unwrap_or_default();
            ups.push(up);
        }
        let unet = Self {
            compute: compute.clone(),
            time: TimeEmbedding::new(&root, config)?,
            conv_in: Conv2d::new(
                &root.sub("conv_in"),
                config.in_channels,
                first,
                Geometry::SAME,
            )?,
            downs,
            mid,
            ups,
            norm_out: GroupNorm::new(
                &root.sub("conv_norm_out"),
                first,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: Conv2d::new(
                &root.sub("conv_out"),
                first,
                config.out_channels,
                Geometry::SAME,
            )?,
        };
        root.finish("unet", &[])?;
        Ok(unet)
    }

    /// Latents `[b, in, h, w]` at time step `time` under a condition to a prediction `[b, out, h, w]` in
    /// f32. All are brought to the network's device and numbers.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(
        &self,
        latents: &Tensor,
        time: f64,
        condition: &Condition,
        edges: Edges,
    ) -> Result<Tensor> {
        self.forward_steered(latents, time, (condition, edges), None)
    }

    /// The same, with what a control network adds.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward_steered(
        &self,
        latents: &Tensor,
        time: f64,
        (condition, edges): (&Condition, Edges),
        steering: Option<&Steering>,
    ) -> Result<Tensor> {
        let time = self.time.under(time, condition, &self.compute)?;
        let conditions = Conditions {
            time: &time,
            text: &self.compute.take(&condition.text)?,
            edges,
        };
        let mut x = self.conv_in.forward(&self.compute.take(latents)?, edges)?;
        let mut kept = vec![x.clone()];
        for down in &self.downs {
            x = down.forward(x, &conditions, &mut kept)?;
        }
        x = self.mid.forward(&x, &conditions)?;
        if let Some((bottom, others)) = steering.and_then(|steering| steering.0.split_last()) {
            x = add(&x, bottom)?;
            for (kept, other) in kept.iter_mut().zip(others) {
                *kept = add(kept, other)?;
            }
        }
        for up in &self.ups {
            x = up.forward(x, &conditions, &mut kept)?;
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, Followed::BySilu)?, edges)?
            .to_dtype(DType::F32)?
            .contiguous()
    }
}

/// Sines and cosines of the time step, and two layers over them; for some networks a summary of the
/// text beside it.
#[derive(Clone, Debug)]
struct TimeEmbedding {
    linear1: Linear,
    linear2: Linear,
    width: usize,
    cosine_first: bool,
    shift: f64,
    summary: Option<SummaryEmbedding>,
}

impl TimeEmbedding {
    fn new(
        root: &crate::native::weights::Scope<'_>,
        config: &UNetConfig,
    ) -> std::result::Result<Self, EngineError> {
        let width = config
            .block_out_channels
            .first()
            .copied()
            .unwrap_or_default();
        let scope = root.sub("time_embedding");
        Ok(Self {
            linear1: Linear::new(&scope.sub("linear_1"), width, 4 * width)?,
            linear2: Linear::new(&scope.sub("linear_2"), 4 * width, 4 * width)?,
            width,
            cosine_first: config.flip_sin_to_cos,
            shift: config.freq_shift,
            summary: config
                .text_and_sizes()
                .map(|sizes| SummaryEmbedding::new(&root.sub("add_embedding"), sizes, 4 * width))
                .transpose()?,
        })
    }

    /// What all blocks get of a time step under a condition, `[b, 4 width]` or the same for all,
    /// `[1, 4 width]`; activated.
    fn under(&self, time: f64, condition: &Condition, compute: &Compute) -> Result<Tensor> {
        let mut time = self.forward(time, compute)?;
        match (&self.summary, &condition.summary) {
            (Some(embedding), Some(summary)) => {
                time = time.broadcast_add(&embedding.forward(summary, compute)?)?;
            }
            (Some(_), None) => candle_core::bail!("a network wants a summary of the text"),
            (None, _) => {}
        }
        time.silu()
    }

    /// `[1, 4 width]`.
    fn forward(&self, time: f64, compute: &Compute) -> Result<Tensor> {
        let waves = waves(&[time], self.width, (self.cosine_first, self.shift));
        let waves = Tensor::from_vec(waves, (1, self.width / 2 * 2), compute.device())?;
        let waves = waves.to_dtype(compute.dtype())?;
        self.linear2.forward(&self.linear1.forward(&waves)?.silu()?)
    }
}

/// Two layers over a summary of the text and the waves of sizes.
#[derive(Clone, Debug)]
struct SummaryEmbedding {
    linear1: Linear,
    linear2: Linear,
    /// Waves for each size.
    waves: usize,
}

impl SummaryEmbedding {
    fn new(
        scope: &crate::native::weights::Scope<'_>,
        (waves, summary): (usize, usize),
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let inputs = summary + SIZES * waves;
        Ok(Self {
            linear1: Linear::new(&scope.sub("linear_1"), inputs, outputs)?,
            linear2: Linear::new(&scope.sub("linear_2"), outputs, outputs)?,
            waves,
        })
    }

    /// `[b, 4 width]`.
    fn forward(&self, summary: &Summary, compute: &Compute) -> Result<Tensor> {
        let batch = summary.text.dim(0)?;
        let sizes = summary.sizes.map(f64::from);
        let waves = waves(&sizes, self.waves, (true, 0.0));
        let waves = Tensor::from_vec(waves, (1, SIZES * self.waves), compute.device())?;
        let waves = waves.repeat((batch, 1))?.to_dtype(compute.dtype())?;
        let x = Tensor::cat(&[&compute.take(&summary.text)?, &waves], 1)?;
        self.linear2.forward(&self.linear1.forward(&x)?.silu()?)
    }
}

/// Cosines and sines of numbers at falling frequencies, `width` for each number; which of them come
/// first, and how far the frequencies are shifted.
#[expect(clippy::cast_possible_truncation, reason = "networks compute in f32")]
fn waves(numbers: &[f64], width: usize, (cosine_first, shift): (bool, f64)) -> Vec<f32> {
    let half = width / 2;
    let of = |number: f64| {
        let angles: Vec<f32> = (0..half)
            .map(|index| (-f64::ln(10_000.0) * index as f64 / (half as f64 - shift)).exp() * number)
            .map(|angle| angle as f32)
            .collect();
        let sines: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let cosines: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        if cosine_first {
            [cosines, sines].concat()
        } else {
            [sines, cosines].concat()
        }
    };
    numbers.iter().flat_map(|number| of(*number)).collect()
}
