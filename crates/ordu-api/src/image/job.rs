//! The worker's half: what it offers, what it is given, what it hands back.
//!
//! # Source
//! `generation.md` § 6.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ExtraSourceImage, ExtraText, Lora, SourceProcessing, TextualInversion};
use crate::ids::JobId;
use crate::worker::{Skipped, WorkerMessage};

/// What an image worker can do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire is a list of switches"
)]
pub struct ImagePop {
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
    /// The largest picture, in pixels.
    pub max_pixels: i64,
    /// Words in prompts that it refuses.
    pub blacklist: Vec<String>,
    /// Whether it takes source images.
    pub allow_img2img: bool,
    /// Whether it takes inpainting and outpainting.
    pub allow_painting: bool,
    /// Whether it serves requests from unsafe addresses.
    pub allow_unsafe_ipaddr: bool,
    /// Whether it runs post-processors.
    pub allow_post_processing: bool,
    /// Whether it runs `ControlNet`.
    pub allow_controlnet: bool,
    /// Whether it runs `ControlNet` on SDXL.
    pub allow_sdxl_controlnet: bool,
    /// Whether it runs the control types beyond the classic ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_extended_controlnet: bool,
    /// Whether it fetches and applies `LoRAs`.
    pub allow_lora: bool,
    /// Whether it refuses requests of many steps.
    pub limit_max_steps: bool,
    /// What it can do, by word; replaces the judgement by agent name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

impl Default for ImagePop {
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
            max_pixels: 262_144,
            blacklist: Vec::new(),
            allow_img2img: true,
            allow_painting: true,
            allow_unsafe_ipaddr: true,
            allow_post_processing: true,
            allow_controlnet: false,
            allow_sdxl_controlnet: false,
            allow_extended_controlnet: false,
            allow_lora: false,
            limit_max_steps: false,
            capabilities: None,
        }
    }
}

/// The answer to a pop: a batch of jobs of one request, or the reasons why there is none.
///
/// Every member is always present, `null` when empty: strict clients read them all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageJob {
    /// What to paint; defaults when there is no job.
    pub payload: ImagePayload,
    /// The first job of the batch; `None` when there is none.
    #[serde(default)]
    pub id: Option<JobId>,
    /// All jobs of the batch.
    #[serde(default)]
    pub ids: Vec<JobId>,
    /// Seconds until the horde gives up on the worker.
    #[serde(default)]
    pub ttl: Option<u64>,
    /// Why waiting requests were passed over.
    #[serde(default)]
    pub skipped: Skipped,
    /// Which of the offered models to use.
    #[serde(default)]
    pub model: Option<String>,
    /// URL or base64.
    #[serde(default)]
    pub source_image: Option<String>,
    /// What to do with it.
    #[serde(default)]
    pub source_processing: SourceProcessing,
    /// URL or base64.
    #[serde(default)]
    pub source_mask: Option<String>,
    /// More pictures, for remix.
    #[serde(default)]
    pub extra_source_images: Option<Vec<ExtraSourceImage>>,
    /// Where the first result goes.
    #[serde(default)]
    pub r2_upload: Option<String>,
    /// Where each result goes, in the order of `ids`.
    #[serde(default)]
    pub r2_uploads: Option<Vec<String>>,
    /// News for whoever runs the worker.
    #[serde(default)]
    pub messages: Vec<WorkerMessage>,
}

/// What to paint, as a worker gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the wire names; `PARAMS` documents each with its bounds"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire is a list of switches"
)]
pub struct ImagePayload {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<String>,
    pub ddim_steps: u32,
    pub n_iter: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub use_nsfw_censor: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seed: Option<String>,
    pub sampler_name: String,
    pub cfg_scale: f64,
    pub width: u32,
    pub height: u32,
    pub karras: bool,
    pub tiling: bool,
    pub hires_fix: bool,
    pub transparent: bool,
    pub image_is_control: bool,
    pub return_control_map: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub denoising_strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hires_fix_denoising_strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clip_skip: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub post_processing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub facefixer_strength: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub loras: Vec<Lora>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tis: Vec<TextualInversion>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub special: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub control_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub extra_texts: Vec<ExtraText>,
}

impl Default for ImagePayload {
    /// The payload of an answer without a job.
    fn default() -> Self {
        Self {
            prompt: None,
            ddim_steps: 30,
            n_iter: 1,
            use_nsfw_censor: None,
            seed: None,
            sampler_name: "k_euler_a".to_owned(),
            cfg_scale: 7.5,
            width: 512,
            height: 512,
            karras: false,
            tiling: false,
            hires_fix: false,
            transparent: false,
            image_is_control: false,
            return_control_map: false,
            denoising_strength: None,
            hires_fix_denoising_strength: None,
            clip_skip: None,
            post_processing: Vec::new(),
            facefixer_strength: None,
            loras: Vec::new(),
            tis: Vec::new(),
            special: None,
            workflow: None,
            control_type: None,
            extra_texts: Vec::new(),
        }
    }
}

/// A finished or given-up job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSubmit {
    /// The job.
    pub id: String,
    /// [`UPLOADED`], or base64 WebP.
    pub generation: String,
    /// How it ended.
    #[serde(default)]
    pub state: SubmitState,
    /// The seed that was used.
    pub seed: i64,
    /// What there is to say about it.
    #[serde(default)]
    pub gen_metadata: Vec<Metadata>,
}

/// With this `ref`, a remark of the type `information` on a job that comes back without a result
/// says that the worker ends its work: nobody is to blame.
pub const DRAIN: &str = "drain";

/// What `generation` says when the picture was uploaded to the given address.
pub const UPLOADED: &str = "R2";

/// How a job ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubmitState {
    /// With a result.
    #[default]
    Ok,
    /// With a result that was replaced.
    Censored,
    /// Without one: the job goes back to the queue.
    Faulted,
    /// With a result that must not be seen.
    Csam,
}

/// One remark of a worker on a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// What it is about, one of [`super::METADATA_TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, one of [`super::METADATA_VALUES`].
    pub value: String,
    /// Which one.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The answer to a submit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reward {
    /// In kudos.
    pub reward: f64,
}
