//! What is known about a model without loading it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A model a task may name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name tasks use: that of a bundled model, or the file or folder name without its
    /// extension.
    pub name: String,
    /// Its family, recognised by the names and shapes of its tensors.
    pub baseline: Baseline,
    /// The side of the square it draws best, in pixels.
    pub native: u32,
    /// What happens to other sizes.
    pub fit: Fit,
    /// What its network predicts.
    pub prediction: Prediction,
    /// Whether its network takes the mask and the masked picture as further channels.
    pub inpainting: bool,
    /// Size of its weights in the file, in bytes.
    pub bytes: u64,
    /// Where it comes from.
    pub origin: Origin,
}

/// A family of models: same networks, exchangeable add-ons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Baseline {
    /// Stable Diffusion 1.x: 768 wide text context.
    StableDiffusion1,
    /// Stable Diffusion 2.x: 1024 wide text context.
    StableDiffusion2,
    /// Stable Diffusion XL: two text encoders.
    StableDiffusionXl,
    /// Stable Cascade: two diffusion models after each other.
    StableCascade,
    /// Flux 1 without further distinction.
    Flux1,
    /// Flux 1 Schnell: distilled to few steps, no guidance.
    FluxSchnell,
    /// Flux 1 Dev.
    FluxDev,
    /// Qwen-Image.
    QwenImage,
    /// Z-Image Turbo.
    ZImageTurbo,
    /// The same classes of networks in other sizes, as `ordu-tiny`.
    Custom,
}

impl Baseline {
    /// The public name of the family.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "stable_diffusion_1",
            Self::StableDiffusion2 => "stable_diffusion_2",
            Self::StableDiffusionXl => "stable_diffusion_xl",
            Self::StableCascade => "stable_cascade",
            Self::Flux1 => "flux_1",
            Self::FluxSchnell => "flux_schnell",
            Self::FluxDev => "flux_dev",
            Self::QwenImage => "qwen_image",
            Self::ZImageTurbo => "z_image_turbo",
            Self::Custom => "custom",
        }
    }

    /// The family of a public name; names unknown are [`Baseline::Custom`].
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "stable_diffusion_1" => Self::StableDiffusion1,
            "stable_diffusion_2" | "stable_diffusion_2_512" | "stable_diffusion_2_768" => {
                Self::StableDiffusion2
            }
            "stable_diffusion_xl" => Self::StableDiffusionXl,
            "stable_cascade" => Self::StableCascade,
            "flux_1" => Self::Flux1,
            "flux_schnell" => Self::FluxSchnell,
            "flux_dev" => Self::FluxDev,
            "qwen_image" => Self::QwenImage,
            "z_image_turbo" => Self::ZImageTurbo,
            _ => Self::Custom,
        }
    }

    /// Whether it is one of the Flux models.
    #[must_use]
    pub fn is_flux(self) -> bool {
        matches!(self, Self::Flux1 | Self::FluxSchnell | Self::FluxDev)
    }
}

/// How a model meets a size that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// It draws at the size asked for, rounded up to whole latent pixels (8) and scaled back to
    /// measure.
    Exact,
    /// It can only draw about `native * native` pixels: it draws the size nearest to that area with
    /// the same aspect ratio, and the result is scaled to the size asked for (Lanczos). For models
    /// far smaller than what clients ask.
    Scale {
        /// Side of the square whose area is kept, in pixels.
        native: u32,
    },
}

/// What a diffusion network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prediction {
    /// The noise (Ho et al. 2020).
    #[default]
    Epsilon,
    /// The velocity, a rotation of noise and picture (Salimans and Ho 2022).
    Velocity,
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It is part of this program.
    Bundled,
    /// One `.safetensors` file.
    File(PathBuf),
    /// A folder in the layout of diffusers.
    Folder(PathBuf),
    /// Files of another program, by the names they have there.
    Remote(Vec<String>),
}
