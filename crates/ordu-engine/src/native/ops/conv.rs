//! Two-dimensional convolution.

use candle_core::{Result, Tensor};

use crate::EngineError;
use crate::native::cpu;
#[cfg(feature = "cuda")]
use crate::native::gpu;
use crate::native::weights::Scope;

/// What lies beyond the edges of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// Zeros.
    #[default]
    Zero,
    /// The opposite edge: the picture tiles.
    Wrap,
}

/// How a kernel walks over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Side of the kernel.
    pub kernel: usize,
    /// Pixels from one place to the next.
    pub stride: usize,
    /// Pixels added at the left and top edge.
    pub before: usize,
    /// Pixels added at the right and bottom edge.
    pub after: usize,
}

impl Geometry {
    /// 3×3, same size.
    pub const SAME: Self = Self {
        kernel: 3,
        stride: 1,
        before: 1,
        after: 1,
    };
    /// 1×1.
    pub const POINT: Self = Self {
        kernel: 1,
        stride: 1,
        before: 0,
        after: 0,
    };
    /// 3×3, half the size.
    pub const HALVE: Self = Self {
        kernel: 3,
        stride: 2,
        before: 1,
        after: 1,
    };
    /// 3×3, half the size, padded on one side only: what autoencoders use.
    pub const HALVE_ONE_SIDED: Self = Self {
        kernel: 3,
        stride: 2,
        before: 0,
        after: 1,
    };

    /// The side of the result for a side of the picture.
    pub(in crate::native) fn output(self, side: usize) -> usize {
        (side + self.before + self.after).saturating_sub(self.kernel) / self.stride + 1
    }
}

/// What is added to the result of a convolution on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// A number for each channel, of all pictures, `[1, out]`, or of each, `[batch, out]`.
    pub shift: Option<&'a Tensor>,
    /// A picture shaped like the result.
    pub onto: Option<&'a Tensor>,
}

/// A convolution; weights `[out, in, kernel, kernel]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[out, kernel * kernel * in]`: of each tap the numbers of all channels.
    weight: Tensor,
    /// `[out]`.
    bias: Tensor,
    geometry: Geometry,
}

impl Conv2d {
    /// Takes `weight` and `bias`.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::take`].
    pub fn new(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        geometry: Geometry,
    ) -> std::result::Result<Self, EngineError> {
        let kernel = geometry.kernel;
        let weight = scope.take("weight", &[outputs, inputs, kernel, kernel])?;
        let bias = scope.take("bias", &[outputs])?;
        Ok(Self::of(&weight, &bias, geometry)?)
    }

