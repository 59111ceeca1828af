//! What the engine for texts must do, beside what llama.cpp makes of the same files.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::llama::Memory;
use super::*;
use crate::{Quiet, Sampling};

/// What llama.cpp made of a prompt: `training/parity/texts.py`.
#[derive(Deserialize)]
struct Case {
    prompt: String,
    tokens: Vec<u32>,
    #[serde(default)]
    logits: Vec<f32>,
    #[serde(default)]
    greedy: Vec<u32>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/texts")
}

fn cases(name: &str) -> Vec<Case> {
    let json = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn open(name: &str) -> NativeText {
    let model = Some(folder().join(format!("{name}.gguf")));
    NativeText::open(&NativeTextOptions {
        model,
        ..NativeTextOptions::default()
    })
    .unwrap()
}

fn bundled() -> NativeText {
    NativeText::open(&NativeTextOptions::default()).unwrap()
}

/// Tokens as llama.cpp has them, and logits within `tolerance` of the largest one.
fn check(engine: &NativeText, name: &str, tolerance: f32) {
    let decoder = engine.decoder().unwrap();
    for case in cases(name) {
        let begin = engine.tokenizer.begin();
        let text = engine.tokenizer.encode(&case.prompt);
        let tokens: Vec<u32> = begin.into_iter().chain(text).collect();
        assert_eq!(tokens, case.tokens, "{name}: {:?}", case.prompt);
        if tokens.is_empty() {
            continue;
        }
        let mut memory = Memory::new(&engine.config, tokens.len() + case.greedy.len()).unwrap();
        let mut read = |tokens: &[u32]| decoder.read(tokens, &mut memory, &|| true).unwrap();
        let mut logits = read(&tokens);
        let scale = case
            .logits
            .iter()
            .fold(0.0_f32, |most, x| most.max(x.abs()));
        let pairs = logits.iter().zip(&case.logits);
        let worst = pairs.fold(0.0_f32, |most, (ours, theirs)| {
            most.max((ours - theirs).abs())
        });
        let error = worst / scale;
        eprintln!("{name} {:?}: largest error {error:.1e}", case.prompt);
        assert_eq!(logits.len(), case.logits.len());
        assert!(error < tolerance, "{name} {:?}: {error:e}", case.prompt);
        for token in &case.greedy {
            // Among equals any may be the largest, and colours are nearly equals where a story has a choice.
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let behind = most - logits[usize::try_from(*token).unwrap()];
            assert!(behind <= tolerance * scale, "{name}: {behind}");
            logits = read(&[*token]);
        }
    }
}

/// For weights in f32.
const EXACT: f32 = 2e-5;
/// For functions that are tables there.
const TABLED: f32 = 5e-3;
/// For packed weights: activations are rounded there, and here not at all or in other blocks.
const ROUNDED: f32 = 5e-2;

#[test]
fn networks_compute_what_llama_cpp_does() {
    for name in ["llama", "llama-pressed", "llama3", "qwen2", "qwen3"] {
        check(&open(name), name, EXACT);
    }
    // Its GELUs are looked up in a table of 16 bits there.
    check(&open("gemma3"), "gemma3", TABLED);
    for name in ["llama-q4_0", "llama-q4_k"] {
        check(&open(name), name, ROUNDED);
    }
}

#[test]
fn the_bundled_model_writes_what_llama_cpp_does() {
    let engine = bundled();
    check(&engine, "ordu-tiny-text", ROUNDED);
    let text = engine.write(&cold("A red circle"), &Quiet).unwrap();
    assert_eq!(text.finish, Finish::Stop);
}

#[test]
fn reading_in_strides_is_reading_at_once() {
    for name in ["qwen3", "gemma3"] {
        read_in_strides(&open(name));
    }
}

fn read_in_strides(engine: &NativeText) {
    let decoder = engine.decoder().unwrap();
    let tokens: Vec<u32> = (0..40).collect();
    let read = |stride: usize| {
        let mut memory = Memory::new(&engine.config, tokens.len()).unwrap();
        let mut logits = Vec::new();
        for some in tokens.chunks(stride) {
            logits = decoder.read(some, &mut memory, &|| true).unwrap();
        }
        logits
    };
    let whole = read(40);
    for stride in [1, 7, 39] {
        let pairs = whole.iter().zip(read(stride));
        let worst = pairs.fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()));
        assert!(worst < 1e-4, "{stride}: {worst}");
    }
}

