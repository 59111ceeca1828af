//! Image requests: what is allowed, what is meant, what a worker gets.
//!
//! A client's [`ImageRequest`] becomes an [`ImageSpec`] only through [`check`]; nothing unchecked
//! can be priced or queued. Knows no prices and no queue.
//!
//! # Source
//! `generation.md` § 3.

mod rules;
pub mod seed;
pub mod warnings;

#[cfg(test)]
mod tests;

use ordu_api::WorkerId;
use ordu_api::image::{
    ExtraSourceImage, ExtraText, ImageParams, ImagePayload, ImageRequest, Lora, SourceProcessing,
    TextualInversion,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::asking;
use crate::model_reference::{Baseline, ModelReference};
use crate::rare::{self, Rare};
use crate::{Refusal, Role, Standing};

pub use warnings::warnings;

/// Steps when nothing was said.
const DEFAULT_STEPS: u32 = 30;
/// Steps with a control type when nothing was said.
const DEFAULT_CONTROL_STEPS: u32 = 20;
/// More steps than this are silently lowered with a control type.
const MAX_CONTROL_STEPS: u32 = 40;

/// The post-processors that make a picture larger.
///
/// # Source
/// `generation.md` § 3.2.
pub const UPSCALERS: &[&str] = &[
    "RealESRGAN_x4plus",
    "RealESRGAN_x2plus",
    "RealESRGAN_x4plus_anime_6B",
    "NMKD_Siax",
    "4x_AnimeSharp",
    "4xNomos8kSC",
    "4xLSDIRplus",
    "4xNomosWebPhoto_RealPLKSR",
    "4xNomos2_realplksr_dysample",
    "4xNomos2_hq_dat2",
    "2xModernSpanimationV1",
];

/// The post-processors that leave little memory for a batch.
const HEAVY_POST_PROCESSORS: &[&str] = &[
    "RealESRGAN_x4plus",
    "RealESRGAN_x4plus_anime_6B",
    "NMKD_Siax",
    "4x_AnimeSharp",
    "CodeFormers",
    "4xNomos8kSC",
    "4xLSDIRplus",
    "4xNomos2_hq_dat2",
    "RestoreFormer",
];

/// Samplers that evaluate the model twice a step.
const SECOND_ORDER_SAMPLERS: &[&str] = &[
    "k_heun",
    "k_dpm_2",
    "k_dpm_2_a",
    "k_dpmpp_2s_a",
    "k_dpmpp_sde",
];

/// Steps of the sampler that chooses them itself.
const ADAPTIVE_STEPS: u32 = 40;

/// Versions of LoRAs that make a model fast.
const LCM_LORA_VERSIONS: &[&str] = &[
    "246747", "247778", "268475", "243643", "225222", "219782", "363353",
];

/// LoRAs that make a model fast, by name.
const LCM_LORAS: &[&str] = &["195519", "216190", "324115"];

/// A checked image request with every default filled in. Sizes are pixels.
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
    reason = "the wire names; `ordu_api::image` documents each"
)]
pub struct ImageSpec {
    pub prompt: String,
    /// Acceptable models; empty for any.
    #[serde(deserialize_with = "rare::exact")]
    pub models: Vec<String>,
    /// How many pictures, 1…20.
    pub n: u32,
    pub width: u32,
    pub height: u32,
    /// 1…500, as the worker gets them.
    pub steps: u32,
    pub sampler_name: String,
    pub cfg_scale: f64,
    pub karras: bool,
    pub tiling: bool,
    pub hires_fix: bool,
    pub transparent: bool,
    pub image_is_control: bool,
    pub return_control_map: bool,
    /// Folded to 32 bits; `None` for a fresh one at each job.
    pub seed: Option<u32>,
    pub seed_variation: Option<u32>,
    pub denoising_strength: Option<f64>,
    pub hires_fix_denoising_strength: Option<f64>,
    pub clip_skip: Option<u32>,
    pub facefixer_strength: Option<f64>,
    pub post_processing: Rare<Vec<String>>,
    pub loras: Rare<Vec<Lora>>,
    pub tis: Rare<Vec<TextualInversion>>,
    pub special: Rare<Option<Map<String, Value>>>,
    pub workflow: Rare<Option<String>>,
    pub control_type: Rare<Option<String>>,
    pub extra_texts: Rare<Vec<ExtraText>>,
    pub nsfw: bool,
    pub censor_nsfw: bool,
    pub trusted_workers: bool,
    pub slow_workers: bool,
    pub extra_slow_workers: bool,
    /// At most [`asking::MAX_WORKERS`].
    pub workers: Rare<Vec<WorkerId>>,
    pub worker_blacklist: bool,
    pub source_processing: SourceProcessing,
    /// As the client sent it, until whoever stores it puts the name of the stored object here.
    pub source_image: Rare<Option<String>>,
    /// Like `source_image`.
    pub source_mask: Rare<Option<String>>,
    /// Like `source_image`.
    pub extra_source_images: Rare<Vec<ExtraSourceImage>>,
    pub r2: bool,
    pub shared: bool,
    pub disable_batching: bool,
    pub webhook: Rare<Option<String>>,
    pub proxied_account: Rare<Option<String>>,
}

