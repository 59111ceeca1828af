//! Which tensors a network has, and their shapes.

use std::collections::BTreeSet;

use super::super::gguf::Gguf;
use super::config::{Config, Habits};
use crate::EngineError;

/// The most tensors that one error names.
const NAMED: usize = 5;
/// Written by old programs, used by none.
const PASSED_OVER: &str = "attn_rot_embd";

/// Whether a network can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

/// Looks whether all tensors are there and shaped as they must, and no other ones.
///
/// # Errors
///
/// [`EngineError::BadModel`] that names what is missing, wrongly shaped, stored in a way that cannot be
/// computed with, or left over.
pub(super) fn check(file: &Gguf, config: &Config) -> Result<(), EngineError> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for (name, shape, need) in expected(config) {
        match file.entry(&name) {
            None if need == Need::Must => problems.push(format!("tensor `{name}` is missing")),
            None => {}
            Some(entry) if entry.shape != shape => problems.push(format!(
                "tensor `{name}` is {:?}, not {shape:?}",
                entry.shape
            )),
            Some(entry) => problems.extend(entry.problem(&name)),
        }
        known.insert(name);
    }
    for (name, _) in file.tensors() {
        if !known.contains(name) && !name.contains(PASSED_OVER) {
            problems.push(format!("tensor `{name}` is not known"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(NAMED);
    problems.truncate(NAMED);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Err(file.refuse(problems.join("; ")))
}

fn expected(config: &Config) -> Vec<(String, Vec<usize>, Need)> {
    let Config {
        tokens,
        width,
        forward,
        head,
        ..
    } = *config;
    let (queries, values) = (config.heads * head, config.kv_heads * head);
    let mut all = vec![
        (
            "token_embd.weight".to_owned(),
            vec![tokens, width],
            Need::Must,
        ),
        ("output.weight".to_owned(), vec![tokens, width], Need::May),
        ("output_norm.weight".to_owned(), vec![width], Need::Must),
        ("rope_freqs.weight".to_owned(), vec![head / 2], Need::May),
    ];
    for layer in 0..config.layers {
        let mut add = |name: &str, shape: &[usize], need| {
            all.push((format!("blk.{layer}.{name}"), shape.to_vec(), need));
        };
        add("attn_norm.weight", &[width], Need::Must);
        add("ffn_norm.weight", &[width], Need::Must);
        for (name, outward) in [("attn_q", queries), ("attn_k", values), ("attn_v", values)] {
            add(&format!("{name}.weight"), &[outward, width], Need::Must);
            add(&format!("{name}.bias"), &[outward], Need::May);
        }
        add("attn_output.weight", &[width, queries], Need::Must);
        add("attn_output.bias", &[width], Need::May);
        add("ffn_gate.weight", &[forward, width], Need::Must);
        add("ffn_up.weight", &[forward, width], Need::Must);
        add("ffn_down.weight", &[width, forward], Need::Must);
        if config.family.habits == Habits::Gemma {
            add("post_attention_norm.weight", &[width], Need::Must);
            add("post_ffw_norm.weight", &[width], Need::Must);
        }
        if config.family.has_head_norms {
            add("attn_q_norm.weight", &[head], Need::Must);
            add("attn_k_norm.weight", &[head], Need::Must);
        }
    }
    all
}
