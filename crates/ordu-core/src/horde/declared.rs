//! What a worker says at a pop, of whatever kind.

use ordu_api::alchemy::AlchemyPop;
use ordu_api::image::ImagePop;
use ordu_api::text::TextPop;
use ordu_api::worker::WorkKind;
use serde::de::DeserializeOwned;

/// What a worker says at a pop.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// An image worker's pop.
    Image(Box<ImagePop>),
    /// A text worker's pop.
    Text(Box<TextPop>),
    /// An alchemist's pop.
    Alchemy(Box<AlchemyPop>),
}

/// The part of a pop that all kinds have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common<'a> {
    /// The worker's name.
    pub name: &'a str,
    /// `name:version:contact`.
    pub agent: &'a str,
    /// Aliases of users to serve first.
    pub priority_usernames: &'a [String],
    /// What it serves: models, or forms.
    pub models: &'a [String],
    /// Jobs at the same time.
    pub threads: u32,
    /// Jobs that it takes at once.
    pub amount: u32,
    /// Whether it serves NSFW requests.
    pub nsfw: bool,
}

impl Declared {
    /// The kind of work that is offered.
    pub const fn kind(&self) -> WorkKind {
        match self {
            Self::Image(_) => WorkKind::Image,
            Self::Text(_) => WorkKind::Text,
            Self::Alchemy(_) => WorkKind::Interrogation,
        }
    }

    /// What all kinds have in common.
    pub fn common(&self) -> Common<'_> {
        match self {
            Self::Image(pop) => Common {
                name: &pop.name,
                agent: &pop.bridge_agent,
                priority_usernames: &pop.priority_usernames,
                models: &pop.models,
                threads: pop.threads,
                amount: pop.amount,
                nsfw: pop.nsfw,
            },
            Self::Text(pop) => Common {
                name: &pop.name,
                agent: &pop.bridge_agent,
                priority_usernames: &pop.priority_usernames,
                models: &pop.models,
                threads: pop.threads,
                amount: pop.amount,
                nsfw: pop.nsfw,
            },
            Self::Alchemy(pop) => Common {
                name: &pop.name,
                agent: &pop.bridge_agent,
                priority_usernames: &pop.priority_usernames,
                models: &pop.forms,
                threads: pop.threads,
                amount: pop.amount,
                nsfw: false,
            },
        }
    }

    /// Replaces the worker's name.
    pub fn set_name(&mut self, name: String) {
        match self {
            Self::Image(pop) => pop.name = name,
            Self::Text(pop) => pop.name = name,
            Self::Alchemy(pop) => pop.name = name,
        }
    }

    /// The pop of an image worker.
    pub const fn image(&self) -> Option<&ImagePop> {
        match self {
            Self::Image(pop) => Some(pop),
            Self::Text(_) | Self::Alchemy(_) => None,
        }
    }

    /// The pop of a text worker.
    pub const fn text(&self) -> Option<&TextPop> {
        match self {
            Self::Text(pop) => Some(pop),
            Self::Image(_) | Self::Alchemy(_) => None,
        }
    }

    /// Reads what was written by [`Self::to_json`]. What cannot be read any more reads as if the
    /// worker had said nothing.
    pub fn from_json(kind: WorkKind, text: &str) -> Self {
        match kind {
            WorkKind::Image => Self::Image(Box::new(read(text))),
            WorkKind::Text => Self::Text(Box::new(read(text))),
            WorkKind::Interrogation => Self::Alchemy(Box::new(read(text))),
        }
    }

    /// The pop as it was sent.
    pub fn to_json(&self) -> String {
        let text = match self {
            Self::Image(pop) => serde_json::to_string(pop),
            Self::Text(pop) => serde_json::to_string(pop),
            Self::Alchemy(pop) => serde_json::to_string(pop),
        };
        // Nothing in a pop can fail to be written: its keys are texts, its numbers are finite.
        text.unwrap_or_default()
    }
}

impl From<ImagePop> for Declared {
    fn from(pop: ImagePop) -> Self {
        Self::Image(Box::new(pop))
    }
}

impl From<TextPop> for Declared {
    fn from(pop: TextPop) -> Self {
        Self::Text(Box::new(pop))
    }
}

impl From<AlchemyPop> for Declared {
    fn from(pop: AlchemyPop) -> Self {
        Self::Alchemy(Box::new(pop))
    }
}

fn read<T: DeserializeOwned + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}
