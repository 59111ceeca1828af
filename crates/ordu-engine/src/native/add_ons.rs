//! LoRAs and textual inversions: where their files lie, and what a task wants of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::sd::files::ModelFiles;
use super::sd::lora::{Changes, Strengths};
use super::sd::prompt;
use super::sd::text::TextEncoders;
use super::sd::words::Words;
use super::weights::TensorFile;
use crate::{EngineError, Feature, ImageTask, Lora};

/// Folders with add-ons.
#[derive(Debug)]
pub(super) struct AddOns {
    loras: Vec<PathBuf>,
    embeddings: Vec<PathBuf>,
}

/// A LoRA as one task wants it, and which file that is at present.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoraKey {
    lora: Lora,
    path: PathBuf,
    changed: Option<SystemTime>,
    bytes: u64,
}

/// The only kind of file that is read; others can run code when opened.
const EXTENSION: &str = ".safetensors";

impl AddOns {
    pub(super) fn new(loras: &[PathBuf], embeddings: &[PathBuf]) -> Self {
        Self {
            loras: loras.to_vec(),
            embeddings: embeddings.to_vec(),
        }
    }

    /// What tasks may ask for. A folder may come later than this engine.
    pub(super) fn features(&self) -> impl Iterator<Item = Feature> {
        let is_there = |folders: &[PathBuf]| folders.iter().any(|folder| folder.is_dir());
        let loras = is_there(&self.loras).then_some(Feature::Lora);
        let embeddings = is_there(&self.embeddings).then_some(Feature::TextualInversion);
        loras.into_iter().chain(embeddings)
    }

    /// The files of LoRAs that change anything, in their order.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoAddOn`] for the first one that is not there.
    pub(super) fn loras(&self, loras: &[Lora]) -> Result<Vec<LoraKey>, EngineError> {
        let wanted = loras
            .iter()
            .filter(|lora| lora.model != 0.0 || lora.clip != 0.0);
        let key = |lora: &Lora| {
            let path = find(&self.loras, &lora.file)?;
            let file = std::fs::metadata(&path).ok();
            Ok(LoraKey {
                lora: lora.clone(),
                path,
                changed: file.as_ref().and_then(|file| file.modified().ok()),
                bytes: file.map_or(0, |file| file.len()),
            })
        };
        wanted.map(key).collect()
    }

    /// The learned words of a task: those that it brings, and those that its prompts name and that are
    /// here.
    ///
    /// # Errors
    ///
    /// What is wrong with one that it brings.
    pub(super) fn words(
        &self,
        task: &ImageTask,
        text: &TextEncoders,
    ) -> Result<Words, EngineError> {
        let widths: Vec<usize> = text.towers.iter().map(|tower| tower.clip.width()).collect();
        let mut words = Words::default();
        let mut add = |name: &str| words.add(name, &open(&self.embeddings, name)?, &widths);
        let brought: BTreeSet<&str> = task.embeddings.iter().map(|it| it.name.as_str()).collect();
        for name in &brought {
            add(name)?;
        }
        let named = [&task.prompt, &task.negative_prompt].map(|text| prompt::named(text));
        let named: BTreeSet<String> = named.into_iter().flatten().collect();
        for name in named.iter().filter(|name| !brought.contains(name.as_str())) {
            if let Err(error) = add(name) {
                tracing::debug!(%error, "a word of a prompt is left out");
            }
        }
        Ok(words)
    }
}

/// What LoRAs change of a model.
///
/// # Errors
///
/// [`EngineError::AddOnMismatch`], [`EngineError::BadAddOn`].
pub(super) fn changes(loras: &[LoraKey], model: &ModelFiles) -> Result<Changes, EngineError> {
    let mut changes = Changes::default();
    for LoraKey { lora, path, .. } in loras {
        let strengths = Strengths {
            unet: f64::from(lora.model),
            text: f64::from(lora.clip),
        };
        let file = read(&lora.file, path)?;
        changes.add((&lora.file, &file), model, strengths)?;
    }
    Ok(changes)
}

fn open(folders: &[PathBuf], name: &str) -> Result<TensorFile, EngineError> {
    read(name, &find(folders, name)?)
}

/// Whatever is wrong with the file, it is the add-on that is to be left out.
fn read(name: &str, path: &Path) -> Result<TensorFile, EngineError> {
    TensorFile::open(path).map_err(|error| match error {
        EngineError::BadModel { reason, .. } => EngineError::bad_add_on(name, reason),
        EngineError::Io { source, .. } => EngineError::bad_add_on(name, source.to_string()),
        other => other,
    })
}

/// The file of a name, with or without its extension, in the first folder that has it. Names come from
/// strangers: one that leads out of a folder is not there.
fn find(folders: &[PathBuf], name: &str) -> Result<PathBuf, EngineError> {
    let none = || EngineError::NoAddOn {
        name: name.to_owned(),
    };
    let is_plain =
        !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0']);
    if !is_plain {
        return Err(none());
    }
    let file = if name.ends_with(EXTENSION) {
        name.to_owned()
    } else {
        format!("{name}{EXTENSION}")
    };
    folders
        .iter()
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file())
        .ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("lora");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("secret.safetensors"), "x").unwrap();
        std::fs::write(inner.join("a.safetensors"), "x").unwrap();
        std::fs::write(inner.join("b.pt"), "x").unwrap();
        let folders = [PathBuf::from("/no/such"), inner.clone()];
        let found = |name: &str| find(&folders, name).ok();
        assert_eq!(found("a"), Some(inner.join("a.safetensors")));
        assert_eq!(found("a.safetensors"), Some(inner.join("a.safetensors")));
        for name in [
            "",
            ".",
            "..",
            "../secret",
            "..\\secret",
            "b.pt",
            "b",
            "x\0",
            "lora/a",
        ] {
            assert_eq!(found(name), None, "{name}");
        }
        let absolute = folder.path().join("secret");
        assert_eq!(found(&absolute.to_string_lossy()), None);
    }
}
