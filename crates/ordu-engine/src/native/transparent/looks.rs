//! The eight ways to lay a picture down, and the middle of what is said of them.

use candle_core::Tensor;

/// A picture whose sides are multiples of a step: its last line and column are repeated.
pub(super) fn filled(x: &Tensor, step: usize) -> candle_core::Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let more = |side: usize| side.next_multiple_of(step) - side;
    x.pad_with_same(2, 0, more(height))?
        .pad_with_same(3, 0, more(width))
}

/// The fourth of eight numbers, for each place. Bytes keep the order of what they were rounded from.
pub(super) fn median(looks: &[Vec<u8>]) -> Vec<u8> {
    let count = looks.first().map_or(0, Vec::len);
    let mut sorted = Vec::with_capacity(looks.len());
    let mut lower = |place: usize| {
        sorted.clear();
        sorted.extend(looks.iter().filter_map(|look| look.get(place).copied()));
        sorted.sort_unstable();
        let middle = sorted.len().saturating_sub(1) / 2;
        sorted.get(middle).copied().unwrap_or_default()
    };
    (0..count).map(&mut lower).collect()
}

/// A way to lay a picture down: columns for lines or not, then turned over sideways, upside down, both or
/// neither. These are the four quarter turns, and those of the mirror image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    is_transposed: bool,
    flips: &'static [usize],
}

impl Look {
    const FLIPS: [&'static [usize]; 4] = [&[], &[2], &[3], &[2, 3]];

    /// All eight.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|is_transposed| {
            Self::FLIPS.into_iter().map(move |flips| Self {
                is_transposed,
                flips,
            })
        })
    }

    pub(super) fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = if self.is_transposed {
            x.transpose(2, 3)?.contiguous()?
        } else {
            x.clone()
        };
        self.flipped(&x)
    }

    pub(super) fn back(self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.flipped(x)?;
        if self.is_transposed {
            x.transpose(2, 3)?.contiguous()
        } else {
            Ok(x)
        }
    }

    fn flipped(self, x: &Tensor) -> candle_core::Result<Tensor> {
        if self.flips.is_empty() {
            return Ok(x.clone());
        }
        x.contiguous()?.flip(self.flips)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn looks_are_eight_and_are_undone() {
        let x = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap();
        let x = x.reshape((1, 1, 2, 3)).unwrap();
        let flat = |x: &Tensor| -> Vec<f32> { x.flatten_all().unwrap().to_vec1().unwrap() };
        let mut seen = std::collections::BTreeSet::new();
        for look in Look::all() {
            let seen_so = look.of(&x).unwrap();
            seen.insert(format!("{:?} {:?}", seen_so.dims(), flat(&seen_so)));
            assert_eq!(flat(&look.back(&seen_so).unwrap()), flat(&x));
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn of_eight_the_fourth_counts() {
        let looks: Vec<Vec<u8>> = [9, 3, 7, 1, 8, 2, 6, 5].map(|n| vec![n, 10 - n]).to_vec();
        assert_eq!(median(&looks), [5, 4]);
        assert!(median(&[]).is_empty());
    }

    #[test]
    fn sides_are_filled_up_with_what_is_last() {
        let x = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap();
        let x = filled(&x.reshape((1, 1, 2, 3)).unwrap(), 4).unwrap();
        assert_eq!(x.dims(), [1, 1, 4, 4]);
        let last: Vec<f32> = x
            .narrow(2, 3, 1)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        assert_eq!(last, [3.0, 4.0, 5.0, 5.0]);
    }
}