    /// Of a kernel, `[out, in, kernel, kernel]`, and what is added, `[out]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn of(kernel: &Tensor, bias: &Tensor, geometry: Geometry) -> Result<Self> {
        let (outputs, inputs, height, width) = kernel.dims4()?;
        let weight = kernel.permute((0, 2, 3, 1))?.contiguous()?;
        Ok(Self {
            weight: weight.reshape((outputs, inputs * height * width))?,
            bias: bias.contiguous()?,
            geometry,
        })
    }

    /// `[batch, in, h, w]` to `[batch, out, h', w']`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, x: &Tensor, edges: Edges) -> Result<Tensor> {
        self.forward_beside(x, edges, Beside::default())
    }

    /// The same, with something added on the way.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward_beside(&self, x: &Tensor, edges: Edges, beside: Beside<'_>) -> Result<Tensor> {
        let shift = match beside.shift {
            Some(shift) => shift.broadcast_add(&self.bias)?,
            None => self.bias.unsqueeze(0)?,
        };
        if x.device().is_cpu() {
            let how = (self.geometry, edges);
            return cpu::convolution(x, &self.weight, how, (&shift, beside.onto));
        }
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            if shift.dim(0)? == 1 {
                return self.on_card(x, edges, (&shift.squeeze(0)?, beside.onto));
            }
            let y = self.on_card(x, edges, (&self.bias, beside.onto))?;
            let Some(shift) = beside.shift else {
                return Ok(y);
            };
            return y.broadcast_add(&shift.unsqueeze(2)?.unsqueeze(3)?);
        }
        let y = self.composed(x, edges)?;
        let y = y.broadcast_add(&shift.unsqueeze(2)?.unsqueeze(3)?)?;
        match beside.onto {
            Some(onto) => onto + y,
            None => Ok(y),
        }
    }

    /// On an NVIDIA card: by the vendor's library where it can, else gathered and multiplied.
    #[cfg(feature = "cuda")]
    fn on_card(
        &self,
        x: &Tensor,
        edges: Edges,
        (bias, onto): (&Tensor, Option<&Tensor>),
    ) -> Result<Tensor> {
        let x = gpu::last(x)?;
        let onto = onto.map(gpu::last).transpose()?;
        let (batch, height, width, _) = x.dims4()?;
        let (outputs, seen) = self.weight.dims2()?;
        let (rows, columns) = (self.geometry.output(height), self.geometry.output(width));
        if self.geometry == Geometry::POINT {
            return gpu::first(&gpu::linear(&x, &self.weight, Some(bias), onto.as_ref())?);
        }
        #[cfg(feature = "cudnn")]
        if edges == Edges::Zero {
            let weights = (&self.weight, bias);
            if let Some(y) = gpu::convolution(&x, weights, self.geometry, onto.as_ref())? {
                return gpu::first(&y);
            }
        }
        let band = (MAX_GATHERED_ON_CARD / (seen * batch * columns).max(1)).max(1);
        let mut bands = Vec::new();
        for first in (0..rows).step_by(band) {
            let rows = band.min(rows - first);
            let gathered = gpu::gather(&x, self.geometry, edges, (first, rows))?;
            let onto = onto
                .as_ref()
                .map(|onto| onto.narrow(1, first, rows)?.contiguous())
                .transpose()?;
            bands.push(gpu::linear(
                &gathered,
                &self.weight,
                Some(bias),
                onto.as_ref(),
            )?);
        }
        let y = if bands.len() == 1 {
            bands.remove(0)
        } else {
            Tensor::cat(&bands, 1)?
        };
        gpu::first(&y.reshape((batch, rows, columns, outputs))?)
    }

    /// Of the library's operations.
    fn composed(&self, x: &Tensor, edges: Edges) -> Result<Tensor> {
        let Geometry {
            kernel,
            stride,
            before,
            after,
        } = self.geometry;
        let padded = match edges {
            Edges::Zero => x
                .pad_with_zeros(2, before, after)?
                .pad_with_zeros(3, before, after)?,
            Edges::Wrap => wrapped(&wrapped(x, 2, (before, after))?, 3, (before, after))?,
        };
        let (outputs, seen) = self.weight.dims2()?;
        let weight = self
            .weight
            .reshape((outputs, kernel, kernel, seen / (kernel * kernel)))?
            .permute((0, 3, 1, 2))?
            .contiguous()?;
        padded.contiguous()?.conv2d(&weight, 0, stride, 1, 1)
    }
}

/// A picture with what lies at one end of a dimension repeated at the other. A side shorter than
/// what is to be added goes round more than once.
fn wrapped(x: &Tensor, dimension: usize, (before, after): (usize, usize)) -> Result<Tensor> {
    let side = x.dim(dimension)?;
    let lines = (0..before + side + after).map(|line| {
        let line = (line + side * before - before) % side;
        u32::try_from(line).map_err(candle_core::Error::wrap)
    });
    let lines: Vec<u32> = lines.collect::<Result<_>>()?;
    let count = lines.len();
    x.index_select(&Tensor::from_vec(lines, count, x.device())?, dimension)
}

