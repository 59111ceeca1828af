//! The blocks of DAT: attention among pixels or among channels, beside a convolution that each tells what
//! counts, then a feed-forward network with a gate that sees neighbours.

use candle_core::{D, Result, Tensor};

use super::super::super::ops::{
    Activation, Conv2d, Edges, Geometry, LayerNorm, Linear, normed_conv, to_picture, to_tokens,
};
use super::super::super::weights::Scope;
use super::windows::{Masks, Split, WindowAttention};
use crate::EngineError;

/// Keeps batch normalisation and lengths from dividing by nothing.
const EPSILON: f64 = 1e-5;
const LENGTH_EPSILON: f64 = 1e-12;

/// What a block looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pixels in windows.
    Windows,
    /// Pixels in windows that lie across those.
    MovedWindows,
    /// Channels.
    Channels,
}

#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    /// Queries, keys and values, one behind the other.
    asked: Linear,
    looks: Looks,
    near: Depthwise,
    factor: Tensor,
    shift: Tensor,
    channels: [Conv2d; 2],
    pixels: [Conv2d; 2],
    out: Linear,
    norm2: LayerNorm,
    feed: Feed,
}

#[derive(Clone, Debug)]
enum Looks {
    AtPixels {
        halves: Box<[WindowAttention; 2]>,
        moved: bool,
    },
    /// By how much likeness counts: `[heads, 1, 1]`.
    AtChannels(Tensor),
}

impl Block {
    pub(super) fn new(
        scope: &Scope<'_>,
        width: usize,
        kind: Kind,
        split: &Split,
    ) -> std::result::Result<Self, EngineError> {
        let own = scope.sub("attn");
        let looks = if kind == Kind::Channels {
            let heads = own
                .shape("temperature")
                .and_then(|shape| shape.first().copied())
                .filter(|heads| *heads > 0 && width.is_multiple_of(*heads))
                .unwrap_or(1);
            Looks::AtChannels(own.take("temperature", &[heads, 1, 1])?)
        } else {
            let half = |half: usize| {
                WindowAttention::new(&own.sub("attns").sub(half), width / 2, half, split)
            };
            Looks::AtPixels {
                halves: Box::new([half(0)?, half(1)?]),
                moved: kind == Kind::MovedWindows,
            }
        };
        let asked = own.sub("qkv");
        let asked = if asked.has("bias") {
            Linear::new(&asked, width, 3 * width)?
        } else {
            Linear::without_bias(&asked, width, 3 * width)?
        };
        let narrow = |name: &str, first: usize, inner: usize, outputs: usize| {
            let scope = own.sub(name);
            let parts = (&scope.sub(first), &scope.sub(first + 1));
            Ok::<_, EngineError>([
                normed_conv(parts, (width, inner), Geometry::POINT)?,
                Conv2d::new(&scope.sub(first + 3), inner, outputs, Geometry::POINT)?,
            ])
        };
        let norm = own.sub("dwconv").sub(1);
        let number = |name: &str| norm.take(name, &[width]);
        let factor = (number("weight")? / (number("running_var")? + EPSILON)?.sqrt()?)?;
        let shift = (number("bias")? - (number("running_mean")? * &factor)?)?;
        let as_channels = |x: Tensor| x.reshape((1, width, 1, 1));
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), width)?,
            asked,
            looks,
            near: Depthwise::new(&own.sub("dwconv").sub(0), width)?,
            factor: as_channels(factor)?,
            shift: as_channels(shift)?,
            channels: narrow("channel_interaction", 1, width / 8, width)?,
            pixels: narrow("spatial_interaction", 0, width / 16, 1)?,
            out: Linear::new(&own.sub("proj"), width, width)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), width)?,
            feed: Feed::new(&scope.sub("ffn"), width)?,
        })
    }

    /// `[1, h * w, width]` to the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        size: (usize, usize),
        masks: &Masks,
    ) -> Result<Tensor> {
        let x = (x + self.look(&self.norm1.forward(x)?, size, masks)?)?;
        &x + self.feed.forward(&self.norm2.forward(&x)?, size)?
    }

    fn look(&self, x: &Tensor, (height, width): (usize, usize), masks: &Masks) -> Result<Tensor> {
        let asked = self.asked.forward(x)?.squeeze(0)?;
        let channels = asked.dim(1)? / 3;
        let part = |number: usize| asked.narrow(1, number * channels, channels)?.contiguous();
        let asked = [part(0)?, part(1)?, part(2)?];
        let values = to_picture(&asked[2].unsqueeze(0)?, height, width)?;
        let near = self.near.forward(&values)?;
        let near = near
            .broadcast_mul(&self.factor)?
            .broadcast_add(&self.shift)?;
        let near = Activation::Gelu.apply(&near)?;
        let through = |x: &Tensor, convs: &[Conv2d; 2]| {
            let inner = Activation::Gelu.apply(&convs[0].forward(x, Edges::Zero)?)?;
            candle_nn::ops::sigmoid(&convs[1].forward(&inner, Edges::Zero)?)
        };
        // What attention and what the convolution found, each weighed by what the other says: which
        // channels count is said by the one that sees less of the picture.
        let (seen, near) = match &self.looks {
            Looks::AtPixels { halves, moved } => {
                let masks = moved.then_some(masks);
                let seen = pixels(&asked, (height, width), halves, masks)?;
                let counts = through(&mean(&near)?, &self.channels)?;
                let places = through(&seen, &self.pixels)?;
                (seen.broadcast_mul(&counts)?, near.broadcast_mul(&places)?)
            }
            Looks::AtChannels(temperature) => {
                let seen = among_channels(&asked, temperature)?;
                let seen = to_picture(&seen.unsqueeze(0)?, height, width)?;
                let counts = through(&mean(&seen)?, &self.channels)?;
                let places = through(&near, &self.pixels)?;
                (seen.broadcast_mul(&places)?, near.broadcast_mul(&counts)?)
            }
        };
        self.out.forward(&to_tokens(&(seen + near)?)?)
    }
}

