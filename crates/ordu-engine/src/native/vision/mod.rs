//! Readers of pictures: what they show in words (BLIP), in lists of words (CLIP), and whether they are
//! for adults (the safety checker of Stable Diffusion).
//!
//! ```text
//! folder ─► config.json, model.safetensors ─► Captioner | ClipReader | SafetyChecker
//! picture ─► scaled, cut, normalised ─► tower ─► sentence | likenesses | yes or no
//! ```
//!
//! Files are those that transformers and diffusers save; which network a folder holds is told by its
//! tensors.
//!
//! # Source
//! `worker.md` § 4, 6.

mod beam;
mod caption;
mod clip;
mod config;
mod decoder;
mod files;
mod interrogate;
mod options;
pub mod picture;
mod safety;
mod sight;
mod tower;
mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::DynamicImage;
use serde_json::{Map, Value, json};

pub use beam::Wish;
pub use caption::Captioner;
pub use clip::ClipReader;
pub use safety::{SafetyChecker, Shown};
pub use sight::Sight;

use self::files::{Folder, Kind, Stamp};
use self::interrogate::{Asked, Phrases};
use crate::{AlchemyEngine, Answer, EngineError, Held, Place, ProgressSink};

/// Asked again and again while a network computes; what it says ends the work.
type GoOn<'a> = &'a dyn Fn() -> Result<(), EngineError>;

/// The form whose answer says more than `nsfw`: what a worker has to know of its own pictures. It is
/// answered wherever [`AlchemyEngine::forms`] names `nsfw`, and is itself no form of the protocol.
pub const SAFETY: &str = "safety";

const CAPTION: &str = "caption";
const INTERROGATION: &str = "interrogation";
const NSFW: &str = "nsfw";

/// Reads pictures with the models of a folder. The safety checker stays in memory; of the two others the
/// last that was used does.
#[derive(Debug, Default)]
pub struct Readers {
    places: Vec<PathBuf>,
    known: Mutex<Known>,
    captioner: Slot<Captioner>,
    clip: Slot<ClipReader>,
    checker: Slot<SafetyChecker>,
    phrases: Phrases,
}

/// What was found when somebody looked last.
#[derive(Debug, Default)]
struct Known {
    folders: Vec<Folder>,
    stamps: Vec<Stamp>,
}

/// A place for one model in memory.
#[derive(Debug)]
struct Slot<R>(Mutex<Option<(Stamp, Arc<R>)>>);

impl<R> Default for Slot<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> Slot<R> {
    /// The model of these files, loaded if it is not yet.
    fn model(
        &self,
        stamp: &Stamp,
        load: impl FnOnce(&Path) -> Result<R, EngineError>,
    ) -> Result<Arc<R>, EngineError> {
        let mut held = lock(&self.0);
        if let Some((known, model)) = &*held
            && known == stamp
        {
            return Ok(Arc::clone(model));
        }
        *held = None;
        let model = Arc::new(load(&stamp.path)?);
        *held = Some((stamp.clone(), Arc::clone(&model)));
        Ok(model)
    }

    fn clear(&self) {
        *lock(&self.0) = None;
    }

    fn held(&self) -> Option<Held> {
        let held = lock(&self.0);
        let (stamp, _) = held.as_ref()?;
        Some(Held {
            model: stamp.name(),
            bytes: stamp.bytes,
            place: Place::Ram,
        })
    }
}

impl Readers {
    /// Looks for models in the folders that lie in `models`, and, if that is the `compvis` of a folder
    /// with models of many kinds, in those of its neighbours that are for readers. Reads headers, loads
    /// nothing.
    pub fn open(models: &Path) -> Self {
        let readers = Self {
            places: files::places(models),
            ..Self::default()
        };
        readers.refresh();
        readers
    }

    /// Why folders that look like readers are none.
    pub fn problems(&self) -> Vec<EngineError> {
        let known = lock(&self.known);
        let problems = known
            .folders
            .iter()
            .filter_map(|folder| folder.kind.as_ref().err());
        let told = problems.map(|reason| EngineError::Failed {
            reason: reason.clone(),
        });
        told.collect()
    }

    /// What lies in memory.
    pub fn held(&self) -> Vec<Held> {
        let held = [self.captioner.held(), self.clip.held(), self.checker.held()];
        held.into_iter().flatten().collect()
    }

    /// Looks again if files have come or gone.
    fn refresh(&self) {
        let stamps = files::stamps(&self.places);
        let mut known = lock(&self.known);
        if known.stamps != stamps {
            *known = Known {
                folders: files::look(&stamps),
                stamps,
            };
        }
    }

    /// The files for one kind of work.
    fn files(&self, kind: Kind) -> Result<Stamp, EngineError> {
        let known = lock(&self.known);
        let is_it = |folder: &&Folder| folder.kind.as_ref().ok() == Some(&kind);
        let found = known.folders.iter().find(is_it);
        let missing = || EngineError::bad_task(format!("there is no model for {}", kind.work()));
        Ok(found.ok_or_else(missing)?.stamp.clone())
    }

    fn caption(
        &self,
        picture: &DynamicImage,
        wish: &Wish,
        go_on: GoOn<'_>,
    ) -> Result<String, EngineError> {
        let files = self.files(Kind::Caption)?;
        self.clip.clear();
        let captioner = self.captioner.model(&files, Captioner::open)?;
        captioner.caption(picture, wish, go_on)
    }

    fn interrogate(
        &self,
        picture: &DynamicImage,
        asked: &Asked,
        go_on: GoOn<'_>,
    ) -> Result<Value, EngineError> {
        let files = self.files(Kind::Interrogation)?;
        self.captioner.clear();
        let clip = self.clip.model(&files, ClipReader::open)?;
        let lists = self.phrases.of(&files, &clip, go_on)?;
        interrogate::interrogate(&clip, &lists, (picture, asked), go_on)
    }

    fn shown(&self, picture: &DynamicImage, go_on: GoOn<'_>) -> Result<Shown, EngineError> {
        let files = self.files(Kind::Safety)?;
        let checker = self.checker.model(&files, SafetyChecker::open)?;
        checker.look(picture, go_on)
    }
}

/// A panic elsewhere leaves these lists whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AlchemyEngine for Readers {
    fn forms(&self) -> Vec<String> {
        self.refresh();
        let known = lock(&self.known);
        let has = |kind: Kind| {
            let mut kinds = known
                .folders
                .iter()
                .filter_map(|folder| folder.kind.as_ref().ok());
            kinds.any(|found| *found == kind)
        };
        let all = [
            (CAPTION, Kind::Caption),
            (INTERROGATION, Kind::Interrogation),
            (NSFW, Kind::Safety),
        ];
        let here = all.into_iter().filter(|(_, kind)| has(*kind));
        here.map(|(form, _)| form.to_owned()).collect()
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError> {
        if picture.width() == 0 || picture.height() == 0 {
            return Err(EngineError::bad_task("a side of the picture is 0 pixels"));
        }
        let go_on = || {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(())
        };
        let words = match form {
            CAPTION => json!(self.caption(picture, &options::caption(options)?, &go_on)?),
            INTERROGATION => {
                self.interrogate(picture, &options::interrogation(options)?, &go_on)?
            }
            NSFW => json!(self.shown(picture, &go_on)?.nsfw),
            SAFETY => {
                let shown = self.shown(picture, &go_on)?;
                json!({"nsfw": shown.nsfw, "csam": shown.nsfw && shown.special})
            }
            other => {
                let reason = format!("`{other}` is no form that is answered here");
                return Err(EngineError::bad_task(reason));
            }
        };
        Ok(Answer::Words(words))
    }
}
