//! Names of samplers and schedulers in ComfyUI.
//!
//! # Source
//! `worker.md` § 2.2.

use crate::{Sampler, Schedule};

pub(super) fn sampler(sampler: Sampler) -> &'static str {
    match sampler {
        Sampler::Euler => "euler",
        Sampler::EulerA => "euler_ancestral",
        Sampler::Heun => "heun",
        Sampler::Dpm2 => "dpm_2",
        Sampler::Dpm2A => "dpm_2_ancestral",
        Sampler::Lms => "lms",
        Sampler::DpmFast => "dpm_fast",
        Sampler::DpmAdaptive => "dpm_adaptive",
        Sampler::Dpmpp2sA => "dpmpp_2s_ancestral",
        Sampler::DpmppSde => "dpmpp_sde",
        Sampler::Dpmpp2m => "dpmpp_2m",
        Sampler::Ddim => "ddim",
        Sampler::Lcm => "lcm",
        Sampler::UniPc => "uni_pc",
        Sampler::UniPcBh2 => "uni_pc_bh2",
    }
}

pub(super) fn scheduler(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Normal => "normal",
        Schedule::Karras => "karras",
    }
}