/// Each channel's mean, as a picture of one pixel.
fn mean(x: &Tensor) -> Result<Tensor> {
    x.mean_keepdim(3)?.mean_keepdim(2)
}

/// Attention among pixels, each half of the channels in windows of its own, as a picture.
fn pixels(
    asked: &[Tensor; 3],
    (height, width): (usize, usize),
    halves: &[WindowAttention; 2],
    masks: Option<&Masks>,
) -> Result<Tensor> {
    let channels = asked[0].dim(1)?;
    let half = channels / 2;
    let mut seen = Vec::new();
    for (number, attention) in halves.iter().enumerate() {
        let part = |x: &Tensor| {
            let x = x.narrow(1, number * half, half)?.contiguous()?;
            x.reshape((height, width, half))
        };
        let [q, k, v] = asked;
        seen.push(attention.forward(&[part(q)?, part(k)?, part(v)?], masks)?);
    }
    let seen = Tensor::cat(&seen, 2)?.permute((2, 0, 1))?.contiguous()?;
    seen.unsqueeze(0)
}

/// Attention among the channels of each head: `[pixels, channels]`.
fn among_channels([q, k, v]: &[Tensor; 3], temperature: &Tensor) -> Result<Tensor> {
    let (pixels, channels) = q.dims2()?;
    let heads = temperature.dim(0)?;
    let rows = |x: &Tensor| {
        let rows = x.t()?.contiguous()?;
        rows.reshape((heads, channels / heads, pixels))
    };
    let bare = |x: &Tensor| {
        let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        x.broadcast_div(&length.maximum(LENGTH_EPSILON)?)
    };
    let likeness = bare(&rows(q)?)?.matmul(&bare(&rows(k)?)?.t()?)?;
    let likeness = likeness.broadcast_mul(temperature)?;
    let seen = candle_nn::ops::softmax(&likeness, D::Minus1)?.matmul(&rows(v)?)?;
    seen.reshape((channels, pixels))?.t()?.contiguous()
}

/// A convolution of 3×3 for each channel alone.
#[derive(Clone, Debug)]
struct Depthwise {
    /// `[9, 1, channels, 1, 1]`
    taps: Tensor,
    bias: Tensor,
}

impl Depthwise {
    fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        let kernel = scope.take("weight", &[width, 1, 3, 3])?;
        let taps = kernel.reshape((width, 9))?.t()?.contiguous()?;
        Ok(Self {
            taps: taps.reshape((9, 1, width, 1, 1))?,
            bias: scope.take("bias", &[width])?.reshape((1, width, 1, 1))?,
        })
    }

    /// `[1, channels, h, w]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let wide = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        let mut sum: Option<Tensor> = None;
        for tap in 0..9 {
            let seen = wide.narrow(2, tap / 3, height)?.narrow(3, tap % 3, width)?;
            let part = seen.broadcast_mul(&self.taps.get(tap)?)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        match sum {
            Some(sum) => sum.broadcast_add(&self.bias),
            None => Ok(x.clone()),
        }
    }
}

/// A feed-forward network whose one half lets the other through, as far as neighbours say.
#[derive(Clone, Debug)]
struct Feed {
    wide: Linear,
    norm: LayerNorm,
    gate: Depthwise,
    narrow: Linear,
    half: usize,
}

impl Feed {
    fn new(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, EngineError> {
        let inner = scope
            .shape("fc1.weight")
            .and_then(|shape| shape.first().copied())
            .unwrap_or(2);
        let half = inner / 2;
        let gate = scope.sub("sg");
        Ok(Self {
            wide: Linear::new(&scope.sub("fc1"), width, inner)?,
            norm: LayerNorm::new(&gate.sub("norm"), half)?,
            gate: Depthwise::new(&gate.sub("conv"), half)?,
            narrow: Linear::new(&scope.sub("fc2"), half, width)?,
            half,
        })
    }

    fn forward(&self, x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let x = Activation::Gelu.apply(&self.wide.forward(x)?)?;
        let kept = x.narrow(D::Minus1, 0, self.half)?;
        let gate = x.narrow(D::Minus1, self.half, self.half)?.contiguous()?;
        let gate = to_picture(&self.norm.forward(&gate)?, height, width)?;
        let gate = to_tokens(&self.gate.forward(&gate)?)?;
        self.narrow.forward(&(kept * gate)?)
    }
}
