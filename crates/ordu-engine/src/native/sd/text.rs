//! The text encoders of a model: one, or two whose numbers are joined.
//!
//! | family | encoders | layer that the model was trained on | last normalisation | summary |
//! |---|---|---|---|---|
//! | SD 1 | CLIP ViT-L | the last | yes | none |
//! | SD 2 | OpenCLIP ViT-H | the last but one; diffusers' folders have cut the last off | yes | none |
//! | SDXL | CLIP ViT-L and OpenCLIP ViT-bigG | the last but one of each | no | of the second |
//!
//! Clip skip counts from the end of the whole encoder. A layer behind the one that a model was trained
//! on is never read.

use candle_core::{Result, Tensor};

use super::clip::{Clip, Reading};
use super::condition::{Condition, Summary};
use super::config::SIZES;
use super::prompt::{self, Chunk};
use super::tokenizer::Tokenizer;
use super::words::Words;

/// How an encoder was used in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habit {
    /// The layer, counted from the end of the whole encoder.
    pub layer: usize,
    /// Layers at the end that the file has left out.
    pub cut: usize,
    /// Whether the last normalisation follows.
    pub normed: bool,
}

impl Habit {
    /// Of Stable Diffusion 1.
    pub const FIRST: Self = Self {
        layer: 1,
        cut: 0,
        normed: true,
    };
    /// Of Stable Diffusion 2, in a file with all layers.
    pub const SECOND: Self = Self {
        layer: 2,
        cut: 0,
        normed: true,
    };
    /// Of Stable Diffusion 2, in a folder without the last layer.
    pub const SECOND_CUT: Self = Self {
        layer: 2,
        cut: 1,
        normed: true,
    };
    /// Of Stable Diffusion XL.
    pub const XL: Self = Self {
        layer: 2,
        cut: 0,
        normed: false,
    };

    /// Of Stable Cascade.
    pub const CASCADE: Self = Self {
        layer: 1,
        cut: 0,
        normed: false,
    };

    /// What is read at a clip skip.
    pub fn reading(self, clip_skip: usize) -> Reading {
        Reading {
            layer: clip_skip.max(self.layer).saturating_sub(self.cut).max(1),
            normed: self.normed,
        }
    }
}

/// One encoder and what turns words into its ids.
#[derive(Clone, Debug)]
pub struct Tower {
    /// The network.
    pub clip: Clip,
    /// Words to ids.
    pub tokenizer: Tokenizer,
    /// What of it is read.
    pub habit: Habit,
}

/// All encoders of a model.
#[derive(Clone, Debug)]
pub struct TextEncoders {
    /// One or two.
    pub towers: Vec<Tower>,
}

/// Both prompts are made equally long as long as that takes no more chunks than this.
const MAX_COMMON_CHUNKS: usize = 24;

impl TextEncoders {
    /// Width of a token in all encoders together.
    pub fn width(&self) -> usize {
        self.towers.iter().map(|tower| tower.clip.width()).sum()
    }

