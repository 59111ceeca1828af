//! Pixels to latents of Stable Cascade's stage C: an EfficientNetV2-S (Tan and Le 2021, "EfficientNetV2:
//! Smaller Models and Faster Training") and one layer.
//!
//! `[1, 3, h, w]`, normalised → convolutions and blocks, a 32nd of the size in the end → `[1, 16, h / 32, w
//! / 32]`, whose channels have a mean of 0 and a spread of 1.
//!
//! # Source
//! The names are torchvision's, under `backbone`. Which stages halve the size is the architecture's and not
//! in the tensors.

use candle_core::{D, Result, Tensor};
use image::RgbImage;

use super::grid::{Around, Beyond, Depthwise, first, last};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, Linear};
use crate::native::weights::{Scope, Weights};

/// Pixels per latent pixel in each direction.
pub const FACTOR: u32 = 32;
/// What is taken off each channel, and what it is divided by: those of ImageNet.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// By how much each stage shrinks a picture, with its first block.
const STRIDES: [usize; 6] = [1, 2, 2, 2, 1, 2];
/// The most blocks of a stage.
const MAX_BLOCKS: usize = 64;
/// Of the backbone's normalisations, and of the last one.
const EPSILON: f64 = 1e-3;
const LAST_EPSILON: f64 = 1e-5;
/// Counters of training.
const PASSED_OVER: &[&str] = &["num_batches_tracked"];

/// The encoder.
#[derive(Clone, Debug)]
pub struct Encoder {
    compute: Compute,
    stem: Around,
    blocks: Vec<Block>,
    head: Linear,
    mapper: Linear,
}

/// A block; what comes in is added where it has the shape of what goes out.
#[derive(Clone, Debug)]
struct Block {
    inside: Inside,
    adds: bool,
}

#[derive(Clone, Debug)]
enum Inside {
    /// One convolution.
    Single(Around),
    /// A convolution to many channels, and back to few.
    Fused(Around, Linear),
    /// To many channels, each mixed by itself, weighed by what all of the picture says, and back to few.
    Apart(Box<Apart>),
}

#[derive(Clone, Debug)]
struct Apart {
    widen: Linear,
    mix: Depthwise,
    squeeze: Linear,
    weigh: Linear,
    narrow: Linear,
}

impl Encoder {
    /// Takes all tensors of the encoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming those that are missing, wrongly shaped or left over.
    pub fn new(weights: &Weights, compute: &Compute) -> std::result::Result<Self, EngineError> {
        let root = weights.root(compute);
        let backbone = root.sub("backbone");
        let mut blocks = Vec::new();
        let mut width = outputs(&backbone, "0.0.weight")?;
        let stem = around(&backbone.sub(0), (3, width), 2)?;
        for (stage, stride) in STRIDES.into_iter().enumerate() {
            let scope = backbone.sub(stage + 1);
            for number in 0..MAX_BLOCKS {
                let block = scope.sub(number).sub("block");
                if number > 0 && !block.has("0.0.weight") {
                    break;
                }
                let stride = if number == 0 { stride } else { 1 };
                let (inside, wide) = inside(&block, width, stride)?;
                let adds = stride == 1 && wide == width;
                blocks.push(Block { inside, adds });
                width = wide;
            }
        }
        let last = backbone.sub(STRIDES.len() + 1);
        let many = outputs(&last, "0.weight")?;
        let head = point(&last, (width, many))?;
        let mapper = root.sub("mapper");
        let latents = outputs(&mapper, "0.weight")?;
        let weight = mapper.sub(0).take("weight", &[latents, many])?;
        let (scale, shift) = statistics(&mapper.sub(1), latents, LAST_EPSILON)?;
        let weight = weight.broadcast_mul(&scale.unsqueeze(1)?)?;
        let encoder = Self {
            compute: compute.clone(),
            stem,
            blocks,
            head,
            mapper: Linear::of(weight, Some(shift)),
        };
        root.finish("encoder", PASSED_OVER)?;
        Ok(encoder)
    }

    /// A picture to latents `[1, 16, h / 32, w / 32]`, in f32 on the encoder's device.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn encode(&self, picture: &RgbImage) -> Result<Tensor> {
        let channels = MEAN.iter().zip(DEVIATION).cycle();
        let bytes = picture.as_raw().iter().zip(channels);
        let numbers = bytes.map(|(byte, (mean, by))| (f32::from(*byte) / 255.0 - mean) / by);
        let shape = (1, picture.height() as usize, picture.width() as usize, 3);
        let pixels = Tensor::from_vec(numbers.collect::<Vec<f32>>(), shape, self.compute.device())?;
        self.forward(&first(&pixels)?)
    }

    /// Normalised pixels `[batch, 3, h, w]` to latents.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let silu = |x: Tensor| Activation::Silu.apply(&x);
        let mut x = last(&self.compute.take(pixels)?)?;
        x = silu(self.stem.forward(&x)?)?;
        for block in &self.blocks {
            let made = match &block.inside {
                Inside::Single(layer) => silu(layer.forward(&x)?)?,
                Inside::Fused(widen, narrow) => narrow.forward(&silu(widen.forward(&x)?)?)?,
                Inside::Apart(apart) => apart.forward(&x)?,
            };
            x = if block.adds { (x + made)? } else { made };
        }
        let x = silu(self.head.forward(&x)?)?;
        first(&self.mapper.forward(&x)?)?.to_dtype(candle_core::DType::F32)
    }
}

