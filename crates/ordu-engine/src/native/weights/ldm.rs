//! The names of single-file checkpoints (the original "latent diffusion" layout), mapped to those
//! of diffusers.
//!
//! Nothing is assumed about the size of a network: its blocks are walked in the order in which the
//! layout numbers them, and what lies at each number tells what it is (a residual block, one with
//! attention, a change of resolution).
//!
//! | part | prefix | here |
//! |---|---|---|
//! | UNet | `model.diffusion_model.` | `input_blocks.N`, `middle_block.N`, `output_blocks.N` become blocks with resnets and attentions |
//! | autoencoder | `first_stage_model.` | the decoder's blocks are numbered in reverse |
//! | text, SD 1 | `cond_stage_model.transformer.` | names stay |
//! | text, SD 2 | `cond_stage_model.model.` | OpenCLIP: names change, queries, keys and values are cut apart |
//! | text, SDXL | `conditioner.embedders.0.transformer.`, `conditioner.embedders.1.model.` | one of each |

mod open_clip;
mod others;

use std::collections::BTreeMap;

pub use others::stranger;

use super::{Entry, TensorFile, Weights};

const UNET: &str = "model.diffusion_model.";
const AUTOENCODER: &str = "first_stage_model.";
/// Where text encoders lie, and whose they are; in the order in which their numbers are joined.
const TEXTS: [(&str, TextLayout); 4] = [
    ("cond_stage_model.transformer.", TextLayout::Clip),
    ("cond_stage_model.model.", TextLayout::OpenClip),
    ("conditioner.embedders.0.transformer.", TextLayout::Clip),
    ("conditioner.embedders.1.model.", TextLayout::OpenClip),
];

/// Whose text encoder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextLayout {
    /// OpenAI's.
    Clip,
    /// That of OpenCLIP (Ilharco et al. 2021), under the names of the other.
    OpenClip,
}

/// No network has more blocks, or layers of a block.
const MAX_COUNT: usize = 128;

/// The networks of a checkpoint, each under the names of diffusers.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The text encoders, one or two.
    pub texts: Vec<(Weights, TextLayout)>,
    /// The diffusion network.
    pub unet: Weights,
    /// The autoencoder.
    pub vae: Weights,
}

/// Whether the file is a checkpoint in this layout.
pub fn is_checkpoint(file: &TensorFile) -> bool {
    file.get("model.diffusion_model.input_blocks.0.0.weight")
        .is_some()
}

/// Splits a checkpoint and renames its tensors. Unknown names are kept: the network that does not
/// want them says so.
pub fn split(file: &TensorFile) -> Parts {
    Parts {
        texts: TEXTS
            .into_iter()
            .filter_map(|(prefix, layout)| {
                let tensors = under(file, prefix);
                (!tensors.is_empty()).then(|| (text(tensors, layout), layout))
            })
            .collect(),
        unet: rename(under(file, UNET), &unet_prefixes(file, UNET), &UNET_ENDINGS),
        vae: autoencoder(under(file, AUTOENCODER)),
    }
}

fn text(tensors: BTreeMap<String, Entry>, layout: TextLayout) -> Weights {
    match layout {
        TextLayout::Clip => Weights::from_entries(tensors),
        TextLayout::OpenClip => open_clip::rename(tensors),
    }
}

/// The autoencoder of a file that holds nothing else, in any layout; `None` if it holds something else.
pub fn lone_autoencoder(file: &TensorFile) -> Option<Weights> {
    let whole = under(file, AUTOENCODER);
    if !whole.is_empty() {
        return (!is_checkpoint(file)).then(|| autoencoder(whole));
    }
    let has = |name: &str| file.get(name).is_some();
    if !has("decoder.conv_in.weight") || !has("decoder.conv_out.weight") {
        return None;
    }
    if has("decoder.mid.block_1.conv1.weight") {
        return Some(autoencoder(under(file, "")));
    }
    Some(Weights::from_file(file))
}

fn autoencoder(tensors: BTreeMap<String, Entry>) -> Weights {
    let prefixes = vae_prefixes(&tensors);
    rename(tensors, &prefixes, &VAE_ENDINGS)
}

