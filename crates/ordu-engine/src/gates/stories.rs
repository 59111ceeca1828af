//! What the bundled text model must be able to do, measured by its own grammar.
//!
//! The model learned stories from a grammar that lies beside it (`grammar.json`); a text is right when
//! that grammar could have told it from its first word to its last, and its hero is the one of the
//! prompt.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::native::NativeText;
use crate::{Quiet, Sampling, TextEngine as _, TextError, TextTask};

const GRAMMAR: &str = include_str!("../../models/ordu-tiny-text/grammar.json");

/// Words that stay the same through a story, and whose words they are.
const KEPT: [(&str, &str); 4] = [
    ("colour", "colour"),
    ("shape", "shape"),
    ("other_colour", "colour"),
    ("other_shape", "shape"),
];
/// The slot that is filled with one of several templates.
const SUBJECT: &str = "subject";

/// The grammar of the stories.
#[derive(Debug, Deserialize)]
pub struct Grammar {
    words: BTreeMap<String, Vec<String>>,
    story: Vec<Vec<String>>,
    /// The templates of each part of a story.
    #[serde(flatten)]
    parts: BTreeMap<String, Vec<String>>,
}

/// What stays the same through a story, by the name of its slot.
pub type Cast = BTreeMap<String, String>;

/// How a story may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The words.
    pub prompt: String,
    /// The hero's colour.
    pub colour: String,
    /// The hero's shape.
    pub shape: String,
}

impl Grammar {
    /// The one of the bundled model.
    ///
    /// # Errors
    ///
    /// [`TextError::Failed`] if it is damaged, which a test excludes.
    pub fn bundled() -> Result<Self, TextError> {
        serde_json::from_str(GRAMMAR).map_err(|error| TextError::Failed {
            reason: error.to_string(),
        })
    }

    /// So many beginnings, each another one as far as there are so many: every colour, shape and kind of
    /// sentence in turn.
    pub fn beginnings(&self, count: usize) -> Vec<Beginning> {
        let nth = |list: &[String], place: usize| {
            let place = place.checked_rem(list.len()).unwrap_or_default();
            list.get(place).cloned().unwrap_or_default()
        };
        let word = |kind: &str, place| nth(self.list(kind), place);
        let beginning = |place: usize| {
            let (colour, shape) = (word("colour", place), word("shape", place / 8));
            let template = nth(self.part(SUBJECT), place / 3);
            let mut subject = template;
            for (slot, filling) in [
                ("colour", &colour),
                ("shape", &shape),
                ("size", &word("size", place / 2)),
                ("place", &word("place", place / 4)),
            ] {
                subject = subject.replace(&format!("{{{slot}}}"), filling);
            }
            Beginning {
                prompt: format!("{} {subject}", word("article", place)),
                colour,
                shape,
            }
        };
        (0..count).map(beginning).collect()
    }

    /// Who plays in a story, or `None` if the grammar does not tell such a one.
    pub fn read(&self, text: &str) -> Option<Cast> {
        let mut patterns = self.story.iter();
        patterns.find_map(|parts| self.sentences(parts, text, &Cast::new()))
    }

    fn list(&self, kind: &str) -> &[String] {
        self.words.get(kind).map_or(&[], Vec::as_slice)
    }

    fn part(&self, name: &str) -> &[String] {
        self.parts.get(name).map_or(&[], Vec::as_slice)
    }

    /// A text as one sentence for each part, with a space between two.
    fn sentences(&self, parts: &[String], text: &str, cast: &Cast) -> Option<Cast> {
        let Some((part, others)) = parts.split_first() else {
            return text.is_empty().then(|| cast.clone());
        };
        let templates = self.part(part).iter();
        templates
            .flat_map(|template| self.readings(template, text, cast))
            .find_map(|(rest, cast)| {
                let rest = if others.is_empty() {
                    rest
                } else {
                    rest.strip_prefix(' ')?
                };
                self.sentences(others, rest, &cast)
            })
    }

