//! `ordu bench`: measuring, one thing a subcommand.

use anyhow::Result;

use crate::cli::{Bench, BenchCommand};
use crate::exit::Exit;

mod engine;
mod opponent;

pub(crate) fn run(args: &Bench) -> Result<Exit> {
    match &args.what {
        BenchCommand::Engine(args) => engine::run(args),
    }
}
