//! Text requests: what is allowed, what is meant, what a worker gets.
//!
//! A client's [`TextRequest`] becomes a [`TextSpec`] only through [`check`]; nothing unchecked can
//! be priced or queued. Knows no prices and no queue.
//!
//! # Source
//! `generation.md` § 4.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use ordu_api::image::ExtraSourceImage;
use ordu_api::text::{TextParams, TextPayload, TextRequest};
use ordu_api::{ReturnCode, WorkerId};
use serde::{Deserialize, Serialize};

use crate::asking::{self, Verdict, refuse_if};
use crate::rare::{self, Rare};
use crate::{Refusal, Role, Standing};

/// The samplers that an order must name.
const SAMPLERS: usize = 7;
/// The most distinct stop sequences of a request.
const MAX_STOP_SEQUENCES: usize = 128;
/// The most characters in them together.
const MAX_STOP_CHARS: usize = 2000;
/// Tokens of a text when nothing was said.
const DEFAULT_LENGTH: u32 = 80;
/// Tokens of a context when nothing was said.
const DEFAULT_CONTEXT: u32 = 2048;

/// A checked text request with every default filled in. Lengths are tokens.
///
/// Stored as JSON: members may be added, never renamed; what is missing reads as its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the protocol is a list of switches"
)]
#[expect(
    missing_docs,
    reason = "the wire names; `ordu_api::text` documents each"
)]
pub struct TextSpec {
    pub prompt: String,
    /// Acceptable models; empty for any.
    #[serde(deserialize_with = "rare::exact")]
    pub models: Vec<String>,
    /// How many texts, 1…20.
    pub n: u32,
    /// 16…4096.
    pub max_length: u32,
    /// 80…1,048,576.
    pub max_context_length: u32,
    /// As the worker gets them, except what has a member of its own here.
    pub params: TextParams,
    pub softprompt: Rare<Option<String>>,
    /// As the client sent them, until whoever stores them puts the names of the stored objects
    /// here.
    pub extra_source_images: Rare<Vec<ExtraSourceImage>>,
    pub trusted_workers: bool,
    pub validated_backends: bool,
    pub slow_workers: bool,
    pub extra_slow_workers: bool,
    /// At most [`asking::MAX_WORKERS`].
    pub workers: Rare<Vec<WorkerId>>,
    pub worker_blacklist: bool,
    pub disable_batching: bool,
    pub webhook: Rare<Option<String>>,
    pub proxied_account: Rare<Option<String>>,
    /// Whether a style went into it.
    pub styled: bool,
}

impl Default for TextSpec {
    /// What an empty request means.
    fn default() -> Self {
        Self::merge(&TextRequest::default())
    }
}

/// Whether text requests may bring pictures to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vision {
    /// They may not, as everywhere today.
    #[default]
    Off,
    /// They may; workers get them that say [`VISION`](crate::agent::VISION).
    On,
}

/// Checks a request and fills in its defaults, in the protocol's order, which decides which refusal
/// wins. Some rules come before a look at workers and concurrency: see [`precheck`].
///
/// # Errors
/// The first rule that is broken, with the code that the protocol names for it.
///
/// # Source
/// `generation.md` § 4.3.
pub fn check(
    request: &TextRequest,
    standing: &Standing,
    vision: Vision,
) -> Result<TextSpec, Refusal> {
    precheck(request, standing)?;
    check_batching(request, standing)?;
    let mut spec = TextSpec::merge(request);
    token_overflow(&spec)?;
    sampler_order(&request.params)?;
    stop_sequences(&request.params)?;
    extra_images(request, vision)?;
    spec.workers = asking::worker_ids(&request.workers)?.into();
    if standing.roles.has(Role::Education) {
        spec.trusted_workers = true;
    }
    Ok(spec)
}

/// The rules that come before the look at workers. [`check`] repeats them.
///
/// # Errors
/// The first rule that is broken.
pub fn precheck(request: &TextRequest, standing: &Standing) -> Result<(), Refusal> {
    asking::no_nul(texts(request))?;
    asking::extra_image_count(request.extra_source_images.len(), standing)?;
    refuse_if(
        request.prompt.is_empty(),
        ReturnCode::MissingPrompt,
        "The prompt is empty, say what to go on from",
    )
}

