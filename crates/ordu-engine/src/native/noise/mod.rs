//! Gaussian noise from a seed: the same numbers on every run, machine and device.

mod philox;
mod torch;

use candle_core::{Device, Tensor};

pub(crate) use philox::uniform;
pub(crate) use torch::Twister;

use crate::{EngineError, NoiseSource};

/// Draws noise tensors one after the other.
#[derive(Debug)]
pub struct NoiseStream {
    generator: Generator,
    shape: [usize; 4],
}

#[derive(Debug)]
enum Generator {
    Philox {
        seed: u64,
        draw: u32,
    },
    Torch {
        seed: u64,
        start: bool,
        rest: Box<Twister>,
    },
}

impl NoiseStream {
    /// A stream of tensors of this shape, `[batch, c, h, w]`.
    ///
    /// Philox counts pictures and draws, so that picture `k` of a batch gets the same noise
    /// whatever the batch size. PyTorch draws the whole batch in one go; what follows the first
    /// draw comes from a second generator seeded with the next number, which keeps fresh noise from
    /// repeating the initial one.
    pub fn new(source: NoiseSource, seed: u64, shape: [usize; 4]) -> Self {
        let generator = match source {
            NoiseSource::Philox => Generator::Philox { seed, draw: 0 },
            NoiseSource::TorchCpu => {
                let rest = Box::new(Twister::new(seed.wrapping_add(1)));
                Generator::Torch {
                    seed,
                    start: true,
                    rest,
                }
            }
        };
        Self { generator, shape }
    }

    /// The next tensor.
    ///
    /// # Errors
    ///
    /// If the device refuses the copy.
    pub fn draw(&mut self, device: &Device) -> Result<Tensor, EngineError> {
        let [batch, rest @ ..] = self.shape;
        let each: usize = rest.iter().product();
        let numbers = match &mut self.generator {
            Generator::Philox { seed, draw } => {
                let pictures = (0..).take(batch);
                let numbers = pictures
                    .flat_map(|picture| philox::normal(*seed, [picture, *draw], each))
                    .collect();
                *draw += 1;
                numbers
            }
            Generator::Torch { seed, start, rest } => {
                if std::mem::take(start) {
                    Twister::new(*seed).normal(batch * each)
                } else {
                    rest.normal(batch * each)
                }
            }
        };
        Ok(Tensor::from_vec(numbers, &self.shape, device)?)
    }
}
