//! The safety checker of Stable Diffusion: a picture's vector against those of concepts that are
//! for adults, each with a threshold of its own.
//!
//! # Source
//! What diffusers' safety checker computes, by comparison. Which its special concepts are (children)
//! was found by Rando et al. 2022, "Red-Teaming the Stable Diffusion Safety Filter".

use candle_core::{D, Tensor};
use image::DynamicImage;

use super::GoOn;
use super::config::TowerConfig;
use super::picture::{Fit, prepared};
use super::tower::{Kind, Tower};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, Linear};
use crate::native::weights::{Scope, Weights};

/// The most concepts of a file; the published one has 17 and 3.
const MAX_CONCEPTS: usize = 4096;
/// By how much everything is judged more strictly where a special concept is met.
const STRICTER: f32 = 0.01;
/// Likenesses are compared in thousandths.
const STEPS: f32 = 1000.0;
/// Names that older files have and nobody reads.
const PASSED_OVER: &[&str] = &["position_ids"];

/// What a `config.json` says of it.
#[derive(Clone, Debug, serde::Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    vision_config: TowerConfig,
}

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Something for adults.
    pub nsfw: bool,
    /// Something that calls for special care: children.
    pub special: bool,
}

/// Says whether pictures are for adults.
#[derive(Debug)]
pub struct SafetyChecker {
    side: u32,
    tower: Tower,
    projection: Linear,
    concepts: Concepts,
    special: Concepts,
}

/// Vectors of length 1, and how alike a picture must be to them.
#[derive(Debug)]
struct Concepts {
    /// `[projected, concepts]`.
    vectors: Tensor,
    thresholds: Vec<f32>,
}

impl Concepts {
    fn new(
        scope: &Scope<'_>,
        name: &str,
        (count, projected): (usize, usize),
    ) -> Result<Self, EngineError> {
        let vectors = scope.take(name, &[count, projected])?;
        let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        let thresholds = scope.take(&format!("{name}_weights"), &[count])?;
        Ok(Self {
            vectors: vectors.broadcast_div(&length)?.t()?.contiguous()?,
            thresholds: thresholds.to_vec1()?,
        })
    }

    /// By how much a picture is beyond each threshold.
    fn beyond(&self, picture: &Tensor) -> Result<Vec<f32>, EngineError> {
        let cosines: Vec<f32> = picture.matmul(&self.vectors)?.flatten_all()?.to_vec1()?;
        let pairs = cosines.iter().zip(&self.thresholds);
        Ok(pairs
            .map(|(cosine, threshold)| cosine - threshold)
            .collect())
    }
}

impl SafetyChecker {
    /// Takes all tensors.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if numbers or tensors do not fit.
    pub(super) fn new(weights: &Weights, config: &Config) -> Result<Self, EngineError> {
        let vision = &config.vision_config;
        let activation = vision.check(Activation::QuickGelu)?;
        let shape = |name: &str| match weights.shape(name) {
            Some([count, projected]) if (1..=MAX_CONCEPTS).contains(count) => {
                Ok((*count, *projected))
            }
            other => Err(EngineError::bad_model(
                "safety_checker",
                format!("tensor `{name}` is {other:?}, not some vectors"),
            )),
        };
        let (concepts, special) = (shape("concept_embeds")?, shape("special_care_embeds")?);
        let root = weights.root(&Compute::cpu());
        // Older files have the name of the tower twice.
        let once = root.sub("vision_model");
        let twice = once.sub("vision_model");
        let scope = if twice.has("embeddings.class_embedding") {
            twice
        } else {
            once
        };
        let checker = Self {
            side: vision.side(),
            tower: Tower::new(&scope, vision, (Kind::Clip, activation))?,
            projection: Linear::without_bias(
                &root.sub("visual_projection"),
                vision.hidden_size,
                concepts.1,
            )?,
            concepts: Concepts::new(&root, "concept_embeds", concepts)?,
            special: Concepts::new(&root, "special_care_embeds", (special.0, concepts.1))?,
        };
        root.finish("safety_checker", PASSED_OVER)?;
        Ok(checker)
    }

    /// Looks at a picture.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub fn look(&self, picture: &DynamicImage, go_on: GoOn<'_>) -> Result<Shown, EngineError> {
        self.judge(&self.vector(&prepared(picture, self.side, Fit::Cut)?, go_on)?)
    }

    /// The vector of prepared pixels.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub fn vector(&self, pixels: &Tensor, go_on: GoOn<'_>) -> Result<Tensor, EngineError> {
        Ok(self.projection.forward(&self.tower.first(pixels, go_on)?)?)
    }

    /// What a vector says.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn judge(&self, vector: &Tensor) -> Result<Shown, EngineError> {
        let length = vector.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        let picture = vector.broadcast_div(&length)?;
        let is_beyond = |by: f32| (by * STEPS).round_ties_even() > 0.0;
        let mut stricter = 0.0;
        for by in self.special.beyond(&picture)? {
            // Each that is met counts for those behind it, too.
            if is_beyond(by + stricter) {
                stricter = STRICTER;
            }
        }
        let concepts = self.concepts.beyond(&picture)?;
        Ok(Shown {
            nsfw: concepts.into_iter().any(|by| is_beyond(by + stricter)),
            special: stricter > 0.0,
        })
    }
}
