//! Where readers of pictures lie, and which they are.
//!
//! A reader is a folder with `config.json` and `model.safetensors`, beside them the tokenizer of those
//! that know words. Files that come later are found when somebody looks again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::{Captioner, ClipReader, SafetyChecker, caption, clip, safety};
use crate::EngineError;
use crate::native::sd::tokenizer::Tokenizer;
use crate::native::weights::{TensorFile, Weights, read_small};

/// The largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// The folder of checkpoints in a store of models of many kinds, and those of readers beside it.
const CHECKPOINTS: &str = "compvis";
const BESIDE: [&str; 4] = ["blip", "clip", "safety_checker", "miscellaneous"];

/// What a reader is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Caption,
    Interrogation,
    Safety,
}

impl Kind {
    /// As messages name it.
    pub(super) fn work(self) -> &'static str {
        match self {
            Self::Caption => "captions (a folder with BLIP)",
            Self::Interrogation => "interrogation (a folder with CLIP)",
            Self::Safety => "`nsfw` (a folder with the safety checker of Stable Diffusion)",
        }
    }

    /// The kind of the network that has such tensors.
    fn of(weights: &Weights) -> Option<Self> {
        let marks = [
            (
                Self::Caption,
                "text_decoder.bert.embeddings.word_embeddings.weight",
            ),
            (Self::Safety, "concept_embeds"),
            (Self::Interrogation, "logit_scale"),
        ];
        let found = marks
            .into_iter()
            .find(|(_, mark)| weights.shape(mark).is_some());
        found.map(|(kind, _)| kind)
    }
}

/// A folder that may be a reader, and when its weights were changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    changed: Option<SystemTime>,
}

/// A reader that was found, or why it is none.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) stamp: Stamp,
    pub(super) kind: Result<Kind, String>,
}

/// The folders to look in.
pub(super) fn places(models: &Path) -> Vec<PathBuf> {
    let mut places = vec![models.to_owned()];
    if models.file_name().is_some_and(|name| name == CHECKPOINTS)
        && let Some(store) = models.parent()
    {
        places.extend(BESIDE.map(|name| store.join(name)));
    }
    places
}

/// What of some places may be a reader, by name: the places themselves, folders in them, and the
/// `safety_checker` of those.
pub(super) fn stamps(places: &[PathBuf]) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for place in places {
        stamps.extend(stamp(place));
        let inside = std::fs::read_dir(place).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = inside.map(|entry| entry.path()).collect();
        folders.sort();
        for folder in folders {
            stamps.extend(stamp(&folder));
            stamps.extend(stamp(&folder.join("safety_checker")));
        }
    }
    stamps
}

fn stamp(path: &Path) -> Option<Stamp> {
    let config = path.join(CONFIG);
    let weights = std::fs::metadata(path.join(WEIGHTS)).ok()?;
    (config.is_file() && weights.is_file()).then(|| Stamp {
        path: path.to_owned(),
        bytes: weights.len(),
        changed: weights.modified().ok(),
    })
}

/// The readers among them. Networks that are something else are passed over in silence.
pub(super) fn look(stamps: &[Stamp]) -> Vec<Folder> {
    let folder = |stamp: &Stamp| {
        let folder = |kind| Folder {
            stamp: stamp.clone(),
            kind,
        };
        let kind = weights(&stamp.path).map(|weights| Kind::of(&weights));
        match kind {
            Ok(None) => None,
            Ok(Some(kind)) => {
                let found = folder(Ok(kind));
                Some(match found.complete(kind) {
                    Ok(()) => found,
                    Err(problem) => folder(Err(problem.to_string())),
                })
            }
            Err(problem) => Some(folder(Err(problem.to_string()))),
        }
    };
    stamps.iter().filter_map(folder).collect()
}

impl Stamp {
    /// What the folder is called.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Folder {
    /// Looks whether everything beside the weights is there.
    fn complete(&self, kind: Kind) -> Result<(), EngineError> {
        match kind {
            Kind::Caption => {
                config::<caption::Config>(&self.stamp.path)?;
                caption::Words::find(&self.stamp.path)?;
            }
            Kind::Interrogation => {
                config::<clip::Config>(&self.stamp.path)?;
                tokenizer(&self.stamp.path)?;
            }
            Kind::Safety => drop(config::<safety::Config>(&self.stamp.path)?),
        }
        Ok(())
    }
}

fn weights(folder: &Path) -> Result<Weights, EngineError> {
    Ok(Weights::from_file(&TensorFile::open(
        &folder.join(WEIGHTS),
    )?))
}

fn config<C: DeserializeOwned>(folder: &Path) -> Result<C, EngineError> {
    let path = folder.join(CONFIG);
    let bytes = read_small(&path, MAX_CONFIG_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| EngineError::bad_model(path.display().to_string(), error.to_string()))
}

fn tokenizer(folder: &Path) -> Result<Tokenizer, EngineError> {
    let name = folder.display().to_string();
    Tokenizer::find(&name, &[folder.to_owned()])
}

/// Says of an error which folder it is about.
fn named<T>(folder: &Path, made: Result<T, EngineError>) -> Result<T, EngineError> {
    made.map_err(|error| match error {
        EngineError::BadModel { model, reason } => {
            EngineError::bad_model(folder.display().to_string(), format!("{model}: {reason}"))
        }
        other => other,
    })
}

impl Captioner {
    /// Loads the BLIP of a folder.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`], [`EngineError::NoTokenizer`], and [`EngineError::BadModel`] that names what
    /// does not fit.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let words = caption::Words::find(folder)?;
        named(
            folder,
            Self::new(&weights(folder)?, &config(folder)?, words),
        )
    }
}

impl ClipReader {
    /// Loads the CLIP of a folder.
    ///
    /// # Errors
    ///
    /// As [`Captioner::open`].
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let made = Self::new(&weights(folder)?, &config(folder)?, tokenizer(folder)?);
        named(folder, made)
    }
}

impl SafetyChecker {
    /// Loads the safety checker of a folder.
    ///
    /// # Errors
    ///
    /// As [`Captioner::open`].
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        named(folder, Self::new(&weights(folder)?, &config(folder)?))
    }
}
