//! `ordu work`: a worker alone, and the one that `ordu up` runs beside its server.

mod bench;
mod check;
mod console;
mod listen;
pub(super) mod memory;
mod metrics;
mod one_shot;
mod reload;
mod screen;
mod speeds;
mod steward;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ordu_api::ApiKey;
use ordu_api::worker::WorkKind;
use ordu_engine::native::cascade::files::BUNDLED as CASCADE;
use ordu_engine::{Budget, DeviceChoice, HostTiming};
use ordu_worker::bridge_data::{Amount, Backend, BridgeData, ConfigFile, Role, Settings};
use ordu_worker::{
    Config, Controls, Engines, Level, Phase, RunError, Shutdown, Status, Trial, run_with, try_out,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::check::Form;
use self::console::{Console, Parts, Show};
use self::listen::Listener;
use self::reload::Follower;
use self::speeds::SpeedFile;
use self::steward::{Maintenance, Steward};
use super::data::DataFolder;
use super::engines::{self, Staff};
use super::host::Hosting;
use super::signals::Signals;
use super::supply::Supply;
use super::target::DEFAULT_HORDE;
use super::terminal::Terminal;
use crate::cli::{EngineChoice, Makes, Work};
use crate::exit::Exit;
use crate::logs::Logs;

/// One unit of the worker's `max_power`, in pixels.
const PIXELS_PER_POWER: u32 = 32_768;

/// How long a horde for one call waits for its own worker.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// Without jobs before a word is said about it, unless the settings say otherwise.
const USUAL_PATIENCE_MINUTES: u64 = 30;

/// Between two lines that say how it goes, unless the settings say otherwise.
const USUAL_REPORT_SECONDS: u64 = 60;

/// The name of the worker that `ordu up` runs.
const LOCAL_NAME: &str = "This machine";

pub(crate) async fn run(mut args: Work, logs: &Logs) -> Result<Exit> {
    adopt_legacy(&mut args);
    if let Some(task) = args.stock.models {
        return super::models::run(task, &args).await;
    }
    let Prepared {
        args,
        data,
        config,
        supply,
        mut staff,
        draws,
        ..
    } = prepare(args, logs).await?;
    let speeds = supply.folder().map(SpeedFile::new);
    if args.is_alone() {
        return alone(&args, config, (supply, staff), speeds).await;
    }
    config
        .check(&staff.engines.kinds())
        .context("the worker cannot start")?;
    let controls = Controls::new(config, Shutdown::new());
    let status = watch::Sender::new(Status::default());
    let _fetching = supply.start(controls.clone(), status.subscribe(), &mut staff)?;
    let job = Shift {
        args: &args,
        data,
        controls,
        status,
        engines: staff.engines,
        logs,
    };
    let told = job.status.subscribe();
    let ended = Box::pin(job.work(draws)).await;
    let learned = told
        .borrow()
        .engines
        .get(&WorkKind::Image)
        .map(|it| it.speeds.clone());
    if let (Some(file), Some(learned)) = (speeds, learned) {
        file.keep(learned);
    }
    ended
}

/// A worker with everything that it works with.
struct Prepared {
    args: Work,
    data: Option<BridgeData>,
    config: Config,
    supply: Supply,
    staff: Staff,
    /// The folder that the built-in engine looks into.
    models_dir: Option<PathBuf>,
    /// Whether it draws what it does.
    draws: bool,
}

/// Reads all settings and starts the engines, whose complaints go to `logs` if a screen is drawn.
async fn prepare(mut args: Work, logs: &Logs) -> Result<Prepared> {
    let data = if args.stock.has_settings() {
        Some(super::models::bridge_data(&args)?)
    } else {
        None
    };
    let mut config = match &data {
        Some(data) => {
            adopt(&mut args, data)?;
            super::models::config_of(&args, data).await?
        }
        None => config(&args)?,
    };
    let draws = Terminal::is_there() && !args.plain && !args.is_alone();
    let supply = Supply::open(&args)?;
    let hosting = Hosting {
        models: supply.models_dir(&args)?,
        cascade: config.models_to_load.iter().any(|name| name == CASCADE),
        add_ons: supply.add_on_folders(),
        text_model: args.text_model.clone(),
        computing: args.computing,
        timing: data.as_ref().map(timing).unwrap_or_default(),
        errors: draws.then(|| logs.clone()),
    };
    let staff = engines::for_work(&args, &hosting)?;
    config.devices = staff.devices;
    let speeds = supply.folder().map(SpeedFile::new);
    config.speeds = speeds.as_ref().map(SpeedFile::read).unwrap_or_default();
    Ok(Prepared {
        args,
        data,
        config,
        supply,
        staff,
        models_dir: hosting.models,
        draws,
    })
}

/// What came out of trying a worker out.
pub(crate) struct Examined {
    pub(crate) args: Work,
    pub(crate) config: Config,
    pub(crate) models_dir: Option<PathBuf>,
    pub(crate) trials: Vec<Trial>,
}

/// Tries a worker out as `--check` does.
pub(crate) async fn examine(mut args: Work, logs: &Logs) -> Result<Examined> {
    args.check = true;
    adopt_legacy(&mut args);
    let mut prepared = prepare(args, logs).await?;
    let (config, staff) = (&prepared.config, &mut prepared.staff);
    config
        .check(&staff.engines.kinds())
        .context("the worker cannot start")?;
    prepared.supply.name(config, staff).await?;
    let trials = try_out(config, &staff.engines).await;
    Ok(Examined {
        args: prepared.args,
        config: prepared.config,
        models_dir: prepared.models_dir,
        trials,
    })
}

/// What needs no horde: trying out, measuring, one job.
async fn alone(
    args: &Work,
    config: Config,
    (supply, mut staff): (Supply, Staff),
    speeds: Option<SpeedFile>,
) -> Result<Exit> {
    let form = if args.client.json {
        Form::Json
    } else {
        Form::Text
    };
    if args.check {
        config
            .check(&staff.engines.kinds())
            .context("the worker cannot start")?;
    }
    supply.name(&config, &mut staff).await?;
    if let Some(file) = &args.one_shot {
        one_shot::run(&config, &staff.engines, (file, &args.out), form).await
    } else if args.bench {
        bench::run(&config, &staff.engines, speeds, form).await
    } else {
        check::run(&config, &staff.engines, form).await
    }
}

/// A worker that is about to start.
struct Shift<'a> {
    args: &'a Work,
    data: Option<BridgeData>,
    controls: Controls,
    status: watch::Sender<Status>,
    engines: Engines,
    logs: &'a Logs,
}

