//! Measures what the bundled model can do:
//! `cargo run --release -p ordu-engine --example gates -- [prompts [steps]] [sampler] [karras]`.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::process::ExitCode;
use std::time::Instant;

use ordu_engine::gates::{GateOptions, gates};
use ordu_engine::{EngineError, NativeEngine, NativeOptions, Sampler, Schedule};

fn main() -> Result<ExitCode, EngineError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|word| word.parse().ok());
    let prompts = numbers.next().unwrap_or(200);
    let steps = numbers
        .next()
        .and_then(|steps| u32::try_from(steps).ok())
        .unwrap_or(25);
    let word = arguments
        .iter()
        .find(|word| word.parse::<usize>().is_err() && *word != "karras");
    let sampler = word.map_or(Sampler::Euler, |name| Sampler::from_name(name));
    let schedule = Schedule::from_karras(arguments.iter().any(|word| word == "karras"));
    let options = GateOptions {
        prompts,
        steps,
        sampler,
        schedule,
        ..GateOptions::default()
    };
    let engine = NativeEngine::open(&NativeOptions::default())?;
    let started = Instant::now();
    let report = gates(&engine, &options)?;
    println!(
        "{} prompts, {steps} steps of {sampler}, {schedule:?}, {:.1?}",
        report.prompts,
        started.elapsed()
    );
    println!("{report}");
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
