//! Programs that speak like OpenAI's: llama.cpp, vLLM, Aphrodite, TabbyAPI, KoboldCpp, Ollama,
//! text-generation-webui and others.
//!
//! Texts are streamed, so that a program that hangs is noticed. Stop sequences belong into the text.
//! Only programs that keep them are told of them; with all others we watch the stream and close it, which
//! ends their work as well.
//!
//! # Source
//! `worker.md` § 5.2, and OpenAI's public API reference (completions, chat completions, streaming).

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::backend::{Backend, Failure, Memory, RemoteOptions, read_json};
use super::events::{Events, is_stream, stalled};
use super::growing::{Growing, formatted};
use super::probe::{self, Family, Found};
use super::sight;
use crate::{Finish, ProgressSink, Text, TextCapabilities, TextEngine, TextError, TextTask};

/// How a prompt is put to the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenAiMode {
    /// As it is (`/v1/completions`).
    #[default]
    Completions,
    /// As what a user says (`/v1/chat/completions`), for programs that know nothing else.
    Chat,
}

impl OpenAiMode {
    /// Where a task is sent. OpenAI's plain completions know no pictures, so one with pictures goes to
    /// llama.cpp's own.
    fn path(self, task: &TextTask) -> &'static str {
        match self {
            Self::Chat => "v1/chat/completions",
            Self::Completions if task.pictures.is_empty() => "v1/completions",
            Self::Completions => "completion",
        }
    }

    /// Whether a program can be shown pictures this way.
    fn shows(self, found: &Found) -> bool {
        let families: &[Family] = match self {
            Self::Completions => &[Family::LlamaCpp],
            Self::Chat => &[Family::LlamaCpp, Family::KoboldCpp],
        };
        found.vision && families.contains(&found.family)
    }
}

/// An engine that has such a program do the work.
#[derive(Debug)]
pub struct OpenAiEngine {
    backend: Backend,
    mode: OpenAiMode,
    known: Memory<Found>,
}

impl OpenAiEngine {
    /// An engine whose network lives on `runtime`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`TextError::Setting`] if the address or the key cannot be used.
    pub fn new(
        options: &RemoteOptions,
        mode: OpenAiMode,
        runtime: Handle,
    ) -> Result<Self, TextError> {
        Ok(Self {
            backend: Backend::new(options, runtime)?,
            mode,
            known: Memory::empty(),
        })
    }

    fn found(&self) -> Result<Found, TextError> {
        let look = || self.backend.block(probe::openai(&self.backend));
        self.known.recall(&self.backend.timing, look)
    }

    async fn attempt(
        &self,
        body: &Value,
        task: &TextTask,
        progress: &dyn ProgressSink,
    ) -> Result<Text, Failure> {
        let timing = &self.backend.timing;
        let sent = timeout(
            timing.first_token,
            self.backend.post(self.mode.path(task), body),
        );
        let response = sent.await.map_err(|_| stalled(timing.first_token))??;
        let mut growing = Growing::new(task);
        if !is_stream(&response) {
            take(&mut growing, &read_json(response).await?)?;
            return growing.finished();
        }
        let mut events = Events::new(response, timing);
        while let Some(event) = events.next().await? {
            if !take(&mut growing, &event)? {
                break;
            }
            growing.tell(progress);
        }
        growing.finished()
    }
}

impl TextEngine for OpenAiEngine {
    fn capabilities(&self) -> Result<TextCapabilities, TextError> {
        let found = self.found()?;
        Ok(TextCapabilities {
            vision: self.mode.shows(&found),
            model: found.model,
            max_length: found.max_length,
            max_context_length: found.max_context_length,
            soft_prompts: found.soft_prompts,
            engine: found.family.word(),
            mode: "oai",
        })
    }

    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        let found = self.found()?;
        task.check_pictures(self.mode.shows(&found))?;
        let body = body(task, &found, self.mode);
        let attempts = self.backend.retried(|| self.attempt(&body, task, progress));
        let written = self.backend.run(progress, attempts);
        if matches!(written, Err(TextError::Unavailable { .. })) {
            self.known.forget();
        }
        Ok(formatted(task, written?))
    }
}

/// What programs call what. The first member is that of OpenAI, which everybody knows.
struct Word<'a> {
    name: &'a str,
    value: Value,
    known_by: &'a [Family],
}

/// Programs that take nearly everything.
const RICH: &[Family] = &[
    Family::KoboldCpp,
    Family::TabbyApi,
    Family::TextGenerationWebui,
    Family::Aphrodite,
];