impl Shift<'_> {
    /// Works until it is told to stop.
    async fn work(self, draws: bool) -> Result<Exit> {
        let mut signals = Signals::listen()?;
        let kinds = self.engines.kinds();
        let (controls, config) = (&self.controls, self.controls.config());
        let steward = Steward::new(&config, &kinds)?;
        self.end_maintenance(&steward).await;
        let listener = match self.args.metrics {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        let first = kinds.first().copied().unwrap_or(WorkKind::Image);
        let named = config.named_for(&kinds);
        let title = format!("{} at {}", named.name(first), named.horde_url);
        let seen = self.status.subscribe();
        let console = Console::new(Parts {
            controls: controls.clone(),
            status: seen.clone(),
            steward,
            title,
            logs: self.logs.clone(),
            patience: self.patience(),
        })?;
        let show = self.show(draws)?;
        let ended = {
            let work = run_with(controls, self.engines.clone(), self.status.clone());
            let answering = answer(listener, seen.clone());
            let following = self.follow(kinds);
            tokio::pin!(work, answering, following);
            let showing = Box::pin(console.run(show));
            tokio::pin!(showing);
            loop {
                tokio::select! {
                    ended = &mut work => break ended,
                    () = signals.next() => tell_level(controls.shutdown().escalate()),
                    never = &mut answering => match never {},
                    never = &mut following => match never {},
                    never = &mut showing => match never {},
                }
            }
        };
        self.logs.release();
        farewell(ended, &seen.borrow())
    }

    /// Ends maintenance if the settings say so. A worker that the horde does not know yet is in none.
    async fn end_maintenance(&self, steward: &Steward) {
        let console = self.data.as_ref().map(|data| &data.settings.console);
        if console.is_some_and(|console| console.remove_maintenance_on_init)
            && let Err(error) = steward.set(Maintenance::Off).await
        {
            eprintln!("Note: maintenance could not be ended: {error:#}");
        }
    }

    /// Without jobs before a word is said about it.
    fn patience(&self) -> Duration {
        let minutes = self.data.as_ref().map_or(USUAL_PATIENCE_MINUTES, |data| {
            data.settings.console.minutes_allowed_without_jobs
        });
        Duration::from_secs(minutes * 60)
    }

    fn show(&self, draws: bool) -> Result<Show> {
        if draws {
            let (terminal, keys) = Terminal::enter().context("cannot draw on this terminal")?;
            self.logs.keep();
            return Ok(Show::Screen { terminal, keys });
        }
        let seconds = self.data.as_ref().map_or(USUAL_REPORT_SECONDS, |data| {
            data.settings.console.stats_output_frequency
        });
        let period = Duration::from_secs(seconds);
        Ok(Show::Lines((!period.is_zero()).then_some(period)))
    }

    /// Follows the file of settings, if there is one.
    async fn follow(&self, kinds: Vec<WorkKind>) -> Infallible {
        let (Some(data), Some(path)) = (&self.data, &self.args.stock.bridge_data) else {
            return std::future::pending().await;
        };
        let file = ConfigFile::new(path.clone(), crate::settings::worker_environment());
        let follower = Follower {
            args: self.args,
            controls: &self.controls,
            kinds,
            settings: data.settings.clone(),
        };
        match file.watch() {
            Ok((changes, watching)) => follower.run(changes, watching).await,
            Err(wrong) => {
                tracing::error!(%wrong, "the settings are not watched");
                std::future::pending().await
            }
        }
    }
}

