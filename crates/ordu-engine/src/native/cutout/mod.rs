//! What a picture shows without what is behind it.
//!
//! ```text
//! picture ─► side × side ─► U2Net ─► mask ─► sure of what is shown, sure of what is not ─► matting ─► alpha
//! ```
//!
//! Weights are in `u2net.safetensors` and its like. `ordu-tiny-cutout` is built in; it knows drawings of
//! the bundled model and little else.
//!
//! # Source
//! `worker.md` § 2.13.

mod colours;
mod matting;
mod solver;
mod u2net;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

pub use colours::without_background;
pub use matting::{Matting, alpha_of};
pub use u2net::U2Net;

use super::Compute;
use super::weights::{TensorFile, Weights};
use crate::native::post::{Folders, unwrapped};
use crate::{EngineError, ProgressSink};

/// Names that weights go by, the best first.
const STEMS: [&str; 3] = ["u2net", "isnet-general-use", "u2netp"];
/// The one that is built in.
const BUNDLED: &str = "ordu-tiny-cutout";
/// In the notes of a file: the side of what its network is to be shown.
const SIDE_NOTE: &str = "side";
/// What may be said there.
const SIDES: std::ops::RangeInclusive<usize> = 32..=2048;
/// Means and deviations of the colours of photographs, which U²-Net was trained with.
const PHOTOGRAPHS: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];
/// Those of IS-Net.
const PLAIN: [(f32, f32); 3] = [(0.5, 1.0); 3];

/// Takes backgrounds away.
#[derive(Debug)]
pub struct Cutter {
    /// What lies in a folder.
    own: Option<Known>,
    problems: Vec<EngineError>,
    held: Mutex<Option<Arc<U2Net>>>,
}

/// A network in a file.
#[derive(Debug)]
struct Known {
    name: String,
    weights: Weights,
    side: usize,
}

impl Cutter {
    /// Looks for weights in folders. Reads headers, loads nothing.
    pub fn open(folders: &Folders) -> Self {
        let mut problems = Vec::new();
        let mut own = None;
        for stem in STEMS {
            let Some(path) = folders.find(stem, &mut problems) else {
                continue;
            };
            match inspect(&path) {
                Ok(known) => {
                    own = own.or(Some(known));
                }
                Err(problem) => problems.push(problem),
            }
        }
        Self {
            own,
            problems,
            held: Mutex::default(),
        }
    }

    /// Why files that are named like such a network are none.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        std::mem::take(&mut self.problems)
    }

    /// Whether weights for pictures of all kinds are there.
    pub fn is_here(&self) -> bool {
        self.own.is_some()
    }

    /// What lies in memory, and how large its file is.
    pub fn held(&self) -> Option<(String, u64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref()?;
        Some(match &self.own {
            Some(own) => (own.name.clone(), own.weights.bytes()),
            None => (BUNDLED.to_owned(), BUNDLED_BYTES.len() as u64),
        })
    }

    /// Lets go of what lies in memory.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The picture with its background transparent. What is transparent already stays so.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] for a picture without pixels, [`EngineError::Cancelled`], or what is
    /// wrong with the file.
    pub fn run(
        &self,
        picture: &DynamicImage,
        progress: &dyn ProgressSink,
    ) -> Result<DynamicImage, EngineError> {
        if picture.width().min(picture.height()) == 0 {
            return Err(EngineError::bad_task("a picture without pixels"));
        }
        let go_on = || {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(())
        };
        let colours = picture.to_rgb8();
        let mask = self.mask(&colours, &go_on)?;
        let cut = match matting::alpha_of(&colours, &mask, &go_on)? {
            Matting::Done(alpha) => {
                let colours = without_background(&colours, &alpha);
                go_on()?;
                join(&colours, &alpha)
            }
            Matting::Unneeded => join(&colours, &mask),
            Matting::TooLarge(pixels) => {
                tracing::warn!(
                    pixels,
                    "too many pixels may belong to either side: the mask is taken as it is"
                );
                join(&colours, &mask)
            }
        };
        Ok(DynamicImage::ImageRgba8(overlaid(cut, picture)))
    }

    /// How much of each pixel belongs to what the picture shows.
    ///
    /// # Errors
    ///
    /// As [`Cutter::run`].
    pub fn mask(
        &self,
        picture: &RgbImage,
        go_on: &dyn Fn() -> Result<(), EngineError>,
    ) -> Result<GrayImage, EngineError> {
        let built_in;
        let known = if let Some(own) = &self.own {
            own
        } else {
            built_in = bundled()?;
            &built_in
        };
        let network = self.load(known)?;
        let found = network.forward(&shown(picture, known)?, go_on)?;
        let found = candle_nn::ops::sigmoid(&found)?.flatten_all()?;
        let numbers = found.to_vec1::<f32>()?;
        let low = numbers.iter().copied().fold(f32::INFINITY, f32::min);
        let high = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The most certain pixel is all there, the least certain one not at all.
        let spread = (high - low).max(f32::EPSILON);
        let bytes = numbers.iter().map(|number| byte((number - low) / spread));
        let side = u32::try_from(known.side).unwrap_or(u32::MAX);
        let mask = GrayImage::from_raw(side, side, bytes.collect())
            .ok_or_else(|| EngineError::bad_task("a mask of another size"))?;
        let (width, height) = picture.dimensions();
        Ok(imageops::resize(&mask, width, height, FilterType::Lanczos3))
    }

    fn load(&self, known: &Known) -> Result<Arc<U2Net>, EngineError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = held.as_ref() {
            return Ok(Arc::clone(network));
        }
        let network = U2Net::new(&known.name, &known.weights, &Compute::cpu())?;
        let network = Arc::new(network);
        *held = Some(Arc::clone(&network));
        Ok(network)
    }
}

