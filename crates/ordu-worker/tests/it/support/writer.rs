//! Programs that write, as their public documentation describes them, and a scribe in front of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ordu_engine::TextEngine;
use ordu_engine::remote::kobold::KoboldEngine;
use ordu_engine::remote::openai::{OpenAiEngine, OpenAiMode};
use ordu_engine::remote::{RemoteOptions, RemoteTiming};
use ordu_worker::{Config, Engines, RunError, Shutdown, Status};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::horde::FakeHorde;
use super::http::{Answer, Seen, TestServer};
use super::{config, logs, within};

pub const COMPLETIONS: &str = "/v1/completions";
pub const COMPLETION: &str = "/completion";
pub const CHAT: &str = "/v1/chat/completions";
pub const GENERATE: &str = "/api/latest/generate";
pub const STREAM: &str = "/api/extra/generate/stream";
pub const CHECK: &str = "/api/extra/generate/check";
pub const ABORT: &str = "/api/extra/abort";
pub const SOFT_PROMPT: &str = "/api/latest/config/soft_prompt";

/// A program: what it says to questions, by path, and to tasks, one after the other.
#[derive(Default)]
pub struct Program {
    pub facts: Vec<(&'static str, Value)>,
    pub answers: VecDeque<Answer>,
    /// What it answers when `answers` is empty.
    pub usual: Option<Answer>,
    /// While this is set, it is not there.
    pub down: Arc<AtomicBool>,
    /// Doors that it does not have, though others of its kind do.
    pub lacks: &'static [&'static str],
}

impl Program {
    /// One that speaks like OpenAI's and says no more about itself.
    pub fn openai(answers: impl IntoIterator<Item = Answer>) -> Self {
        let models = json!({"object": "list", "data": [{"id": "tiny", "object": "model"}]});
        Self {
            facts: vec![("/v1/models", models)],
            answers: answers.into_iter().collect(),
            usual: Some(stream(&["Hello", " world."], "stop")),
            ..Self::default()
        }
    }

    /// A KoboldCpp.
    pub fn koboldcpp(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            facts: vec![
                ("/api/latest/model", json!({"result": "koboldcpp/tiny"})),
                (
                    "/api/extra/version",
                    json!({"result": "KoboldCpp", "version": "1.90"}),
                ),
                ("/api/extra/true_max_context_length", json!({"value": 90})),
                ("/api/v1/config/max_length", json!({"value": 40})),
                (SOFT_PROMPT, json!({"value": "old"})),
                (
                    "/api/latest/config/soft_prompts_list",
                    json!({"values": [{"value": "old"}, {"value": "new"}]}),
                ),
            ],
            answers: answers.into_iter().collect(),
            usual: Some(tokens(&[" a", " time."], Some("stop"))),
            ..Self::default()
        }
    }

    /// A llama.cpp, with a model that sees or not.
    pub fn llamacpp(vision: bool, answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut program = Self::openai(answers);
        let props = json!({
            "default_generation_settings": {"n_ctx": 4096},
            "modalities": {"vision": vision, "audio": false},
        });
        program.facts.push(("/props", props));
        program
    }

    /// One that does not stream, and says so.
    pub fn unstreamed(self) -> Self {
        Self {
            usual: Some(Answer::json(
                200,
                &json!({"results": [{"text": " a time."}]}),
            )),
            lacks: &[STREAM],
            ..self
        }
    }

    fn answer(&mut self, seen: &Seen) -> Answer {
        if self.down.load(Ordering::Relaxed) {
            return Answer::hang_up();
        }
        if self.lacks.iter().any(|door| seen.is("POST", door)) {
            return Answer::json(404, &json!({"detail": "Not Found"}));
        }
        if [COMPLETIONS, COMPLETION, CHAT, GENERATE, STREAM]
            .iter()
            .any(|path| seen.is("POST", path))
        {
            let next = self.answers.pop_front();
            return next.or_else(|| self.usual.clone()).unwrap();
        }
        if seen.method != "GET" && !seen.is("POST", CHECK) {
            return Answer::json(200, &json!({}));
        }
        let method = seen.method.as_str();
        let fact = self.facts.iter().find(|(path, _)| seen.is(method, path));
        fact.map_or_else(
            || Answer::json(404, &json!({"detail": "Not Found"})),
            |(_, value)| Answer::json(200, value),
        )
    }
}

