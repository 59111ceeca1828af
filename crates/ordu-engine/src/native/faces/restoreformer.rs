//! RestoreFormer: a face is written in a book of codes for good faces, and read back with an eye on the
//! face as it was.
//!
//! ```text
//! face ─► encoder ─► nearest codes ─► decoder ─► face
//!             └─ what it saw ─────────► asks in its attention
//! ```
//!
//! # Source
//! Wang et al. 2022, "RestoreFormer: High-Quality Blind Face Restoration from Undegraded Key-Value Pairs".

use candle_core::Tensor;

use super::super::ops::{Conv2d, Edges, Followed, Geometry, GroupNorm};
use super::super::weights::{Scope, Weights};
use super::GoOn;
use super::codebook::{
    Attention, Resnet, check_groups, doubled, halve, nearest_codes, norm, outputs,
};
use crate::EngineError;
use crate::native::Compute;

/// Heads of attention, which no tensor tells.
const HEADS: usize = 8;
/// No such network has more levels, or blocks in one.
const MAX_PARTS: usize = 16;
/// What the file calls a shortcut.
const SHORTCUT: &str = "nin_shortcut";

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct RestoreFormer {
    enter: Conv2d,
    down: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    leave: Conv2d,
    quant: Conv2d,
    book: Tensor,
    post_quant: Conv2d,
    decoder: Decoder,
}

#[derive(Clone, Debug)]
struct Decoder {
    enter: Conv2d,
    middle: Middle,
    /// The smallest first.
    up: Vec<Level>,
    norm_out: GroupNorm,
    leave: Conv2d,
}

/// Blocks of one size, with attention behind each or behind none, and the step to the next size.
#[derive(Clone, Debug)]
struct Level {
    blocks: Vec<Resnet>,
    attentions: Vec<Attention>,
    step: Option<Conv2d>,
}

#[derive(Clone, Debug)]
struct Middle {
    first: Resnet,
    attention: Attention,
    second: Resnet,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let has = |name: &str| weights.shape(name).is_some();
    has("quantize.embedding.weight") && has("encoder.down.0.block.0.norm1.weight")
}

impl RestoreFormer {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        check_groups(name, weights)?;
        let root = weights.root(compute);
        let encoder = root.sub("encoder");
        let width = outputs(&encoder, "conv_in.weight");
        let enter = Conv2d::new(&encoder.sub("conv_in"), 3, width, Geometry::SAME)?;
        let (mut down, mut last) = (Vec::new(), width);
        for number in 0..MAX_PARTS {
            let scope = encoder.sub("down").sub(number);
            if !scope.has("block.0.conv1.weight") {
                break;
            }
            let (level, width) = Level::new(&scope, last, "downsample")?;
            last = width;
            down.push(level);
        }
        let latent = outputs(&encoder, "conv_out.weight");
        let code = outputs(&root, "quant_conv.weight");
        let codes = outputs(&root, "quantize.embedding.weight");
        let point = |name: &str, sides: (usize, usize)| {
            Conv2d::new(&root.sub(name), sides.0, sides.1, Geometry::POINT)
        };
        let decoder = root.sub("decoder");
        let network = Self {
            enter,
            middle: Middle::new(&encoder.sub("mid"), last)?,
            norm_out: norm(&encoder.sub("norm_out"), last)?,
            leave: Conv2d::new(&encoder.sub("conv_out"), last, latent, Geometry::SAME)?,
            quant: point("quant_conv", (latent, code))?,
            book: root.take("quantize.embedding.weight", &[codes, code])?,
            post_quant: point("post_quant_conv", (code, latent))?,
            decoder: Decoder::new(&decoder, (latent, last), down.len())?,
            down,
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// A face, `[1, 3, s, s]` in −1…1, to the same, mended. `go_on` is asked after each level.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(&self, face: &Tensor, go_on: &GoOn<'_>) -> Result<Tensor, EngineError> {
        let mut x = self.enter.forward(face, Edges::Zero)?;
        for level in &self.down {
            for (number, block) in level.blocks.iter().enumerate() {
                x = block.forward(&x)?;
                if let Some(attention) = level.attentions.get(number) {
                    x = attention.forward(&x)?;
                }
            }
            if let Some(step) = &level.step {
                x = step.forward(&x, Edges::Zero)?;
            }
            go_on()?;
        }
        let before = self.middle.first.forward(&x)?;
        let x = self.middle.attention.forward(&before)?;
        let after = self.middle.second.forward(&x)?;
        let x = self.norm_out.forward(&after, Followed::BySilu)?;
        let x = self
            .quant
            .forward(&self.leave.forward(&x, Edges::Zero)?, Edges::Zero)?;
        let codes = nearest_codes(&x, &self.book)?;
        go_on()?;
        let x = self.post_quant.forward(&codes, Edges::Zero)?;
        self.decoder.forward(&x, (&before, &after), go_on)
    }
}

