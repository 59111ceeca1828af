//! Programs that speak like KoboldAI: KoboldAI United, KoboldCpp, Aphrodite.
//!
//! # Source
//! `worker.md` § 5.2, and the public API documentation of KoboldAI and KoboldCpp.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::backend::{Backend, Failure, Memory, RemoteOptions, read_json};
use super::probe::{self, Family, Found};
use crate::{Finish, ProgressSink, Text, TextCapabilities, TextEngine, TextError, TextTask};

/// How long telling the program to stop may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// An engine that has such a program do the work.
#[derive(Debug)]
pub struct KoboldEngine {
    backend: Backend,
    known: Memory<Found>,
}

impl KoboldEngine {
    /// An engine whose network lives on `runtime`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`TextError::Setting`] if the address or the key cannot be used.
    pub fn new(options: &RemoteOptions, runtime: Handle) -> Result<Self, TextError> {
        Ok(Self {
            backend: Backend::new(options, runtime)?,
            known: Memory::empty(),
        })
    }

    fn found(&self) -> Result<Found, TextError> {
        let look = || self.backend.block(probe::kobold(&self.backend));
        self.known.recall(&self.backend.timing, look)
    }

    async fn attempt(&self, task: &TextTask, body: &Value) -> Result<Text, Failure> {
        if let Some(wanted) = &task.soft_prompt {
            self.use_soft_prompt(wanted).await?;
        }
        let response = self.backend.post("api/latest/generate", body).await?;
        let answer = read_json(response).await?;
        let result = answer.pointer("/results/0");
        let text = result.and_then(|result| result.get("text")?.as_str());
        let Some(text) = text else {
            return Err(Failure::Passing("the answer has no text".to_owned()));
        };
        let reason = result.and_then(|result| result.get("finish_reason")?.as_str());
        let finish = match reason {
            Some("stop") => Finish::Stop,
            Some("length") => Finish::Length,
            _ => Finish::Unknown,
        };
        if text.is_empty() && finish != Finish::Stop {
            return Err(Failure::Final(TextError::Empty));
        }
        Ok(Text {
            text: text.to_owned(),
            finish,
        })
    }

    async fn use_soft_prompt(&self, wanted: &str) -> Result<(), Failure> {
        let path = "api/latest/config/soft_prompt";
        let present = self.backend.get(path).await?;
        if present.pointer("/value").and_then(Value::as_str) != Some(wanted) {
            self.backend.put(path, &json!({ "value": wanted })).await?;
            sleep(self.backend.timing.soft_prompt).await;
        }
        Ok(())
    }

    /// Closing the connection does not stop KoboldCpp; this does.
    fn abort(&self, key: &str) {
        let body = json!({ "genkey": key });
        let call = self.backend.post("api/extra/abort", &body);
        // If it cannot be told, it wastes its time.
        drop(
            self.backend
                .block(async { timeout(ABORT_TIMEOUT, call).await }),
        );
    }
}

impl TextEngine for KoboldEngine {
    fn capabilities(&self) -> Result<TextCapabilities, TextError> {
        let found = self.found()?;
        Ok(TextCapabilities {
            model: found.model,
            max_length: found.max_length,
            max_context_length: found.max_context_length,
            soft_prompts: found.soft_prompts,
            engine: found.family.word(),
            mode: "kai",
        })
    }

    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        let family = self.found()?.family;
        let key = (family == Family::KoboldCpp).then(|| KeyForOne::of(task).0);
        let body = body(task, key.as_deref());
        let attempts = self.backend.retried(|| self.attempt(task, &body));
        let written = self.backend.run(progress, attempts);
        match (&written, key) {
            (Err(TextError::Cancelled), Some(key)) => self.abort(&key),
            (Err(TextError::Unavailable { .. }), _) => self.known.forget(),
            _ => {}
        }
        written
    }
}

/// What KoboldCpp knows a call by, so that only this one is aborted.
struct KeyForOne(String);

impl KeyForOne {
    /// The place of a task in memory is its own as long as it lives.
    fn of(task: &TextTask) -> Self {
        Self(format!("ORDU{:x}", std::ptr::from_ref(task).addr()))
    }
}

/// The task in the words it came in.
fn body(task: &TextTask, key: Option<&str>) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    put("prompt", task.prompt.clone().into());
    put("n", 1.into());
    put("max_length", task.max_length.into());
    put("max_context_length", task.max_context_length.into());
    let sampling = serde_json::to_value(&task.sampling).unwrap_or_default();
    let format = serde_json::to_value(task.format).unwrap_or_default();
    let members = [sampling, format];
    for (name, value) in members.iter().filter_map(Value::as_object).flatten() {
        put(name, value.clone());
    }
    if !task.stop_sequence.is_empty() {
        put("stop_sequence", json!(task.stop_sequence));
    }
    put("sampler_seed", json!(task.seed));
    put("quiet", true.into());
    put("genkey", json!(key));
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Sampling};

    #[test]
    fn a_task_goes_out_in_the_words_it_came_in() {
        let task = TextTask {
            prompt: "p".to_owned(),
            max_length: 20,
            max_context_length: 100,
            sampling: Sampling {
                typical: Some(0.5),
                sampler_order: Some(vec![6, 0]),
                ..Sampling::default()
            },
            format: Format {
                single_line: Some(true),
                ..Format::default()
            },
            ..TextTask::default()
        };
        let expected = json!({
            "prompt": "p", "n": 1, "max_length": 20, "max_context_length": 100, "typical": 0.5,
            "sampler_order": [6, 0], "singleline": true, "quiet": true,
        });
        assert_eq!(body(&task, None), expected);
    }
}
