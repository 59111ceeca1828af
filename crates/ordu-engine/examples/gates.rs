//! Measures what the bundled model can do:
//! `cargo run --release -p ordu-engine --example gates -- [prompts [steps]] [sampler] [karras]`,
//! and with `cutout` how well its shapes are told from what is behind them, with `transparent` alone how well
//! transparent ones are cut out, with `remix` how well pictures are mixed.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::process::ExitCode;
use std::time::Instant;

use ordu_engine::gates::{GateOptions, backgrounds, cut_outs, gates, remixes};
use ordu_engine::{EngineError, NativeEngine, NativeOptions, Sampler, Schedule};

/// Words that choose something else than all gates.
const OTHERS: [&str; 3] = ["cutout", "transparent", "remix"];

fn main() -> Result<ExitCode, EngineError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|word| word.parse().ok());
    let prompts = numbers.next().unwrap_or(200);
    let steps = numbers
        .next()
        .and_then(|steps| u32::try_from(steps).ok())
        .unwrap_or(25);
    let other = arguments
        .iter()
        .find(|word| OTHERS.contains(&word.as_str()));
    let is_sampler = |word: &&String| {
        word.parse::<usize>().is_err() && *word != "karras" && !OTHERS.contains(&word.as_str())
    };
    let word = arguments.iter().find(is_sampler);
    let sampler = word.map_or(Sampler::Euler, |name| Sampler::from_name(name));
    let schedule = Schedule::from_karras(arguments.iter().any(|word| word == "karras"));
    let options = GateOptions {
        prompts,
        steps,
        sampler,
        schedule,
        ..GateOptions::default()
    };
    let engine = NativeEngine::open(&NativeOptions {
        cascade: true,
        ..NativeOptions::default()
    })?;
    let started = Instant::now();
    if let Some(other) = other {
        return apart(other, &engine, &options);
    }
    let report = gates(&engine, &options)?;
    println!(
        "{} prompts, {steps} steps of {sampler}, {schedule:?}, {:.1?}",
        report.prompts,
        started.elapsed()
    );
    println!("{report}");
    println!("{:#?}", cut_outs(&engine, &options)?);
    Ok(passed(report.passed()))
}

/// One gate by itself.
fn apart(
    gate: &str,
    engine: &NativeEngine,
    options: &GateOptions,
) -> Result<ExitCode, EngineError> {
    let is_good = match gate {
        "cutout" => {
            let found = backgrounds(engine, options)?;
            let (pictures, good, mean) = (found.shared.len(), found.good(), found.mean());
            println!(
                "{pictures} pictures, {:.1} % cut out well, {mean:.3} in the mean",
                100.0 * good
            );
            for (shared, scene) in found.shared.iter().filter(|(shared, _)| *shared < 0.9) {
                println!("{shared:.3} {scene}");
            }
            good >= 0.9 && mean >= 0.9
        }
        "transparent" => {
            let found = cut_outs(engine, options)?;
            println!("{found:#?}");
            found.overlap >= 0.8
        }
        _ => {
            let found = remixes(engine, options)?;
            println!("{found:#?}");
            found.both >= 0.8
        }
    };
    Ok(passed(is_good))
}

fn passed(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
