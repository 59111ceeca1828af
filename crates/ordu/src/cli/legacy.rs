//! Options of the deployed workers, so that a start script goes on working. They are not shown; each has a
//! successor of its own, or nothing to do here.
//!
//! # Source
//! `worker.md` § 1.23.

use clap::{ArgAction, Args};

/// Options of the deployed workers.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Legacy {
    /// `--horde`.
    #[arg(long = "horde_url", short = 'u', hide = true)]
    pub(crate) horde_url: Option<String>,

    /// `--api-key`.
    #[arg(
        long = "api_key",
        short = 'a',
        hide = true,
        value_name = "KEY",
        allow_hyphen_values = true
    )]
    pub(crate) owner: Option<String>,

    /// `--engine kobold=URL`.
    #[arg(long = "kai_url", hide = true)]
    pub(crate) kai_url: Option<String>,

    /// The program at `--kai_url` speaks like OpenAI's.
    #[arg(long = "openai_api", hide = true)]
    pub(crate) openai_api: bool,

    /// `--max-pixels`, in units of 32,768 pixels.
    #[arg(long = "max_power", short = 'p', hide = true, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) max_power: Option<u32>,

    /// The worker never asks.
    #[arg(long, short = 'y', hide = true)]
    pub(crate) yes: bool,

    /// `--log`.
    #[arg(short = 'v', action = ArgAction::Count, hide = true)]
    pub(crate) verbose: u8,

    /// `--log`.
    #[arg(long, short = 'q', action = ArgAction::Count, hide = true)]
    pub(crate) quiet: u8,

    /// Logs go to standard error only.
    #[arg(long, hide = true)]
    pub(crate) no_logging: bool,

    /// `--device`.
    #[arg(long, hide = true)]
    pub(crate) amd: bool,

    /// `--device`.
    #[arg(long, hide = true)]
    pub(crate) directml: Option<u32>,

    /// Checksums are kept beside their files, so that they cost nothing.
    #[arg(long = "skip_checksum", hide = true)]
    pub(crate) skip_checksum: bool,
}

impl Legacy {
    /// Options that are taken without effect, with what to say instead.
    pub(crate) fn vain(&self) -> Vec<&'static str> {
        let given = [
            (
                self.verbose > 0 || self.quiet > 0,
                "`-v` and `-q` have no effect: give `--log info`",
            ),
            (
                self.no_logging,
                "`--no-logging` has no effect: nothing is logged to files",
            ),
            (
                self.amd || self.directml.is_some(),
                "`--amd` and `--directml` have no effect: give `--device`",
            ),
            (
                self.skip_checksum,
                "`--skip_checksum` has no effect: a file is checked once",
            ),
        ];
        given
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| word)
            .collect()
    }
}
