//! Which program it is, which model it has, what its limits are.
//!
//! # Source
//! `worker.md` § 5.1, and the public API documentation of the programs.

use serde_json::Value;

use super::backend::{Backend, Failure};
use crate::TextError;

/// A program that people run models with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    KoboldCpp,
    LlamaCpp,
    TabbyApi,
    TextGenerationWebui,
    Ollama,
    Vllm,
    Aphrodite,
    Unknown,
}

impl Family {
    /// One word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::KoboldCpp => "koboldcpp",
            Self::LlamaCpp => "llamacpp",
            Self::TabbyApi => "tabbyapi",
            Self::TextGenerationWebui => "textgenwebui",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Aphrodite => "aphrodite",
            Self::Unknown => "unknown",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) family: Family,
    /// As the program names it.
    pub(super) model: String,
    pub(super) max_length: Option<u32>,
    pub(super) max_context_length: Option<u32>,
    pub(super) soft_prompts: Vec<String>,
    /// Whether its model looks at pictures.
    pub(super) vision: bool,
    /// What llama.cpp puts a picture in the place of, if it says so.
    pub(super) marker: Option<String>,
}

/// What is known of a program besides its model.
#[derive(Default)]
struct Tells {
    family: Option<Family>,
    context: Option<u32>,
    vision: bool,
    marker: Option<String>,
}

/// A program that speaks like OpenAI's.
pub(super) async fn openai(backend: &Backend) -> Result<Found, TextError> {
    let models = backend.get("v1/models").await?;
    let Some(model) = models.pointer("/data/0/id").and_then(Value::as_str) else {
        return Err(TextError::unavailable("it has no model loaded"));
    };
    let tells = openai_tells(backend, &models).await;
    let family = tells.family.unwrap_or(Family::Unknown);
    Ok(Found {
        family,
        model: model.to_owned(),
        max_length: match family {
            Family::KoboldCpp => number(backend, "api/v1/config/max_length").await,
            _ => None,
        },
        max_context_length: tells
            .context
            .or_else(|| at(&models, "/data/0/max_model_len")),
        soft_prompts: Vec::new(),
        vision: tells.vision,
        marker: tells.marker,
    })
}

/// What tells a program apart, and what the answer that does it says besides. KoboldCpp goes first: it
/// imitates others.
async fn openai_tells(backend: &Backend, models: &Value) -> Tells {
    if let Some(version) = koboldcpp(backend).await {
        return Tells {
            family: Some(Family::KoboldCpp),
            context: number(backend, "api/extra/true_max_context_length").await,
            vision: is_true(&version, "/vision"),
            marker: None,
        };
    }
    let tells: [(&str, &str, Family, Option<&str>); 4] = [
        (
            "props",
            "/default_generation_settings",
            Family::LlamaCpp,
            Some("/default_generation_settings/n_ctx"),
        ),
        (
            "v1/model",
            "/id",
            Family::TabbyApi,
            Some("/parameters/max_seq_len"),
        ),
        (
            "v1/internal/model/info",
            "/model_name",
            Family::TextGenerationWebui,
            None,
        ),
        ("api/tags", "/models", Family::Ollama, None),
    ];
    for (path, mark, family, context) in tells {
        if let Ok(answer) = backend.get(path).await
            && answer.pointer(mark).is_some()
        {
            let marker = answer.pointer("/media_marker").and_then(Value::as_str);
            return Tells {
                family: Some(family),
                context: context.and_then(|place| at(&answer, place)),
                vision: is_true(&answer, "/modalities/vision"),
                marker: marker
                    .filter(|marker| !marker.is_empty())
                    .map(str::to_owned),
            };
        }
    }
    let owner = models.pointer("/data/0/owned_by").and_then(Value::as_str);
    let family = match backend.get("version").await {
        Ok(_) if owner == Some("vllm") => Some(Family::Vllm),
        Ok(_) => Some(Family::Aphrodite),
        Err(_) => None,
    };
    Tells {
        family,
        ..Tells::default()
    }
}

/// A program that speaks like KoboldAI.
pub(super) async fn kobold(backend: &Backend) -> Result<Found, TextError> {
    let answer = backend.get("api/latest/model").await?;
    let model = answer.pointer("/result").and_then(Value::as_str);
    // KoboldAI says `ReadOnly` while it has no model.
    let model = model.filter(|name| !name.is_empty() && *name != "ReadOnly");
    let Some(model) = model else {
        return Err(TextError::unavailable("it has no model loaded"));
    };
    let version = koboldcpp(backend).await;
    let family = if version.is_some() {
        Family::KoboldCpp
    } else if backend.get("version").await.is_ok() {
        Family::Aphrodite
    } else {
        Family::Unknown
    };
    let context = match family {
        Family::KoboldCpp => number(backend, "api/extra/true_max_context_length").await,
        _ => number(backend, "api/latest/config/max_context_length").await,
    };
    Ok(Found {
        family,
        model: model.to_owned(),
        max_length: number(backend, "api/v1/config/max_length").await,
        max_context_length: context,
        soft_prompts: soft_prompts(backend).await,
        vision: version.is_some_and(|version| is_true(&version, "/vision")),
        marker: None,
    })
}

async fn soft_prompts(backend: &Backend) -> Vec<String> {
    let Ok(answer) = backend.get("api/latest/config/soft_prompts_list").await else {
        return Vec::new();
    };
    let values = answer.pointer("/values").and_then(Value::as_array);
    values
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.pointer("/value")?.as_str().map(str::to_owned))
        .collect()
}

/// What a KoboldCpp says of itself; nothing if it is another program.
async fn koboldcpp(backend: &Backend) -> Option<Value> {
    let answer: Result<Value, Failure> = backend.get("api/extra/version").await;
    answer
        .ok()
        .filter(|answer| answer.pointer("/result") == Some(&Value::from("KoboldCpp")))
}

fn is_true(answer: &Value, place: &str) -> bool {
    answer.pointer(place) == Some(&Value::Bool(true))
}

/// A setting of KoboldAI's kind: `{"value": 2048}`.
async fn number(backend: &Backend, path: &str) -> Option<u32> {
    at(&backend.get(path).await.ok()?, "/value")
}

fn at(answer: &Value, place: &str) -> Option<u32> {
    let number = answer.pointer(place)?.as_u64()?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}
