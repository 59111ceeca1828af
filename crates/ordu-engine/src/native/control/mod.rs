//! Steering by a source: who looks at it, and which networks there are.
//!
//! ```text
//! source ─► detector, unless it is a map already ─► map ─► control network ─► added to the UNet's pictures
//! ```
//!
//! A control network is recognised by its tensors. What its maps show is told by the name of its
//! file, and which models it steers by its sizes.
//!
//! # Source
//! `worker.md` § 2.8, 2.9.

mod canny;
mod detect;
mod difference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use image::{DynamicImage, RgbImage};

pub use canny::{THRESHOLDS, canny};
pub use detect::{detect, detects};

use super::Compute;
use super::pixels::{self, Size};
use super::sd::config::{ControlConfig, UNetConfig};
use super::sd::files::ModelFiles;
use super::sd::unet::ControlNet;
use super::weights::{TensorFile, Weights, ldm};
use crate::plan::control::{ControlType, is_difference};
use crate::plan::qr;
use crate::{Baseline, Control, EngineError, ImageTask, Mode};

/// Beside the folder of models, and below it.
const FOLDERS: [&str; 2] = ["controlnet", "miscellaneous"];
/// Names that exporters give to the one file of a folder.
const IN_FOLDER: [&str; 2] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
];
/// How numbers are stored, as names of files tell it.
const STORAGE: [&str; 4] = ["_fp16", "_fp32", "-fp16", ".fp16"];

/// The control networks that there are, and the one used last.
#[derive(Debug, Default)]
pub struct Controls {
    networks: Vec<Known>,
    problems: Vec<EngineError>,
    held: Mutex<Option<Held>>,
}

/// A control network in a file.
#[derive(Debug)]
struct Known {
    name: String,
    weights: Weights,
    /// What its maps show.
    kinds: Vec<ControlType>,
    /// Whether they are QR symbols.
    symbols: bool,
    /// Whether its weights are a difference to those of the model it is used with.
    is_difference: bool,
}

/// A control network in memory, and for which model.
#[derive(Debug)]
struct Held {
    name: String,
    model: String,
    /// How large its file is.
    bytes: u64,
    network: Arc<ControlNet>,
}

/// A task without its source, and how it is steered instead.
#[derive(Debug)]
pub(super) struct Steer {
    pub(super) network: Arc<ControlNet>,
    /// What the map is made of.
    pub(super) source: DynamicImage,
    pub(super) how: Control,
}

impl Controls {
    /// The bundled ones, and those in the folder of models, in `controlnet` and `miscellaneous` below it,
    /// and beside it where a store of models has its folders side by side. Reads headers, loads nothing.
    pub fn open(folder: Option<&Path>) -> Self {
        let mut controls = Self::default();
        for bundled in [bundled_edge(), bundled_qr()] {
            match bundled {
                Ok(known) => controls.networks.push(known),
                Err(problem) => controls.problems.push(problem),
            }
        }
        for path in folder.map(candidates).unwrap_or_default() {
            match inspect(&path) {
                Ok(Some(known)) => controls.networks.push(known),
                Ok(None) => {}
                Err(problem) => controls.problems.push(problem),
            }
        }
        controls
    }

