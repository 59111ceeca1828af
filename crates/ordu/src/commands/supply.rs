//! What a worker's engines need beside themselves: models by their names, fetched while it works, and the
//! add-ons of jobs.

mod follow;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_api::worker::WorkKind;
use ordu_worker::bridge_data::BridgeData;
use ordu_worker::manager::{
    CivitaiOptions, Fetched, Folder, Pantry, PantryOptions, Record, Reference, Taste,
    bridge_version, comfy_models, names_of_files, supplies,
};
use ordu_worker::{Config, Controls, Status};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::follow::Follower;

use super::engines::Staff;
use super::host::AddOnFolders;
use super::models::{Depot, Sight, read_bridge_data};
use crate::cli::Work;

/// Before those who know models are asked again.
const AGAIN: Duration = Duration::from_mins(5);

/// How long a worker that is only tried out waits for the names of models.
const NAMED_WITHIN: Duration = Duration::from_secs(20);

/// The models of a worker, if its owner said where they lie or lets a ComfyUI draw.
pub(crate) struct Supply {
    data: BridgeData,
    depot: Depot,
    /// Whether there is a store of its own to fetch into.
    has_store: bool,
}

impl Supply {
    /// Asks nobody yet.
    pub(crate) fn open(args: &Work) -> Result<Self> {
        let is_named = !args.stock.cache_home.is_empty();
        let has_store = args.stock.has_settings() || is_named || args.allow_lora;
        let data = if has_store {
            read_bridge_data(args)?
        } else {
            BridgeData::default()
        };
        let depot = Depot::open(args, &data)?;
        Ok(Self {
            data,
            depot,
            has_store,
        })
    }

    /// The folder of the store, if there is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.has_store.then(|| self.depot.store.home())
    }

    /// The folder that the built-in engine looks into: the one that was named, or that of the store.
    pub(crate) fn models_dir(&self, args: &Work) -> Result<Option<PathBuf>> {
        if args.models_dir.is_some() || !self.has_store {
            return Ok(args.models_dir.clone());
        }
        let folder = self.depot.store.folder(Folder::Compvis);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("`{}` cannot be made", folder.display()))?;
        Ok(Some(folder))
    }

    /// The folders that add-ons of jobs are brought to.
    pub(crate) fn add_on_folders(&self) -> AddOnFolders {
        if !self.has_store {
            return AddOnFolders::default();
        }
        let roots = self.depot.store.roots();
        let folders = |folder: Folder| roots.iter().map(|it| it.join(folder.as_str())).collect();
        AddOnFolders {
            loras: folders(Folder::Lora),
            embeddings: folders(Folder::Ti),
        }
    }

    /// Has add-ons brought to the engine, and models fetched and named, for as long as the result lives.
    /// `status` is that of the worker, which tells how fast it is.
    pub(crate) fn start(
        self,
        controls: Controls,
        status: watch::Receiver<Status>,
        staff: &mut Staff,
    ) -> Result<JoinSet<()>> {
        let mut running = JoinSet::new();
        if let Some(errand) = self.errand(&controls.config(), staff)? {
            running.spawn(errand.run(controls, status));
        }
        Ok(running)
    }

    /// Has models named, for a worker that is only tried out.
    pub(crate) async fn name(self, config: &Config, staff: &mut Staff) -> Result<()> {
        if let Some(errand) = self.errand(config, staff)? {
            // Until then, models go by the names of their files.
            errand.tell(&Reference::default());
            if tokio::time::timeout(NAMED_WITHIN, errand.name())
                .await
                .is_err()
            {
                eprintln!("Note: who knows the names of models does not answer");
            }
        }
        Ok(())
    }

    fn errand(self, config: &Config, staff: &mut Staff) -> Result<Option<Errand>> {
        if !self.has_store && staff.comfy.is_none() {
            return Ok(None);
        }
        let mut pantry = None;
        if self.has_store && staff.engines.image.is_some() {
            let opened = self.pantry(config)?;
            opened
                .open()
                .context("the folders for add-ons cannot be made")?;
            pantry = Some(Arc::new(opened));
        }
        staff.engines.pantry.clone_from(&pantry);
        Ok(Some(Errand {
            names: Names {
                version: bridge_version(&config.bridge_agent),
                comfy: staff.comfy.clone(),
                native: staff.native.clone(),
            },
            kinds: staff.engines.kinds(),
            reads: staff.reads,
            pantry,
            supply: self,
        }))
    }

    fn pantry(&self, config: &Config) -> Result<Pantry> {
        let models = &self.data.settings.models;
        let civitai = CivitaiOptions::public().context("the address of CivitAI is wrong")?;
        let options = PantryOptions {
            budget: models.lora_cache_bytes,
            connections: models.lora_connections as usize,
            taste: taste(config),
            ..PantryOptions::with(civitai)
        };
        let (store, downloads) = (self.depot.store.clone(), self.depot.downloads.clone());
        Ok(Pantry::new(
            store,
            downloads,
            self.depot.web.clone(),
            options,
        ))
    }
}

