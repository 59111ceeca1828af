//! From nothing to a text, with a program that speaks as the public documentation says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::program::{Running, Worker, ordu, run, run_json, text};

const KOBOLD_STREAM: &str = "/api/extra/generate/stream";

/// A program that goes on with "and they lived." whatever it is asked, until the test ends.
pub(crate) fn program() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    url
}

/// The same, but after the first words it waits until it is told to go on.
fn slow_program() -> (String, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (go_on, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some((path, _, mut stream)) = read(stream.unwrap()) else {
                continue;
            };
            let (status, kind, answer) = respond(&path);
            let head = format!("HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut rest = answer.as_str();
            if ["/v1/completions", KOBOLD_STREAM].contains(&path.as_str()) {
                let (first, others) = answer.split_at(answer.find("\n\n").unwrap() + 2);
                stream.write_all(first.as_bytes()).unwrap();
                told.recv().unwrap();
                rest = others;
            }
            // A client that has read enough may be gone.
            let _ = stream.write_all(rest.as_bytes());
        }
    });
    (url, go_on)
}

/// What a program writes.
const PIECES: [&str; 3] = [" and they", " lived.\n", "\nThe end"];

/// Reads a request; answers its path and body.
pub(crate) fn read(stream: TcpStream) -> Option<(String, Vec<u8>, TcpStream)> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        head.push(line);
    }
    let first = head.first()?;
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    Some((path, body, reader.into_inner()))
}

fn answer(stream: TcpStream) {
    if let Some((path, _, stream)) = read(stream) {
        reply(stream, respond(&path));
    }
}

/// Answers a request with status, kind and body.
pub(crate) fn reply(mut stream: TcpStream, (status, kind, answer): (u16, &str, String)) {
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    // A client that has read enough may be gone.
    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
}

fn respond(path: &str) -> (u16, &'static str, String) {
    let json = |value: Value| (200, "application/json", value.to_string());
    match path {
        "/v1/models" => json(json!({"data": [{"id": "org_tiny"}]})),
        "/v1/completions" => {
            let events = PIECES.map(|piece| {
                let event = json!({"choices": [{"text": piece, "finish_reason": null}]});
                format!("data: {event}\n\n")
            });
            let body = format!("{}data: [DONE]\n\n", events.concat());
            (200, "text/event-stream", body)
        }
        "/api/latest/model" => json(json!({"result": "koboldcpp/tiny"})),
        "/api/extra/version" => json(json!({"result": "KoboldCpp", "version": "2025.06.03"})),
        "/api/latest/generate" => json(json!({"results": [{"text": PIECES.concat()}]})),
        KOBOLD_STREAM => {
            let event = |token: &str, reason: Option<&str>| {
                let event = json!({"token": token, "finish_reason": reason});
                format!("event: message\ndata: {event}\n\n")
            };
            let events = PIECES.map(|piece| event(piece, None)).concat();
            let body = events + &event("", Some("length"));
            (200, "text/event-stream", body)
        }
        // A ComfyUI without most of its nodes.
        "/system_stats" => json(json!({"system": {"comfyui_version": "1"}, "devices": []})),
        "/object_info" => json(json!({"KSampler": {"input": {"required": {}}}})),
        _ => (404, "application/json", "{}".to_owned()),
    }
}

#[test]
fn one_command_starts_a_horde_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    let engine = format!("openai={}", program());
    let arguments = [
        "write",
        "Once upon a time",
        "--engine",
        &engine,
        "--stop",
        "\n\n",
        "--data",
        "data",
    ];
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), " and they lived.\n\n\n");
    assert!(text(&output.stderr).contains("starting one for this call"));
}

#[test]
fn a_scribe_serves_a_horde() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker"]);
    for (engine, model) in [("openai", "org/tiny"), ("kobold", "koboldcpp/tiny")] {
        let engine = format!("{engine}={}", program());
        let worker = Worker::start(
            folder.path(),
            &[
                "--scribe",
                "--engine",
                &engine,
                "--unbranded-model",
                "--name",
                model,
            ],
        );
        let answer = run_json(
            folder.path(),
            &[
                "write", "Once", "--json", "--data", "data", "--model", model, "--trim",
            ],
        );
        let texts = answer["texts"].as_array().unwrap();
        assert_eq!(texts.len(), 1);
        assert_eq!(texts[0]["text"], " and they lived.");
        assert_eq!(
            (&texts[0]["model"], &texts[0]["worker"]),
            (&json!(model), &json!(model))
        );
        assert_eq!(worker.terminate(), Some(0));
    }
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_text_is_printed_as_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker"]);
    for name in ["openai", "kobold"] {
        let (program, go_on) = slow_program();
        let engine = format!("{name}={program}");
        let scribe = ["--scribe", "--engine", &engine, "--name", name];
        let worker = Worker::start(folder.path(), &scribe);
        stream(folder.path(), &go_on);
        // It waits for the next job, and stops all the same.
        assert_eq!(worker.terminate(), Some(0));
    }
    assert_eq!(server.terminate(), Some(0));
}

