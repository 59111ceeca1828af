//! What steers a diffusion network beside the time step.

use candle_core::{Result, Tensor};

use super::config::SIZES;

/// A prompt as the networks see it.
#[derive(Clone, Debug)]
pub struct Condition {
    /// `[batch, tokens, width]`.
    pub text: Tensor,
    /// For networks that are told of it.
    pub summary: Option<Summary>,
}

/// A prompt in one row, and the sizes of the picture.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `[batch, width]`.
    pub text: Tensor,
    /// Height and width that the picture was scaled from, its crop at the top and at the left, height
    /// and width that are wanted; in pixels.
    pub sizes: [u32; SIZES],
}

impl Condition {
    /// A text alone.
    #[must_use]
    pub fn of_text(text: Tensor) -> Self {
        Self {
            text,
            summary: None,
        }
    }

    /// For a picture of this size, uncropped.
    #[must_use]
    pub fn for_size(mut self, width: u32, height: u32) -> Self {
        if let Some(summary) = &mut self.summary {
            summary.sizes = [height, width, 0, 0, height, width];
        }
        self
    }

    /// One for each picture of a batch.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn repeat(&self, batch: usize) -> Result<Self> {
        let summary = self.summary.as_ref().map(|summary| {
            Ok::<_, candle_core::Error>(Summary {
                text: summary.text.repeat((batch, 1))?,
                sizes: summary.sizes,
            })
        });
        Ok(Self {
            text: self.text.repeat((batch, 1, 1))?,
            summary: summary.transpose()?,
        })
    }

    /// Both, one batch behind the other. They are equally long and for the same sizes.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn join(&self, other: &Self) -> Result<Self> {
        let summary = self
            .summary
            .as_ref()
            .zip(other.summary.as_ref())
            .map(|(one, two)| {
                Ok::<_, candle_core::Error>(Summary {
                    text: Tensor::cat(&[&one.text, &two.text], 0)?,
                    sizes: one.sizes,
                })
            });
        Ok(Self {
            text: Tensor::cat(&[&self.text, &other.text], 0)?,
            summary: summary.transpose()?,
        })
    }
}