    /// All ways in which a text may begin with what a template says: what is left, and who plays.
    fn readings<'t>(&self, template: &str, text: &'t str, cast: &Cast) -> Vec<(&'t str, Cast)> {
        let (plain, behind) = template.split_once('{').unwrap_or((template, ""));
        let Some(text) = text.strip_prefix(plain) else {
            return Vec::new();
        };
        let Some((slot, template)) = behind.split_once('}') else {
            return vec![(text, cast.clone())];
        };
        if slot == SUBJECT {
            let subjects = self.part(SUBJECT).iter();
            return subjects
                .flat_map(|subject| self.readings(&format!("{subject}{template}"), text, cast))
                .collect();
        }
        let kept = KEPT.iter().find(|(kept, _)| *kept == slot);
        let words = self.list(kept.map_or(slot, |(_, kind)| kind)).iter();
        words
            .filter(|word| cast.get(slot).is_none_or(|known| known == *word))
            .filter_map(|word| Some((word, text.strip_prefix(word.as_str())?)))
            .flat_map(|(word, rest)| {
                let mut cast = cast.clone();
                if kept.is_some() {
                    cast.insert(slot.to_owned(), word.clone());
                }
                self.readings(template, rest, &cast)
            })
            .collect()
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoryReport {
    /// Stories that were written.
    pub prompts: usize,
    /// Share of those that the grammar could have told, 0…1.
    pub grammatical: f64,
    /// Share of those that are grammatical and go on about what the prompt is about.
    pub faithful: f64,
}

impl StoryReport {
    /// Whether the gate is kept: 95 of 100 stories are right.
    pub fn passed(&self) -> bool {
        self.faithful >= 0.95
    }
}

/// Has a model write so many stories at a temperature of 0.7, and judges them.
///
/// # Errors
///
/// Those of [`crate::TextEngine::write`].
pub fn stories(engine: &NativeText, prompts: usize) -> Result<StoryReport, TextError> {
    let grammar = Grammar::bundled()?;
    let (mut grammatical, mut faithful) = (0_u32, 0_u32);
    for (seed, beginning) in (100..).zip(grammar.beginnings(prompts)) {
        let task = TextTask {
            prompt: beginning.prompt.clone(),
            max_length: 120,
            max_context_length: 1024,
            sampling: Sampling {
                temperature: Some(0.7),
                ..Sampling::default()
            },
            seed: Some(seed),
            ..TextTask::default()
        };
        let text = engine.write(&task, &Quiet)?.text;
        let Some(cast) = grammar.read(&format!("{}{text}", beginning.prompt)) else {
            tracing::debug!(prompt = beginning.prompt, text, "no story");
            continue;
        };
        grammatical += 1;
        let is_hero = |slot: &str, word: &String| cast.get(slot) == Some(word);
        let named = format!("{} {}", beginning.colour, beginning.shape);
        if is_hero("colour", &beginning.colour)
            && is_hero("shape", &beginning.shape)
            && text.contains(&named)
        {
            faithful += 1;
        }
    }
    let share = |count: u32| f64::from(count) / f64::max(prompts as f64, 1.0);
    Ok(StoryReport {
        prompts,
        grammatical: share(grammatical),
        faithful: share(faithful),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_from_the_stories_of_others() {
        let grammar = Grammar::bundled().unwrap();
        let story = "A small red cross woke up early one night. One winter it met a blue circle. It \
                     asked the blue circle about the moon. And so the red cross was happy.";
        let cast = grammar.read(story).unwrap();
        assert_eq!((&*cast["colour"], &*cast["other_shape"]), ("red", "circle"));
        for (right, wrong) in [
            // Another hero, another friend, another word, an end that is missing, one too many.
            ("so the red", "so the blue"),
            ("asked the blue", "asked the green"),
            ("met a", "met the"),
            (" And so the red cross was happy.", ""),
            ("was happy.", "was happy. It sang."),
        ] {
            let story = story.replace(right, wrong);
            assert_eq!(grammar.read(&story), None, "{story}");
        }
        let there_was = "Once upon a time there was a large black square at the top left. Every evening it \
                         thought of the snow. And so the black square was happy.";
        assert_eq!(grammar.read(there_was).unwrap()["colour"], "black");
    }

    #[test]
    fn beginnings_are_all_different_and_begin_stories() {
        let grammar = Grammar::bundled().unwrap();
        let mut beginnings = grammar.beginnings(100);
        for beginning in &beginnings {
            let story = format!(
                "{} was looking for a friend. Every night it thought of the sea. And so the {} {} was happy.",
                beginning.prompt, beginning.colour, beginning.shape
            );
            assert!(grammar.read(&story).is_some(), "{story}");
        }
        beginnings.sort_by(|one, other| one.prompt.cmp(&other.prompt));
        beginnings.dedup();
        assert_eq!(beginnings.len(), 100);
    }
}
