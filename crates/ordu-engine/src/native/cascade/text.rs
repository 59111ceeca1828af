//! The text encoder of Stable Cascade: OpenCLIP's ViT-bigG.
//!
//! Read after its last layer, not normalised; nobody looks at what fills a chunk. The summary is that of
//! the first chunk.

use candle_core::{Result, Tensor};

use super::super::sd::clip::Clip;
use super::super::sd::prompt::{self, Chunk};
use super::super::sd::text::Habit;
use super::super::sd::tokenizer::Tokenizer;
use std::collections::BTreeMap;

/// A prompt in numbers.
#[derive(Clone, Debug)]
pub struct Read {
    /// `[1, chunks * context, width]`.
    pub text: Tensor,
    /// `[1, projected]`.
    pub summary: Tensor,
}

/// The encoder and what turns words into its ids.
#[derive(Clone, Debug)]
pub struct Text {
    /// The network, with a projection.
    pub clip: Clip,
    /// Words to ids.
    pub tokenizer: Tokenizer,
}

impl Text {
    /// Encodes a prompt.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn encode(&self, prompt: &str, clip_skip: usize) -> Result<Read> {
        let context = self.clip.context();
        let marks = self.tokenizer.marks();
        let chunks = prompt::chunks(&self.tokenizer, prompt, context, &BTreeMap::new());
        let mut rows = Vec::with_capacity(chunks.len());
        let mut summary = None;
        for chunk in &chunks {
            let (row, last, end) = self.read(chunk, clip_skip)?;
            if summary.is_none() {
                summary = self.clip.summarise(&last, end)?;
            }
            rows.push(row);
        }
        let mut words = Tensor::cat(&rows, 0)?;
        if chunks.iter().any(Chunk::is_weighted) {
            let (nothing, ..) = self.read(&prompt::empty_chunk(marks, context), clip_skip)?;
            words = prompt::weigh(&words, &nothing, &chunks)?;
        }
        let Some(summary) = summary else {
            candle_core::bail!("the text encoder makes no summary");
        };
        Ok(Read {
            text: words.reshape((1, (), self.clip.width()))?,
            summary,
        })
    }

    /// One chunk, `[1, context, width]`, its last layer, and where its end mark is.
    fn read(&self, chunk: &Chunk, clip_skip: usize) -> Result<(Tensor, Tensor, usize)> {
        let context = chunk.ids.len();
        let end = chunk.place_of(self.tokenizer.marks().end);
        let end = end.unwrap_or(context.saturating_sub(1));
        let embedded = self.clip.embed(&chunk.ids, None)?;
        let embedded = embedded.reshape((1, context, self.clip.width()))?;
        let reading = Habit::CASCADE.reading(clip_skip);
        let (row, last) = self.clip.read_seen(&embedded, reading, end + 1)?;
        Ok((row, last, end))
    }
}