/// Answers questions about the worker, if anybody may ask.
async fn answer(listener: Option<Listener>, seen: watch::Receiver<Status>) -> Infallible {
    match listener {
        Some(listener) => listener.serve(seen).await,
        None => std::future::pending().await,
    }
}

fn farewell(ended: Result<Status, RunError>, last: &Status) -> Result<Exit> {
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

/// What a file says of roles, engines and the console, where the command line says nothing.
fn adopt(args: &mut Work, data: &BridgeData) -> Result<()> {
    let Settings {
        roles,
        backend,
        console,
        ..
    } = &data.settings;
    if !args.dreamer && !args.scribe && !args.alchemist {
        args.dreamer = roles.contains(&Role::Dreamer);
        args.scribe = roles.contains(&Role::Scribe);
        args.alchemist = roles.contains(&Role::Alchemist);
    }
    if args.engine.is_empty() {
        // Who names a text model wants it to write.
        let is_native = args.text_model.is_some();
        args.engine = file_engines(args.scribe && !is_native, backend)?;
        args.engine
            .extend(is_native.then_some(EngineChoice::Native));
    }
    if args.engine_key.is_none() {
        args.engine_key = backend.api_key.as_ref().map(|key| key.reveal().to_owned());
    }
    args.plain |= console.disable_terminal_ui;
    if let (None, Some(bind)) = (args.metrics, &console.status_bind) {
        let wrong = || format!("`status_bind` is no address such as 127.0.0.1:9100: `{bind}`");
        args.metrics = Some(bind.parse().with_context(wrong)?);
    }
    if backend.safety.as_deref() == Some("remote") && args.safety.is_none() {
        eprintln!("Note: `safety: remote` needs the address of a classifier: give `--safety URL`");
    }
    args.sfw |= !data.config.nsfw;
    adopt_devices(args, &data.settings)
}

/// What start scripts of deployed workers say.
fn adopt_legacy(args: &mut Work) {
    let legacy = std::mem::take(&mut args.legacy);
    for word in legacy.vain() {
        eprintln!("Note: {word}");
    }
    let client = &mut args.client;
    client.horde = client.horde.take().or(legacy.horde_url);
    client.api_key = client.api_key.take().or(legacy.owner);
    if let Some(power) = legacy.max_power {
        args.max_pixels = i64::from(power) * i64::from(PIXELS_PER_POWER);
    }
    let has_writer = args.engine.iter().any(|it| it.makes() == Makes::Texts);
    if let Some(url) = legacy.kai_url.filter(|_| !has_writer) {
        args.engine.push(if legacy.openai_api {
            EngineChoice::OpenAi(url)
        } else {
            EngineChoice::Kobold(url)
        });
    }
}

/// On what to compute, and with how much memory.
fn adopt_devices(args: &mut Work, settings: &Settings) -> Result<()> {
    if args.devices.is_empty() && args.computing.device == DeviceChoice::Auto {
        let devices = settings.backend.devices.iter().map(|text| device(text));
        args.devices = devices.collect::<Result<_>>()?;
    }
    let (effort, computing) = (&settings.effort, &mut args.computing);
    if computing.ram_budget == Budget::Auto {
        computing.ram_budget = budget(effort.ram_budget_mb, effort.ram_to_leave_free);
    }
    if computing.vram_budget == Budget::Auto {
        computing.vram_budget = budget(effort.vram_budget_mb, effort.vram_to_leave_free);
    }
    Ok(())
}

/// A device as files name it; a number alone is a card.
fn device(text: &str) -> Result<DeviceChoice> {
    let text = text.trim();
    let number = text.parse::<usize>().map(|number| format!("cuda:{number}"));
    let device = number.unwrap_or_else(|_| text.to_owned()).parse();
    device.map_err(|reason: String| anyhow!("`devices`: {reason}"))
}

/// What may be taken of a memory, or must stay free of it.
fn budget(most: Option<u64>, free: Option<Amount>) -> Budget {
    match (most, free) {
        (Some(most), _) => Budget::Megabytes(most),
        (None, Some(Amount::Megabytes(free))) => Budget::AllBut(free),
        (None, Some(Amount::Percent(free))) => Budget::Share(100_u8.saturating_sub(free).max(1)),
        (None, None) => Budget::Auto,
    }
}

/// The engines that a file names.
fn file_engines(writes: bool, backend: &Backend) -> Result<Vec<EngineChoice>> {
    let url = |usual: &str| backend.url.clone().unwrap_or_else(|| usual.to_owned());
    let mut engines = match backend.kind.as_deref() {
        None | Some("embedded") => Vec::new(),
        Some("comfyui") => vec![EngineChoice::ComfyUi(url("http://127.0.0.1:8188"))],
        Some("openai") => vec![EngineChoice::OpenAi(url(&backend.kai_url))],
        Some(other) => bail!("`backend: {other}` is not served: use `comfyui`"),
    };
    if writes && !engines.iter().any(|engine| engine.makes() == Makes::Texts) {
        let kai = backend.kai_url.clone();
        engines.push(if backend.openai_api {
            EngineChoice::OpenAi(kai)
        } else {
            EngineChoice::Kobold(kai)
        });
    }
    Ok(engines)
}

/// How long the built-in engine may take for what.
fn timing(data: &BridgeData) -> HostTiming {
    let effort = &data.settings.effort;
    let usual = HostTiming::default();
    let preload = Duration::from_secs(effort.preload_timeout);
    HostTiming {
        start: preload,
        silence: usual.silence.max(preload),
        step: Duration::from_secs(effort.inference_step_timeout),
        ..usual
    }
}

/// Tells the owner what the worker is going to do.
pub(crate) fn tell_level(level: Level) {
    match level {
        Level::Run => {}
        Level::Drain => {
            tracing::warn!("finishing what was popped; once more to hand back what waits");
        }
        Level::Hurry => {
            tracing::warn!("finishing what is being painted; once more to stop at once");
        }
        Level::Abort => tracing::warn!("handing everything back"),
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
    let key = key.or_else(|| (args.is_alone() && !args.check).then(ApiKey::anonymous));
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
        allow_controlnet: args.allow_controlnet,
        allow_sdxl_controlnet: args.allow_sdxl_controlnet,
        max_threads: args.threads,
        queue_size: args.queue,
        blacklist: args.blacklist.clone(),
        forms: forms(&args.forms),
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

/// Forms as they are compared.
fn forms(given: &[String]) -> Vec<String> {
    let forms = given
        .iter()
        .map(|form| form.trim().to_lowercase().replace('-', "_"));
    forms.collect()
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
            allow_controlnet: true,
            allow_sdxl_controlnet: true,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(kind: Option<&str>) -> Backend {
        Backend {
            kind: kind.map(str::to_owned),
            ..Backend::default()
        }
    }

    #[test]
    fn a_file_names_devices_and_memory() {
        let read = |text| device(text).map_err(|error| error.to_string());
        assert_eq!(read("1"), Ok(DeviceChoice::Cuda(1)));
        assert_eq!(read("cuda:0"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert!(read("gpu").unwrap_err().contains("`devices`: `gpu`"));
        let percent = Some(Amount::Percent(20));
        assert_eq!(budget(None, percent), Budget::Share(80));
        assert_eq!(budget(None, Some(Amount::Percent(100))), Budget::Share(1));
        assert_eq!(budget(Some(9), percent), Budget::Megabytes(9));
        assert_eq!(budget(None, Some(Amount::Megabytes(7))), Budget::AllBut(7));
        assert_eq!(budget(None, None), Budget::Auto);
    }

    #[test]
    fn a_file_names_its_engines() {
        let kobold = EngineChoice::Kobold("http://localhost:5000".to_owned());
        let usual = file_engines(true, &backend(None)).unwrap();
        assert_eq!(usual.first(), Some(&kobold));
        assert_eq!(file_engines(false, &backend(Some("embedded"))).unwrap(), []);
        let comfy = EngineChoice::ComfyUi("http://127.0.0.1:8188".to_owned());
        assert_eq!(
            file_engines(true, &backend(Some("comfyui"))).unwrap(),
            [comfy, kobold]
        );
        let openai = Backend {
            openai_api: true,
            ..backend(None)
        };
        let expected = EngineChoice::OpenAi("http://localhost:5000".to_owned());
        assert_eq!(file_engines(true, &openai).unwrap(), [expected]);
        assert!(file_engines(false, &backend(Some("sdapi"))).is_err());
    }
}
