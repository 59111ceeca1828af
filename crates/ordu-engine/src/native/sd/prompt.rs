//! A prompt as the text encoder reads it: chunks of ids with a weight each.
//!
//! Prompts longer than the encoder's context are cut into chunks that are encoded one by one and
//! joined. Emphasis is written as ComfyUI reads it: `(text)` weighs 1.1 times, `(text:1.3)` 1.3
//! times, nested parentheses multiply, `\(` is a parenthesis. A weight moves what the encoder made
//! of a token away from, or towards, what it makes of no prompt.

use candle_core::{Device, Result, Tensor};

use super::clip::Clip;
use super::tokenizer::{Marks, Tokenizer};

/// Emphasis of plain parentheses.
const EMPHASIS: f32 = 1.1;
/// Longer prompts are cut after so many chunks.
const MAX_CHUNKS: usize = 32;

/// One chunk: as many ids as the encoder's context, with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Begin mark, words, end mark, padding.
    pub ids: Vec<u32>,
    /// A weight for each id.
    pub weights: Vec<f32>,
}

/// Encodes a prompt: `[1, chunks * context, width]`.
///
/// # Errors
///
/// Those of the tensor library.
pub fn encode(
    clip: &Clip,
    tokenizer: &Tokenizer,
    prompt: &str,
    clip_skip: usize,
) -> Result<Tensor> {
    encode_chunks(
        clip,
        tokenizer.marks(),
        &chunks(tokenizer, prompt, clip.context()),
        clip_skip,
    )
}

/// Two prompts encoded to equal length: the shorter one is filled with empty chunks.
///
/// # Errors
///
/// Those of the tensor library.
pub fn encode_pair(
    clip: &Clip,
    tokenizer: &Tokenizer,
    (positive, negative): (&str, &str),
    clip_skip: usize,
) -> Result<(Tensor, Tensor)> {
    let mut positive = chunks(tokenizer, positive, clip.context());
    let mut negative = chunks(tokenizer, negative, clip.context());
    let length = positive.len().max(negative.len());
    let empty = empty_chunk(tokenizer.marks(), clip.context());
    positive.resize(length, empty.clone());
    negative.resize(length, empty);
    let marks = tokenizer.marks();
    Ok((
        encode_chunks(clip, marks, &positive, clip_skip)?,
        encode_chunks(clip, marks, &negative, clip_skip)?,
    ))
}

fn encode_chunks(clip: &Clip, marks: Marks, chunks: &[Chunk], clip_skip: usize) -> Result<Tensor> {
    let weighted = chunks.iter().any(|chunk| {
        chunk
            .weights
            .iter()
            .any(|weight| (weight - 1.0).abs() > f32::EPSILON)
    });
    let mut all: Vec<&[u32]> = chunks.iter().map(|chunk| chunk.ids.as_slice()).collect();
    let empty = empty_chunk(marks, clip.context());
    if weighted {
        all.push(&empty.ids);
    }
    let ids = Tensor::from_vec(all.concat(), (all.len(), clip.context()), &Device::Cpu)?;
    let encoded = clip.forward(&ids, clip_skip)?;
    let width = encoded.dim(2)?;
    let tokens = chunks.len() * clip.context();
    let words = encoded.narrow(0, 0, chunks.len())?;
    let words = if weighted {
        let nothing = encoded.narrow(0, chunks.len(), 1)?;
        let weights: Vec<f32> = chunks
            .iter()
            .flat_map(|chunk| chunk.weights.iter().copied())
            .collect();
        let shape = (chunks.len(), clip.context(), 1);
        let weights = Tensor::from_vec(weights, shape, encoded.device())?;
        words
            .broadcast_sub(&nothing)?
            .broadcast_mul(&weights)?
            .broadcast_add(&nothing)?
    } else {
        words
    };
    words.reshape((1, tokens, width))
}

fn empty_chunk(marks: Marks, context: usize) -> Chunk {
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

/// Cuts a prompt into chunks; at least one.
pub fn chunks(tokenizer: &Tokenizer, prompt: &str, context: usize) -> Vec<Chunk> {
    let words: Vec<(u32, f32)> = emphasised(prompt)
        .into_iter()
        .flat_map(|(text, weight)| tokenizer.ids(&text).into_iter().map(move |id| (id, weight)))
        .collect();
    let room = context.saturating_sub(2).max(1);
    let marks = tokenizer.marks();
    if words.is_empty() {
        return vec![empty_chunk(marks, context)];
    }
    words
        .chunks(room)
        .take(MAX_CHUNKS)
        .map(|words| close(words.to_vec(), marks, context))
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
        check("", &[]);
    }

    #[test]
    fn deep_nesting_costs_nothing_special() {
        let prompt = "(".repeat(100_000);
        assert!(emphasised(&prompt).is_empty());
    }
}
