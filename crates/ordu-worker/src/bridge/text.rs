//! A text job as a task of the engine. Pure.

use ordu_api::text::TextJob;
use ordu_engine::{Format, Sampling, TextTask};

/// The task of a job.
pub(crate) fn task(job: &TextJob, prompt: &str) -> TextTask {
    let params = job.payload.params.clone().with_defaults();
    TextTask {
        prompt: prompt.to_owned(),
        max_length: params.max_length.unwrap_or_default(),
        max_context_length: params.max_context_length.unwrap_or_default(),
        sampling: Sampling {
            rep_pen: params.rep_pen,
            rep_pen_range: params.rep_pen_range,
            rep_pen_slope: params.rep_pen_slope,
            temperature: params.temperature,
            tfs: params.tfs,
            top_a: params.top_a,
            top_k: params.top_k,
            top_p: params.top_p,
            typical: params.typical,
            sampler_order: params.sampler_order,
            use_default_badwordsids: params.use_default_badwordsids,
            min_p: params.min_p,
            smoothing_factor: params.smoothing_factor,
            dynatemp_range: params.dynatemp_range,
            dynatemp_exponent: params.dynatemp_exponent,
        },
        stop_sequence: params.stop_sequence.unwrap_or_default(),
        seed: None,
        soft_prompt: job.softprompt.clone().filter(|name| !name.is_empty()),
        format: Format {
            add_space: params.frmtadsnsp,
            remove_blank_lines: params.frmtrmblln,
            remove_special: params.frmtrmspch,
            trim_incomplete: params.frmttriminc,
            single_line: params.singleline,
        },
    }
}
