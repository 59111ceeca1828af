//! Pictures: what they need of a worker, and what an image worker has.
//!
//! # Source
//! `generation.md` § 6.4, § 6.6, § 6.7, § 6.10.

use std::sync::Arc;

use ordu_api::ReturnCode;
use ordu_api::image::ImagePop;

use crate::agent::{Agent, CONTROLNET_LINES, LINES};
use crate::horde::Declared;
use crate::horde::demand::Size;
use crate::horde::needs::{Needs, OTHER_CONTROLS, Reason, Schedule, Switch};
use crate::horde::offer::{Capacity, Fast, Offer, Pace, Terms};
use crate::image::ImageSpec;
use crate::model_reference::{Baseline, ModelReference};
use crate::pricing::{self, Loras};
use crate::{Kudos, Refusal, Role, Standing};

/// The most models of an image worker that count.
pub const MAX_MODELS: usize = 300;
/// The most refused words of a worker that count.
const MAX_BLACKLIST: usize = 200;
/// Refused words are cut to so many characters.
const MAX_BLACKLIST_WORD: usize = 15;
/// Fewest steps of a model that does not say.
const DEFAULT_MIN_STEPS: u32 = 20;
/// Most steps of a model that does not say.
const DEFAULT_MAX_STEPS: u32 = 40;
/// What a request for fast workers wants, in pixelsteps a second.
const FAST_PIXELSTEPS: f64 = 500_000.0;
/// The shortest time for a batch, in seconds.
const MIN_TTL: f64 = 150.0;

/// What a picture needs besides what any request does.
pub(in crate::horde) fn needs(needs: &mut Needs, spec: &ImageSpec) {
    if spec.r2 {
        needs.ability("r2");
    }
    source(needs, spec);
    style(needs, spec);
    additions(needs, spec);
}

/// What the picture starts from.
fn source(needs: &mut Needs, spec: &ImageSpec) {
    if spec.source_image.is_some() {
        needs.switch(Switch::SourceImage);
        needs.ability("img2img");
    }
    if spec.is_painting() {
        needs.switch(Switch::Painting);
        needs.switch(Switch::InpaintingModel);
        needs.ability("inpainting");
    } else {
        needs.switch(Switch::OrdinaryModel);
    }
    if !spec.extra_source_images.is_empty() {
        needs.ability("extra_source_images");
    }
    if let Some(kind) = spec.control_type.as_ref() {
        needs.switch(Switch::ControlNet);
        needs.ability("controlnet");
        if !LINES.contains(&kind.as_str()) {
            needs.ability(OTHER_CONTROLS);
        }
        if spec.image_is_control {
            needs.ability("image_is_control");
        }
    }
    if spec.return_control_map {
        needs.ability("return_control_map");
    }
}

/// How it is drawn.
fn style(needs: &mut Needs, spec: &ImageSpec) {
    let schedule = if spec.karras {
        Schedule::Karras
    } else {
        Schedule::Plain
    };
    needs.sampler(&spec.sampler_name, schedule);
    if spec.tiling {
        needs.ability("tiling");
    }
    if spec.hires_fix {
        needs.ability("hires_fix");
    }
    if spec.clip_skip.is_some_and(|skip| skip > 1) {
        needs.ability("clip_skip");
    }
    if spec.transparent {
        needs.switch(Switch::SdxlControlNet);
        needs.ability("layer_diffuse");
    }
    if spec.workflow.is_some() {
        // Agents that are known by name and draw these are also steered by all control types; one that
        // declares what it can do need not be.
        needs.ability("qr_code");
    }
}

/// What comes on top of the model.
fn additions(needs: &mut Needs, spec: &ImageSpec) {
    if !spec.post_processing.is_empty() {
        needs.switch(Switch::PostProcessing);
        needs.ability("post-processing");
    }
    for name in &spec.post_processing {
        needs.ability(name);
    }
    if !spec.loras.is_empty() {
        needs.switch(Switch::Lora);
        needs.ability("lora");
    }
    if spec.loras.iter().any(|lora| lora.is_version) {
        needs.ability("lora_versions");
    }
    if !spec.tis.is_empty() {
        needs.ability("textual_inversion");
    }
}

/// A pop with the models and the refused words that count, and the worker's software.
///
/// # Errors
/// `BadRequest` if a model is branded for somebody else, or no model is left.
pub(in crate::horde) fn accept(
    pop: &ImagePop,
    owner: &Standing,
    reference: &ModelReference,
) -> Result<(Declared, Agent), Refusal> {
    let mut pop = pop.clone();
    pop.models = accepted_models(&pop.models, owner, reference)?;
    pop.blacklist = blacklist(&pop.blacklist);
    let agent = match &pop.capabilities {
        Some(words) => Agent::declared(&pop.bridge_agent, words),
        None => Agent::parse(&pop.bridge_agent),
    };
    Ok((pop.into(), agent))
}

