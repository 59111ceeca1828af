//! Arguments of `ordu bench`.

mod engine;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use engine::BenchEngine;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Put load on a server and measure it.
    Run(BenchRun),
    /// Measure two programs in turns, or compare two reports of `run --json`.
    Compare(BenchCompare),
    /// List what can be measured, with the budgets.
    List,
    /// How long the networks of the built-in engine take, and how much memory.
    Engine(BenchEngine),
}

/// What load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// How long each part is measured, instead of as long as it needs.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: Option<u32>,

    /// Prepare only this share of queues and finished requests, and have only this share of clients and
    /// workers, for a quick look. Budgets are for 1.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    pub(crate) scale: f64,

    /// A PostgreSQL database: servers keep what is theirs in schemas of their own there, and not in SQLite.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,

    /// Where SQLite files are made, instead of where temporary files go. On a disk in memory a commit
    /// costs nothing: then the figures are too good.
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,

    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchRun {
    /// Which ones; all but the longest if none is named. `ordu bench list` lists them.
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<String>,

    /// Exit with 1 where a budget is missed.
    #[arg(long)]
    pub(crate) strict: bool,

    /// The program whose `serve` is measured, instead of this one.
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,

    /// A server that runs already, over plain HTTP. Only scenarios that prepare nothing can be measured
    /// there, and it must enforce no request limits.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "binary",
        requires = "api_key"
    )]
    pub(crate) horde: Option<String>,

    /// The key of an account there that may have workers and ask.
    #[arg(
        long,
        value_name = "KEY",
        allow_hyphen_values = true,
        requires = "horde"
    )]
    pub(crate) api_key: Option<String>,

    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct BenchCompare {
    /// A program, or a report.
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,

    /// Another one of the same kind.
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,

    /// With programs: which scenarios.
    #[arg(
        long,
        value_name = "SCENARIO",
        value_delimiter = ',',
        default_value = "lifecycle"
    )]
    pub(crate) scenario: Vec<String>,

    /// With programs: how often each is measured, in turns.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    #[command(flatten)]
    pub(crate) load: Load,
}

fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no share: write it as a number above 0, at most 1");
    let share: f64 = text.parse().map_err(|_| wrong())?;
    let fits = share > 0.0 && share <= 1.0;
    fits.then_some(share).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_above_nothing_and_at_most_all() {
        assert_eq!(share("0.5"), Ok(0.5));
        assert_eq!(share("1"), Ok(1.0));
        for wrong in ["0", "-1", "1.1", "NaN", "inf", "half"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
