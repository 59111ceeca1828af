//! What a request asks of a worker, computed once when it comes.
//!
//! Requests with the same demand are served by the same workers, so the queue keeps them together.

use ordu_api::WorkerId;

use super::needs::{Needs, Schedule, Switch};
use super::{Address, Request, Work};
use crate::Role;
use crate::image::ImageSpec;

/// What a request asks of a worker, except what must be looked at one by one: words in its
/// prompt, its steps and what its requester can pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    pub(super) needs: Needs,
    /// The number of its set of models in the queue; `None` for any model.
    pub(super) models: Option<usize>,
    /// The number of its list of workers in the queue; `None` for any worker.
    pub(super) list: Option<usize>,
    /// Its size in the unit of its kind: pixels.
    pub(super) size: u64,
}

/// Which workers may serve a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkerList {
    /// These only.
    Only(Vec<WorkerId>),
    /// All but these.
    Except(Vec<WorkerId>),
}

impl WorkerList {
    /// The list of a request; `None` if it takes any worker.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let Work::Image(spec) = &request.work;
        let mut ids = spec.workers.clone();
        if ids.is_empty() {
            return None;
        }
        ids.sort_unstable();
        ids.dedup();
        Some(if spec.worker_blacklist {
            Self::Except(ids)
        } else {
            Self::Only(ids)
        })
    }

    pub(super) fn allows(&self, worker: WorkerId) -> bool {
        match self {
            Self::Only(ids) => ids.contains(&worker),
            Self::Except(ids) => !ids.contains(&worker),
        }
    }
}

/// The size of a request, in the unit of its kind.
pub(super) fn size(request: &Request) -> u64 {
    let Work::Image(spec) = &request.work;
    spec.pixels()
}

/// The yes-or-no needs of a request.
pub(super) fn needs(request: &Request) -> Needs {
    let Work::Image(spec) = &request.work;
    let mut needs = Needs::default();
    origin(&mut needs, spec, request);
    source(&mut needs, spec);
    style(&mut needs, spec);
    additions(&mut needs, spec);
    needs
}

/// Who asks, and whom they trust.
fn origin(needs: &mut Needs, spec: &ImageSpec, request: &Request) {
    let is_unsafe = request.requester.address == Address::Unsafe;
    if spec.nsfw {
        needs.switch(Switch::Nsfw);
    }
    // An unknown address of an unknown user is only for owners who are known.
    if spec.trusted_workers || is_unsafe && !request.requester.roles.has(Role::Trusted) {
        needs.switch(Switch::TrustedOwner);
    }
    if is_unsafe {
        needs.switch(Switch::UnsafeAddress);
    }
    if !spec.slow_workers {
        needs.switch(Switch::Fast);
    }
    if !spec.extra_slow_workers {
        needs.switch(Switch::Prompt);
    }
    if spec.r2 {
        needs.ability("r2");
    }
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
    if spec.control_type.is_some() {
        needs.switch(Switch::ControlNet);
        needs.ability("controlnet");
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
        needs.ability("controlnet");
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
