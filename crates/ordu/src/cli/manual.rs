//! The arguments of the commands that tell about this program itself: settings, completions, manual pages.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) what: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every option with its variable, its value and where that comes from, as a TOML file that
    /// `--config` reads. What is secret is not shown.
    Print {
        /// Print JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Check the settings of a worker, its `bridgeData.yaml`: tells everything that is wrong.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the settings of a worker as variables of the environment, for `ordu work -e`.
    ToEnv {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages go; it is made if it is missing.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
