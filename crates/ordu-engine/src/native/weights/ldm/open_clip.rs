//! The text tower of OpenCLIP under the names of the other: what lies fused in its files is cut apart.

use std::collections::BTreeMap;

use crate::native::weights::{Entry, Weights};

/// Names at the root: theirs, ours.
const ROOTS: [(&str, &str); 5] = [
    (
        "token_embedding.weight",
        "embeddings.token_embedding.weight",
    ),
    (
        "positional_embedding",
        "embeddings.position_embedding.weight",
    ),
    ("ln_final.weight", "final_layer_norm.weight"),
    ("ln_final.bias", "final_layer_norm.bias"),
    // `[width, projected]`, the other way around than a linear layer has it.
    ("text_projection", "text_projection"),
];

/// Names inside a layer.
const ENDINGS: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
];

/// Temperature of the contrast in training; nothing here asks for it.
const UNUSED: [&str; 2] = ["logit_scale", "attn_mask"];

pub(super) fn rename(tensors: BTreeMap<String, Entry>) -> Weights {
    let mut renamed = Vec::new();
    for (name, entry) in tensors {
        if UNUSED.contains(&name.as_str()) {
            continue;
        }
        if let Some((_, ours)) = ROOTS.iter().find(|(theirs, _)| *theirs == name) {
            renamed.push(((*ours).to_owned(), entry));
            continue;
        }
        match in_layer(&name, &entry) {
            Some(found) => renamed.extend(found),
            // The encoder does not want it, and says so.
            None => renamed.push((name, entry)),
        }
    }
    Weights::from_entries(renamed)
}

/// The tensors that one inside a layer becomes.
fn in_layer(name: &str, entry: &Entry) -> Option<Vec<(String, Entry)>> {
    let (layer, rest) = name
        .strip_prefix("transformer.resblocks.")?
        .split_once('.')?;
    let ours = format!("encoder.layers.{layer}.");
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        return cut(&ours, kind, entry);
    }
    let (theirs, new) = ENDINGS
        .iter()
        .find(|(theirs, _)| rest.starts_with(theirs))?;
    let rest = rest.strip_prefix(theirs)?;
    Some(vec![(format!("{ours}{new}{rest}"), entry.clone())])
}

/// Queries, keys and values, one under the other, as three.
fn cut(layer: &str, kind: &str, entry: &Entry) -> Option<Vec<(String, Entry)>> {
    let rows = *entry.shape().first()?;
    if !rows.is_multiple_of(3) {
        return None;
    }
    let each = rows / 3;
    ["q", "k", "v"]
        .into_iter()
        .enumerate()
        .map(|(place, letter)| {
            let name = format!("{layer}self_attn.{letter}_proj.{kind}");
            Some((name, entry.rows(place * each, each)?))
        })
        .collect()
}
