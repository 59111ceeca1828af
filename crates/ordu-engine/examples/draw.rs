//! Draws one picture with the bundled model: `cargo run --release -p ordu-engine --example draw --
//! "a red circle" out.png`.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::time::Instant;

use ordu_engine::{
    Engine, EngineError, ImageTask, NativeEngine, NativeOptions, ProgressSink, Sampler, Step,
};

struct Steps;

impl ProgressSink for Steps {
    fn step(&self, step: Step) {
        println!("step {} of {}", step.step, step.of);
    }
}

fn main() -> Result<(), EngineError> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments
        .next()
        .unwrap_or_else(|| "a large red circle at the center on a blue background".to_owned());
    let path = arguments.next().unwrap_or_else(|| "out.png".to_owned());
    let sampler = arguments
        .next()
        .map_or(Sampler::Euler, |name| Sampler::from_name(&name));
    let engine = NativeEngine::open(&NativeOptions::default())?;
    let task = ImageTask {
        width: 64,
        height: 64,
        cfg_scale: 4.0,
        seed: 1,
        sampler,
        ..ImageTask::new("ordu-tiny", prompt)
    };
    for run in 0..2 {
        let started = Instant::now();
        let pictures = engine.run(task.clone(), &Steps)?;
        println!("run {run}: {:?}", started.elapsed());
        for picture in pictures {
            picture
                .image
                .save(&path)
                .map_err(|error| EngineError::BadTask {
                    reason: error.to_string(),
                })?;
        }
    }
    Ok(())
}
