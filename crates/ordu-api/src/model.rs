//! Entries of the model reference, as moderators write them.
//!
//! # Source
//! The members of the public documents, `generation.md` § 3.5; that they can be written is ours.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{Field, Kind, Schema};

/// The longest name of a model, in characters.
pub const MAX_NAME_CHARS: usize = 255;

/// The table of [`ModelInput`].
pub const SCHEMA: Schema = Schema {
    name: "ModelInput",
    fields: &[
        Field::optional(
            "baseline",
            Kind::text(1, 100),
            "The family of an image model, such as `stable_diffusion_xl`.",
        ),
        Field::optional("type", Kind::text(0, 100), "What it is, such as `ckpt`."),
        Field::optional("nsfw", Kind::Bool, "Made for NSFW results."),
        Field::optional("inpainting", Kind::Bool, "Made for inpainting."),
        Field::optional(
            "only_by_name",
            Kind::Bool,
            "Not for requests that name no model.",
        ),
        Field::optional(
            "requirements",
            Kind::FreeObject,
            "What an image model wants from a request.",
        ),
        Field::optional(
            "parameters",
            Kind::number(0.0, 1e15),
            "How many parameters a text model has.",
        ),
        Field::optional(
            "instruct_format",
            Kind::text(1, 100),
            "How a text model wants conversations written down, such as `ChatML`.",
        ),
    ],
};

/// An entry for a model; what is `None` is as in a document that does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct ModelInput {
    pub baseline: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub nsfw: Option<bool>,
    pub inpainting: Option<bool>,
    pub only_by_name: Option<bool>,
    pub requirements: Option<Value>,
    pub parameters: Option<f64>,
    pub instruct_format: Option<String>,
}

/// What moderators wrote, by the name of the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelEntries {
    /// For models that make pictures.
    pub image: BTreeMap<String, ImageModelEntry>,
    /// For models that write texts.
    pub text: BTreeMap<String, TextModelEntry>,
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ModelEntry {
    /// For a model that makes pictures.
    Image(ImageModelEntry),
    /// For a model that writes texts.
    Text(TextModelEntry),
}

/// An entry for a model that makes pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageModelEntry {
    /// Its family.
    pub baseline: String,
    /// What it is, such as `ckpt`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Made for NSFW results.
    pub nsfw: bool,
    /// Made for inpainting.
    pub inpainting: bool,
    /// Not for requests that name no model.
    #[serde(default)]
    pub only_by_name: bool,
    /// What it wants from a request.
    pub requirements: ModelRequirements,
}

/// What a model wants from a request; what is `null` does not matter to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRequirements {
    /// The only clip skip that works.
    pub clip_skip: Option<u32>,
    /// The fewest steps that work.
    pub min_steps: Option<u32>,
    /// The most steps that make sense.
    pub max_steps: Option<u32>,
    /// The only guidance that works.
    pub cfg_scale: Option<f64>,
    /// The least guidance that works.
    pub min_cfg_scale: Option<f64>,
    /// The most guidance that works.
    pub max_cfg_scale: Option<f64>,
    /// The samplers that work; empty for all.
    pub samplers: Vec<String>,
    /// The noise schedules that work; empty for all.
    pub schedulers: Vec<String>,
}

/// An entry for a model that writes texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextModelEntry {
    /// How many parameters it has.
    pub parameters: f64,
    /// Made for NSFW results.
    pub nsfw: bool,
    /// How it wants conversations written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruct_format: Option<String>,
}
