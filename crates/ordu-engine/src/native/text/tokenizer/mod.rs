//! Texts to tokens and back, as the metadata of a GGUF file says.
//!
//! Two families: `llama`, SentencePiece's byte pairs with a score for each piece, and `gpt2`, byte
//! pairs with a list of merges inside of words. Both spell what they do not know in bytes.
//!
//! # Source
//! The keys of `docs/gguf.md` of ggml; Kudo and Richardson 2018 (SentencePiece); Sennrich et al. 2016
//! (byte pairs); the alphabet of bytes of GPT-2.

mod merge;
mod pieces;
mod words;

use std::collections::HashMap;
use std::ops::Range;

use self::merge::merged;
use self::pieces::{Kind, alphabet, bytes_of};
use self::words::Words;
use super::gguf::Gguf;
use crate::EngineError;

/// The most tokens. The largest real vocabularies have some 260,000.
const MAX_TOKENS: usize = 1 << 20;
/// The longest text of one token, in bytes.
const MAX_PIECE: usize = 4096;
/// SentencePiece's sign for a space.
const SPACE: &str = "\u{2581}";

/// Texts to tokens and back.
#[derive(Debug)]
pub(super) struct Tokenizer {
    /// The bytes that each token stands for; nothing for those that only control.
    pieces: Vec<Vec<u8>>,
    ids: HashMap<String, u32>,
    encoder: Encoder,
    /// Tokens that a prompt may name outright, longest first.
    named: Vec<(String, u32)>,
    /// Put before every prompt.
    begin: Option<u32>,
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Encoder {
    Pieces(Pieces),
    Words(Pairs),
}

/// SentencePiece's byte pairs.
#[derive(Debug)]
struct Pieces {
    scores: Vec<f32>,
    /// Whether a text begins as if a space were before it.
    leading_space: bool,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

/// GPT-2's byte pairs.
#[derive(Debug)]
struct Pairs {
    words: Words,
    ranks: HashMap<(String, String), u32>,
    alphabet: Vec<char>,
}

/// What ends a text besides the token that the file names, as far as it only controls.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "</s>",
];

impl Tokenizer {
    /// That of a file.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it has none, one of a kind that is not known, or a damaged one.
    pub(super) fn of(file: &Gguf) -> Result<Self, EngineError> {
        let missing = || file.refuse("it has no tokenizer: `tokenizer.ggml.tokens` is missing");
        let texts = file.texts("tokenizer.ggml.tokens").ok_or_else(missing)?;
        let mut tokens = Vec::new();
        for text in texts {
            if text.len() > MAX_PIECE || tokens.len() == MAX_TOKENS {
                return Err(file.refuse(format!(
                    "token {} is beyond measure: {MAX_TOKENS} tokens of {MAX_PIECE} bytes are possible",
                    tokens.len()
                )));
            }
            tokens.push(text.into_owned());
        }
        let kinds = kinds(file, tokens.len())?;
        let ids = (0..)
            .zip(&tokens)
            .map(|(id, text)| (text.clone(), id))
            .collect();
        let model = file.text("tokenizer.ggml.model").unwrap_or_default();
        let (encoder, pieces) = match model {
            "llama" => pieces_encoder(file, &tokens, &kinds, &ids)?,
            "gpt2" => words_encoder(file, &tokens, &kinds, &ids)?,
            other => {
                return Err(file.refuse(format!(
                    "its tokenizer is of the kind `{other}`; `llama` and `gpt2` are known"
                )));
            }
        };
        let named = named(&tokens, &kinds);
        Ok(Self {
            begin: begin(file, model, tokens.len())?,
            ends: ends(file, &tokens, &kinds)?,
            pieces,
            ids,
            encoder,
            named,
        })
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// What a prompt begins with, if it begins with anything.
    pub(super) fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// Whether a token ends a text.
    pub(super) fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// All tokens that end a text.
    pub(super) fn all_ends(&self) -> &[u32] {
        &self.ends
    }

    /// The bytes that a token stands for.
    pub(super) fn piece(&self, token: u32) -> &[u8] {
        let place = usize::try_from(token).unwrap_or(usize::MAX);
        self.pieces.get(place).map_or(&[], Vec::as_slice)
    }

    /// The tokens of a text, without one to begin it.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut start = 0;
        for (range, token) in self.names_in(text) {
            let plain = text.get(start..range.start).unwrap_or_default();
            self.encode_plain(plain, &mut tokens);
            tokens.push(token);
            start = range.end;
        }
        self.encode_plain(text.get(start..).unwrap_or_default(), &mut tokens);
        tokens
    }

