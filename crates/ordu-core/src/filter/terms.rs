//! The operator's words: a document that may be replaced, with sensible words built in.

use serde::{Deserialize, Serialize};

use super::pattern::{Pattern, PatternError};
use crate::profanity::Profanity;

/// The document that is used unless there is another.
const EMBEDDED: &str = include_str!("terms.json");

/// The operator's words, compiled.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    document: Document,
    adult: Vec<(Pattern, String)>,
    profanity: Profanity,
}

/// The document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    emoji: Vec<String>,
    negatives: Vec<String>,
    adult_terms: Vec<AdultTerm>,
    profane_words: Vec<String>,
    profane_stems: Vec<String>,
}

/// What becomes of a term of youth where only adults are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdultTerm {
    /// The expression that finds it.
    pub regex: String,
    /// What is put in its place.
    pub replacement: String,
}

/// Why a document of words cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// It is not JSON of this form.
    #[error("the document of terms is not of the right form")]
    Form(#[from] serde_json::Error),
    /// An expression in it cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Terms {
    /// Reads a document: `emoji` of the first context, `negatives` to add when a prompt is
    /// rewritten, `adult_terms`, `profane_words` (whole) and `profane_stems` (anywhere).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, TermsError> {
        let document: Document = serde_json::from_str(text)?;
        let mut adult = Vec::with_capacity(document.adult_terms.len());
        for term in &document.adult_terms {
            adult.push((Pattern::new(&term.regex)?, term.replacement.clone()));
        }
        Ok(Self {
            adult,
            profanity: Profanity::new(&document.profane_words, &document.profane_stems),
            document,
        })
    }

    /// The words that are built in.
    pub fn embedded() -> Self {
        // A test reads the document; what cannot be read would be nothing.
        Self::from_json(EMBEDDED).unwrap_or_default()
    }

    /// What names must not hold.
    pub const fn profanity(&self) -> &Profanity {
        &self.profanity
    }

    pub(super) fn emoji(&self) -> &[String] {
        &self.document.emoji
    }

    pub(super) fn negatives(&self) -> &[String] {
        &self.document.negatives
    }

    pub(super) fn names_youth(&self, text: &str) -> bool {
        self.adult.iter().any(|(pattern, _)| pattern.is_match(text))
    }

    /// The text with every term of youth made an adult one.
    pub(super) fn adult(&self, text: &str) -> String {
        let replace = |text: String, (pattern, replacement): &(Pattern, String)| {
            pattern.replace_all(&text, replacement).into_owned()
        };
        self.adult.iter().fold(text.to_owned(), replace)
    }
}
