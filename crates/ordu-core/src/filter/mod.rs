//! Prompt filters: what moderators and operators do not want to be asked for.
//!
//! A [`FilterSet`] is compiled once and scores many prompts. It is built from the moderators'
//! [`Filter`]s and the operator's [`Terms`]; a set that does not compile is never put in place of
//! one that did. Knows no users, addresses or penalties: what a corrupt prompt costs is decided by
//! whoever asks.
//!
//! # Source
//! `generation.md` § 8.1–8.4, `community.md` § 9.4.

mod pattern;
mod prompt;
mod ruling;
mod terms;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use pattern::{MAX_REGEX_CHARS, PatternError};
pub use prompt::{MAX_SCANNED_BYTES, normalise};
pub use ruling::{Case, MAX_SANITISED_CHARS, Ruling};
pub use terms::{AdultTerm, Terms, TermsError};

use pattern::{Group, Pattern};

/// The smallest type that a filter may have.
pub const MIN_KIND: u8 = 10;
/// The largest type that a filter may have.
pub const MAX_KIND: u8 = 29;

/// The type whose entries carry replacements; with [`CONTEXT_A_MORE`] the first context.
pub const CONTEXT_A: u8 = 10;
/// The other type of the first context.
pub const CONTEXT_A_MORE: u8 = 11;
/// The only type of the second context.
pub const CONTEXT_B: u8 = 20;

/// A prompt with this much suspicion is corrupt: both contexts at once. One alone is always fine.
pub const CORRUPT: u8 = 2;

/// The most filters that a set may have.
pub const MAX_FILTERS: usize = 5_000;

/// One entry of the moderators' list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The expression, matched in any mixture of capitals on the normalised prompt.
    pub regex: String,
    /// Its type, [`MIN_KIND`]…[`MAX_KIND`].
    pub kind: u8,
    /// What sanitising puts in its place; only of type [`CONTEXT_A`].
    pub replacement: String,
}

/// What a prompt was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// 0…2; see [`CORRUPT`].
    pub suspicion: u8,
    /// The fragments that decided.
    pub matches: Vec<String>,
}

/// Why a set of filters cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An expression is not one, or one that cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The expressions of a type cannot be used together.
    #[error("the filters of type {kind} cannot be used together: {reason}")]
    Together {
        /// The type.
        kind: u8,
        /// Why not.
        reason: String,
    },
    /// There are too many.
    #[error("{0} filters are more than the {MAX_FILTERS} that are possible")]
    TooMany(usize),
}

/// Everything that prompts are judged by, ready to use.
#[derive(Debug, Clone, Default)]
pub struct FilterSet {
    groups: BTreeMap<u8, Group>,
    /// The entries of type [`CONTEXT_A`], one by one, with what replaces them.
    replacements: Vec<(Pattern, String)>,
    terms: Arc<Terms>,
}

impl FilterSet {
    /// Compiles filters, given in the order of their ids.
    ///
    /// # Errors
    /// The first entry that cannot be used, alone or with the others of its type.
    pub fn compile(filters: &[Filter], terms: Arc<Terms>) -> Result<Self, FilterError> {
        if filters.len() > MAX_FILTERS {
            return Err(FilterError::TooMany(filters.len()));
        }
        let mut by_kind: BTreeMap<u8, Vec<(&str, Pattern)>> = BTreeMap::new();
        let mut replacements = Vec::new();
        for filter in filters {
            let pattern = Pattern::new(&filter.regex)?;
            if filter.kind == CONTEXT_A {
                replacements.push((pattern.clone(), filter.replacement.clone()));
            }
            let of_kind = by_kind.entry(filter.kind).or_default();
            of_kind.push((&filter.regex, pattern));
        }
        let mut groups = BTreeMap::new();
        for (kind, patterns) in by_kind {
            let together = |error: PatternError| FilterError::Together {
                kind,
                reason: error.to_string(),
            };
            groups.insert(kind, Group::new(&patterns).map_err(together)?);
        }
        Ok(Self {
            groups,
            replacements,
            terms,
        })
    }

    /// Whether an expression can be a filter at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check(regex: &str) -> Result<(), PatternError> {
        Pattern::new(regex).map(|_| ())
    }

    /// The joined expression of each type that has filters, for people to read.
    pub fn regexes(&self) -> impl Iterator<Item = (u8, &str)> {
        self.groups
            .iter()
            .map(|(kind, group)| (*kind, group.text()))
    }

    /// Scores a prompt by both contexts. What is to be avoided, after the first `###`, is not read.
    pub fn judge(&self, prompt: &str) -> Verdict {
        let positive = prompt::positive(prompt);
        self.judge_normalised(positive, &normalise(positive))
    }

    fn judge_normalised(&self, positive: &str, normalised: &str) -> Verdict {
        let first = self
            .emoji(positive)
            .or_else(|| self.find(CONTEXT_A, normalised))
            .or_else(|| self.find(CONTEXT_A_MORE, normalised));
        let second = self.find(CONTEXT_B, normalised);
        let matches: Vec<String> = [first, second]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        Verdict {
            suspicion: u8::try_from(matches.len()).unwrap_or(CORRUPT),
            matches,
        }
    }

    /// Scores a prompt by the filters of one type only, to try them out.
    pub fn judge_by(&self, kind: u8, prompt: &str) -> Verdict {
        let positive = prompt::positive(prompt);
        let normalised = normalise(positive);
        let emoji = (kind == CONTEXT_A).then(|| self.emoji(positive)).flatten();
        let found = emoji.or_else(|| self.find(kind, &normalised));
        let counts = matches!(kind, CONTEXT_A | CONTEXT_A_MORE | CONTEXT_B);
        Verdict {
            suspicion: u8::from(counts && found.is_some()),
            matches: found.into_iter().map(str::to_owned).collect(),
        }
    }

    fn find<'t>(&self, kind: u8, normalised: &'t str) -> Option<&'t str> {
        self.groups
            .get(&kind)
            .and_then(|group| group.find(normalised))
    }

    /// The first emoji of the first context.
    fn emoji<'t>(&self, positive: &'t str) -> Option<&'t str> {
        if positive.is_ascii() {
            return None;
        }
        let found = |emoji: &String| {
            let start = positive.find(emoji.as_str())?;
            positive.get(start..start + emoji.len())
        };
        self.terms.emoji().iter().find_map(found)
    }
}
