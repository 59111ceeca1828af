//! `ordu work --models`: look after the models of a worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use ordu_api::ApiKey;
use ordu_api::worker::WorkKind;
use ordu_client::Horde;
use ordu_worker::bridge_data::{BridgeData, ConfigFile, Environment};
use ordu_worker::manager::{
    Category, Circumstances, DownloadOptions, Downloads, Fetched, Folder, Large, ModelFile,
    Presence, Reader, Record, Reference, ReferenceSources, References, Selection, Store,
    TransferProgress, Wanted, Web, has_instructions, is_needed, needs_usage, readers, select,
    supplies, verify,
};
use ordu_worker::{Config, ConfigError};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cli::{StockTask, Work};
use crate::exit::Exit;
use crate::settings;

/// How a client names itself that asks which models are used most.
const AGENT: &str = concat!("ordu:", env!("CARGO_PKG_VERSION"), ":models");

/// Does what `--models` asks for.
pub(crate) async fn run(task: StockTask, args: &Work) -> Result<Exit> {
    let data = bridge_data(args)?;
    let shelf = Shelf::open(args, &data).await?;
    let wanted = shelf.wanted(task, args, &data).await?;
    let (report, exit) = match task {
        StockTask::List => (shelf.list(&wanted), Exit::Done),
        StockTask::Fetch => shelf.fetch(&wanted, args).await?,
        StockTask::Verify => shelf.verify(&wanted).await?,
        StockTask::Remove => (shelf.remove(&wanted)?, Exit::Done),
    };
    if args.client.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_table(&report);
    }
    Ok(exit)
}

/// The files of the store that are here, compared with their checksums: rows with `name`, `file` and
/// `state`.
pub(crate) async fn examine(args: &Work) -> Result<Value> {
    let data = read_bridge_data(args)?;
    let shelf = Shelf::open(args, &data).await?;
    let mut wanted = shelf.wanted(StockTask::Verify, args, &data).await?;
    wanted.retain(|record| shelf.depot.store.presence(record) != Presence::Missing);
    let (report, _) = shelf.verify(&wanted).await?;
    Ok(report)
}

/// The settings of an existing worker, or those of an empty file; the environment counts in both. What
/// its owner should know is told.
pub(crate) fn bridge_data(args: &Work) -> Result<BridgeData> {
    let data = read_bridge_data(args)?;
    for warning in &data.warnings {
        eprintln!("Note: {warning}");
    }
    Ok(data)
}

/// The same in silence.
pub(crate) fn read_bridge_data(args: &Work) -> Result<BridgeData> {
    let environment = settings::worker_environment();
    let data = match &args.stock.bridge_data {
        Some(path) => ConfigFile::new(path.clone(), environment).load(),
        None if args.stock.load_config_from_env_vars => BridgeData::from_environment(&environment),
        None => BridgeData::parse(Path::new("none.yaml"), "", &environment),
    };
    data.map_err(|wrong| all_that_is_wrong(&wrong))
}

/// `ordu config check`: whether a worker could start with a file.
pub(crate) fn check(file: &Path) -> Result<Exit> {
    let file = ConfigFile::new(file.to_owned(), settings::worker_environment());
    let data = file.load().map_err(|wrong| all_that_is_wrong(&wrong))?;
    for warning in &data.warnings {
        eprintln!("Note: {warning}");
    }
    data.config
        .check(&data.settings.kinds())
        .map_err(|wrong| all_that_is_wrong(&wrong))?;
    println!("A worker can start with these settings");
    Ok(Exit::Done)
}

