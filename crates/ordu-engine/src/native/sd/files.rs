//! Where the parts of a model lie: in this program, in one file, or in a folder in the layout of
//! diffusers.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::{ClipConfig, SchedulerConfig, UNetConfig, VaeConfig};
use super::prediction;
use super::text::Habit;
use super::tokenizer::Tokenizer;
use crate::native::Compute;
use crate::native::weights::ldm::TextLayout;
use crate::native::weights::{TensorFile, Weights, ldm, read_small};
use crate::{EngineError, Origin};

/// The largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The headers and numbers of a model: enough to describe it and to load it.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The name tasks use.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The text encoders, one or two.
    pub texts: Vec<TextFiles>,
    /// The diffusion network.
    pub unet: (Weights, UNetConfig),
    /// The autoencoder.
    pub vae: (Weights, VaeConfig),
    /// The noise of training.
    pub scheduler: SchedulerConfig,
}

/// A text encoder.
#[derive(Clone, Debug)]
pub struct TextFiles {
    /// Its tensors.
    pub weights: Weights,
    /// Its numbers.
    pub config: ClipConfig,
    /// How it was used in training.
    pub habit: Habit,
    /// Folders in which its tokenizer is looked for.
    tokenizer: Vec<PathBuf>,
    /// What fills its chunks, where that is not what the tokenizer says.
    pad: Option<u32>,
}

/// What fills the chunks of OpenCLIP's encoders.
const OPEN_CLIP_PAD: u32 = 0;

macro_rules! bundled {
    ($path:literal) => {
        include_bytes!(concat!("../../../models/ordu-tiny/", $path))
    };
}

impl ModelFiles {
    /// The model that is part of this program.
    ///
    /// # Errors
    ///
    /// None in a program whose tests have passed.
    pub fn bundled() -> Result<Self, EngineError> {
        let weights = |part: &str, bytes: &'static [u8]| {
            Ok::<_, EngineError>(Weights::from_file(&TensorFile::bundled(part, bytes)?))
        };
        Ok(Self {
            name: BUNDLED.to_owned(),
            origin: Origin::Bundled,
            texts: vec![TextFiles {
                weights: weights("text_encoder", bundled!("text_encoder/model.safetensors"))?,
                config: parse("text_encoder", bundled!("text_encoder/config.json"))?,
                habit: Habit::FIRST,
                tokenizer: Vec::new(),
                pad: None,
            }],
            unet: (
                weights("unet", bundled!("unet/diffusion_pytorch_model.safetensors"))?,
                parse("unet", bundled!("unet/config.json"))?,
            ),
            vae: (
                weights("vae", bundled!("vae/diffusion_pytorch_model.safetensors"))?,
                parse("vae", bundled!("vae/config.json"))?,
            ),
            scheduler: parse("scheduler", bundled!("scheduler/scheduler_config.json"))?,
        })
    }

    /// A folder in the layout of diffusers; `None` if it is none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] or [`EngineError::BadModel`] if a part is missing or unusable.
    pub fn folder(path: &Path) -> Result<Option<Self>, EngineError> {
        if !path.join("unet").join("config.json").is_file() {
            return no_unet(path);
        }
        let scheduler = path.join("scheduler").join("scheduler_config.json");
        let scheduler = if scheduler.is_file() {
            parse_file(&scheduler)?
        } else {
            SchedulerConfig::default()
        };
        Ok(Some(Self {
            name: name_of(path),
            origin: Origin::Folder(path.to_owned()),
            texts: texts_of_folder(path)?,
            unet: part(path, "unet")?,
            vae: match beside(path)? {
                Some(vae) => vae,
                None => part(path, "vae")?,
            },
            scheduler,
        }))
    }

    /// A single file in the original layout; `None` if it is something else.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] or [`EngineError::BadModel`] if it cannot be read or its header is
    /// refused.
    pub fn file(path: &Path) -> Result<Option<Self>, EngineError> {
        let file = TensorFile::open(path)?;
        if let Some(family) = ldm::stranger(&file) {
            let reason = format!("it is {family}; only Stable Diffusion 1, 2 and XL are built");
            return Err(EngineError::bad_model(name_of(path), reason));
        }
        if !ldm::is_checkpoint(&file) {
            return Ok(None);
        }
        let parts = ldm::split(&file);
        let texts = texts_of_file(path, parts.texts)?;
        let summary = texts.iter().rev().find_map(TextFiles::summary);
        let unet = UNetConfig::from_shapes(&parts.unet, summary)?;
        let scheduler = prediction::of_file(path, &file, (&parts.unet, &unet));
        let unet = UNetConfig {
            sample_size: prediction::side(&unet, &scheduler),
            ..unet
        };
        let mut vae_config = VaeConfig::from_shapes(&parts.vae)?;
        if unet.text_and_sizes().is_some() {
            vae_config.scaling_factor = XL_SCALE;
        }
        Ok(Some(Self {
            name: name_of(path),
            origin: Origin::File(path.to_owned()),
            texts,
            unet: (parts.unet, unet),
            vae: match beside(path)? {
                Some((weights, config)) => {
                    let scaling_factor = vae_config.scaling_factor;
                    (
                        weights,
                        VaeConfig {
                            scaling_factor,
                            ..config
                        },
                    )
                }
                None => (parts.vae, vae_config),
            },
            scheduler,
        }))
    }

    /// The tokenizer of one of the text encoders.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoTokenizer`] if there is none, [`EngineError::BadModel`] if it is unusable.
    pub fn tokenizer(&self, text: &TextFiles) -> Result<Tokenizer, EngineError> {
        let tokenizer = if self.origin == Origin::Bundled {
            bundled_tokenizer()?
        } else {
            Tokenizer::find(&self.name, &text.tokenizer)?
        };
        Ok(match text.pad {
            Some(pad) => tokenizer.padded_with(pad),
            None => tokenizer,
        })
    }

    /// Size of all parts in the file, in bytes.
    pub fn bytes(&self) -> u64 {
        let texts: u64 = self.texts.iter().map(|text| text.weights.bytes()).sum();
        texts + self.unet.0.bytes() + self.vae.0.bytes()
    }

    /// Size in memory of all parts, in bytes.
    pub fn bytes_loaded(&self, compute: &Compute) -> u64 {
        self.bytes_changed(compute) + bytes_of(&self.vae.0, &compute.with_range_of_f32())
    }

    /// Size in memory of the parts that LoRAs change, in bytes.
    pub fn bytes_changed(&self, compute: &Compute) -> u64 {
        let texts = self
            .texts
            .iter()
            .map(|text| bytes_of(&text.weights, compute));
        texts.sum::<u64>() + bytes_of(&self.unet.0, compute)
    }
}

