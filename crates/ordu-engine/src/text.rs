//! Texts: the trait of engines that write, and what goes through it.

use serde::{Deserialize, Serialize};

use crate::ProgressSink;

/// Something that goes on writing where a prompt ends.
///
/// All methods block. A caller inside an async runtime runs them on a thread that may block; several
/// tasks may run at once, each from a thread of its own.
pub trait TextEngine: Send + Sync {
    /// What it can do at this moment. Cheap enough to be asked before each task: an engine that has to
    /// look elsewhere remembers for a while what it saw.
    ///
    /// # Errors
    ///
    /// [`TextError::Unavailable`] while it cannot do anything.
    fn capabilities(&self) -> Result<TextCapabilities, TextError>;

    /// Writes. `progress` is told of each token as a step, and asked at least every 100 ms whether to go
    /// on.
    ///
    /// # Errors
    ///
    /// [`TextError::Cancelled`] if `progress` asked for it; the others as they say.
    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError>;
}

/// What an engine that writes can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextCapabilities {
    /// The model, as others know it: `organisation/name` where it has one.
    pub model: String,
    /// The longest text, in tokens, if it says so.
    pub max_length: Option<u32>,
    /// The longest prompt and text together, in tokens, if it says so.
    pub max_context_length: Option<u32>,
    /// Soft prompts a task may name.
    pub soft_prompts: Vec<String>,
    /// Whether it looks at pictures.
    pub vision: bool,
    /// One word for the program that does the work.
    pub engine: &'static str,
    /// One word for the way that is spoken to it.
    pub mode: &'static str,
}

impl TextCapabilities {
    /// What our own engine is called.
    pub(crate) const NATIVE_ENGINE: &str = "ordu";
    /// How it is spoken to.
    pub(crate) const NATIVE_MODE: &str = "native";
}

/// One text to write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextTask {
    /// What to go on from.
    pub prompt: String,
    /// The longest text, in tokens.
    pub max_length: u32,
    /// The longest prompt and text together, in tokens. What is too long loses its beginning.
    pub max_context_length: u32,
    /// How to choose tokens.
    #[serde(with = "crate::host::as_json")]
    pub sampling: Sampling,
    /// Texts after which to stop. The one that was met stays in the result.
    pub stop_sequence: Vec<String>,
    /// Decides all randomness, where the engine can be told.
    pub seed: Option<u64>,
    /// One of [`TextCapabilities::soft_prompts`].
    pub soft_prompt: Option<String>,
    /// What to do with the text when it is there.
    #[serde(with = "crate::host::as_json")]
    pub format: Format,
    /// What to look at, in the order of their places. Only with [`TextCapabilities::vision`].
    pub pictures: Vec<TextPicture>,
}

/// A picture that a text is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPicture {
    /// Where in the prompt it belongs, in bytes.
    pub at: usize,
    /// The picture, as JPEG: what all programs read.
    pub jpeg: Vec<u8>,
}

impl TextTask {
    /// Refuses pictures where nobody looks at them.
    pub(crate) fn check_pictures(&self, vision: bool) -> Result<(), TextError> {
        if vision || self.pictures.is_empty() {
            return Ok(());
        }
        Err(TextError::Refused {
            reason: "it does not look at pictures".to_owned(),
        })
    }
}

/// How to choose tokens. What is `None` is the engine's own default.
///
/// # Source
/// The names of KoboldAI's API, which others followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the API that it is made for")]
pub struct Sampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen_range: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep_pen_slope: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tfs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_a: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler_order: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_badwordsids: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoothing_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_range: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_exponent: Option<f64>,
}

/// What to do with a text when it is there. `None` is the engine's own default, which is not to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Format {
    /// Put a space before it if the prompt does not end in white space.
    #[serde(rename = "frmtadsnsp", skip_serializing_if = "Option::is_none")]
    pub add_space: Option<bool>,
    /// Leave blank lines out.
    #[serde(rename = "frmtrmblln", skip_serializing_if = "Option::is_none")]
    pub remove_blank_lines: Option<bool>,
    /// Leave special characters out.
    #[serde(rename = "frmtrmspch", skip_serializing_if = "Option::is_none")]
    pub remove_special: Option<bool>,
    /// End it after its last whole sentence.
    #[serde(rename = "frmttriminc", skip_serializing_if = "Option::is_none")]
    pub trim_incomplete: Option<bool>,
    /// End it after its first line.
    #[serde(rename = "singleline", skip_serializing_if = "Option::is_none")]
    pub single_line: Option<bool>,
}

/// Special characters that [`Format::remove_special`] means.
const SPECIAL: &str = "#/@%{}+=~|^<>";

/// What ends a sentence.
const ENDS: &[char] = &['.', '!', '?', '…', '。', '！', '？'];

/// What may follow the end of a sentence and belongs to it.
const CLOSERS: &[char] = &['"', '\'', '*', ')', '”', '’', '»', '`'];

impl Format {
    /// The text as it was asked for.
    pub fn apply(self, prompt: &str, text: &str) -> String {
        self.shaped(prompt, text, whole_sentences)
    }

    /// The part of a text that is certain while more is still being written: what [`Self::apply`]
    /// makes of the whole text begins with it.
    pub fn so_far(self, prompt: &str, text: &str) -> String {
        self.shaped(prompt, text, |text| last_sentence(text).unwrap_or(0))
    }

