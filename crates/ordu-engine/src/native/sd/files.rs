//! Where the parts of a model lie: in this program, in one file, or in a folder in the layout of
//! diffusers.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::config::{ClipConfig, SchedulerConfig, UNetConfig, VaeConfig};
use super::tokenizer::Tokenizer;
use crate::native::Compute;
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
    /// The text encoder.
    pub text: (Weights, ClipConfig),
    /// The diffusion network.
    pub unet: (Weights, UNetConfig),
    /// The autoencoder.
    pub vae: (Weights, VaeConfig),
    /// The noise of training.
    pub scheduler: SchedulerConfig,
    /// Folders in which the tokenizer is looked for.
    tokenizer: Vec<PathBuf>,
}

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
            text: (
                weights("text_encoder", bundled!("text_encoder/model.safetensors"))?,
                parse("text_encoder", bundled!("text_encoder/config.json"))?,
            ),
            unet: (
                weights("unet", bundled!("unet/diffusion_pytorch_model.safetensors"))?,
                parse("unet", bundled!("unet/config.json"))?,
            ),
            vae: (
                weights("vae", bundled!("vae/diffusion_pytorch_model.safetensors"))?,
                parse("vae", bundled!("vae/config.json"))?,
            ),
            scheduler: parse("scheduler", bundled!("scheduler/scheduler_config.json"))?,
            tokenizer: Vec::new(),
        })
    }

    /// A folder in the layout of diffusers; `None` if it is none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] or [`EngineError::BadModel`] if a part is missing or unusable.
    pub fn folder(path: &Path) -> Result<Option<Self>, EngineError> {
        if !path.join("unet").join("config.json").is_file() {
            return Ok(None);
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
            text: part(path, "text_encoder")?,
            unet: part(path, "unet")?,
            vae: part(path, "vae")?,
            scheduler,
            tokenizer: vec![path.join("tokenizer"), path.to_owned()],
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
        if !ldm::is_checkpoint(&file) {
            return Ok(None);
        }
        let name = name_of(path);
        if ldm::has_open_clip(&file) {
            let reason =
                "single files of Stable Diffusion 2 are not read yet: use its diffusers folder";
            return Err(EngineError::bad_model(name, reason));
        }
        let parts = ldm::split(&file);
        let text = ClipConfig::from_shapes(&parts.text)?;
        let unet = UNetConfig::from_shapes(&parts.unet)?;
        let vae = VaeConfig::from_shapes(&parts.vae)?;
        let beside = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Some(Self {
            // A folder of its own for one model, or one for all models of the folder.
            tokenizer: vec![
                path.with_extension("tokenizer"),
                beside.join("tokenizer"),
                beside,
            ],
            name,
            origin: Origin::File(path.to_owned()),
            text: (parts.text, text),
            unet: (parts.unet, unet),
            vae: (parts.vae, vae),
            scheduler: SchedulerConfig::default(),
        }))
    }

    /// The tokenizer of the text encoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoTokenizer`] if there is none, [`EngineError::BadModel`] if it is unusable.
    pub fn tokenizer(&self) -> Result<Tokenizer, EngineError> {
        if self.origin == Origin::Bundled {
            return Tokenizer::from_json(bundled!("tokenizer/tokenizer.json"));
        }
        Tokenizer::find(&self.name, &self.tokenizer)
    }

    /// Size of all parts in the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.text.0.bytes() + self.unet.0.bytes() + self.vae.0.bytes()
    }

    /// Size of all parts in memory, in bytes.
    pub fn bytes_loaded(&self, compute: &Compute) -> u64 {
        let size = |weights: &Weights, compute: &Compute| -> u64 {
            let each = compute.dtype().size_in_bytes();
            weights
                .iter()
                .map(|(_, entry)| (each * entry.shape().iter().product::<usize>()) as u64)
                .sum()
        };
        size(&self.text.0, compute)
            + size(&self.unet.0, compute)
            + size(&self.vae.0, &compute.for_autoencoder())
    }
}

/// Name of the model that is part of this program.
pub const BUNDLED: &str = "ordu-tiny";

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
