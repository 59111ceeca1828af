//! What becomes of a prompt: it passes, is rewritten, or is refused.
//!
//! # Source
//! `generation.md` § 8.3, § 8.4; `observed.md` 18.

use ordu_api::ReturnCode;

use super::pattern::Pattern;
use super::prompt::{self, MAX_SCANNED_BYTES, normalise};
use super::{CONTEXT_A, CORRUPT, FilterSet};
use crate::Refusal;
use crate::image::split_prompt;

/// The longest prompt that is rewritten, in characters, and the longest that comes of it.
pub const MAX_SANITISED_CHARS: usize = 7_000;

/// A prompt and what is known of who asks.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// As it was sent, what is to be avoided included.
    pub prompt: &'a str,
    /// Whether a corrupt prompt is rewritten rather than refused.
    pub may_rewrite: bool,
    /// Whether the requester is flagged: the prompt is then always rewritten.
    pub is_flagged: bool,
    /// Whether one of the models was made for NSFW.
    pub is_nsfw_model: bool,
}

/// What becomes of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It stays as it is.
    Clean,
    /// This is used instead.
    Rewritten(String),
    /// It cannot be used; nobody is to blame.
    Refused(Refusal),
    /// It cannot be used, and whoever sent it is suspected.
    Corrupt(Refusal),
}

impl FilterSet {
    /// Rules on the prompt of a picture.
    pub fn rule_image(&self, case: &Case<'_>) -> Ruling {
        let (positive, negative) = split_prompt(case.prompt);
        if positive.len() > MAX_SCANNED_BYTES {
            return Ruling::Refused(too_long_to_read());
        }
        let normalised = normalise(positive);
        let is_corrupt = self.judge_normalised(positive, &normalised).suspicion >= CORRUPT;
        let is_adult = self.must_be_adult(case, &normalised);
        // Prompts of flagged requesters are always rewritten, whatever was asked for.
        if is_corrupt && !case.may_rewrite && !case.is_flagged {
            return Ruling::Corrupt(corrupt());
        }
        if !is_corrupt && !is_adult {
            return Ruling::Clean;
        }
        if positive.chars().count() > MAX_SANITISED_CHARS {
            return Ruling::Refused(too_long_to_rewrite());
        }
        let mut rewritten = self.without_context_a(&normalised);
        if is_corrupt && rewritten.is_empty() {
            return Ruling::Corrupt(corrupt());
        }
        if is_adult {
            rewritten = self.adult(&rewritten);
        }
        if rewritten.is_empty() {
            return Ruling::Refused(corrupt());
        }
        Ruling::Rewritten(self.with_negatives(&rewritten, negative))
    }

    /// Rules on the prompt of a text. Two contexts at once are a story there, not an offence; `###`
    /// is a heading.
    pub fn rule_text(&self, case: &Case<'_>) -> Ruling {
        if !case.is_flagged && !case.is_nsfw_model {
            return Ruling::Clean;
        }
        if case.prompt.len() > MAX_SCANNED_BYTES {
            return Ruling::Refused(too_long_to_read());
        }
        if !self.must_be_adult(case, &normalise(case.prompt)) {
            return Ruling::Clean;
        }
        // The form of a text matters: it is kept if replacing words is enough.
        let in_place = self.replaced(case.prompt);
        let in_place = self.terms.adult(&in_place);
        let rewritten = if self.names_youth(&normalise(&in_place)) {
            let normalised = self.without_context_a(&normalise(&in_place));
            self.adult(&normalised)
        } else {
            in_place
        };
        if rewritten.trim().is_empty() {
            return Ruling::Refused(corrupt());
        }
        Ruling::Rewritten(rewritten)
    }

    fn must_be_adult(&self, case: &Case<'_>, normalised: &str) -> bool {
        case.is_flagged || case.is_nsfw_model && self.names_youth(normalised)
    }

    fn names_youth(&self, normalised: &str) -> bool {
        self.terms.names_youth(normalised) || self.find(CONTEXT_A, normalised).is_some()
    }

    /// The text with every entry of type [`CONTEXT_A`] replaced.
    fn without_context_a(&self, normalised: &str) -> String {
        tidy(&self.replaced(normalised))
    }

    fn replaced(&self, text: &str) -> String {
        let replace = |text: String, (pattern, replacement): &(Pattern, String)| {
            pattern.replace_all(&text, replacement).into_owned()
        };
        self.replacements.iter().fold(text.to_owned(), replace)
    }

    fn adult(&self, text: &str) -> String {
        tidy(&self.terms.adult(text))
    }

    fn with_negatives(&self, positive: &str, negative: Option<&str>) -> String {
        let own = self.terms.negatives();
        let theirs = negative.map(str::trim).filter(|text| !text.is_empty());
        let avoided: Vec<&str> = own.iter().map(String::as_str).chain(theirs).collect();
        if avoided.is_empty() {
            return positive.to_owned();
        }
        format!("{positive}###{}", avoided.join(", "))
    }
}

/// Words one space apart; nothing at all if replacements have blown the text up.
fn tidy(text: &str) -> String {
    if text.len() > MAX_SCANNED_BYTES {
        return String::new();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn corrupt() -> Refusal {
    let message = "This prompt holds a combination of words that this horde does not make \
                   pictures of";
    Refusal::new(ReturnCode::CorruptPrompt, message)
}

fn too_long_to_rewrite() -> Refusal {
    let message = format!(
        "This prompt would have to be rewritten, which is possible up to {MAX_SANITISED_CHARS} \
         characters: shorten it"
    );
    Refusal::new(ReturnCode::BadRequest, message)
}

fn too_long_to_read() -> Refusal {
    let message = format!(
        "The prompt is larger than {} KiB: shorten it",
        prompt::MAX_SCANNED_BYTES >> 10
    );
    Refusal::new(ReturnCode::InvalidPromptSize, message)
}
