//! What is known about models, first of all image models: a document that an operator may replace at any time.
//!
//! Knows no files and no network: the text comes from outside.
//!
//! # Source
//! `generation.md` § 3.2.3, § 3.5.

use std::collections::BTreeMap;

use ordu_api::worker::WorkKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text_models::TextModels;

/// The family that a model belongs to; decides price, batch size, time and what fits together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "String", into = "&'static str")]
pub enum Baseline {
    /// Stable Diffusion 1.x, and what nobody knows.
    #[default]
    StableDiffusion1,
    /// Stable Diffusion 2.x at 768 or 512 pixels.
    StableDiffusion2,
    /// Stable Diffusion XL.
    StableDiffusionXl,
    /// Stable Cascade.
    StableCascade,
    /// Flux 1.
    Flux1,
    /// Qwen Image.
    QwenImage,
    /// Z-Image Turbo.
    ZImageTurbo,
    /// A family that we have no rules for.
    Other,
}

impl Baseline {
    /// The name in the document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "stable diffusion 1",
            Self::StableDiffusion2 => "stable diffusion 2",
            Self::StableDiffusionXl => "stable_diffusion_xl",
            Self::StableCascade => "stable_cascade",
            Self::Flux1 => "flux_1",
            Self::QwenImage => "qwen_image",
            Self::ZImageTurbo => "z_image_turbo",
            Self::Other => "other",
        }
    }

    /// Reads the name in the document. Both spellings of Stable Diffusion 2 are one family here.
    pub fn from_name(name: &str) -> Self {
        match name {
            "stable diffusion 1" => Self::StableDiffusion1,
            "stable diffusion 2" | "stable diffusion 2 512" => Self::StableDiffusion2,
            "stable_diffusion_xl" => Self::StableDiffusionXl,
            "stable_cascade" => Self::StableCascade,
            "flux_1" => Self::Flux1,
            "qwen_image" => Self::QwenImage,
            "z_image_turbo" => Self::ZImageTurbo,
            _ => Self::Other,
        }
    }

    /// Whether it is one of the large transformers: no second pass, long jobs, small batches.
    pub const fn is_large(self) -> bool {
        matches!(self, Self::Flux1 | Self::QwenImage | Self::ZImageTurbo)
    }
}

impl From<String> for Baseline {
    fn from(name: String) -> Self {
        Self::from_name(&name)
    }
}

impl From<Baseline> for &'static str {
    fn from(baseline: Baseline) -> Self {
        baseline.name()
    }
}

/// What a model wants from a request. `None` means that it does not care.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirements {
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
    /// The noise schedules that work, `karras` or `simple`; empty for all.
    pub schedulers: Vec<String>,
}

/// What the document says about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its family.
    pub baseline: Baseline,
    /// What it is: `ckpt`, `controlnet`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it was made for NSFW pictures.
    pub nsfw: bool,
    /// Whether it was made for inpainting.
    pub inpainting: bool,
    /// What it wants.
    pub requirements: Requirements,
    /// Whether only requests that name it are for it. Documents of the deployed horde do not say so.
    pub only_by_name: bool,
}

/// All models that are known by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelReference {
    models: BTreeMap<String, Model>,
    unreadable: Vec<String>,
    text: TextModels,
}

/// The document that is used until there is a better one.
const EMBEDDED: &str = include_str!("model_reference.json");

/// Marks in the names of unknown models that tell the family.
const MARKS: &[(&str, Baseline)] = &[
    ("[SDXL]", Baseline::StableDiffusionXl),
    ("[Flux]", Baseline::Flux1),
    ("[Qwen]", Baseline::QwenImage),
    ("[ZModel]", Baseline::ZImageTurbo),
    ("[ZImage]", Baseline::ZImageTurbo),
];

