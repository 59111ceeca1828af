//! What PyTorch's CPU generator yields, bit for bit, measured against PyTorch 2.15 (65,536 numbers
//! of several seeds).
//!
//! Words come from the Mersenne Twister (Matsumoto and Nishimura 1998). Sixteen or more numbers are
//! made from 24-bit uniform ones by Box and Muller's method, sixteen at a time, with the
//! single-precision logarithm, sine and cosine of the Cephes library (Moshier). Where a product and
//! a sum are fused was found by trial: `mul_add` is part of the result.

/// Mersenne Twister MT19937.
#[derive(Clone)]
pub(crate) struct Twister {
    state: [u32; LENGTH],
    next: usize,
}

const LENGTH: usize = 624;
const MIDDLE: usize = 397;

impl std::fmt::Debug for Twister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twister")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Twister {
    /// A generator; only the low 32 bits of the seed count, as in PyTorch.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low 32 bits of a seed count"
    )]
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = [0_u32; LENGTH];
        let mut last = seed as u32;
        for (index, word) in (0_u32..).zip(state.iter_mut()) {
            if index > 0 {
                last = 1_812_433_253_u32
                    .wrapping_mul(last ^ (last >> 30))
                    .wrapping_add(index);
            }
            *word = last;
        }
        Self {
            state,
            next: LENGTH,
        }
    }

    fn refill(&mut self) {
        for index in 0..LENGTH {
            let mixed = (self.state[index] & 0x8000_0000)
                | (self.state[(index + 1) % LENGTH] & 0x7fff_ffff);
            let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + MIDDLE) % LENGTH] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }

    fn word(&mut self) -> u32 {
        if self.next == LENGTH {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// 24 random bits as a number in 0…1, 1 excluded.
    fn uniform(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 53 random bits as a number in 0…1, 1 excluded.
    fn uniform_double(&mut self) -> f64 {
        let (high, low) = (u64::from(self.word()), u64::from(self.word()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / 9_007_199_254_740_992.0
    }

    /// `count` normal numbers, as `torch.randn(count)`.
    pub(super) fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < 16 {
            return self.few(count);
        }
        let mut numbers: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let (blocks, rest) = numbers.as_chunks_mut::<16>();
        for block in blocks {
            transform(block);
        }
        if !rest.is_empty() {
            // The last sixteen are drawn anew, overwriting some that were finished.
            if let Some(block) = numbers.last_chunk_mut::<16>() {
                *block = std::array::from_fn(|_| self.uniform());
                transform(block);
            }
        }
        numbers
    }

    /// The numbers below `count` in random order, as
    /// `numpy.random.RandomState(seed).permutation(count)`.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let most = u32::try_from(last).unwrap_or(u32::MAX);
            // Words are masked to the next power of two and drawn again while too large.
            let mask = u32::MAX >> most.leading_zeros();
            let other = loop {
                let word = self.word() & mask;
                if word <= most {
                    break word as usize;
                }
            };
            order.swap(last, other);
        }
        order
    }

    /// Fewer than sixteen are made in double precision, in pairs.
    #[expect(clippy::cast_possible_truncation, reason = "results are f32")]
    fn few(&mut self, count: usize) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(count + 1);
        while numbers.len() < count {
            let (first, second) = (self.uniform_double(), self.uniform_double());
            let radius = (-2.0 * (-second).ln_1p()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * first).sin_cos();
            numbers.extend([(radius * cosine) as f32, (radius * sine) as f32]);
        }
        numbers.truncate(count);
        numbers
    }
}

/// Sixteen uniform numbers to sixteen normal ones: the first eight give radii, the others angles.
fn transform(block: &mut [f32; 16]) {
    for index in 0..8 {
        let (first, second) = (block[index], block[index + 8]);
        let radius = (-2.0 * logarithm(1.0 - first)).sqrt();
        let (sine, cosine) = sine_cosine(std::f32::consts::TAU * second);
        block[index] = radius * cosine;
        block[index + 8] = radius * sine;
    }
}

