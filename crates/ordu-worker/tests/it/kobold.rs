//! Texts from programs that speak like KoboldAI: streamed, looked at, or at once.

use std::sync::Mutex;

use ordu_engine::{Finish, Format, ProgressSink, Step, Text, TextError, TextTask};
use serde_json::json;

use crate::support::http::{Answer, TestServer};
use crate::support::within;
use crate::support::writer::{ABORT, CHECK, GENERATE, Program, STREAM, kobold, serve, tokens};

/// Remembers what it hears, and has enough when a text has come so far.
#[derive(Default)]
struct Listener {
    texts: Mutex<Vec<String>>,
    steps: Mutex<Vec<u32>>,
    enough: Option<&'static str>,
}

impl ProgressSink for Listener {
    fn step(&self, step: Step) {
        self.steps.lock().unwrap().push(step.step);
    }

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&self, so_far: &str) {
        self.texts.lock().unwrap().push(so_far.to_owned());
    }

    fn cancelled(&self) -> bool {
        let texts = self.texts.lock().unwrap();
        texts.last().map(String::as_str) == self.enough && self.enough.is_some()
    }
}

struct Heard {
    written: Result<Text, TextError>,
    texts: Vec<String>,
    steps: Vec<u32>,
}

async fn write(program: &TestServer, task: &TextTask, enough: Option<&'static str>) -> Heard {
    let engine = kobold(program);
    let task = task.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let listener = Listener {
            enough,
            ..Listener::default()
        };
        let written = engine.write(&task, &listener);
        Heard {
            written,
            texts: listener.texts.into_inner().unwrap(),
            steps: listener.steps.into_inner().unwrap(),
        }
    });
    within(asked).await.unwrap()
}

fn task(stops: &[&str]) -> TextTask {
    TextTask {
        prompt: "Once upon".to_owned(),
        max_length: 20,
        max_context_length: 80,
        stop_sequence: stops.iter().map(|stop| (*stop).to_owned()).collect(),
        ..TextTask::default()
    }
}

#[tokio::test]
async fn a_text_is_heard_as_it_comes() {
    let answer = tokens(&[" a", " ti", "me. And"], Some("length"));
    let program = serve(Program::koboldcpp([answer])).await;
    let mut wanted = task(&[]);
    wanted.format = Format {
        trim_incomplete: Some(true),
        ..Format::default()
    };
    let heard = write(&program, &wanted, None).await;
    let text = heard.written.unwrap();
    assert_eq!(
        (text.text.as_str(), text.finish),
        (" a time.", Finish::Length)
    );
    assert_eq!(heard.texts, ["", "", " a time."]);
    assert_eq!(heard.steps, [1, 2, 3]);
    assert!(program.seen_at("POST", GENERATE).is_empty());
    let told = program.seen_at("POST", STREAM)[0].json();
    assert_eq!(told.get("trim_stop"), None, "there is none to trim");
}

#[tokio::test]
async fn a_stop_sequence_stays_and_what_is_behind_it_goes() {
    let answer = tokens(&[" a\nUs", "er: I", " say"], Some("stop"));
    let program = serve(Program::koboldcpp([answer])).await;
    let heard = write(&program, &task(&["\nUser:"]), None).await;
    let text = heard.written.unwrap();
    assert_eq!(
        (text.text.as_str(), text.finish),
        (" a\nUser:", Finish::Stop)
    );
}

#[tokio::test]
async fn an_old_stream_that_just_ends_is_a_text() {
    let program = serve(Program::koboldcpp([tokens(&[" a", " time"], None)])).await;
    let text = write(&program, &task(&[]), None).await.written.unwrap();
    assert_eq!(
        (text.text.as_str(), text.finish),
        (" a time", Finish::Unknown)
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_begun_again() {
    let answers = [tokens(&[" bro"], Some("error")), tokens(&[], None)];
    let program = serve(Program::koboldcpp(answers)).await;
    let text = write(&program, &task(&[]), None).await.written.unwrap();
    assert_eq!(text.text, " a time.");
    assert_eq!(program.seen_at("POST", STREAM).len(), 3);
}

#[tokio::test]
async fn a_stream_that_halts_is_left_and_aborted() {
    let stuck = tokens(&[" a"], None).hanging();
    let program = serve(Program::koboldcpp([stuck])).await;
    let heard = write(&program, &task(&[]), None).await;
    assert!(matches!(heard.written, Err(TextError::Stalled { .. })));
    let aborted = within(program.wait_for("POST", ABORT, 1)).await;
    let key = &program.seen_at("POST", STREAM)[0].json()["genkey"];
    assert_eq!(&aborted[0].json()["genkey"], key);
}

#[tokio::test]
async fn a_program_that_does_not_stream_is_asked_once() {
    let program = serve(Program::koboldcpp([]).unstreamed()).await;
    let engine = kobold(&program);
    for _ in 0..2 {
        let (engine, task) = (engine.clone(), task(&[]));
        let asked = tokio::task::spawn_blocking(move || engine.write(&task, &Listener::default()));
        assert_eq!(within(asked).await.unwrap().unwrap().text, " a time.");
    }
    assert_eq!(program.seen_at("POST", STREAM).len(), 1);
    assert_eq!(program.seen_at("POST", GENERATE).len(), 2);
}

#[tokio::test]
async fn a_text_that_does_not_stream_is_looked_at() {
    let mut kept = Program::koboldcpp([Answer::json(200, &json!({})).hanging()]).unstreamed();
    let so_far = json!({"results": [{"text": " a long ti"}]});
    kept.facts.push((CHECK, so_far));
    let program = serve(kept).await;
    let heard = write(&program, &task(&[]), Some(" a long ti")).await;
    assert!(matches!(heard.written, Err(TextError::Cancelled)));
    assert_eq!(heard.steps.first(), Some(&3), "as many as there are words");
    let key = program.seen_at("POST", GENERATE)[0].json()["genkey"].clone();
    assert!(key.is_string());
    assert_eq!(
        program.seen_at("POST", CHECK)[0].json(),
        json!({"genkey": key})
    );
    within(program.wait_for("POST", ABORT, 1)).await;
}

#[tokio::test]
async fn a_program_without_keys_is_told_of_none() {
    let mut united = Program::koboldcpp([]).unstreamed();
    united
        .facts
        .retain(|(path, _)| !path.starts_with("/api/extra"));
    let program = serve(united).await;
    let heard = write(&program, &task(&["END"]), None).await;
    assert_eq!(heard.written.unwrap().text, " a time.");
    let told = program.seen_at("POST", GENERATE)[0].json();
    assert_eq!((told.get("genkey"), told.get("trim_stop")), (None, None));
    assert!(program.seen_at("POST", CHECK).is_empty());
}
