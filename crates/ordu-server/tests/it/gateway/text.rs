//! Texts, whole and as they come.

use std::future::Future;

use ordu_api::event::JobProgress;
use ordu_api::image::Steps;
use ordu_api::text::{TextJob, TextSubmit};
use ordu_api::{ApiKey, JobId};
use ordu_client::Horde;
use serde_json::{Value, json};

use super::{get, post, posting, scribe};
use crate::support::{Answer, TestHorde, soon, text_pop, written};

const MODEL: &str = "a/Qwen-writer";

/// A horde with a scribe.
struct Desk {
    horde: TestHorde,
    worker: Horde,
}

impl Desk {
    async fn start() -> Self {
        let horde = TestHorde::start().await;
        let owner: ApiKey = scribe(&horde, &[MODEL]).await;
        let worker = horde.client(&owner);
        Self { horde, worker }
    }

    /// The next job, as soon as there is one.
    async fn job(&self) -> TextJob {
        let mut pop = text_pop("scribe");
        pop.models = vec![MODEL.to_owned()];
        pop.amount = 4;
        soon(async {
            loop {
                let job = self.worker.pop_text(&pop).await.unwrap();
                if job.id.is_some() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    async fn submit(&self, job: JobId, text: &str) {
        let text = TextSubmit {
            generation: text.to_owned(),
            ..written(job)
        };
        self.worker.submit_text(&text).await.unwrap();
    }

    async fn report(&self, job: JobId, step: u32, text: &str) {
        self.horde.later(1);
        let progress = JobProgress {
            id: job.to_string(),
            steps: Steps { step, of: 512 },
            text: Some(text.to_owned()),
            preview: None,
        };
        assert!(
            self.worker
                .report_progress(&progress)
                .await
                .unwrap()
                .watched
        );
    }

    /// Asks, and has the worker answer each of its jobs with a text.
    async fn ask(&self, path: &str, body: &Value, texts: &[&str]) -> (Answer, TextJob) {
        let work = async {
            let job = self.job().await;
            for (id, text) in job.ids.iter().zip(texts) {
                self.submit(*id, text).await;
            }
            job
        };
        soon(async { tokio::join!(post(&self.horde, path, body), work) }).await
    }
}

fn say(text: &str) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

#[tokio::test]
async fn a_conversation_goes_on() {
    let desk = Desk::start().await;
    let body = json!({
        "model": "qwen-WRITER", "max_tokens": 100, "temperature": 0.5, "stop": "END", "seed": 3,
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
    });
    let (answer, job) = desk
        .ask("/chat/completions", &body, &["\nHello you END and more"])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let payload = &job.payload;
    let prompt = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
                  <|im_start|>assistant\n";
    assert_eq!(payload.prompt.as_deref(), Some(prompt));
    assert_eq!(
        (payload.params.max_length, payload.params.temperature),
        (Some(100), Some(0.5))
    );
    let stops = payload.params.stop_sequence.clone().unwrap();
    assert_eq!(stops, ["END", "<|im_end|>", "<|im_start|>"]);
    let body = &answer.body;
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("chat.completion"), &json!(MODEL))
    );
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(
        body["choices"],
        json!([{
            "index": 0, "message": {"role": "assistant", "content": "Hello you", "refusal": null},
            "logprobs": null, "finish_reason": "stop",
        }])
    );
    let usage = &body["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 10, "{usage}");
    assert_eq!(
        usage["completion_tokens"], 6,
        "of all that was written: {usage}"
    );
}

#[tokio::test]
async fn several_texts_come_in_the_order_they_are_numbered() {
    let desk = Desk::start().await;
    let body = json!({"model": "any", "prompt": "One", "n": 2, "echo": true, "max_tokens": 3});
    let (answer, job) = desk
        .ask("/completions", &body, &[" two", " three and a half"])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Less cannot be asked for: the rest is cut off.
    assert_eq!(job.payload.params.max_length, Some(16));
    let choices = answer.body["choices"].as_array().unwrap();
    let shown = |at: usize| {
        (
            choices[at]["text"].clone(),
            choices[at]["finish_reason"].clone(),
        )
    };
    assert_eq!(shown(0), (json!("One two"), json!("stop")));
    assert_eq!(shown(1), (json!("One three and a"), json!("length")));
}

#[tokio::test]
async fn several_prompts_are_several_requests() {
    let desk = Desk::start().await;
    let body = json!({"model": MODEL, "prompt": ["one", "two"]});
    let work = async {
        for _ in 0..2 {
            let job = desk.job().await;
            let text = format!(" after {}", job.payload.prompt.clone().unwrap());
            desk.submit(job.id.unwrap(), &text).await;
        }
    };
    let (answer, ()) =
        soon(async { tokio::join!(post(&desk.horde, "/completions", &body), work) }).await;
    let choices = answer.body["choices"].as_array().unwrap();
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, [" after one", " after two"]);
}

/// The data of a stream to its end.
async fn stream(desk: &Desk, path: &str, body: &Value) -> Vec<String> {
    let response = posting(&desk.horde, path, body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(str::to_owned).collect()
}

/// The texts of a stream, and what its last line but `[DONE]` says.
async fn read_stream(
    desk: &Desk,
    body: &Value,
    work: impl Future<Output = ()>,
) -> (Vec<Value>, Value) {
    let body = with(
        body.clone(),
        &json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let (mut lines, ()) =
        soon(async { tokio::join!(stream(desk, "/chat/completions", &body), work) }).await;
    assert_eq!(lines.pop().unwrap(), "[DONE]");
    let mut chunks: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = chunks.pop().unwrap();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
    (chunks, last)
}

#[tokio::test]
async fn a_text_streams_and_its_stop_is_never_seen() {
    let desk = Desk::start().await;
    let work = async {
        let job = desk.job().await.id.unwrap();
        desk.report(job, 2, "\nHello <|im").await;
        desk.report(job, 4, "\nHello you<").await;
        desk.report(job, 6, "\nHello you<|im_end|>").await;
        desk.submit(job, "\nHello you<|im_end|>").await;
    };
    let (chunks, last) = read_stream(&desk, &say("Hi"), work).await;
    let deltas: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    assert_eq!(*deltas[0], json!({"role": "assistant", "content": ""}));
    let text: String = deltas
        .iter()
        .filter_map(|delta| delta["content"].as_str())
        .collect();
    assert_eq!(text, "Hello you");
    assert!(deltas.len() >= 4, "it came in pieces: {deltas:?}");
    let end = chunks.last().unwrap();
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 6);
}

#[tokio::test]
async fn a_text_that_nobody_reports_streams_in_one_piece() {
    let desk = Desk::start().await;
    let work = async {
        let job = desk.job().await.id.unwrap();
        desk.submit(job, " Hello").await;
    };
    let (chunks, _) = read_stream(&desk, &say("Hi"), work).await;
    let text = |chunk: &Value| chunk["choices"][0]["delta"]["content"].clone();
    assert_eq!(
        chunks.iter().map(text).collect::<Vec<_>>(),
        [json!(""), json!("Hello"), json!(null)]
    );
}

#[tokio::test]
async fn who_hangs_up_cancels() {
    let desk = Desk::start().await;
    let body = with(say("Hi"), &json!({"stream": true}));
    let response = posting(&desk.horde, "/chat/completions", &body)
        .send()
        .await
        .unwrap();
    let job = desk.job().await.id.unwrap();
    desk.report(job, 2, "Hello").await;
    drop(response);
    // The worker learns of it when it hands its text in.
    soon(async {
        nobody_waits(&desk).await;
        while is_running(&desk, job).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// However far a call came, what it asked for is not left behind.
#[tokio::test]
async fn who_hangs_up_at_once_cancels_too() {
    let desk = Desk::start().await;
    let body = with(say("Hi"), &json!({"stream": true}));
    for polls in 1..40 {
        let call = posting(&desk.horde, "/chat/completions", &body).send();
        let mut call = Box::pin(call);
        for _ in 0..polls {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    soon(nobody_waits(&desk)).await;
}

/// Returns when the queue is empty.
async fn nobody_waits(desk: &Desk) {
    loop {
        let load = desk.horde.get("/status/performance").await.body;
        if load["queued_text_requests"] == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Whether somebody still looks after a job.
async fn is_running(desk: &Desk, job: JobId) -> bool {
    desk.horde.later(1);
    let progress = JobProgress {
        id: job.to_string(),
        steps: Steps { step: 1, of: 512 },
        text: None,
        preview: None,
    };
    match desk.worker.report_progress(&progress).await {
        Ok(heard) => heard.watched,
        Err(_) => false,
    }
}

#[tokio::test]
async fn what_the_horde_cannot_do_is_said() {
    let desk = Desk::start().await;
    for (more, param) in [
        (json!({"tools": [{"type": "function"}]}), "tools"),
        (json!({"logprobs": true}), "logprobs"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
        ),
        (json!({"n": 21}), "n"),
        (json!({"n": "many"}), "n"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stream": 1}), "stream"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": null}), "messages"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "king", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "sound"}]}]}),
            "messages[0].content[0]",
        ),
        (
            json!({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]}]}),
            "messages",
        ),
    ] {
        let answer = post(&desk.horde, "/chat/completions", &with(say("Hi"), &more)).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        assert_eq!(
            answer.body["error"]["param"], param,
            "{more}: {}",
            answer.body
        );
    }
    let unknown = with(say("Hi"), &json!({"model": "gpt-4o"}));
    let answer = post(&desk.horde, "/chat/completions", &unknown).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert!(
        answer.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains(MODEL)
    );
}

