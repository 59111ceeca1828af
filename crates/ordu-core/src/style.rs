//! Styles: what becomes of a request that asks for one.
//!
//! Pure: finding the style, choosing among a collection's and paying for it are done elsewhere.
//! What is asked here is which name means which style, and what the style makes of the request.
//!
//! # Source
//! `generation.md` § 3.6; `community.md` § 8.4, § 8.5.

use ordu_api::UserId;
use ordu_api::image::{ImageParams, ImageRequest};
use ordu_api::text::{TextParams, TextRequest};

use crate::Kudos;
use crate::image::split_prompt;

pub mod rules;

/// What a style's owner gets each time somebody else's request uses it, in kudos.
pub const REWARD: Kudos = Kudos::new(2);

/// What separates a positive from a negative prompt.
const NEGATIVE: &str = "###";

/// What separates the parts of a style's name.
const PARTS: &str = "::";

/// A style for pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageStyle {
    /// The prompt with `{p}` and `{np}` in the places of what the requester wants and does not.
    pub prompt: String,
    /// How to paint.
    pub params: ImageParams,
    /// With which models.
    pub models: Vec<String>,
}

impl ImageStyle {
    /// Makes the request one for this style: its models and parameters win, the requester's `n`
    /// stays, and its size if the style has none.
    pub fn apply(&self, request: &mut ImageRequest) {
        request.prompt = fill(&self.prompt, &request.prompt);
        request.models.clone_from(&self.models);
        let asked = std::mem::replace(&mut request.params, self.params.clone());
        let params = &mut request.params;
        params.n = asked.n;
        params.width = params.width.or(asked.width);
        params.height = params.height.or(asked.height);
    }
}

/// A style for texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextStyle {
    /// The prompt with `{p}` in the place of what the requester wrote.
    pub prompt: String,
    /// How to write.
    pub params: TextParams,
    /// With which models.
    pub models: Vec<String>,
}

impl TextStyle {
    /// Makes the request one for this style: its models and parameters win, the requester's `n`
    /// stays.
    pub fn apply(&self, request: &mut TextRequest) {
        request.prompt = fill_text(&self.prompt, &request.prompt);
        request.models.clone_from(&self.models);
        let n = request.params.n;
        request.params = self.params.clone();
        request.params.n = n;
    }
}

/// Puts a prompt for a picture into a template. Everything else in braces stays as it is.
pub fn fill(template: &str, prompt: &str) -> String {
    let (positive, negative) = split_prompt(prompt);
    let negative = negative.unwrap_or_default();
    let separated = template.contains(NEGATIVE) || negative.contains(NEGATIVE);
    let prefix = if negative.is_empty() || separated {
        ""
    } else {
        NEGATIVE
    };
    fill_with(template, positive, &format!("{prefix}{negative}"))
}

/// Puts a prompt for a text into a template; a place for what is not wanted is left empty.
pub fn fill_text(template: &str, prompt: &str) -> String {
    fill_with(template, prompt, "")
}

/// One pass over the template: what is put in is not looked at again.
fn fill_with(template: &str, positive: &str, negative: &str) -> String {
    let mut filled = String::with_capacity(template.len() + positive.len() + negative.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix("p}") {
            filled.push_str(positive);
            rest = after;
        } else if let Some(after) = after.strip_prefix("np}") {
            filled.push_str(negative);
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

/// What the name of a style says about where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Whether styles or collections are meant; both if it does not say.
    pub category: Option<Category>,
    /// Whose it must be, if it says.
    pub owner: Option<UserId>,
    /// The name that its owner gave it.
    pub name: String,
}

/// Where a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Among styles.
    Style,
    /// Among collections of styles.
    Collection,
}

impl Category {
    const fn word(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Collection => "collection",
        }
    }

    /// Where to look, if the text begins with it, and what follows.
    fn split(text: &str) -> (Option<Self>, &str) {
        let parts = text.split_once(PARTS);
        let found = parts.and_then(|(word, rest)| Some((Self::from_word(word)?, rest)));
        match found {
            Some((category, rest)) => (Some(category), rest),
            None => (None, text),
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "style" => Some(Self::Style),
            "collection" => Some(Self::Collection),
            _ => None,
        }
    }
}

impl Name {
    /// How the horde itself prints the name of a style: whose it is, what it is, how it is called.
    pub fn print(category: Category, alias: &str, name: &str) -> String {
        let word = category.word();
        format!("{alias}{PARTS}{word}{PARTS}{name}")
    }

    /// Whether a look among these finds it.
    pub fn is_in(&self, category: Category) -> bool {
        self.category.is_none_or(|wanted| wanted == category)
    }

    /// Reads a name in any of its forms: `name`, `style::name`, `alias#id::name`,
    /// `style::alias#id::name`, `alias#id::style::name`. What is in none of them is a name as a
    /// whole.
    pub fn parse(text: &str) -> Self {
        let (category, rest) = Category::split(text);
        let (owner, rest) = split_owner(rest);
        let (category, name) = match (category, owner) {
            (None, Some(_)) => Category::split(rest),
            _ => (category, rest),
        };
        Self {
            category,
            owner,
            name: name.to_owned(),
        }
    }
}

/// Whose it must be, and what follows.
fn split_owner(text: &str) -> (Option<UserId>, &str) {
    for (at, _) in text.match_indices(PARTS) {
        let (head, tail) = text.split_at(at);
        if let Some(owner) = alias(head) {
            return (Some(owner), tail.strip_prefix(PARTS).unwrap_or(tail));
        }
    }
    (None, text)
}

/// A user's number, if the text has the form of an alias.
fn alias(text: &str) -> Option<UserId> {
    if text.contains('#') {
        UserId::from_alias(text)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
