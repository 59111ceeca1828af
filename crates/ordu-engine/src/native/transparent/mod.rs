//! Transparent pictures: which weights there are for them, and for which models.
//!
//! ```text
//! UNet + changes ─► latents ─► autoencoder ─► picture ─┐
//!                      └───────────────────────────────┴─► alpha decoder ─► alpha and colours
//! ```
//!
//! A kit is two files: changes to the UNet, with which it draws what stands on nothing, and a network
//! that tells from a picture and its latents what of it is opaque (Zhang and Agrawala 2024,
//! "Transparent Image Layer Diffusion using Latent Transparency"). Files are known by their names, and
//! whether they are for a model by their tensors.
//!
//! # Source
//! `worker.md` § 2.11, 3.5.

mod changes;
mod config;
mod decoder;
mod looks;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::config::AlphaConfig;
pub use self::decoder::AlphaDecoder;
use super::Compute;
use super::sd::describe;
use super::sd::files::ModelFiles;
use super::sd::lora::Changes;
use super::weights::{TensorFile, Weights};
use crate::{Baseline, EngineError};

const BUNDLED: &str = "ordu-tiny-transparent";
/// Where a store of models keeps what belongs to no model.
const FOLDER: &str = "miscellaneous";
/// The family of models, and the files for it: changes, decoder.
const NAMES: [(Baseline, [&str; 2]); 2] = [
    (
        Baseline::StableDiffusion1,
        [
            "layer_sd15_transparent_attn",
            "layer_sd15_vae_transparent_decoder",
        ],
    ),
    (
        Baseline::StableDiffusionXl,
        ["layer_xl_transparent_conv", "vae_transparent_decoder"],
    ),
];

/// All kits.
#[derive(Debug, Default)]
pub struct Kits {
    kits: Vec<Arc<Kit>>,
    problems: Vec<EngineError>,
}

/// What lets a model draw transparent pictures.
#[derive(Debug)]
pub struct Kit {
    /// The name of the file with the changes.
    pub name: String,
    changes: TensorFile,
    decoder: Weights,
    decoder_name: String,
    config: AlphaConfig,
}

/// Each has a file of its own.
impl PartialEq for Kit {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Kits {
    /// The bundled one, and those in the folder of models, in `miscellaneous` below it, and beside it
    /// where a store of models has its folders side by side. Reads headers, loads nothing.
    pub fn open(folder: Option<&Path>) -> Self {
        let mut kits = Self::default();
        kits.add(bundled().map(Some));
        let folders = folder.map(folders).unwrap_or_default();
        for (_, names) in &NAMES {
            kits.add(find(&folders, names));
        }
        kits
    }

