//! Text generation: what a client asks for, what it sees of it.
//!
//! # Source
//! `generation.md` § 4 (asking), § 6 (workers). Defaults are the effective ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{RequestId, WorkerId};
use crate::image::{ExtraSourceImage, Metadata, Progress};

mod fields;
mod job;

pub(crate) use fields::PARAMS as PARAM_FIELDS;
pub use fields::{POP_SCHEMA, REQUEST_SCHEMA, SUBMIT_SCHEMA};
pub use job::{TextJob, TextPayload, TextPop, TextSubmit};

/// What stands in a prompt where one of its pictures belongs, counted from 1.
pub fn picture_mark(number: usize) -> String {
    format!("[image {number}]")
}

/// What a client asks for at `POST /generate/text/async`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire is a list of switches"
)]
pub struct TextRequest {
    /// What to go on from.
    pub prompt: String,
    /// How to write.
    pub params: TextParams,
    /// Only workers that have this soft prompt may serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softprompt: Option<String>,
    /// Whether only workers of trusted owners may serve.
    pub trusted_workers: bool,
    /// Whether only workers with a backend that is known to be honest may serve.
    pub validated_backends: bool,
    /// Whether slow workers may serve.
    pub slow_workers: bool,
    /// Whether workers that call themselves extra slow may serve.
    pub extra_slow_workers: bool,
    /// Worker ids that may, or with `worker_blacklist` may not, serve.
    pub workers: Vec<String>,
    /// Turns `workers` into exclusions.
    pub worker_blacklist: bool,
    /// Acceptable models; empty for any.
    pub models: Vec<String>,
    /// Pictures to look at: one, of trusted accounts and patrons at most five.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_source_images: Vec<ExtraSourceImage>,
    /// Whether only the price is asked.
    pub dry_run: bool,
    /// The end user of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied_account: Option<String>,
    /// Whether each text must be a job of its own.
    pub disable_batching: bool,
    /// Whether to shorten the request instead of refusing it.
    pub allow_downgrade: bool,
    /// Where each result is posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// A style's id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

impl Default for TextRequest {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            params: TextParams::default(),
            softprompt: None,
            trusted_workers: false,
            validated_backends: false,
            slow_workers: true,
            extra_slow_workers: false,
            workers: Vec::new(),
            worker_blacklist: false,
            models: Vec::new(),
            extra_source_images: Vec::new(),
            dry_run: false,
            proxied_account: None,
            disable_batching: false,
            allow_downgrade: false,
            webhook: None,
            style: None,
        }
    }
}

/// How to write, in the order that workers get it in. `None` means that the client did not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "the wire names; `PARAMS` documents each with its bounds"
)]
pub struct TextParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_context_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frmtadsnsp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frmtrmblln: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frmtrmspch: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frmttriminc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen_range: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen_slope: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub singleline: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tfs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_a: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler_order: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_badwordsids: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoothing_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_range: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_exponent: Option<f64>,
}

/// The answer 202 to an accepted request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedText {
    /// The request's id: the capability to watch and cancel it.
    pub id: RequestId,
    /// The estimated price of one text, in kudos.
    #[serde(default)]
    pub kudos: f64,
    /// Something the requester should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer of `GET /generate/text/status/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextStatus {
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// What is there already, oldest first.
    #[serde(default)]
    pub generations: Vec<TextGeneration>,
}

/// One delivered text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextGeneration {
    /// The text, without U+0000.
    pub text: String,
    /// The seed that the worker used.
    #[serde(default)]
    pub seed: i64,
    /// What the worker had to say about it.
    #[serde(default)]
    pub gen_metadata: Vec<Metadata>,
    /// Who wrote it.
    pub worker_id: WorkerId,
    /// Who wrote it, by name.
    #[serde(default)]
    pub worker_name: String,
    /// With which model.
    #[serde(default)]
    pub model: String,
    /// `ok`, `censored` or `csam`.
    #[serde(default)]
    pub state: String,
}