impl Apart {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let silu = |x: Tensor| Activation::Silu.apply(&x);
        let wide = silu(self.widen.forward(x)?)?;
        let mixed = silu(self.mix.forward(&wide)?)?;
        let whole = mixed.mean_keepdim((1, 2))?;
        let weights = self.weigh.forward(&silu(self.squeeze.forward(&whole)?)?)?;
        let weighed = mixed.broadcast_mul(&candle_nn::ops::sigmoid(&weights)?)?;
        self.narrow.forward(&weighed)
    }
}

fn outputs(scope: &Scope<'_>, name: &str) -> std::result::Result<usize, EngineError> {
    let missing =
        || EngineError::bad_model("encoder", format!("it has no `{name}` where one belongs"));
    let side = scope.shape(name).and_then(|shape| shape.first()).copied();
    side.filter(|side| *side > 0).ok_or_else(missing)
}

/// What is inside a block of one width, and the width that leaves it.
fn inside(
    block: &Scope<'_>,
    width: usize,
    stride: usize,
) -> std::result::Result<(Inside, usize), EngineError> {
    let many = outputs(block, "0.0.weight")?;
    if block.has("2.fc1.weight") {
        let few = outputs(block, "3.0.weight")?;
        let squeezed = outputs(block, "2.fc1.weight")?;
        let weigh = block.sub(2);
        let apart = Apart {
            widen: point(&block.sub(0), (width, many))?,
            mix: each(&block.sub(1), many, stride)?,
            squeeze: Linear::new(&weigh.sub("fc1"), many, squeezed)?,
            weigh: Linear::new(&weigh.sub("fc2"), squeezed, many)?,
            narrow: point(&block.sub(3), (many, few))?,
        };
        return Ok((Inside::Apart(Box::new(apart)), few));
    }
    let widen = around(&block.sub(0), (width, many), stride)?;
    if !block.has("1.0.weight") {
        return Ok((Inside::Single(widen), many));
    }
    let few = outputs(block, "1.0.weight")?;
    let narrow = point(&block.sub(1), (many, few))?;
    Ok((Inside::Fused(widen, narrow), few))
}

/// A 3×3 convolution and its normalisation.
fn around(
    scope: &Scope<'_>,
    (inputs, outputs): (usize, usize),
    stride: usize,
) -> std::result::Result<Around, EngineError> {
    let weight = scope.sub(0).take("weight", &[outputs, inputs, 3, 3])?;
    let (scale, shift) = folded(&scope.sub(1), outputs)?;
    let scale = scale.reshape((outputs, 1, 1, 1))?;
    Ok(Around::of(&weight.broadcast_mul(&scale)?, &shift, stride)?)
}

/// A 3×3 convolution of each channel by itself, and its normalisation.
fn each(
    scope: &Scope<'_>,
    channels: usize,
    stride: usize,
) -> std::result::Result<Depthwise, EngineError> {
    let weight = scope.sub(0).take("weight", &[channels, 1, 3, 3])?;
    let (scale, shift) = folded(&scope.sub(1), channels)?;
    let scale = scale.reshape((channels, 1, 1, 1))?;
    let weight = weight.broadcast_mul(&scale)?;
    Ok(Depthwise::of(&weight, shift, (stride, Beyond::Nothing))?)
}

/// A layer of points and its normalisation.
fn point(
    scope: &Scope<'_>,
    (inputs, outputs): (usize, usize),
) -> std::result::Result<Linear, EngineError> {
    let weight = scope.sub(0).take("weight", &[outputs, inputs])?;
    let (scale, shift) = folded(&scope.sub(1), outputs)?;
    Ok(Linear::of(
        weight.broadcast_mul(&scale.unsqueeze(D::Minus1)?)?,
        Some(shift),
    ))
}

/// What a batch normalisation multiplies by and adds.
fn folded(scope: &Scope<'_>, width: usize) -> std::result::Result<(Tensor, Tensor), EngineError> {
    let (scale, shift) = statistics(scope, width, EPSILON)?;
    let weight = scope.take("weight", &[width])?;
    let bias = scope.take("bias", &[width])?;
    Ok(((scale * &weight)?, ((shift * weight)? + bias)?))
}

/// The same without weights of its own.
fn statistics(
    scope: &Scope<'_>,
    width: usize,
    epsilon: f64,
) -> std::result::Result<(Tensor, Tensor), EngineError> {
    let mean = scope.take("running_mean", &[width])?;
    let variance = scope.take("running_var", &[width])?;
    let scale = (variance + epsilon)?.sqrt()?.recip()?;
    let shift = (mean.neg()? * &scale)?;
    Ok((scale, shift))
}
