//! Words to token ids.
//!
//! The tokenizer belongs to the text encoder: diffusers folders carry it as `tokenizer.json`, or as
//! the `vocab.json` and `merges.txt` of CLIP; single-file checkpoints carry none, so one is looked
//! for beside them.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Inner};

use crate::EngineError;

/// Words to token ids, and the marks around them.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    marks: Marks,
}

/// Ids with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Opens each chunk.
    pub begin: u32,
    /// Closes each chunk.
    pub end: u32,
    /// Fills what is left of it.
    pub pad: u32,
}

/// The largest tokenizer file that is read; that of CLIP has 2 MB.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Longer prompts are cut, in bytes, so that a hostile one does not cost minutes.
const MAX_PROMPT_BYTES: usize = 64 * 1024;

impl Tokenizer {
    /// From the content of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it cannot be parsed or has no marks.
    pub fn from_json(json: &[u8]) -> Result<Self, EngineError> {
        let refuse =
            |error: tokenizers::Error| EngineError::bad_model("tokenizer.json", error.to_string());
        let mut inner = parse(json)?;
        let pad = inner.get_padding().map(|padding| padding.pad_id);
        // Chunks are cut and filled by the prompt's encoder, which knows the length of the context.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(refuse)?;
        let framed = frame(&inner);
        // Marks are set by hand from here on.
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let named = || Some((inner.token_to_id(BEGIN)?, inner.token_to_id(END)?));
        let Some((begin, end)) = framed.or_else(named) else {
            return Err(EngineError::bad_model(
                "tokenizer.json",
                "it has no marks for begin and end",
            ));
        };
        Ok(Self {
            inner,
            marks: Marks {
                begin,
                end,
                pad: pad.unwrap_or(end),
            },
        })
    }

    /// From the `vocab.json` and `merges.txt` of CLIP: byte pairs inside words, lower case.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if they cannot be parsed or have no marks.
    pub fn from_vocabulary(vocabulary: &Path, merges: &Path) -> Result<Self, EngineError> {
        let refuse = |error: tokenizers::Error| {
            EngineError::bad_model(vocabulary.display().to_string(), error.to_string())
        };
        let (Some(vocabulary), Some(merges)) = (vocabulary.to_str(), merges.to_str()) else {
            return Err(EngineError::bad_model(
                "tokenizer",
                "its path is not valid UTF-8",
            ));
        };
        let model = BPE::from_file(vocabulary, merges)
            .unk_token(END.to_owned())
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(refuse)?;
        let mut inner = Inner::new(model);
        let spaces = Replace::new(
            tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()),
            " ",
        )
        .map_err(refuse)?;
        inner
            .with_normalizer(Some(Sequence::new(vec![
                NFC.into(),
                spaces.into(),
                Lowercase.into(),
            ])))
            .map_err(refuse)?;
        let words = Split::new(
            SplitPattern::Regex(WORDS.to_owned()),
            SplitDelimiterBehavior::Removed,
            true,
        )
        .map_err(refuse)?;
        let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::new(false, false, false);
        let split =
            tokenizers::pre_tokenizers::sequence::Sequence::new(vec![words.into(), bytes.into()]);
        inner.with_pre_tokenizer(Some(split));
        let mark = |name: &str| {
            let missing =
                || EngineError::bad_model(vocabulary, format!("it has no token `{name}`"));
            inner.token_to_id(name).ok_or_else(missing)
        };
        let (begin, end) = (mark(BEGIN)?, mark(END)?);
        Ok(Self {
            inner,
            marks: Marks {
                begin,
                end,
                pad: end,
            },
        })
    }

    /// Looks for a tokenizer in each of the folders.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoTokenizer`] if there is none, [`EngineError::BadModel`] if the first one
    /// found is unusable.
    pub fn find(model: &str, folders: &[PathBuf]) -> Result<Self, EngineError> {
        for folder in folders {
            let json = folder.join("tokenizer.json");
            if json.is_file() {
                return Self::from_json(&read_small(&json)?)?.with_pad_of(folder);
            }
            let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
            if vocabulary.is_file() && merges.is_file() {
                return Self::from_vocabulary(&vocabulary, &merges)?.with_pad_of(folder);
            }
        }
        let place: Vec<String> = folders
            .iter()
            .map(|folder| format!("`{}`", folder.display()))
            .collect();
        Err(EngineError::NoTokenizer {
            model: model.to_owned(),
            place: place.join(" or "),
        })
    }

    /// Takes the padding token that a `tokenizer_config.json` beside it names.
    fn with_pad_of(mut self, folder: &Path) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Config {
            pad_token: Option<serde_json::Value>,
        }
        let path = folder.join("tokenizer_config.json");
        if path.is_file() {
            let config: Option<Config> = serde_json::from_slice(&read_small(&path)?).ok();
            // A plain string, or an object with the string in it.
            let token = config.and_then(|config| config.pad_token);
            let name = token
                .as_ref()
                .and_then(|token| token.get("content").unwrap_or(token).as_str());
            if let Some(id) = name.and_then(|name| self.inner.token_to_id(name)) {
                self.marks.pad = id;
            }
        }
        Ok(self)
    }

    /// The same, filling with another id.
    #[must_use]
    pub fn padded_with(mut self, pad: u32) -> Self {
        self.marks.pad = pad;
        self
    }

    /// The marks of this tokenizer.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// As much of a text as is read.
    pub(super) fn cut(text: &str) -> &str {
        let end = text.floor_char_boundary(MAX_PROMPT_BYTES);
        text.get(..end).unwrap_or_default()
    }

    /// The ids of a text, without marks. Never fails: what cannot be encoded yields no ids.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        self.inner
            .encode_fast(Self::cut(text), false)
            .map(|encoded| encoded.get_ids().to_vec())
            .unwrap_or_default()
    }
}

