//! Loops over numbers with the widest registers that the processor has, whatever the program was
//! built for.
//!
//! # Source
//! The error function: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26; its
//! largest error is 1.5e-7. The exponential: powers of two for the whole part, the series for the rest.

use pulp::Arch;

/// Numbers that are worked on side by side.
pub(super) const LANES: usize = 16;
/// So many numbers.
pub(super) type Lanes = [f32; LANES];

/// Runs loops in the widest registers. What they call must be inlined into them.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a loop that is called and not inlined keeps the narrow registers"
)]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// `e` to the power of `x`, within two units of the last place; nothing below -87, and no more than
/// 1.6e38.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Added to a small number, it leaves the nearest whole one in the last bits.
    const ROUND: f32 = 12_582_912.0;
    /// The logarithm of 2 in two parts; the first has few digits, so that products with it are exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN_2.0) - whole * LN_2.1;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 120.0 + r * series;
    let series = 1.0 / 24.0 + r * series;
    let series = 1.0 / 6.0 + r * series;
    let series = 0.5 + r * series;
    let series = 1.0 + r * (1.0 + r * series);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    series * power
}

/// The share of a normal distribution below `x`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `wide`")]
fn normal_below(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = -1.453_152_1 + t * 1.061_405_4;
    let series = 1.421_413_8 + t * series;
    let series = -0.284_496_72 + t * series;
    let series = t * (0.254_829_6 + t * series);
    let beyond = 0.5 * series * exp(-z * z);
    if x < 0.0 { beyond } else { 1.0 - beyond }
}

/// Each number of `x` times the GELU of the one beside it in `gate`.
pub(super) fn gated_gelu(x: &[f32], gate: &[f32], y: &mut [f32]) {
    wide(|| {
        for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
            *y = x * gate * normal_below(*gate);
        }
    });
}

/// `scale * x + shift` of each number.
pub(super) fn shifted(x: &[f32], y: &mut [f32], (scale, shift): (f32, f32)) {
    wide(|| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x * scale + shift;
        }
    });
}

/// The same, and `z * sigmoid(z)` of what comes out.
pub(super) fn shifted_silu(x: &[f32], y: &mut [f32], (scale, shift): (f32, f32)) {
    wide(|| {
        for (y, x) in y.iter_mut().zip(x) {
            let z = x * scale + shift;
            *y = z / (1.0 + exp(-z));
        }
    });
}

/// `x * scale + shift` with a scale and a shift for each number, after `mean` was taken off and
/// `inverse` multiplied.
pub(super) fn normalised(
    (x, y): (&[f32], &mut [f32]),
    (mean, inverse): (f32, f32),
    (scale, shift): (&[f32], &[f32]),
) {
    wide(|| {
        for ((y, x), (scale, shift)) in y.iter_mut().zip(x).zip(scale.iter().zip(shift)) {
            *y = (x - mean) * inverse * scale + shift;
        }
    });
}

/// Each number, or a part of it where it is below zero.
pub(super) fn leaky(x: &[f32], y: &mut [f32], slope: f32) {
    wide(|| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.max(x * slope);
        }
    });
}

/// `x` added to `y`, and a number to both.
pub(super) fn added(y: &mut [f32], x: &[f32], shift: f32) {
    wide(|| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x + *y + shift;
        }
    });
}

/// All numbers times one.
pub(super) fn scaled(x: &mut [f32], by: f32) {
    wide(|| {
        for x in x.iter_mut() {
            *x *= by;
        }
    });
}

/// The largest number.
pub(super) fn largest(x: &[f32]) -> f32 {
    wide(|| {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        let all = lanes.iter().chain(rest);
        all.copied().fold(f32::NEG_INFINITY, f32::max)
    })
}

/// `e` to the power of what each number is less than `above`; the sum of all.
pub(super) fn exp_below(x: &mut [f32], above: f32) -> f32 {
    wide(|| {
        let mut lanes = [0_f32; LANES];
        let (blocks, rest) = x.as_chunks_mut::<LANES>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *x = exp(*x - above);
                *lane += *x;
            }
        }
        for x in rest.iter_mut() {
            *x = exp(*x - above);
        }
        lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
    })
}

/// The sum of all numbers, and of their squares. In f64: a plane of 512×512 pixels loses digits in f32.
pub(super) fn sums(x: &[f32]) -> (f64, f64) {
    wide(|| {
        let (mut plain, mut squares) = ([0_f64; LANES], [0_f64; LANES]);
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for ((plain, square), x) in plain.iter_mut().zip(&mut squares).zip(block) {
                let x = f64::from(*x);
                *plain += x;
                *square += x * x;
            }
        }
        let rest = rest.iter().map(|x| f64::from(*x));
        let plain: f64 = plain.iter().sum::<f64>() + rest.clone().sum::<f64>();
        let squares: f64 = squares.iter().sum::<f64>() + rest.map(|x| x * x).sum::<f64>();
        (plain, squares)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_two_units_of_the_last_place() {
        let mut x: Vec<f32> = (-8700_i16..=8800).map(|x| f32::from(x) / 100.0).collect();
        let exact: Vec<f64> = x.iter().map(|x| f64::from(*x).exp()).collect();
        exp_below(&mut x, 0.0);
        for (ours, exact) in x.iter().zip(exact) {
            let apart = (f64::from(*ours) - exact).abs() / exact;
            assert!(apart < 2.5e-7, "{ours} for {exact}");
        }
        let mut far = [-1e9, f32::NEG_INFINITY, 1e9];
        exp_below(&mut far, 0.0);
        assert!(far[0] < 1e-37 && far[1] < 1e-37 && far[2].is_finite());
    }

    #[test]
    fn the_gate_is_the_exact_gelu() {
        let gate: Vec<f32> = (-1000_i16..=1000).map(|x| f32::from(x) / 100.0).collect();
        let mut y = vec![0.0; gate.len()];
        gated_gelu(&vec![2.0; gate.len()], &gate, &mut y);
        let known = [
            (1.0, 0.841_344_8),
            (-1.0, -0.158_655_26),
            (2.0, 1.954_499_7),
        ];
        for (x, wanted) in known {
            let at = gate
                .iter()
                .position(|gate| (gate - x).abs() < 1e-6)
                .unwrap();
            assert!((y[at] - 2.0_f32 * wanted).abs() < 1e-6, "{x}: {}", y[at]);
        }
        // Symmetry: gelu(x) - gelu(-x) is x.
        for (at, x) in gate.iter().enumerate() {
            let other = y[gate.len() - 1 - at];
            assert!((y[at] - other - 2.0 * x).abs() < 4e-6, "{x}");
        }
    }

    #[test]
    fn sums_and_the_largest_take_in_all_numbers() {
        for count in [0_u8, 1, 15, 16, 17, 40] {
            let x: Vec<f32> = (1..=count).map(f32::from).collect();
            let n = f64::from(count);
            assert_eq!(
                sums(&x),
                (n * (n + 1.0) / 2.0, n * (n + 1.0) * (2.0 * n + 1.0) / 6.0)
            );
            if count > 0 {
                assert!((largest(&x) - f32::from(count)).abs() < f32::EPSILON);
            }
        }
    }
}
