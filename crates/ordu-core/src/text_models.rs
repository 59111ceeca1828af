//! What is known about text models: a second document that an operator may replace at any time.
//!
//! It decides prices and what counts as slow; workers may serve models that it does not list. Knows
//! no files and no network: the text comes from outside.
//!
//! # Source
//! `generation.md` § 3.5, § 7.7.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::ChatFormat;

/// What the document says about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextModel {
    /// How many parameters it has.
    pub parameters: f64,
    /// Whether it was made for NSFW texts.
    pub nsfw: bool,
    /// How it wants conversations to be written down; see [`ChatFormat`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruct_format: Option<String>,
}

impl TextModel {
    /// Its parameters in billions.
    pub fn billions(&self) -> f64 {
        self.parameters / 1e9
    }
}

/// All text models that are known by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextModels {
    models: BTreeMap<String, TextModel>,
    unreadable: Vec<String>,
}

/// The document that is used until there is a better one.
const EMBEDDED: &str = include_str!("text_models.json");

impl TextModels {
    /// Reads the document: an object of models by name. Members that are not known are ignored;
    /// models that make no sense are left out and named by [`Self::unreadable`].
    ///
    /// # Errors
    /// The text is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let document: BTreeMap<String, Value> = serde_json::from_str(text)?;
        let mut models = Self::default();
        for (name, model) in document {
            match serde_json::from_value::<TextModel>(model) {
                Ok(model) if model.parameters.is_finite() && model.parameters >= 0.0 => {
                    models.models.insert(name, model);
                }
                _ => models.unreadable.push(name),
            }
        }
        Ok(models)
    }

    /// The few models that every horde knows.
    pub fn embedded() -> Self {
        Self::from_json(EMBEDDED).unwrap_or_default()
    }

    /// The same, with one more model, or another entry for it.
    #[must_use]
    pub fn with_model(mut self, name: String, model: TextModel) -> Self {
        self.models.insert(name, model);
        self
    }

    /// Whether no model is known.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The names whose entries could not be read.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// What is known about exactly this model; a worker owner's `::alias` does not count.
    pub fn get(&self, name: &str) -> Option<&TextModel> {
        self.models.get(plain(name))
    }

    /// What is known about a model, or about the one that it is a quantisation of.
    pub fn find(&self, name: &str) -> Option<&TextModel> {
        self.get(name)
            .or_else(|| self.get(without_quantisation(plain(name))?))
    }

    /// How a model wants conversations to be written down, as far as it is known.
    pub fn chat_format(&self, name: &str) -> ChatFormat {
        let word = self
            .find(name)
            .and_then(|model| model.instruct_format.as_deref());
        ChatFormat::of(plain(name), word)
    }
}

/// A name without the alias that brands it.
fn plain(name: &str) -> &str {
    name.split_once("::").map_or(name, |(plain, _)| plain)
}

/// A name without an ending such as `.Q4_K_M`, `-Q8` or `.i1-IQ3_XS`; `None` if it has none.
fn without_quantisation(name: &str) -> Option<&str> {
    let is_quantisation = |ending: &str| {
        let upper = ending.to_ascii_uppercase();
        let digits = upper.strip_prefix("IQ").or(upper.strip_prefix('Q'));
        digits.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let cut = name.rfind(['.', '-'])?;
    let (base, ending) = name.split_at_checked(cut)?;
    if !is_quantisation(ending.get(1..)?) {
        return None;
    }
    Some(base.strip_suffix(".i1").unwrap_or(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_document_can_be_read() {
        let models = TextModels::embedded();
        assert!(models.unreadable().is_empty());
        let tiefighter = models.get("koboldcpp/LLaMA2-13B-Tiefighter").unwrap();
        assert!((tiefighter.billions() - 13.0).abs() < f64::EPSILON);
    }

    #[test]
    fn quantisations_are_found_by_the_name_of_their_model() {
        let models = TextModels::from_json(
            r#"{"a/b-7B": {"parameters": 7e9, "x": 1}, "c": {"parameters": "many"}, "d": {"parameters": -1}}"#,
        )
        .unwrap();
        assert_eq!(models.unreadable(), ["c", "d"]);
        for name in [
            "a/b-7B",
            "a/b-7B::owner#1",
            "a/b-7B.Q4_K_M",
            "a/b-7B-Q8",
            "a/b-7B.i1-IQ3_XS",
            "a/b-7B.q5_0::owner#1",
        ] {
            assert!(models.find(name).is_some(), "{name}");
        }
        for name in ["a/b", "a/b-7B-Quick", "a/b-7B.", "", "é-Q4", "a/b-7B.Q4.Q4"] {
            assert!(models.find(name).is_none(), "{name}");
        }
        assert!(models.get("a/b-7B.Q4_K_M").is_none());
    }
}
