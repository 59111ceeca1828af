//! The binary: one function per subcommand, and nothing else.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints"
)]

mod cli;
mod commands;
mod exit;
mod guard;
mod identity;
mod logs;
mod settings;
mod traces;

use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::cli::{Cli, Command, ConfigCommand};
use crate::exit::Exit;
use crate::logs::Logs;
use crate::settings::Listing;
use crate::traces::Traces;

fn main() -> ExitCode {
    let cli = match settings::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Failed.into()
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    let logs = Logs::default();
    // The rustls provider is chosen once, before any client exists.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let traces = cli.otlp.as_ref();
    let traces = traces.map(|url| Traces::open(url, cli.otlp_share));
    let traces = traces.transpose()?;
    log_to(&logs, cli.log(), traces.as_ref())?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(run(cli, &logs))
}

async fn run(cli: Cli, logs: &Logs) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Up(args) => Box::pin(commands::up::run(args)).await,
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Work(args) => Box::pin(commands::work::run(args, logs)).await,
        Command::Imagine(args) => Box::pin(commands::imagine::run(args)).await,
        Command::Write(args) => commands::write::run(args).await,
        Command::Status(args) => commands::status::run(args).await,
        Command::Bot(args) => Box::pin(commands::bot::run(args)).await,
        Command::Doctor(args) => Box::pin(commands::doctor::run(*args, logs)).await,
        Command::Admin(args) => Box::pin(commands::admin::run(args)).await,
        Command::Bench(args) => Box::pin(commands::bench::run(args)).await,
        Command::EngineHost(args) => commands::host::run(args),
        Command::Config(args) => match args.what {
            ConfigCommand::Print { json } => {
                let listing = Listing::read(cli.config.as_deref())?;
                print!("{}", if json { listing.json() } else { listing.toml() });
                Ok(Exit::Done)
            }
            ConfigCommand::Check { file } => commands::models::check(&file),
            ConfigCommand::ToEnv { file } => commands::models::to_env(&file),
        },
        Command::Completions(args) => Ok(commands::manual::completions(&args)),
        Command::Man(args) => commands::manual::pages(&args),
    }
}

/// Logs go to standard error: human on a terminal, JSON otherwise.
fn log_to(logs: &Logs, filter: &str, traces: Option<&Traces>) -> anyhow::Result<()> {
    // What is made for traces alone is nothing to read.
    let ours = format!("{filter},{}=off", traces::TARGET);
    let filter = EnvFilter::try_new(ours)
        .with_context(|| format!("`--log {filter}` is no filter, try `info`"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(logs.clone());
    let lines = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        lines.with_ansi(true).with_filter(filter).boxed()
    } else {
        lines.json().with_filter(filter).boxed()
    };
    let layers: Vec<_> = traces
        .map(Traces::layer)
        .into_iter()
        .chain([lines])
        .collect();
    tracing_subscriber::registry().with(layers).init();
    Ok(())
}