/// The rule that comes between the looks at workers and at concurrency. [`check`] repeats it.
///
/// # Errors
/// `RequiresTrust` for several results that must not be batched.
pub fn check_batching(request: &TextRequest, standing: &Standing) -> Result<(), Refusal> {
    if !request.disable_batching {
        return Ok(());
    }
    asking::unbatched(request.params.n.unwrap_or(1), standing)
}

/// Everything in a request that is stored as it came.
fn texts(request: &TextRequest) -> impl Iterator<Item = &str> {
    let options = [
        &request.softprompt,
        &request.proxied_account,
        &request.webhook,
    ];
    let stops = request.params.stop_sequence.iter().flatten();
    std::iter::once(&request.prompt)
        .chain(options.into_iter().flatten())
        .chain(&request.models)
        .chain(stops)
        .map(String::as_str)
}

fn token_overflow(spec: &TextSpec) -> Verdict {
    let (length, context) = (spec.max_length, spec.max_context_length);
    refuse_if(
        context < length,
        ReturnCode::TokenOverflow,
        format!("A text of {length} tokens does not fit into a context of {context}"),
    )
}

fn sampler_order(params: &TextParams) -> Verdict {
    let Some(order) = &params.sampler_order else {
        return Ok(());
    };
    let distinct = order.iter().collect::<BTreeSet<_>>().len();
    refuse_if(
        distinct < SAMPLERS,
        ReturnCode::MissingFullSamplerOrder,
        format!("`sampler_order` names {distinct} samplers, all {SAMPLERS} are needed"),
    )
}

fn stop_sequences(params: &TextParams) -> Verdict {
    let distinct: BTreeSet<&String> = params.stop_sequence.iter().flatten().collect();
    let count = distinct.len();
    refuse_if(
        count > MAX_STOP_SEQUENCES,
        ReturnCode::TooManyStopSequences,
        format!("{count} stop sequences, {MAX_STOP_SEQUENCES} are allowed"),
    )?;
    let chars: usize = distinct.iter().map(|text| text.chars().count()).sum();
    refuse_if(
        chars > MAX_STOP_CHARS,
        ReturnCode::ExcessiveStopSequence,
        format!("{chars} characters of stop sequences, {MAX_STOP_CHARS} are allowed"),
    )
}

fn extra_images(request: &TextRequest, vision: Vision) -> Verdict {
    refuse_if(
        vision == Vision::Off && !request.extra_source_images.is_empty(),
        ReturnCode::InvalidExtraSourceImages,
        "Text requests take no extra source images here",
    )
}

impl TextSpec {
    /// The request with every default filled in, unchecked.
    fn merge(request: &TextRequest) -> Self {
        let params = request.params.clone();
        Self {
            prompt: request.prompt.clone(),
            models: request.models.clone(),
            n: params.n.unwrap_or(1),
            max_length: params.max_length.unwrap_or(DEFAULT_LENGTH),
            max_context_length: params.max_context_length.unwrap_or(DEFAULT_CONTEXT),
            params,
            softprompt: request.softprompt.clone().into(),
            extra_source_images: request.extra_source_images.clone().into(),
            trusted_workers: request.trusted_workers,
            validated_backends: request.validated_backends,
            slow_workers: request.slow_workers,
            extra_slow_workers: request.extra_slow_workers,
            workers: Rare::default(),
            worker_blacklist: request.worker_blacklist,
            disable_batching: request.disable_batching,
            webhook: request.webhook.clone().into(),
            proxied_account: request.proxied_account.clone().into(),
            styled: request.style.is_some(),
        }
    }

    /// What a worker gets; each job is one text.
    ///
    /// # Source
    /// `generation.md` § 6.8.
    pub fn payload(&self) -> TextPayload {
        let params = TextParams {
            n: Some(1),
            max_length: Some(self.max_length),
            max_context_length: Some(self.max_context_length),
            ..self.params.clone()
        };
        TextPayload {
            prompt: Some(self.prompt.clone()),
            params: params.with_defaults(),
        }
    }
}