    /// Why files that are control networks cannot be used.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        std::mem::take(&mut self.problems)
    }

    /// By what models of these numbers can be steered.
    pub fn kinds(&self, model: &UNetConfig) -> BTreeSet<ControlType> {
        let fitting = self.networks.iter().filter(|known| known.fits(model));
        let kinds = fitting.flat_map(|known| known.kinds.iter().copied());
        kinds.filter(|kind| detects(*kind)).collect()
    }

    /// Whether models of these numbers can draw pictures that scan.
    pub fn draws_symbols(&self, model: &UNetConfig) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|known| known.symbols && known.fits(model))
    }

    /// What lies in memory, and how large its file is.
    pub fn held(&self) -> Option<(String, u64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref()?;
        Some((held.name.clone(), held.bytes))
    }

    /// Lets go of what lies in memory.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes the source of a steered task out of it: drawing starts from noise.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if no control network fits the type and the model, or what is wrong
    /// with its file.
    pub(super) fn steer(
        &self,
        task: &mut ImageTask,
        model: &ModelFiles,
        compute: &Compute,
    ) -> Result<Option<Steer>, EngineError> {
        let (Some(how), Some(source)) = (task.control, task.source()) else {
            return Ok(None);
        };
        if !how.image_is_control && !detects(how.kind) {
            return Err(no_detector(how.kind));
        }
        let known = self.choose(how.kind, &model.unet.1);
        let known = known.ok_or_else(|| none_fits(how.kind.name(), model))?;
        let network = self.load(known, model, compute)?;
        let strength = crate::plan::hires::denoising_strength(task);
        let source = source.image.clone();
        if let Some(hires) = &mut task.hires {
            hires.denoising_strength = Some(strength);
        }
        task.mode = Mode::Txt2Img;
        Ok(Some(Steer {
            network,
            source,
            how,
        }))
    }

    /// The control network that steers a model by QR symbols.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if none fits, or what is wrong with its file.
    pub(super) fn for_symbols(
        &self,
        model: &ModelFiles,
        compute: &Compute,
    ) -> Result<Arc<ControlNet>, EngineError> {
        // Files come behind what is bundled, and before it.
        let mut networks = self.networks.iter().rev();
        let known = networks.find(|known| known.symbols && known.fits(&model.unet.1));
        let known = known.ok_or_else(|| none_fits("qr_code", model))?;
        self.load(known, model, compute)
    }

    fn load(
        &self,
        known: &Known,
        model: &ModelFiles,
        compute: &Compute,
    ) -> Result<Arc<ControlNet>, EngineError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref()
            && held.name == known.name
            && held.model == model.name
        {
            return Ok(Arc::clone(&held.network));
        }
        *held = None;
        let named = |error: EngineError| match error {
            EngineError::BadModel { reason, .. } => EngineError::bad_model(&known.name, reason),
            other => other,
        };
        let steered = &model.unet.1;
        let network = if known.is_difference {
            let whole = difference::whole(&known.weights, &model.unet.0).map_err(named)?;
            ControlNet::new(&whole, steered, compute)
        } else {
            ControlNet::new(&known.weights, steered, compute)
        };
        let network = Arc::new(network.map_err(named)?);
        *held = Some(Held {
            name: known.name.clone(),
            model: model.name.clone(),
            bytes: known.weights.bytes(),
            network: Arc::clone(&network),
        });
        Ok(network)
    }

    /// The best control network of a type for models of these numbers.
    fn choose(&self, kind: ControlType, model: &UNetConfig) -> Option<&Known> {
        let place = |known: &Known| {
            let stems = kind.weights().iter();
            let mut places = stems.enumerate();
            let found = places.find(|(_, stem)| is_called(&known.name, stem));
            found.map_or(usize::MAX, |(place, _)| place)
        };
        let fitting = self.networks.iter();
        fitting
            .filter(|known| known.kinds.contains(&kind) && known.fits(model))
            .min_by_key(|known| place(known))
    }
}

impl Known {
    fn fits(&self, model: &UNetConfig) -> bool {
        ControlConfig::new(&self.weights, model).is_ok()
    }
}

impl Steer {
    /// What the control network is shown, `[1, 3, h, w]` in 0…1.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if nobody here can look at the source for it.
    pub(super) fn map(&self, size: Size) -> Result<candle_core::Tensor, EngineError> {
        let source = pixels::resize(&self.source, size).to_rgb8();
        let map = if self.how.image_is_control {
            source
        } else {
            map(self.how.kind, &source)?
        };
        Ok(((pixels::to_tensor(&map)? + 1.0)? * 0.5)?)
    }
}

/// The map of a picture.
///
/// # Errors
///
/// [`EngineError::BadTask`] if that takes a network.
pub(super) fn map(kind: ControlType, picture: &RgbImage) -> Result<RgbImage, EngineError> {
    detect(kind, picture).ok_or_else(|| no_detector(kind))
}

