//! What networks do with whole pictures between layers.
//!
//! Everybody sees `[batch, channels, height, width]`. How that lies in memory is the device's
//! business: on the processor in that order, on an NVIDIA card with channels last (see `gpu`).
//! Operations of the tensor library would give that up; these keep it.

use candle_core::{Result, Tensor};

use crate::native::cpu;
#[cfg(feature = "cuda")]
use crate::native::gpu;

/// The sum of two pictures of one size.
///
/// # Errors
///
/// Those of the tensor library, as in all of this module.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return gpu::first(&gpu::add(&gpu::last(x)?, &gpu::last(y)?)?);
    }
    x + y
}

/// Two pictures of one size, one behind the other by channel.
///
/// # Errors
///
/// Those of the tensor library.
pub fn join(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return gpu::first(&Tensor::cat(&[&gpu::last(x)?, &gpu::last(y)?], 3)?);
    }
    Tensor::cat(&[x, y], 1)
}

/// A picture at another size, each pixel the nearest one.
///
/// # Errors
///
/// Those of the tensor library.
pub fn enlarge(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    if x.device().is_cpu() {
        return cpu::enlarge(x, height, width);
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return gpu::first(&gpu::enlarge(&gpu::last(x)?, height, width)?);
    }
    x.upsample_nearest2d(height, width)
}

/// `[batch, channels, height, width]` as tokens, `[batch, height * width, channels]`.
///
/// # Errors
///
/// Those of the tensor library.
pub fn to_tokens(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    if x.device().is_cpu() {
        return cpu::swapped(&x.reshape((batch, channels, height * width))?);
    }
    let last = x.permute((0, 2, 3, 1))?.contiguous()?;
    last.reshape((batch, height * width, channels))
}

/// Tokens as a picture of this size.
///
/// # Errors
///
/// Those of the tensor library.
pub fn to_picture(tokens: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, _, channels) = tokens.dims3()?;
    if tokens.device().is_cpu() {
        return cpu::swapped(tokens)?.reshape((batch, channels, height, width));
    }
    let last = tokens.reshape((batch, height, width, channels))?;
    let picture = last.permute((0, 3, 1, 2))?;
    if picture.device().is_cuda() {
        Ok(picture)
    } else {
        picture.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn tokens_are_pixels_line_by_line() {
        let picture = Tensor::arange(0_f32, 12.0, &Device::Cpu).unwrap();
        let picture = picture.reshape((1, 2, 2, 3)).unwrap();
        let tokens = to_tokens(&picture).unwrap();
        assert_eq!(
            tokens.to_vec3::<f32>().unwrap()[0][..2],
            [vec![0.0, 6.0], vec![1.0, 7.0]]
        );
        let back = to_picture(&tokens, 2, 3).unwrap();
        assert_eq!(
            back.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            picture.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }
}
