//! The kinds of networks that enlarge, as one.

use candle_core::Tensor;

use super::super::post::unwrapped;
use super::super::weights::{TensorFile, Weights};
use super::{Dat, RealPlksr, Rrdb, Span, dat, names, plksr, rrdb, span};
use crate::EngineError;
use crate::native::Compute;

/// Tensors of a network under the names that it takes them by.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Rrdb(Weights),
    RealPlksr(Weights),
    Span(Weights),
    Dat(Weights),
}

/// A network with its weights.
#[derive(Clone, Debug)]
pub(super) enum Network {
    Rrdb(Rrdb),
    RealPlksr(RealPlksr),
    Span(Span),
    Dat(Dat),
}

impl Known {
    /// What a file holds, told by its tensors, and by how much that enlarges; `None` if it is nothing of
    /// the kind.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn of(file: &TensorFile) -> Result<Option<(Self, usize)>, String> {
        let weights = unwrapped(file);
        if let Some(scale) = plksr::scale_of(&weights) {
            return Ok(Some((Self::RealPlksr(weights), scale)));
        }
        if let Some(scale) = span::scale_of(&weights) {
            return Ok(Some((Self::Span(weights), scale)));
        }
        if let Some(scale) = dat::scale_of(&weights) {
            return Ok(Some((Self::Dat(weights), scale)));
        }
        let Some(weights) = names::canonical(file) else {
            return Ok(None);
        };
        let scale = rrdb::scale_of(&weights)?;
        Ok(Some((Self::Rrdb(weights), scale)))
    }

    /// How large the file is.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Rrdb(weights)
            | Self::RealPlksr(weights)
            | Self::Span(weights)
            | Self::Dat(weights) => weights.bytes(),
        }
    }

    /// Loads it.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub(super) fn load(&self, name: &str, compute: &Compute) -> Result<Network, EngineError> {
        Ok(match self {
            Self::Rrdb(weights) => Network::Rrdb(Rrdb::new(name, weights, compute)?),
            Self::RealPlksr(weights) => Network::RealPlksr(RealPlksr::new(name, weights, compute)?),
            Self::Span(weights) => Network::Span(Span::new(name, weights, compute)?),
            Self::Dat(weights) => Network::Dat(Dat::new(name, weights, compute)?),
        })
    }
}

impl Network {
    /// The factor of the sides.
    pub(super) fn scale(&self) -> usize {
        match self {
            Self::Rrdb(network) => network.scale(),
            Self::RealPlksr(network) => network.scale(),
            Self::Span(network) => network.scale(),
            Self::Dat(network) => network.scale(),
        }
    }

    /// `[1, 3, h, w]` in 0…1 to `[1, 3, h * scale, w * scale]`, which may go a little beyond. `go_on`
    /// is asked after each block.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        go_on: &dyn Fn() -> Result<(), EngineError>,
    ) -> Result<Tensor, EngineError> {
        match self {
            Self::Rrdb(network) => network.forward(x, go_on),
            Self::RealPlksr(network) => network.forward(x, go_on),
            Self::Span(network) => network.forward(x, go_on),
            Self::Dat(network) => network.forward(x, go_on),
        }
    }
}