/// Prefix of a control network in its own file; files cut out of checkpoints have none.
const CONTROL: [&str; 2] = ["control_model.", ""];

/// The tensors of a control network, renamed; `None` if the file holds none in this layout.
pub fn control(file: &TensorFile) -> Option<Weights> {
    let is_there = |prefix: &&&str| {
        let name = format!("{prefix}input_hint_block.0.weight");
        file.get(&name).is_some()
    };
    let prefix = CONTROL.iter().find(is_there)?;
    let mut prefixes = unet_prefixes(file, prefix);
    prefixes.push((
        "middle_block_out.0.".to_owned(),
        "controlnet_mid_block.".to_owned(),
    ));
    let tensors = under(file, prefix);
    let numbers = |list: &str, of_each: &str| -> Vec<usize> {
        let number = |n: &usize| tensors.contains_key(&format!("{list}.{n}.{of_each}weight"));
        (0..MAX_COUNT).filter(number).collect()
    };
    for number in numbers("zero_convs", "0.") {
        prefixes.push((
            format!("zero_convs.{number}.0."),
            format!("controlnet_down_blocks.{number}."),
        ));
    }
    // Layers of the map are numbered with the activations between them.
    let layers = numbers("input_hint_block", "");
    let last = layers.len().saturating_sub(1);
    for (place, number) in layers.into_iter().enumerate() {
        let ours = match place {
            0 => "conv_in.".to_owned(),
            place if place == last => "conv_out.".to_owned(),
            place => format!("blocks.{}.", place - 1),
        };
        prefixes.push((
            format!("input_hint_block.{number}."),
            format!("controlnet_cond_embedding.{ours}"),
        ));
    }
    Some(rename(tensors, &prefixes, &UNET_ENDINGS))
}

/// Tensors under a prefix, without it.
fn under(file: &TensorFile, prefix: &str) -> BTreeMap<String, Entry> {
    file.entries()
        .filter_map(|(name, entry)| Some((name.strip_prefix(prefix)?.to_owned(), entry.clone())))
        .collect()
}

/// Names of parts inside a block: theirs, ours.
type Endings = [(&'static str, &'static str)];

