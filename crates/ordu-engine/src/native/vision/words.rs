//! What pictures are compared with: lists of phrases, one file for each kind.

/// A kind of phrases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    /// As the protocol names it.
    pub(super) name: &'static str,
    text: &'static str,
}

macro_rules! list {
    ($name:literal) => {
        List {
            name: $name,
            text: include_str!(concat!("words/", $name, ".txt")),
        }
    };
}

/// All of them.
pub(super) const LISTS: [List; 7] = [
    list!("tags"),
    list!("sites"),
    list!("artists"),
    list!("flavors"),
    list!("mediums"),
    list!("movements"),
    list!("techniques"),
];

impl List {
    /// Its phrases.
    pub(super) fn phrases(self) -> Vec<&'static str> {
        self.text.lines().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_list_holds_many_phrases_each_once() {
        for list in LISTS {
            let phrases = list.phrases();
            assert!(phrases.len() >= 40, "{}", list.name);
            let distinct: BTreeSet<_> = phrases.iter().collect();
            assert_eq!(distinct.len(), phrases.len(), "{}", list.name);
            for phrase in phrases {
                assert!(!phrase.is_empty() && phrase.trim() == phrase, "{phrase:?}");
            }
        }
    }
}
