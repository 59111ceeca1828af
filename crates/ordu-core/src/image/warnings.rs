//! Advice for a request that leaves what its models want.
//!
//! # Source
//! `generation.md` § 3.8; that the message names values that would do is ours (`platform.md` § 4).

use ordu_api::image::{ImageRequest, Warning};

use crate::model_reference::{ModelReference, Requirements};

/// Guidance that is compared when nothing was said. Not the default that is applied.
const COMPARED_CFG_SCALE: f64 = 7.5;

/// What the models named by a request would rather have, in the order of its models.
/// Advice that two models share is given once.
pub fn warnings(request: &ImageRequest, reference: &ModelReference) -> Vec<Warning> {
    let mut found: Vec<Warning> = Vec::new();
    for name in &request.models {
        let Some(model) = reference.get(name) else {
            continue;
        };
        for (code, wish) in mismatches(request, &model.requirements) {
            if found.iter().all(|warning| warning.code != code) {
                found.push(Warning {
                    code: code.to_owned(),
                    message: format!("`{name}` works best with {wish}"),
                });
            }
        }
    }
    found
}

/// The advice for a request that nobody who is online can serve.
pub fn no_available_worker() -> Warning {
    Warning {
        code: "NoAvailableWorker".to_owned(),
        message: "No worker that is online can serve this request. It waits for one, and expires \
                  if none comes"
            .to_owned(),
    }
}

fn mismatches(request: &ImageRequest, wanted: &Requirements) -> Vec<(&'static str, String)> {
    let params = &request.params;
    let mut found = Vec::new();
    let clip_skip = params.clip_skip.unwrap_or(1);
    if let Some(wish) = wanted.clip_skip.filter(|wish| *wish != clip_skip) {
        found.push(("ClipSkipMismatch", format!("`clip_skip` {wish}")));
    }
    let steps = params.steps.unwrap_or(super::DEFAULT_STEPS);
    if let Some(wish) = wanted.min_steps.filter(|wish| *wish > steps) {
        found.push(("StepsTooFew", format!("`steps` {wish} or more")));
    }
    if let Some(wish) = wanted.max_steps.filter(|wish| *wish < steps) {
        found.push(("StepsTooMany", format!("`steps` {wish} or fewer")));
    }
    let cfg = params.cfg_scale.unwrap_or(COMPARED_CFG_SCALE);
    if let Some(wish) = wanted
        .cfg_scale
        .filter(|wish| (wish - cfg).abs() > f64::EPSILON)
    {
        found.push(("CfgScaleMismatch", format!("`cfg_scale` {wish}")));
    }
    if let Some(wish) = wanted.min_cfg_scale.filter(|wish| *wish > cfg) {
        found.push(("CfgScaleTooSmall", format!("`cfg_scale` {wish} or more")));
    }
    if let Some(wish) = wanted.max_cfg_scale.filter(|wish| *wish < cfg) {
        found.push(("CfgScaleTooLarge", format!("`cfg_scale` {wish} or less")));
    }
    let sampler = params.sampler_name.as_deref().unwrap_or("k_euler_a");
    if is_missing(sampler, &wanted.samplers) {
        let wish = wanted.samplers.join("`, `");
        found.push(("SamplerMismatch", format!("`sampler_name` `{wish}`")));
    }
    let schedule = if params.karras.unwrap_or(true) {
        "karras"
    } else {
        "simple"
    };
    if is_missing(schedule, &wanted.schedulers) {
        let karras = wanted.schedulers.iter().any(|name| name == "karras");
        found.push(("SchedulerMismatch", format!("`karras` {karras}")));
    }
    found
}

/// Whether a list of what works leaves the choice out; an empty list leaves nothing out.
fn is_missing(choice: &str, works: &[String]) -> bool {
    !works.is_empty() && works.iter().all(|name| name != choice)
}
