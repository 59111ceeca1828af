//! The bundled text model does what it was made for.

use ordu_engine::gates::stories::{Grammar, stories};
use ordu_engine::{NativeText, NativeTextOptions, Quiet, TextEngine as _, TextTask};

fn engine() -> NativeText {
    NativeText::open(&NativeTextOptions::default()).unwrap()
}

#[test]
fn it_tells_stories_about_what_it_is_asked_for() {
    let report = stories(&engine(), 100).unwrap();
    assert!(report.passed(), "{report:?}");
}

#[test]
fn it_begins_at_the_beginning_too() {
    let task = TextTask {
        prompt: "Once upon a time".to_owned(),
        max_length: 120,
        max_context_length: 1024,
        seed: Some(1),
        ..TextTask::default()
    };
    let text = engine().write(&task, &Quiet).unwrap().text;
    let story = format!("{}{text}", task.prompt);
    assert!(
        Grammar::bundled().unwrap().read(&story).is_some(),
        "{story}"
    );
}

#[test]
fn it_is_small() {
    assert!(engine().bytes() < 1_500_000);
}
