//! What a text costs.
//!
//! # Source
//! `generation.md` § 7.3–7.9.

use super::upfront::{Load, Need};
use crate::Kudos;
use crate::text::TextSpec;
use crate::text_models::{TextModel, TextModels};

/// Characters of a token, about.
const CHARS_PER_TOKEN: usize = 4;
/// A text counts as at least so many tokens.
const FEWEST_TOKENS: u32 = 20;
/// Models up to this size, in billions of parameters, are priced alike by their size alone.
const ORDINARY_SIZE: f64 = 13.0;
/// What a token of a model is worth that nobody knows.
const UNKNOWN_TOKEN: f64 = 0.027;
/// What a backend is worth that may not be what it says.
const UNVALIDATED: f64 = 0.3;

/// Who wrote a text, as far as its price depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer<'a> {
    /// With which model.
    pub model: &'a str,
    /// Whether its backend is known to be honest.
    pub validated: bool,
    /// Whether its owner is trusted.
    pub trusted: bool,
}

/// Tokens of a text, about.
fn tokens(text: &str, most: u32) -> f64 {
    let chars = text.chars().count();
    let tokens = u32::try_from(chars.div_ceil(CHARS_PER_TOKEN)).unwrap_or(u32::MAX);
    f64::from(tokens.max(FEWEST_TOKENS).min(most))
}

/// How much dearer a context of so many tokens makes a text.
fn context_factor(tokens: f64) -> f64 {
    (1.2 + 2.2_f64.powf((tokens / 1024.0).log2())).clamp(0.1, 30.0)
}

/// How much dearer a model makes a token: by its size, and more than that if it is large.
fn model_factor(billions: f64) -> f64 {
    (billions.max(ORDINARY_SIZE) / ORDINARY_SIZE).powf(0.2) * billions
}

/// What a text is worth, before burn: only the text itself tells.
///
/// # Source
/// `generation.md` § 7.7. As deployed, the context is that of the prompt, cut at the length of the
/// text, and a quantisation counts as unknown unless it is listed itself.
pub fn job_kudos(spec: &TextSpec, text: &str, writer: Writer<'_>, models: &TextModels) -> Kudos {
    let tokens_written = tokens(text, spec.max_length);
    let context = context_factor(tokens(&spec.prompt, spec.max_length));
    let price = match models.get(writer.model) {
        Some(model) => {
            let honesty = if writer.validated { 1.0 } else { UNVALIDATED };
            tokens_written * model_factor(model.billions()) / 125.0 * honesty * context
        }
        None if writer.trusted => tokens_written * context * UNKNOWN_TOKEN,
        None => context,
    };
    Kudos::round_to_cents(price)
}

/// What a text is expected to be worth, by the dearest model that it may be made with.
///
/// # Source
/// `generation.md` § 7.5; the dearest model is `observed.md` 13.
pub fn estimate(spec: &TextSpec, models: &TextModels) -> Kudos {
    let context = context_factor(f64::from(spec.max_context_length));
    let length = f64::from(spec.max_length);
    let by_model = |name: &String| match models.find(name) {
        Some(model) => length * model_factor(model.billions()) * context / 100.0,
        None => length * UNKNOWN_TOKEN * context,
    };
    let dearest = spec.models.iter().map(by_model).reduce(f64::max);
    let any_model = length * ORDINARY_SIZE * context / 100.0;
    Kudos::round_to_cents(dearest.unwrap_or(any_model))
}

/// The estimated price of all texts and the activation.
pub fn full_price(spec: &TextSpec, models: &TextModels) -> Kudos {
    let each = estimate(spec, models).as_f64() + 1.0;
    Kudos::round_to_cents(each * f64::from(spec.n) + 1.0)
}

/// What the requester pays for a text that is worth `worth`; zero for a censored one.
pub fn burn(worth: Kudos) -> Kudos {
    worth + Kudos::new(1)
}

/// What it costs to make a request active, once and never given back.
///
/// # Source
/// `generation.md` § 7.4.
pub fn activation_tax(spec: &TextSpec) -> Kudos {
    let pictures = i64::try_from(spec.extra_source_images.len()).unwrap_or(i64::MAX);
    Kudos::new(if spec.styled { 3 } else { 1 }) + Kudos::new(pictures.saturating_mul(5))
}

/// Whether a request needs its kudos upfront, and why.
///
/// # Source
/// `generation.md` § 7.6.
pub fn upfront(spec: &TextSpec, load: Load) -> Option<Need> {
    if !spec.slow_workers {
        return Some(Need::FastWorkers);
    }
    let limit = free_tokens(load);
    (spec.max_length > limit).then_some(Need::Tokens(limit))
}

/// How long a text may be that is free now: 256…512 tokens.
pub fn free_tokens(load: Load) -> u32 {
    let busy = load.queued.saturating_mul(9).saturating_add(5) / 10;
    let room = load.threads.saturating_mul(5).saturating_add(512);
    let limit = u32::try_from(room.saturating_sub(busy)).unwrap_or(u32::MAX);
    limit.clamp(256, 512)
}

/// What the requester must have if its kudos are needed upfront.
///
/// # Source
/// `generation.md` § 7.6.
pub fn upfront_price(spec: &TextSpec, models: &TextModels) -> Kudos {
    let size = |name: &String| models.find(name).map_or(1.0, TextModel::billions);
    let largest = spec.models.iter().map(size).reduce(f64::max);
    let each = match largest {
        None => Kudos::new(20),
        Some(billions) => Kudos::round_to_cents(f64::from(spec.max_length) * billions / 21.0),
    };
    Kudos::round_to_cents(each.as_f64() * f64::from(spec.n))
}

/// Shortens a request until it needs nothing upfront.
pub fn downgrade(spec: &TextSpec, load: Load) -> TextSpec {
    TextSpec {
        slow_workers: true,
        max_length: spec.max_length.min(free_tokens(load)),
        ..spec.clone()
    }
}

/// The reward for a text worker that was online for a while.
///
/// # Source
/// `generation.md` § 7.9.
pub fn uptime(max_context_length: i64, writer: Writer<'_>, models: &TextModels) -> Kudos {
    /// A longer context is not rewarded.
    const LONGEST: i64 = 262_144;
    let context = u32::try_from(max_context_length.clamp(0, LONGEST)).unwrap_or(0);
    let base = 25.0 + 15.0 * f64::from(context) / 1024.0;
    let factor = match models.find(writer.model) {
        None => 0.5,
        Some(model) => {
            let honesty = if writer.validated { 1.0 } else { UNVALIDATED };
            (model.billions() / 7.0).max(0.25) * honesty
        }
    };
    Kudos::round_to_cents(base * factor)
}

#[cfg(test)]
mod tests;
