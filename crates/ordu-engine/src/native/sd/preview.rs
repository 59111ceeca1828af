//! Rough colours of latents without decoding them.
//!
//! Latents keep most of the colour of a place in a linear way. The map is found by encoding simple
//! pictures in random colours and solving for the best fit, so that it exists for every autoencoder
//! and needs no table.

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::vae::Vae;
use crate::EngineError;
use crate::NoiseSource;
use crate::native::noise::NoiseStream;
use crate::native::ops::Edges;

/// A linear map from latent channels to colours.
#[derive(Clone, Debug)]
pub struct Preview {
    /// `[channels + 1, 3]`; the last row is the constant.
    map: Tensor,
}

/// Pictures that are encoded: a patch of one colour on a ground of another.
const PICTURES: usize = 24;
/// Their side in latent pixels.
const SIDE: usize = 8;
/// Keeps the system solvable where two channels say the same.
const RIDGE: f64 = 1e-3;

impl Preview {
    /// Finds the map of an autoencoder.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn fit(vae: &Vae, factor: u32) -> Result<Self, EngineError> {
        let device = Device::Cpu;
        let side = SIDE * factor as usize;
        let noise =
            NoiseStream::new(NoiseSource::Philox, 0, [2 * PICTURES, 3, 1, 1]).draw(&device)?;
        let colours = noise.affine(1.5, 0.0)?.tanh()?;
        let plain = |first: usize, side: usize| {
            colours
                .narrow(0, first, PICTURES)?
                .broadcast_as((PICTURES, 3, side, side))
        };
        let patch = plain(PICTURES, SIDE / 2)?
            .pad_with_zeros(2, SIDE / 4, SIDE / 4)?
            .pad_with_zeros(3, SIDE / 4, SIDE / 4)?;
        let covered = patch
            .ones_like()?
            .narrow(2, 0, SIDE / 2)?
            .narrow(3, 0, SIDE / 2)?;
        let covered = covered
            .pad_with_zeros(2, SIDE / 4, SIDE / 4)?
            .pad_with_zeros(3, SIDE / 4, SIDE / 4)?;
        let colours = (patch + (plain(0, SIDE)? * (1.0 - covered)?)?)?;
        let latents = vae.encode(&colours.upsample_nearest2d(side, side)?, Edges::Zero)?;
        let seen = rows(&with_constant(&latents.to_device(&device)?)?)?;
        let wanted = rows(&colours)?;
        Ok(Self {
            map: least_squares(&seen, &wanted)?,
        })
    }

    /// The first picture of latents `[batch, c, h, w]`, one pixel per latent pixel.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn draw(&self, latents: &Tensor) -> Result<RgbImage, EngineError> {
        let latents = latents.to_device(&Device::Cpu)?;
        let (_, _, height, width) = latents.dims4()?;
        let seen = rows(&with_constant(&latents.narrow(0, 0, 1)?)?)?;
        let colours = seen
            .matmul(&self.map)?
            .t()?
            .reshape((1, 3, height, width))?;
        crate::native::pixels::to_image(&colours)
    }
}

/// Adds a channel of ones.
fn with_constant(latents: &Tensor) -> candle_core::Result<Tensor> {
    let ones = latents.narrow(1, 0, 1)?.ones_like()?;
    Tensor::cat(&[latents, &ones], 1)
}

/// `[b, c, h, w]` to `[b h w, c]`.
fn rows(pictures: &Tensor) -> candle_core::Result<Tensor> {
    pictures.transpose(0, 1)?.flatten_from(1)?.t()?.contiguous()
}

/// `x` with `a x` nearest to `b`, by the normal equations and Gaussian elimination.
fn least_squares(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let size = a.dim(1)?;
    let square = a.t()?.matmul(a)?;
    let right = a.t()?.matmul(b)?;
    let joined = Tensor::cat(&[&square, &right], 1)?.to_dtype(candle_core::DType::F64)?;
    let mut lines: Vec<Vec<f64>> = joined.to_vec2()?;
    for pivot in 0..size {
        if let Some(value) = lines.get_mut(pivot).and_then(|line| line.get_mut(pivot)) {
            *value += RIDGE;
        }
        let Some(leading) = lines.get(pivot).cloned() else {
            continue;
        };
        let at = |line: &[f64]| line.get(pivot).copied().unwrap_or_default();
        for (index, line) in lines.iter_mut().enumerate() {
            let share = if index == pivot {
                0.0
            } else {
                at(line) / at(&leading)
            };
            for (value, other) in line.iter_mut().zip(&leading) {
                *value -= share * other;
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "colours need no more")]
    let solved: Vec<f32> = lines
        .iter()
        .enumerate()
        .flat_map(|(index, line)| {
            let leading = line.get(index).copied().unwrap_or(1.0);
            line.iter()
                .skip(size)
                .map(move |value| (value / leading) as f32)
                .collect::<Vec<_>>()
        })
        .collect();
    Tensor::from_vec(solved, (size, b.dim(1)?), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_finds_what_was_put_in() {
        let device = Device::Cpu;
        let noise = |seed: u64, rows: usize, columns: usize| {
            let drawn =
                NoiseStream::new(NoiseSource::Philox, seed, [1, 1, rows, columns]).draw(&device);
            drawn.unwrap().reshape((rows, columns)).unwrap()
        };
        let (a, x) = (noise(1, 400, 9), noise(2, 9, 3));
        let found = least_squares(&a, &a.matmul(&x).unwrap()).unwrap();
        let worst = (found - x)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(worst < 1e-3, "{worst}");
    }
}
