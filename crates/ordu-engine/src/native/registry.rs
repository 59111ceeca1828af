//! Which models there are: bundled ones, and what lies in a folder.
//!
//! A model is recognised by its tensors, never by its name. Files that hold something else
//! (add-ons, utility models) are passed over in silence; models that cannot be used are remembered
//! with the reason. What comes into the folder later becomes a model then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use super::cascade::files::{CascadeFiles, Halves};
use super::sd::describe;
use super::sd::files::ModelFiles;
use crate::{EngineError, ModelInfo};

/// All models, bundled ones first, then by name.
#[derive(Debug)]
pub(super) struct Registry {
    folder: Option<PathBuf>,
    /// Whether the bundled Stable Cascade is one of them.
    cascade: bool,
    known: RwLock<Known>,
    /// What was wrong when it was opened.
    problems: Vec<EngineError>,
}

#[derive(Debug, Default)]
struct Known {
    files: Vec<Arc<ModelFiles>>,
    cascades: Vec<Arc<CascadeFiles>>,
    infos: Vec<ModelInfo>,
    problems: Vec<EngineError>,
    /// What the folder looked like.
    seen: Vec<Seen>,
}

/// A file or folder that may be a model, and when it was changed last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    path: PathBuf,
    changed: Option<SystemTime>,
    bytes: u64,
}

impl Registry {
    pub(super) fn open(folder: Option<&Path>, cascade: bool) -> Result<Self, EngineError> {
        let seen = folder.map(look).transpose()?.unwrap_or_default();
        let mut known = Known::of(seen, cascade);
        Ok(Self {
            folder: folder.map(Path::to_owned),
            cascade,
            problems: std::mem::take(&mut known.problems),
            known: RwLock::new(known),
        })
    }

    /// Looks whether the folder has changed, and if so, what is in it now.
    fn refresh(&self) {
        let Some(Ok(seen)) = self.folder.as_deref().map(look) else {
            return;
        };
        if self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .seen
            == seen
        {
            return;
        }
        let fresh = Known::of(seen, self.cascade);
        for problem in &fresh.problems {
            tracing::warn!(%problem, "a file in the folder of models is none");
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    pub(super) fn infos(&self) -> Vec<ModelInfo> {
        self.refresh();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.infos.clone()
    }

    /// The files of all models of Stable Diffusion.
    pub(super) fn all(&self) -> Vec<Arc<ModelFiles>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.files.clone()
    }

    /// The files of the Stable Cascade of a name.
    pub(super) fn cascade(&self, name: &str) -> Option<Arc<CascadeFiles>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .cascades
            .iter()
            .find(|files| files.name == name)
            .cloned()
    }

    /// Whether there is any Stable Cascade.
    pub(super) fn has_cascade(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        !known.cascades.is_empty()
    }

    /// Notes what is wrong with other files of the folder.
    pub(super) fn complain(&mut self, problems: Vec<EngineError>) {
        self.problems.extend(problems);
    }

    pub(super) fn problems(&self) -> &[EngineError] {
        &self.problems
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<ModelFiles>, EngineError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.files.iter().find(|files| files.name == name);
        found.cloned().ok_or_else(|| EngineError::UnknownModel {
            name: name.to_owned(),
            known: known.infos.iter().map(|info| info.name.clone()).collect(),
        })
    }
}

/// What of a folder may be a model, by name.
fn look(folder: &Path) -> Result<Vec<Seen>, EngineError> {
    let io = |source| EngineError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        // One that is being removed at this moment is not there.
        let Ok(found) = std::fs::metadata(&path) else {
            continue;
        };
        let is_file = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
        if found.is_dir() || is_file {
            seen.push(Seen {
                path,
                changed: found.modified().ok(),
                bytes: found.len(),
            });
        }
    }
    seen.sort();
    Ok(seen)
}

impl Known {
    fn of(seen: Vec<Seen>, cascade: bool) -> Self {
        let mut known = Self::default();
        known.add(ModelFiles::bundled().map(Some));
        if cascade {
            known.add_cascade(CascadeFiles::bundled());
        }
        let mut halves = Halves::default();
        for entry in &seen {
            let path = &entry.path;
            if path.is_dir() {
                match CascadeFiles::folder(path).transpose() {
                    Some(found) => known.add_cascade(found),
                    None => known.add(ModelFiles::folder(path)),
                }
            } else if !halves.add(path).unwrap_or_default() {
                // What cannot be read says so here.
                known.add(ModelFiles::file(path));
            }
        }
        for found in halves.models() {
            known.add_cascade(found);
        }
        known.seen = seen;
        known
    }

    fn add_cascade(&mut self, found: Result<CascadeFiles, EngineError>) {
        match found {
            Ok(files) if self.is_new(&files.name) => {
                self.infos.push(files.info());
                self.cascades.push(Arc::new(files));
            }
            Ok(files) => self.problems.push(taken(files.name)),
            Err(error) => self.problems.push(error),
        }
    }

    fn is_new(&self, name: &str) -> bool {
        self.infos.iter().all(|other| other.name != name)
    }

    fn add(&mut self, found: Result<Option<ModelFiles>, EngineError>) {
        let described = found.and_then(|files| {
            files
                .map(|files| Ok((describe(&files)?, files)))
                .transpose()
        });
        match described {
            Ok(Some((info, files))) if self.is_new(&info.name) => {
                self.infos.push(info);
                self.files.push(Arc::new(files));
            }
            Ok(Some((info, _))) => self.problems.push(taken(info.name)),
            Ok(None) => {}
            Err(error) => self.problems.push(error),
        }
    }
}

fn taken(name: String) -> EngineError {
    EngineError::bad_model(name, "another model has the same name")
}