fn bytes_of(weights: &Weights, compute: &Compute) -> u64 {
    let each = compute.dtype().size_in_bytes();
    weights
        .iter()
        .map(|(_, entry)| (each * entry.shape().iter().product::<usize>()) as u64)
        .sum()
}

impl TextFiles {
    /// Width of the summary that it makes of a text.
    fn summary(&self) -> Option<usize> {
        let side = |name: &str, place: usize| {
            let shape = self.weights.shape(name)?;
            shape.get(place).copied()
        };
        side("text_projection.weight", 0).or_else(|| side("text_projection", 1))
    }
}

/// What latents of Stable Diffusion XL are multiplied by.
const XL_SCALE: f64 = 0.13025;

/// The text encoders of a single file. How many there are tells the family.
fn texts_of_file(
    path: &Path,
    found: Vec<(Weights, TextLayout)>,
) -> Result<Vec<TextFiles>, EngineError> {
    let beside = path.parent().map(Path::to_owned).unwrap_or_default();
    // A folder of its own for one model, or one for all models of the folder.
    let tokenizer = vec![
        path.with_extension("tokenizer"),
        beside.join("tokenizer"),
        beside,
    ];
    if found.is_empty() {
        let reason = "it has no text encoder: use a file with all parts, or its diffusers folder";
        return Err(EngineError::bad_model(name_of(path), reason));
    }
    let is_pair = found.len() > 1;
    let text = |(weights, layout): (Weights, TextLayout)| {
        let (act, habit, pad) = match layout {
            TextLayout::Clip => (ClipConfig::OPEN_AI, Habit::FIRST, None),
            TextLayout::OpenClip => (ClipConfig::OPEN_CLIP, Habit::SECOND, Some(OPEN_CLIP_PAD)),
        };
        Ok(TextFiles {
            config: ClipConfig::from_shapes(&weights, act)?,
            weights,
            habit: if is_pair { Habit::XL } else { habit },
            tokenizer: tokenizer.clone(),
            pad,
        })
    };
    found.into_iter().map(text).collect()
}

