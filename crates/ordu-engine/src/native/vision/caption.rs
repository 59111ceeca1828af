//! BLIP (Li et al. 2022, "Bootstrapping Language-Image Pre-training"): a sentence about a picture.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use image::DynamicImage;
use serde::Deserialize;

use super::GoOn;
use super::beam::{Source, Wish, search};
use super::config::{DecoderConfig, TowerConfig};
use super::decoder::{Decoder, Seen};
use super::picture::{Fit, prepared};
use super::tower::{Kind, Tower};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::Activation;
use crate::native::weights::{Weights, read_small};

/// The largest list of words that is read; that of BERT has 700 KB.
const MAX_WORDS_BYTES: u64 = 16 * 1024 * 1024;
/// Names that older files have and nobody reads.
const PASSED_OVER: &[&str] = &["position_ids"];
/// What marks a word that goes on where the one before ended.
const GOES_ON: &str = "##";

/// What a `config.json` says of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    vision_config: TowerConfig,
    #[serde(default)]
    text_config: DecoderConfig,
}

/// Writes a sentence about a picture.
#[derive(Debug)]
pub struct Captioner {
    side: u32,
    tower: Tower,
    decoder: Decoder,
    words: Words,
    /// The marks of a beginning and an end.
    marks: (u32, u32),
    most: usize,
}

impl Captioner {
    /// Takes all tensors.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if numbers or tensors do not fit.
    pub(super) fn new(
        weights: &Weights,
        config: &Config,
        words: Words,
    ) -> Result<Self, EngineError> {
        let (vision, text) = (&config.vision_config, &config.text_config);
        let activation = vision.check(Activation::Gelu)?;
        let root = weights.root(&Compute::cpu());
        let captioner = Self {
            side: vision.side(),
            tower: Tower::new(&root.sub("vision_model"), vision, (Kind::Blip, activation))?,
            decoder: Decoder::new(&root.sub("text_decoder"), text, vision.hidden_size)?,
            words,
            marks: (text.bos_token_id, text.sep_token_id),
            most: text.max_position_embeddings,
        };
        root.finish("blip", PASSED_OVER)?;
        Ok(captioner)
    }

    /// A sentence about a picture.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub fn caption(
        &self,
        picture: &DynamicImage,
        wish: &Wish,
        go_on: GoOn<'_>,
    ) -> Result<String, EngineError> {
        let pixels = prepared(picture, self.side, Fit::Squeeze)?;
        Ok(self.words.text(&self.tokens(&pixels, wish, go_on)?))
    }

    /// The tokens of a sentence about prepared pixels, marks included.
    ///
    /// # Errors
    ///
    /// As [`Self::caption`].
    pub fn tokens(
        &self,
        pixels: &Tensor,
        wish: &Wish,
        go_on: GoOn<'_>,
    ) -> Result<Vec<u32>, EngineError> {
        let picture = self.tower.all(pixels, go_on)?;
        let mut writer = Writer {
            decoder: &self.decoder,
            seen: self.decoder.look(&picture)?,
            go_on,
        };
        let wish = Wish {
            most: wish.most.min(self.most),
            ..*wish
        };
        search(&mut writer, &wish, self.marks)
    }

    /// What it sees of prepared pixels, and what it makes of the words that come next, one after the
    /// other: `[1, seen, width]` and `[tokens, vocabulary]`.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn read(&self, pixels: &Tensor, tokens: &[u32]) -> Result<(Tensor, Tensor), EngineError> {
        let picture = self.tower.all(pixels, &|| Ok(()))?;
        let mut seen = self.decoder.look(&picture)?;
        let rows = tokens
            .iter()
            .map(|token| self.decoder.next(&[*token], &mut seen));
        let rows: Vec<Tensor> = rows.collect::<candle_core::Result<_>>()?;
        Ok((picture, Tensor::cat(&rows, 0)?))
    }
}

/// Beams of a text about one picture.
struct Writer<'a> {
    decoder: &'a Decoder,
    seen: Seen,
    go_on: GoOn<'a>,
}

impl Source for Writer<'_> {
    fn next(&mut self, tokens: &[u32], from: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        (self.go_on)()?;
        self.seen.follow(from)?;
        Ok(self.decoder.next(tokens, &mut self.seen)?.to_vec2()?)
    }
}

/// The pieces of words that BERT knows, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(BTreeMap<u32, String>);

impl Words {
    /// Those of the `tokenizer.json` or the `vocab.txt` in a folder.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoTokenizer`] if there is neither, [`EngineError::BadModel`] if it is unusable.
    pub(super) fn find(folder: &Path) -> Result<Self, EngineError> {
        let json = folder.join("tokenizer.json");
        if json.is_file() {
            return Self::from_json(&read_small(&json, MAX_WORDS_BYTES)?);
        }
        let list = folder.join("vocab.txt");
        if !list.is_file() {
            return Err(EngineError::NoTokenizer {
                model: folder.display().to_string(),
                place: format!("`{}`", folder.display()),
            });
        }
        let text = String::from_utf8(read_small(&list, MAX_WORDS_BYTES)?)
            .map_err(|_| EngineError::bad_model("vocab.txt", "it is no UTF-8"))?;
        Ok(Self((0..).zip(text.lines().map(str::to_owned)).collect()))
    }

    fn from_json(json: &[u8]) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct File {
            model: Model,
            #[serde(default)]
            added_tokens: Vec<Added>,
        }
        #[derive(Deserialize)]
        struct Model {
            vocab: BTreeMap<String, u32>,
        }
        #[derive(Deserialize)]
        struct Added {
            id: u32,
            content: String,
        }
        let file: File = serde_json::from_slice(json)
            .map_err(|error| EngineError::bad_model("tokenizer.json", error.to_string()))?;
        let known = file.model.vocab.into_iter().map(|(word, id)| (id, word));
        let added = file.added_tokens.into_iter();
        Ok(Self(
            known
                .chain(added.map(|token| (token.id, token.content)))
                .collect(),
        ))
    }

    /// Pieces as a text, without marks.
    fn text(&self, tokens: &[u32]) -> String {
        let mut text = String::new();
        for word in tokens.iter().filter_map(|token| self.0.get(token)) {
            if word.len() > 2 && word.starts_with('[') && word.ends_with(']') {
                continue;
            }
            match word.strip_prefix(GOES_ON) {
                Some(rest) => text.push_str(rest),
                None if text.is_empty() => text.push_str(word),
                None => {
                    text.push(' ');
                    text.push_str(word);
                }
            }
        }
        // BERT takes marks of punctuation for words.
        for mark in [".", "?", "!", ","] {
            text = text.replace(&format!(" {mark}"), mark);
        }
        text.replace(" ' ", "'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_a_sentence() {
        let words = [
            "[PAD]", "a", "cat", "##s", "'", "s", ",", "tail", "[SEP]", ".",
        ];
        let words = Words((0..).zip(words.map(str::to_owned)).collect());
        assert_eq!(
            words.text(&[0, 1, 2, 3, 6, 1, 2, 4, 5, 7, 9, 8, 77]),
            "a cats, a cat's tail."
        );
        assert_eq!(words.text(&[]), "");
    }
}
