//! A prompt as a text encoder reads it: chunks of ids with a weight each.
//!
//! Prompts longer than the encoder's context are cut into chunks that are encoded one by one and
//! joined; a word is not cut, unless it is very long. Emphasis is written as ComfyUI reads it: `(text)`
//! weighs 1.1 times, `(text:1.3)` 1.3 times, nested parentheses multiply, `\(` is a parenthesis. A weight
//! moves what the encoder made of a token away from, or towards, what it makes of no prompt.
//! `embedding:name` is a learned word.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::tokenizer::{Marks, Tokenizer};

/// Emphasis of plain parentheses.
const EMPHASIS: f32 = 1.1;
/// Longer prompts are cut after so many chunks.
const MAX_CHUNKS: usize = 32;
/// A word of so many ids may be cut where a chunk ends.
const LONG_WORD: usize = 8;
/// What a learned word begins with.
const LEARNED: &str = "embedding:";

/// One chunk: as many ids as the encoder's context, with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Begin mark, words, end mark, padding.
    pub ids: Vec<u32>,
    /// A weight for each id.
    pub weights: Vec<f32>,
}

impl Chunk {
    /// Whether any id has another weight than 1.
    pub(in crate::native) fn is_weighted(&self) -> bool {
        self.weights
            .iter()
            .any(|weight| (weight - 1.0).abs() > f32::EPSILON)
    }

    /// Where an id is for the first time.
    pub(in crate::native) fn place_of(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|other| *other == id)
    }
}

/// Moves what an encoder made of some chunks, `[chunks, context, width]`, from what it makes of
/// nothing, `[1, context, width]`, as their weights say.
///
/// # Errors
///
/// Those of the tensor library.
pub(in crate::native) fn weigh(
    words: &Tensor,
    nothing: &Tensor,
    chunks: &[Chunk],
) -> Result<Tensor> {
    let (count, context, _) = words.dims3()?;
    let weights: Vec<f32> = chunks
        .iter()
        .flat_map(|chunk| chunk.weights.iter().copied())
        .collect();
    let weights = Tensor::from_vec(weights, (count, context, 1), words.device())?;
    words
        .broadcast_sub(nothing)?
        .broadcast_mul(&weights)?
        .broadcast_add(nothing)
}

pub(in crate::native) fn empty_chunk(marks: Marks, context: usize) -> Chunk {
    close(Vec::new(), marks, context)
}

/// Frames and fills ids, with their weights, to a chunk.
fn close(words: Vec<(u32, f32)>, marks: Marks, context: usize) -> Chunk {
    let framed = std::iter::once((marks.begin, 1.0))
        .chain(words)
        .chain([(marks.end, 1.0)]);
    let filled = framed
        .chain(std::iter::repeat((marks.pad, 1.0)))
        .take(context);
    let (ids, weights) = filled.unzip();
    Chunk { ids, weights }
}

/// Cuts a prompt into chunks; at least one. `learned` has the ids of learned words by their names;
/// others that are named are left out.
pub fn chunks(
    tokenizer: &Tokenizer,
    prompt: &str,
    context: usize,
    learned: &BTreeMap<String, Vec<u32>>,
) -> Vec<Chunk> {
    let room = context.saturating_sub(2).max(1);
    let marks = tokenizer.marks();
    let mut chunks = Vec::new();
    let mut chunk: Vec<(u32, f32)> = Vec::new();
    for (text, weight) in emphasised(Tokenizer::cut(prompt)) {
        for word in text.split_whitespace() {
            let ids = word_ids(tokenizer, word, learned);
            let may_be_cut = ids.len() >= LONG_WORD || ids.len() > room;
            if chunk.len() + ids.len() > room && !may_be_cut {
                chunks.push(close(std::mem::take(&mut chunk), marks, context));
            }
            for id in ids {
                if chunk.len() == room {
                    chunks.push(close(std::mem::take(&mut chunk), marks, context));
                }
                chunk.push((id, weight));
            }
            if chunks.len() >= MAX_CHUNKS {
                chunks.truncate(MAX_CHUNKS);
                return chunks;
            }
        }
    }
    if !chunk.is_empty() || chunks.is_empty() {
        chunks.push(close(chunk, marks, context));
    }
    chunks
}

/// The ids of what stands between two spaces.
fn word_ids(tokenizer: &Tokenizer, word: &str, learned: &BTreeMap<String, Vec<u32>>) -> Vec<u32> {
    let Some(named) = word.strip_prefix(LEARNED) else {
        return tokenizer.ids(word);
    };
    if let Some(ids) = learned.get(named) {
        return ids.clone();
    }
    // What follows a comma is not part of the name.
    let (name, rest) = named.split_at(named.find(',').unwrap_or(named.len()));
    let mut ids = learned.get(name).cloned().unwrap_or_default();
    ids.extend(tokenizer.ids(rest));
    ids
}

