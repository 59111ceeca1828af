//! A change to one tensor, kept as the small factors that it is the product of.
//!
//! With `s` the strength times alpha over rank:
//!
//! | kind | change |
//! |---|---|
//! | low rank (Hu et al. 2021, "LoRA") | `s · up · down`; of a convolution, `down` has its kernel |
//! | the same with a core (LoCon, a Tucker decomposition) | `s · up · core · down`, the core has the kernel |
//! | Hadamard product (Hyeon-Woo et al. 2021, "FedPara"; LoHa) | `s · (a₁ · b₁) ∘ (a₂ · b₂)`, each with or without a core |

use candle_core::{Device, Tensor};

use super::Entry;
use crate::EngineError;

/// Factors of higher rank than this are no small change.
const MAX_RANK: usize = 4096;

/// A product of small matrices, shaped like the weights of a layer when multiplied out.
#[derive(Clone, Debug)]
pub struct Factors {
    /// `[out, rank]`, sides of 1 may follow; with a core of a Hadamard product `[rank, out]`.
    pub up: Entry,
    /// `[rank, in, …]`; with a core `[rank, in]`.
    pub down: Entry,
    /// `[rank, rank, kernel, kernel]`.
    pub core: Option<Entry>,
}

/// What is added to one tensor.
#[derive(Clone, Debug)]
pub struct Delta {
    first: Factors,
    second: Option<Factors>,
    scale: f64,
}

/// How the product of [`Factors`] is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `up` is `[out, rank]`.
    Low,
    /// With a core, `up` is `[rank, out]`.
    Hadamard,
}

impl Delta {
    /// A product of low rank, times `scale`.
    #[must_use]
    pub fn low_rank(factors: Factors, scale: f64) -> Self {
        Self {
            first: factors,
            second: None,
            scale,
        }
    }

    /// The elementwise product of two of them, times `scale`.
    #[must_use]
    pub fn hadamard(first: Factors, second: Factors, scale: f64) -> Self {
        Self {
            first,
            second: Some(second),
            scale,
        }
    }

    /// The same, so many times as strong.
    #[must_use]
    pub fn scaled(mut self, strength: f64) -> Self {
        self.scale *= strength;
        self
    }

    fn layout(&self) -> Layout {
        match self.second {
            Some(_) => Layout::Hadamard,
            None => Layout::Low,
        }
    }

    /// Rows and columns of its product; `None` if its factors do not fit each other. Asked before anything
    /// is multiplied: factors are a stranger's, and two short ones make a huge product.
    #[must_use]
    pub fn product(&self) -> Option<(usize, usize)> {
        let layout = self.layout();
        let product = self.first.product(layout)?;
        let is_same = |second: &Factors| second.product(layout) == Some(product);
        self.second.as_ref().is_none_or(is_same).then_some(product)
    }

    /// Whether its product has as many rows and columns as a tensor of this shape.
    #[must_use]
    pub fn fits(&self, shape: &[usize]) -> bool {
        self.product().is_some() && self.product() == matrix(shape)
    }

    /// Adds it to a tensor in f32 that it fits.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for numbers that are not supported, those of the tensor library.
    pub fn add_to(&self, tensor: &Tensor) -> Result<Tensor, EngineError> {
        let layout = self.layout();
        let mut change = self.first.multiply(layout, tensor.device())?;
        if let Some(second) = &self.second {
            change = (change * second.multiply(layout, tensor.device())?)?;
        }
        let change = (change * self.scale)?.reshape(tensor.shape())?;
        Ok((tensor + change)?)
    }
}

/// Rows, and numbers of a row; `None` if a matrix is no way to see it.
fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    let (rows, sides) = shape.split_first()?;
    let columns = sides
        .iter()
        .try_fold(1_usize, |product, side| product.checked_mul(*side))?;
    (!sides.is_empty()).then_some((*rows, columns))
}

impl Factors {
    /// The rank, from the factor whose first side it is.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.down.shape().first().copied().unwrap_or_default()
    }

    /// Rows and columns of the product; `None` if the factors do not fit each other.
    fn product(&self, layout: Layout) -> Option<(usize, usize)> {
        let rank = self.rank();
        let (first, second) = matrix(self.up.shape())?;
        let (_, columns) = matrix(self.down.shape())?;
        let is_flipped = layout == Layout::Hadamard && self.core.is_some();
        let (rows, up_rank) = if is_flipped {
            (second, first)
        } else {
            (first, second)
        };
        if !(1..=MAX_RANK).contains(&rank) || up_rank != rank {
            return None;
        }
        let Some(core) = &self.core else {
            return Some((rows, columns));
        };
        match core.shape() {
            [left, right, kernel @ ..] if *left == rank && *right == rank => {
                let kernel = kernel
                    .iter()
                    .try_fold(columns, |product, side| product.checked_mul(*side))?;
                Some((rows, kernel))
            }
            _ => None,
        }
    }

    /// `[out, in · kernel]`.
    fn multiply(&self, layout: Layout, device: &Device) -> Result<Tensor, EngineError> {
        let rank = self.rank();
        let flat = |entry: &Entry| -> Result<Tensor, EngineError> {
            let (rows, _) = matrix(entry.shape()).unwrap_or_default();
            Ok(entry.to_f32(device)?.reshape((rows, ()))?)
        };
        let (up, down) = (flat(&self.up)?, flat(&self.down)?);
        let Some(core) = &self.core else {
            return Ok(up.matmul(&down)?);
        };
        let up = match layout {
            Layout::Low => up,
            Layout::Hadamard => up.t()?.contiguous()?,
        };
        // [i, j, k] with the kernel flattened: first over j, then over i.
        let core = core.to_f32(device)?.reshape((rank, rank, ()))?;
        let kernel = core.dim(2)?;
        let core = core.permute((0, 2, 1))?.contiguous()?;
        let inner = core.reshape((rank * kernel, rank))?.matmul(&down)?;
        let inputs = inner.dim(1)?;
        let inner = inner
            .reshape((rank, kernel, inputs))?
            .permute((0, 2, 1))?
            .contiguous()?;
        Ok(up.matmul(&inner.reshape((rank, inputs * kernel))?)?)
    }
}
