//! `ordu engine-host`: the built-in engine in a process of its own, and the way to start one.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use ordu_engine::{
    HostTiming, HostedEngine, NativeEngine, NativeOptions, NativeText, NativeTextOptions,
};

use crate::cli::{Computing, EngineHost};
use crate::exit::Exit;
use crate::logs::Logs;

/// How to start it.
#[derive(Debug, Default)]
pub(crate) struct Hosting {
    /// The folder of its image models.
    pub(crate) models: Option<PathBuf>,
    /// Its text model, if that is not the bundled one.
    pub(crate) text_model: Option<PathBuf>,
    pub(crate) computing: Computing,
    pub(crate) timing: HostTiming,
    /// Where its complaints go, if not to standard error.
    pub(crate) errors: Option<Logs>,
}

/// Serves whoever started this process, until they are gone.
pub(crate) fn run(args: EngineHost) -> Result<Exit> {
    let engine = NativeEngine::open(&NativeOptions {
        models: args.models_dir,
        device: args.computing.device,
        precision: args.computing.precision,
        ..NativeOptions::default()
    })
    .context("the engine cannot start")?;
    for problem in engine.problems() {
        eprintln!("Note: {problem}");
    }
    let writer = text_model(args.text_model.as_deref())?;
    ordu_engine::serve(&engine, Some(&writer), io::stdin().lock(), io::stdout())
        .context("the engine lost whoever started it")?;
    Ok(Exit::Done)
}

/// A text model in a file, or the one that is part of this program.
fn text_model(file: Option<&Path>) -> Result<NativeText> {
    let options = NativeTextOptions {
        model: file.map(Path::to_owned),
        ..NativeTextOptions::default()
    };
    NativeText::open(&options).context("`--text-model` is unusable")
}

/// The built-in engine in a process of its own, so that no driver, no weights and no shortage of
/// memory takes the worker or the server down.
pub(crate) fn start(hosting: &Hosting) -> Result<Arc<HostedEngine>> {
    let computing = hosting.computing;
    computing.device.check()?;
    // What is wrong with a file is best told before anything else runs.
    text_model(hosting.text_model.as_deref())?;
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command
        .arg("engine-host")
        .args(["--device", &computing.device.to_string()])
        .args(["--precision", &computing.precision.to_string()]);
    if let Some(folder) = &hosting.models {
        command.arg("--models-dir").arg(folder);
    }
    if let Some(file) = &hosting.text_model {
        command.arg("--text-model").arg(file);
    }
    // A key press that asks the worker to finish must not reach the process that it finishes with.
    command.process_group(0);
    if let Some(logs) = &hosting.errors {
        let (reader, writer) = io::pipe().context("cannot hear the engine")?;
        command.stderr(writer);
        let mut logs = logs.clone();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // There is no better place to tell that it cannot be told.
                let _ = writeln!(logs, "engine: {line}");
            }
        });
    }
    let engine = HostedEngine::start(command, hosting.timing).context("the engine cannot start")?;
    Ok(Arc::new(engine))
}
