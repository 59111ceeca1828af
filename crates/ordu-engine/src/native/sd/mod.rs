//! The networks of Stable Diffusion 1.x and 2.x, and of models built like them in other sizes.
//!
//! A text encoder turns a prompt into numbers, a UNet removes noise from a small picture of latents
//! under their guidance, an autoencoder turns latents into pixels and back (Rombach et al. 2022,
//! "High-Resolution Image Synthesis with Latent Diffusion Models").

pub mod clip;
pub mod config;
pub mod files;
mod preview;
pub mod prompt;
pub mod tokenizer;
pub mod unet;
pub mod vae;

use std::sync::OnceLock;

use self::clip::Clip;
use self::files::ModelFiles;
pub use self::preview::Preview;
use self::tokenizer::Tokenizer;
use self::unet::UNet;
use self::vae::Vae;
use crate::native::Compute;
use crate::native::sampling::NoiseSchedule;
use crate::{Baseline, EngineError, Fit, ModelInfo};

/// A model in memory, ready to draw.
#[derive(Debug)]
pub struct StableDiffusion {
    /// What is known of it without loading.
    pub info: ModelInfo,
    /// Words to ids.
    pub tokenizer: Tokenizer,
    /// Ids to numbers.
    pub clip: Clip,
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
        let (text, clip) = &files.text;
        let (unet_weights, unet) = &files.unet;
        let (vae_weights, vae) = &files.vae;
        let named = |error: EngineError| match error {
            EngineError::BadModel { model, reason } => {
                EngineError::bad_model(&files.name, format!("{model}: {reason}"))
            }
            other => other,
        };
        if clip.hidden_size != unet.cross_attention_dim {
            let reason = format!(
                "its text encoder is {} wide, its UNet expects {}",
                clip.hidden_size, unet.cross_attention_dim
            );
            return Err(EngineError::bad_model(&files.name, reason));
        }
        Ok(Self {
            info: describe(files)?,
            tokenizer: files.tokenizer()?,
            clip: Clip::new(text, clip, compute).map_err(named)?,
            unet: UNet::new(unet_weights, unet, compute).map_err(named)?,
            vae: Vae::new(vae_weights, vae, &compute.for_autoencoder()).map_err(named)?,
            schedule: NoiseSchedule::new(&files.scheduler).map_err(named)?,
            latent_channels: vae.latent_channels,
            factor: factor(files),
            compute: compute.clone(),
            preview: OnceLock::new(),
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
    files.text.1.check()?;
    unet.check()?;
    vae.check()?;
    let latent = vae.latent_channels;
    let inpainting = match unet.in_channels {
        channels if channels == latent => false,
        channels if channels == 2 * latent + 1 => true,
        channels => {
            let reason = format!("its UNet takes {channels} channels, its latents have {latent}");
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

/// The widths that all checkpoints of a family share, since weights are exchanged between them.
fn baseline(files: &ModelFiles) -> Baseline {
    let unet = &files.unet.1;
    let full_size = unet.block_out_channels == [320, 640, 1280, 1280];
    match unet.cross_attention_dim {
        768 if full_size => Baseline::StableDiffusion1,
        1024 if full_size => Baseline::StableDiffusion2,
        _ => Baseline::Custom,
    }
}
