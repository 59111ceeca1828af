//! Obvious profanity in names and notes, and nothing else.
//!
//! A few words that stand alone, and fewer stems that mean the same inside any word. Names made of
//! random letters pass: nothing is looked for across the borders of words.
//!
//! # Source
//! `community.md` § 1.6, `observed.md` 10.

use std::collections::BTreeSet;

use crate::filter::normalise;

/// What names and notes must not hold.
#[derive(Debug, Clone, Default)]
pub struct Profanity {
    words: BTreeSet<String>,
    stems: Vec<String>,
}

impl Profanity {
    /// Looks for `words` that stand alone and `stems` anywhere in a word, in any capitals.
    pub fn new(words: &[String], stems: &[String]) -> Self {
        Self {
            words: words.iter().map(|word| word.to_lowercase()).collect(),
            stems: stems
                .iter()
                .filter(|stem| !stem.is_empty())
                .map(|stem| stem.to_lowercase())
                .collect(),
        }
    }

    /// Finds nothing, ever.
    pub fn off() -> Self {
        Self::default()
    }

    /// Whether a text holds any of it.
    pub fn is_in(&self, text: &str) -> bool {
        if self.words.is_empty() && self.stems.is_empty() {
            return false;
        }
        let plain = normalise(&part_capitals(text)).to_lowercase();
        let is_profane = |word: &str| {
            self.words.contains(word) || self.stems.iter().any(|stem| word.contains(stem))
        };
        // Capitals part words only where that is a word: `FuckYou`, but `SHit` as well.
        let whole = normalise(text).to_lowercase();
        plain.split(' ').chain(whole.split(' ')).any(is_profane)
    }
}

/// `FuckYou` is two words.
fn part_capitals(text: &str) -> String {
    let mut parted = String::with_capacity(text.len());
    let mut after_small = false;
    for c in text.chars() {
        if after_small && c.is_uppercase() {
            parted.push(' ');
        }
        parted.push(c);
        after_small = c.is_lowercase();
    }
    parted
}

#[cfg(test)]
mod tests {
    use crate::filter::Terms;

    #[test]
    fn obvious_profanity_is_found_and_nothing_else() {
        let terms = Terms::embedded();
        let profanity = terms.profanity();
        for text in [
            "fuck this",
            "fuck you",
            "FuckYou-42",
            "f u c k",
            "what a SHIT name",
            "two bitches",
            "fùck",
            "my_fucking_worker",
            "TheShitWorker",
        ] {
            assert!(profanity.is_in(text), "{text}");
        }
        for text in [
            "hello world",
            "CICD Fake Dreamer",
            "Scunthorpe",
            "w-0f9a17cccbdd6e",
            "bdmnqtvzb",
            "Assassin of glass",
            "AI Horde Worker reGen:14.0.0:https://github.com/Haidra-Org/horde-worker-reGen",
            "shiitake, Matsushita",
            "cockpit of Dick Whittington",
            "",
        ] {
            assert!(!profanity.is_in(text), "{text}");
        }
    }
}