/// The tokens of a prompt that are still to be read, and the text.
fn unread_and_text(engine: &NativeText, prompt: &str) -> (usize, String) {
    let tokens = engine.prompt(prompt, engine.context, 30);
    let past = engine
        .kept
        .begin(&engine.config, &tokens, tokens.len() + 30);
    let past = past.unwrap();
    let unread = tokens.len() - past.len();
    engine.kept.keep(past);
    let task = TextTask {
        max_length: 30,
        ..cold(prompt)
    };
    (unread, engine.write(&task, &Quiet).unwrap().text)
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let engine = bundled();
    let first = "A large red circle was at the top left of a green field.";
    let (_, text) = unread_and_text(&engine, first);
    let turn = format!("{first}{text} A blue cross");
    let others = [&first[..40], "Once", first];
    for prompt in [&turn, first, &turn].into_iter().chain(others) {
        let (unread, text) = unread_and_text(&engine, prompt);
        let (all, fresh) = unread_and_text(&bundled(), prompt);
        assert_eq!(
            text, fresh,
            "{prompt:?} with {unread} of {all} tokens to read"
        );
        // This one has nothing in common with the others.
        let is_new = prompt == "Once";
        assert_eq!(unread == all, is_new, "{prompt:?}: {unread} of {all}");
    }
    let (unread, _) = unread_and_text(&engine, first);
    assert_eq!(unread, 1);
}

#[test]
fn what_was_read_takes_no_more_memory_than_allowed() {
    let per_token = bundled().config.bytes_per_token();
    let options = |tokens: u64| NativeTextOptions {
        memory_kept: per_token * tokens,
        ..NativeTextOptions::default()
    };
    let long = "A large red circle was at the top left of a green field.";
    for (tokens, is_kept) in [(0, false), (20, false), (1000, true)] {
        let engine = NativeText::open(&options(tokens)).unwrap();
        let prompt = engine.prompt(long, engine.context, 1);
        let begin = || engine.kept.begin(&engine.config, &prompt, 40).unwrap();
        let mut past = begin();
        let decoder = engine.decoder().unwrap();
        past.read(&decoder, &prompt, &|| true).unwrap();
        engine.kept.keep(past);
        assert_eq!(begin().len() > 0, is_kept, "{tokens}");
    }
    // The oldest ones go.
    let engine = NativeText::open(&options(90)).unwrap();
    let prompts = ["red", "blue", "green"].map(|colour| format!("{colour} {long}"));
    let tokens = prompts
        .each_ref()
        .map(|prompt| engine.prompt(prompt, engine.context, 1));
    for tokens in &tokens {
        let mut past = engine.kept.begin(&engine.config, tokens, 40).unwrap();
        let decoder = engine.decoder().unwrap();
        past.read(&decoder, tokens, &|| true).unwrap();
        engine.kept.keep(past);
    }
    let known = tokens.each_ref().map(|tokens| {
        let past = engine.kept.begin(&engine.config, tokens, 40).unwrap();
        past.len() > 0
    });
    assert_eq!(known, [false, true, true]);
}

fn cold(prompt: &str) -> TextTask {
    TextTask {
        prompt: prompt.to_owned(),
        max_length: 100,
        max_context_length: 1024,
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..TextTask::default()
    }
}

#[derive(Default)]
struct Heard {
    pieces: RefCell<Vec<String>>,
    steps: RefCell<Vec<(u32, u32)>>,
    /// Questions whether to go on that are answered with yes.
    patience: Option<Cell<u32>>,
}

impl ProgressSink for Heard {
    fn step(&self, step: Step) {
        self.steps.borrow_mut().push((step.step, step.of));
    }

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&self, so_far: &str) {
        let mut pieces = self.pieces.borrow_mut();
        let piece = so_far.strip_prefix(&pieces.concat()).unwrap().to_owned();
        pieces.push(piece);
    }

    fn cancelled(&self) -> bool {
        let Some(patience) = &self.patience else {
            return false;
        };
        patience.set(patience.get().saturating_sub(1));
        patience.get() == 0
    }
}

#[test]
fn pieces_and_steps_are_told_as_they_come() {
    let heard = Heard::default();
    let task = TextTask {
        max_length: 5,
        ..cold("A red circle")
    };
    let text = bundled().write(&task, &heard).unwrap();
    assert_eq!(text.finish, Finish::Length);
    assert_eq!(heard.pieces.borrow().concat(), text.text);
    let steps: Vec<(u32, u32)> = (1..=5).map(|step| (step, 5)).collect();
    assert_eq!(*heard.steps.borrow(), steps);
}

#[test]
fn the_same_seed_writes_the_same() {
    let engine = bundled();
    let write = |seed| {
        let task = TextTask {
            seed,
            sampling: Sampling::default(),
            ..cold("A red circle")
        };
        engine.write(&task, &Quiet).unwrap().text
    };
    assert_eq!(write(Some(1)), write(Some(1)));
    assert_ne!(write(Some(1)), write(Some(2)));
    assert_ne!(write(None), write(None));
}

