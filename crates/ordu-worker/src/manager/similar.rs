//! How alike two names are, in percent. Pure.

/// Names longer than this are cut before they are compared: the work grows with the square.
const MAX_CHARS: usize = 256;

/// 200 × the longest common subsequence / the sum of the lengths, in lower case: 100 for equal texts,
/// 0 for texts without a common letter.
pub(crate) fn similarity(one: &str, other: &str) -> f64 {
    let letters =
        |text: &str| -> Vec<char> { text.to_lowercase().chars().take(MAX_CHARS).collect() };
    let (one, other) = (letters(one), letters(other));
    let total = one.len() + other.len();
    if total == 0 {
        return 100.0;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "both are at most twice MAX_CHARS"
    )]
    let share = common(&one, &other) as f64 / total as f64;
    200.0 * share
}

/// The length of the longest common subsequence.
fn common(one: &[char], other: &[char]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for letter in one {
        let mut diagonal = 0;
        let mut left = 0;
        for (cell, known) in row.iter_mut().skip(1).zip(other) {
            let above = *cell;
            *cell = if letter == known {
                diagonal + 1
            } else {
                above.max(left)
            };
            (diagonal, left) = (above, *cell);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_pairs() {
        for (one, other, expected) in [
            ("", "", 100.0),
            ("a", "", 0.0),
            ("Abc", "abC", 100.0),
            ("abcd", "abxd", 75.0),
            ("kitten", "sitting", 200.0 * 4.0 / 13.0),
        ] {
            let found = similarity(one, other);
            assert!((found - expected).abs() < 1e-9, "{one} {other}: {found}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_who_comes_first(one in ".{0,20}", other in ".{0,20}") {
            let found = similarity(&one, &other);
            prop_assert!((found - similarity(&other, &one)).abs() < 1e-9);
            prop_assert!((0.0..=100.0).contains(&found));
            prop_assert!((similarity(&one, &one) - 100.0).abs() < 1e-9);
        }
    }
}
