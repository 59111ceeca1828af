//! Philox 4×32 with ten rounds (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").
//!
//! The generator is a function of a counter and a key: any number of the stream can be had without
//! those before it, in any order, on any device.

/// Multipliers and key increments of the paper.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const INCREMENTS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four random words of a counter under a key.
pub(super) fn words(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let (high0, low0) = halves(MULTIPLIERS[0], a);
        let (high1, low1) = halves(MULTIPLIERS[1], c);
        (a, b, c, d) = (high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0);
        k0 = k0.wrapping_add(INCREMENTS[0]);
        k1 = k1.wrapping_add(INCREMENTS[1]);
    }
    [a, b, c, d]
}

/// High and low word of a product.
#[expect(
    clippy::cast_possible_truncation,
    reason = "cutting a product in two is the point"
)]
fn halves(left: u32, right: u32) -> (u32, u32) {
    let product = u64::from(left) * u64::from(right);
    ((product >> 32) as u32, product as u32)
}

/// The first `count` normal numbers of a stream: the key is the seed, the counter is the place in
/// fours and the stream.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the seed is cut in two words, results are f32"
)]
pub(super) fn normal(seed: u64, stream: [u32; 2], count: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let mut numbers = Vec::with_capacity(count.next_multiple_of(4));
    for block in (0..).take(count.div_ceil(4)) {
        let [a, b, c, d] = words([block, 0, stream[0], stream[1]], key);
        for (first, second) in [(a, b), (c, d)] {
            let (left, right) = box_muller(first, second);
            numbers.extend([left as f32, right as f32]);
        }
    }
    numbers.truncate(count);
    numbers
}

/// Four uniform numbers in 0…1 of a seed.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the seed is cut in two words"
)]
pub(crate) fn uniform(seed: u64) -> [f64; 4] {
    words([0, 0, 0, u32::MAX], [seed as u32, (seed >> 32) as u32]).map(unit)
}

/// A word as a number between 0 and 1, neither included.
fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// Two words to two independent normal numbers (Box and Muller 1958).
fn box_muller(first: u32, second: u32) -> (f64, f64) {
    let radius = (-2.0 * unit(first).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * unit(second)).sin_cos();
    (radius * cosine, radius * sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their library.
    #[test]
    fn words_are_those_of_the_paper() {
        let ones = u32::MAX;
        assert_eq!(
            words([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            words([ones; 4], [ones; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            words(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn numbers_are_normal_and_streams_differ() {
        let numbers = normal(7, [0, 0], 100_000);
        let mean = numbers.iter().sum::<f32>() / 1e5;
        let spread = numbers.iter().map(|x| x * x).sum::<f32>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (spread - 1.0).abs() < 0.02,
            "{mean} {spread}"
        );
        assert_ne!(numbers[..8], normal(7, [1, 0], 8)[..]);
        assert_eq!(numbers[..7], normal(7, [0, 0], 7)[..]);
    }
}
