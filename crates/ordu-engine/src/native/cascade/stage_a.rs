//! Stable Cascade's stage A: latents to pixels (the decoder of Paella, Rampas et al. 2022, "A Novel Sampling
//! Scheme for Text- and Image-Conditional Image Synthesis in Quantized Latent Spaces").
//!
//! `[batch, 4, h, w]` → points → blocks that mix neighbours, then channels → twice the size, narrower, until
//! the last level → squares of pixels apart → `[batch, 3, 4 h, 4 w]` in 0…1.
//!
//! # Source
//! Compared with diffusers' `PaellaVQModel`. Its codebook and its encoder are not needed: latents are drawn,
//! and pictures go in through another encoder.

use candle_core::{Device, Result, Tensor};

use super::block::plain;
use super::grid::{Around, Beyond, Depthwise, last, spread};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, LayerNorm, Linear};
use crate::native::weights::{Scope, Weights};

/// How many times larger the latents of stage B are than its.
pub const SCALE: f64 = 0.43;
/// Pixels per latent pixel in each direction.
pub const FACTOR: u32 = 4;
/// The most layers that are built.
const MAX_LAYERS: usize = 256;
/// Side of the squares of pixels that are one pixel of the last level.
const SQUARE: usize = 2;

/// The decoder.
#[derive(Clone, Debug)]
pub struct StageA {
    compute: Compute,
    into: Linear,
    layers: Vec<Layer>,
    out: Linear,
}

#[derive(Clone, Debug)]
enum Layer {
    Mixing(Box<Mixing>),
    /// To squares of four pixels, from what lies around one.
    Double(Around),
}

impl StageA {
    /// Takes all tensors of the decoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming those that are missing, wrongly shaped or left over.
    pub fn new(weights: &Weights, compute: &Compute) -> std::result::Result<Self, EngineError> {
        let root = weights.root(compute);
        let side = |name: &str, place: usize| {
            let missing =
                || EngineError::bad_model("stage_a", format!("tensor `{name}` is missing"));
            let side = weights.shape(name).and_then(|shape| shape.get(place));
            side.copied().ok_or_else(missing)
        };
        let mut width = side("up_blocks.0.0.weight", 0)?;
        let into = side("up_blocks.0.0.weight", 1)?;
        let blocks = root.sub("up_blocks");
        let into = Linear::new(&blocks.sub(0).sub(0), into, width)?;
        let mut layers = Vec::new();
        for number in 1..MAX_LAYERS {
            let scope = blocks.sub(number);
            if scope.has("gammas") {
                layers.push(Layer::Mixing(Box::new(Mixing::new(&scope, width)?)));
            } else if let Some([_, narrower, ..]) = scope.shape("weight") {
                let narrower = *narrower;
                layers.push(Layer::Double(doubling(&scope, width, narrower)?));
                width = narrower;
            } else {
                break;
            }
        }
        let stage = Self {
            compute: compute.clone(),
            into,
            layers,
            out: Linear::new(&root.sub("out_block").sub(0), width, 3 * SQUARE * SQUARE)?,
        };
        root.finish("stage_a", &[])?;
        Ok(stage)
    }

    /// Latents of stage B, `[batch, 4, h, w]`, to pixels in 0…1 `[batch, 3, 4 h, 4 w]`, in f32 on the
    /// processor. Values beyond are not cut.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.compute.take(&(latents * SCALE)?)?;
        let mut x = self.into.forward(&last(&latents)?)?;
        for layer in &self.layers {
            x = match layer {
                Layer::Mixing(block) => block.forward(&x)?,
                Layer::Double(layer) => last(&spread(&layer.forward(&x)?, 2)?)?,
            };
        }
        spread(&self.out.forward(&x)?, SQUARE)?
            .to_dtype(candle_core::DType::F32)?
            .to_device(&Device::Cpu)
    }
}

/// Mixes neighbours of each channel, then the channels of each place; six numbers say how strongly.
#[derive(Clone, Debug)]
struct Mixing {
    norm: LayerNorm,
    mix: Depthwise,
    widen: Linear,
    narrow: Linear,
    shares: [f64; 6],
}

impl Mixing {
    fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        let inner = scope.shape("channelwise.0.weight");
        let inner = inner.and_then(|shape| shape.first()).copied();
        let inner = inner.unwrap_or(4 * width);
        let shares = scope.take("gammas", &[6])?;
        let shares = shares.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
        let channels = scope.sub("channelwise");
        Ok(Self {
            norm: plain(scope.compute(), width)?,
            mix: Depthwise::new(&scope.sub("depthwise").sub(1), width, Beyond::Nearest)?,
            widen: Linear::new(&channels.sub(0), width, inner)?,
            narrow: Linear::new(&channels.sub(2), inner, width)?,
            shares: shares.try_into().unwrap_or_default(),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [scale, shift, share, scale_2, shift_2, share_2] = self.shares;
        let normed = self.norm.forward(x)?.affine(1.0 + scale, shift)?;
        let x = (x + (self.mix.forward(&normed)? * share)?)?;
        let normed = self.norm.forward(&x)?.affine(1.0 + scale_2, shift_2)?;
        let wide = Activation::Gelu.apply(&self.widen.forward(&normed)?)?;
        &x + (self.narrow.forward(&wide)? * share_2)?
    }
}

/// Four by four, every second pixel, the other way around: each of four pixels is made of two by two around
/// it, so that a convolution of three by three makes all four.
fn doubling(
    scope: &Scope<'_>,
    inputs: usize,
    outputs: usize,
) -> std::result::Result<Around, EngineError> {
    /// Which row of the kernel meets the pixel before, the same and the one behind: for the first pixel of
    /// two, and for the second.
    const MEET: [[Option<usize>; 3]; 2] = [[Some(3), Some(1), None], [None, Some(2), Some(0)]];
    let weight = scope.take("weight", &[inputs, outputs, 4, 4])?;
    let bias = scope.take("bias", &[outputs])?;
    let zero = Tensor::zeros((inputs, outputs), weight.dtype(), weight.device())?;
    let mut places = Vec::with_capacity(36);
    for row in MEET {
        for column in MEET {
            for (down, across) in row
                .iter()
                .flat_map(|down| column.map(|across| (*down, across)))
            {
                places.push(match (down, across) {
                    (Some(down), Some(across)) => {
                        let part = weight.narrow(2, down, 1)?.narrow(3, across, 1)?;
                        part.squeeze(3)?.squeeze(2)?
                    }
                    _ => zero.clone(),
                });
            }
        }
    }
    // [four, nine, in, out] to [out * four, in, 3, 3].
    let kernel = Tensor::stack(&places, 0)?.reshape((4, 9, inputs, outputs))?;
    let kernel = kernel.permute((3, 0, 2, 1))?.contiguous()?;
    let kernel = kernel.reshape((outputs * 4, inputs, 3, 3))?;
    let each = bias.unsqueeze(1)?.broadcast_as((outputs, 4))?;
    Ok(Around::of(&kernel, &each.contiguous()?.flatten_all()?, 1)?)
}
