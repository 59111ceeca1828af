//! `ordu completions` and `ordu man`: what shells and readers learn from the parser.

use std::fs;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::cli::{Cli, Completions, Man};
use crate::exit::Exit;

/// Prints what lets a shell complete commands and options.
pub(crate) fn completions(args: &Completions) -> Exit {
    let mut command = Cli::command();
    clap_complete::generate(args.shell, &mut command, "ordu", &mut std::io::stdout());
    Exit::Done
}

/// Writes a page for each command that people may use.
pub(crate) fn pages(args: &Man) -> Result<Exit> {
    let folder = args.folder.display();
    fs::create_dir_all(&args.folder).with_context(|| format!("cannot make `{folder}`"))?;
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("cannot write manual pages into `{folder}`"))?;
    Ok(Exit::Done)
}
