//! Which Stable Cascades there are, and the one that lies in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::CascadeFiles;
use super::{StableCascade, pipeline};
use crate::native::Compute;
use crate::{EngineError, Held, ImageTask, Picture, ProgressSink};

/// The one that was used last, and the memory that it takes.
#[derive(Debug, Default)]
pub(in crate::native) struct Cascades {
    held: Mutex<Option<(Arc<StableCascade>, u64)>>,
}

impl Cascades {
    /// Runs a task on a model, which is loaded if it is not yet.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] and [`EngineError::AddOnMismatch`] for what Stable Cascade cannot do,
    /// those of loading, [`EngineError::Cancelled`].
    pub(in crate::native) fn run(
        &self,
        files: &CascadeFiles,
        task: &ImageTask,
        compute: &Compute,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        pipeline::check(task)?;
        let model = self.model(files, compute)?;
        pipeline::run(&model, task, progress)
    }

    fn model(
        &self,
        files: &CascadeFiles,
        compute: &Compute,
    ) -> Result<Arc<StableCascade>, EngineError> {
        let mut held = self.lock();
        if let Some((model, _)) = held
            .as_ref()
            .filter(|(model, _)| model.info.name == files.name)
        {
            return Ok(Arc::clone(model));
        }
        // Two are never there at once.
        *held = None;
        let model = Arc::new(StableCascade::load(files, compute)?);
        *held = Some((Arc::clone(&model), files.bytes_loaded(compute)));
        Ok(model)
    }

    /// Whether a model lies in memory.
    pub(in crate::native) fn has(&self, name: &str) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|(model, _)| model.info.name == name)
    }

    /// What may lie in memory beside it, of so many bytes. It goes if it does not fit itself.
    pub(in crate::native) fn leaves(&self, room: u64) -> u64 {
        let mut held = self.lock();
        let bytes = held.as_ref().map_or(0, |(_, bytes)| *bytes);
        room.checked_sub(bytes).unwrap_or_else(|| {
            *held = None;
            room
        })
    }

    /// Lets go of it.
    pub(in crate::native) fn release(&self) {
        *self.lock() = None;
    }

    /// The one in memory.
    pub(in crate::native) fn held(&self, compute: &Compute) -> Option<Held> {
        self.lock().as_ref().map(|(model, bytes)| Held {
            model: model.info.name.clone(),
            bytes: *bytes,
            place: compute.place(),
        })
    }

    /// A panic elsewhere does not make a model wrong.
    fn lock(&self) -> MutexGuard<'_, Option<(Arc<StableCascade>, u64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
