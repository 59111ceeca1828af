//! From nothing to a text, with a program that speaks as the public documentation says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::program::{Running, Worker, ordu, run, run_json, text};

/// A program that goes on with "and they lived." whatever it is asked, until the test ends.
fn program() -> String {
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
            let Some((path, mut stream)) = read(stream.unwrap()) else {
                continue;
            };
            let (status, kind, answer) = respond(&path);
            let head = format!("HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut rest = answer.as_str();
            if path == "/v1/completions" {
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

/// Reads a request; answers its path.
fn read(stream: TcpStream) -> Option<(String, TcpStream)> {
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
    Some((path, reader.into_inner()))
}

fn answer(stream: TcpStream) {
    let Some((path, mut stream)) = read(stream) else {
        return;
    };
    let (status, kind, answer) = respond(&path);
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
            let pieces = [" and they", " lived.\n", "\nThe end"];
            let events = pieces.map(|piece| {
                let event = json!({"choices": [{"text": piece, "finish_reason": null}]});
                format!("data: {event}\n\n")
            });
            let body = format!("{}data: [DONE]\n\n", events.concat());
            (200, "text/event-stream", body)
        }
        "/api/latest/model" => json(json!({"result": "koboldcpp/tiny"})),
        "/api/latest/generate" => json(json!({"results": [{"text": " and they lived."}]})),
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
    let (program, go_on) = slow_program();
    let engine = format!("openai={program}");
    let scribe = ["--scribe", "--engine", &engine, "--name", "slow"];
    let worker = Worker::start(folder.path(), &scribe);
    let mut command = ordu(folder.path());
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
    // It waits for the next job, and stops all the same.
    assert_eq!(worker.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
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
    let without = told(&[&work[..], &["--scribe"]].concat());
    assert!(without.contains("--engine openai=URL"), "{without}");
    let comfyui = ["--engine", "comfyui=http://["];
    let unusable = told(&[&work[..], &comfyui].concat());
    assert!(unusable.contains("`--engine` is unusable"), "{unusable}");
    let nowhere = ["--safety", "ftp://127.0.0.1:1"];
    let unsafe_ = told(&[&work[..], &nowhere].concat());
    assert!(unsafe_.contains("`--safety` is unusable"), "{unsafe_}");
    // Nothing answers at the default address of a test: it names its own data folder.
    let write = told(&["write", "Once", "--data", "data"]);
    assert!(write.contains("needs an engine that writes"), "{write}");
}