/// Which add-ons may be used.
fn taste(config: &Config) -> Taste {
    if config.nsfw { Taste::Any } else { Taste::Sfw }
}

/// Whom to tell how models are called.
struct Names {
    version: u64,
    comfy: Option<Arc<ordu_engine::ComfyEngine>>,
    native: Option<Arc<ordu_engine::NamedEngine>>,
}

/// What is done beside the work.
struct Errand {
    supply: Supply,
    names: Names,
    /// Where add-ons go.
    pantry: Option<Arc<Pantry>>,
    /// What the worker does.
    kinds: Vec<WorkKind>,
    /// Whether the built-in engine reads or judges pictures.
    reads: bool,
}

impl Errand {
    async fn run(self, controls: Controls, status: watch::Receiver<Status>) {
        let reference = loop {
            let found = self.name().await;
            // They may be called differently now.
            controls.stir();
            if let Some(reference) = found {
                break reference;
            }
            tokio::time::sleep(AGAIN).await;
        };
        if !self.supply.has_store || self.supply.data.settings.models.offline {
            return;
        }
        let follower = Follower {
            errand: &self,
            reference: &reference,
            controls: &controls,
            status,
        };
        tokio::select! {
            () = self.keep_bringing(&reference, &controls) => {}
            never = follower.run() => match never {},
        }
    }

    /// Fetches what the settings want, whenever they want something else.
    async fn keep_bringing(&self, reference: &Reference, controls: &Controls) {
        let mut settings = controls.settings();
        let mut has_loras = false;
        loop {
            let config = settings.borrow_and_update().clone();
            if let Some(pantry) = &self.pantry {
                pantry.set_taste(taste(&config));
            }
            let bringing = async {
                self.bring(reference, &config, controls).await;
                if config.allow_lora && !has_loras {
                    self.stock_loras().await;
                    has_loras = true;
                }
                std::future::pending::<()>().await;
            };
            // Whatever was begun goes on later, where it stopped.
            tokio::select! {
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = bringing => {}
            }
        }
    }

    /// Has models called as the reference calls them; nothing if it cannot be had, and models go by the
    /// names of their files.
    async fn name(&self) -> Option<Arc<Reference>> {
        match self.supply.depot.reference().await {
            Ok(reference) => {
                self.tell(&reference);
                Some(reference)
            }
            Err(error) => {
                tracing::warn!(%error, "models go by the names of their files");
                self.tell(&Reference::default());
                None
            }
        }
    }

    /// Fetches those of the wanted models that are not here, and what the features that are on need.
    async fn bring(&self, reference: &Reference, config: &Config, controls: &Controls) {
        let known = config.models_to_load.iter().chain(&config.followed);
        let known = known.filter_map(|name| reference.records.get(name));
        let mut wanted: Vec<Record> = known
            .filter(|record| record.may_be_offered_by(self.names.version))
            .cloned()
            .collect();
        if self.names.comfy.is_some() {
            wanted.append(&mut self.helpers(config).await);
        }
        if self.reads {
            let Supply { data, depot, .. } = &self.supply;
            wanted.extend(depot.needed_readers(data, config, &self.kinds));
        }
        for record in &wanted {
            if self.fetch(record).await {
                // A ComfyUI is asked anew.
                self.tell(reference);
                controls.stir();
            }
        }
    }

    /// Tells the engine how its models are called.
    fn tell(&self, reference: &Reference) {
        let custom = &self.supply.data.settings.models.custom_models;
        let version = self.names.version;
        if let Some(comfy) = &self.names.comfy {
            comfy.learn(comfy_models(reference, custom, version));
        }
        if let Some(native) = &self.names.native {
            native.learn(names_of_files(reference, custom, version));
        }
    }

    /// What a ComfyUI needs for the features that are on.
    async fn helpers(&self, config: &Config) -> Vec<Record> {
        let depot = &self.supply.depot;
        depot.supplies(config, supplies(config)).await
    }

    /// Whether files of a model came.
    async fn fetch(&self, record: &Record) -> bool {
        let model = &record.name;
        match self.supply.depot.fetch_model(record, Sight::Hidden).await {
            Ok(Fetched::Now) => {
                tracing::info!(model, "a model was fetched");
                true
            }
            Ok(Fetched::AlreadyThere) => false,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(model, error, "a model could not be fetched");
                false
            }
        }
    }

    async fn stock_loras(&self) {
        let Some(pantry) = &self.pantry else {
            return;
        };
        if self.supply.data.settings.models.purge_loras_on_download
            && let Err(error) = pantry.purge().await
        {
            tracing::warn!(%error, "unknown LoRA files could not be removed");
        }
        let Some(folder) = &self.supply.depot.defaults else {
            return;
        };
        match pantry.stock_defaults(folder).await {
            Ok(loras) => tracing::info!(loras, "the default LoRAs are here"),
            Err(error) => tracing::warn!(%error, "the default LoRAs could not be fetched"),
        }
    }
}
