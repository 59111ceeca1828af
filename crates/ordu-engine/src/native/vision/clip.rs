//! CLIP whole (Radford et al. 2021): pictures and phrases as vectors that point the same way where
//! they mean the same.

use candle_core::{D, DType, Device, Tensor};

use super::GoOn;
use super::config::TowerConfig;
use super::picture::{Fit, prepared};
use super::tower::{Kind, Tower};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, Linear};
use crate::native::sd::clip::Clip;
use crate::native::sd::config::ClipConfig;
use crate::native::sd::tokenizer::Tokenizer;
use crate::native::weights::Weights;
use image::DynamicImage;

/// Phrases that are read at once.
const BATCH: usize = 32;
/// Names that older files have and nobody reads.
const PASSED_OVER: &[&str] = &["position_ids"];
/// Where a tower of texts has its tensors.
const TEXT: &str = "text_model.";

/// What a `config.json` says of it.
#[derive(Clone, Debug, serde::Deserialize)]
pub(super) struct Config {
    text_config: ClipConfig,
    #[serde(default)]
    vision_config: TowerConfig,
}

/// Compares pictures with phrases.
#[derive(Debug)]
pub struct ClipReader {
    side: u32,
    tower: Tower,
    picture_projection: Linear,
    texts: Clip,
    text_projection: Linear,
    /// By how much likenesses are stretched before they become shares.
    scale: f32,
    tokenizer: Tokenizer,
}

impl ClipReader {
    /// Takes all tensors of both towers.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if numbers or tensors do not fit.
    pub(super) fn new(
        weights: &Weights,
        config: &Config,
        tokenizer: Tokenizer,
    ) -> Result<Self, EngineError> {
        let compute = Compute::cpu();
        let (texts, others): (Vec<_>, Vec<_>) =
            weights.iter().partition(|(name, _)| name.starts_with(TEXT));
        let part = |entries: Vec<(&str, &_)>| {
            let owned = |(name, entry): (&str, &crate::native::weights::Entry)| {
                (name.to_owned(), entry.clone())
            };
            Weights::from_entries(entries.into_iter().map(owned))
        };
        let others = part(others);
        let Some([projected, _]) = others.shape("visual_projection.weight") else {
            return Err(EngineError::bad_model(
                "clip",
                "tensor `visual_projection.weight` is missing",
            ));
        };
        let projected = *projected;
        let vision = &config.vision_config;
        let activation = vision.check(Activation::QuickGelu)?;
        let root = others.root(&compute);
        let projection =
            |name: &str, width: usize| Linear::without_bias(&root.sub(name), width, projected);
        let reader = Self {
            side: vision.side(),
            tower: Tower::new(&root.sub("vision_model"), vision, (Kind::Clip, activation))?,
            picture_projection: projection("visual_projection", vision.hidden_size)?,
            text_projection: projection("text_projection", config.text_config.hidden_size)?,
            scale: root.take("logit_scale", &[])?.to_scalar::<f32>()?.exp(),
            texts: Clip::new(&part(texts), &config.text_config, &compute)?,
            tokenizer,
        };
        root.finish("clip", PASSED_OVER)?;
        Ok(reader)
    }

    /// A picture as a vector of length 1, `[1, projected]`.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub fn picture(&self, picture: &DynamicImage, go_on: GoOn<'_>) -> Result<Tensor, EngineError> {
        let pixels = prepared(picture, self.side, Fit::Cut)?;
        let x = self.tower.first(&pixels, go_on)?;
        unit(&self.picture_projection.forward(&x)?)
    }

    /// Phrases as vectors of length 1, `[phrases, projected]`.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub fn phrases(&self, phrases: &[&str], go_on: GoOn<'_>) -> Result<Tensor, EngineError> {
        let room = self.texts.context().saturating_sub(2);
        let marks = self.tokenizer.marks();
        let framed = |phrase: &&str| {
            let ids = self.tokenizer.ids(phrase).into_iter().take(room);
            let framed = std::iter::once(marks.begin).chain(ids);
            framed.chain([marks.end]).collect::<Vec<u32>>()
        };
        let mut rows: Vec<(usize, Vec<u32>)> = phrases.iter().map(framed).enumerate().collect();
        // What follows a phrase has no effect on it, so only as much is read as the longest has.
        rows.sort_by_key(|(_, ids)| ids.len());
        let mut vectors = Vec::with_capacity(phrases.len());
        for batch in rows.chunks(BATCH) {
            go_on()?;
            let vector = self.read(batch, marks.end)?;
            for (row, (place, _)) in batch.iter().enumerate() {
                vectors.push((*place, vector.narrow(0, row, 1)?));
            }
        }
        vectors.sort_by_key(|(place, _)| *place);
        let vectors: Vec<Tensor> = vectors.into_iter().map(|(_, vector)| vector).collect();
        Ok(Tensor::cat(&vectors, 0)?)
    }

    /// The vectors of some phrases, each read off at its last mark.
    fn read(&self, rows: &[(usize, Vec<u32>)], end: u32) -> Result<Tensor, EngineError> {
        let longest = rows.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
        let filled = rows.iter().flat_map(|(_, ids)| {
            let missing = longest - ids.len();
            ids.iter().copied().chain(std::iter::repeat_n(end, missing))
        });
        let ids = Tensor::from_iter(filled, &Device::Cpu)?.reshape((rows.len(), longest))?;
        let read = self.texts.forward(&ids, 1)?;
        let ends = rows.iter().enumerate().map(|(row, (_, ids))| {
            let last = ids.len().saturating_sub(1);
            read.narrow(0, row, 1)?.narrow(1, last, 1)?.squeeze(1)
        });
        let ends: Vec<Tensor> = ends.collect::<candle_core::Result<_>>()?;
        unit(&self.text_projection.forward(&Tensor::cat(&ends, 0)?)?)
    }

    /// How alike a picture is to each of some phrases: cosines.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn likenesses(&self, picture: &Tensor, phrases: &Tensor) -> Result<Vec<f32>, EngineError> {
        let cosines = picture.matmul(&phrases.t()?)?;
        Ok(cosines.flatten_all()?.to_vec1()?)
    }

    /// What a picture is most like, if it is like exactly one of them: shares of 1.
    pub fn shares(&self, likenesses: &[f32]) -> Vec<f32> {
        let most = likenesses.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |likeness: &f32| (self.scale * (likeness - most)).exp();
        let weights: Vec<f32> = likenesses.iter().map(weight).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}

/// Rows of length 1.
fn unit(x: &Tensor) -> Result<Tensor, EngineError> {
    let x = x.to_dtype(DType::F32)?;
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}
