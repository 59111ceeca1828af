//! The arguments of `ordu doctor`.

use clap::{Args, Subcommand};

use super::{Server, Work};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) server: Server,

    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) what: Option<DoctorCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// Look at a worker instead of a server: give it the options that `ordu work` will have.
    Work(Box<Work>),
}
