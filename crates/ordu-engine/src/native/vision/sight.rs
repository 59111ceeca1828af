//! What CLIP sees of a picture, without its texts (Radford et al. 2021): one vector.

use candle_core::Tensor;
use image::DynamicImage;

use super::GoOn;
use super::config::TowerConfig;
use super::picture::{Fit, prepared};
use super::tower::{Kind, Tower};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, Linear};
use crate::native::weights::Weights;

/// Names that older files have and nobody reads.
const PASSED_OVER: &[&str] = &["position_ids"];

/// A vision tower and its projection, on the processor.
#[derive(Debug)]
pub struct Sight {
    side: u32,
    tower: Tower,
    projection: Linear,
}

impl Sight {
    /// Takes all tensors of the tower.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if numbers or tensors do not fit.
    pub fn new(weights: &Weights, heads: Option<usize>) -> Result<Self, EngineError> {
        let config = TowerConfig::from_shapes(weights, heads)?;
        let activation = config.check(Activation::QuickGelu)?;
        let name = "visual_projection.weight";
        let Some([projected, _]) = weights.shape(name) else {
            let reason = format!("tensor `{name}` is missing");
            return Err(EngineError::bad_model("vision tower", reason));
        };
        let root = weights.root(&Compute::cpu());
        let tower = root.sub("vision_model");
        let width = config.hidden_size;
        let sight = Self {
            side: config.side(),
            tower: Tower::new(&tower, &config, (Kind::Clip, activation))?,
            projection: Linear::without_bias(&root.sub("visual_projection"), width, *projected)?,
        };
        root.finish("vision tower", PASSED_OVER)?;
        Ok(sight)
    }

    /// A picture as a vector, `[1, projected]`: of its shorter side's square in the middle.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub fn of(&self, picture: &DynamicImage, go_on: GoOn<'_>) -> Result<Tensor, EngineError> {
        let pixels = prepared(picture, self.side, Fit::Cut)?;
        let x = self.tower.first(&pixels, go_on)?;
        Ok(self.projection.forward(&x)?)
    }
}
