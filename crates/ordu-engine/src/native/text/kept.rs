//! What was read for texts before. A text that begins like one of them need not have its beginning
//! read again: chats and stories are sent whole with each turn.

use std::sync::{Mutex, PoisonError};

use super::llama::{Config, Decoder, Memory};
use crate::EngineError;

/// The fewest tokens that are worth looking for.
const WORTH: usize = 8;

/// Tokens that were read, and what was kept of them.
#[derive(Debug)]
pub(super) struct Past {
    tokens: Vec<u32>,
    memory: Memory,
}

impl Past {
    /// How many tokens it has.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Reads on, and returns what the network makes of what comes next.
    ///
    /// # Errors
    ///
    /// As [`Decoder::read`]; what was read whole until then stays.
    pub(super) fn read(
        &mut self,
        decoder: &Decoder,
        tokens: &[u32],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        let mut rest = tokens;
        while !rest.is_empty() {
            let stride = decoder.stride(self.len()).min(rest.len());
            let (next, behind) = rest.split_at(stride);
            logits = decoder.read(next, &mut self.memory, go_on)?;
            self.tokens.extend_from_slice(next);
            rest = behind;
        }
        Ok(logits)
    }

    /// How many tokens at the beginning of a prompt it has read; the last one always is to be read.
    fn shared(&self, prompt: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(prompt);
        let alike = pairs.take_while(|(one, other)| one == other).count();
        alike.min(prompt.len().saturating_sub(1))
    }
}

/// Pasts of texts that are done, the latest last, as far as they fit.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: u64,
    pasts: Mutex<Vec<Past>>,
}

impl Kept {
    /// Keeps so many bytes at most.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            pasts: Mutex::default(),
        }
    }

    /// A past with as much of the beginning of a prompt as was read before, and room for so many tokens
    /// in all.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tensor`] if there is no memory for it.
    pub(super) fn begin(
        &self,
        config: &Config,
        prompt: &[u32],
        room: usize,
    ) -> Result<Past, EngineError> {
        let mut pasts = self.pasts.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = pasts.iter().map(|past| past.shared(prompt)).enumerate();
        let best = shared.max_by_key(|(_, shared)| *shared);
        let Some((place, shared)) = best.filter(|(_, shared)| *shared >= WORTH) else {
            return Ok(Past {
                tokens: Vec::new(),
                memory: Memory::new(config, room)?,
            });
        };
        // What is another text for the most part stays for its own next turn.
        let is_another = |past: &Past| past.len() > 2 * shared;
        let fits = |past: &Past| past.memory.capacity() >= room && !is_another(past);
        let memory = match pasts.get(place) {
            Some(past) if !fits(past) => {
                let memory = past.memory.copied(shared, room)?;
                if !is_another(past) {
                    pasts.remove(place);
                }
                memory
            }
            _ => {
                let mut memory = pasts.remove(place).memory;
                memory.shorten(shared);
                memory
            }
        };
        Ok(Past {
            tokens: prompt.get(..shared).unwrap_or_default().to_vec(),
            memory,
        })
    }

    /// Keeps the past of a text that is done, at the cost of the oldest ones.
    pub(super) fn keep(&self, past: Past) {
        let mut pasts = self.pasts.lock().unwrap_or_else(PoisonError::into_inner);
        pasts.push(past);
        let mut room = self.bytes;
        let kept = pasts.iter().rev().take_while(|past| {
            let fits = past.memory.bytes() <= room;
            room = room.saturating_sub(past.memory.bytes());
            fits
        });
        let gone = pasts.len() - kept.count();
        pasts.drain(..gone);
    }
}