/// Asks for a text that waits in the middle until it is told to go on.
fn stream(folder: &Path, go_on: &mpsc::Sender<()>) {
    let mut command = ordu(folder);
    command.args([
        "write", "Once", "--stream", "--stop", "\n\n", "--data", "data",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 9];
    out.read_exact(&mut first).unwrap();
    assert_eq!(
        text(&first),
        " and they",
        "before the program has written more"
    );
    go_on.send(()).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " lived.\n\n\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        text(&output.stderr)
    };
    let work = ["work", "--api-key", "0123456789abcdefghijkl"];
    let comfyui = ["--engine", "comfyui=http://127.0.0.1:1"];
    let without = told(&[&work[..], &["--scribe"], &comfyui].concat());
    assert!(without.contains("--engine openai=URL"), "{without}");
    let comfyui = ["--engine", "comfyui=http://["];
    let unusable = told(&[&work[..], &comfyui].concat());
    assert!(unusable.contains("`--engine` is unusable"), "{unusable}");
    let nowhere = ["--safety", "ftp://127.0.0.1:1"];
    let unsafe_ = told(&[&work[..], &nowhere].concat());
    assert!(unsafe_.contains("`--safety` is unusable"), "{unsafe_}");
    std::fs::write(folder.path().join("damaged.gguf"), b"GGUF\x03\0\0\0").unwrap();
    let damaged = ["--scribe", "--text-model", "damaged.gguf"];
    let damaged = told(&[&work[..], &damaged].concat());
    assert!(damaged.contains("damaged.gguf"), "{damaged}");
    assert!(damaged.contains("breaks off"), "{damaged}");
    let unused = [
        "--scribe",
        "--engine",
        "openai=http://127.0.0.1:1",
        "--text-model",
        "x.gguf",
    ];
    let unused = told(&[&work[..], &unused].concat());
    assert!(unused.contains("`--text-model` is for"), "{unused}");
}

#[test]
fn one_command_writes_with_what_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["write", "A red circle", "--data", "data"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let story = text(&output.stdout);
    assert!(story.contains("red circle"), "{story}");
}

#[test]
fn a_horde_of_one_writes_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up"]);
    // Text and picture at once, from one process of the engine.
    let picture = std::thread::scope(|scope| {
        let drawn = scope.spawn(|| {
            let wanted = "a large red circle at the center on a blue background";
            run(
                folder.path(),
                &["imagine", wanted, "--data", "data", "--out", "circle.png"],
            )
        });
        let answer = run_json(
            folder.path(),
            &[
                "write",
                "A large blue cross",
                "--data",
                "data",
                "--json",
                "-n",
                "2",
            ],
        );
        let texts = answer["texts"].as_array().unwrap();
        assert_eq!(texts.len(), 2);
        for written in texts {
            let story = written["text"].as_str().unwrap();
            assert!(story.contains("blue cross"), "{story}");
            assert_eq!(written["model"], "ordu/ordu-tiny-text");
        }
        drawn.join().unwrap()
    });
    assert!(picture.status.success(), "{}", text(&picture.stderr));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_scribe_writes_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../ordu-engine/testdata/texts");
    let file = folder.path().join("model.gguf");
    std::fs::copy(format!("{models}/qwen2.gguf"), &file).unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker"]);
    let worker = Worker::start(
        folder.path(),
        &[
            "--scribe",
            "--text-model",
            "model.gguf",
            "--unbranded-model",
        ],
    );
    // The model was made for 128 tokens.
    let answer = run_json(
        folder.path(),
        &[
            "write",
            "the red",
            "--json",
            "--data",
            "data",
            "--model",
            "tiny-qwen2",
            "--max-length",
            "16",
            "--max-context-length",
            "100",
        ],
    );
    assert_eq!(answer["texts"].as_array().unwrap().len(), 1);
    assert_eq!(worker.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
}