impl Default for ImageSpec {
    /// What an empty request means.
    fn default() -> Self {
        Self::merge(&ImageRequest::default())
    }
}

/// Checks a request and fills in its defaults: steps 9, 11, 13, 18–26 and 28–34 of the protocol's
/// order, which decides which refusal wins.
///
/// Some come before others that need more than the request (worker ids, concurrency, address): see
/// [`precheck`] and [`check_models`].
///
/// # Errors
/// The first rule that is broken, with the code that the protocol names for it.
///
/// # Source
/// `generation.md` § 3.3.
pub fn check(
    request: &ImageRequest,
    standing: &Standing,
    reference: &ModelReference,
) -> Result<ImageSpec, Refusal> {
    precheck(request, standing)?;
    check_batching(request, standing)?;
    check_models(request, standing, reference)?;
    let subject = rules::Subject {
        request,
        params: &request.params,
        standing,
        reference,
    };
    rules::apply(rules::REST, &subject)?;
    let mut spec = ImageSpec::merge(request);
    spec.workers = asking::worker_ids(&request.workers)?.into();
    if standing.roles.has(Role::Education) {
        spec.nsfw = false;
        spec.censor_nsfw = true;
        spec.trusted_workers = true;
    }
    Ok(spec)
}

/// The steps that come before the look at workers: NUL characters, then 9 and 11. [`check`] repeats
/// them.
///
/// # Errors
/// The first rule that is broken.
pub fn precheck(request: &ImageRequest, standing: &Standing) -> Result<(), Refusal> {
    let nothing = ModelReference::default();
    let subject = rules::Subject {
        request,
        params: &request.params,
        standing,
        reference: &nothing,
    };
    rules::apply(rules::FIRST, &subject)
}

/// Step 13, between the looks at workers and at concurrency. [`check`] repeats it.
///
/// # Errors
/// `RequiresTrust` for several results that must not be batched.
pub fn check_batching(request: &ImageRequest, standing: &Standing) -> Result<(), Refusal> {
    if !request.disable_batching {
        return Ok(());
    }
    asking::unbatched(request.params.n.unwrap_or(1), standing)
}

/// Steps 18–26, which come before the look at who hides during a raid. [`check`] repeats them.
///
/// # Errors
/// The first rule that is broken.
pub fn check_models(
    request: &ImageRequest,
    standing: &Standing,
    reference: &ModelReference,
) -> Result<(), Refusal> {
    let subject = rules::Subject {
        request,
        params: &request.params,
        standing,
        reference,
    };
    rules::apply(rules::MODELS, &subject)
}

/// Splits a prompt at the first `###` into what to paint and what to avoid.
pub fn split_prompt(prompt: &str) -> (&str, Option<&str>) {
    match prompt.split_once("###") {
        Some((positive, negative)) => (positive, Some(negative)),
        None => (prompt, None),
    }
}

impl ImageSpec {
    /// The request with every default filled in, unchecked.
    fn merge(request: &ImageRequest) -> Self {
        let params = request.params.clone();
        let steps = merged_steps(&params);
        // A QR code is laid out for one picture at a time.
        let disable_batching = request.disable_batching || params.workflow.is_some();
        Self {
            prompt: request.prompt.clone(),
            models: request.models.clone(),
            n: params.n.unwrap_or(1),
            width: params.width.unwrap_or(512),
            height: params.height.unwrap_or(512),
            steps,
            sampler_name: params
                .sampler_name
                .unwrap_or_else(|| "k_euler_a".to_owned()),
            cfg_scale: params.cfg_scale.unwrap_or(5.0),
            karras: params.karras.unwrap_or(true),
            tiling: params.tiling.unwrap_or(false),
            hires_fix: params.hires_fix.unwrap_or(false),
            transparent: params.transparent.unwrap_or(false),
            image_is_control: params.image_is_control.unwrap_or(false),
            return_control_map: params.return_control_map.unwrap_or(false),
            seed: params.seed.as_deref().and_then(seed::from_text),
            seed_variation: params.seed_variation,
            denoising_strength: params.denoising_strength,
            hires_fix_denoising_strength: params.hires_fix_denoising_strength,
            clip_skip: params.clip_skip,
            facefixer_strength: params.facefixer_strength,
            post_processing: params.post_processing.into(),
            loras: params.loras.into(),
            tis: params.tis.into(),
            special: params.special.into(),
            workflow: params.workflow.into(),
            control_type: params.control_type.into(),
            extra_texts: params.extra_texts.into(),
            nsfw: request.nsfw,
            censor_nsfw: request.censor_nsfw,
            trusted_workers: request.trusted_workers,
            slow_workers: request.slow_workers,
            extra_slow_workers: request.extra_slow_workers,
            workers: Rare::default(),
            worker_blacklist: request.worker_blacklist,
            source_processing: request.source_processing,
            source_image: request.source_image.clone().into(),
            source_mask: request.source_mask.clone().into(),
            extra_source_images: request.extra_source_images.clone().into(),
            r2: request.r2,
            // Sharing is off for everybody, whatever was asked (§ 3.1).
            shared: false,
            disable_batching,
            webhook: request.webhook.clone().into(),
            proxied_account: request.proxied_account.clone().into(),
        }
    }

