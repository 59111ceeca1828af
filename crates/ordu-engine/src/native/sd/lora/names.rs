//! What the layers of a model are called in files of LoRAs.
//!
//! | written by | diffusion network | text encoder |
//! |---|---|---|
//! | kohya | `lora_unet_down_blocks_0_…`, for SDXL `lora_unet_input_blocks_4_1_…` | `lora_te_text_model_…`, for SDXL `lora_te1_…` and `lora_te2_…` |
//! | diffusers, peft | `unet.down_blocks.0.…` | `text_encoder.text_model.…`, `text_encoder_2.…` |
//! | peft alone | `base_model.model.down_blocks.0.…` | |
//! | others | `diffusion_model.input_blocks.4.1.…` | |

use std::collections::BTreeMap;

use crate::native::sd::config::UNetConfig;
use crate::native::sd::files::ModelFiles;
use crate::native::weights::Weights;

/// A network that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    UNet,
    /// One of the text encoders.
    Text(usize),
}

impl Part {
    /// Its tensors.
    pub(super) fn weights(self, model: &ModelFiles) -> Option<&Weights> {
        match self {
            Self::UNet => Some(&model.unet.0),
            Self::Text(place) => model.texts.get(place).map(|text| &text.weights),
        }
    }

    /// What diffusers calls it.
    pub(super) fn diffusers_name(self) -> &'static str {
        match self {
            Self::UNet => "unet",
            Self::Text(0) => "text_encoder",
            Self::Text(_) => "text_encoder_2",
        }
    }
}

/// All layers of a model by all their names.
#[derive(Debug)]
pub(super) struct Targets {
    names: BTreeMap<String, (Part, String)>,
}

/// What older exports put before every name of a text encoder.
const TEXT_PREFIX: &str = "text_model.";

/// Layers of old files of diffusers: theirs, ours.
const OLD: [(&str, &str); 5] = [
    ("to_out", "to_out.0"),
    ("self_attn.to_q", "self_attn.q_proj"),
    ("self_attn.to_k", "self_attn.k_proj"),
    ("self_attn.to_v", "self_attn.v_proj"),
    ("self_attn.to_out", "self_attn.out_proj"),
];

/// The name of a layer without what only says how it was trained.
pub(super) fn plain(key: &str) -> String {
    let key = key.strip_prefix("base_model.model.").unwrap_or(key);
    key.replace(".processor.", ".")
}

impl Targets {
    pub(super) fn of(model: &ModelFiles) -> Self {
        let mut targets = Self {
            names: BTreeMap::new(),
        };
        let (weights, config) = &model.unet;
        let original = original_prefixes(config);
        for (weight, module) in layers(weights) {
            let mut add = |name: String| targets.add(name, Part::UNet, weight);
            add(format!("lora_unet_{}", flat(module)));
            add(format!("unet.{module}"));
            add(module.to_owned());
            if let Some(theirs) = original_name(module, &original) {
                add(format!("lora_unet_{}", flat(&theirs)));
                add(format!("diffusion_model.{theirs}"));
            }
        }
        for (place, text) in model.texts.iter().enumerate() {
            let part = Part::Text(place);
            let prefixes: &[&str] = if place == 0 {
                &["lora_te_", "lora_te1_"]
            } else {
                &["lora_te2_"]
            };
            for (weight, module) in layers(&text.weights) {
                let module = module.strip_prefix(TEXT_PREFIX).unwrap_or(module);
                let is_inner = module != "text_projection";
                let long = if is_inner {
                    format!("{TEXT_PREFIX}{module}")
                } else {
                    module.to_owned()
                };
                for prefix in prefixes {
                    targets.add(format!("{prefix}{}", flat(&long)), part, weight);
                }
                let name = part.diffusers_name();
                targets.add(format!("{name}.{long}"), part, weight);
                targets.add(format!("{name}.{module}"), part, weight);
            }
        }
        targets
    }

    fn add(&mut self, name: String, part: Part, weight: &str) {
        self.names.insert(name, (part, weight.to_owned()));
    }

    /// The network and the tensor that a layer of a file is about.
    pub(super) fn find(&self, key: &str) -> Option<(Part, String)> {
        let old = || {
            OLD.iter().find_map(|(theirs, ours)| {
                let stem = key.strip_suffix(theirs)?;
                self.names.get(&format!("{stem}{ours}"))
            })
        };
        self.names.get(key).or_else(old).cloned()
    }
}

/// Matrices and kernels: their names with and without the last word.
fn layers(weights: &Weights) -> impl Iterator<Item = (&str, &str)> {
    weights.iter().filter_map(|(name, entry)| {
        let module = name.strip_suffix(".weight")?;
        (entry.shape().len() > 1).then_some((name, module))
    })
}

fn flat(name: &str) -> String {
    name.replace('.', "_")
}

/// How blocks are called in the original layout, by how they are called here.
fn original_prefixes(config: &UNetConfig) -> Vec<(String, String)> {
    let blocks = config.block_out_channels.len();
    let mut pairs: Vec<(String, String)> = [
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
        ("mid_block.resnets.0.", "middle_block.0."),
        ("mid_block.attentions.0.", "middle_block.1."),
        ("mid_block.resnets.1.", "middle_block.2."),
    ]
    .map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
    .to_vec();
    let mut pair = |ours: String, theirs: String| pairs.push((ours, theirs));
    let (mut down, mut up) = (1, 0);
    for block in 0..blocks {
        for layer in 0..config.layers_per_block {
            let theirs = format!("input_blocks.{down}");
            let ours = format!("down_blocks.{block}");
            pair(format!("{ours}.resnets.{layer}."), format!("{theirs}.0."));
            pair(
                format!("{ours}.attentions.{layer}."),
                format!("{theirs}.1."),
            );
            down += 1;
        }
        if block + 1 < blocks {
            pair(
                format!("down_blocks.{block}.downsamplers.0.conv"),
                format!("input_blocks.{down}.0.op"),
            );
            down += 1;
        }
        for layer in 0..=config.layers_per_block {
            let theirs = format!("output_blocks.{up}");
            let ours = format!("up_blocks.{block}");
            pair(format!("{ours}.resnets.{layer}."), format!("{theirs}.0."));
            pair(
                format!("{ours}.attentions.{layer}."),
                format!("{theirs}.1."),
            );
            if layer == config.layers_per_block {
                let place = if config.up_attends(block) { 2 } else { 1 };
                pair(
                    format!("{ours}.upsamplers.0.conv"),
                    format!("{theirs}.{place}.conv"),
                );
            }
            up += 1;
        }
    }
    pairs
}

/// Layers of a residual block: ours, theirs.
const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

/// The tensors of a diffusion network by the names that they have in the original layout.
pub(in crate::native) fn by_original_name(
    weights: &Weights,
    config: &UNetConfig,
) -> BTreeMap<String, String> {
    let prefixes = original_prefixes(config);
    let named = weights.iter().filter_map(|(ours, _)| {
        let (module, last) = ours.rsplit_once('.')?;
        let theirs = original_name(module, &prefixes)?;
        Some((format!("{theirs}.{last}"), ours.to_owned()))
    });
    named.collect()
}

fn original_name(module: &str, prefixes: &[(String, String)]) -> Option<String> {
    let (theirs, rest) = prefixes
        .iter()
        .find_map(|(ours, theirs)| Some((theirs, module.strip_prefix(ours.as_str())?)))?;
    let rest = RESNET
        .iter()
        .find(|(ours, _)| *ours == rest)
        .map_or(rest, |(_, theirs)| theirs);
    Some(format!("{theirs}{rest}"))
}
