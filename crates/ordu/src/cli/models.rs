//! Arguments about the models of a worker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the models of a worker lie, and what to do with them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Stock {
    /// Look after models instead of working.
    #[arg(long, value_name = "WHAT")]
    pub(crate) models: Option<StockTask>,

    /// With `--models`: which ones, by name or as `top 5`, `all sdxl`, `fits` and their like; `caption`,
    /// `interrogation` and `nsfw` are the networks with which the built-in engine answers these forms.
    #[arg(value_name = "NAME", requires = "models")]
    pub(crate) names: Vec<String>,

    /// With `--models fetch`: tell what would be fetched, and fetch nothing.
    #[arg(long, requires = "models")]
    pub(crate) plan: bool,

    /// The settings of an existing worker: its `bridgeData.yaml`, or the same as JSON.
    #[arg(long, env = "ORDU_BRIDGE_DATA", value_name = "FILE")]
    pub(crate) bridge_data: Option<PathBuf>,

    /// Take the settings of a worker from the environment: `AIWORKER_REGEN_` and a key in capitals.
    #[arg(long, short = 'e', conflicts_with = "bridge_data")]
    pub(crate) load_config_from_env_vars: bool,

    /// A root of the model store; the first that can be written to receives what is fetched. Repeatable.
    #[arg(
        long,
        env = "ORDU_CACHE_HOME",
        value_name = "DIR",
        value_delimiter = ';'
    )]
    pub(crate) cache_home: Vec<PathBuf>,

    /// The service that knows models, up to `/api`.
    #[arg(long, env = "ORDU_REFERENCE_URL", value_name = "URL")]
    pub(crate) reference_url: Option<url::Url>,

    /// A mirror of Hugging Face for the networks of `caption`, `interrogation` and `nsfw`.
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL")]
    pub(crate) hub: Option<url::Url>,
}

impl Stock {
    /// Whether there are settings of an existing worker.
    pub(crate) fn has_settings(&self) -> bool {
        self.bridge_data.is_some() || self.load_config_from_env_vars
    }
}

/// What to do with models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StockTask {
    /// Show what there is and what could be fetched.
    List,
    /// Fetch what is missing.
    Fetch,
    /// Compare files with their checksums.
    Verify,
    /// Remove files that no other model needs.
    Remove,
}
