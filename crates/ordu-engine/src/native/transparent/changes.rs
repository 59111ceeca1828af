//! What lets a UNet draw what stands on nothing, as two kinds of files tell it.
//!
//! | kind | names | what it does |
//! |---|---|---|
//! | sharing | `hookers.layers.N.…` | to each attention: changes of low rank to queries, keys, values and what comes out, then a norm, a layer, attention over frames and a layer, added |
//! | patches | `target::kind::index` | to each tensor: a whole difference (`diff`) or one of low rank (`lora`: up, down, alpha, core) |
//!
//! Attentions are numbered on the way down, on the way up, and in the middle at last. There is one frame,
//! which attends to itself alone: queries and keys of that attention change nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::EngineError;
use crate::native::sd::files::ModelFiles;
use crate::native::sd::lora::{Changes, by_original_name, number};
use crate::native::weights::{Delta, Entry, Factors, TensorFile, Weights};

/// How files tell what is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sharing,
    Patches,
}

const LAYERS: &str = "hookers.layers.";
/// Before the names of all targets.
const TARGET: &str = "diffusion_model.";
/// The layers of an attention that are changed: theirs, ours.
const LOW_RANK: [(&str, &str); 4] = [
    ("to_q_lora.0", "to_q.weight"),
    ("to_k_lora.0", "to_k.weight"),
    ("to_v_lora.0", "to_v.weight"),
    ("to_out_lora.0", "to_out.0.weight"),
];
/// Further layers: whether their weights are matrices, and whether they do anything with one frame.
const FURTHER: [(&str, bool, bool); 6] = [
    ("temporal_n", false, true),
    ("temporal_i", true, true),
    ("temporal_q", true, false),
    ("temporal_k", true, false),
    ("temporal_v", true, true),
    ("temporal_o", true, true),
];

/// Of which kind a file is.
///
/// # Errors
///
/// [`EngineError::BadModel`] if it is of neither.
pub(super) fn kind(name: &str, file: &TensorFile) -> Result<Kind, EngineError> {
    let all = |is: fn(&str) -> bool| file.entries().all(|(name, _)| is(name));
    match file.entries().next() {
        Some(_) if all(|name| name.starts_with(LAYERS)) => Ok(Kind::Sharing),
        Some(_) if all(|name| name.matches("::").count() == 2) => Ok(Kind::Patches),
        _ => Err(EngineError::bad_model(
            name,
            "it holds no changes for transparent pictures",
        )),
    }
}

/// What a file changes of a model.
///
/// # Errors
///
/// [`EngineError::BadModel`] if it was made for other networks or contradicts itself.
pub(super) fn of(
    name: &str,
    file: &TensorFile,
    model: &ModelFiles,
) -> Result<Changes, EngineError> {
    let changes = match kind(name, file)? {
        Kind::Sharing => sharing(file, &model.unet.0),
        Kind::Patches => patches(file, model),
    };
    changes.map_err(|reason| {
        let reason = format!("it is not for `{}`: {reason}", model.name);
        EngineError::bad_model(name, reason)
    })
}

