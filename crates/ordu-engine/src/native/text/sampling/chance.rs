//! The dice.

use super::{Candidate, probabilities};

/// What a number is stepped by, and multiplied with, to be well mixed.
///
/// # Source
/// Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators".
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const MIXERS: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// Dice that fall the same again from the same seed.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of the candidates, each as often as its probability says.
    pub(super) fn pick(&mut self, candidates: &[Candidate]) -> Option<u32> {
        let mut thrown = self.unit();
        let last = candidates.last()?;
        for (candidate, share) in candidates.iter().zip(probabilities(candidates)) {
            thrown -= share;
            if thrown < 0.0 {
                return Some(candidate.token);
            }
        }
        // Rounding left a crumb.
        Some(last.token)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(MIXERS[0]);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(MIXERS[1]);
        mixed ^= mixed >> 31;
        // 53 bits are what a double has.
        ((mixed >> 11) as f64) / ((1_u64 << 53) as f64)
    }
}