    /// Where a text names tokens outright.
    fn names_in(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        let mut found: Vec<(Range<usize>, u32)> = Vec::new();
        // The longest first: what one has taken, a shorter one does not get.
        for (name, token) in &self.named {
            for (at, _) in text.match_indices(name.as_str()) {
                let range = at..at + name.len();
                let place = found.partition_point(|(other, _)| other.start < range.start);
                let before = place.checked_sub(1).and_then(|before| found.get(before));
                let is_free = before.is_none_or(|(other, _)| other.end <= range.start)
                    && found
                        .get(place)
                        .is_none_or(|(other, _)| range.end <= other.start);
                if is_free {
                    found.insert(place, (range, *token));
                }
            }
        }
        found
    }

    /// The tokens of a text between two that are named, or before, or behind.
    fn encode_plain(&self, text: &str, tokens: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        match &self.encoder {
            Encoder::Pieces(pieces) => pieces.encode(&self.ids, text, tokens),
            Encoder::Words(words) => words.encode(&self.ids, text, tokens),
        }
    }
}

impl Pieces {
    fn encode(&self, ids: &HashMap<String, u32>, text: &str, tokens: &mut Vec<u32>) {
        let mut spelled = text.replace(' ', SPACE);
        if self.leading_space {
            spelled.insert_str(0, SPACE);
        }
        let rank = |left: &str, right: &str| {
            let id = *ids.get(&[left, right].concat())?;
            let score = self.scores.get(usize::try_from(id).ok()?)?;
            // The smallest rank is the best.
            Some(ordered(-score))
        };
        for piece in merged(&spelled, rank) {
            let spell = |byte: u8| self.bytes.get(usize::from(byte)).copied().flatten();
            match ids.get(piece) {
                Some(id) => tokens.push(*id),
                None => tokens.extend(
                    piece
                        .bytes()
                        .filter_map(|byte| spell(byte).or(self.unknown)),
                ),
            }
        }
    }
}

impl Pairs {
    fn encode(&self, ids: &HashMap<String, u32>, text: &str, tokens: &mut Vec<u32>) {
        let rank = |left: &str, right: &str| {
            let pair = (left.to_owned(), right.to_owned());
            self.ranks.get(&pair).copied()
        };
        for word in self.words.of(text) {
            let letters = word.bytes();
            let spelled: String = letters
                .filter_map(|byte| self.alphabet.get(usize::from(byte)))
                .collect();
            match ids.get(&spelled) {
                Some(id) if self.words.are_taken_whole() => tokens.push(*id),
                _ => {
                    let pieces = merged(&spelled, rank);
                    tokens.extend(pieces.filter_map(|piece| ids.get(piece).copied()));
                }
            }
        }
    }
}

/// A number that orders as the real one does.
fn ordered(real: f32) -> u32 {
    let bits = real.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn kinds(file: &Gguf, tokens: usize) -> Result<Vec<Kind>, EngineError> {
    let Some(numbers) = file.numbers("tokenizer.ggml.token_type") else {
        return Ok(vec![Kind::Normal; tokens]);
    };
    let kinds: Vec<Kind> = numbers.take(tokens + 1).map(Kind::of).collect();
    if kinds.len() == tokens {
        Ok(kinds)
    } else {
        Err(file.refuse(format!(
            "its tokenizer has {tokens} tokens, but {} kinds of tokens",
            kinds.len()
        )))
    }
}

type Encoding = (Encoder, Vec<Vec<u8>>);

fn pieces_encoder(
    file: &Gguf,
    tokens: &[String],
    kinds: &[Kind],
    ids: &HashMap<String, u32>,
) -> Result<Encoding, EngineError> {
    let numbers = file
        .numbers("tokenizer.ggml.scores")
        .ok_or_else(|| file.refuse("its tokenizer has no scores"))?;
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in files")]
    let scores: Vec<f32> = numbers
        .take(tokens.len() + 1)
        .map(|score| score as f32)
        .collect();
    if scores.len() != tokens.len() {
        return Err(file.refuse(format!(
            "its tokenizer has {} tokens, but {} scores",
            tokens.len(),
            scores.len()
        )));
    }
    let pieces = tokens
        .iter()
        .zip(kinds)
        .map(|(text, kind)| bytes_of(text, *kind, |text| text.replace(SPACE, " ").into_bytes()));
    let byte = |byte: u8| ids.get(&format!("<0x{byte:02X}>")).copied();
    let encoder = Encoder::Pieces(Pieces {
        scores,
        leading_space: flag(file, "tokenizer.ggml.add_space_prefix").unwrap_or(true),
        bytes: (0..=255).map(byte).collect(),
        unknown: id(file, "tokenizer.ggml.unknown_token_id", tokens.len())?,
    });
    Ok((encoder, pieces.collect()))
}

fn words_encoder(
    file: &Gguf,
    tokens: &[String],
    kinds: &[Kind],
    ids: &HashMap<String, u32>,
) -> Result<Encoding, EngineError> {
    let merges = file
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| file.refuse("its tokenizer has no merges"))?;
    let mut ranks = HashMap::new();
    for (rank, merge) in (0..).zip(merges) {
        let Some((left, right)) = merge.split_once(' ') else {
            return Err(file.refuse(format!("its tokenizer has a merge {merge:?}")));
        };
        if !ids.contains_key(&[left, right].concat()) {
            return Err(file.refuse(format!(
                "its tokenizer merges {merge:?} to what is no token"
            )));
        }
        ranks
            .entry((left.to_owned(), right.to_owned()))
            .or_insert(rank);
    }
    let name = file.text("tokenizer.ggml.pre").unwrap_or("default");
    let words = Words::named(name).map_err(|reason| file.refuse(reason))?;
    let alphabet = alphabet();
    let letters: HashMap<char, u8> = (0..=255)
        .zip(&alphabet)
        .map(|(byte, letter)| (*letter, byte))
        .collect();
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        for letter in text.chars() {
            match letters.get(&letter) {
                Some(byte) => bytes.push(*byte),
                None => bytes.extend(letter.to_string().bytes()),
            }
        }
        bytes
    };
    let pieces = tokens
        .iter()
        .zip(kinds)
        .map(|(text, kind)| bytes_of(text, *kind, plain));
    let pieces = pieces.collect();
    let encoder = Encoder::Words(Pairs {
        words,
        ranks,
        alphabet,
    });
    Ok((encoder, pieces))
}

