//! How long the networks take: each part by itself, at true size, with given weights or with numbers
//! that mean nothing.
//!
//! *Knows no clock but that of the passes, and prints nothing.*

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::Compute;
use super::noise::NoiseStream;
use super::ops::Edges;
use super::sd::clip::Clip;
use super::sd::config::{ClipConfig, UNetConfig, VaeConfig};
use super::sd::files::ModelFiles;
use super::sd::unet::UNet;
use super::sd::vae::Vae;
use super::sd::{Condition, Summary};
use super::weights::Weights;
use crate::{EngineError, NoiseSource};

/// A family of models, at its true size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.5.
    Sd15,
    /// Stable Diffusion XL, its first text encoder and without the embedding of sizes: two small layers.
    Sdxl,
    /// The model that is part of this program.
    OrduTiny,
}

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One step of the diffusion network under guidance: twice the pictures.
    Unet,
    /// Both texts of a step, 77 tokens each.
    Text,
    /// Latents to pixels.
    Decode,
}

impl Family {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Sd15, Self::Sdxl, Self::OrduTiny];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sd15 => "sd15",
            Self::Sdxl => "sdxl",
            Self::OrduTiny => "ordu-tiny",
        }
    }

    /// The side of the pictures that it was made for, in pixels.
    pub fn side(self) -> usize {
        match self {
            Self::Sd15 => 512,
            Self::Sdxl => 1024,
            Self::OrduTiny => 64,
        }
    }
}