fn none_fits(what: &str, model: &ModelFiles) -> EngineError {
    let name = &model.name;
    EngineError::bad_task(format!("no control network for `{what}` fits {name}"))
}

fn no_detector(kind: ControlType) -> EngineError {
    EngineError::bad_task(format!(
        "the native engine cannot look at a picture for `{}`: send the map and say that it is one",
        kind.name()
    ))
}

/// Files and folders that may hold a control network, in the order of their names.
fn candidates(models: &Path) -> Vec<PathBuf> {
    let beside = models.file_name().is_some_and(|name| name == "compvis");
    let beside = models.parent().filter(|_| beside);
    let roots = [Some(models), beside].into_iter().flatten();
    let below = roots.flat_map(|root| FOLDERS.map(|folder| root.join(folder)));
    let folders: Vec<PathBuf> = std::iter::once(models.to_owned()).chain(below).collect();
    let mut found = Vec::new();
    // A folder that is not there holds nothing; one that cannot be read is complained of elsewhere.
    for entry in folders.iter().filter_map(|folder| folder.read_dir().ok()) {
        for path in entry.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                let inside = IN_FOLDER.iter().map(|name| path.join(name));
                found.extend(inside.filter(|path| path.is_file()).take(1));
            } else if path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The control network for the bundled model and lines.
fn bundled_edge() -> Result<Known, EngineError> {
    let bytes = include_bytes!(
        "../../../models/ordu-tiny-control-edge/diffusion_pytorch_model.safetensors"
    );
    Ok(Known {
        kinds: vec![ControlType::Canny, ControlType::Scribble],
        ..bundled("ordu-tiny-control-edge", bytes)?
    })
}

/// The one for the bundled model and QR symbols.
fn bundled_qr() -> Result<Known, EngineError> {
    let bytes =
        include_bytes!("../../../models/ordu-tiny-control-qr/diffusion_pytorch_model.safetensors");
    Ok(Known {
        symbols: true,
        ..bundled("ordu-tiny-control-qr", bytes)?
    })
}

fn bundled(name: &str, bytes: &'static [u8]) -> Result<Known, EngineError> {
    Ok(Known {
        name: name.to_owned(),
        weights: Weights::from_file(&TensorFile::bundled(name, bytes)?),
        kinds: Vec::new(),
        symbols: false,
        is_difference: false,
    })
}

/// The control network in a file; `None` if it holds something else.
fn inspect(path: &Path) -> Result<Option<Known>, EngineError> {
    // What cannot be read at all is complained of by whoever looks for models.
    let Ok(file) = TensorFile::open(path) else {
        return Ok(None);
    };
    let weights = ldm::control(&file).unwrap_or_else(|| Weights::from_file(&file));
    if !ControlConfig::is_control(&weights) {
        return Ok(None);
    }
    let own = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = if own.starts_with("diffusion_pytorch_model") {
        let folder = path.parent().and_then(Path::file_name);
        folder.unwrap_or_default().to_string_lossy().into_owned()
    } else {
        own.into_owned()
    };
    let kinds: Vec<ControlType> = ControlType::all()
        .filter(|kind| kind.weights().iter().any(|stem| is_called(&name, stem)))
        .collect();
    let families = [Baseline::StableDiffusion1, Baseline::StableDiffusionXl];
    let stems = families.map(qr::weights);
    let symbols = stems.iter().any(|stem| is_called(&name, stem));
    if kinds.is_empty() && !symbols {
        let reason = "its name tells of no control type: call it like `control_v11p_sd15_canny`";
        return Err(EngineError::bad_model(name, reason));
    }
    Ok(Some(Known {
        is_difference: is_difference(&name) || file.get("difference").is_some(),
        weights,
        kinds,
        symbols,
        name,
    }))
}

/// Whether a name is a stem, however its numbers are stored.
fn is_called(name: &str, stem: &str) -> bool {
    let bare = STORAGE
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name);
    bare.eq_ignore_ascii_case(stem)
}
