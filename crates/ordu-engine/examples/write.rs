//! Writes with a GGUF model, and says how fast:
//! `cargo run --release -p ordu-engine --example write -- PROMPT [TOKENS [FILE.gguf]]`.
//! With `--gate` in place of a prompt it measures what the bundled model can do.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for a terminal"
)]

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ordu_engine::gates::stories::stories;
use ordu_engine::{
    NativeText, NativeTextOptions, ProgressSink, Sampling, Step, TextEngine as _, TextTask,
};

/// Prints what comes and notes when.
struct Terminal {
    started: Instant,
    tokens: RefCell<Vec<Duration>>,
    /// Bytes of the text.
    printed: Cell<usize>,
}

impl ProgressSink for Terminal {
    fn step(&self, _step: Step) {
        self.tokens.borrow_mut().push(self.started.elapsed());
    }

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&self, so_far: &str) {
        let piece = so_far.get(self.printed.replace(so_far.len())..);
        print!("{}", piece.unwrap_or_default());
        // A terminal that is gone needs no text.
        let _ = std::io::stdout().flush();
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments
        .next()
        .unwrap_or_else(|| "A red circle".to_owned());
    if prompt == "--gate" {
        let report = stories(&NativeText::open(&NativeTextOptions::default())?, 100)?;
        println!("{report:?}");
        return Ok(if report.passed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let max_length = arguments.next().map_or(Ok(100), |word| word.parse())?;
    let engine = NativeText::open(&NativeTextOptions {
        model: arguments.next().map(Into::into),
        ..NativeTextOptions::default()
    })?;
    let task = TextTask {
        prompt,
        max_length,
        max_context_length: 1 << 20,
        sampling: Sampling {
            temperature: Some(0.0),
            // So that speed is measured over as many tokens as were asked for.
            use_default_badwordsids: Some(max_length > 100),
            ..Sampling::default()
        },
        ..TextTask::default()
    };
    // The first text also loads the model.
    for _ in 0..2 {
        let terminal = Terminal {
            started: Instant::now(),
            tokens: RefCell::default(),
            printed: Cell::default(),
        };
        let written = engine.write(&task, &terminal)?;
        let tokens = terminal.tokens.into_inner();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            println!();
            continue;
        };
        let rest = last.saturating_sub(*first).as_secs_f64().max(1e-9);
        let count = u32::try_from(tokens.len())?;
        println!();
        eprintln!(
            "{:?}: first of {count} tokens after {:.3} s, then {:.1} tokens a second",
            written.finish,
            first.as_secs_f64(),
            f64::from(count - 1) / rest
        );
    }
    Ok(ExitCode::SUCCESS)
}
