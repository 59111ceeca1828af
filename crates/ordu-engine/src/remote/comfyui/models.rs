//! Which models a ComfyUI can draw with: those whose files it lists.

use serde_json::Value;

use super::shelf::{Shelf, stem};
use crate::{Baseline, Fit, ModelInfo, Origin, Prediction};

/// A model by the name tasks use, and the files it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComfyModel {
    /// The name tasks use.
    pub name: String,
    /// Its family.
    pub baseline: Baseline,
    /// The side of the square it draws best, in pixels; 0 for the usual one of its family.
    pub native: u32,
    /// Whether it is made for filling in.
    pub inpainting: bool,
    /// Its files, by the names ComfyUI lists them under, with or without folders.
    pub files: ModelFiles,
}

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// Everything in one file.
    Checkpoint(String),
    /// The two checkpoints of Stable Cascade.
    Cascade {
        /// The first stage.
        stage_c: String,
        /// The second stage with the autoencoder.
        stage_b: String,
    },
    /// A file per part.
    Split {
        /// The diffusion model.
        diffusion: String,
        /// The text encoder.
        text_encoder: String,
        /// The autoencoder.
        vae: String,
    },
}

impl ModelFiles {
    /// The files as this ComfyUI names them; `None` if one is missing, or the node to load it.
    pub(super) fn found(&self, shelf: &Shelf) -> Option<Self> {
        let checkpoint = |file: &str| {
            let found = shelf.file("CheckpointLoaderSimple", "ckpt_name", file)?;
            Some(found.to_owned())
        };
        let part = |class, input, file: &str| Some(shelf.file(class, input, file)?.to_owned());
        match self {
            Self::Checkpoint(file) => Some(Self::Checkpoint(checkpoint(file)?)),
            Self::Cascade { stage_c, stage_b } => Some(Self::Cascade {
                stage_c: checkpoint(stage_c)?,
                stage_b: checkpoint(stage_b)?,
            }),
            Self::Split {
                diffusion,
                text_encoder,
                vae,
            } => Some(Self::Split {
                diffusion: part("UNETLoader", "unet_name", diffusion)?,
                text_encoder: part("CLIPLoader", "clip_name", text_encoder)?,
                vae: part("VAELoader", "vae_name", vae)?,
            }),
        }
    }

    fn names(&self) -> Vec<String> {
        match self.clone() {
            Self::Checkpoint(file) => vec![file],
            Self::Cascade { stage_c, stage_b } => vec![stage_c, stage_b],
            Self::Split {
                diffusion,
                text_encoder,
                vae,
            } => vec![diffusion, text_encoder, vae],
        }
    }

    /// Whether a family can be drawn with files of this kind.
    fn suits(&self, baseline: Baseline) -> bool {
        match baseline {
            Baseline::StableCascade => matches!(self, Self::Cascade { .. }),
            Baseline::QwenImage | Baseline::ZImageTurbo => matches!(self, Self::Split { .. }),
            _ => matches!(self, Self::Checkpoint(_)),
        }
    }
}

/// A model that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stocked {
    /// What is said about it.
    pub info: ModelInfo,
    /// Its files as this ComfyUI names them.
    pub files: ModelFiles,
}

impl Stocked {
    /// What stands for the model of a task that needs none.
    pub(super) fn none() -> Self {
        let files = ModelFiles::Checkpoint(String::new());
        let model = ComfyModel {
            name: String::new(),
            baseline: Baseline::Custom,
            native: 0,
            inpainting: false,
            files: files.clone(),
        };
        Self {
            info: info(&model, &files),
            files,
        }
    }
}

/// Classes without which a family cannot be drawn.
fn needed(baseline: Baseline) -> &'static [&'static str] {
    match baseline {
        Baseline::StableCascade => &[
            "StableCascade_EmptyLatentImage",
            "StableCascade_StageB_Conditioning",
            "StableCascade_StageC_VAEEncode",
            "ConditioningZeroOut",
        ],
        Baseline::Flux1 | Baseline::FluxSchnell | Baseline::FluxDev => &[
            "SamplerCustomAdvanced",
            "CFGGuider",
            "BasicScheduler",
            "KSamplerSelect",
            "RandomNoise",
            "EmptySD3LatentImage",
        ],
        Baseline::QwenImage | Baseline::ZImageTurbo => {
            &["ModelSamplingAuraFlow", "EmptySD3LatentImage"]
        }
        _ => &["EmptyLatentImage"],
    }
}

/// The models of this list that are there, in its order.
pub(super) fn stocked(models: &[ComfyModel], shelf: &Shelf) -> Vec<Stocked> {
    let found = models.iter().filter_map(|model| {
        let fits = model.files.suits(model.baseline) && shelf.has_all(needed(model.baseline));
        let files = model.files.found(shelf).filter(|_| fits)?;
        Some(Stocked {
            info: info(model, &files),
            files,
        })
    });
    found.collect()
}

/// The checkpoints that are there and not part of these models, under the names of their files.
pub(super) fn unlisted(listed: &[Stocked], shelf: &Shelf) -> Vec<String> {
    let taken: Vec<String> = listed
        .iter()
        .flat_map(|model| model.files.names())
        .collect();
    let files = shelf.choices("CheckpointLoaderSimple", "ckpt_name").iter();
    files
        .filter(|file| !taken.contains(file))
        .cloned()
        .collect()
}

/// A checkpoint of which only its file is known, and perhaps what the file says about itself.
pub(super) fn from_metadata(file: String, metadata: Option<&Value>) -> ComfyModel {
    let said = metadata.and_then(|said| said.get("modelspec.architecture")?.as_str());
    let said = said.unwrap_or_default();
    let baseline = if said.starts_with("stable-diffusion-xl") {
        Baseline::StableDiffusionXl
    } else if said.starts_with("stable-diffusion-v1") {
        Baseline::StableDiffusion1
    } else if said.starts_with("stable-diffusion-v2") {
        Baseline::StableDiffusion2
    } else if said.starts_with("flux-1-schnell") {
        Baseline::FluxSchnell
    } else if said.starts_with("flux-1-dev") {
        Baseline::FluxDev
    } else {
        Baseline::Custom
    };
    ComfyModel {
        name: stem(&file).to_owned(),
        baseline,
        native: if said.contains("768") { 768 } else { 0 },
        inpainting: said.ends_with("inpainting"),
        files: ModelFiles::Checkpoint(file),
    }
}

fn info(model: &ComfyModel, files: &ModelFiles) -> ModelInfo {
    let usual = match model.baseline {
        Baseline::StableDiffusion1 | Baseline::StableDiffusion2 => 512,
        _ => 1024,
    };
    ModelInfo {
        name: model.name.clone(),
        baseline: model.baseline,
        native: if model.native == 0 {
            usual
        } else {
            model.native
        },
        fit: Fit::Exact,
        prediction: Prediction::Epsilon,
        inpainting: model.inpainting,
        bytes: 0,
        origin: Origin::Remote(files.names()),
    }
}
