//! CodeFormer: a transformer guesses the codes of a good face from a bad one; how much of the bad one is
//! looked at while reading them back is the fidelity.
//!
//! ```text
//! face ─► encoder ─► transformer ─► codes ─► generator ─► face
//!             └─ what it saw at each size ─► × fidelity ─┘
//! ```
//!
//! # Source
//! Zhou et al. 2022, "Towards Robust Blind Face Restoration with Codebook Lookup Transformer".

use std::collections::BTreeMap;

use candle_core::{D, Tensor};

use super::super::ops::{
    Activation, Conv2d, Edges, Followed, Geometry, GroupNorm, LayerNorm, Linear, attention, leaky,
    to_picture, to_tokens,
};
use super::super::weights::{Scope, Weights};
use super::GoOn;
use super::codebook::{Attention, Resnet, check_groups, doubled, halve, norm, outputs};
use crate::EngineError;
use crate::native::Compute;

/// Heads of the transformer, which no tensor tells.
const HEADS: usize = 8;
/// The side of a face in codes.
const CODES: usize = 16;
/// No such network has more blocks or layers.
const MAX_PARTS: usize = 64;
/// What the file calls a shortcut.
const SHORTCUT: &str = "conv_out";
/// What is left of numbers below zero.
const SLOPE: f64 = 0.2;
/// What keeps channels without spread from dividing by nothing.
const EPSILON: f64 = 1e-5;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct CodeFormer {
    encoder: Vec<Block>,
    generator: Vec<Block>,
    enter: Linear,
    places: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    guess: Linear,
    book: Tensor,
    /// By the side at which they work.
    fuses: BTreeMap<usize, Fuse>,
    side: usize,
}

#[derive(Clone, Debug)]
enum Block {
    Conv(Conv2d),
    Norm(GroupNorm),
    Resnet(Resnet),
    Attention(Attention),
    Halve(Conv2d),
    Double(Conv2d),
}

/// One of the two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Encoder,
    Generator,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let has = |name: &str| weights.shape(name).is_some();
    has("position_emb") && has("ft_layers.0.self_attn.in_proj_weight")
}

impl CodeFormer {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        check_groups(name, weights)?;
        let root = weights.root(compute);
        let (encoder, code) = blocks(&root.sub("encoder").sub("blocks"), 3, Half::Encoder)?;
        let generator = root.sub("generator").sub("blocks");
        let (generator, _) = blocks(&generator, code, Half::Generator)?;
        let width = outputs(&root, "feat_emb.weight");
        let codes = outputs(&root, "quantize.embedding.weight");
        let mut layers = Vec::new();
        for number in 0..MAX_PARTS {
            let scope = root.sub("ft_layers").sub(number);
            if !scope.has("linear1.weight") {
                break;
            }
            layers.push(Layer::new(&scope, width)?);
        }
        let steps = encoder
            .iter()
            .filter(|block| matches!(block, Block::Halve(_)));
        let side = CODES << steps.count().min(8);
        let mut fuses = BTreeMap::new();
        let mut at = side;
        while at > CODES {
            let scope = root.sub("fuse_convs_dict").sub(at);
            if scope.has("scale.0.weight") {
                fuses.insert(at, Fuse::new(&scope)?);
            }
            at /= 2;
        }
        let last = root.sub("idx_pred_layer");
        let network = Self {
            encoder,
            generator,
            enter: Linear::new(&root.sub("feat_emb"), code, width)?,
            places: root.take("position_emb", &[CODES * CODES, width])?,
            layers,
            norm: LayerNorm::new(&last.sub(0), width)?,
            guess: Linear::without_bias(&last.sub(1), width, codes)?,
            book: root.take("quantize.embedding.weight", &[codes, code])?,
            fuses,
            side,
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// The side of the faces that it takes, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// A face, `[1, 3, side, side]` in −1…1, to the same, mended. With a fidelity of 0 nothing of the
    /// face counts but its codes. `go_on` is asked after each block.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(
        &self,
        face: &Tensor,
        fidelity: f32,
        go_on: &GoOn<'_>,
    ) -> Result<Tensor, EngineError> {
        let mut seen: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut x = face.clone();
        let mut at_this_size = 0;
        for block in &self.encoder {
            x = block.forward(&x)?;
            match block {
                // The second of each size is looked at later.
                Block::Resnet(_) => {
                    at_this_size += 1;
                    if at_this_size == 2 {
                        seen.entry(x.dim(3)?).or_insert_with(|| x.clone());
                    }
                }
                Block::Halve(_) => at_this_size = 0,
                _ => {}
            }
            go_on()?;
        }
        let codes = self.codes(&x, go_on)?;
        let mut x = like(&codes, &x)?;
        let mut is_first = false;
        for block in &self.generator {
            x = block.forward(&x)?;
            match block {
                // The first of each size.
                Block::Resnet(_) if is_first => {
                    is_first = false;
                    let side = x.dim(3)?;
                    if fidelity > 0.0
                        && let (Some(fuse), Some(seen)) = (self.fuses.get(&side), seen.get(&side))
                    {
                        x = fuse.forward(seen, &x, fidelity)?;
                    }
                }
                Block::Double(_) => is_first = true,
                _ => {}
            }
            go_on()?;
        }
        Ok(x)
    }

