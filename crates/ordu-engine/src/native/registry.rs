//! Which models there are: the bundled one, and what lies in a folder.
//!
//! A model is recognised by its tensors, never by its name. Files that hold something else
//! (add-ons, utility models) are passed over in silence; models that cannot be used are remembered
//! with the reason.

use std::path::{Path, PathBuf};

use super::sd::describe;
use super::sd::files::ModelFiles;
use crate::{EngineError, ModelInfo};

/// All models, bundled ones first, then by name.
#[derive(Debug)]
pub(super) struct Registry {
    files: Vec<ModelFiles>,
    infos: Vec<ModelInfo>,
    problems: Vec<EngineError>,
}

impl Registry {
    pub(super) fn open(folder: Option<&Path>) -> Result<Self, EngineError> {
        let mut registry = Self {
            files: Vec::new(),
            infos: Vec::new(),
            problems: Vec::new(),
        };
        registry.add(ModelFiles::bundled().map(Some));
        let Some(folder) = folder else {
            return Ok(registry);
        };
        let io = |source| EngineError::Io {
            path: folder.to_owned(),
            source,
        };
        let entries = std::fs::read_dir(folder).map_err(io)?;
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(io)?.path());
        }
        paths.sort();
        for path in paths {
            let found = if path.is_dir() {
                ModelFiles::folder(&path)
            } else if path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
            {
                ModelFiles::file(&path)
            } else {
                continue;
            };
            registry.add(found);
        }
        Ok(registry)
    }

    fn add(&mut self, found: Result<Option<ModelFiles>, EngineError>) {
        let described = found.and_then(|files| {
            files
                .map(|files| Ok((describe(&files)?, files)))
                .transpose()
        });
        match described {
            Ok(Some((info, files))) if self.infos.iter().all(|other| other.name != info.name) => {
                self.infos.push(info);
                self.files.push(files);
            }
            Ok(Some((info, _))) => {
                self.problems.push(EngineError::bad_model(
                    info.name,
                    "another model has the same name",
                ));
            }
            Ok(None) => {}
            Err(error) => self.problems.push(error),
        }
    }

    pub(super) fn infos(&self) -> &[ModelInfo] {
        &self.infos
    }

    /// Notes what is wrong with other files of the folder.
    pub(super) fn complain(&mut self, problems: Vec<EngineError>) {
        self.problems.extend(problems);
    }

    pub(super) fn problems(&self) -> &[EngineError] {
        &self.problems
    }

    pub(super) fn get(&self, name: &str) -> Result<&ModelFiles, EngineError> {
        self.files
            .iter()
            .find(|files| files.name == name)
            .ok_or_else(|| EngineError::UnknownModel {
                name: name.to_owned(),
                known: self.infos.iter().map(|info| info.name.clone()).collect(),
            })
    }
}
