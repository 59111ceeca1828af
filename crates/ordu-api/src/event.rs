//! What happens to a request, as it is told while it happens: `GET /generate/events/{id}`, and the
//! reports of workers that it comes from.
//!
//! Not part of the deployed protocol.
//!
//! # Source
//! `platform.md` § 4; `docs/decisions/0010`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::JobId;
use crate::image::{Generation, Progress, Steps};
use crate::schema::{Field, Kind, Schema};
use crate::text::TextGeneration;

/// The longest text or preview of a report, in characters.
pub const MAX_REPORT_CHARS: usize = 64 << 10;

/// The body of `POST /generate/progress`, by which a worker tells how far a job is.
pub const PROGRESS_SCHEMA: Schema = Schema {
    name: "JobProgress",
    fields: &[
        Field::required("id", Kind::TEXT, "The job."),
        Field::required(
            "step",
            Kind::integer(0, 100_000),
            "Sampling steps done; tokens written.",
        ),
        Field::required(
            "of",
            Kind::integer(1, 100_000),
            "Sampling steps in all; tokens at most.",
        ),
        Field::optional(
            "preview",
            Kind::text(0, MAX_REPORT_CHARS),
            "What the picture is going to be: a small WebP, JPEG or PNG as base64.",
        ),
        Field::optional(
            "text",
            Kind::text(0, MAX_REPORT_CHARS),
            "The whole text so far, not a piece of it.",
        ),
    ],
};

/// How far a job is. Never stored, only passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The job.
    pub id: String,
    /// How far.
    #[serde(flatten)]
    pub steps: Steps,
    /// What the picture is going to be: a small WebP, JPEG or PNG as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The whole text so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The answer to a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Heard {
    /// Whether somebody looks on: only then are previews and texts worth sending.
    pub watched: bool,
}

/// Something that happened to a request. Each says how things are, not what changed, except for
/// [`Event::Token`], which says where its piece belongs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It waits, wholly or partly: `queued`.
    Queued(Progress),
    /// A worker has taken a job of it: `assigned`.
    Assigned(Assigned),
    /// A job is so far: `progress`.
    Progress(JobSteps),
    /// A piece of a text: `token`.
    Token(Piece),
    /// A result is there: `generation`.
    Generation(Box<Generated>),
    /// Nothing more will come: `done`. The last event.
    Done(Progress),
    /// It was given up, or is gone: `faulted`. The last event.
    Faulted(Progress),
}

/// A job that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assigned {
    /// The job.
    pub id: JobId,
    /// With which model.
    #[serde(default)]
    pub model: String,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSteps {
    /// The job.
    pub id: JobId,
    /// How far.
    #[serde(flatten)]
    pub steps: Steps,
    /// What the picture is going to be: a small WebP, JPEG or PNG as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

/// A piece of a text that is being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Piece {
    /// The job.
    pub id: JobId,
    /// How far it is, in tokens.
    #[serde(flatten)]
    pub steps: Steps,
    /// Where the piece begins, in characters (Unicode code points) of the job's text. What was told
    /// of the text from there on is void.
    pub at: usize,
    /// The piece.
    pub text: String,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Generated {
    /// As the status shows it, with a link in `img`.
    Image(Generation),
    /// As the status shows it.
    Text(WrittenText),
}

/// A text with the job that wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenText {
    /// The job.
    pub id: JobId,
    /// As the status shows it.
    #[serde(flatten)]
    pub generation: TextGeneration,
}

impl Piece {
    /// Puts the piece where it belongs in what is known of the text. `None` if something before it is
    /// missing.
    #[must_use]
    pub fn put(&self, known: &str) -> Option<String> {
        let place = match known.char_indices().nth(self.at) {
            Some((place, _)) => place,
            None if known.chars().count() == self.at => known.len(),
            None => return None,
        };
        let kept = known.get(..place)?;
        Some(format!("{kept}{}", self.text))
    }

    /// The piece that makes `before` into `after`, as `(at, text)`; `None` if they are the same.
    pub fn between(before: &str, after: &str) -> Option<(usize, String)> {
        if before == after {
            return None;
        }
        let same = before.chars().zip(after.chars());
        let same = same.take_while(|(old, new)| old == new);
        let (at, bytes) = same.fold((0, 0), |(at, bytes), (_, new)| {
            (at + 1, bytes + new.len_utf8())
        });
        Some((at, after.get(bytes..).unwrap_or_default().to_owned()))
    }
}

