//! A conversation about a picture: from OpenAI's words over a horde to those of llama.cpp, and back.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::program::{Running, Worker};
use crate::write::{read, reply};

/// A red dot.
const DOT: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A llama.cpp with a model that sees, and what it is asked to complete.
fn llama() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some((path, body, stream)) = read(stream.unwrap()) else {
                continue;
            };
            if path == "/completion" {
                tell.send(serde_json::from_slice(&body).unwrap()).unwrap();
            }
            reply(stream, respond(&path));
        }
    });
    (url, told)
}

fn respond(path: &str) -> (u16, &'static str, String) {
    let json = |value: Value| (200, "application/json", value.to_string());
    match path {
        "/v1/models" => json(json!({"data": [{"id": "org_tiny-qwen"}]})),
        "/props" => json(json!({
            "default_generation_settings": {"n_ctx": 4096},
            "modalities": {"vision": true, "audio": false},
            "media_marker": "<__media_1234__>",
        })),
        "/completion" => {
            let events = [
                json!({"content": "A red", "stop": false}),
                json!({"content": " dot.", "stop": false}),
                json!({"content": "", "stop": true, "stop_type": "eos"}),
            ];
            let events = events.map(|event| format!("data: {event}\n\n"));
            (200, "text/event-stream", events.concat())
        }
        _ => (404, "application/json", "{}".to_owned()),
    }
}

#[tokio::test]
async fn a_picture_reaches_a_program_that_sees() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker", "--no-rate-limits"]);
    let (program, told) = llama();
    let engine = format!("openai={program}");
    let arguments = ["--scribe", "--engine", &engine, "--unbranded-model"];
    let worker = Worker::start(folder.path(), &arguments);
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}/v1/{path}", server.url);
    loop {
        let asked = http.get(url("models")).bearer_auth("0000000000");
        let models = asked.send().await.unwrap().bytes().await.unwrap();
        let models: Value = serde_json::from_slice(&models).unwrap();
        if models["data"][0]["vision"] == true {
            break;
        }
    }
    let question = json!({"model": "any", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is <__media_1234__> this?"},
        {"type": "image_url", "image_url": {"url": DOT, "detail": "low"}},
    ]}]});
    let asked = http
        .post(url("chat/completions"))
        .bearer_auth("0000000000")
        .header("content-type", "application/json")
        .body(question.to_string());
    let answer = asked.send().await.unwrap().bytes().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "A red dot.", "{answer}");
    assert_eq!(choice["finish_reason"], "stop");
    let task = told.recv().unwrap();
    let prompt = task["prompt"]["prompt_string"].as_str().unwrap();
    // The marker stands once: where the picture is, and not where somebody wrote it.
    assert!(
        prompt.contains("What is  this?\n<__media_1234__><|im_end|>"),
        "{prompt}"
    );
    assert_eq!(prompt.matches("<__media_1234__>").count(), 1, "{prompt}");
    let pictures = task["prompt"]["multimodal_data"].as_array().unwrap();
    assert_eq!(pictures.len(), 1);
    let jpeg = pictures[0].as_str().unwrap();
    assert!(jpeg.starts_with("/9j/"), "{jpeg}");
    assert_eq!(
        (&task["n_predict"], &task["stream"]),
        (&json!(512), &json!(true))
    );
    assert_eq!(worker.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
}