    /// The picture's area in pixels.
    pub const fn pixels(&self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// How often the model is evaluated for one picture.
    ///
    /// # Source
    /// `generation.md` § 3.2.3.
    pub fn accurate_steps(&self) -> u32 {
        let sampler = self.sampler_name.as_str();
        if sampler == "k_dpm_adaptive" {
            ADAPTIVE_STEPS
        } else if SECOND_ORDER_SAMPLERS.contains(&sampler) {
            self.steps.saturating_mul(2)
        } else {
            self.steps
        }
    }

    /// Work in one picture, in pixelsteps.
    pub fn pixelsteps(&self) -> u64 {
        self.pixels()
            .saturating_mul(u64::from(self.accurate_steps()))
    }

    /// Whether few steps suffice because of a sampler or a LoRA made for that.
    pub fn is_lcm(&self) -> bool {
        let is_lcm_lora = |lora: &Lora| {
            let name = lora.name.as_str();
            LCM_LORAS.contains(&name) || lora.is_version && LCM_LORA_VERSIONS.contains(&name)
        };
        self.sampler_name == "lcm" || self.loras.iter().any(is_lcm_lora)
    }

    /// Whether there is a source image to paint over or around.
    pub fn is_painting(&self) -> bool {
        let wants = matches!(
            self.source_processing,
            SourceProcessing::Inpainting | SourceProcessing::Outpainting
        );
        wants && self.source_image.is_some()
    }

    /// Whether something in it leaves little memory for a batch.
    pub fn is_heavy(&self) -> bool {
        let is_heavy = |name: &String| HEAVY_POST_PROCESSORS.contains(&name.as_str());
        self.transparent || self.post_processing.iter().any(is_heavy)
    }

    /// The families of the models that it names, in their order.
    pub fn baselines<'a>(
        &'a self,
        reference: &'a ModelReference,
    ) -> impl Iterator<Item = Baseline> + 'a {
        self.models.iter().map(|model| reference.baseline(model))
    }

    /// What a worker gets for a batch of `batch` pictures.
    ///
    /// # Source
    /// `generation.md` § 6.8: exactly these keys, and only with a value.
    pub fn payload(&self, batch: u32, seed: u32) -> ImagePayload {
        ImagePayload {
            prompt: Some(self.prompt.clone()),
            ddim_steps: self.steps,
            n_iter: batch,
            use_nsfw_censor: (!self.nsfw && self.censor_nsfw).then_some(true),
            seed: Some(seed.to_string()),
            sampler_name: self.sampler_name.clone(),
            cfg_scale: self.cfg_scale,
            width: self.width,
            height: self.height,
            karras: self.karras,
            tiling: self.tiling,
            hires_fix: self.hires_fix,
            transparent: self.transparent,
            image_is_control: self.image_is_control,
            return_control_map: self.return_control_map,
            denoising_strength: self.denoising_strength,
            hires_fix_denoising_strength: self.hires_fix_denoising_strength,
            clip_skip: self.clip_skip,
            post_processing: self.post_processing.value(),
            facefixer_strength: self.facefixer_strength,
            loras: self.loras.value(),
            tis: self.tis.value(),
            special: self.special.value(),
            workflow: self.workflow.value(),
            control_type: self.control_type.value(),
            extra_texts: self.extra_texts.value(),
        }
    }
}

fn merged_steps(params: &ImageParams) -> u32 {
    match (&params.control_type, params.steps) {
        (None, steps) => steps.unwrap_or(DEFAULT_STEPS),
        (Some(_), None) => DEFAULT_CONTROL_STEPS,
        (Some(_), Some(steps)) => steps.min(MAX_CONTROL_STEPS),
    }
}