/// Tokens that a prompt may name outright, longest first.
fn named(tokens: &[String], kinds: &[Kind]) -> Vec<(String, u32)> {
    let all = (0..).zip(tokens.iter().zip(kinds));
    let mut named: Vec<(String, u32)> = all
        .filter(|(_, (text, kind))| {
            matches!(kind, Kind::Control | Kind::UserDefined) && !text.is_empty()
        })
        .map(|(id, (text, _))| (text.clone(), id))
        .collect();
    named.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then(one.cmp(other)));
    named
}

fn begin(file: &Gguf, model: &str, tokens: usize) -> Result<Option<u32>, EngineError> {
    let usual = model == "llama";
    if !flag(file, "tokenizer.ggml.add_bos_token").unwrap_or(usual) {
        return Ok(None);
    }
    match id(file, "tokenizer.ggml.bos_token_id", tokens)? {
        // What SentencePiece calls it if nobody says otherwise.
        None if usual && tokens > 1 => Ok(Some(1)),
        found => Ok(found),
    }
}

fn ends(file: &Gguf, tokens: &[String], kinds: &[Kind]) -> Result<Vec<u32>, EngineError> {
    let mut ends = Vec::new();
    for key in [
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
    ] {
        ends.extend(id(file, key, tokens.len())?);
    }
    for (id, (text, kind)) in (0..).zip(tokens.iter().zip(kinds)) {
        if *kind == Kind::Control && ENDS.contains(&text.as_str()) {
            ends.push(id);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

fn flag(file: &Gguf, key: &str) -> Option<bool> {
    file.value(key)?.as_flag()
}

/// A token that the metadata names by its number.
fn id(file: &Gguf, key: &str, tokens: usize) -> Result<Option<u32>, EngineError> {
    let Some(number) = file.number(key) else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(id) if number < tokens as u64 => Ok(Some(id)),
        _ => Err(file.refuse(format!("`{key}` is {number}, there are {tokens} tokens"))),
    }
}

#[cfg(test)]
mod tests;
