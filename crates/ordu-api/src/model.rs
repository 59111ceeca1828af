//! Entries of the model reference, as moderators write them.
//!
//! # Source
//! The members of the public documents, `generation.md` § 3.5; that they can be written is ours.

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
            "requirements",
            Kind::FreeObject,
            "What an image model wants from a request.",
        ),
        Field::optional(
            "parameters",
            Kind::number(0.0, 1e15),
            "How many parameters a text model has.",
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
    pub requirements: Option<Value>,
    pub parameters: Option<f64>,
}
