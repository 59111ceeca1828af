//! The parts of networks that write pictures in a book of codes: residual blocks, attention, and steps from
//! one size to the next.
//!
//! # Source
//! Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis".

use candle_core::{D, Result, Tensor};

use super::super::ops::{
    Conv2d, Edges, Followed, Geometry, GroupNorm, Linear, attention, to_picture, to_tokens,
};
use super::super::weights::{Scope, Weights};
use crate::EngineError;

/// Groups of channels that are normalised together.
pub(super) const GROUPS: usize = 32;
pub(super) const EPSILON: f64 = 1e-6;

/// The first side of a tensor, which is how many channels it makes; one if it is not there, which is said
/// later.
pub(super) fn outputs(scope: &Scope<'_>, name: &str) -> usize {
    let first = scope.shape(name).and_then(|shape| shape.first().copied());
    first.unwrap_or(1).max(1)
}

/// Whether the normalised layers of a network can be normalised: for the shapes of files, before anything
/// is built.
///
/// # Errors
///
/// [`EngineError::BadModel`] naming the tensor.
pub(super) fn check_groups(name: &str, weights: &Weights) -> std::result::Result<(), EngineError> {
    let wrong = weights.iter().find(|(tensor, entry)| {
        let is_norm = tensor.contains("norm") && tensor.ends_with("weight");
        let is_group = is_norm && !tensor.starts_with("ft_layers");
        is_group && !matches!(entry.shape(), [width] if width.is_multiple_of(GROUPS))
    });
    match wrong {
        Some((tensor, entry)) => {
            let reason = format!(
                "`{tensor}` is {:?}, expected a multiple of {GROUPS} channels",
                entry.shape()
            );
            Err(EngineError::bad_model(name, reason))
        }
        None => Ok(()),
    }
}

pub(super) fn norm(
    scope: &Scope<'_>,
    channels: usize,
) -> std::result::Result<GroupNorm, EngineError> {
    GroupNorm::new(scope, channels, GROUPS, EPSILON)
}

/// Two convolutions beside a shortcut.
#[derive(Clone, Debug)]
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    /// The channels that it makes.
    pub(super) outputs: usize,
}

impl Resnet {
    /// `shortcut` is what the file calls that.
    pub(super) fn new(
        scope: &Scope<'_>,
        inputs: usize,
        shortcut: &str,
    ) -> std::result::Result<Self, EngineError> {
        let width = outputs(scope, "conv1.weight");
        let shortcut = (inputs != width)
            .then(|| Conv2d::new(&scope.sub(shortcut), inputs, width, Geometry::POINT));
        Ok(Self {
            norm1: norm(&scope.sub("norm1"), inputs)?,
            conv1: Conv2d::new(&scope.sub("conv1"), inputs, width, Geometry::SAME)?,
            norm2: norm(&scope.sub("norm2"), width)?,
            conv2: Conv2d::new(&scope.sub("conv2"), width, width, Geometry::SAME)?,
            shortcut: shortcut.transpose()?,
            outputs: width,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.norm1.forward(x, Followed::BySilu)?;
        let y = self.conv1.forward(&y, Edges::Zero)?;
        let y = self.norm2.forward(&y, Followed::BySilu)?;
        let y = self.conv2.forward(&y, Edges::Zero)?;
        match &self.shortcut {
            Some(shortcut) => y + shortcut.forward(x, Edges::Zero)?,
            None => y + x,
        }
    }
}

/// Attention of all pixels to all pixels.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    norm: GroupNorm,
    /// Of what asks, where that is something else.
    norm_asking: Option<GroupNorm>,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    /// With one head.
    pub(super) fn single(
        scope: &Scope<'_>,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        Self::of(scope, width, ("norm", None), 1)
    }

    /// With several heads, and a normalisation for what asks.
    pub(super) fn several(
        scope: &Scope<'_>,
        width: usize,
        heads: usize,
    ) -> std::result::Result<Self, EngineError> {
        Self::of(scope, width, ("norm1", Some("norm2")), heads)
    }

    fn of(
        scope: &Scope<'_>,
        width: usize,
        (own, asking): (&str, Option<&str>),
        heads: usize,
    ) -> std::result::Result<Self, EngineError> {
        let linear = |name: &str| Linear::new(&scope.sub(name), width, width);
        Ok(Self {
            norm: norm(&scope.sub(own), width)?,
            norm_asking: asking
                .map(|name| norm(&scope.sub(name), width))
                .transpose()?,
            q: linear("q")?,
            k: linear("k")?,
            v: linear("v")?,
            out: linear("proj_out")?,
            heads,
        })
    }

    /// A picture looks at itself.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let seen = to_tokens(&self.norm.forward(x, Followed::ByNothing)?)?;
        self.between(x, &seen, &seen)
    }

    /// What another picture of the same size asks is answered by this one.
    pub(super) fn asked_by(&self, x: &Tensor, asking: &Tensor) -> Result<Tensor> {
        let seen = to_tokens(&self.norm.forward(x, Followed::ByNothing)?)?;
        let asking = match &self.norm_asking {
            Some(norm) => norm.forward(asking, Followed::ByNothing)?,
            None => asking.clone(),
        };
        self.between(x, &to_tokens(&asking)?, &seen)
    }

    fn between(&self, x: &Tensor, asking: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (q, k, v) = (
            self.q.forward(asking)?,
            self.k.forward(seen)?,
            self.v.forward(seen)?,
        );
        let y = self
            .out
            .forward(&attention(&q, &k, &v, self.heads, None)?)?;
        x + to_picture(&y, height, width)?
    }
}

/// To half the size.
pub(super) fn halve(scope: &Scope<'_>, width: usize) -> std::result::Result<Conv2d, EngineError> {
    Conv2d::new(scope, width, width, Geometry::HALVE_ONE_SIDED)
}

/// To twice the size, before a convolution.
pub(super) fn doubled(x: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    conv.forward(&x.upsample_nearest2d(2 * height, 2 * width)?, Edges::Zero)
}

/// Each pixel of `[1, c, h, w]` as the code of a book, `[codes, c]`, that is nearest to it.
pub(super) fn nearest_codes(x: &Tensor, book: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let pixels = to_tokens(x)?.squeeze(0)?;
    let lengths = book.sqr()?.sum(D::Minus1)?;
    let products = (pixels.matmul(&book.t()?)? * 2.0)?;
    let codes = lengths.broadcast_sub(&products)?.argmin(D::Minus1)?;
    to_picture(&book.index_select(&codes, 0)?.unsqueeze(0)?, height, width)
}
