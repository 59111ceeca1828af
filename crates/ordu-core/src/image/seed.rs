//! Seeds: from any text to 32 bits, and from one picture of a request to the next.
//!
//! # Source
//! `generation.md` § 3.7; vectors in `worker.md` § 8.

use ordu_api::RequestId;
use rand::Rng;

/// Reads a seed: digits are a number, other text its UTF-8 bytes as a little-endian number; both
/// are folded to 32 bits. `None` for the empty text.
pub fn from_text(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(fold(&decimal_to_bytes(text)));
    }
    Some(fold(text.as_bytes()))
}

/// Shifts a little-endian number right by 32 bits while it does not fit into them: what is left
/// are its highest 32-bit digits.
fn fold(bytes: &[u8]) -> u32 {
    let significant = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let digits = bytes.get(..significant).unwrap_or_default().chunks(4);
    let top = digits.last().unwrap_or_default();
    top.iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A decimal number of any length as little-endian bytes.
fn decimal_to_bytes(text: &str) -> Vec<u8> {
    /// A longer text of digits is no seed that anybody typed; its end is left away.
    const MAX_DIGITS: usize = 1000;
    let mut bytes: Vec<u8> = Vec::new();
    for digit in text.bytes().take(MAX_DIGITS) {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            let value = u32::from(*byte) * 10 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.push((carry & 0xff) as u8);
        }
    }
    bytes
}

/// How the seeds of a request's jobs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// The folded seed that was asked for.
    pub seed: Option<u32>,
    /// The distance between jobs.
    pub variation: Option<u32>,
}

impl Seeds {
    /// The seed of the next job of a request that has `open_slots` left, this job's included.
    ///
    /// A variation without a seed starts from the random bits of the request's id, so that it is
    /// the same for all its jobs without being stored.
    pub fn next(self, request: RequestId, open_slots: u32, dice: &mut impl Rng) -> u32 {
        match (self.seed, self.variation) {
            (None, None) => dice.next_u32(),
            (Some(seed), None) => seed,
            (base, Some(variation)) => {
                let base = base.unwrap_or(request.uuid().as_fields().0);
                let distance = u64::from(variation).saturating_mul(u64::from(open_slots));
                fold(&(u64::from(base).saturating_add(distance)).to_le_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_fold_as_the_vectors_say() {
        let vectors = [
            ("1", 1),
            ("hello", 111),
            ("The little seed that could", 25708),
            ("-5", 13613),
            ("4294967296", 1),
            ("4294967295", 4_294_967_295),
            ("99999999999", 23),
            ("0", 0),
            ("00042", 42),
            ("79228162514264337593543950336", 1),
        ];
        for (text, seed) in vectors {
            assert_eq!(from_text(text), Some(seed), "{text}");
        }
        assert_eq!(from_text(""), None);
    }

    #[test]
    fn variation_counts_down_with_the_open_slots() {
        let id = RequestId::from_uuid(uuid::Uuid::from_u128(7 << 96));
        let mut dice = rand_chacha::ChaCha8Rng::from_seed([0; 32]);
        let hello = Seeds {
            seed: from_text("hello"),
            variation: Some(5),
        };
        assert_eq!(hello.next(id, 2, &mut dice), 121);
        assert_eq!(hello.next(id, 1, &mut dice), 116);
        let unseeded = Seeds {
            seed: None,
            variation: Some(10),
        };
        assert_eq!(unseeded.next(id, 1, &mut dice), 17);
        let wrapping = Seeds {
            seed: Some(u32::MAX),
            variation: Some(1),
        };
        assert_eq!(wrapping.next(id, 1, &mut dice), 1);
    }

    use rand::SeedableRng;
}