/// Those and vLLM and llama.cpp, which take what is common.
const COMMON: &[Family] = &[
    Family::KoboldCpp,
    Family::TabbyApi,
    Family::TextGenerationWebui,
    Family::Aphrodite,
    Family::Vllm,
    Family::LlamaCpp,
];

/// Programs that take llama.cpp's names too.
const LLAMA: &[Family] = &[Family::LlamaCpp];

/// Programs that cut a prompt where they are told, and keep stop sequences if they are told.
const SERVERS: &[Family] = &[Family::Vllm, Family::Aphrodite];

/// The body of a call. A program that is not known gets OpenAI's members only.
fn body(task: &TextTask, found: &Found, mode: OpenAiMode) -> Value {
    let sampling = &task.sampling;
    let mut body = Map::new();
    body.insert("model".into(), found.model.clone().into());
    let mut length = "max_tokens";
    match mode {
        OpenAiMode::Chat => {
            let said = json!([{"role": "user", "content": sight::for_chat(task)}]);
            body.insert("messages".into(), said);
        }
        OpenAiMode::Completions if task.pictures.is_empty() => {
            body.insert("prompt".into(), task.prompt.clone().into());
        }
        OpenAiMode::Completions => {
            let marker = found.marker.as_deref().unwrap_or(sight::MARKER);
            body.insert("prompt".into(), sight::for_llama(task, marker));
            length = "n_predict";
        }
    }
    body.insert(length.into(), task.max_length.into());
    body.insert("stream".into(), true.into());
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    put("temperature", json!(sampling.temperature));
    put("top_p", json!(sampling.top_p));
    put("seed", json!(task.seed));
    for word in words(task) {
        if word.known_by.contains(&found.family) {
            put(word.name, word.value);
        }
    }
    Value::Object(body)
}

fn words(task: &TextTask) -> Vec<Word<'static>> {
    let sampling = &task.sampling;
    let heat = sampling.temperature.unwrap_or(1.0);
    let range = sampling.dynatemp_range.filter(|range| *range > 0.0);
    let top_k = match sampling.top_k {
        Some(0) => json!(-1),
        other => json!(other),
    };
    let context = task.max_context_length.saturating_sub(task.max_length);
    let stops = (!task.stop_sequence.is_empty()).then_some(&task.stop_sequence);
    let word = |name, value, known_by| Word {
        name,
        value,
        known_by,
    };
    vec![
        word("top_k", top_k, COMMON),
        word("min_p", json!(sampling.min_p), COMMON),
        word("repetition_penalty", json!(sampling.rep_pen), RICH),
        word(
            "repetition_penalty",
            json!(sampling.rep_pen),
            &[Family::Vllm],
        ),
        word("repeat_penalty", json!(sampling.rep_pen), LLAMA),
        word(
            "repetition_penalty_range",
            json!(sampling.rep_pen_range),
            RICH,
        ),
        word("repeat_last_n", json!(sampling.rep_pen_range), LLAMA),
        word("tfs", json!(sampling.tfs), RICH),
        word("top_a", json!(sampling.top_a), RICH),
        word("typical_p", json!(sampling.typical), RICH),
        word("typical_p", json!(sampling.typical), LLAMA),
        word("smoothing_factor", json!(sampling.smoothing_factor), RICH),
        word(
            "dynatemp_min",
            json!(range.map(|by| (heat - by).max(0.0))),
            RICH,
        ),
        word("dynatemp_max", json!(range.map(|by| heat + by)), RICH),
        word(
            "dynatemp_exponent",
            json!(range.and(sampling.dynatemp_exponent)),
            RICH,
        ),
        word("dynatemp_range", json!(range), LLAMA),
        word(
            "dynatemp_exponent",
            json!(range.and(sampling.dynatemp_exponent)),
            LLAMA,
        ),
        word(
            "use_default_badwordsids",
            json!(sampling.use_default_badwordsids),
            &[Family::Aphrodite],
        ),
        word("truncate_prompt_tokens", json!(context.max(1)), SERVERS),
        word("stop", json!(stops), SERVERS),
        word(
            "include_stop_str_in_output",
            json!(stops.map(|_| true)),
            SERVERS,
        ),
    ]
}