const BUNDLED_BYTES: &[u8] = include_bytes!("../../../models/ordu-tiny-cutout/model.safetensors");

fn bundled() -> Result<Known, EngineError> {
    known(BUNDLED, &TensorFile::bundled(BUNDLED, BUNDLED_BYTES)?)
}

fn inspect(path: &Path) -> Result<Known, EngineError> {
    known(&path.display().to_string(), &TensorFile::open(path)?)
}

fn known(name: &str, file: &TensorFile) -> Result<Known, EngineError> {
    let weights = unwrapped(file);
    if !u2net::is_one(&weights) {
        let reason =
            "it is no U²-Net and no IS-Net, the only networks for backgrounds that are built in";
        return Err(EngineError::bad_model(name, reason));
    }
    let side = match file.note(SIDE_NOTE) {
        Some(note) => note
            .parse()
            .ok()
            .filter(|side| SIDES.contains(side))
            .ok_or_else(|| {
                let reason = format!("its side of `{note}` pixels is none, expected {SIDES:?}");
                EngineError::bad_model(name, reason)
            })?,
        None => u2net::usual_side(&weights),
    };
    let stem = PathBuf::from(name);
    let stem = stem.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Known {
        name: stem.into_owned(),
        weights,
        side,
    })
}

/// A picture as a network is shown it, `[1, 3, side, side]`.
fn shown(picture: &RgbImage, known: &Known) -> Result<Tensor, EngineError> {
    let side = u32::try_from(known.side).unwrap_or(u32::MAX);
    let small = imageops::resize(picture, side, side, FilterType::Lanczos3);
    let (spread, brightest) = if u2net::is_fine(&known.weights) {
        (PLAIN, 255)
    } else {
        let brightest = small.as_raw().iter().copied().max();
        (PHOTOGRAPHS, brightest.unwrap_or_default().max(1))
    };
    let brightest = f32::from(brightest);
    let numbers = (0..3_usize).flat_map(|channel| {
        let (mean, deviation) = spread[channel];
        small
            .pixels()
            .map(move |pixel| (f32::from(pixel.0[channel]) / brightest - mean) / deviation)
    });
    let shape = (1, 3, known.side, known.side);
    Ok(Tensor::from_vec(numbers.collect(), shape, &Device::Cpu)?)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
fn byte(share: f32) -> u8 {
    // Cut, not rounded, as those masks are made that thresholds were chosen for.
    (share * 255.0).clamp(0.0, 255.0) as u8
}

fn join(colours: &RgbImage, alpha: &GrayImage) -> RgbaImage {
    let mut joined = RgbaImage::new(colours.width(), colours.height());
    let pixels = colours.pixels().zip(alpha.pixels());
    for (to, (Rgb([red, green, blue]), Luma([alpha]))) in joined.pixels_mut().zip(pixels) {
        *to = Rgba([*red, *green, *blue, *alpha]);
    }
    joined
}

/// Nothing that was transparent comes back.
fn overlaid(mut cut: RgbaImage, picture: &DynamicImage) -> RgbaImage {
    if picture.color().has_alpha() {
        for (to, from) in cut.pixels_mut().zip(picture.to_rgba8().pixels()) {
            to.0[3] = to.0[3].min(from.0[3]);
        }
    }
    cut
}
