//! The numbers of Stable Cascade's two diffusion networks, read off their tensors.

use super::super::weights::Weights;
use crate::EngineError;

/// No network has more levels, or blocks of a level.
const MAX_COUNT: usize = 128;
/// The widest layer that is built.
const MAX_WIDTH: usize = 16_384;
/// Width of a head of attention in all published ones.
const HEAD: usize = 64;

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Draws a very small picture for a text and for pictures.
    C,
    /// Draws a larger one for that.
    B,
}

impl Stage {
    /// Channels of its latents.
    pub fn channels(self) -> usize {
        match self {
            Self::C => 16,
            Self::B => 4,
        }
    }
}

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mixes neighbours, then channels.
    Residual,
    /// Scales and shifts by the time.
    Time,
    /// Looks at all of the picture and at what is told.
    Attention,
}

/// How the resolution changes between levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Twice, by squares of pixels.
    Twofold,
    /// Not at all: only the width does.
    Width,
}

/// One level of resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Channels.
    pub width: usize,
    /// Blocks on the way down.
    pub down: Vec<Kind>,
    /// Blocks on the way up.
    pub up: Vec<Kind>,
    /// How often the blocks run again, with layers of points between.
    pub repeats: (usize, usize),
}

/// A diffusion network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which one.
    pub stage: Stage,
    /// Side of the squares of latents that are one pixel of the network.
    pub patch: usize,
    /// Width of the embedding of a time.
    pub time: usize,
    /// Further numbers that it is told beside the time; always zero.
    pub times: Vec<&'static str>,
    /// Width of what is told.
    pub context: usize,
    /// Tokens that a summary or a picture becomes.
    pub sequence: usize,
    /// Width of the summary of a text.
    pub summary: usize,
    /// Width of a token of a text, and of what is seen of a picture: stage C.
    pub text_and_picture: Option<(usize, usize)>,
    /// Channels of the very small picture, and of pixels: stage B.
    pub hints: Option<(usize, usize)>,
    /// From the finest on.
    pub levels: Vec<Level>,
    /// Between levels.
    pub change: Change,
    /// Width of a head of attention.
    pub head: usize,
}

impl Config {
    /// Reads the numbers off the tensors.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if they tell of no such network.
    pub fn from_shapes(
        weights: &Weights,
        stage: Stage,
        head: Option<usize>,
    ) -> Result<Self, EngineError> {
        let part = match stage {
            Stage::C => "stage_c",
            Stage::B => "stage_b",
        };
        let side = |name: &str, place: usize| {
            let missing = || EngineError::bad_model(part, format!("tensor `{name}` is missing"));
            let side = weights.shape(name).and_then(|shape| shape.get(place));
            side.copied()
                .filter(|side| (1..=MAX_WIDTH * 4).contains(side))
                .ok_or_else(missing)
        };
        let levels = levels(weights);
        let kinds = levels
            .iter()
            .flat_map(|level| level.down.iter().chain(&level.up));
        let (first, _) = find(weights, ".kv_mapper.1.weight")
            .ok_or_else(|| EngineError::bad_model(part, "it has no attention"))?;
        let context = side(&first, 1)?;
        let (mapper, _) = find(weights, ".mapper.weight")
            .ok_or_else(|| EngineError::bad_model(part, "it has no blocks for the time"))?;
        let patch = (side("embedding.1.weight", 1)? / stage.channels()).isqrt();
        let both = |one: &str, two: &str| Ok::<_, EngineError>((side(one, 1)?, side(two, 1)?));
        let config = Self {
            stage,
            patch,
            time: side(&mapper, 1)?,
            times: ["sca", "crp"]
                .into_iter()
                .filter(|name| find(weights, &format!(".mapper_{name}.weight")).is_some())
                .collect(),
            context,
            sequence: side("clip_txt_pooled_mapper.weight", 0)? / context,
            summary: side("clip_txt_pooled_mapper.weight", 1)?,
            text_and_picture: (stage == Stage::C)
                .then(|| both("clip_txt_mapper.weight", "clip_img_mapper.weight"))
                .transpose()?,
            hints: (stage == Stage::B)
                .then(|| both("effnet_mapper.0.weight", "pixels_mapper.0.weight"))
                .transpose()?,
            change: match weights.shape("down_downscalers.1.1.blocks.0.weight") {
                Some(_) => Change::Width,
                None => Change::Twofold,
            },
            head: head.unwrap_or(HEAD),
            levels: levels.clone(),
        };
        let is_sound = patch >= 1
            && config.time >= 4
            && config.sequence >= 1
            && !levels.is_empty()
            && kinds.count() > 0
            && levels.iter().all(|level| config.fits(level));
        if is_sound {
            Ok(config)
        } else {
            let reason = "its tensors are those of no network of Stable Cascade";
            Err(EngineError::bad_model(part, reason))
        }
    }

    /// Whether a level can be built.
    fn fits(&self, level: &Level) -> bool {
        let attends = level.down.iter().chain(&level.up);
        let mut attends = attends.filter(|kind| **kind == Kind::Attention);
        (1..=MAX_WIDTH).contains(&level.width)
            && (attends.next().is_none() || self.heads(level.width).is_some())
    }

    /// Heads of attention of a width; `None` if they do not divide it.
    pub fn heads(&self, width: usize) -> Option<usize> {
        let heads = (width / self.head.max(1)).max(1);
        width.is_multiple_of(heads).then_some(heads)
    }
}

/// The first tensor whose name ends so.
fn find(weights: &Weights, ending: &str) -> Option<(String, Vec<usize>)> {
    let mut tensors = weights.iter();
    let found = tensors.find(|(name, _)| name.ends_with(ending));
    found.map(|(name, entry)| (name.to_owned(), entry.shape().to_vec()))
}

fn levels(weights: &Weights) -> Vec<Level> {
    let width = |level: usize| {
        let name = format!("down_blocks.{level}.0.depthwise.weight");
        weights
            .shape(&name)
            .and_then(|shape| shape.first())
            .copied()
    };
    let widths: Vec<usize> = (0..MAX_COUNT).map_while(width).collect();
    let count = widths.len();
    let level = |(number, width): (usize, usize)| {
        // The way up begins at the coarsest.
        let up = count - 1 - number;
        Level {
            width,
            down: kinds(weights, &format!("down_blocks.{number}")),
            up: kinds(weights, &format!("up_blocks.{up}")),
            repeats: (
                repeats(weights, &format!("down_repeat_mappers.{number}")),
                repeats(weights, &format!("up_repeat_mappers.{up}")),
            ),
        }
    };
    widths.into_iter().enumerate().map(level).collect()
}

fn kinds(weights: &Weights, list: &str) -> Vec<Kind> {
    let has =
        |number: usize, name: &str| weights.shape(&format!("{list}.{number}.{name}")).is_some();
    let kind = |number: usize| {
        [
            ("depthwise.weight", Kind::Residual),
            ("mapper.weight", Kind::Time),
            ("kv_mapper.1.weight", Kind::Attention),
        ]
        .into_iter()
        .find(|(name, _)| has(number, name))
        .map(|(_, kind)| kind)
    };
    (0..MAX_COUNT).map_while(kind).collect()
}

fn repeats(weights: &Weights, list: &str) -> usize {
    let has = |number: &usize| weights.shape(&format!("{list}.{number}.weight")).is_some();
    (0..MAX_COUNT).take_while(has).count()
}