impl Part {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Unet, Self::Text, Self::Decode];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Text => "text",
            Self::Decode => "decode",
        }
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|family| family.name() == text);
        found.ok_or_else(|| {
            format!("`{text}` is nothing that is measured: use `sd15`, `sdxl` or `ordu-tiny`")
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|part| part.name() == text);
        found.ok_or_else(|| format!("`{text}` is no part: use `unet`, `text` or `decode`"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A network that is ready to compute.
#[derive(Debug)]
pub struct Subject {
    network: Network,
    compute: Compute,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it owns gigabytes elsewhere"
)]
enum Network {
    Unet {
        unet: UNet,
        /// Of a token, and of the summary of a text where there is one.
        text: usize,
        summary: Option<usize>,
        channels: usize,
        /// Pixels of a side for one of the latents.
        shrink: usize,
    },
    Text(Clip),
    Decode {
        vae: Vae,
        channels: usize,
        shrink: usize,
    },
}

/// Tokens of a text.
const TOKENS: usize = 77;
/// The time step of a pass: any will do.
const TIME: f64 = 500.0;

/// A network's tensors and its numbers.
struct Parts {
    unet: (Weights, UNetConfig),
    vae: (Weights, VaeConfig),
    text: (Weights, ClipConfig),
}

impl Subject {
    /// A part of a family, with weights that mean nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tensor`] if there is no room for it.
    pub fn made_up(family: Family, part: Part, compute: &Compute) -> Result<Self, EngineError> {
        let parts = match family {
            Family::OrduTiny => of_files(ModelFiles::bundled()?)?,
            Family::Sd15 => sizes(SD15_UNET)?,
            Family::Sdxl => sizes(SDXL_UNET)?,
        };
        Self::of(&parts, part, compute)
    }

    /// A part of a model in a file or a folder.
    ///
    /// # Errors
    ///
    /// Those of reading it; [`EngineError::BadModel`] if it is none.
    pub fn open(path: &Path, part: Part, compute: &Compute) -> Result<Self, EngineError> {
        let files = if path.is_dir() {
            ModelFiles::folder(path)?
        } else {
            ModelFiles::file(path)?
        };
        let none =
            || EngineError::bad_model(path.display().to_string(), "it is no model for pictures");
        Self::of(&of_files(files.ok_or_else(none)?)?, part, compute)
    }

    fn of(parts: &Parts, part: Part, compute: &Compute) -> Result<Self, EngineError> {
        let Parts { unet, vae, text } = parts;
        let shrink = 1 << vae.1.block_out_channels.len().saturating_sub(1);
        let compute = match part {
            Part::Decode => compute.with_range_of_f32(),
            _ => compute.clone(),
        };
        let network = match part {
            Part::Unet => Network::Unet {
                unet: UNet::new(&unet.0, &unet.1, &compute)?,
                text: unet.1.cross_attention_dim,
                summary: unet.1.text_and_sizes().map(|(_, summary)| summary),
                channels: unet.1.in_channels,
                shrink,
            },
            Part::Text => Network::Text(Clip::new(&text.0, &text.1, &compute)?),
            Part::Decode => Network::Decode {
                vae: Vae::new(&vae.0, &vae.1, &compute)?,
                channels: vae.1.latent_channels,
                shrink,
            },
        };
        Ok(Self { network, compute })
    }

    /// Where it computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// How long one pass over so many pictures of this side takes. Texts have no side.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tensor`] if there is no room for it.
    pub fn pass(&self, side: usize, pictures: usize) -> Result<Duration, EngineError> {
        let device = self.compute.device();
        let noise = |shape| NoiseStream::new(NoiseSource::Philox, 1, shape).draw(device);
        let started;
        match &self.network {
            Network::Unet {
                unet,
                text,
                summary,
                channels,
                shrink,
            } => {
                let both = 2 * pictures;
                let latents = noise([both, *channels, side / shrink, side / shrink])?;
                let summary = match summary {
                    Some(width) => Some(Summary {
                        text: noise([1, 1, both, *width])?.reshape((both, *width))?,
                        sizes: [512, 512, 0, 0, 512, 512],
                    }),
                    None => None,
                };
                let condition = Condition {
                    text: noise([1, both, TOKENS, *text])?.squeeze(0)?,
                    summary,
                };
                device.synchronize()?;
                started = Instant::now();
                unet.forward(&latents, TIME, &condition, Edges::Zero)?;
            }
            Network::Text(clip) => {
                let tokens = clip.context().min(TOKENS);
                let last = u32::try_from(tokens).unwrap_or(u32::MAX);
                let ids = Tensor::arange(0, last, device)?.broadcast_as((2 * pictures, tokens))?;
                let ids = ids.contiguous()?;
                device.synchronize()?;
                started = Instant::now();
                clip.forward(&ids, 1)?;
            }
            Network::Decode {
                vae,
                channels,
                shrink,
            } => {
                let latents = noise([pictures, *channels, side / shrink, side / shrink])?;
                device.synchronize()?;
                started = Instant::now();
                vae.decode(&latents, Edges::Zero)?;
            }
        }
        device.synchronize()?;
        Ok(started.elapsed())
    }
}

fn of_files(files: ModelFiles) -> Result<Parts, EngineError> {
    let name = files.name;
    let text = files.texts.into_iter().next();
    let none = || EngineError::bad_model(name, "it has no text encoder");
    let text = text.ok_or_else(none)?;
    Ok(Parts {
        unet: files.unet,
        vae: files.vae,
        text: (text.weights, text.config),
    })
}

/// The autoencoder and the text encoder are of one size in both families.
fn sizes(unet: &str) -> Result<Parts, EngineError> {
    let wrong = |error: serde_json::Error| EngineError::bad_model("sizes", error.to_string());
    Ok(Parts {
        unet: (
            Weights::made_up(),
            serde_json::from_str(unet).map_err(wrong)?,
        ),
        vae: (
            Weights::made_up(),
            serde_json::from_str(VAE).map_err(wrong)?,
        ),
        text: (
            Weights::made_up(),
            serde_json::from_str(TEXT).map_err(wrong)?,
        ),
    })
}

const SD15_UNET: &str = r#"{"in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
        "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D"]}"#;
const SDXL_UNET: &str = r#"{"in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20], "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": true,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}"#;
const VAE: &str = r#"{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "latent_channels": 4}"#;
const TEXT: &str = r#"{"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77,
    "hidden_act": "quick_gelu"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        for part in Part::ALL {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert!("sd3".parse::<Family>().is_err());
        assert!("vae".parse::<Part>().is_err());
    }

    #[test]
    fn every_part_of_the_bundled_model_computes() {
        for part in Part::ALL {
            let subject = Subject::made_up(Family::OrduTiny, part, &Compute::cpu()).unwrap();
            assert!(subject.pass(64, 1).unwrap() > Duration::ZERO, "{part}");
        }
    }
}
