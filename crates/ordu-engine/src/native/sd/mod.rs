//! The networks of Stable Diffusion 1.x, 2.x and XL, and of models built like them in other sizes.
//!
//! One or two text encoders turn a prompt into numbers, a UNet removes noise from a small picture of latents
//! under their guidance, an autoencoder turns latents into pixels and back (Rombach et al. 2022,
//! "High-Resolution Image Synthesis with Latent Diffusion Models").

pub mod clip;
mod condition;
pub mod config;
pub mod files;
pub mod lora;
mod prediction;
mod preview;
pub mod prompt;
pub mod text;
pub mod tokenizer;
pub mod unet;
pub mod vae;
pub mod words;

use std::sync::OnceLock;

use self::clip::Clip;
pub use self::condition::{Condition, Summary};
use self::files::ModelFiles;
use self::lora::Changes;
pub use self::preview::Preview;
use self::text::{TextEncoders, Tower};
use self::unet::UNet;
use self::vae::Vae;
use crate::native::Compute;
use crate::native::sampling::NoiseSchedule;
use crate::native::transparent::AlphaDecoder;
use crate::{Baseline, EngineError, Fit, ModelInfo};

/// A model in memory, ready to draw.
#[derive(Debug)]
pub struct StableDiffusion {
    /// What is known of it without loading.
    pub info: ModelInfo,
    /// Words to numbers.
    pub text: TextEncoders,
    /// The diffusion network.
    pub unet: UNet,
    /// Pixels to latents and back.
    pub vae: Vae,
    /// The noise of training.
    pub schedule: NoiseSchedule,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Pixels per latent pixel in each direction.
    pub factor: u32,
    /// What of a picture is opaque, for models that draw transparent ones.
    pub alpha: Option<AlphaDecoder>,
    compute: Compute,
    preview: OnceLock<Option<Preview>>,
}

/// Models that were trained on smaller pictures than this cannot draw what clients usually ask for.
const SMALLEST_COMMON_SIDE: u32 = 256;

impl StableDiffusion {
    /// Loads all parts onto a device.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming tensors and numbers that do not fit,
    /// [`EngineError::NoTokenizer`].
    pub fn load(files: &ModelFiles, compute: &Compute) -> Result<Self, EngineError> {
        Self::load_changed(files, compute, &Changes::default())
    }

    /// The same with changes to its weights. The files stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_changed(
        files: &ModelFiles,
        compute: &Compute,
        changes: &Changes,
    ) -> Result<Self, EngineError> {
        let (vae_weights, vae) = &files.vae;
        let named = |error| named(files, error);
        let text = text(files, compute, changes)?;
        let unet = unet(files, compute, changes)?;
        fit(files, &text)?;
        Ok(Self {
            info: describe(files)?,
            text,
            unet,
            vae: Vae::new(vae_weights, vae, &compute.with_range_of_f32()).map_err(named)?,
            schedule: NoiseSchedule::new(&files.scheduler).map_err(named)?,
            latent_channels: vae.latent_channels,
            factor: factor(files),
            alpha: None,
            compute: compute.clone(),
            preview: OnceLock::new(),
        })
    }

    /// The text encoders alone.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_text(files: &ModelFiles, compute: &Compute) -> Result<TextEncoders, EngineError> {
        text(files, compute, &Changes::default())
    }

    /// This model with changes to its weights, loaded anew where they are; the rest is shared, and this
    /// one stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn changed(&self, files: &ModelFiles, changes: &Changes) -> Result<Self, EngineError> {
        let compute = &self.compute;
        Ok(Self {
            info: self.info.clone(),
            text: if changes.has_text() {
                text(files, compute, changes)?
            } else {
                self.text.clone()
            },
            unet: if changes.unet.is_empty() && changes.added.is_empty() {
                self.unet.clone()
            } else {
                unet(files, compute, changes)?
            },
            vae: self.vae.clone(),
            schedule: self.schedule.clone(),
            latent_channels: self.latent_channels,
            factor: self.factor,
            alpha: None,
            compute: compute.clone(),
            preview: self.preview.clone(),
        })
    }

    /// Where it computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The map from latents to rough colours; `None` if it could not be found. The first call takes
    /// some milliseconds.
    pub fn preview(&self) -> Option<&Preview> {
        self.preview
            .get_or_init(|| Preview::fit(&self.vae, self.factor).ok())
            .as_ref()
    }
}

/// Says whose part it is that is wrong.
fn named(files: &ModelFiles, error: EngineError) -> EngineError {
    match error {
        EngineError::BadModel { model, reason } => {
            EngineError::bad_model(&files.name, format!("{model}: {reason}"))
        }
        other => other,
    }
}

