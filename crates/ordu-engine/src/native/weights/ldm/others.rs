//! Files and folders that hold a model which is not drawn with here: known by what only they have, so
//! that a person is told what it is.

use super::TensorFile;

/// A tensor that only one family has, and what the family is called.
const STRANGERS: [(&str, &str); 8] = [
    (
        "joint_blocks.0.x_block.attn.qkv.weight",
        "Stable Diffusion 3",
    ),
    ("double_blocks.0.img_attn.qkv.weight", "Flux"),
    ("clip_txt_mapper.weight", "Stable Cascade"),
    ("clip_mapper.weight", "Stable Cascade"),
    ("t_embedder.mlp.0.weight", "a diffusion transformer"),
    ("cap_embedder.0.weight", "a diffusion transformer"),
    (
        "transformer_blocks.0.attn.add_q_proj.weight",
        "a diffusion transformer",
    ),
    (
        "transformer_blocks.0.attn1.to_q.weight",
        "a diffusion transformer",
    ),
];

const PREFIXES: [&str; 3] = ["model.diffusion_model.", "diffusion_model.", ""];

/// The text encoder where only SDXL's refiner has it.
const REFINER: &str = "conditioner.embedders.0.model.token_embedding.weight";

/// What a file holds that is a model, but none that is built here. `None` if it may be one that is, or
/// no model at all.
pub fn stranger(file: &TensorFile) -> Option<&'static str> {
    if file.get(REFINER).is_some() {
        return Some("the refiner of Stable Diffusion XL");
    }
    let has = |name: &str| {
        PREFIXES
            .iter()
            .any(|prefix| file.get(&format!("{prefix}{name}")).is_some())
    };
    STRANGERS
        .into_iter()
        .find(|(name, _)| has(name))
        .map(|(_, family)| family)
}
