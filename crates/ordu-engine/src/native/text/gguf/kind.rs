//! How the numbers of a tensor are stored.
//!
//! # Source
//! The list of types in the documentation of ggml.

use std::fmt;

use candle_core::quantized::GgmlDType;

/// A way to store numbers, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u32);

/// How numbers are packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Numbers that are stored together.
    pub(super) block: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Number, name, block, bytes of a block. Those without a row cannot even be skipped.
const KNOWN: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

impl Kind {
    pub(super) fn new(number: u32) -> Self {
        Self(number)
    }

    /// How it is packed, if it is known.
    pub(super) fn layout(self) -> Option<Layout> {
        let (_, _, block, bytes) = *KNOWN.iter().find(|row| row.0 == self.0)?;
        Some(Layout { block, bytes })
    }

    /// What the tensor library calls it, if it can compute with it.
    pub(super) fn computable(self) -> Option<GgmlDType> {
        Some(match self.0 {
            0 => GgmlDType::F32,
            1 => GgmlDType::F16,
            2 => GgmlDType::Q4_0,
            3 => GgmlDType::Q4_1,
            6 => GgmlDType::Q5_0,
            7 => GgmlDType::Q5_1,
            8 => GgmlDType::Q8_0,
            10 => GgmlDType::Q2K,
            11 => GgmlDType::Q3K,
            12 => GgmlDType::Q4K,
            13 => GgmlDType::Q5K,
            14 => GgmlDType::Q6K,
            30 => GgmlDType::BF16,
            _ => return None,
        })
    }

    /// What to do about a tensor that cannot be computed with.
    pub(super) fn advice(self, tensor: &str) -> String {
        format!(
            "tensor `{tensor}` is stored as {self}, which cannot be computed with: take the model as \
             Q4_K_M, Q8_0 or another of the older kinds"
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KNOWN.iter().find(|row| row.0 == self.0) {
            Some((_, name, _, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_tensor_library() {
        for row in KNOWN {
            let kind = Kind::new(row.0);
            let (Some(layout), Some(theirs)) = (kind.layout(), kind.computable()) else {
                continue;
            };
            let expected = (theirs.block_size() as u64, theirs.type_size() as u64);
            assert_eq!((layout.block, layout.bytes), expected, "{kind}");
        }
    }
}
