//! `ordu engine-host`: the built-in engine in a process of its own, and the way to start one.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ordu_engine::{HostTiming, HostedEngine, NativeEngine, NativeOptions};

use crate::cli::{Computing, EngineHost};
use crate::exit::Exit;

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
    ordu_engine::serve(&engine, io::stdin().lock(), io::stdout())
        .context("the engine lost whoever started it")?;
    Ok(Exit::Done)
}

/// The built-in engine in a process of its own, so that no driver, no weights and no shortage of
/// memory takes the worker or the server down.
pub(crate) fn start(models: Option<&Path>, computing: Computing) -> Result<Arc<HostedEngine>> {
    computing.device.check()?;
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command
        .arg("engine-host")
        .args(["--device", &computing.device.to_string()])
        .args(["--precision", &computing.precision.to_string()]);
    if let Some(folder) = models {
        command.arg("--models-dir").arg(folder);
    }
    // A key press that asks the worker to finish must not reach the process that it finishes with.
    command.process_group(0);
    let engine =
        HostedEngine::start(command, HostTiming::default()).context("the engine cannot start")?;
    Ok(Arc::new(engine))
}
