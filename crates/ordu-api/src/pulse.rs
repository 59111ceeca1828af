//! The horde at work, for onlookers: `GET /status/pulse`. Ours: no other horde has it.
//!
//! # Source
//! `platform.md` § 5; `docs/decisions/0010`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::worker::WorkKind;

/// So many happenings a pulse tells at most.
pub const MAX_HAPPENINGS: usize = 30;

/// The data of a `pulse` event: what happened since the one before, and how things are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pulse {
    /// Results that were asked for.
    pub accepted: ByKind,
    /// Jobs that workers took.
    pub begun: ByKind,
    /// Results that were delivered.
    pub finished: ByKind,
    /// Jobs that came to nothing.
    pub faulted: ByKind,
    /// Results that no worker has yet.
    pub queued: ByKind,
    /// Results that a worker has.
    pub running: ByKind,
    /// Workers that are online.
    pub workers: ByKind,
    /// What happened, at most 30; the counts know of more.
    pub happenings: Vec<Happening>,
}

/// A number for each kind of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByKind {
    /// Pictures.
    pub image: u64,
    /// Texts.
    pub text: u64,
    /// Forms.
    pub alchemy: u64,
}

impl ByKind {
    /// The number of a kind.
    pub const fn of_mut(&mut self, kind: WorkKind) -> &mut u64 {
        match kind {
            WorkKind::Image => &mut self.image,
            WorkKind::Text => &mut self.text,
            WorkKind::Interrogation => &mut self.alchemy,
        }
    }

    /// All together.
    pub const fn sum(&self) -> u64 {
        self.image + self.text + self.alchemy
    }
}

/// A job that began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Happening {
    /// `image`, `text` or `alchemy`.
    pub kind: String,
    /// The model, or the name of the form; left out if it is nobody's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The worker's name.
    pub worker: String,
    /// `begun`, `finished`, `faulted`; `returned` if nobody is to blame.
    pub what: What,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A worker took it.
    Begun,
    /// There is a result.
    Finished,
    /// It came to nothing.
    Faulted,
    /// The same, and nobody is to blame.
    Returned,
}