/// The text encoders of a folder.
fn texts_of_folder(path: &Path) -> Result<Vec<TextFiles>, EngineError> {
    let text = |name: &str, tokenizer: Vec<PathBuf>, is_pair: bool| {
        let (weights, config): (Weights, ClipConfig) = part(path, name)?;
        let habit = if is_pair {
            Habit::XL
        } else if config.hidden_act == ClipConfig::OPEN_CLIP {
            Habit::SECOND_CUT
        } else {
            Habit::FIRST
        };
        Ok::<_, EngineError>(TextFiles {
            weights,
            config,
            habit,
            tokenizer,
            pad: None,
        })
    };
    let first = vec![path.join("tokenizer"), path.to_owned()];
    let second = "text_encoder_2";
    if !path.join(second).is_dir() {
        return Ok(vec![text("text_encoder", first, false)?]);
    }
    let own = path.join("tokenizer_2");
    let pad = (!own.is_dir()).then_some(OPEN_CLIP_PAD);
    let both = [vec![own], first.clone()].concat();
    Ok(vec![
        text("text_encoder", first, true)?,
        TextFiles {
            pad,
            ..text(second, both, true)?
        },
    ])
}

/// A folder of diffusers without this kind of network says what it is; any other is no model.
fn no_unet(path: &Path) -> Result<Option<ModelFiles>, EngineError> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(rename = "_class_name")]
        class: String,
    }
    let index = path.join("model_index.json");
    if !index.is_file() {
        return Ok(None);
    }
    let Index { class } = parse_file(&index)?;
    let reason =
        format!("it is for diffusers' `{class}`; only Stable Diffusion 1, 2 and XL are built");
    Err(EngineError::bad_model(name_of(path), reason))
}

/// An autoencoder of its own for a model: `NAME.vae.safetensors` beside it, or in the folder `vae` beside
/// its folder.
fn beside(model: &Path) -> Result<Option<(Weights, VaeConfig)>, EngineError> {
    let name = name_of(model);
    let folder = model.parent().unwrap_or(Path::new(""));
    let own = format!("{name}.vae.safetensors");
    let shelf = folder.parent().map(|above| above.join("vae"));
    let places = std::iter::once(folder.join(&own)).chain(
        shelf
            .into_iter()
            .flat_map(|shelf| [shelf.join(&own), shelf.join(format!("{name}.safetensors"))]),
    );
    let Some(path) = places.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    let file = TensorFile::open(&path)?;
    let Some(weights) = ldm::lone_autoencoder(&file) else {
        let reason = format!("`{}` is no autoencoder", path.display());
        return Err(EngineError::bad_model(name, reason));
    };
    let config = VaeConfig::from_shapes(&weights)?;
    Ok(Some((weights, config)))
}

/// Name of the model that is part of this program.
pub const BUNDLED: &str = "ordu-tiny";

/// The tokenizer of the bundled models.
///
/// # Errors
///
/// None in a program whose tests have passed.
pub fn bundled_tokenizer() -> Result<Tokenizer, EngineError> {
    Tokenizer::from_json(bundled!("tokenizer/tokenizer.json"))
}

fn name_of(path: &Path) -> String {
    let stem = if path.is_dir() {
        path.file_name()
    } else {
        path.file_stem()
    };
    stem.map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Names that exporters give to the one file of a part.
const FILE_NAMES: [&str; 4] = [
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
];

fn part<C: DeserializeOwned>(folder: &Path, name: &str) -> Result<(Weights, C), EngineError> {
    let folder = folder.join(name);
    let config = parse_file(&folder.join("config.json"))?;
    let Some(path) = FILE_NAMES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
    else {
        let reason = format!(
            "`{}` has none of {}",
            folder.display(),
            FILE_NAMES.join(", ")
        );
        return Err(EngineError::bad_model(name, reason));
    };
    Ok((Weights::from_file(&TensorFile::open(&path)?), config))
}

fn parse_file<C: DeserializeOwned>(path: &Path) -> Result<C, EngineError> {
    parse(
        &path.display().to_string(),
        &read_small(path, MAX_CONFIG_BYTES)?,
    )
}

fn parse<C: DeserializeOwned>(name: &str, json: &[u8]) -> Result<C, EngineError> {
    serde_json::from_slice(json).map_err(|error| EngineError::bad_model(name, error.to_string()))
}
