//! Pictures made larger: which upscalers there are, and running one over a picture in tiles.
//!
//! ```text
//! file ─► told by its tensors ─► Rrdb, RealPlksr, Span or Dat
//! picture ─► colours, alpha ─► tiles ─► network ─► seams blended ─► picture × scale
//! ```
//!
//! # Source
//! `worker.md` § 2.13.

mod dat;
mod names;
mod network;
mod plksr;
mod rrdb;
mod span;
mod tiles;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

pub use dat::Dat;
use network::{Known, Network};
pub use plksr::RealPlksr;
pub use rrdb::Rrdb;
pub use span::Span;

use super::Compute;
use super::post::Folders;
use super::weights::TensorFile;
use crate::plan::post::{PostKind, PostProcessor};
use crate::{EngineError, ProgressSink, Step};

/// The longest side of a picture that can be handed on: more does not fit into a WebP.
const MAX_SIDE: u32 = 16_383;

/// The upscalers that lie in a folder. One is held in memory, the last that was used.
#[derive(Debug, Default)]
pub struct Upscalers {
    files: BTreeMap<PostProcessor, Known>,
    problems: Vec<EngineError>,
    held: Mutex<Option<(PostProcessor, Arc<Network>)>>,
}

impl Upscalers {
    /// Looks for the file of each upscaler of the protocol, such as `RealESRGAN_x4plus.safetensors`.
    /// Reads headers, loads nothing. What cannot be used is among [`Upscalers::take_problems`].
    pub fn open(folder: &Path) -> Self {
        Self::open_in(&Folders::around(Some(folder)))
    }

    /// The same in several folders.
    pub fn open_in(folders: &Folders) -> Self {
        let mut upscalers = Self::default();
        for step in PostProcessor::all() {
            let PostKind::Upscaler(scale) = step.kind() else {
                continue;
            };
            let Some(path) = folders.find(step.file_stem(), &mut upscalers.problems) else {
                continue;
            };
            match inspect(&path, scale) {
                Ok(known) => {
                    upscalers.files.insert(step, known);
                }
                Err(problem) => upscalers.problems.push(problem),
            }
        }
        upscalers
    }

    /// Why files that are named like an upscaler are none.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        std::mem::take(&mut self.problems)
    }

    /// What can be done.
    pub fn available(&self) -> impl Iterator<Item = PostProcessor> {
        self.files.keys().copied()
    }

    /// What lies in memory, and how large its file is.
    pub fn held(&self) -> Option<(PostProcessor, u64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (step, _) = held.as_ref()?;
        Some((*step, self.files.get(step)?.bytes()))
    }

    /// Lets go of what lies in memory.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes a picture larger by the factor of an upscaler. `progress` is asked after each block of
    /// the network whether to go on, and told of each tile, if there are several.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if the upscaler is not there or the result would be too large,
    /// [`EngineError::Cancelled`], or what is wrong with the file.
    pub fn run(
        &self,
        step: PostProcessor,
        picture: &DynamicImage,
        progress: &dyn ProgressSink,
    ) -> Result<DynamicImage, EngineError> {
        let network = self.load(step)?;
        let (width, height) = (picture.width(), picture.height());
        let longest = u64::from(width.max(height)) * network.scale() as u64;
        if width.min(height) == 0 || longest > u64::from(MAX_SIDE) {
            return Err(EngineError::bad_task(format!(
                "{width}x{height} pixels times {} are beyond {MAX_SIDE} on a side",
                network.scale()
            )));
        }
        let go_on = || {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(())
        };
        let told = Cell::new(0_u32);
        let enlarge = |picture: &RgbImage, passes: u32| {
            let of = tiles::count(picture).saturating_mul(passes);
            let tell = || {
                told.set(told.get().saturating_add(1));
                if of > 1 {
                    let (step, preview) = (told.get(), None);
                    progress.step(Step { step, of, preview });
                }
                go_on()
            };
            tiles::enlarge(picture, &network, (&go_on, &tell))
        };
        if !picture.color().has_alpha() {
            return Ok(DynamicImage::ImageRgb8(enlarge(&picture.to_rgb8(), 1)?));
        }
        let (colours, alpha) = split(&picture.to_rgba8());
        let opaque = alpha.pixels().all(|pixel| pixel.0 == [255]);
        let passes = if opaque { 1 } else { 2 };
        let colours = enlarge(&colours, passes)?;
        let alpha = if opaque {
            GrayImage::from_pixel(colours.width(), colours.height(), Luma([255]))
        } else {
            DynamicImage::ImageRgb8(enlarge(&DynamicImage::ImageLuma8(alpha).to_rgb8(), passes)?)
                .to_luma8()
        };
        Ok(DynamicImage::ImageRgba8(join(&colours, &alpha)))
    }

    fn load(&self, step: PostProcessor) -> Result<Arc<Network>, EngineError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_hand, network)) = held.as_ref()
            && *at_hand == step
        {
            return Ok(Arc::clone(network));
        }
        let known = self.files.get(&step).ok_or_else(|| {
            EngineError::bad_task(format!("the native engine has no {}", step.name()))
        })?;
        *held = None;
        // On the processor wherever pictures are drawn: nobody has measured it elsewhere yet.
        let network = Arc::new(known.load(step.name(), &Compute::cpu())?);
        *held = Some((step, Arc::clone(&network)));
        Ok(network)
    }
}

/// The tensors of a file, if they are those of a network that enlarges by `scale`.
fn inspect(path: &Path, scale: u32) -> Result<Known, EngineError> {
    let file = TensorFile::open(path)?;
    let refuse = |reason: String| EngineError::bad_model(path.display().to_string(), reason);
    let Some((known, found)) = Known::of(&file).map_err(refuse)? else {
        return Err(refuse(
            "it is no network of the ESRGAN family, no RealPLKSR, no SPAN and no DAT, the only \
             upscalers that are built in"
                .to_owned(),
        ));
    };
    if found != scale as usize {
        return Err(refuse(format!(
            "it enlarges by {found}, its name promises {scale}"
        )));
    }
    Ok(known)
}

fn split(picture: &RgbaImage) -> (RgbImage, GrayImage) {
    let colours = RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, _] = picture.get_pixel(x, y).0;
        Rgb([red, green, blue])
    });
    let alpha = GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
        Luma([picture.get_pixel(x, y).0[3]])
    });
    (colours, alpha)
}

fn join(colours: &RgbImage, alpha: &GrayImage) -> RgbaImage {
    RgbaImage::from_fn(colours.width(), colours.height(), |x, y| {
        let [red, green, blue] = colours.get_pixel(x, y).0;
        Rgba([red, green, blue, alpha.get_pixel(x, y).0[0]])
    })
}