impl ModelReference {
    /// Reads the document of image models: an object of models by name. Members that are not known are ignored;
    /// models that make no sense are left out and named by [`Self::unreadable`].
    ///
    /// # Errors
    /// The text is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let document: BTreeMap<String, Value> = serde_json::from_str(text)?;
        let mut reference = Self::default();
        for (name, model) in document {
            match serde_json::from_value(model) {
                Ok(model) => {
                    reference.models.insert(name, model);
                }
                Err(_) => reference.unreadable.push(name),
            }
        }
        Ok(reference)
    }

    /// The few models that every horde knows, the bundled ones among them.
    pub fn embedded() -> Self {
        let image = Self::from_json(EMBEDDED).unwrap_or_default();
        image.with_text(TextModels::embedded())
    }

    /// The same, with what is known about text models.
    #[must_use]
    pub fn with_text(self, text: TextModels) -> Self {
        Self { text, ..self }
    }

    /// The same, with more image models; where both know a name, the new ones are right.
    #[must_use]
    pub fn with_images(mut self, more: &Self) -> Self {
        let more_models = more.models.iter();
        self.models
            .extend(more_models.map(|(name, model)| (name.clone(), model.clone())));
        self
    }

    /// The same, with one more image model, or another entry for it.
    #[must_use]
    pub fn with_image(mut self, name: String, model: Model) -> Self {
        self.models.insert(name, model);
        self
    }

    /// Whether no image model is known.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// What is known about text models.
    pub const fn text(&self) -> &TextModels {
        &self.text
    }

    /// The names whose entries could not be read.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// What is known about an image model.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.get(name)
    }

    /// Whether a model of this kind is listed, or is a quantisation of one that is.
    pub fn knows(&self, kind: WorkKind, name: &str) -> bool {
        match kind {
            WorkKind::Image => self.get(name).is_some(),
            WorkKind::Text => self.text.find(name).is_some(),
            WorkKind::Interrogation => false,
        }
    }

    /// All image models by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Model)> {
        self.models
            .iter()
            .map(|(name, model)| (name.as_str(), model))
    }

    /// The family of a model; unknown names are judged by marks such as `[SDXL]`.
    pub fn baseline(&self, name: &str) -> Baseline {
        if let Some(model) = self.get(name) {
            return model.baseline;
        }
        MARKS
            .iter()
            .find(|(mark, _)| name.contains(mark))
            .map_or(Baseline::StableDiffusion1, |(_, baseline)| *baseline)
    }

    /// Whether a request that names no model is not for this one.
    pub fn is_only_by_name(&self, name: &str) -> bool {
        is_special(name) || self.get(name).is_some_and(|model| model.only_by_name)
    }

    /// Whether a model was made for inpainting.
    pub fn is_inpainting(&self, name: &str) -> bool {
        self.get(name).is_some_and(|model| model.inpainting)
    }
}

/// Whether a model is only for those it was made for: never listed, never picked for a request
/// that names no model.
pub fn is_special(name: &str) -> bool {
    name.contains("horde_special") || name == BETA_COMPARISON
}

/// The model that stands for a comparison of two that are not out yet.
pub const BETA_COMPARISON: &str = "SDXL_beta::stability.ai#6901";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_document_knows_the_bundled_models() {
        let reference = ModelReference::embedded();
        assert!(reference.unreadable().is_empty());
        let tiny = reference.get("ordu-tiny").unwrap();
        assert_eq!(tiny.baseline, Baseline::StableDiffusion1);
        assert!(!reference.is_only_by_name("ordu-tiny"));
        assert_eq!(
            reference.baseline("ordu-tiny-cascade"),
            Baseline::StableCascade
        );
        assert!(reference.is_only_by_name("ordu-tiny-cascade"));
    }

    #[test]
    fn unknown_members_are_ignored_and_bad_models_left_out() {
        let reference = ModelReference::from_json(
            r#"{"a": {"baseline": "flux_1", "news": [1], "requirements": {"min_steps": 4, "x": 1}},
                "b": {"baseline": "wonder"},
                "c": {"baseline": 5}}"#,
        )
        .unwrap();
        assert_eq!(reference.baseline("a"), Baseline::Flux1);
        assert_eq!(reference.get("a").unwrap().requirements.min_steps, Some(4));
        assert_eq!(reference.baseline("b"), Baseline::Other);
        assert_eq!(reference.unreadable(), ["c"]);
        assert!(ModelReference::from_json("[]").is_err());
    }

    #[test]
    fn the_newer_of_two_entries_is_right() {
        let read = |text| ModelReference::from_json(text).unwrap();
        let old = read(r#"{"a": {"baseline": "flux_1"}, "b": {"baseline": "flux_1"}}"#);
        let new = read(r#"{"b": {"baseline": "qwen_image"}, "c": {"baseline": "qwen_image"}}"#);
        let both = old.with_images(&new);
        let baselines = ["a", "b", "c"].map(|name| both.get(name).map(|model| model.baseline));
        let qwen = Some(Baseline::QwenImage);
        assert_eq!(baselines, [Some(Baseline::Flux1), qwen, qwen]);
        let changed = both.with_image("a".to_owned(), Model::default());
        assert_eq!(changed.baseline("a"), Baseline::StableDiffusion1);
        assert!(!changed.is_empty() && ModelReference::default().is_empty());
    }

    #[test]
    fn unknown_names_are_judged_by_their_marks() {
        let reference = ModelReference::default();
        let cases = [
            ("My [SDXL] mix", Baseline::StableDiffusionXl),
            ("x [Flux]", Baseline::Flux1),
            ("[Qwen]", Baseline::QwenImage),
            ("[ZModel] y", Baseline::ZImageTurbo),
            ("[ZImage] y", Baseline::ZImageTurbo),
            ("Pony Diffusion XL", Baseline::StableDiffusion1),
        ];
        for (name, baseline) in cases {
            assert_eq!(reference.baseline(name), baseline, "{name}");
        }
    }
}