fn text(
    files: &ModelFiles,
    compute: &Compute,
    changes: &Changes,
) -> Result<TextEncoders, EngineError> {
    let mut towers = Vec::new();
    for (place, part) in files.texts.iter().enumerate() {
        let deltas = changes.texts.get(place).cloned().unwrap_or_default();
        let weights = part.weights.with_deltas(deltas);
        towers.push(Tower {
            tokenizer: files.tokenizer(part)?,
            clip: Clip::new(&weights, &part.config, compute)
                .map_err(|error| named(files, error))?,
            habit: part.habit,
        });
    }
    Ok(TextEncoders { towers })
}

fn unet(files: &ModelFiles, compute: &Compute, changes: &Changes) -> Result<UNet, EngineError> {
    let (weights, config) = &files.unet;
    let weights = weights
        .with_added(&changes.added)
        .with_deltas(changes.unet.clone());
    UNet::new(&weights, config, compute).map_err(|error| named(files, error))
}

/// Refuses text encoders that are not those of the network.
fn fit(files: &ModelFiles, text: &TextEncoders) -> Result<(), EngineError> {
    let unet = &files.unet.1;
    let refuse = |reason: String| Err(EngineError::bad_model(&files.name, reason));
    if text.width() != unet.cross_attention_dim {
        return refuse(format!(
            "its text encoder is {} wide, its UNet expects {}",
            text.width(),
            unet.cross_attention_dim
        ));
    }
    let made = text.towers.last().and_then(|tower| tower.clip.summary());
    match unet.text_and_sizes() {
        Some((_, summary)) if text.towers.len() < 2 || made != Some(summary) => refuse(format!(
            "its UNet expects a summary of the text {summary} wide, its text encoders make {}",
            made.map_or("none".to_owned(), |made| made.to_string())
        )),
        _ => Ok(()),
    }
}

fn factor(files: &ModelFiles) -> u32 {
    u32::try_from(files.vae.1.factor()).unwrap_or(1)
}

/// What the headers of a model tell.
///
/// # Errors
///
/// [`EngineError::BadModel`] if they tell of networks that are not built, or that do not fit
/// together.
pub fn describe(files: &ModelFiles) -> Result<ModelInfo, EngineError> {
    let (unet, vae) = (&files.unet.1, &files.vae.1);
    for text in &files.texts {
        text.config.check()?;
    }
    unet.check()?;
    vae.check()?;
    let latent = vae.latent_channels;
    let inpainting = match unet.in_channels {
        channels if channels == latent => false,
        channels if channels == 2 * latent + 1 => true,
        channels => {
            let reason = format!(
                "its UNet takes {channels} channels, its latents have {latent}{}",
                relative(channels, latent)
            );
            return Err(EngineError::bad_model(&files.name, reason));
        }
    };
    if unet.out_channels != latent {
        let reason = format!(
            "its UNet yields {} channels, its latents have {latent}",
            unet.out_channels
        );
        return Err(EngineError::bad_model(&files.name, reason));
    }
    let side = unet
        .sample_size
        .filter(|side| (1..=1024).contains(side))
        .unwrap_or(64);
    let native = u32::try_from(side)
        .unwrap_or(64)
        .saturating_mul(factor(files));
    Ok(ModelInfo {
        name: files.name.clone(),
        baseline: baseline(files),
        native,
        fit: if native < SMALLEST_COMMON_SIDE {
            Fit::Scale { native }
        } else {
            Fit::Exact
        },
        prediction: files.scheduler.prediction()?,
        inpainting,
        bytes: files.bytes(),
        origin: files.origin.clone(),
    })
}

/// What networks with so many channels are known as.
fn relative(channels: usize, latent: usize) -> &'static str {
    match channels.checked_sub(latent) {
        Some(1) => ": models that are guided by depth are not built",
        Some(3) => ": models that enlarge are not built",
        Some(4) => ": models that edit by instruction are not built",
        _ => "",
    }
}

/// The widths that all checkpoints of a family share, since weights are exchanged between them.
fn baseline(files: &ModelFiles) -> Baseline {
    let unet = &files.unet.1;
    let full_size = unet.block_out_channels == [320, 640, 1280, 1280];
    match unet.cross_attention_dim {
        768 if full_size => Baseline::StableDiffusion1,
        1024 if full_size => Baseline::StableDiffusion2,
        2048 if unet.block_out_channels == [320, 640, 1280] => Baseline::StableDiffusionXl,
        _ => Baseline::Custom,
    }
}