    fn shaped(self, prompt: &str, text: &str, sentences: impl Fn(&str) -> usize) -> String {
        let mut text = text.to_owned();
        let asked = |flag: Option<bool>| flag == Some(true);
        if asked(self.single_line) {
            text = text.trim_start_matches(['\r', '\n']).to_owned();
            text.truncate(text.find('\n').unwrap_or(text.len()));
        }
        if asked(self.trim_incomplete) {
            text.truncate(sentences(&text));
        }
        if asked(self.remove_blank_lines) {
            let mut end_of_line = false;
            text.retain(|c| {
                let again = c == '\n' && end_of_line;
                end_of_line = c == '\n' || (end_of_line && c == '\r');
                !again
            });
        }
        if asked(self.remove_special) {
            text.retain(|c| !SPECIAL.contains(c));
        }
        let apart = |text: &str| text.starts_with(char::is_whitespace);
        if asked(self.add_space)
            && !text.is_empty()
            && !apart(&text)
            && !prompt.is_empty()
            && !prompt.ends_with(char::is_whitespace)
        {
            text.insert(0, ' ');
        }
        text
    }
}

/// Where the last whole sentence ends, in bytes; everything if there is none.
fn whole_sentences(text: &str) -> usize {
    last_sentence(text).unwrap_or(text.len())
}

fn last_sentence(text: &str) -> Option<usize> {
    let (at, end) = text
        .char_indices()
        .rfind(|(_, character)| ENDS.contains(character))?;
    let after = at + end.len_utf8();
    let rest = text.get(after..).unwrap_or_default();
    let closed = rest.trim_start_matches(CLOSERS);
    Some(after + rest.len() - closed.len())
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text, without the prompt.
    pub text: String,
    /// Why it ends where it ends.
    pub finish: Finish,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model or a stop sequence ended it.
    Stop,
    /// It reached its greatest length.
    Length,
    /// The engine does not say.
    Unknown,
}

/// Why there is no text. Its variants are what a caller can do differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Wait: what does the work is not there, or too busy for too long.
    #[error("the engine is not available: {reason}")]
    Unavailable {
        /// What was tried and what came of it, without the address.
        reason: String,
    },

    /// Change the task: the engine does not take it.
    #[error("the engine refused the task: {reason}")]
    Refused {
        /// The answer.
        reason: String,
    },

    /// Give up: it stopped writing in the middle, or never began.
    #[error("no token came for {seconds} s")]
    Stalled {
        /// For how long.
        seconds: u64,
    },

    /// Give up: it wrote nothing, and did not say that there is nothing to write.
    #[error("the engine wrote nothing")]
    Empty,

    /// Report it: it could not be written, in a way that no input should cause.
    #[error("{reason}")]
    Failed {
        /// What was tried and what came of it.
        reason: String,
    },

    /// Nothing: the caller asked for it.
    #[error("cancelled")]
    Cancelled,

    /// Change the settings.
    #[error("`{name}` cannot be used: {reason}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl TextError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_to_another_process_and_comes_back() {
        let task = TextTask {
            prompt: "p".to_owned(),
            max_length: 1,
            max_context_length: 2,
            sampling: Sampling {
                top_p: Some(0.1),
                sampler_order: Some(vec![6, 0]),
                ..Sampling::default()
            },
            stop_sequence: vec!["s".to_owned()],
            seed: Some(u64::MAX),
            soft_prompt: None,
            format: Format {
                single_line: Some(true),
                ..Format::default()
            },
            pictures: vec![TextPicture {
                at: 1,
                jpeg: vec![0xff, 0xd8],
            }],
        };
        let bytes = postcard::to_extend(&task, Vec::new()).unwrap();
        assert_eq!(postcard::from_bytes::<TextTask>(&bytes).unwrap(), task);
    }

    fn with(change: impl FnOnce(&mut Format)) -> Format {
        let mut format = Format::default();
        change(&mut format);
        format
    }

    #[test]
    fn an_incomplete_sentence_is_left_out() {
        let format = with(|format| format.trim_incomplete = Some(true));
        for (text, expected) in [
            ("One. Two! Thr", "One. Two!"),
            ("He said \"no.\" And th", "He said \"no.\""),
            ("nothing whole", "nothing whole"),
            ("你好。再", "你好。"),
            ("", ""),
        ] {
            assert_eq!(format.apply("p", text), expected);
        }
    }

    #[test]
    fn what_is_certain_stays_whatever_comes() {
        let text = "\nIt #was. \"Yes.\"\n\r\n\nNo 3.14 end! And th";
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for switches in 0..32_u8 {
            let on = |bit: u8| Some(switches >> bit & 1 == 1);
            let format = Format {
                add_space: on(0),
                remove_blank_lines: on(1),
                remove_special: on(2),
                trim_incomplete: on(3),
                single_line: on(4),
            };
            for end in ends.iter().chain([&text.len()]) {
                let whole = format.apply("p", &text[..*end]);
                let parts = ends.iter().filter(|part| *part <= end);
                for part in parts {
                    let certain = format.so_far("p", &text[..*part]);
                    assert!(
                        whole.starts_with(&certain),
                        "{format:?} {certain:?} {whole:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_text_is_formatted_as_asked() {
        let one_line = with(|format| format.single_line = Some(true));
        assert_eq!(one_line.apply("p", "\na\nb"), "a");
        let no_blank = with(|format| format.remove_blank_lines = Some(true));
        assert_eq!(no_blank.apply("p", "a\n\n\nb\nc"), "a\nb\nc");
        let plain = with(|format| format.remove_special = Some(true));
        assert_eq!(plain.apply("p", "a#b <c>"), "ab c");
        let space = with(|format| format.add_space = Some(true));
        assert_eq!(space.apply("p", "a"), " a");
        assert_eq!(space.apply("p ", "a"), "a");
        assert_eq!(space.apply("p", " a"), " a");
        let no = with(|format| format.single_line = Some(false));
        assert_eq!(no.apply("p", "a\nb"), "a\nb");
    }
}