fn accepted_models(
    models: &[String],
    owner: &Standing,
    reference: &ModelReference,
) -> Result<Vec<String>, Refusal> {
    let mut accepted: Vec<String> = Vec::new();
    for name in models.iter().take(MAX_MODELS) {
        let brand = name.split_once("::").map(|(_, alias)| alias);
        let is_branded = owner.roles.has(Role::Special) && brand.is_some();
        if is_branded && brand != Some(owner.alias.as_str()) {
            let message = format!("The model `{name}` belongs to somebody else");
            return Err(Refusal::new(ReturnCode::BadRequest, message));
        }
        let may_serve =
            is_branded || owner.roles.has(Role::Customizer) || reference.get(name).is_some();
        if may_serve && !accepted.contains(name) {
            accepted.push(name.clone());
        }
    }
    if accepted.is_empty() {
        let message = "Unfortunately we cannot accept workers serving unrecognised models at this \
                       time, offer a model of the reference";
        return Err(Refusal::new(ReturnCode::BadRequest, message));
    }
    Ok(accepted)
}

fn blacklist(words: &[String]) -> Vec<String> {
    let cut = |word: &String| {
        let lower = word.to_lowercase();
        lower.chars().take(MAX_BLACKLIST_WORD).collect::<String>()
    };
    let words = words.iter().take(MAX_BLACKLIST).map(cut);
    words.filter(|word| !word.is_empty()).collect()
}

/// What only image workers are particular about.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the offer, independent of the others"
)]
pub(in crate::horde) struct Limits {
    /// Words in prompts that are refused, in lower case.
    pub(in crate::horde) blacklist: Arc<[String]>,
    /// Whether requests of many steps are refused.
    pub(in crate::horde) limit_steps: bool,
    /// Whether some models do not fit some requests; else naming one is enough.
    pub(in crate::horde) is_particular: bool,
    flux: bool,
    two_pass_cascade: bool,
    sdxl_control: bool,
}

impl Limits {
    /// Whether a request must be looked at itself, not only at its demand.
    pub(in crate::horde) fn is_picky(&self) -> bool {
        self.limit_steps || !self.blacklist.is_empty()
    }

    /// What keeps a single model from serving, though the worker as a whole could.
    pub(in crate::horde) fn obstacle(&self, baseline: Baseline, needs: Needs) -> Option<Reason> {
        let lacks = match baseline {
            Baseline::Flux1 => !self.flux,
            Baseline::StableCascade => !self.two_pass_cascade && needs.has_ability("hires_fix"),
            _ => false,
        };
        if lacks {
            return Some(Reason::BridgeVersion);
        }
        let refuses = baseline == Baseline::StableDiffusionXl
            && !self.sdxl_control
            && needs.has_ability("qr_code");
        refuses.then_some(Reason::Controlnet)
    }
}

/// What an image worker's offer amounts to.
pub(in crate::horde) fn terms(offer: &Offer, pop: &ImagePop, reference: &ModelReference) -> Terms {
    let flux = offer.agent.can("flux");
    let two_pass_cascade = offer.agent.can("stable_cascade_2pass");
    let sdxl_control = pop.allow_sdxl_controlnet;
    let lacks = |model: &String| match reference.baseline(model) {
        Baseline::Flux1 => !flux,
        Baseline::StableCascade => !two_pass_cascade,
        Baseline::StableDiffusionXl => !sdxl_control,
        _ => false,
    };
    Terms {
        held: held(offer, pop, reference),
        max_size: Size {
            extent: u64::try_from(pop.max_pixels).unwrap_or(0),
            length: 0,
        },
        pace: Pace::of(pop.extra_slow_worker),
        fast: Fast::AtLeast(FAST_PIXELSTEPS),
        hopeful: Fast::AtLeast(FAST_PIXELSTEPS),
        serves_unnamed: false,
        softprompts: Vec::new(),
        require_upfront: pop.require_upfront_kudos,
        image: Limits {
            blacklist: pop.blacklist.clone().into(),
            limit_steps: pop.limit_max_steps,
            is_particular: pop.models.iter().any(lacks),
            flux,
            two_pass_cascade,
            sdxl_control,
        },
    }
}

