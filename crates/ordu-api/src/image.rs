//! Image generation: what a client asks for, what a worker is given, what it hands back.
//!
//! # Source
//! `generation.md` § 3 (asking), § 6 (workers). Defaults are the effective ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::explanation::Explanation;
use crate::ids::{JobId, RequestId, WorkerId};

mod fields;
mod job;

pub(crate) use fields::PARAMS as PARAM_FIELDS;
pub use fields::{
    CONTROL_TYPES, METADATA_TYPES, METADATA_VALUES, POP_SCHEMA, POST_PROCESSORS, REQUEST_SCHEMA,
    SAMPLERS, SUBMIT_SCHEMA, SUBMIT_STATES,
};
pub use job::{
    DRAIN, ImageJob, ImagePayload, ImagePop, ImageSubmit, Metadata, Reward, SubmitState, UPLOADED,
};

/// What a client asks for at `POST /generate/async`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire is a list of switches"
)]
pub struct ImageRequest {
    /// What to paint; the part after the first `###` is what to avoid.
    pub prompt: String,
    /// How to paint.
    pub params: ImageParams,
    /// Whether results may be NSFW.
    pub nsfw: bool,
    /// Whether accidental NSFW is censored when `nsfw` is false.
    pub censor_nsfw: bool,
    /// Whether only workers of trusted owners may serve.
    pub trusted_workers: bool,
    /// Means something for text only.
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
    /// URL or base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_image: Option<String>,
    /// What to do with the source image.
    pub source_processing: SourceProcessing,
    /// URL or base64; white is redrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mask: Option<String>,
    /// More pictures, for remix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_source_images: Vec<ExtraSourceImage>,
    /// Whether results are delivered as URL instead of base64.
    pub r2: bool,
    /// Whether results go to the public dataset.
    pub shared: bool,
    /// Whether a suspicious prompt is sanitised instead of refused.
    pub replacement_filter: bool,
    /// Whether only the price is asked.
    pub dry_run: bool,
    /// The end user of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied_account: Option<String>,
    /// Whether each picture must be a job of its own.
    pub disable_batching: bool,
    /// Whether to shrink the request instead of refusing it.
    pub allow_downgrade: bool,
    /// Where each result is posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// A style's id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

impl Default for ImageRequest {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            params: ImageParams::default(),
            nsfw: true,
            censor_nsfw: true,
            trusted_workers: false,
            validated_backends: false,
            slow_workers: true,
            extra_slow_workers: false,
            workers: Vec::new(),
            worker_blacklist: false,
            models: vec!["stable_diffusion".to_owned()],
            source_image: None,
            source_processing: SourceProcessing::Img2Img,
            source_mask: None,
            extra_source_images: Vec::new(),
            r2: true,
            shared: false,
            replacement_filter: true,
            dry_run: false,
            proxied_account: None,
            disable_batching: false,
            allow_downgrade: false,
            webhook: None,
            style: None,
        }
    }
}

/// How to paint. `None` means that the client did not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "the wire names; `PARAMS` documents each with its bounds"
)]
pub struct ImageParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cfg_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_variation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub karras: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denoising_strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hires_fix: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hires_fix_denoising_strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiling: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_processing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facefixer_strength: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Lora>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tis: Vec<TextualInversion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_is_control: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_control_map: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_texts: Vec<ExtraText>,
}

/// A low-rank adaptation to apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lora {
    /// CivitAI model id, version id or free name.
    pub name: String,
    /// Strength on the diffusion model.
    #[serde(default = "one")]
    pub model: f64,
    /// Strength on the text encoder.
    #[serde(default = "one")]
    pub clip: f64,
    /// `any`, `all` or a trigger's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject_trigger: Option<String>,
    /// Whether `name` is a version id.
    #[serde(default)]
    pub is_version: bool,
}

/// A textual inversion to apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextualInversion {
    /// CivitAI id or free name.
    pub name: String,
    /// `prompt` or `negprompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject_ti: Option<String>,
    /// Weight of the injected token.
    #[serde(default = "one")]
    pub strength: f64,
}

/// A text that a workflow needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
pub struct ExtraText {
    /// The text itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// One more picture, for remix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExtraSourceImage {
    /// URL or base64.
    #[serde(default)]
    pub image: String,
    /// Its weight.
    #[serde(default = "one")]
    pub strength: f64,
}

fn one() -> f64 {
    1.0
}

/// What to do with a source image.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SourceProcessing {
    /// Redraw it.
    #[default]
    Img2Img,
    /// Redraw what the mask shows.
    Inpainting,
    /// Draw what lies around it.
    Outpainting,
    /// Mix it with others.
    Remix,
}

/// The answer 202 to an accepted request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedRequest {
    /// The request's id: the capability to watch and cancel it.
    pub id: RequestId,
    /// The price of one picture before burn and model multiplier, in kudos.
    #[serde(default)]
    pub kudos: f64,
    /// Something the requester should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What may go less well than hoped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The answer 200 to a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// The full estimate, in kudos.
    pub kudos: f64,
    /// What it is made of; adds up to it exactly. Not part of the deployed protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdown: Vec<PriceItem>,
}

/// The answer 200 to a dry run for pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageDryRun {
    /// The price.
    #[serde(flatten)]
    pub price: DryRun,
    /// Advice, as an accepted request gets it. Not part of the deployed protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A part of a price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceItem {
    /// What it is for: `drawing`, `tax`, `size`, `rounding`, else the name of a member of the
    /// request.
    pub name: String,
    /// Which of several, or how much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What it adds, in kudos; less than nothing if it makes the rest cheaper.
    pub kudos: f64,
}

/// What may go less well than hoped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Machine name, such as `NoAvailableWorker`.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// How far a request is: the answer of `check`, and the head of `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Progress {
    /// Jobs with a result.
    pub finished: u32,
    /// Jobs with a worker.
    pub processing: u32,
    /// Jobs that faulted.
    pub restarted: u32,
    /// Results that no worker has yet.
    pub waiting: u32,
    /// Whether nothing more will come.
    pub done: bool,
    /// Whether the request was given up.
    pub faulted: bool,
    /// Expected seconds until everything is there.
    pub wait_time: u64,
    /// Place in the queue from 1; 0 when nothing waits.
    pub queue_position: u64,
    /// Kudos charged so far.
    pub kudos: f64,
    /// Whether some worker that is online could serve it.
    pub is_possible: bool,
    /// How far the job that runs longest is, if its worker tells. Not part of the deployed protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// Why nobody takes it, if `explain=true` asked for that. Not part of the deployed protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Box<Explanation>>,
}

/// How far a running job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steps {
    /// Sampling steps done.
    pub step: u32,
    /// Sampling steps in all.
    pub of: u32,
}

/// The answer of `GET /generate/status/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestStatus {
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// Whether results go to the public dataset.
    #[serde(default)]
    pub shared: bool,
    /// What is there already, oldest first.
    #[serde(default)]
    pub generations: Vec<Generation>,
}

/// One delivered picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Download URL, or base64 WebP, or `N/A`.
    pub img: String,
    /// The seed that the worker used.
    pub seed: String,
    /// The job.
    pub id: JobId,
    /// Whether the picture was replaced for what it showed.
    #[serde(default)]
    pub censored: bool,
    /// What the worker had to say about it.
    #[serde(default)]
    pub gen_metadata: Vec<Metadata>,
    /// Who made it.
    pub worker_id: WorkerId,
    /// Who made it, by name.
    #[serde(default)]
    pub worker_name: String,
    /// With which model.
    #[serde(default)]
    pub model: String,
    /// Always `ok`.
    #[serde(default)]
    pub state: String,
}