const UNET_ENDINGS: [(&str, &str); 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

const VAE_ENDINGS: [(&str, &str); 1] = [("nin_shortcut.", "conv_shortcut.")];

fn rename(
    tensors: BTreeMap<String, Entry>,
    prefixes: &[(String, String)],
    endings: &Endings,
) -> Weights {
    Weights::from_entries(tensors.into_iter().map(|(name, entry)| {
        let renamed = prefixes
            .iter()
            .find_map(|(theirs, ours)| {
                Some(format!("{ours}{}", name.strip_prefix(theirs.as_str())?))
            })
            .unwrap_or(name);
        let renamed = endings
            .iter()
            .find(|(theirs, _)| renamed.contains(&format!(".{theirs}")))
            .map_or(renamed.clone(), |(theirs, ours)| {
                renamed.replacen(&format!(".{theirs}"), &format!(".{ours}"), 1)
            });
        (renamed, entry)
    }))
}

/// What lies at one number of `input_blocks` or `output_blocks`.
struct Slot {
    resnet: bool,
    attention: bool,
    /// Index within the slot of the convolution that changes the resolution, if there is one.
    resample: Option<(usize, &'static str)>,
}

fn slot(file: &TensorFile, list: &str, number: usize) -> Option<Slot> {
    let has = |rest: &str| file.get(&format!("{list}.{number}.{rest}")).is_some();
    let resample = [(0, "op"), (1, "conv"), (2, "conv")]
        .into_iter()
        .find(|(index, conv)| has(&format!("{index}.{conv}.weight")));
    let slot = Slot {
        resnet: has("0.in_layers.0.weight"),
        attention: has("1.norm.weight"),
        resample,
    };
    (slot.resnet || slot.resample.is_some()).then_some(slot)
}

/// The names of a UNet, or of a control network, under a prefix.
fn unet_prefixes(file: &TensorFile, prefix: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = [
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("label_emb.0.0.", "add_embedding.linear_1."),
        ("label_emb.0.2.", "add_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("middle_block.0.", "mid_block.resnets.0."),
        ("middle_block.1.", "mid_block.attentions.0."),
        ("middle_block.2.", "mid_block.resnets.1."),
        ("out.0.", "conv_norm_out."),
        ("out.2.", "conv_out."),
    ]
    .map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned()))
    .to_vec();
    walk(
        file,
        (prefix, "input_blocks"),
        ("down_blocks", "downsamplers"),
        &mut pairs,
    );
    walk(
        file,
        (prefix, "output_blocks"),
        ("up_blocks", "upsamplers"),
        &mut pairs,
    );
    pairs
}

/// Follows the numbers of one list; a change of resolution ends a block on both ways, down and up.
fn walk(
    file: &TensorFile,
    (prefix, list): (&str, &str),
    (blocks, resampler): (&str, &str),
    pairs: &mut Vec<(String, String)>,
) {
    let full = format!("{prefix}{list}");
    let first = usize::from(list == "input_blocks");
    let (mut block, mut layer) = (0, 0);
    for number in first..MAX_COUNT {
        let Some(slot) = slot(file, &full, number) else {
            break;
        };
        let theirs = format!("{list}.{number}.");
        if slot.resnet {
            pairs.push((
                format!("{theirs}0."),
                format!("{blocks}.{block}.resnets.{layer}."),
            ));
        }
        if slot.attention {
            pairs.push((
                format!("{theirs}1."),
                format!("{blocks}.{block}.attentions.{layer}."),
            ));
        }
        layer += 1;
        if let Some((index, conv)) = slot.resample {
            // Before the attention's prefix, which this one may extend.
            pairs.insert(
                0,
                (
                    format!("{theirs}{index}.{conv}."),
                    format!("{blocks}.{block}.{resampler}.0.conv."),
                ),
            );
            (block, layer) = (block + 1, 0);
        }
    }
}

fn vae_prefixes(tensors: &BTreeMap<String, Entry>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut pair = |theirs: String, ours: String| pairs.push((theirs, ours));
    let levels = (0..MAX_COUNT)
        .take_while(|level| {
            let name = format!("decoder.up.{level}.block.0.conv1.weight");
            tensors.contains_key(&name)
        })
        .count();
    let layers = |side: &str, level: usize| {
        let exists = move |layer: &usize| {
            let name = format!("{side}.{level}.block.{layer}.conv1.weight");
            tensors.contains_key(&name)
        };
        (0..MAX_COUNT).take_while(exists).count()
    };
    for level in 0..levels {
        let up = levels - 1 - level;
        for layer in 0..layers("encoder.down", level) {
            pair(
                format!("encoder.down.{level}.block.{layer}."),
                format!("encoder.down_blocks.{level}.resnets.{layer}."),
            );
        }
        for layer in 0..layers("decoder.up", level) {
            pair(
                format!("decoder.up.{level}.block.{layer}."),
                format!("decoder.up_blocks.{up}.resnets.{layer}."),
            );
        }
        pair(
            format!("encoder.down.{level}.downsample."),
            format!("encoder.down_blocks.{level}.downsamplers.0."),
        );
        pair(
            format!("decoder.up.{level}.upsample."),
            format!("decoder.up_blocks.{up}.upsamplers.0."),
        );
    }
    for side in ["encoder", "decoder"] {
        pair(
            format!("{side}.mid.block_1."),
            format!("{side}.mid_block.resnets.0."),
        );
        pair(
            format!("{side}.mid.block_2."),
            format!("{side}.mid_block.resnets.1."),
        );
        let attention = format!("{side}.mid_block.attentions.0.");
        for (theirs, ours) in [
            ("norm", "group_norm"),
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("proj_out", "to_out.0"),
        ] {
            pair(
                format!("{side}.mid.attn_1.{theirs}."),
                format!("{attention}{ours}."),
            );
        }
        pair(
            format!("{side}.norm_out."),
            format!("{side}.conv_norm_out."),
        );
    }
    pairs
}
