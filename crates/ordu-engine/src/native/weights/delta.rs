//! A change to one tensor, kept as the small factors that it is the product of, or whole.
//!
//! With `s` the strength times alpha over rank:
//!
//! | kind | change |
//! |---|---|
//! | low rank (Hu et al. 2021, "LoRA") | `s · up · down`; of a convolution, `down` has its kernel |
//! | the same with a core (LoCon, a Tucker decomposition) | `s · up · core · down`, the core has the kernel |
//! | Hadamard product (Hyeon-Woo et al. 2021, "FedPara"; LoHa) | `s · (a₁ · b₁) ∘ (a₂ · b₂)`, each with or without a core |
//! | whole | `s · d`; of a convolution, for more inputs or fewer than it has |

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
    change: Change,
    scale: f64,
}

#[derive(Clone, Debug)]
enum Change {
    Low(Factors),
    Hadamard(Factors, Factors),
    Whole(Entry),
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
            change: Change::Low(factors),
            scale,
        }
    }

    /// The elementwise product of two of them, times `scale`.
    #[must_use]
    pub fn hadamard(first: Factors, second: Factors, scale: f64) -> Self {
        Self {
            change: Change::Hadamard(first, second),
            scale,
        }
    }

    /// A difference to a tensor, as it is, times `scale`.
    #[must_use]
    pub fn whole(difference: Entry, scale: f64) -> Self {
        Self {
            change: Change::Whole(difference),
            scale,
        }
    }

    /// The same, so many times as strong.
    #[must_use]
    pub fn scaled(mut self, strength: f64) -> Self {
        self.scale *= strength;
        self
    }

    /// Rows and columns of its product; `None` if its factors do not fit each other. Asked before anything
    /// is multiplied: factors are a stranger's, and two short ones make a huge product.
    #[must_use]
    pub fn product(&self) -> Option<(usize, usize)> {
        match &self.change {
            Change::Low(factors) => factors.product(Layout::Low),
            Change::Hadamard(first, second) => {
                let product = first.product(Layout::Hadamard)?;
                let is_same = second.product(Layout::Hadamard) == Some(product);
                is_same.then_some(product)
            }
            Change::Whole(difference) => matrix(difference.shape()),
        }
    }

    /// Sides of what it adds: of its product, or of a whole difference; `None` if its factors do not fit
    /// each other.
    #[must_use]
    pub fn shape(&self) -> Option<Vec<usize>> {
        match &self.change {
            Change::Whole(difference) => Some(difference.shape().to_vec()),
            _ => self.product().map(|(rows, columns)| vec![rows, columns]),
        }
    }

    /// Whether it can be added to a tensor of this shape.
    #[must_use]
    pub fn fits(&self, shape: &[usize]) -> bool {
        match &self.change {
            Change::Whole(difference) => is_near(difference.shape(), shape),
            _ => self.product().is_some() && self.product() == matrix(shape),
        }
    }

    /// Adds it to a tensor in f32 that it fits.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for numbers that are not supported, those of the tensor library.
    pub fn add_to(&self, tensor: &Tensor) -> Result<Tensor, EngineError> {
        let device = tensor.device();
        let change = match &self.change {
            Change::Low(factors) => factors.multiply(Layout::Low, device)?,
            Change::Hadamard(first, second) => {
                let first = first.multiply(Layout::Hadamard, device)?;
                (first * second.multiply(Layout::Hadamard, device)?)?
            }
            Change::Whole(difference) => with_inputs(&difference.to_f32(device)?, tensor.dims())?,
        };
        let change = (change * self.scale)?.reshape(tensor.shape())?;
        Ok((tensor + change)?)
    }
}

/// Whether two shapes are the same, but for the inputs of a convolution.
fn is_near(left: &[usize], right: &[usize]) -> bool {
    match (left, right) {
        ([a, _, c @ ..], [b, _, d @ ..]) if c.len() == 2 => a == b && c == d,
        _ => left == right,
    }
}

/// A difference to a convolution for as many inputs as that has. Inputs that the convolution has not are
/// given nothing but zeros, so what the difference says of them counts for nothing.
fn with_inputs(difference: &Tensor, shape: &[usize]) -> candle_core::Result<Tensor> {
    let ([_, given, _, _], [_, wanted, _, _]) = (difference.dims(), shape) else {
        return Ok(difference.clone());
    };
    if given < wanted {
        return difference.pad_with_zeros(1, 0, wanted - given);
    }
    difference.narrow(1, 0, *wanted)?.contiguous()
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