/// Polynomial by Horner's rule, highest coefficient first.
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients
        .iter()
        .copied()
        .reduce(|sum, next| sum.mul_add(x, next))
        .unwrap_or_default()
}

/// Cephes `logf` for normal positive numbers.
#[expect(clippy::excessive_precision, reason = "coefficients as published")]
fn logarithm(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 9] = [
        7.037_683_629_2e-2,
        -1.151_461_031_0e-1,
        1.167_699_874_0e-1,
        -1.242_014_084_6e-1,
        1.424_932_278_7e-1,
        -1.666_805_766_5e-1,
        2.000_071_476_5e-1,
        -2.499_999_399_3e-1,
        3.333_333_117_4e-1,
    ];
    // Natural logarithm of 2 in two parts.
    const HIGH: f32 = 0.693_359_375;
    const LOW: f32 = -2.121_944_40e-4;
    let bits = x.to_bits();
    let mut mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let mut exponent = (bits >> 23) as f32 - 126.0;
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        mantissa = (mantissa - 1.0) + mantissa;
    } else {
        mantissa -= 1.0;
    }
    let square = mantissa * mantissa;
    let y = polynomial(mantissa, &COEFFICIENTS) * mantissa;
    let y = y.mul_add(square, exponent * LOW);
    let y = square.mul_add(-0.5, y);
    exponent.mul_add(HIGH, mantissa + y)
}

/// Cephes `sinf` and `cosf` for positive numbers of ordinary size.
#[expect(clippy::excessive_precision, reason = "coefficients as published")]
fn sine_cosine(x: f32) -> (f32, f32) {
    // A quarter of π in three parts.
    const QUARTER: [f32; 3] = [
        -0.785_156_25,
        -2.418_756_484_985_351_562_5e-4,
        -3.774_894_977_445_941_08e-8,
    ];
    const SINE: [f32; 3] = [-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1];
    const COSINE: [f32; 3] = [
        2.443_315_711_809_948e-5,
        -1.388_731_625_493_765e-3,
        4.166_664_568_298_827e-2,
    ];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an octant of a full turn"
    )]
    let octant = ((x * 1.273_239_544_735_16) as u32 + 1) & !1;
    let rest = QUARTER
        .iter()
        .fold(x, |rest, part| (octant as f32).mul_add(*part, rest));
    let square = rest * rest;
    let cosine = polynomial(square, &COSINE) * square;
    let cosine = cosine.mul_add(square, -(square * 0.5)) + 1.0;
    let sine = (polynomial(square, &SINE) * square).mul_add(rest, rest);
    let (sine, cosine) = if octant & 2 == 0 {
        (sine, cosine)
    } else {
        (cosine, sine)
    };
    let sine = if octant & 4 == 0 { sine } else { -sine };
    let cosine = if octant.wrapping_sub(2) & 4 == 0 {
        -cosine
    } else {
        cosine
    };
    (sine, cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.randn(n, generator=torch.Generator().manual_seed(seed))` of PyTorch 2.15, first and
    /// last as bits.
    #[test]
    fn numbers_are_those_of_pytorch() {
        let bits = |seed: u64, count: usize| -> Vec<u32> {
            Twister::new(seed)
                .normal(count)
                .into_iter()
                .map(f32::to_bits)
                .collect()
        };
        assert_eq!(
            bits(42, 4),
            [0x3eac_62ae, 0x3e03_e69d, 0x3e70_16e7, 0x3e6b_dc6c]
        );
        assert_eq!(
            bits(42, 16)[..4],
            [
                0x3ff6_a529,
                0x3fbe_5f53,
                0x3f66_9567,
                0u32.wrapping_sub(0x3ff9_3f25)
            ]
        );
        assert_eq!(bits(42, 20)[..4], bits(42, 16)[..4]);
        assert_eq!(
            bits(42, 20)[18..],
            [0x3f4d_ac3c, 0u32.wrapping_sub(0x40e0_df20)]
        );
        let large_seed = bits(1_234_567_890_123, 40);
        assert_eq!(large_seed[0], 0u32.wrapping_sub(0x40ee_7410));
        assert_eq!(large_seed[39], 0x3eae_a285);
    }
}
