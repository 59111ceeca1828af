//! The answers of the gateway for OpenAI's clients.
//!
//! # Source
//! OpenAI's public API reference, as its clients read it; `platform.md` § 4.

use serde::Serialize;

/// The path that everything of the gateway lies below.
pub const BASE_PATH: &str = "/v1";

/// A no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// What is wrong.
    pub error: Problem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// For people.
    pub message: String,
    /// The kind of problem, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The member of the request that is wrong.
    pub param: Option<String>,
    /// For programs: OpenAI's word where there is one, else the horde's return code.
    pub code: Option<String>,
}

/// How many tokens went in and came out. Estimates: the horde does not count the prompt's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of all choices.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// So many in, so many out.
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
        }
    }
}

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model was done, or a stop sequence came.
    Stop,
    /// It is as long as it may be.
    Length,
    /// It was withheld.
    ContentFilter,
}

/// Texts, whole or in part: of a conversation or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Texts<C> {
    /// What it is called: `chatcmpl-` or `cmpl-` and the id of the request.
    pub id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    pub object: &'static str,
    /// When it was asked for, in seconds since 1970.
    pub created: i64,
    /// The model that wrote it.
    pub model: String,
    /// The texts, or pieces of them.
    pub choices: Vec<C>,
    /// In the last piece of a stream, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A whole answer in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatChoice {
    /// Which of those asked for.
    pub index: usize,
    /// The answer.
    pub message: ChatMessage,
    /// Nothing: the horde does not know.
    pub logprobs: (),
    /// Why it ends.
    pub finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Nothing: models of the horde do not say so.
    pub refusal: (),
}

/// A piece of an answer in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatPiece {
    /// Which of those asked for.
    pub index: usize,
    /// What is new.
    pub delta: Delta,
    /// Nothing: the horde does not know.
    pub logprobs: (),
    /// Why it ends, in the last piece.
    pub finish_reason: Option<FinishReason>,
}

/// What is new.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// `assistant`, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A text that goes on from a prompt, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextChoice {
    /// The text.
    pub text: String,
    /// Which of those asked for.
    pub index: usize,
    /// Nothing: the horde does not know.
    pub logprobs: (),
    /// Why it ends; in a stream in the last piece.
    pub finish_reason: Option<FinishReason>,
}

/// Pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Images {
    /// When they were asked for, in seconds since 1970.
    pub created: i64,
    /// The pictures.
    pub data: Vec<Image>,
    /// `png`, `jpeg` or `webp`.
    pub output_format: &'static str,
    /// Width and height in pixels, such as `512x512`.
    pub size: String,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Where it can be fetched for some minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b64_json: Option<String>,
    /// The model that made it. The horde's.
    pub model: String,
    /// The seed it came of. The horde's.
    pub seed: String,
    /// Whether it was withheld, and this is a picture that says so. The horde's.
    pub censored: bool,
}

/// Models that workers serve just now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// The models.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// When it came, in seconds since 1970; the horde does not know, so 0.
    pub created: i64,
    /// `horde`: whoever lends it.
    pub owned_by: &'static str,
    /// What it makes, `text` or `image`. The horde's.
    pub makes: &'static str,
    /// Of those that make texts, whether a worker looks at pictures with it. The horde's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<bool>,
    /// How many jobs workers do with it at the same time. The horde's.
    pub workers: u64,
    /// How long one waits for it, in seconds. The horde's.
    pub eta: i64,
}