/// Reads a file. The library panics where it meets what is no JSON, or what it cannot use, in some members.
fn parse(json: &[u8]) -> Result<Inner, EngineError> {
    let refuse = |reason: String| EngineError::bad_model("tokenizer.json", reason);
    serde_json::from_slice::<serde_json::Value>(json).map_err(|error| refuse(error.to_string()))?;
    match std::panic::catch_unwind(|| Inner::from_bytes(json)) {
        Ok(parsed) => parsed.map_err(|error| refuse(error.to_string())),
        Err(_) => Err(refuse("it is damaged".to_owned())),
    }
}

/// The marks that a tokenizer puts around nothing, if they are two.
fn frame(tokenizer: &Inner) -> Option<(u32, u32)> {
    // A template that names a mark which it does not define makes the library panic. The value is
    // only read.
    let encode = AssertUnwindSafe(|| tokenizer.encode("", true));
    let empty = std::panic::catch_unwind(encode).ok()?.ok()?;
    match empty.get_ids() {
        [begin, end] => Some((*begin, *end)),
        _ => None,
    }
}

/// CLIP's marks.
const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// CLIP's words: marks, English endings, runs of letters, single digits, runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

fn read_small(path: &Path) -> Result<Vec<u8>, EngineError> {
    super::super::weights::read_small(path, MAX_FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: &str = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"<b>":0,"<e>":1,"?":2,"red":3},"unk_token":"?"},
        "pre_tokenizer":{"type":"Whitespace"},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<b>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<e>","type_id":0}}],
        "pair":[],"special_tokens":{"<b>":{"id":"<b>","ids":[0],"tokens":["<b>"]},"<e>":{"id":"<e>","ids":[1],"tokens":["<e>"]}}}}"#;

    #[test]
    fn unknown_words_become_the_unknown_token_and_marks_are_found() {
        let tokenizer = Tokenizer::from_json(SMALL.as_bytes()).unwrap();
        assert_eq!(
            tokenizer.marks(),
            Marks {
                begin: 0,
                end: 1,
                pad: 1
            }
        );
        assert_eq!(tokenizer.ids("red zebra red"), [3, 2, 3]);
        assert_eq!(tokenizer.ids(""), [0_u32; 0]);
    }

    /// Found by fuzzing: the library takes apart what stands in `decoder` and expects it to be JSON.
    #[test]
    fn a_damaged_decoder_is_refused() {
        let damaged = "\"decoder\":{\"type\":\"ByteLevel\u{1}\"},\"model\"";
        let json = SMALL.replacen("\"model\"", damaged, 1);
        let error = Tokenizer::from_json(json.as_bytes()).unwrap_err();
        let named = matches!(error, EngineError::BadModel { .. });
        assert!(
            named && error.to_string().contains("control character"),
            "{error}"
        );
    }

    #[test]
    fn a_tokenizer_without_marks_is_refused() {
        let json =
            r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"red":0},"unk_token":"red"}}"#;
        let error = Tokenizer::from_json(json.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains("marks"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_files_and_any_text_never_panic(at in 0..SMALL.len(), byte in any::<u8>(), text in ".{0,80}") {
            let mut json = SMALL.as_bytes().to_vec();
            json[at] = byte;
            if let Ok(tokenizer) = Tokenizer::from_json(&json) {
                tokenizer.ids(&text);
            }
        }
    }
}