impl Event {
    /// What it is called on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Assigned(_) => "assigned",
            Self::Progress(_) => "progress",
            Self::Token(_) => "token",
            Self::Generation(_) => "generation",
            Self::Done(_) => "done",
            Self::Faulted(_) => "faulted",
        }
    }

    /// Whether none comes after it.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Faulted(_))
    }

    /// What it carries.
    ///
    /// # Errors
    /// Never for what a server can say: every map has text for keys.
    pub fn data(&self) -> serde_json::Result<Value> {
        match self {
            Self::Queued(progress) | Self::Done(progress) | Self::Faulted(progress) => {
                serde_json::to_value(progress)
            }
            Self::Assigned(assigned) => serde_json::to_value(assigned),
            Self::Progress(steps) => serde_json::to_value(steps),
            Self::Token(piece) => serde_json::to_value(piece),
            Self::Generation(generated) => serde_json::to_value(generated),
        }
    }

    /// Reads an event of this name; `None` if the name is not known, which is no error: there may be
    /// more kinds of them one day.
    ///
    /// # Errors
    /// If the data are not what the name promises.
    pub fn read(name: &str, data: &str) -> serde_json::Result<Option<Self>> {
        Ok(Some(match name {
            "queued" => Self::Queued(serde_json::from_str(data)?),
            "assigned" => Self::Assigned(serde_json::from_str(data)?),
            "progress" => Self::Progress(serde_json::from_str(data)?),
            "token" => Self::Token(serde_json::from_str(data)?),
            "generation" => Self::Generation(serde_json::from_str(data)?),
            "done" => Self::Done(serde_json::from_str(data)?),
            "faulted" => Self::Faulted(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    fn piece(at: usize, text: &str) -> Piece {
        Piece {
            id: ID.parse().unwrap(),
            steps: Steps { step: 1, of: 2 },
            at,
            text: text.to_owned(),
        }
    }

    #[test]
    fn pieces_make_the_text_again_whatever_is_taken_back() {
        let texts = ["", "Hé", "Hé, you", "Hé, 😀", "Hé, 😀!", "other", ""];
        let mut known = String::new();
        for pair in texts.windows(2) {
            let (at, text) = Piece::between(pair[0], pair[1]).unwrap();
            known = piece(at, &text).put(&known).unwrap();
            assert_eq!(known, pair[1]);
        }
        assert_eq!(Piece::between("same", "same"), None);
        assert_eq!(piece(3, "x").put("ab"), None);
    }

    #[test]
    fn events_read_as_they_were_written() {
        let progress = || Progress {
            waiting: 1,
            ..Progress::default()
        };
        let picture = json!({"img": "https://x", "seed": "1", "id": ID, "worker_id": ID});
        let text = json!({"text": "t", "seed": 1, "id": ID, "worker_id": ID, "worker_name": "w",
            "model": "m", "state": "ok", "gen_metadata": []});
        let generated = |value: &Value| {
            let event = Event::read("generation", &value.to_string()).unwrap();
            event.unwrap()
        };
        assert!(
            matches!(generated(&picture), Event::Generation(it) if matches!(*it, Generated::Image(_)))
        );
        assert!(
            matches!(generated(&text), Event::Generation(it) if matches!(*it, Generated::Text(_)))
        );
        for event in [
            Event::Queued(progress()),
            Event::Assigned(Assigned {
                id: ID.parse().unwrap(),
                model: "m".to_owned(),
            }),
            Event::Progress(JobSteps {
                id: ID.parse().unwrap(),
                steps: Steps { step: 1, of: 2 },
                preview: None,
            }),
            Event::Token(piece(3, "x")),
            generated(&picture),
            generated(&text),
            Event::Done(progress()),
            Event::Faulted(progress()),
        ] {
            let data = event.data().unwrap().to_string();
            let read = Event::read(event.name(), &data).unwrap();
            assert_eq!(read.as_ref(), Some(&event));
            assert_eq!(event.is_last(), matches!(event.name(), "done" | "faulted"));
        }
        assert_eq!(Event::read("unheard", "?").unwrap(), None);
        assert!(Event::read("done", "?").is_err());
    }
}
