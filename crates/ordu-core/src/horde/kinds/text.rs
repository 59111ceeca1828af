//! Texts: what they need of a worker, and what a text worker has.
//!
//! # Source
//! `generation.md` § 6.2–6.4, § 6.6, § 6.7, § 6.10, § 6.14.

use ordu_api::ReturnCode;
use ordu_api::text::TextPop;

use crate::agent::{Agent, VISION};
use crate::horde::Declared;
use crate::horde::demand::Size;
use crate::horde::needs::{Needs, Switch};
use crate::horde::offer::{Capacity, Fast, Offer, Pace, Terms};
use crate::pricing::text::{self as pricing, Writer};
use crate::text::TextSpec;
use crate::text_models::{TextModel, TextModels};
use crate::{Kudos, Refusal, Role, Standing};

/// The most models of a text worker that count.
const MAX_MODELS: usize = 200;
/// The most soft prompts of a worker that count.
const MAX_SOFTPROMPTS: usize = 200;
/// Names of soft prompts are cut to so many characters.
const MAX_SOFTPROMPT_CHARS: usize = 100;
/// Seconds until the horde gives up on a batch.
pub(in crate::horde) const TTL: u64 = 150;
/// The speed, in tokens a second, that is fast enough to hope for a request for fast workers.
const HOPEFUL_SPEED: f64 = 2.0;
/// The speeds, in tokens a second, of fast workers by the billions of parameters that their model
/// has at least.
const FAST_SPEEDS: &[(f64, f64)] = &[(20.0, 3.0), (13.0, 4.0), (0.0, 5.0)];
/// The same for a worker that names no model.
const FAST_WITHOUT_MODEL: f64 = 3.0;

/// What a text needs besides what any request does.
pub(in crate::horde) fn needs(needs: &mut Needs, spec: &TextSpec) {
    if spec.validated_backends {
        needs.switch(Switch::ValidatedBackend);
    }
    if !spec.extra_source_images.is_empty() {
        needs.ability(VISION);
    }
}

/// How large a text is.
pub(in crate::horde) fn size(spec: &TextSpec) -> Size {
    Size {
        extent: u64::from(spec.max_context_length),
        length: u64::from(spec.max_length),
    }
}

/// A pop with the models that count, and the worker's software.
///
/// # Errors
/// `BadRequest` if a model is branded for somebody else.
pub(in crate::horde) fn accept(
    pop: &TextPop,
    owner: &Standing,
) -> Result<(Declared, Agent), Refusal> {
    let mut pop = pop.clone();
    pop.models = accepted_models(&pop.models, owner)?;
    pop.softprompts.truncate(MAX_SOFTPROMPTS);
    for name in &mut pop.softprompts {
        *name = name.chars().take(MAX_SOFTPROMPT_CHARS).collect();
    }
    let agent = match &pop.capabilities {
        Some(words) => Agent::declared(&pop.bridge_agent, words),
        None => Agent::parse(&pop.bridge_agent),
    };
    Ok((pop.into(), agent))
}

fn accepted_models(models: &[String], owner: &Standing) -> Result<Vec<String>, Refusal> {
    let mut accepted: Vec<String> = Vec::new();
    for name in models.iter().take(MAX_MODELS) {
        let brand = name.split_once("::").map(|(_, alias)| alias);
        if brand.is_some_and(|alias| alias != owner.alias) {
            let message = format!("The model `{name}` belongs to somebody else");
            return Err(Refusal::new(ReturnCode::BadRequest, message));
        }
        if !accepted.contains(name) {
            accepted.push(name.clone());
        }
    }
    Ok(accepted)
}

/// What a text worker's offer amounts to.
pub(in crate::horde) fn terms(offer: &Offer, pop: &TextPop, models: &TextModels) -> Terms {
    let switches = [
        (pop.nsfw, Switch::Nsfw),
        (offer.owner.roles.has(Role::Trusted), Switch::TrustedOwner),
        (!pop.extra_slow_worker, Switch::Prompt),
        // Only image workers are asked whether they serve such addresses.
        (true, Switch::UnsafeAddress),
        (offer.agent.is_validated_backend(), Switch::ValidatedBackend),
    ];
    let mut held = Needs::of(&switches);
    if offer.sees() {
        held.ability(VISION);
    }
    Terms {
        held,
        max_size: Size {
            extent: u64::try_from(pop.max_context_length).unwrap_or(0),
            length: u64::try_from(pop.max_length).unwrap_or(0),
        },
        pace: Pace::of(pop.extra_slow_worker),
        fast: Fast::AtLeast(fast_speed(&pop.models, models)),
        hopeful: Fast::AtLeast(HOPEFUL_SPEED),
        require_upfront: pop.require_upfront_kudos,
        // A worker that names no model serves requests that name none either.
        serves_unnamed: pop.models.is_empty(),
        softprompts: pop.softprompts.clone(),
        image: super::image::Limits::default(),
    }
}

/// From which speed on a worker is fast, in tokens a second: judged by its first model.
fn fast_speed(names: &[String], models: &TextModels) -> f64 {
    let Some(first) = names.first() else {
        return FAST_WITHOUT_MODEL;
    };
    let billions = models.find(first).map_or(0.0, TextModel::billions);
    let row = FAST_SPEEDS.iter().find(|(size, _)| billions >= *size);
    row.map_or(FAST_WITHOUT_MODEL, |(_, speed)| *speed)
}

/// How many texts a worker may write at once.
pub(in crate::horde) const fn batch(spec: &TextSpec, capacity: &Capacity) -> u32 {
    if spec.disable_batching {
        1
    } else {
        capacity.amount
    }
}

/// The reward for having been online for a while.
pub(in crate::horde) fn uptime_reward(offer: &Offer, pop: &TextPop, models: &TextModels) -> Kudos {
    let writer = Writer {
        model: pop.models.first().map_or("", String::as_str),
        validated: offer.agent.is_validated_backend(),
        trusted: offer.owner.roles.has(Role::Trusted),
    };
    pricing::uptime(pop.max_context_length, writer, models)
}
