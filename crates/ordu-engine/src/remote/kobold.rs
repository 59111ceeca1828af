//! Programs that speak like KoboldAI: KoboldAI United, KoboldCpp, Aphrodite.
//!
//! Texts are streamed where the program can. Where it cannot, but knows calls by keys, the text is
//! looked at while it is written; of the others nothing is seen until it is done.
//!
//! # Source
//! `worker.md` § 5.2, and the public API documentation of KoboldAI and KoboldCpp.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::backend::{Backend, Failure, Memory, RemoteOptions, read_json};
use super::events::{Events, is_stream, stalled};
use super::growing::{Growing, formatted, tell};
use super::probe::{self, Family, Found};
use super::sight;
use crate::{Finish, ProgressSink, Text, TextCapabilities, TextEngine, TextError, TextTask};

/// How long telling the program to stop may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

const GENERATE: &str = "api/latest/generate";
const STREAM: &str = "api/extra/generate/stream";
const CHECK: &str = "api/extra/generate/check";
const ABORT: &str = "api/extra/abort";

/// An engine that has such a program do the work.
#[derive(Debug)]
pub struct KoboldEngine {
    backend: Backend,
    known: Memory<Found>,
    /// Whether it is known not to stream.
    is_without_stream: AtomicBool,
}

/// A task on its way.
struct Call<'t> {
    task: &'t TextTask,
    body: Value,
    /// What the program knows it by.
    key: Option<String>,
    progress: &'t dyn ProgressSink,
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
            is_without_stream: AtomicBool::new(false),
        })
    }

    fn found(&self) -> Result<Found, TextError> {
        let look = || self.backend.block(probe::kobold(&self.backend));
        self.known.recall(&self.backend.timing, look)
    }

    /// The program may be another one when it is back.
    fn forget(&self) {
        self.known.forget();
        self.is_without_stream.store(false, Ordering::Relaxed);
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Text, Failure> {
        if let Some(wanted) = &call.task.soft_prompt {
            self.use_soft_prompt(wanted).await?;
        }
        if !self.is_without_stream.load(Ordering::Relaxed) {
            match self.stream(call).await {
                Err(Failure::NoDoor(_)) => self.is_without_stream.store(true, Ordering::Relaxed),
                streamed => return streamed,
            }
        }
        self.whole(call).await
    }

    async fn stream(&self, call: &Call<'_>) -> Result<Text, Failure> {
        let timing = &self.backend.timing;
        let sent = timeout(timing.first_token, self.backend.post(STREAM, &call.body));
        let response = sent.await.map_err(|_| stalled(timing.first_token))??;
        let mut growing = Growing::new(call.task);
        if !is_stream(&response) {
            take_whole(&mut growing, &read_json(response).await?)?;
            return growing.finished();
        }
        let mut events = Events::new(response, timing);
        while let Some(event) = events.next().await? {
            let piece = event.get("token").and_then(Value::as_str);
            let piece = piece.unwrap_or_default();
            if !growing.add(piece)? {
                break;
            }
            if !piece.is_empty() {
                growing.tell(call.progress);
            }
            match event.get("finish_reason").and_then(Value::as_str) {
                Some("error") => {
                    return Err(Failure::Passing("it broke off with an error".to_owned()));
                }
                Some(reason) => growing.end(finish(reason)),
                None => {}
            }
        }
        growing.finished()
    }

    /// A text that comes at once, when it is done.
    async fn whole(&self, call: &Call<'_>) -> Result<Text, Failure> {
        let answer = async { read_json(self.backend.post(GENERATE, &call.body).await?).await };
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            never = self.watch(call) => match never {},
        };
        let mut growing = Growing::new(call.task);
        take_whole(&mut growing, &answer)?;
        growing.finished()
    }

    /// Looks at the text again and again while it is written, if the program can show it.
    async fn watch(&self, call: &Call<'_>) -> Infallible {
        let Some(key) = &call.key else {
            return pending().await;
        };
        let body = json!({ "genkey": key });
        loop {
            sleep(self.backend.timing.poll).await;
            let look = async { read_json(self.backend.post(CHECK, &body).await?).await };
            let seen = match timeout(self.backend.timing.probe, look).await {
                Ok(Ok(seen)) => seen,
                Ok(Err(Failure::NoDoor(_))) => return pending().await,
                // The text itself is what counts.
                Ok(Err(_)) | Err(_) => continue,
            };
            let mut growing = Growing::new(call.task);
            if take_whole(&mut growing, &seen).is_ok()
                && let Ok(text) = growing.finished()
            {
                // It does not say how many tokens that is; words are fewer.
                let words = u32::try_from(text.text.split_whitespace().count());
                let tokens = words.unwrap_or(u32::MAX).min(call.task.max_length);
                tell(call.task, tokens, &text.text, call.progress);
            }
        }
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
        let call = self.backend.post(ABORT, &body);
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
            vision: found.vision,
            engine: found.family.word(),
            mode: "kai",
        })
    }

    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        let found = self.found()?;
        task.check_pictures(found.vision)?;
        let key = (found.family == Family::KoboldCpp).then(|| KeyForOne::of(task).0);
        let call = Call {
            task,
            body: body(task, key.as_deref()),
            key,
            progress,
        };
        let attempts = self.backend.retried(|| self.attempt(&call));
        let written = self.backend.run(progress, attempts);
        match (&written, &call.key) {
            (Err(TextError::Cancelled | TextError::Stalled { .. }), Some(key)) => self.abort(key),
            (Err(TextError::Unavailable { .. }), _) => self.forget(),
            _ => {}
        }
        Ok(formatted(task, written?))
    }
}

/// Takes an answer that holds all there is.
pub(super) fn take_whole(growing: &mut Growing<'_>, answer: &Value) -> Result<(), Failure> {
    let result = answer.pointer("/results/0");
    let text = result.and_then(|result| result.get("text")?.as_str());
    let Some(text) = text else {
        return Err(Failure::Passing("the answer has no text".to_owned()));
    };
    growing.add(text)?;
    let reason = result.and_then(|result| result.get("finish_reason")?.as_str());
    growing.end(finish(reason.unwrap_or_default()));
    Ok(())
}

fn finish(reason: &str) -> Finish {
    match reason {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        _ => Finish::Unknown,
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

/// The task in the words it came in. What only a program that knows keys understands is for such a
/// program only: others may refuse what they do not know.
fn body(task: &TextTask, key: Option<&str>) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    put("prompt", sight::for_kobold(task).into());
    if !task.pictures.is_empty() {
        put("images", sight::files(task).into());
    }
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
    if key.is_some() && !task.stop_sequence.is_empty() {
        // Else it takes the stop sequence away, which belongs into the text.
        put("trim_stop", false.into());
    }
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