/// As [`MAX_GATHERED`], on a card: fewer and larger products.
#[cfg(feature = "cuda")]
const MAX_GATHERED_ON_CARD: usize = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::NoiseSource;
    use crate::native::noise::NoiseStream;

    fn noise(shape: [usize; 4]) -> Tensor {
        NoiseStream::new(NoiseSource::Philox, 5, shape)
            .draw(&Device::Cpu)
            .unwrap()
    }

    fn conv(geometry: Geometry) -> Conv2d {
        let weight = noise([4, 3, geometry.kernel, geometry.kernel]);
        let bias = noise([1, 4, 1, 1]).flatten_all().unwrap();
        Conv2d::of(&weight, &bias, geometry).unwrap()
    }

    fn worst(left: &Tensor, right: &Tensor) -> f32 {
        let difference = (left - right).unwrap().abs().unwrap();
        difference.max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn every_geometry_gives_what_the_library_gives() {
        let x = noise([2, 3, 7, 10]);
        for geometry in [
            Geometry::SAME,
            Geometry::POINT,
            Geometry::HALVE,
            Geometry::HALVE_ONE_SIDED,
        ] {
            let conv = conv(geometry);
            let Geometry {
                kernel,
                stride,
                before,
                after,
            } = geometry;
            let padded = x
                .pad_with_zeros(2, before, after)
                .unwrap()
                .pad_with_zeros(3, before, after)
                .unwrap();
            let weight = noise([4, 3, kernel, kernel]);
            let reference = padded
                .conv2d(&weight, 0, stride, 1, 1)
                .unwrap()
                .broadcast_add(&conv.bias.reshape((1, 4, 1, 1)).unwrap())
                .unwrap();
            let ours = conv.forward(&x, Edges::Zero).unwrap();
            assert!(worst(&ours, &reference) < 1e-5, "{geometry:?}");
        }
    }

    #[test]
    fn bands_and_threads_do_not_show() {
        // 27 numbers at each of 840,000 places: two bands, and above the limit for one thread.
        let x = noise([1, 3, 600, 1400]);
        let conv = conv(Geometry::SAME);
        let whole = conv.forward(&x, Edges::Zero).unwrap();
        let part = conv
            .forward(&x.narrow(2, 400, 200).unwrap(), Edges::Zero)
            .unwrap();
        let (whole, part) = (
            whole.narrow(2, 401, 198).unwrap(),
            part.narrow(2, 1, 198).unwrap(),
        );
        assert!(worst(&whole, &part) < 1e-5);
    }

    #[test]
    fn the_composed_way_gives_what_ours_gives() {
        let x = noise([2, 3, 7, 10]);
        let (shift, onto) = (
            noise([1, 1, 1, 4]).flatten_to(2).unwrap(),
            noise([2, 4, 7, 10]),
        );
        for edges in [Edges::Zero, Edges::Wrap] {
            for geometry in [Geometry::SAME, Geometry::POINT, Geometry::HALVE_ONE_SIDED] {
                let conv = conv(geometry);
                let plain = conv.forward(&x, edges).unwrap();
                let bias = conv.bias.reshape((1, 4, 1, 1)).unwrap();
                let composed = conv.composed(&x, edges).unwrap();
                let composed = composed.broadcast_add(&bias).unwrap();
                assert!(worst(&plain, &composed) < 1e-5, "{geometry:?} {edges:?}");
                if geometry.stride == 1 {
                    let beside = Beside {
                        shift: Some(&shift),
                        onto: Some(&onto),
                    };
                    let added = conv.forward_beside(&x, edges, beside).unwrap();
                    let shift = shift.reshape((1, 4, 1, 1)).unwrap();
                    let wanted = (plain.broadcast_add(&shift).unwrap() + &onto).unwrap();
                    assert!(worst(&added, &wanted) < 1e-5, "{geometry:?} {edges:?}");
                }
            }
        }
    }

    #[test]
    fn wrapping_sees_the_opposite_edge() {
        let x = noise([1, 3, 5, 6]);
        let conv = conv(Geometry::SAME);
        let forward = |x: &Tensor| conv.forward(x, Edges::Wrap).unwrap();
        let shifted = forward(&x.roll(2, 2).unwrap().roll(3, 3).unwrap());
        assert!(
            worst(
                &shifted,
                &forward(&x).roll(2, 2).unwrap().roll(3, 3).unwrap()
            ) < 1e-6
        );
    }
}