/// What an image worker has, except its speed.
fn held(offer: &Offer, pop: &ImagePop, reference: &ModelReference) -> Needs {
    let is_inpainting = |model: &&String| reference.is_inpainting(model);
    let inpainting_models = pop.models.iter().filter(is_inpainting).count();
    let lines = offer.agent.can(CONTROLNET_LINES);
    let switches = [
        (pop.nsfw, Switch::Nsfw),
        (offer.owner.roles.has(Role::Trusted), Switch::TrustedOwner),
        (!pop.extra_slow_worker, Switch::Prompt),
        (pop.allow_unsafe_ipaddr, Switch::UnsafeAddress),
        (pop.allow_img2img, Switch::SourceImage),
        (pop.allow_painting, Switch::Painting),
        (inpainting_models > 0, Switch::InpaintingModel),
        (inpainting_models < pop.models.len(), Switch::OrdinaryModel),
        (pop.allow_post_processing, Switch::PostProcessing),
        (pop.allow_controlnet || lines, Switch::ControlNet),
        (pop.allow_sdxl_controlnet, Switch::SdxlControlNet),
        (pop.allow_lora, Switch::Lora),
    ];
    let mut held = Needs::of(&switches);
    for word in &offer.agent.abilities {
        held.held_ability(word);
    }
    if pop.allow_controlnet && offer.agent.can("controlnet") {
        held.held_ability(OTHER_CONTROLS);
    }
    if lines {
        held.held_ability("controlnet");
    }
    for name in &offer.agent.karras_samplers {
        held.sampler(name, Schedule::Karras);
    }
    for name in &offer.agent.plain_samplers {
        held.sampler(name, Schedule::Plain);
    }
    held
}

/// The mean of the fewest and the most steps of a model.
///
/// # Source
/// `generation.md` § 6.7 check 18; `observed.md` 7.
pub(in crate::horde) fn step_limit(name: &str, reference: &ModelReference) -> f64 {
    let wanted = reference.get(name).map(|model| &model.requirements);
    let fewest = wanted.and_then(|wanted| wanted.min_steps);
    let most = wanted.and_then(|wanted| wanted.max_steps);
    let fewest = f64::from(fewest.unwrap_or(DEFAULT_MIN_STEPS));
    f64::midpoint(fewest, f64::from(most.unwrap_or(DEFAULT_MAX_STEPS)))
}

/// How many results a worker may make at once.
///
/// # Source
/// `generation.md` § 6.10, with the factor by baseline.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to 1…20; areas are far below 2^53"
)]
pub(in crate::horde) fn batch(
    spec: &ImageSpec,
    capacity: &Capacity,
    reference: &ModelReference,
) -> u32 {
    if spec.disable_batching {
        return 1;
    }
    let by_model = |baseline| match baseline {
        Baseline::QwenImage => 10.0,
        Baseline::ZImageTurbo => 8.0,
        Baseline::Flux1 => 5.0,
        _ => 1.0,
    };
    let by_model = spec.baselines(reference).map(by_model).fold(1.0, f64::max);
    let post_processors = u32::try_from(spec.post_processing.len()).unwrap_or(u32::MAX);
    let mut by_post_processing = 1.0 + 0.4 * f64::from(post_processors);
    if spec.is_heavy() {
        by_post_processing *= 1.8;
    }
    let room = capacity.max_size.extent as f64 / 3.5 * f64::from(capacity.amount);
    let each = spec.pixels() as f64 * by_post_processing * by_model;
    let amount = f64::from(capacity.amount.max(1));
    (room / each).round().clamp(1.0, amount) as u32
}

/// Seconds until the horde gives up on a batch.
///
/// # Source
/// `generation.md` § 6.10.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "at most some hundred thousand seconds; areas are far below 2^53"
)]
pub(in crate::horde) fn ttl(spec: &ImageSpec, pace: Pace, reference: &ModelReference) -> u64 {
    let areas = spec.pixels() as f64 / (512.0 * 512.0);
    let mut seconds = 30.0 + 2.0 * f64::from(spec.accurate_steps()) * areas;
    if spec.control_type.is_some() {
        seconds *= 2.0;
    }
    if spec.baselines(reference).any(Baseline::is_large) {
        seconds *= 3.0;
    }
    seconds = seconds.max(MIN_TTL);
    if pace == Pace::ExtraSlow {
        seconds *= 3.0;
    }
    seconds.round() as u64
}

/// The reward for having been online for a while.
pub(in crate::horde) fn uptime_reward(pop: &ImagePop) -> Kudos {
    let loras = if pop.allow_lora {
        Loras::Allowed
    } else {
        Loras::Refused
    };
    pricing::image_uptime(pop.models.len(), loras)
}
