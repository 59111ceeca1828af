//! How many tokens a text has, about.
//!
//! Each model counts in its own way, and the server has none of them. Where a worker reports how many
//! it wrote, that counts.

/// Letters of a token, on the average of European languages and program text.
const LETTERS: usize = 4;

/// What a picture counts as. Models make some hundreds to some thousands of tokens of one.
pub(crate) const OF_A_PICTURE: u64 = 1000;

/// About how many tokens a text has.
pub(crate) fn count(text: &str) -> u64 {
    let letters = text.chars().count();
    u64::try_from(letters.div_ceil(LETTERS)).unwrap_or(u64::MAX)
}

/// The beginning of a text that has about so many tokens, and whether that is less than all.
pub(crate) fn first(text: &str, tokens: u64) -> (&str, bool) {
    let letters = usize::try_from(tokens)
        .unwrap_or(usize::MAX)
        .saturating_mul(LETTERS);
    match text.char_indices().nth(letters) {
        Some((place, _)) => (text.get(..place).unwrap_or(text), true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_beginning_has_no_more_tokens_than_asked_for(text in ".{0,60}", tokens in 0_u64..20) {
            let (beginning, is_less) = first(&text, tokens);
            prop_assert!(text.starts_with(beginning));
            prop_assert!(count(beginning) <= tokens);
            prop_assert_eq!(is_less, beginning.len() < text.len());
        }
    }
}