    /// Encodes a prompt: `[1, chunks * context, width]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn encode(&self, prompt: &str, words: &Words, clip_skip: usize) -> Result<Condition> {
        let mut parts = Vec::new();
        let mut summary = None;
        for (place, tower) in self.towers.iter().enumerate() {
            let learned = words.of_tower(place, tower.clip.vocabulary());
            let chunks =
                prompt::chunks(&tower.tokenizer, prompt, tower.clip.context(), &learned.ids);
            let reading = tower.habit.reading(clip_skip);
            let (text, of_text) = tower.encode(&chunks, learned.rows.as_ref(), reading)?;
            parts.push(text);
            summary = of_text.or(summary);
        }
        // The second may have come to fewer chunks, where its tokenizer is another.
        let tokens = parts.iter().map(|part| part.dim(1)).min_by_key(lowest);
        let tokens = tokens.transpose()?.unwrap_or_default();
        let parts: Vec<Tensor> = parts
            .iter()
            .map(|part| part.narrow(1, 0, tokens))
            .collect::<Result<_>>()?;
        // Without a projection on the last encoder there is no summary, and no network that wants one.
        let summary = (self.towers.len() > 1).then_some(summary).flatten();
        Ok(Condition {
            text: Tensor::cat(&parts, 2)?,
            summary: summary.map(|text| Summary {
                text,
                sizes: [0; SIZES],
            }),
        })
    }

    /// Two prompts, encoded to equal length where that is cheap: each is repeated until both end
    /// together. To a network that attends to it, a text that is there twice is the same text.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn encode_pair(
        &self,
        (positive, negative): (&str, &str),
        words: &Words,
        clip_skip: usize,
    ) -> Result<(Condition, Condition)> {
        let mut positive = self.encode(positive, words, clip_skip)?;
        let mut negative = self.encode(negative, words, clip_skip)?;
        let (one, two) = (positive.text.dim(1)?, negative.text.dim(1)?);
        let common = one / common_divisor(one, two).max(1) * two;
        let context = self.towers.first().map_or(1, |tower| tower.clip.context());
        if common <= MAX_COMMON_CHUNKS * context {
            positive.text = positive.text.repeat((1, common / one.max(1), 1))?;
            negative.text = negative.text.repeat((1, common / two.max(1), 1))?;
        }
        Ok((positive, negative))
    }
}

fn lowest(side: &Result<usize>) -> usize {
    side.as_ref().copied().unwrap_or_default()
}

fn common_divisor(mut one: usize, mut two: usize) -> usize {
    while two > 0 {
        (one, two) = (two, one % two);
    }
    one
}

impl Tower {
    /// `[1, chunks * context, width]`, and the summary of the first chunk if this encoder makes one.
    fn encode(
        &self,
        chunks: &[Chunk],
        learned: Option<&Tensor>,
        reading: Reading,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (context, width) = (self.clip.context(), self.clip.width());
        let is_weighted = chunks.iter().any(Chunk::is_weighted);
        let mut all: Vec<&[u32]> = chunks.iter().map(|chunk| chunk.ids.as_slice()).collect();
        let empty = prompt::empty_chunk(self.tokenizer.marks(), context);
        if is_weighted {
            all.push(&empty.ids);
        }
        let embedded =
            self.clip
                .embed(&all.concat(), learned)?
                .reshape((all.len(), context, width))?;
        let (encoded, summary) = if self.clip.summary().is_some() {
            let (encoded, last) = self.clip.read_all(&embedded, reading)?;
            let end = self.tokenizer.marks().end;
            let end = chunks.first().and_then(|chunk| chunk.place_of(end));
            (
                encoded,
                self.clip.summarise(&last, end.unwrap_or(context - 1))?,
            )
        } else {
            (self.clip.read(&embedded, reading)?, None)
        };
        let words = encoded.narrow(0, 0, chunks.len())?;
        let words = if is_weighted {
            prompt::weigh(&words, &encoded.narrow(0, chunks.len(), 1)?, chunks)?
        } else {
            words
        };
        Ok((words.reshape((1, chunks.len() * context, width))?, summary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_behind_the_trained_one_are_never_read() {
        let layer = |habit: Habit, skip| habit.reading(skip).layer;
        assert_eq!([1, 2, 3].map(|skip| layer(Habit::FIRST, skip)), [1, 2, 3]);
        assert_eq!([1, 2, 3].map(|skip| layer(Habit::SECOND, skip)), [2, 2, 3]);
        assert_eq!(
            [1, 2, 3].map(|skip| layer(Habit::SECOND_CUT, skip)),
            [1, 1, 2]
        );
        assert_eq!(
            [0, 1, 2, 9].map(|skip| layer(Habit::XL, skip)),
            [2, 2, 2, 9]
        );
    }

    #[test]
    fn common_divisors() {
        assert_eq!(common_divisor(77, 154), 77);
        assert_eq!(common_divisor(48, 72), 24);
        assert_eq!(common_divisor(5, 0), 5);
    }
}
