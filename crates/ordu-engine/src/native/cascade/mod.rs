//! Stable Cascade (Pernias et al. 2023, "Würstchen: An Efficient Architecture for Large-Scale Text-to-Image
//! Diffusion Models"): two diffusion networks after each other.
//!
//! ```text
//! prompt ─► text encoder ─┐
//! pictures ─► vision tower┴► stage C ─► [n, 16, h/42, w/42] ─► stage B ─► [n, 4, h/4, w/4] ─► stage A ─► pixels
//! source ─► encoder ─► (+ noise) ─┘
//! ```
//!
//! `files` says where the parts lie, `pipeline` how a task is drawn; the rest are networks.

mod block;
pub mod config;
pub mod encoder;
pub mod files;
mod grid;
pub mod network;
mod pipeline;
pub mod schedule;
mod shelf;
pub mod stage_a;
pub mod text;

use self::encoder::Encoder;
use self::files::CascadeFiles;
use self::network::Network;
use self::schedule::Cosine;
pub(super) use self::shelf::Cascades;
use self::stage_a::StageA;
use self::text::Text;
use super::Compute;
use super::sd::clip::Clip;
use super::vision::Sight;
use crate::{EngineError, ModelInfo};

/// By how much the levels of the two stages are shifted towards noise.
const SHIFT_C: f64 = 2.0;
const SHIFT_B: f64 = 1.0;

/// A model in memory, ready to draw.
#[derive(Debug)]
pub struct StableCascade {
    /// What is known of it without loading.
    pub info: ModelInfo,
    /// Words to numbers.
    pub text: Text,
    /// Pictures to what is seen of them.
    pub sight: Sight,
    /// Pixels to latents of stage C.
    pub encoder: Encoder,
    /// Draws.
    pub stage_c: Network,
    /// Fills in.
    pub stage_b: Network,
    /// Latents of stage B to pixels.
    pub stage_a: StageA,
    levels_c: Cosine,
    levels_b: Cosine,
    compute: Compute,
}

impl StableCascade {
    /// Loads all parts onto a device.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming tensors and numbers that do not fit,
    /// [`EngineError::NoTokenizer`].
    pub fn load(files: &CascadeFiles, compute: &Compute) -> Result<Self, EngineError> {
        let compute = &compute.with_range_of_f32();
        let named = |error| match error {
            EngineError::BadModel { model, reason } => {
                EngineError::bad_model(&files.name, format!("{model}: {reason}"))
            }
            other => other,
        };
        let (c, b) = (&files.stage_c, &files.stage_b);
        let clip = Clip::new(&files.text.0, &files.text.1, compute).map_err(named)?;
        let (text, summary) = (clip.width(), clip.summary());
        let wanted = c.1.text_and_picture.map(|(text, _)| text);
        let picture = c.1.text_and_picture.map(|(_, picture)| picture);
        let seen = files.vision.0.shape("visual_projection.weight");
        if seen.is_some_and(|shape| shape.first().copied() != picture) {
            let reason = "its vision tower is not the one that its stage C knows";
            return Err(EngineError::bad_model(&files.name, reason));
        }
        if wanted != Some(text) || summary != Some(c.1.summary) || summary != Some(b.1.summary) {
            let reason = format!(
                "its text encoder is {text} wide and its summaries {}, its stages expect others",
                summary.map_or("none".to_owned(), |summary| summary.to_string())
            );
            return Err(EngineError::bad_model(&files.name, reason));
        }
        Ok(Self {
            info: files.info(),
            text: Text {
                clip,
                tokenizer: files.tokenizer()?,
            },
            sight: Sight::new(&files.vision.0, files.vision.1).map_err(named)?,
            encoder: Encoder::new(&files.encoder, compute).map_err(named)?,
            stage_c: Network::new(&c.0, &c.1, compute).map_err(named)?,
            stage_b: Network::new(&b.0, &b.1, compute).map_err(named)?,
            stage_a: StageA::new(&files.stage_a, compute).map_err(named)?,
            levels_c: Cosine::new(SHIFT_C),
            levels_b: Cosine::new(SHIFT_B),
            compute: compute.clone(),
        })
    }
}
