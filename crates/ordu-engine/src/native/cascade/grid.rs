//! Pictures with channels last, `[batch, height, width, channels]`: what the networks of Stable Cascade
//! are built of. Nearly all of their layers look at one place alone, and are linear layers then.

use candle_core::{Result, Tensor};

use crate::EngineError;
use crate::native::ops::Linear;
use crate::native::weights::Scope;

/// What lies beyond the edges of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Zeros.
    Nothing,
    /// The nearest pixel.
    Nearest,
}

/// Side of the kernels.
const KERNEL: usize = 3;

/// A picture as each of the nine places of a kernel sees it, every `stride`-th pixel of it.
pub(super) fn neighbours(x: &Tensor, stride: usize, beyond: Beyond) -> Result<Vec<Tensor>> {
    let (_, height, width, _) = x.dims4()?;
    let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
    let (down, across) = (rows * stride - height, columns * stride - width);
    let padded = match beyond {
        Beyond::Nothing => x
            .pad_with_zeros(1, 1, 1 + down)?
            .pad_with_zeros(2, 1, 1 + across)?,
        Beyond::Nearest => x
            .pad_with_same(1, 1, 1 + down)?
            .pad_with_same(2, 1, 1 + across)?,
    };
    let mut seen = Vec::with_capacity(KERNEL * KERNEL);
    for row in 0..KERNEL {
        let band = every(&padded.narrow(1, row, rows * stride)?, 1, stride)?;
        for column in 0..KERNEL {
            seen.push(every(
                &band.narrow(2, column, columns * stride)?,
                2,
                stride,
            )?);
        }
    }
    Ok(seen)
}

/// Every `stride`-th slice of a dimension that it divides.
fn every(x: &Tensor, dimension: usize, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let mut shape = x.dims().to_vec();
    if let Some(side) = shape.get_mut(dimension) {
        *side /= stride;
    }
    shape.insert(dimension + 1, stride);
    let apart = x.contiguous()?.reshape(shape)?;
    apart.narrow(dimension + 1, 0, 1)?.squeeze(dimension + 1)
}

/// A 3×3 convolution of each channel by itself.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// `[9, channels]`.
    places: Tensor,
    bias: Tensor,
    stride: usize,
    beyond: Beyond,
}

impl Depthwise {
    /// Takes `weight` and `bias`.
    pub(super) fn new(
        scope: &Scope<'_>,
        channels: usize,
        beyond: Beyond,
    ) -> std::result::Result<Self, EngineError> {
        let weight = scope.take("weight", &[channels, 1, KERNEL, KERNEL])?;
        let bias = scope.take("bias", &[channels])?;
        Ok(Self::of(&weight, bias, (1, beyond))?)
    }