impl Decoder {
    fn new(
        scope: &Scope<'_>,
        (latent, width): (usize, usize),
        levels: usize,
    ) -> Result<Self, EngineError> {
        let (mut up, mut last) = (Vec::new(), width);
        for number in (0..levels).rev() {
            let level = Level::new(&scope.sub("up").sub(number), last, "upsample")?;
            last = level.1;
            up.push(level.0);
        }
        Ok(Self {
            enter: Conv2d::new(&scope.sub("conv_in"), latent, width, Geometry::SAME)?,
            middle: Middle::new(&scope.sub("mid"), width)?,
            up,
            norm_out: norm(&scope.sub("norm_out"), last)?,
            leave: Conv2d::new(&scope.sub("conv_out"), last, 3, Geometry::SAME)?,
        })
    }

    /// `seen` is what the encoder saw before and after its middle.
    fn forward(
        &self,
        x: &Tensor,
        seen: (&Tensor, &Tensor),
        go_on: &GoOn<'_>,
    ) -> Result<Tensor, EngineError> {
        let x = self.enter.forward(x, Edges::Zero)?;
        let x = self.middle.first.forward(&x)?;
        let x = self.middle.attention.asked_by(&x, seen.1)?;
        let mut x = self.middle.second.forward(&x)?;
        for level in &self.up {
            for (number, block) in level.blocks.iter().enumerate() {
                x = block.forward(&x)?;
                if let Some(attention) = level.attentions.get(number) {
                    x = attention.asked_by(&x, seen.0)?;
                }
            }
            if let Some(step) = &level.step {
                x = doubled(&x, step)?;
            }
            go_on()?;
        }
        let x = self.norm_out.forward(&x, Followed::BySilu)?;
        Ok(self.leave.forward(&x, Edges::Zero)?)
    }
}

impl Level {
    /// The level, and the channels that it makes.
    fn new(scope: &Scope<'_>, inputs: usize, step: &str) -> Result<(Self, usize), EngineError> {
        let (mut blocks, mut attentions, mut width) = (Vec::new(), Vec::new(), inputs);
        for number in 0..MAX_PARTS {
            let block = scope.sub("block").sub(number);
            if !block.has("conv1.weight") {
                break;
            }
            let block = Resnet::new(&block, width, SHORTCUT)?;
            width = block.outputs;
            blocks.push(block);
            let attention = scope.sub("attn").sub(number);
            if attention.has("q.weight") {
                attentions.push(Attention::several(&attention, width, HEADS)?);
            }
        }
        let step = scope.sub(step).sub("conv");
        let step = step.has("weight").then(|| {
            if scope.has("downsample.conv.weight") {
                halve(&step, width)
            } else {
                Conv2d::new(&step, width, width, Geometry::SAME)
            }
        });
        let level = Self {
            blocks,
            attentions,
            step: step.transpose()?,
        };
        Ok((level, width))
    }
}

impl Middle {
    fn new(scope: &Scope<'_>, width: usize) -> Result<Self, EngineError> {
        Ok(Self {
            first: Resnet::new(&scope.sub("block_1"), width, SHORTCUT)?,
            attention: Attention::several(&scope.sub("attn_1"), width, HEADS)?,
            second: Resnet::new(&scope.sub("block_2"), width, SHORTCUT)?,
        })
    }
}