#[tokio::test]
async fn what_is_null_or_unknown_does_no_harm() {
    let desk = Desk::start().await;
    let more = json!({
        "tools": [], "tool_choice": "none", "stop": null, "n": null, "stream": null, "user": "me",
        "logit_bias": {}, "response_format": {"type": "text"}, "parallel_tool_calls": false,
        "max_completion_tokens": 100_000, "presence_penalty": 1, "top_p": 0, "x": [1],
    });
    let body = with(say("Hi"), &more);
    let (answer, job) = desk.ask("/chat/completions", &body, &["Hello"]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // As long as the worker can.
    assert_eq!(job.payload.params.max_length, Some(512));
    assert_eq!(job.payload.params.rep_pen, Some(1.075));
    assert_eq!(job.payload.params.top_p, Some(0.001));
}

#[tokio::test]
async fn a_withheld_text_says_so() {
    let desk = Desk::start().await;
    let work = async {
        let job = desk.job().await.id.unwrap();
        let text: TextSubmit = serde_json::from_value(json!({
            "id": job, "generation": "", "state": "csam", "seed": 1,
            "gen_metadata": [{"type": "censorship", "value": "csam"}],
        }))
        .unwrap();
        desk.worker.submit_text(&text).await.unwrap();
    };
    let body = say("Hi");
    let asking = post(&desk.horde, "/chat/completions", &body);
    let (answer, ()) = soon(Box::pin(async { tokio::join!(asking, work) })).await;
    assert_eq!(answer.body["choices"][0]["finish_reason"], "content_filter");
}

#[tokio::test]
async fn a_model_is_known_by_what_moderators_wrote() {
    let desk = Desk::start().await;
    let moderator = desk
        .horde
        .mint("moderator", json!({"moderator": true}))
        .await;
    let key = moderator.api_key.reveal().to_owned();
    let path = format!("/operations/models/{}?type=text", MODEL.replace('/', "%2F"));
    let entry = json!({"parameters": 7e9, "instruct_format": "Alpaca"});
    let put = desk
        .horde
        .call(reqwest::Method::PUT, &path, Some(&key), Some(&entry))
        .await;
    assert_eq!(put.status, 200, "{}", put.body);
    let (_, job) = desk.ask("/chat/completions", &say("Hi"), &["Hello"]).await;
    let prompt = "### Instruction:\nHi\n\n### Response:\n";
    assert_eq!(job.payload.prompt.as_deref(), Some(prompt));
    assert_eq!(get(&desk.horde, "/models").await.status, 200);
}
