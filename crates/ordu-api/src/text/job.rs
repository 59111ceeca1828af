//! The worker's half: what it offers, what it is given, what it hands back.
//!
//! # Source
//! `generation.md` § 6.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TextParams;
use crate::ids::JobId;
use crate::image::{ExtraSourceImage, Metadata, SubmitState};
use crate::worker::{Skipped, WorkerMessage};

/// What a text worker can do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextPop {
    /// The worker's name.
    pub name: String,
    /// Aliases of users to serve first.
    pub priority_usernames: Vec<String>,
    /// Whether it serves NSFW requests.
    pub nsfw: bool,
    /// The models it can run.
    pub models: Vec<String>,
    /// `name:version:contact`.
    pub bridge_agent: String,
    /// Jobs at the same time.
    pub threads: u32,
    /// Whether requesters must be able to pay.
    pub require_upfront_kudos: bool,
    /// The largest batch.
    pub amount: u32,
    /// Whether it calls itself slow.
    pub extra_slow_worker: bool,
    /// The longest text that it writes, in tokens.
    pub max_length: i64,
    /// The longest context that it reads, in tokens.
    pub max_context_length: i64,
    /// Soft prompts that it has.
    pub softprompts: Vec<String>,
    /// What it can do, by word; replaces the judgement by agent name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

impl Default for TextPop {
    fn default() -> Self {
        Self {
            name: String::new(),
            priority_usernames: Vec::new(),
            nsfw: true,
            models: Vec::new(),
            bridge_agent: crate::UNKNOWN_AGENT.to_owned(),
            threads: 1,
            require_upfront_kudos: false,
            amount: 1,
            extra_slow_worker: false,
            max_length: 512,
            max_context_length: 2048,
            softprompts: Vec::new(),
            capabilities: None,
        }
    }
}

/// The answer to a pop: a batch of jobs of one request, or the reasons why there is none.
///
/// Every member is always present, `null` when empty: strict clients read them all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextJob {
    /// What to write; defaults when there is no job.
    pub payload: TextPayload,
    /// The first job of the batch; `None` when there is none.
    #[serde(default)]
    pub id: Option<JobId>,
    /// All jobs of the batch.
    #[serde(default)]
    pub ids: Vec<JobId>,
    /// News for whoever runs the worker.
    #[serde(default)]
    pub messages: Vec<WorkerMessage>,
    /// Seconds until the horde gives up on the worker.
    #[serde(default)]
    pub ttl: Option<u64>,
    /// Pictures to look at, as links. In the prompt [`picture_mark`](super::picture_mark) stands
    /// where each was; those without it come before the prompt.
    #[serde(default)]
    pub extra_source_images: Option<Vec<ExtraSourceImage>>,
    /// Why waiting requests were passed over.
    #[serde(default)]
    pub skipped: Skipped,
    /// Which of its soft prompts to use.
    #[serde(default)]
    pub softprompt: Option<String>,
    /// Which of the offered models to use.
    #[serde(default)]
    pub model: Option<String>,
}

/// What to write, as a worker gets it: the parameters with what must never be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextPayload {
    /// What to go on from; nothing when there is no job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<String>,
    /// How to write; `n` is 1 in a job.
    #[serde(flatten)]
    pub params: TextParams,
}

impl Default for TextPayload {
    /// The payload of an answer without a job.
    fn default() -> Self {
        Self {
            prompt: None,
            params: TextParams::default().with_defaults(),
        }
    }
}

impl TextParams {
    /// What a worker gets where the client said nothing.
    ///
    /// # Source
    /// `generation.md` § 4.2, the last column.
    #[must_use]
    pub fn with_defaults(self) -> Self {
        Self {
            max_length: self.max_length.or(Some(80)),
            max_context_length: self.max_context_length.or(Some(2048)),
            min_p: self.min_p.or(Some(0.0)),
            smoothing_factor: self.smoothing_factor.or(Some(0.0)),
            dynatemp_range: self.dynatemp_range.or(Some(0.0)),
            dynatemp_exponent: self.dynatemp_exponent.or(Some(1.0)),
            ..self
        }
    }
}

/// A finished or given-up job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextSubmit {
    /// The job.
    pub id: String,
    /// The text.
    pub generation: String,
    /// How it ended.
    #[serde(default)]
    pub state: SubmitState,
    /// The seed that was used.
    #[serde(default)]
    pub seed: i64,
    /// What there is to say about it.
    #[serde(default)]
    pub gen_metadata: Vec<Metadata>,
}