#[test]
fn a_long_prompt_loses_its_beginning() {
    let engine = bundled();
    let long = format!("{}A red circle", "A blue cross was here. ".repeat(500));
    for (context, length) in [(100, 20), (3, 2), (1, 5), (0, 0)] {
        let (context, length) = engine.limits(&TextTask {
            max_context_length: context,
            max_length: length,
            ..TextTask::default()
        });
        let tokens = engine.prompt(&long, context, length);
        assert!(tokens.len() <= context - length, "{context} {length}");
        assert_eq!(tokens.first(), Some(&1));
        let text: Vec<u8> = tokens
            .iter()
            .flat_map(|token| engine.tokenizer.piece(*token).to_vec())
            .collect();
        assert!(long.ends_with(std::str::from_utf8(&text).unwrap()));
    }
    let task = TextTask {
        max_length: 30,
        max_context_length: 60,
        ..cold(&long)
    };
    assert!(!engine.write(&task, &Quiet).unwrap().text.is_empty());
}

#[test]
fn a_stop_sequence_ends_it() {
    let engine = bundled();
    let whole = engine.write(&cold("A red circle"), &Quiet).unwrap().text;
    let middle = whole.get(5..9).unwrap().to_owned();
    let task = TextTask {
        stop_sequence: vec![middle.clone()],
        ..cold("A red circle")
    };
    let text = engine.write(&task, &Quiet).unwrap();
    assert_eq!(text.finish, Finish::Stop);
    let end = whole.find(&middle).unwrap() + middle.len();
    assert_eq!(text.text, whole.get(..end).unwrap());
}

#[test]
fn without_its_end_a_text_is_as_long_as_it_may_be() {
    let task = TextTask {
        sampling: Sampling {
            use_default_badwordsids: Some(true),
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..cold("A red circle")
    };
    let text = bundled().write(&task, &Quiet).unwrap();
    assert_eq!(text.finish, Finish::Length);
}

#[test]
fn nobody_waits_for_what_nobody_wants() {
    for patience in [1, 3, 20] {
        let heard = Heard {
            patience: Some(Cell::new(patience)),
            ..Heard::default()
        };
        let written = bundled().write(&cold("A red circle"), &heard);
        assert!(matches!(written, Err(TextError::Cancelled)));
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let task = TextTask {
        soft_prompt: Some("soft".to_owned()),
        ..cold("A")
    };
    let refused = bundled().write(&task, &Quiet).unwrap_err().to_string();
    assert!(refused.contains("soft prompt `soft`"), "{refused}");
    let nothing = TextTask {
        max_length: 0,
        ..cold("A")
    };
    let text = bundled().write(&nothing, &Quiet).unwrap();
    assert_eq!((text.text.as_str(), text.finish), ("", Finish::Length));
}

#[test]
fn models_say_their_names() {
    assert_eq!(
        bundled().capabilities().unwrap().model,
        "ordu/ordu-tiny-text"
    );
    assert_eq!(open("qwen2").capabilities().unwrap().model, "tiny-qwen2");
}

#[test]
fn memory_shortens_the_context() {
    let options = |tokens: u64| NativeTextOptions {
        memory_per_text: bundled().config.bytes_per_token() * tokens,
        ..NativeTextOptions::default()
    };
    let known = NativeText::open(&options(100))
        .unwrap()
        .capabilities()
        .unwrap();
    assert_eq!(known.max_context_length, Some(100));
    let refused = NativeText::open(&options(10)).unwrap_err().to_string();
    assert!(refused.contains("too few"), "{refused}");
}

fn damaged(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.gguf"))).unwrap()
}

fn open_bytes(bytes: Vec<u8>) -> Result<NativeText, EngineError> {
    let file = Gguf::from_bytes("damaged", bytes)?;
    NativeText::of(file, &NativeTextOptions::default())
}

#[test]
fn a_broken_off_file_is_refused() {
    let whole = damaged("llama3");
    for end in (0..whole.len()).step_by(97) {
        let refused = open_bytes(whole[..end].to_vec());
        assert!(
            matches!(refused, Err(EngineError::BadModel { .. })),
            "{end}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        name in prop_oneof![Just("llama"), Just("llama3"), Just("qwen3")],
        changes in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 1..4),
        in_header in any::<bool>(),
        prompt in ".{0,12}",
    ) {
        let mut bytes = damaged(name);
        // The header is small beside the tensors, and where damage matters.
        let reach = if in_header { bytes.len() / 6 } else { bytes.len() };
        for (place, byte) in changes {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a small file")]
            let place = (place * reach as f64) as usize;
            bytes[place] = byte;
        }
        if let Ok(engine) = open_bytes(bytes) {
            let task = TextTask { max_length: 3, max_context_length: 64, ..cold(&prompt) };
            let _ = engine.write(&task, &Quiet);
        }
    }
}