/// The learned words that a prompt names.
pub fn named(prompt: &str) -> Vec<String> {
    let stretches = emphasised(Tokenizer::cut(prompt));
    let words = stretches
        .iter()
        .flat_map(|(text, _)| text.split_whitespace());
    words
        .filter_map(|word| word.strip_prefix(LEARNED))
        .map(|named| named.split(',').next().unwrap_or_default().to_owned())
        .collect()
}

/// Splits a prompt into stretches of equal weight.
pub fn emphasised(prompt: &str) -> Vec<(String, f32)> {
    let mut stretches: Vec<(String, f32)> = vec![(String::new(), 1.0)];
    // For each open parenthesis, the stretch that begins after it.
    let mut open: Vec<usize> = Vec::new();
    let mut letters = prompt.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let next = letters.next();
                let plain = next.is_some_and(|next| matches!(next, '(' | ')'));
                let pushed = if plain {
                    String::new()
                } else {
                    letter.to_string()
                };
                push(&mut stretches, &pushed);
                push(&mut stretches, &next.map(String::from).unwrap_or_default());
            }
            '(' => {
                stretches.push((String::new(), 1.0));
                open.push(stretches.len() - 1);
            }
            ')' => match open.pop() {
                Some(first) => {
                    close_parenthesis(&mut stretches, first);
                    stretches.push((String::new(), 1.0));
                }
                None => push(&mut stretches, ")"),
            },
            letter => push(&mut stretches, letter.encode_utf8(&mut [0; 4])),
        }
    }
    stretches.retain(|(text, _)| !text.trim().is_empty());
    stretches
}

fn push(stretches: &mut [(String, f32)], text: &str) {
    if let Some((stretch, _)) = stretches.last_mut() {
        stretch.push_str(text);
    }
}

/// Weighs the stretches since the parenthesis opened, by the number after a colon at their end or
/// the usual emphasis.
fn close_parenthesis(stretches: &mut [(String, f32)], first: usize) {
    let given = stretches.last().and_then(|(text, _)| {
        let (before, number) = text.rsplit_once(':')?;
        // `(embedding:7)` names a word, and gives it no weight.
        if before.trim_start() == LEARNED.trim_end_matches(':') {
            return None;
        }
        let number: f32 = number.trim().parse().ok()?;
        number
            .is_finite()
            .then(|| (before.to_owned(), number.clamp(-10.0, 10.0)))
    });
    let mut weight = EMPHASIS;
    if let (Some((before, number)), Some((text, _))) = (given, stretches.last_mut()) {
        *text = before;
        weight = number;
    }
    for (_, own) in stretches.iter_mut().skip(first) {
        *own *= weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prompt: &str, expected: &[(&str, f32)]) {
        let found = emphasised(prompt);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((text, weight), (expected_text, expected_weight)) in found.iter().zip(expected) {
            assert_eq!(text, expected_text);
            assert!((weight - expected_weight).abs() < 1e-5, "{found:?}");
        }
    }

    #[test]
    fn emphasis_is_read_as_written() {
        check("a cat", &[("a cat", 1.0)]);
        check("a (red) cat", &[("a ", 1.0), ("red", 1.1), (" cat", 1.0)]);
        check(
            "a (red:1.5) cat",
            &[("a ", 1.0), ("red", 1.5), (" cat", 1.0)],
        );
        check("((red))", &[("red", 1.21)]);
        check(
            "(a (red:2) cat:0.5)",
            &[("a ", 0.5), ("red", 1.0), (" cat", 0.5)],
        );
        check(r"a \(red\) cat", &[("a (red) cat", 1.0)]);
        check("open (end", &[("open ", 1.0), ("end", 1.0)]);
        check("shut) end :)", &[("shut) end :)", 1.0)]);
        check("(nan:nan)", &[("nan:nan", 1.1)]);
        check("(embedding:7)", &[("embedding:7", 1.1)]);
        check("(embedding:7:0.5),x", &[("embedding:7", 0.5), (",x", 1.0)]);
        check("", &[]);
    }

    #[test]
    fn learned_words_are_found_by_name() {
        let names = named("embedding:7, a (embedding:b-c:1.2) xembedding:no embedding:");
        assert_eq!(names, ["7", "b-c", ""]);
    }

    #[test]
    fn deep_nesting_costs_nothing_special() {
        let prompt = "(".repeat(100_000);
        assert!(emphasised(&prompt).is_empty());
    }
}
