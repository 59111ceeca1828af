//! Draws pictures that scan with the bundled model, for a scanner that is not ours to judge: `cargo run
//! -p ordu-engine --example scan -- FOLDER TEXT [MODELS]`. `training/scan.py` judges what comes of it. A
//! folder of models may hold another network, `control_v1p_sd15_qrcode_monster_v2.safetensors`. Sampler,
//! steps and guidance are those of a request that names none.
//!
//! One line of JSON for each picture: its file, its prompt, whether our scanner reads it, and whether it
//! was finished once more.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::cell::Cell;
use std::path::PathBuf;

use ordu_engine::gates::held_out;
use ordu_engine::{
    Engine as _, ImageTask, NativeEngine, NativeOptions, ProgressSink, QrSpec, Sampler, Schedule,
    Step, Workflow,
};
use serde_json::json;

const PICTURES: u64 = 20;

/// How many steps were said to be needed, at first and in the end.
#[derive(Default)]
struct Steps(Cell<Option<(u32, u32)>>);

impl ProgressSink for Steps {
    fn step(&self, step: Step) {
        let first = self.0.get().map_or(step.of, |known| known.0);
        self.0.set(Some((first, step.of)));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let text = arguments.next().ok_or("name a text")?;
    std::fs::create_dir_all(&folder)?;
    let engine = NativeEngine::open(&NativeOptions {
        models: arguments.next().map(PathBuf::from),
        ..NativeOptions::default()
    })?;
    let scenes = held_out().into_iter().step_by(11);
    for (seed, scene) in (1..=PICTURES).zip(scenes) {
        let task = ImageTask {
            seed,
            sampler: Sampler::EulerA,
            schedule: Schedule::Karras,
            steps: 30,
            cfg_scale: 5.0,
            workflow: Some(Workflow::QrCode(QrSpec::new(&text))),
            ..ImageTask::new("ordu-tiny", scene.caption())
        };
        let steps = Steps::default();
        let picture = engine.run(task, &steps)?.remove(0);
        let file = folder.join(format!("{seed}.png"));
        picture.image.save(&file)?;
        let again = steps.0.get().is_some_and(|(first, last)| first != last);
        let (prompt, scans) = (scene.caption(), picture.scans);
        println!(
            "{}",
            json!({ "file": file, "prompt": prompt, "scans": scans, "again": again })
        );
    }
    Ok(())
}
