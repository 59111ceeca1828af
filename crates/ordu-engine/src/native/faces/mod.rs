//! Faces in pictures: found, brought upright, drawn anew by a network that knows nothing but faces, and put
//! back where they were.
//!
//! ```text
//! picture ─► detect ─► landmarks ─► align ─► [1, 3, side, side] in −1…1 ─► Restorer ─┐
//!     └──────────────────────────────────────────────────────────────── paste ◄─ parse ◄┘
//! ```
//!
//! # Source
//! `worker.md` § 2.13.

mod align;
mod codebook;
mod codeformer;
mod detect;
mod gfpgan;
mod parse;
mod paste;
mod restoreformer;
mod retinaface;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use image::{DynamicImage, RgbImage, RgbaImage};

pub use align::{Similarity, TEMPLATE, aligned, warped};
pub use codeformer::CodeFormer;
pub use detect::{Face, Found, detect, faces_of};
pub use gfpgan::Gfpgan;
pub use parse::ParseNet;
pub use paste::{mask_of, mask_of_kinds, pasted};
pub use restoreformer::RestoreFormer;
pub use retinaface::{Raw, RetinaFace};

use super::Compute;
use super::pixels;
use super::post::{Folders, unwrapped};
use super::weights::{TensorFile, Weights};
use crate::plan::post::{PostKind, PostProcessor};
use crate::{EngineError, ProgressSink};

/// What every fixer needs beside its own file: the one that finds faces …
const DETECTOR: &str = "detection_Resnet50_Final";
/// … and the one that tells skin and hair from the rest.
const PARSER: &str = "parsing_parsenet";
/// How true a fixer that can be told so stays to the picture, unless that is said.
const FIDELITY: f32 = 0.5;
/// Faces of one picture that are mended, the surest first. Each takes seconds.
const MAX_FACES: usize = 32;

/// Whether to go on.
pub type GoOn<'a> = dyn Fn() -> Result<(), EngineError> + 'a;

/// The fixers of faces that lie in folders. One is held in memory, the last that was used, with what all
/// of them need.
#[derive(Debug, Default)]
pub struct Fixers {
    files: BTreeMap<PostProcessor, Weights>,
    helpers: Option<Helpers>,
    problems: Vec<EngineError>,
    held: Mutex<Option<Held>>,
}

/// What all fixers need.
#[derive(Debug)]
struct Helpers {
    detector: Weights,
    parser: Weights,
}

#[derive(Clone, Debug)]
struct Held {
    step: PostProcessor,
    restorer: Arc<Restorer>,
    detector: Arc<RetinaFace>,
    parser: Arc<ParseNet>,
}

/// A network that draws faces anew.
#[derive(Clone, Debug)]
pub enum Restorer {
    /// GFPGAN.
    Gfpgan(Gfpgan),
    /// RestoreFormer.
    RestoreFormer(Box<RestoreFormer>),
    /// CodeFormer.
    CodeFormer(CodeFormer),
}

impl Restorer {
    /// The network of these tensors, whichever it is.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it is none of them, or naming what is missing, misshapen or left
    /// over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        if gfpgan::is_one(weights) {
            return Gfpgan::new(name, weights, compute).map(Self::Gfpgan);
        }
        if codeformer::is_one(weights) {
            return CodeFormer::new(name, weights, compute).map(Self::CodeFormer);
        }
        if restoreformer::is_one(weights) {
            let network = RestoreFormer::new(name, weights, compute)?;
            return Ok(Self::RestoreFormer(Box::new(network)));
        }
        Err(EngineError::bad_model(name, UNKNOWN))
    }

    /// The side of the faces that it takes, in pixels.
    pub fn side(&self) -> usize {
        match self {
            Self::Gfpgan(network) => network.side(),
            Self::RestoreFormer(_) => align::SIDE,
            Self::CodeFormer(network) => network.side(),
        }
    }

    /// A face, `[1, 3, side, side]` in −1…1, to the same, mended.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(
        &self,
        face: &Tensor,
        fidelity: f32,
        go_on: &GoOn<'_>,
    ) -> Result<Tensor, EngineError> {
        match self {
            Self::Gfpgan(network) => network.forward(face, go_on),
            Self::RestoreFormer(network) => network.forward(face, go_on),
            Self::CodeFormer(network) => network.forward(face, fidelity, go_on),
        }
    }
}

const UNKNOWN: &str = "it is no GFPGAN (of the clean architecture), no RestoreFormer and no CodeFormer, \
     the only fixers of faces that are built in";

impl Fixers {
    /// Looks for the file of each fixer of the protocol, such as `GFPGANv1.4.safetensors`, and for what
    /// all of them need. Reads headers, loads nothing.
    pub fn open(folders: &Folders) -> Self {
        let mut fixers = Self::default();
        let kinds = PostProcessor::all().filter(|step| step.kind() == PostKind::FaceFixer);
        for step in kinds {
            let Some(path) = folders.find(step.file_stem(), &mut fixers.problems) else {
                continue;
            };
            let is_known = |weights: &Weights| {
                gfpgan::is_one(weights)
                    || codeformer::is_one(weights)
                    || restoreformer::is_one(weights)
            };
            if let Some(weights) = fixers.take(&path, is_known, UNKNOWN) {
                fixers.files.insert(step, weights);
            }
        }
        if fixers.files.is_empty() {
            return fixers;
        }
        let wanted = [DETECTOR, PARSER].map(|stem| folders.find(stem, &mut fixers.problems));
        let [Some(detector), Some(parser)] = wanted else {
            let names: Vec<&str> = fixers.files.keys().map(|step| step.name()).collect();
            let reason =
                format!("`{DETECTOR}.safetensors` and `{PARSER}.safetensors` are needed, too");
            fixers
                .problems
                .push(EngineError::bad_model(names.join(", "), reason));
            return fixers;
        };
        let detector = fixers.take(
            &detector,
            retinaface::is_one,
            "it is no RetinaFace with a ResNet-50",
        );
        let parser = fixers.take(&parser, parse::is_one, "it is no ParseNet");
        fixers.helpers = detector
            .zip(parser)
            .map(|(detector, parser)| Helpers { detector, parser });
        fixers
    }

