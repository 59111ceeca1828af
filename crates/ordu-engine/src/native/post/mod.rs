//! What is done with finished pictures: networks that enlarge, mend faces or take backgrounds away, as far
//! as their files are there.
//!
//! # Source
//! `worker.md` § 2.13, 3.5.

mod folders;

use std::collections::BTreeSet;
use std::path::Path;

use image::DynamicImage;

pub use folders::Folders;
pub(in crate::native) use folders::unwrapped;

use super::cutout::Cutter;
use super::faces::Fixers;
use super::upscale::Upscalers;
use crate::plan::post::{PostKind, PostProcessor};
use crate::{EngineError, ProgressSink};

/// All post-processors of an engine.
#[derive(Debug)]
pub struct PostProcessors {
    upscalers: Upscalers,
    fixers: Fixers,
    cutter: Cutter,
}

impl PostProcessors {
    /// Looks for their files in the folder of models, and in those of a store around it. Reads headers,
    /// loads nothing.
    pub fn open(models: Option<&Path>) -> Self {
        let folders = Folders::around(models);
        Self {
            upscalers: Upscalers::open_in(&folders),
            fixers: Fixers::open(&folders),
            cutter: Cutter::open(&folders),
        }
    }

    /// Why files that are named like something of them are nothing.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        let mut problems = self.upscalers.take_problems();
        problems.extend(self.fixers.take_problems());
        problems.extend(self.cutter.take_problems());
        problems
    }

    /// What can be done with pictures of all kinds.
    pub fn available(&self) -> BTreeSet<PostProcessor> {
        let cutter = self.cutter.is_here();
        let cutter = cutter.then_some(PostProcessor::StripBackground);
        let others = self.upscalers.available().chain(self.fixers.available());
        others.chain(cutter).collect()
    }

    /// What lies in memory, and how large its file is.
    pub fn held(&self) -> Vec<(String, u64)> {
        let upscaler = self.upscalers.held();
        let upscaler = upscaler.map(|(step, bytes)| (step.name().to_owned(), bytes));
        let held = upscaler.into_iter().chain(self.fixers.held());
        held.chain(self.cutter.held()).collect()
    }

    /// Lets go of what lies in memory.
    pub fn release(&self) {
        self.upscalers.release();
        self.fixers.release();
        self.cutter.release();
    }

    /// A picture after a step. `strength` is how true fixers of faces stay to it, if that was said.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if the step is not there or the picture cannot be taken,
    /// [`EngineError::Cancelled`], or what is wrong with the file.
    pub fn run(
        &self,
        step: PostProcessor,
        picture: &DynamicImage,
        strength: Option<f32>,
        progress: &dyn ProgressSink,
    ) -> Result<DynamicImage, EngineError> {
        match step.kind() {
            PostKind::Upscaler(_) => self.upscalers.run(step, picture, progress),
            PostKind::FaceFixer => self.fixers.run(step, picture, strength, progress),
            PostKind::Background => self.cutter.run(picture, progress),
        }
    }
}