/// A text in pieces, as it is streamed.
pub fn stream(pieces: &[&str], reason: &str) -> Answer {
    let event = |text: &str, reason: Option<&str>| {
        let event = json!({"choices": [{"index": 0, "text": text, "finish_reason": reason}]});
        format!("data: {event}\n\n")
    };
    let texts: String = pieces.iter().map(|piece| event(piece, None)).collect();
    let last = event("", Some(reason));
    let body = format!(": a comment\n\n{texts}{last}data: [DONE]\n\n");
    Answer::bytes(200, body.into_bytes()).with("content-type", "text/event-stream; charset=utf-8")
}

/// A text in pieces, as KoboldCpp streams it. Old ones end without a reason.
pub fn tokens(pieces: &[&str], reason: Option<&str>) -> Answer {
    let event = |text: &str, reason: Option<&str>| {
        let event = json!({"token": text, "finish_reason": reason});
        format!("event: message\ndata: {event}\n\n")
    };
    let texts: String = pieces.iter().map(|piece| event(piece, None)).collect();
    let last = reason.map(|reason| event("", Some(reason)));
    let body = texts + &last.unwrap_or_default();
    Answer::bytes(200, body.into_bytes()).with("content-type", "text/event-stream")
}

/// A program, a scribe and a horde.
pub struct TextRig {
    pub horde: FakeHorde,
    pub program: TestServer,
    pub shutdown: Shutdown,
    pub status: watch::Receiver<Status>,
    worker: JoinSet<Result<Status, RunError>>,
}

/// Waits that end soon.
fn hasty() -> RemoteTiming {
    let soon = Duration::from_millis(1);
    RemoteTiming {
        probe_down: soon,
        retry: soon,
        stall: Duration::from_millis(100),
        soft_prompt: soon,
        ..RemoteTiming::default()
    }
}

pub async fn serve(program: Program) -> TestServer {
    let program = Mutex::new(program);
    TestServer::start(move |seen| program.lock().unwrap().answer(seen)).await
}

pub fn options(program: &TestServer) -> RemoteOptions {
    RemoteOptions {
        key: Some("ENGINEKEY".to_owned()),
        timing: hasty(),
        ..RemoteOptions::new(&program.url)
    }
}

pub fn openai(program: &TestServer, mode: OpenAiMode) -> Arc<dyn TextEngine> {
    Arc::new(OpenAiEngine::new(&options(program), mode, Handle::current()).unwrap())
}

pub fn kobold(program: &TestServer) -> Arc<dyn TextEngine> {
    Arc::new(KoboldEngine::new(&options(program), Handle::current()).unwrap())
}

impl TextRig {
    /// A scribe with a program that speaks like OpenAI's.
    pub async fn openai(horde: FakeHorde, program: Program) -> Self {
        let program = serve(program).await;
        let engine = openai(&program, OpenAiMode::Completions);
        let config = config(&horde);
        Self::start(horde, program, engine, config)
    }

    /// A scribe with a program that speaks like KoboldAI.
    pub async fn kobold(horde: FakeHorde, program: Program) -> Self {
        let program = serve(program).await;
        let engine = kobold(&program);
        let config = config(&horde);
        Self::start(horde, program, engine, config)
    }

    pub fn start(
        horde: FakeHorde,
        program: TestServer,
        engine: Arc<dyn TextEngine>,
        config: Config,
    ) -> Self {
        logs::record();
        let shutdown = Shutdown::new();
        let (sender, status) = watch::channel(Status::default());
        let engines = Engines {
            text: Some(engine),
            ..Engines::default()
        };
        let mut worker = JoinSet::new();
        worker.spawn(ordu_worker::run(config, engines, shutdown.clone(), sender));
        Self {
            horde,
            program,
            shutdown,
            status,
            worker,
        }
    }

    pub async fn until(&mut self, holds: impl FnMut(&Status) -> bool) -> Status {
        let found = within(self.status.wait_for(holds)).await;
        found.expect("the worker ended before").clone()
    }

    /// Waits until so many jobs have ended.
    pub async fn ended(&mut self, jobs: u64) -> Status {
        self.until(|status| status.done + status.faulted + status.lost >= jobs)
            .await
    }

    /// The bodies that came to one path of the program.
    pub fn tasks(&self, path: &str) -> Vec<Value> {
        let seen = self.program.seen_at("POST", path);
        seen.iter().map(Seen::json).collect()
    }

    pub async fn end(&mut self) -> Result<Status, RunError> {
        within(self.worker.join_next()).await.unwrap().unwrap()
    }

    pub async fn stop(mut self) -> Status {
        self.shutdown.escalate();
        self.end().await.unwrap()
    }
}
