//! `ordu work`: a worker alone, and the one that `ordu up` runs beside its server.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;
use ordu_worker::{Config, Engines, Level, Phase, RunError, Shutdown, Status};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::data::DataFolder;
use super::engines;
use super::signals::Signals;
use super::supply::Supply;
use super::target::DEFAULT_HORDE;
use crate::cli::Work;
use crate::exit::Exit;

/// One unit of the worker's `max_power`, in pixels.
const PIXELS_PER_POWER: u32 = 32_768;

/// How long a horde for one call waits for its own worker.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// The name of the worker that `ordu up` runs.
const LOCAL_NAME: &str = "This machine";

pub(crate) async fn run(args: Work) -> Result<Exit> {
    if let Some(task) = args.stock.models {
        return super::models::run(task, &args).await;
    }
    let config = if args.stock.has_settings() {
        super::models::worker_config(&args).await?
    } else {
        config(&args)?
    };
    let supply = Supply::open(&args)?;
    let mut staff = engines::for_work(&args, supply.models_dir(&args)?.as_deref())?;
    let _fetching = supply.start(&config, &mut staff)?;
    let engines = staff.engines;
    config
        .check(&engines.kinds())
        .context("the worker cannot start")?;
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new();
    let (status, seen) = watch::channel(Status::default());
    let work = ordu_worker::run(config, engines, shutdown.clone(), status);
    tokio::pin!(work);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            () = signals.next() => tell_level(shutdown.escalate()),
        }
    };
    let last = seen.borrow().clone();
    eprintln!(
        "{} jobs done, {} faulted, {:.0} kudos earned",
        last.done, last.faulted, last.kudos
    );
    match ended {
        Ok(_) => Ok(Exit::Done),
        Err(RunError::KeyRefused(reason)) => {
            eprintln!("The horde refused: {reason}");
            Ok(Exit::Refused)
        }
        Err(error) => Err(error).context("the worker failed"),
    }
}

fn tell_level(level: Level) {
    match level {
        Level::Run => {}
        Level::Drain => eprintln!("Finishing what was popped; once more to hand back what waits"),
        Level::Hurry => eprintln!("Finishing what is being painted; once more to stop at once"),
        Level::Abort => eprintln!("Handing everything back"),
    }
}

fn config(args: &Work) -> Result<Config> {
    let folder = args
        .client
        .data
        .as_deref()
        .map(DataFolder::existing)
        .transpose()?;
    let horde_url = args
        .client
        .horde
        .clone()
        .or_else(|| folder.as_ref().and_then(DataFolder::served_at))
        .unwrap_or_else(|| DEFAULT_HORDE.to_owned());
    let given = args.client.api_key.clone().map(ApiKey::new);
    let key = given.or_else(|| folder.as_ref().and_then(DataFolder::admin_key));
    let Some(api_key) = key else {
        bail!("a worker needs a key of its own: give `--api-key KEY`");
    };
    let usual = Config::default();
    let pixels = u32::try_from(args.max_pixels).context("`--max-pixels` is out of range")?;
    Ok(Config {
        horde_url,
        api_key,
        worker_name: args.name.clone(),
        max_batch: args.max_batch,
        max_power: pixels.div_ceil(PIXELS_PER_POWER),
        models_to_load: args.model.clone(),
        nsfw: !args.sfw,
        allow_lora: args.allow_lora,
        max_threads: args.threads,
        max_length: args.max_length,
        max_context_length: args.max_context_length,
        branded_model: !args.unbranded_model,
        bridge_agent: args
            .bridge_agent
            .clone()
            .unwrap_or(usual.bridge_agent.clone()),
        ..usual
    })
}

/// A worker in this process, for the horde in this process.
pub(crate) struct LocalWorker {
    shutdown: Shutdown,
    running: JoinSet<Result<Status, RunError>>,
    status: watch::Receiver<Status>,
}

impl LocalWorker {
    /// Starts it; it pops until it is stopped.
    pub(crate) fn start(horde: &str, key: &ApiKey, engines: Engines) -> Self {
        let config = Config {
            horde_url: horde.to_owned(),
            api_key: key.clone(),
            worker_name: LOCAL_NAME.to_owned(),
            max_batch: 4,
            max_power: 32,
            max_length: 4096,
            max_context_length: 1_048_576,
            branded_model: false,
            ..Config::default()
        };
        let shutdown = Shutdown::new();
        let (sender, status) = watch::channel(Status::default());
        let mut running = JoinSet::new();
        running.spawn(ordu_worker::run(config, engines, shutdown.clone(), sender));
        Self {
            shutdown,
            running,
            status,
        }
    }

    /// Waits until the horde knows it, as far as that goes quickly.
    pub(crate) async fn is_known(&mut self) {
        let known = self
            .status
            .wait_for(|status| status.phase != Phase::Starting);
        // Without it the first request is only warned that nobody could serve it.
        drop(tokio::time::timeout(KNOWN_WITHIN, known).await);
    }

    /// Finishes what is being painted, hands back the rest.
    pub(crate) async fn stop(mut self) {
        self.shutdown.raise(Level::Hurry);
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the worker failed"),
                Err(error) => tracing::error!(%error, "the worker broke"),
            }
        }
    }
}
