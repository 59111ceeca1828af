//! Which models a call means.
//!
//! OpenAI's clients always name one. A name means the model of that name, whatever its case and
//! whoever it is by, if a worker serves it just now; a word of [`ANY`] means whichever is free first.

use std::collections::BTreeSet;

use ordu_api::status::ModelStatus;
use ordu_api::worker::WorkKind;
use ordu_core::chat::ChatFormat;
use ordu_core::horde::TextReach;
use ordu_core::text::Vision;

use super::refusal::{GatewayError, GatewayResult};
use crate::app::App;

/// Words for "I do not mind".
const ANY: &[&str] = &["any", "auto", "default", "horde"];

/// How many names a complaint lists.
const NAMED: usize = 20;

/// How much of a picture is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brush {
    /// All of it.
    Paint,
    /// What a mask shows.
    Repaint,
}

/// The models of a call that wants a text.
#[derive(Debug, Clone)]
pub(crate) struct TextChoice {
    /// Any of these.
    pub(crate) models: Vec<String>,
    /// How they want conversations to be written down.
    pub(crate) format: ChatFormat,
    /// How much the best worker takes.
    pub(crate) reach: TextReach,
}

impl App {
    /// Models of a kind that workers serve just now, the one first that is free first.
    pub(crate) fn served(&self, kind: WorkKind) -> Vec<ModelStatus> {
        let mut models = self.live().horde.models(kind, self.clock.now());
        models.retain(|model| model.count > 0);
        models.sort_by(|a, b| (a.eta, b.count, &a.name).cmp(&(b.eta, a.count, &b.name)));
        models
    }

    /// The models that a call wants a text of.
    pub(crate) fn choose_text(
        &self,
        wanted: Option<&str>,
        vision: Vision,
    ) -> GatewayResult<TextChoice> {
        let mut names = self.choose(WorkKind::Text, wanted)?;
        if vision == Vision::On {
            let seeing = self.live().horde.seeing_models(self.clock.now());
            names.retain(|name| seeing.contains(name));
            if names.is_empty() {
                return Err(nobody_sees(wanted, &seeing));
            }
        }
        let reference = self.reference();
        let format = |name: &String| reference.text().chat_format(name);
        let first = names.first().map_or(ChatFormat::Plain, format);
        // One prompt must do for all of them.
        let models: Vec<String> = names
            .into_iter()
            .filter(|name| format(name) == first)
            .collect();
        let now = self.clock.now();
        let reach = self.live().horde.text_reach(&models, vision, now);
        let Some(reach) = reach else {
            return Err(nobody(WorkKind::Text, wanted, &[]));
        };
        Ok(TextChoice {
            models,
            format: first,
            reach,
        })
    }

    /// The models that a call wants a picture of, by whether part of one is painted anew: the horde
    /// gives that to models that were made for it, and nothing else to these.
    pub(crate) fn choose_image(
        &self,
        wanted: Option<&str>,
        brush: Brush,
    ) -> GatewayResult<Vec<String>> {
        let mut names = self.choose(WorkKind::Image, wanted)?;
        let reference = self.reference();
        let is_for = |name: &String| reference.is_inpainting(name) == (brush == Brush::Repaint);
        names.retain(is_for);
        if !names.is_empty() {
            return Ok(names);
        }
        let work = match brush {
            Brush::Paint => "whole pictures",
            Brush::Repaint => "parts of pictures",
        };
        let others = self.choose(WorkKind::Image, None)?;
        let others: Vec<String> = others.into_iter().filter(is_for).collect();
        let advice = advice(&others);
        let message = match wanted.filter(|name| !is_any(name)) {
            Some(name) => format!("`{name}` does not paint {work}: {advice}"),
            None => format!("No worker paints {work} just now: {advice}"),
        };
        Err(GatewayError::no_model(message))
    }

    /// The models that a call wants, as they are called; whichever, if it does not mind.
    fn choose(&self, kind: WorkKind, wanted: Option<&str>) -> GatewayResult<Vec<String>> {
        let served = self.served(kind);
        let names: Vec<String> = served.into_iter().map(|model| model.name).collect();
        let wanted = wanted.filter(|name| !is_any(name));
        let chosen = match wanted {
            None => names.clone(),
            Some(name) => find(&names, name).map(str::to_owned).into_iter().collect(),
        };
        if chosen.is_empty() {
            return Err(nobody(kind, wanted, &names));
        }
        Ok(chosen)
    }
}

/// The served model that a name means: exactly, whatever the case, or without who it is by. A name
/// that means several means none.
fn find<'a>(names: &'a [String], wanted: &str) -> Option<&'a str> {
    let same = |name: &&'a String| name.as_str() == wanted;
    if let Some(name) = names.iter().find(same) {
        return Some(name);
    }
    let alike = |name: &&'a String| name.eq_ignore_ascii_case(wanted);
    if let Some(name) = names.iter().find(alike) {
        return Some(name);
    }
    let mut short = names.iter().filter(|name| {
        let plain = name.split("::").next().unwrap_or_default();
        let last = plain.rsplit('/').next().unwrap_or_default();
        last.eq_ignore_ascii_case(wanted) || plain.eq_ignore_ascii_case(wanted)
    });
    match (short.next(), short.next()) {
        (Some(name), None) => Some(name),
        _ => None,
    }
}

fn nobody(kind: WorkKind, wanted: Option<&str>, names: &[String]) -> GatewayError {
    let things = match kind {
        WorkKind::Image => "pictures",
        WorkKind::Text | WorkKind::Interrogation => "texts",
    };
    let what = match wanted {
        Some(name) => format!("No worker serves `{name}` just now"),
        None => format!("No worker makes {things} just now"),
    };
    GatewayError::no_model(format!("{what}: {}", advice(names)))
}

/// Workers there are, but none that looks at pictures.
fn nobody_sees(wanted: Option<&str>, seeing: &BTreeSet<String>) -> GatewayError {
    let who = match wanted.filter(|name| !is_any(name)) {
        Some(name) => format!("no worker looks at pictures with `{name}` just now"),
        None => "no worker looks at pictures just now".to_owned(),
    };
    let seeing: Vec<String> = seeing.iter().cloned().collect();
    GatewayError::unsupported("messages", &format!("{who}: {}", advice(&seeing)))
}

fn advice(names: &[String]) -> String {
    let known: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    match known.as_slice() {
        [] => "try again later".to_owned(),
        known => format!("`any` takes what there is; there are {}", known.join(", ")),
    }
}

fn is_any(name: &str) -> bool {
    ANY.contains(&name.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_model_or_none() {
        let names = ["a/Big-7B", "a/small::me#1", "b/small", "b/Other"].map(str::to_owned);
        for (wanted, expected) in [
            ("a/Big-7B", Some("a/Big-7B")),
            ("A/BIG-7b", Some("a/Big-7B")),
            ("big-7b", Some("a/Big-7B")),
            ("a/small", Some("a/small::me#1")),
            ("small", None),
            ("other", Some("b/Other")),
            ("thing", None),
            ("", None),
        ] {
            assert_eq!(find(&names, wanted), expected, "{wanted}");
        }
    }
}
