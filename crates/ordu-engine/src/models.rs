//! What is known about a model without loading it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A model a task may name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name tasks use: that of the bundled model, or the file or folder name without its
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
    /// The same classes of networks in other sizes, as `ordu-tiny`.
    Custom,
}

impl Baseline {
    /// The public name of the family.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "stable_diffusion_1",
            Self::StableDiffusion2 => "stable_diffusion_2",
            Self::Custom => "custom",
        }
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
}