    fn take(
        &mut self,
        path: &Path,
        is_known: impl Fn(&Weights) -> bool,
        otherwise: &str,
    ) -> Option<Weights> {
        match TensorFile::open(path).map(|file| unwrapped(&file)) {
            Ok(weights) if is_known(&weights) => return Some(weights),
            Ok(_) => {
                let name = path.display().to_string();
                self.problems.push(EngineError::bad_model(name, otherwise));
            }
            Err(problem) => self.problems.push(problem),
        }
        None
    }

    /// Why files that are named like a fixer are none, or cannot be used alone.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        std::mem::take(&mut self.problems)
    }

    /// What can be done.
    pub fn available(&self) -> impl Iterator<Item = PostProcessor> {
        let complete = self.helpers.is_some();
        self.files.keys().copied().filter(move |_| complete)
    }

    /// What lies in memory, and how large its files are.
    pub fn held(&self) -> Option<(String, u64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let step = held.as_ref()?.step;
        let helpers = self.helpers.as_ref()?;
        let bytes = self.files.get(&step)?.bytes();
        let bytes = bytes + helpers.detector.bytes() + helpers.parser.bytes();
        Some((step.name().to_owned(), bytes))
    }

    /// Lets go of what lies in memory.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Mends all faces of a picture; one without faces stays as it is. `strength` is how true a fixer
    /// that can be told so stays to the picture, 0 to 1.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if the fixer is not there, [`EngineError::Cancelled`], or what is wrong
    /// with the files.
    pub fn run(
        &self,
        step: PostProcessor,
        picture: &DynamicImage,
        strength: Option<f32>,
        progress: &dyn ProgressSink,
    ) -> Result<DynamicImage, EngineError> {
        let held = self.load(step)?;
        let go_on = || {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(())
        };
        let fidelity = strength.filter(|it| it.is_finite()).unwrap_or(FIDELITY);
        let fidelity = fidelity.clamp(0.0, 1.0);
        let mut colours = picture.to_rgb8();
        let faces = detect(&colours, &held.detector, &go_on)?;
        for face in faces.iter().take(MAX_FACES) {
            let mend = |upright: &Tensor| held.restorer.forward(upright, fidelity, &go_on);
            let side = held.restorer.side();
            if let Some(mended) = mended(&colours, face, side, &mend)? {
                let mask = mask_of(&held.parser, &mended.face, &go_on)?;
                pasted(&mut colours, &mended.face, &mask, &mended.place);
            }
        }
        Ok(with_alpha_of(picture, colours))
    }

    fn load(&self, step: PostProcessor) -> Result<Held, EngineError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref().filter(|held| held.step == step) {
            return Ok(held.clone());
        }
        let (Some(weights), Some(helpers)) = (self.files.get(&step), &self.helpers) else {
            let reason = format!("the native engine has no {}", step.name());
            return Err(EngineError::bad_task(reason));
        };
        let kept = held.take();
        let cpu = Compute::cpu();
        let restorer = Arc::new(Restorer::new(step.name(), weights, &cpu)?);
        let (detector, parser) = match kept {
            Some(kept) => (kept.detector, kept.parser),
            None => (
                Arc::new(RetinaFace::new(DETECTOR, &helpers.detector, &cpu)?),
                Arc::new(ParseNet::new(PARSER, &helpers.parser, &cpu)?),
            ),
        };
        let fresh = Held {
            step,
            restorer,
            detector,
            parser,
        };
        *held = Some(fresh.clone());
        Ok(fresh)
    }
}

/// A face that was mended, and where it belongs.
#[derive(Clone, Debug)]
pub struct Mended {
    /// The face, upright.
    pub face: RgbImage,
    /// From the picture to the face.
    pub place: Similarity,
}

/// Brings a face upright and has it mended; `None` if its landmarks lie in no order that faces have.
///
/// # Errors
///
/// Those of `mend`.
pub fn mended(
    picture: &RgbImage,
    face: &Face,
    side: usize,
    mend: &dyn Fn(&Tensor) -> Result<Tensor, EngineError>,
) -> Result<Option<Mended>, EngineError> {
    let Some(place) = aligned(&face.points, side) else {
        return Ok(None);
    };
    let Some(upright) = warped(picture, &place, side) else {
        return Ok(None);
    };
    let made = mend(&pixels::to_tensor(&upright)?)?;
    Ok(Some(Mended {
        face: pixels::to_image(&made)?,
        place,
    }))
}

/// Colours with the transparency that a picture had.
fn with_alpha_of(picture: &DynamicImage, colours: RgbImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return DynamicImage::ImageRgb8(colours);
    }
    let mut whole: RgbaImage = picture.to_rgba8();
    for (to, from) in whole.pixels_mut().zip(colours.pixels()) {
        to.0[..3].copy_from_slice(&from.0);
    }
    DynamicImage::ImageRgba8(whole)
}
