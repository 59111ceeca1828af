//! `ordu work --one-shot FILE`: one picture job, without a horde.

use std::path::Path;

use anyhow::{Context as _, Result};
use ordu_engine::{ProgressSink, Step};
use ordu_worker::{Config, Engines, one_shot};
use serde_json::{Value, json};

use super::check::Form;
use crate::commands::picture;
use crate::exit::Exit;

/// The largest file that is read, in bytes: source pictures may be in it.
const MAX_BYTES: u64 = 256 << 20;

/// Tells the steps.
struct Told;

impl ProgressSink for Told {
    fn step(&self, step: Step) {
        tracing::info!(step = step.step, of = step.of, "a step");
    }
}

/// Does the job in a file, and saves its pictures.
pub(crate) async fn run(
    config: &Config,
    engines: &Engines,
    (file, out): (&Path, &Path),
    form: Form,
) -> Result<Exit> {
    picture::format_of(out)?;
    let job = read(file)?;
    let made = one_shot(config, engines, job, Told).await?;
    let mut files = Vec::new();
    for (place, made) in made.pictures.iter().enumerate() {
        let path = picture::numbered(out, place);
        picture::save_picture(&made.image, &path)?;
        let seed = made.seed;
        files.push(json!({"file": path, "seed": seed, "scans": made.scans}));
    }
    let seconds = made.took.as_secs_f64();
    match form {
        Form::Json => {
            let told = json!({
                "model": made.model, "seconds": seconds, "pictures": files,
                "gen_metadata": made.remarks,
            });
            println!("{}", serde_json::to_string_pretty(&told)?);
        }
        Form::Text => {
            for file in &files {
                println!("{}", file["file"].as_str().unwrap_or_default());
            }
            for remark in &made.remarks {
                let about = remark.reference.as_deref().unwrap_or_default();
                eprintln!("Note: {} {} {about}", remark.kind, remark.value);
            }
            eprintln!("`{}` took {seconds:.2} s", made.model);
        }
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Value> {
    let name = || format!("`{}` cannot be read", file.display());
    let found = std::fs::metadata(file).with_context(name)?;
    anyhow::ensure!(
        found.len() <= MAX_BYTES,
        "`{}` is larger than {MAX_BYTES} bytes",
        file.display()
    );
    let text = std::fs::read(file).with_context(name)?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is no JSON", file.display()))
}