    /// Of `[channels, 1, 3, 3]` and `[channels]`.
    pub(super) fn of(
        weight: &Tensor,
        bias: Tensor,
        (stride, beyond): (usize, Beyond),
    ) -> Result<Self> {
        Ok(Self {
            places: weight.flatten_from(1)?.t()?.contiguous()?,
            bias,
            stride,
            beyond,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (place, seen) in neighbours(x, self.stride, self.beyond)?.iter().enumerate() {
            let product = seen.broadcast_mul(&self.places.get(place)?)?;
            sum = Some(match sum {
                Some(sum) => (sum + product)?,
                None => product.broadcast_add(&self.bias)?,
            });
        }
        sum.map_or_else(|| Ok(x.clone()), Ok)
    }
}

/// A 3×3 convolution over all channels, zeros beyond the edges.
#[derive(Clone, Debug)]
pub(super) struct Around {
    /// One for each place of the kernel; the first has the bias.
    places: Vec<Linear>,
    stride: usize,
}

impl Around {
    /// Of `[out, in, 3, 3]` and `[out]`.
    pub(super) fn of(weight: &Tensor, bias: &Tensor, stride: usize) -> Result<Self> {
        let place = |place: usize| {
            let (row, column) = (place / KERNEL, place % KERNEL);
            let part = weight.narrow(2, row, 1)?.narrow(3, column, 1)?;
            let part = part.squeeze(3)?.squeeze(2)?.contiguous()?;
            Ok(Linear::of(part, (place == 0).then(|| bias.clone())))
        };
        Ok(Self {
            places: (0..KERNEL * KERNEL).map(place).collect::<Result<_>>()?,
            stride,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let seen = neighbours(x, self.stride, Beyond::Nothing)?;
        let mut sum: Option<Tensor> = None;
        for (layer, seen) in self.places.iter().zip(&seen) {
            sum = Some(layer.forward_onto(&seen.contiguous()?, sum.as_ref())?);
        }
        sum.map_or_else(|| Ok(x.clone()), Ok)
    }
}

/// `[batch, channels, h, w]` to `[batch, h / side, w / side, channels * side * side]`.
pub(super) fn gathered(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / side, width / side);
    x.contiguous()?
        .reshape(vec![batch, channels, rows, side, columns, side])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((batch, rows, columns, channels * side * side))
}

/// The other way around.
pub(super) fn spread(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, rows, columns, all) = x.dims4()?;
    let channels = all / (side * side);
    x.contiguous()?
        .reshape(vec![batch, rows, columns, channels, side, side])?
        .permute(vec![0, 3, 1, 4, 2, 5])?
        .contiguous()?
        .reshape((batch, channels, rows * side, columns * side))
}

/// `[batch, channels, h, w]` to channels last.
pub(super) fn last(x: &Tensor) -> Result<Tensor> {
    gathered(x, 1)
}

/// Channels last to `[batch, channels, h, w]`.
pub(super) fn first(x: &Tensor) -> Result<Tensor> {
    spread(x, 1)
}

/// At another size: linearly between pixels, corner on corner.
pub(super) fn resized(x: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if (height, width) == (rows, columns) {
        return Ok(x.clone());
    }
    let down = between(height, rows, x)?;
    let across = between(width, columns, x)?;
    let x = x.contiguous()?.reshape((batch, height, width * channels))?;
    let x = down.broadcast_matmul(&x)?;
    let x = x.reshape((batch * rows, width, channels))?;
    let x = across.broadcast_matmul(&x)?;
    x.reshape((batch, rows, columns, channels))
}

/// `[to, from]`: how much of each pixel of a line lies in each of another one.
fn between(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut shares = vec![0_f32; from * to];
    let step = if to > 1 {
        (from - 1) as f64 / (to - 1) as f64
    } else {
        0.0
    };
    for (place, row) in shares.chunks_exact_mut(from.max(1)).enumerate() {
        let at = place as f64 * step;
        for (other, share) in row.iter_mut().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "0…1")]
            let near = (1.0 - (at - other as f64).abs()).max(0.0) as f32;
            *share = near;
        }
    }
    Tensor::from_vec(shares, (to, from), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn lines_grow_and_shrink_corner_on_corner() {
        let line = Tensor::from_vec(vec![0_f32, 1.0, 4.0], (1, 3, 1, 1), &Device::Cpu).unwrap();
        let at = |length| {
            let resized = resized(&line, (length, 1)).unwrap();
            resized.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(at(5), [0.0, 0.5, 1.0, 2.5, 4.0]);
        assert_eq!(at(2), [0.0, 4.0]);
        assert_eq!(at(1), [0.0]);
    }

    #[test]
    fn what_is_gathered_is_spread_as_it_was() {
        let x = Tensor::arange(0_f32, 96.0, &Device::Cpu).unwrap();
        let x = x.reshape((2, 3, 4, 4)).unwrap();
        let there = gathered(&x, 2).unwrap();
        assert_eq!(there.dims(), [2, 2, 2, 12]);
        let back = spread(&there, 2).unwrap();
        let numbers = |it: &Tensor| it.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&back), numbers(&x));
    }
}