/// `ordu config to-env`: a file as variables of the environment.
pub(crate) fn to_env(file: &Path) -> Result<Exit> {
    let file = ConfigFile::new(file.to_owned(), Environment::default());
    let told = file.to_environment();
    let told = told.map_err(|wrong| all_that_is_wrong(&wrong))?;
    for (name, value) in &told.lines {
        println!("{name}={value}");
    }
    for key in &told.missing {
        eprintln!("Note: no variable can say what `{key}` says: keep it in a file");
    }
    Ok(if told.missing.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn all_that_is_wrong(wrong: &ConfigError) -> anyhow::Error {
    anyhow!("the settings are wrong:\n  {}", wrong.0.join("\n  "))
}

/// The settings of a worker by its file. What the command line says of horde and key counts more.
pub(crate) async fn config_of(args: &Work, data: &BridgeData) -> Result<Config> {
    let mut config = data.config.clone();
    if let Some(horde) = &args.client.horde {
        config.horde_url.clone_from(horde);
    }
    if let Some(key) = &args.client.api_key {
        config.api_key = ApiKey::new(key.clone());
    }
    let (load, skip) = (&data.config.models_to_load, &data.config.models_to_skip);
    if has_instructions(load) || has_instructions(skip) {
        let shelf = Shelf::open(args, data).await?;
        let selection = shelf.select((load, skip), args, data).await?;
        for note in &selection.notes {
            eprintln!("Note: {note}");
        }
        // A name that no reference knows may still be one of the engine's.
        config.models_to_load = selection.models.into_iter().collect();
        config.models_to_load.extend(selection.unknown);
    }
    let custom = data.settings.models.custom_models.iter();
    config
        .models_to_load
        .extend(custom.map(|model| model.name.clone()));
    Ok(config)
}

/// Where the models of this machine lie, and how others come here.
pub(crate) struct Depot {
    pub(crate) store: Store,
    pub(crate) web: Web,
    pub(crate) downloads: Downloads,
    /// Where the list of default LoRAs is.
    pub(crate) defaults: Option<url::Url>,
    /// With what the built-in engine can read pictures.
    pub(crate) readers: Vec<Reader>,
    references: References,
}

impl Depot {
    /// Asks nobody yet.
    pub(crate) fn open(args: &Work, data: &BridgeData) -> Result<Self> {
        let models = &data.settings.models;
        let homes: &[PathBuf] = match args.stock.cache_home.as_slice() {
            [] => &models.cache_home,
            given => given,
        };
        let store = Store::open(homes, &models.extra_folders).map_err(|reason| anyhow!(reason))?;
        let mut web = Web::new()?;
        if let Some(token) = &models.civitai_api_token {
            web = web.with_token("civitai.com", token);
        }
        let folder = store.folder(Folder::Reference);
        let sources = sources(args, data)?;
        let defaults = sources.images.clone();
        let references = References::new(web.clone(), sources, folder);
        let options = DownloadOptions {
            connections: u64::from(models.download_connections),
            rate: models.bandwidth_limit,
            keep_free: models.min_disk_free,
            offline: models.offline,
            ..DownloadOptions::default()
        };
        let hub = args.stock.hub.as_ref();
        let hub = hub.map(|hub| hub.as_str().trim_end_matches('/'));
        Ok(Self {
            store,
            references,
            defaults,
            readers: readers(hub),
            downloads: Downloads::new(web.clone(), options),
            web,
        })
    }

    /// What is known about image models.
    pub(crate) async fn reference(&self) -> Result<Arc<Reference>> {
        let (reference, _) = self.references.get(Category::ImageGeneration).await?;
        Ok(reference)
    }

    /// Those helpers of these categories that the features of a worker need, as far as they are known.
    pub(crate) async fn supplies(
        &self,
        config: &Config,
        categories: impl IntoIterator<Item = Category>,
    ) -> Vec<Record> {
        let mut needed = Vec::new();
        for category in categories {
            match self.references.get(category).await {
                Ok((reference, _)) => {
                    let records = reference.records.values();
                    needed.extend(records.filter(|r| is_needed(r, config)).cloned());
                }
                Err(error) => eprintln!("Note: {error}"),
            }
        }
        needed
    }

    /// The readers of pictures that a worker of these kinds needs.
    pub(crate) fn needed_readers(
        &self,
        data: &BridgeData,
        config: &Config,
        kinds: &[WorkKind],
    ) -> Vec<Record> {
        let backend = &data.settings.backend;
        let readers = self.readers.iter();
        readers
            .filter(|reader| reader.is_needed(config, backend, kinds))
            .map(|reader| reader.record.clone())
            .collect()
    }

    /// Fetches the files of a model that are not here or not right.
    pub(crate) async fn fetch_model(&self, record: &Record, sight: Sight) -> Result<Fetched> {
        if record.files.is_empty() {
            bail!("its record names no files");
        }
        let mut fetched = Fetched::AlreadyThere;
        for file in &record.files {
            let target = self.store.place(file.folder, &file.name);
            let elsewhere = self.store.find(file.folder, &file.name);
            if elsewhere.is_some_and(|found| found != target) {
                continue;
            }
            let Some(wanted) = Wanted::of(file, target) else {
                bail!("its record does not say where `{}` can be had", file.name);
            };
            let came = match sight {
                Sight::Shown => self.fetch_shown(&wanted, &file.name).await?,
                Sight::Hidden => {
                    let unseen = watch::Sender::new(TransferProgress::default());
                    self.downloads.fetch(&wanted, &unseen).await?
                }
            };
            if came == Fetched::Now {
                fetched = Fetched::Now;
            }
        }
        Ok(fetched)
    }

    async fn fetch_shown(&self, wanted: &Wanted, name: &str) -> Result<Fetched> {
        let (progress, mut told) = watch::channel(TransferProgress::default());
        let bar = ProgressBar::no_length().with_message(name.to_owned());
        bar.set_style(ProgressStyle::with_template(
            "{msg} {bar:30} {bytes}/{total_bytes} {prefix}",
        )?);
        let fetch = self.downloads.fetch(wanted, &progress);
        tokio::pin!(fetch);
        let ended = loop {
            tokio::select! {
                ended = &mut fetch => break ended,
                changed = told.changed() => {
                    if changed.is_ok() {
                        show(&bar, *told.borrow_and_update());
                    }
                }
            }
        };
        bar.finish_and_clear();
        Ok(ended?)
    }
}

/// Whether somebody watches a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Shown,
    Hidden,
}

/// The models of this machine and what is known about models.
struct Shelf {
    depot: Depot,
    reference: Arc<Reference>,
}

impl Shelf {
    async fn open(args: &Work, data: &BridgeData) -> Result<Self> {
        let depot = Depot::open(args, data)?;
        let reference = depot.reference().await?;
        Ok(Self { depot, reference })
    }

    /// The models that the command is about.
    async fn wanted(&self, task: StockTask, args: &Work, data: &BridgeData) -> Result<Vec<Record>> {
        let readers = self.depot.readers.iter().map(|reader| &reader.record);
        let records = self.reference.records.values().chain(readers);
        let (readers, named) = self.named_readers(&args.stock.names);
        let entries = match task {
            _ if !named.is_empty() => &named,
            _ if !readers.is_empty() => return Ok(readers),
            StockTask::List => return Ok(records.cloned().collect()),
            StockTask::Verify => {
                let here =
                    |record: &&Record| self.depot.store.presence(record) != Presence::Missing;
                return Ok(records.filter(here).cloned().collect());
            }
            StockTask::Fetch if args.stock.has_settings() => &data.config.models_to_load,
            StockTask::Fetch | StockTask::Remove => {
                bail!("name the models, such as `ordu work --models fetch \"top 2\"`")
            }
        };
        let skip: &[String] = if named.is_empty() {
            &data.config.models_to_skip
        } else {
            &[]
        };
        let selection = self.select((entries, skip), args, data).await?;
        for note in &selection.notes {
            eprintln!("Note: {note}");
        }
        if !selection.unknown.is_empty() {
            bail!(
                "nobody knows the models `{}`",
                selection.unknown.join("`, `")
            );
        }
        let names = selection.models.iter();
        let mut wanted: Vec<_> = names
            .filter_map(|name| self.reference.records.get(name))
            .cloned()
            .collect();
        if named.is_empty() {
            let categories = supplies(&data.config);
            wanted.append(&mut self.depot.supplies(&data.config, categories).await);
            let kinds = data.settings.kinds();
            wanted.extend(self.depot.needed_readers(data, &data.config, &kinds));
        }
        wanted.extend(readers);
        Ok(wanted)
    }

    /// Those names that stand for readers of pictures, by their own or by their forms, and the others.
    fn named_readers(&self, names: &[String]) -> (Vec<Record>, Vec<String>) {
        let known = &self.depot.readers;
        let is_named = |reader: &&Reader| {
            let mut names = names.iter();
            names.any(|name| *name == reader.form || *name == reader.record.name)
        };
        let named: Vec<_> = known.iter().filter(is_named).collect();
        let others = names.iter().filter(|name| {
            let mut named = named.iter();
            !named.any(|reader| **name == reader.form || **name == reader.record.name)
        });
        let others = others.cloned().collect();
        (
            named.into_iter().map(|it| it.record.clone()).collect(),
            others,
        )
    }

    /// What entries to load and to skip mean now.
    async fn select(
        &self,
        (load, skip): (&[String], &[String]),
        args: &Work,
        data: &BridgeData,
    ) -> Result<Selection> {
        let usage = if needs_usage(load) || needs_usage(skip) {
            let horde = args.client.horde.as_deref();
            let horde = horde.unwrap_or(&data.config.horde_url);
            let horde = Horde::new(horde, ApiKey::anonymous(), AGENT)?;
            let counts = horde.image_model_stats().await;
            Some(
                counts
                    .context("the horde does not say which models are used most")?
                    .month,
            )
        } else {
            None
        };
        let large = if data.settings.models.load_large_models {
            Large::Allowed
        } else {
            Large::LeftOut
        };
        let world = Circumstances {
            reference: &self.reference,
            usage: usage.as_ref(),
            card_mb: data.settings.effort.vram_budget_mb,
            large,
        };
        Ok(select(load, skip, &world))
    }

    fn list(&self, wanted: &[Record]) -> Value {
        let rows = wanted.iter().map(|record| {
            json!({
                "name": record.name,
                "baseline": record.family.as_str(),
                "state": self.depot.store.presence(record).as_str(),
                "bytes": record.size(),
                "nsfw": record.nsfw,
            })
        });
        rows.collect()
    }

    async fn fetch(&self, wanted: &[Record], args: &Work) -> Result<(Value, Exit)> {
        let missing = |record: &Record| -> Vec<ModelFile> {
            let files = record.files.iter();
            let absent =
                files.filter(|file| self.depot.store.find(file.folder, &file.name).is_none());
            absent.cloned().collect()
        };
        let files: Vec<_> = wanted.iter().flat_map(missing).collect();
        let known: u64 = files.iter().filter_map(|file| file.bytes).sum();
        let unknown = files.iter().filter(|file| file.bytes.is_none()).count();
        let more = match unknown {
            0 => String::new(),
            count => format!(" and {count} of unknown size"),
        };
        eprintln!(
            "{} models, {} files to fetch: {}{more}, into `{}`",
            wanted.len(),
            files.len(),
            HumanBytes(known),
            self.depot.store.home().display()
        );
        let mut rows = Vec::new();
        let mut exit = Exit::Done;
        for record in wanted {
            let (state, reason) = if args.stock.plan {
                (self.depot.store.presence(record).as_str(), None)
            } else {
                match self.depot.fetch_model(record, Sight::Shown).await {
                    Ok(Fetched::Now) => ("fetched", None),
                    Ok(Fetched::AlreadyThere) => ("present", None),
                    Err(error) => {
                        exit = Exit::Failed;
                        ("failed", Some(format!("{error:#}")))
                    }
                }
            };
            let bytes: Option<u64> = missing(record).iter().map(|file| file.bytes).sum();
            rows.push(json!({
                "name": record.name, "state": state, "missing_bytes": bytes, "reason": reason
            }));
        }
        Ok((Value::Array(rows), exit))
    }

    async fn verify(&self, wanted: &[Record]) -> Result<(Value, Exit)> {
        let mut rows = Vec::new();
        let mut exit = Exit::Done;
        for record in wanted {
            for file in &record.files {
                let state = match self.depot.store.find(file.folder, &file.name) {
                    None => "missing",
                    Some(path) => {
                        let file = file.clone();
                        let right = tokio::task::spawn_blocking(move || verify(&file, &path));
                        match right.await?.with_context(|| format!("`{}`", record.name))? {
                            Some(true) => "right",
                            Some(false) => "wrong",
                            None => "unchecked",
                        }
                    }
                };
                if matches!(state, "missing" | "wrong") {
                    exit = Exit::Failed;
                }
                rows.push(json!({"name": record.name, "file": file.name, "state": state}));
            }
        }
        Ok((Value::Array(rows), exit))
    }

    fn remove(&self, wanted: &[Record]) -> Result<Value> {
        let mut rows = Vec::new();
        for record in wanted {
            let kept = self.reference.records.values().filter(|other| {
                let going = wanted.iter().any(|gone| gone.name == other.name);
                !going && self.depot.store.presence(other) == Presence::Present
            });
            let freed = self.depot.store.remove(record, kept);
            let freed = freed.with_context(|| format!("`{}` could not be removed", record.name))?;
            rows.push(json!({"name": record.name, "state": "removed", "freed_bytes": freed}));
        }
        Ok(Value::Array(rows))
    }
}

/// Where the reference of models comes from.
fn sources(args: &Work, data: &BridgeData) -> Result<ReferenceSources> {
    let models = &data.settings.models;
    let mut sources = ReferenceSources {
        offline: models.offline,
        ..ReferenceSources::default()
    };
    if let Some(url) = &models.reference_url {
        let url = url
            .parse()
            .context("the address of the model reference is wrong")?;
        sources.primary = Some(url);
    }
    if let Some(url) = &args.stock.reference_url {
        sources.primary = Some(url.clone());
    }
    if let Some(prefix) = &models.github_proxy {
        for source in [&mut sources.images, &mut sources.texts] {
            if let Some(url) = source {
                let proxied = format!("{prefix}{url}").parse();
                *source = Some(proxied.context("`GITHUB_PROXY_URL_BASE` is no address")?);
            }
        }
    }
    Ok(sources)
}

fn show(bar: &ProgressBar, progress: TransferProgress) {
    if let Some(total) = progress.total {
        bar.set_length(total);
    }
    bar.set_position(progress.bytes);
    let eta = progress.eta.map(|eta| format!(", {}", HumanDuration(eta)));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and a speed is positive"
    )]
    let speed = HumanBytes(progress.speed as u64);
    bar.set_prefix(format!("{speed}/s{}", eta.unwrap_or_default()));
}

/// One line for each row: its texts, and its sizes as people read them.
fn print_table(rows: &Value) {
    for row in rows.as_array().into_iter().flatten() {
        let members = row.as_object().into_iter().flatten();
        let cells = members.filter_map(|(key, value)| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) if key.ends_with("bytes") => {
                Some(HumanBytes(value.as_u64().unwrap_or_default()).to_string())
            }
            _ => None,
        });
        println!("{}", cells.collect::<Vec<_>>().join("\t"));
    }
}