    fn add(&mut self, kit: Result<Option<Kit>, EngineError>) {
        match kit {
            Ok(kit) => self.kits.extend(kit.map(Arc::new)),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Why files that are named like those of a kit cannot be used.
    pub fn take_problems(&mut self) -> Vec<EngineError> {
        std::mem::take(&mut self.problems)
    }

    /// The kit for a model; `None` for families that nothing was published for, which draw as ever.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadTask`] if there is none, [`EngineError::BadModel`] if the one for its family is
    /// for other networks.
    pub fn of(&self, model: &ModelFiles) -> Result<Option<Arc<Kit>>, EngineError> {
        let baseline = describe(model)?.baseline;
        if !is_asked(baseline) {
            return Ok(None);
        }
        if let Some(kit) = self.kits.iter().find(|kit| kit.changes(model).is_ok()) {
            return Ok(Some(Arc::clone(kit)));
        }
        let family = NAMES.iter().find(|(of, _)| *of == baseline);
        let is_meant = |kit: &&Arc<Kit>| {
            let name = kit.name.as_str();
            family.map_or(name != BUNDLED, |(_, names)| names.contains(&name))
        };
        if let Some(kit) = self.kits.iter().find(is_meant) {
            kit.changes(model)?;
        }
        Err(EngineError::bad_task(match family {
            Some((_, [changes, decoder])) => format!(
                "transparent pictures with `{}` need `{changes}.safetensors` and `{decoder}.safetensors` in \
                 the folder `{FOLDER}` of the models",
                model.name
            ),
            None => format!(
                "there are no weights for transparent pictures with `{}`",
                model.name
            ),
        }))
    }

    /// Whether a job may ask for transparency whichever of these models it names.
    pub fn cover(&self, models: &[Arc<ModelFiles>]) -> bool {
        let mut any = false;
        for model in models {
            match self.of(model) {
                Ok(found) => any |= found.is_some(),
                Err(_) => return false,
            }
        }
        any
    }
}

impl Kit {
    /// What it changes of a model.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it is for other networks, with names and shapes.
    pub fn changes(&self, model: &ModelFiles) -> Result<Changes, EngineError> {
        let vae = &model.vae.1;
        let fits = self.config.fits(vae.latent_channels, vae.factor());
        fits.map_err(|reason| {
            let reason = format!("it is not for `{}`: {reason}", model.name);
            EngineError::bad_model(&self.decoder_name, reason)
        })?;
        changes::of(&self.name, &self.changes, model)
    }

    /// The network that tells what is opaque, for pictures of a model.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if its tensors do not fit.
    pub fn decoder(
        &self,
        model: &ModelFiles,
        compute: &Compute,
    ) -> Result<AlphaDecoder, EngineError> {
        let compute = compute.with_range_of_f32();
        AlphaDecoder::new(
            (&self.decoder_name, &self.decoder),
            &self.config,
            model.vae.1.factor(),
            &compute,
        )
    }

    /// Size of its files, in bytes.
    pub fn bytes(&self) -> u64 {
        let changes = self
            .changes
            .entries()
            .map(|(_, it)| it.bytes().len() as u64);
        changes.sum::<u64>() + self.decoder.bytes()
    }
}

/// Whether pictures of this family can be asked to be transparent: other families take no notice.
fn is_asked(baseline: Baseline) -> bool {
    matches!(
        baseline,
        Baseline::StableDiffusion1 | Baseline::StableDiffusionXl | Baseline::Custom
    )
}

fn folders(models: &Path) -> Vec<PathBuf> {
    let mut folders = vec![models.to_owned(), models.join(FOLDER)];
    if models.file_name().is_some_and(|name| name == "compvis") {
        folders.extend(models.parent().map(|parent| parent.join(FOLDER)));
    }
    folders
}

/// The kit of two names; `None` if neither file is there.
fn find(folders: &[PathBuf], names: &[&str; 2]) -> Result<Option<Kit>, EngineError> {
    let place = |name: &str| {
        let paths = folders
            .iter()
            .map(|folder| folder.join(format!("{name}.safetensors")));
        paths.into_iter().find(|path| path.is_file())
    };
    let [changes, decoder] = names;
    let missing = |name: &str, other: &str| {
        let reason = format!("its other half `{other}.safetensors` is missing");
        Err(EngineError::bad_model(name, reason))
    };
    match (place(changes), place(decoder)) {
        (None, None) => Ok(None),
        (Some(_), None) => missing(changes, decoder),
        (None, Some(_)) => missing(decoder, changes),
        (Some(changes_path), Some(decoder_path)) => kit(
            (changes, TensorFile::open(&changes_path)?),
            (decoder, TensorFile::open(&decoder_path)?),
        )
        .map(Some),
    }
}

pub(crate) fn kit(
    (name, changes): (&str, TensorFile),
    (decoder_name, decoder): (&str, TensorFile),
) -> Result<Kit, EngineError> {
    changes::kind(name, &changes)?;
    let decoder = Weights::from_file(&decoder);
    Ok(Kit {
        name: name.to_owned(),
        changes,
        config: AlphaConfig::from_shapes(decoder_name, &decoder)?,
        decoder,
        decoder_name: decoder_name.to_owned(),
    })
}

/// The kit for the bundled model.
fn bundled() -> Result<Kit, EngineError> {
    let changes = include_bytes!("../../../models/ordu-tiny-transparent/attention.safetensors");
    let decoder = include_bytes!("../../../models/ordu-tiny-transparent/decoder.safetensors");
    kit(
        (BUNDLED, TensorFile::bundled(BUNDLED, changes)?),
        (BUNDLED, TensorFile::bundled(BUNDLED, decoder)?),
    )
}