    /// The codes that are guessed for what the encoder made.
    fn codes(&self, x: &Tensor, go_on: &GoOn<'_>) -> Result<Tensor, EngineError> {
        let (_, _, height, width) = x.dims4()?;
        let mut tokens = self.enter.forward(&to_tokens(x)?)?;
        for layer in &self.layers {
            tokens = layer.forward(&tokens, &self.places)?;
            go_on()?;
        }
        let guesses = self.guess.forward(&self.norm.forward(&tokens)?)?;
        let codes = guesses.squeeze(0)?.argmax(D::Minus1)?;
        let codes = self.book.index_select(&codes, 0)?.unsqueeze(0)?;
        Ok(to_picture(&codes, height, width)?)
    }
}

/// A picture with the mean and the spread that each channel of another has.
fn like(x: &Tensor, other: &Tensor) -> candle_core::Result<Tensor> {
    let numbers = |x: &Tensor| {
        let (_, channels, height, width) = x.dims4()?;
        let flat = x.reshape((1, channels, height * width))?;
        let deviation = (flat.var_keepdim(2)? + EPSILON)?.sqrt()?;
        Ok::<_, candle_core::Error>((flat.mean_keepdim(2)?.unsqueeze(3)?, deviation.unsqueeze(3)?))
    };
    let (mean, deviation) = numbers(x)?;
    let (new_mean, new_deviation) = numbers(other)?;
    let bare = x.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
    bare.broadcast_mul(&new_deviation)?.broadcast_add(&new_mean)
}

/// The blocks of a half, each recognised by its tensors, and the channels that they make.
fn blocks(
    scope: &Scope<'_>,
    inputs: usize,
    half: Half,
) -> Result<(Vec<Block>, usize), EngineError> {
    let (mut blocks, mut width) = (Vec::new(), inputs);
    for number in 0..MAX_PARTS {
        let scope = scope.sub(number);
        let block = if scope.has("norm1.weight") {
            let resnet = Resnet::new(&scope, width, SHORTCUT)?;
            width = resnet.outputs;
            Block::Resnet(resnet)
        } else if scope.has("q.weight") {
            Block::Attention(Attention::single(&scope, width)?)
        } else if scope.has("conv.weight") {
            let scope = scope.sub("conv");
            match half {
                Half::Encoder => Block::Halve(halve(&scope, width)?),
                Half::Generator => {
                    Block::Double(Conv2d::new(&scope, width, width, Geometry::SAME)?)
                }
            }
        } else {
            match scope.shape("weight") {
                Some([outputs, _, _, _]) => {
                    let outputs = *outputs;
                    let conv = Conv2d::new(&scope, width, outputs, Geometry::SAME)?;
                    width = outputs;
                    Block::Conv(conv)
                }
                Some(_) => Block::Norm(norm(&scope, width)?),
                None => break,
            }
        };
        blocks.push(block);
    }
    Ok((blocks, width))
}

