//! Expressions: compiled within limits, so that no filter can hang or bloat the server.
//!
//! Most expressions run in linear time. Those that look around need an engine that tries again and
//! again; it gives up after [`BACKTRACK_LIMIT`] steps, and an expression that gave up has no
//! opinion.

use std::borrow::Cow;

use super::prompt::MAX_SCANNED_BYTES;

/// The longest expression, in characters.
pub const MAX_REGEX_CHARS: usize = 10_000;

/// The largest compiled expression, in bytes.
const SIZE_LIMIT: usize = 16 << 20;

/// The most memory that matching may use as a cache, in bytes.
const CACHE_LIMIT: usize = 4 << 20;

/// How often an expression that looks around may try again for one prompt.
const BACKTRACK_LIMIT: usize = 100_000;

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not an expression.
    #[error("`{regex}` cannot be used: {reason}")]
    Invalid {
        /// The expression, shortened.
        regex: String,
        /// Why not.
        reason: String,
    },
    /// It would find something in every prompt.
    #[error("`{0}` matches the empty text, and with it every prompt")]
    MatchesAll(String),
    /// It is too long.
    #[error(
        "an expression of {0} characters is longer than the {MAX_REGEX_CHARS} that are possible"
    )]
    TooLong(usize),
}

/// One compiled expression.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// Runs in linear time.
    Plain(regex::Regex),
    /// Looks around.
    Fancy(Box<fancy_regex::Regex>),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let length = text.chars().count();
        if length > MAX_REGEX_CHARS {
            return Err(PatternError::TooLong(length));
        }
        let pattern = match plain(text) {
            Ok(regex) => Self::Plain(regex),
            Err(_) => Self::Fancy(Box::new(fancy(text)?)),
        };
        if pattern.find("").is_some() {
            return Err(PatternError::MatchesAll(short(text)));
        }
        Ok(pattern)
    }

    /// The first match: where it starts, and its text.
    pub(super) fn find<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        match self {
            Self::Plain(regex) => regex
                .find(text)
                .map(|found| (found.start(), found.as_str())),
            Self::Fancy(regex) => {
                let found = regex.find(text).ok().flatten()?;
                Some((found.start(), found.as_str()))
            }
        }
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Plain(regex) => regex.is_match(text),
            Self::Fancy(regex) => regex.is_match(text).unwrap_or(false),
        }
    }

    /// Puts `replacement`, as it is written, in the place of every match. The result stops growing
    /// at [`MAX_SCANNED_BYTES`].
    pub(super) fn replace_all<'t>(&self, text: &'t str, replacement: &str) -> Cow<'t, str> {
        if text.len() > MAX_SCANNED_BYTES {
            return Cow::Borrowed(text);
        }
        match self {
            Self::Plain(regex) => regex.replace_all(text, regex::NoExpand(replacement)),
            Self::Fancy(regex) => regex
                .try_replacen(text, 0, fancy_regex::NoExpand(replacement))
                .unwrap_or(Cow::Borrowed(text)),
        }
    }
}

/// All expressions of one type.
#[derive(Debug, Clone)]
pub(super) struct Group {
    text: String,
    /// Those that run in linear time, joined.
    plain: Option<regex::Regex>,
    /// Those that look around, one by one: joined they would slow down all others.
    fancy: Vec<Pattern>,
}

impl Group {
    pub(super) fn new(patterns: &[(&str, Pattern)]) -> Result<Self, PatternError> {
        let mut joined = String::new();
        let mut fancy = Vec::new();
        for (text, pattern) in patterns {
            if let Pattern::Fancy(_) = pattern {
                fancy.push(pattern.clone());
                continue;
            }
            if !joined.is_empty() {
                joined.push('|');
            }
            // Each stands for itself, whatever flags and alternatives it has.
            joined.push_str("(?:");
            joined.push_str(text);
            joined.push(')');
        }
        let plain = (!joined.is_empty()).then(|| plain(&joined)).transpose()?;
        let texts: Vec<&str> = patterns.iter().map(|(text, _)| *text).collect();
        Ok(Self {
            text: texts.join("|"),
            plain,
            fancy,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The leftmost match of any of them.
    pub(super) fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        let plain = self
            .plain
            .as_ref()
            .and_then(|regex| regex.find(text))
            .map(|found| (found.start(), found.as_str()));
        let fancy = self.fancy.iter().filter_map(|pattern| pattern.find(text));
        plain
            .into_iter()
            .chain(fancy)
            .min_by_key(|(start, _)| *start)
            .map(|(_, found)| found)
    }
}

fn plain(text: &str) -> Result<regex::Regex, PatternError> {
    regex::RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| PatternError::Invalid {
            regex: short(text),
            reason: last_line(&error.to_string()),
        })
}

fn fancy(text: &str) -> Result<fancy_regex::Regex, PatternError> {
    fancy_regex::RegexBuilder::new(text)
        .case_insensitive(true)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(SIZE_LIMIT)
        .delegate_dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| PatternError::Invalid {
            regex: short(text),
            reason: last_line(&error.to_string()),
        })
}

/// The beginning of an expression, for messages.
fn short(text: &str) -> String {
    const SHOWN: usize = 80;
    text.chars().take(SHOWN).collect()
}

/// Errors draw the expression first and say what is wrong last.
fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or(message).trim().to_owned()
}