/// All attentions of a UNet, in the order in which they are numbered.
fn attentions(unet: &Weights) -> Vec<String> {
    let mut found: Vec<(usize, Vec<usize>, String)> = unet
        .iter()
        .filter_map(|(name, _)| {
            let module = name.strip_suffix(".to_q.weight")?;
            let way = ["down_blocks.", "up_blocks.", "mid_block."];
            let way = way.iter().position(|part| module.starts_with(part))?;
            let digits = module.split(|letter: char| !letter.is_ascii_digit());
            let numbers = digits.filter_map(|part| part.parse().ok()).collect();
            Some((way, numbers, module.to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, module)| module).collect()
}

fn sharing(file: &TensorFile, unet: &Weights) -> Result<Changes, String> {
    let attentions = attentions(unet);
    let mut changes = Changes::default();
    let mut left: BTreeSet<&str> = file.entries().map(|(name, _)| name).collect();
    for (number, attention) in attentions.iter().enumerate() {
        let layer = format!("{LAYERS}{number}.");
        let mut take = |name: &str| {
            let name = format!("{layer}{name}");
            left.remove(name.as_str());
            file.get(&name)
                .cloned()
                .ok_or_else(|| format!("it has no `{name}`"))
        };
        for (theirs, ours) in LOW_RANK {
            let factors = Factors {
                up: take(&format!("{theirs}.up.weight"))?,
                down: take(&format!("{theirs}.down.weight"))?,
                core: None,
            };
            let target = format!("{attention}.{ours}");
            let delta = Delta::low_rank(factors, 1.0);
            fits(&delta, &target, unet, &format!("{layer}{theirs}"))?;
            changes.unet.entry(target).or_default().push(delta);
        }
        let width = unet.shape(&format!("{attention}.to_q.weight"));
        let width = width.and_then(|shape| shape.first()).copied();
        let width = width.unwrap_or_default();
        for (further, is_matrix, counts) in FURTHER {
            let weight = if is_matrix {
                vec![width; 2]
            } else {
                vec![width]
            };
            for (part, shape) in [("weight", weight), ("bias", vec![width])] {
                let name = format!("{further}.{part}");
                let entry = match take(&name) {
                    Err(_) if !counts => continue,
                    entry => entry?,
                };
                if entry.shape() != shape {
                    return Err(format!(
                        "its `{layer}{name}` is {:?}, `{attention}` takes {shape:?}",
                        entry.shape()
                    ));
                }
                if counts {
                    changes.added.insert(format!("{attention}.{name}"), entry);
                }
            }
        }
    }
    match left.first() {
        Some(name) => Err(format!(
            "it has `{name}` beyond what {} attentions and one frame take",
            attentions.len()
        )),
        None => Ok(changes),
    }
}

fn fits(delta: &Delta, target: &str, unet: &Weights, name: &str) -> Result<(), String> {
    let shape = unet.shape(target).unwrap_or_default();
    if delta.fits(shape) {
        return Ok(());
    }
    Err(match delta.shape() {
        Some(own) => {
            format!("its `{name}` changes a layer of {own:?}, `{target}` is {shape:?}")
        }
        None => format!("its `{name}` has factors that do not fit each other"),
    })
}

fn patches(file: &TensorFile, model: &ModelFiles) -> Result<Changes, String> {
    let (unet, config) = &model.unet;
    let names = by_original_name(unet, config);
    let mut parts: BTreeMap<(&str, &str), BTreeMap<&str, &Entry>> = BTreeMap::new();
    for (name, entry) in file.entries() {
        let mut words = name.split("::");
        let (Some(target), Some(kind), Some(index)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("its `{name}` is no `target::kind::index`"));
        };
        parts
            .entry((target, kind))
            .or_default()
            .insert(index, entry);
    }
    let mut changes = Changes::default();
    for ((theirs, kind), found) in parts {
        let name = format!("{theirs}::{kind}");
        let plain = theirs.strip_prefix(TARGET).unwrap_or(theirs);
        let Some(target) = names.get(plain) else {
            return Err(format!("it changes `{theirs}`, which this model has not"));
        };
        let delta = patch(kind, &found).map_err(|reason| format!("its `{name}` {reason}"))?;
        fits(&delta, target, unet, &name)?;
        changes.unet.entry(target.clone()).or_default().push(delta);
    }
    Ok(changes)
}

/// The change of one tensor, from its parts by their numbers.
fn patch(kind: &str, found: &BTreeMap<&str, &Entry>) -> Result<Delta, String> {
    let get = |index: &str| found.get(index).map(|entry| (*entry).clone());
    let known: &[&str] = match kind {
        "diff" => &["0"],
        "lora" => &["0", "1", "2", "3"],
        _ => return Err("is of an unknown kind".to_owned()),
    };
    if let Some(strange) = found.keys().find(|index| !known.contains(index)) {
        return Err(format!("has a part `{strange}` too many"));
    }
    match (kind, get("0"), get("1")) {
        ("diff", Some(difference), None) => Ok(Delta::whole(difference, 1.0)),
        ("lora", Some(up), Some(down)) => {
            let factors = Factors {
                up,
                down,
                core: get("3"),
            };
            let rank = factors.rank().max(1) as f64;
            let alpha = match found.get("2") {
                Some(entry) => Some(number(entry).ok_or("has an alpha that is no number")?),
                None => None,
            };
            let scale = alpha.map_or(1.0, |alpha| alpha / rank);
            Ok(Delta::low_rank(factors, scale))
        }
        _ => Err("lacks one of its parts".to_owned()),
    }
}