/// Takes an event or a whole answer; says whether more may come.
pub(super) fn take(growing: &mut Growing<'_>, event: &Value) -> Result<bool, Failure> {
    // What it says of it may repeat the prompt.
    if event.get("error").is_some_and(|error| !error.is_null()) {
        return Err(Failure::Passing("it broke off with an error".to_owned()));
    }
    let Some(choice) = event.pointer("/choices/0") else {
        return take_own(growing, event);
    };
    let places = ["/text", "/delta/content", "/message/content"];
    let piece = places
        .iter()
        .find_map(|place| choice.pointer(place)?.as_str());
    if !growing.add(piece.unwrap_or_default())? {
        return Ok(false);
    }
    match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => growing.end(Finish::Length),
        Some("stop" | "eos" | "stop_str") => {
            growing.end(Finish::Stop);
            // A program that took a stop sequence away may say which.
            let names = ["stop_reason", "matched_stop", "stop_str", "stopping_word"];
            let told = names.iter().find_map(|name| choice.get(*name)?.as_str());
            if let Some(stop) = told {
                growing.keep(stop);
            }
        }
        Some(_) => growing.end(Finish::Unknown),
        None => {}
    }
    Ok(true)
}

/// Takes an event in llama.cpp's own words. Other programs may end with what it took, which says
/// nothing in them.
fn take_own(growing: &mut Growing<'_>, event: &Value) -> Result<bool, Failure> {
    let piece = event.get("content").and_then(Value::as_str);
    if !growing.add(piece.unwrap_or_default())? {
        return Ok(false);
    }
    if event.get("stop") == Some(&Value::Bool(true)) {
        growing.end(match event.get("stop_type").and_then(Value::as_str) {
            Some("limit") => Finish::Length,
            Some("eos" | "word") => Finish::Stop,
            _ => Finish::Unknown,
        });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(stops: &[&str]) -> TextTask {
        TextTask {
            prompt: "p".to_owned(),
            max_length: 20,
            max_context_length: 100,
            stop_sequence: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            ..TextTask::default()
        }
    }

    fn written(task: &TextTask, event: &Value) -> Result<Text, Failure> {
        let mut growing = Growing::new(task);
        take(&mut growing, event)?;
        growing.finished()
    }

    #[test]
    fn a_reported_stop_sequence_is_put_back_once() {
        let stopping = task(&["END"]);
        let end = |text| json!({"choices": [{"text": text, "finish_reason": "stop", "stop_reason": "END"}]});
        assert_eq!(written(&stopping, &end("a")).unwrap().text, "aEND");
        assert_eq!(written(&stopping, &end("aEND")).unwrap().text, "aEND");
    }

    #[test]
    fn an_error_in_a_stream_is_none_of_the_text() {
        let broken = json!({"error": {"message": "p"}});
        let failure = written(&task(&[]), &broken);
        assert!(matches!(failure, Err(Failure::Passing(reason)) if !reason.contains("p\"")));
    }

    fn members(family: Family) -> Map<String, Value> {
        let mut task = task(&["x"]);
        task.sampling.temperature = Some(0.5);
        task.sampling.top_k = Some(0);
        task.sampling.rep_pen = Some(1.1);
        task.sampling.dynatemp_range = Some(0.25);
        task.seed = Some(7);
        let found = Found {
            family,
            model: "m".to_owned(),
            max_length: None,
            max_context_length: None,
            soft_prompts: Vec::new(),
            vision: false,
            marker: None,
        };
        let body = body(&task, &found, OpenAiMode::Completions);
        body.as_object().unwrap().clone()
    }

    #[test]
    fn each_program_gets_the_words_it_knows() {
        let names: Vec<_> = members(Family::Unknown).keys().cloned().collect();
        let standard = [
            "max_tokens",
            "model",
            "prompt",
            "seed",
            "stream",
            "temperature",
        ];
        let sorted: std::collections::BTreeSet<_> = names.iter().map(String::as_str).collect();
        assert_eq!(sorted.into_iter().collect::<Vec<_>>(), standard);
        let aphrodite = members(Family::Aphrodite);
        for (name, value) in [
            ("top_k", json!(-1)),
            ("repetition_penalty", json!(1.1)),
            ("dynatemp_min", json!(0.25)),
            ("dynatemp_max", json!(0.75)),
            ("truncate_prompt_tokens", json!(80)),
            ("stop", json!(["x"])),
            ("include_stop_str_in_output", json!(true)),
        ] {
            assert_eq!(aphrodite.get(name), Some(&value), "{name}");
        }
        let llama = members(Family::LlamaCpp);
        assert_eq!(llama.get("repeat_penalty"), Some(&json!(1.1)));
        assert!(!llama.contains_key("repetition_penalty"));
    }
}