impl Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Conv(conv) | Self::Halve(conv) => conv.forward(x, Edges::Zero),
            Self::Norm(norm) => norm.forward(x, Followed::ByNothing),
            Self::Resnet(resnet) => resnet.forward(x),
            Self::Attention(attention) => attention.forward(x),
            Self::Double(conv) => doubled(x, conv),
        }
    }
}

/// A layer of the transformer.
#[derive(Clone, Debug)]
struct Layer {
    norm1: LayerNorm,
    /// Queries, keys and values, each as wide as the layer.
    asked: [(Tensor, Tensor); 3],
    out: Linear,
    norm2: LayerNorm,
    wide: Linear,
    narrow: Linear,
}

impl Layer {
    fn new(scope: &Scope<'_>, width: usize) -> Result<Self, EngineError> {
        let own = scope.sub("self_attn");
        let weight = own.take("in_proj_weight", &[3 * width, width])?;
        let bias = own.take("in_proj_bias", &[3 * width])?;
        let part = |number: usize| {
            let from = number * width;
            let weight = weight.narrow(0, from, width)?.t()?.contiguous()?;
            Ok::<_, EngineError>((weight, bias.narrow(0, from, width)?.contiguous()?))
        };
        let inner = outputs(scope, "linear1.weight");
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), width)?,
            asked: [part(0)?, part(1)?, part(2)?],
            out: Linear::new(&own.sub("out_proj"), width, width)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), width)?,
            wide: Linear::new(&scope.sub("linear1"), width, inner)?,
            narrow: Linear::new(&scope.sub("linear2"), inner, width)?,
        })
    }

    /// `[1, tokens, width]` to the same.
    fn forward(&self, x: &Tensor, places: &Tensor) -> candle_core::Result<Tensor> {
        let seen = self.norm1.forward(x)?;
        let placed = seen.broadcast_add(places)?;
        let [q, k, v] = &self.asked;
        let of = |x: &Tensor, (weight, bias): &(Tensor, Tensor)| {
            x.broadcast_matmul(weight)?.broadcast_add(bias)
        };
        let (q, k, v) = (of(&placed, q)?, of(&placed, k)?, of(&seen, v)?);
        let x = (x + self.out.forward(&attention(&q, &k, &v, HEADS, None)?)?)?;
        let inner = self.wide.forward(&self.norm2.forward(&x)?)?;
        x + self.narrow.forward(&Activation::Gelu.apply(&inner)?)?
    }
}

/// Lets a picture look at what the encoder saw at its size.
#[derive(Clone, Debug)]
struct Fuse {
    both: Resnet,
    scale: [Conv2d; 2],
    shift: [Conv2d; 2],
}

impl Fuse {
    fn new(scope: &Scope<'_>) -> Result<Self, EngineError> {
        let width = outputs(scope, "scale.0.weight");
        let pair = |name: &str| {
            let layer = |place: usize| {
                Conv2d::new(&scope.sub(name).sub(place), width, width, Geometry::SAME)
            };
            Ok::<_, EngineError>([layer(0)?, layer(2)?])
        };
        Ok(Self {
            both: Resnet::new(&scope.sub("encode_enc"), 2 * width, SHORTCUT)?,
            scale: pair("scale")?,
            shift: pair("shift")?,
        })
    }

    fn forward(&self, seen: &Tensor, x: &Tensor, fidelity: f32) -> candle_core::Result<Tensor> {
        let both = self.both.forward(&Tensor::cat(&[seen, x], 1)?)?;
        let through = |layers: &[Conv2d; 2]| {
            let inner = leaky(&layers[0].forward(&both, Edges::Zero)?, SLOPE)?;
            layers[1].forward(&inner, Edges::Zero)
        };
        let changed = ((x * through(&self.scale)?)? + through(&self.shift)?)?;
        x + (changed * f64::from(fidelity))?
    }
}
