//! What a file says beyond [`Config`](crate::Config), grouped by who needs it, with the defaults of the
//! deployed worker.
//!
//! # Source
//! `worker.md` § 1.21.

use std::path::PathBuf;

use ordu_api::worker::WorkKind;

use crate::manager::Secret;

/// What a file says beyond [`Config`](crate::Config).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Which kinds of work to do; the image worker if none is named.
    pub roles: Vec<Role>,
    /// Models, LoRAs and where they lie.
    pub models: ModelSettings,
    /// How hard to work the machine.
    pub effort: Effort,
    /// What does the work.
    pub backend: Backend,
    /// What to tell whoever watches.
    pub console: Console,
}

impl Settings {
    /// The kinds of work, as the protocol calls them.
    pub fn kinds(&self) -> Vec<WorkKind> {
        if self.roles.is_empty() {
            return vec![WorkKind::Image];
        }
        let kind = |role: &Role| match role {
            Role::Dreamer => WorkKind::Image,
            Role::Scribe => WorkKind::Text,
            Role::Alchemist => WorkKind::Interrogation,
        };
        self.roles.iter().map(kind).collect()
    }
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Pictures.
    Dreamer,
    /// Texts.
    Scribe,
    /// Picture tools.
    Alchemist,
}

/// Models, LoRAs and where they lie.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its owner's"
)]
pub struct ModelSettings {
    /// Roots of the model store, the first of which comes first.
    pub cache_home: Vec<PathBuf>,
    /// Further roots, which are only read.
    pub extra_folders: Vec<PathBuf>,
    /// Scratch.
    pub temp_dir: PathBuf,
    /// Whether meta instructions may mean large models.
    pub load_large_models: bool,
    /// Models that no reference knows.
    pub custom_models: Vec<CustomModel>,
    /// Whether to follow the longest queues.
    pub dynamic_models: bool,
    /// How many models follow them.
    pub number_of_dynamic_models: u32,
    /// How many models may be fetched for that.
    pub max_models_to_download: u32,
    /// What LoRAs that jobs bring may take, in bytes.
    pub lora_cache_bytes: u64,
    /// What must stay free on the disk, in bytes.
    pub min_disk_free: u64,
    /// LoRAs that are fetched at the same time.
    pub lora_connections: u32,
    /// Whether LoRA files that no index knows are removed.
    pub purge_loras_on_download: bool,
    /// The token for CivitAI.
    pub civitai_api_token: Option<Secret>,
    /// Bytes per second over all transfers.
    pub bandwidth_limit: Option<u64>,
    /// Connections to one file.
    pub download_connections: u32,
    /// Whether nothing may be fetched.
    pub offline: bool,
    /// A prefix for addresses at GitHub.
    pub github_proxy: Option<String>,
    /// The primary service of the model reference.
    pub reference_url: Option<String>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            cache_home: vec![PathBuf::from("./models/")],
            extra_folders: Vec::new(),
            temp_dir: PathBuf::from("./tmp/"),
            load_large_models: false,
            custom_models: Vec::new(),
            dynamic_models: false,
            number_of_dynamic_models: 0,
            max_models_to_download: 10,
            lora_cache_bytes: 10 << 30,
            min_disk_free: 1 << 30,
            lora_connections: 4,
            purge_loras_on_download: false,
            civitai_api_token: None,
            bandwidth_limit: None,
            download_connections: 8,
            offline: false,
            github_proxy: None,
            reference_url: None,
        }
    }
}

/// A model that no reference knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomModel {
    /// Its name in the horde.
    pub name: String,
    /// Its family.
    pub baseline: String,
    /// Where it is.
    pub file: PathBuf,
}

/// How hard to work the machine.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its owner's"
)]
pub struct Effort {
    /// Keep models in memory.
    pub high_memory_mode: bool,
    /// Keep everything on the card.
    pub very_high_memory_mode: bool,
    /// Free the card between jobs.
    pub unload_models_from_vram_often: bool,
    /// Load several models at once.
    pub very_fast_disk_mode: bool,
    /// Start the next job during post-processing.
    pub post_process_job_overlap: bool,
    /// What must stay free of memory; none means by itself.
    pub ram_to_leave_free: Option<Amount>,
    /// What must stay free of the card's memory; none means by itself.
    pub vram_to_leave_free: Option<Amount>,
    /// What the worker may take of the card's memory, in MB.
    pub vram_budget_mb: Option<u64>,
    /// What the worker may take of memory, in MB.
    pub ram_budget_mb: Option<u64>,
    /// Before all is considered stuck, in seconds.
    pub process_timeout: u64,
    /// For loading a model, in seconds.
    pub preload_timeout: u64,
    /// For fetching add-ons, in seconds.
    pub download_timeout: u64,
    /// For post-processing, in seconds.
    pub post_process_timeout: u64,
    /// Between two steps, in seconds.
    pub inference_step_timeout: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            high_memory_mode: false,
            very_high_memory_mode: false,
            unload_models_from_vram_often: true,
            very_fast_disk_mode: false,
            post_process_job_overlap: false,
            ram_to_leave_free: None,
            vram_to_leave_free: None,
            vram_budget_mb: None,
            ram_budget_mb: None,
            process_timeout: 300,
            preload_timeout: 80,
            download_timeout: 121,
            post_process_timeout: 60,
            inference_step_timeout: 15,
        }
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Of what there is, in percent.
    Percent(u8),
    /// In MB.
    Megabytes(u64),
}

/// What does the work.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// `embedded`, `comfyui`, `sdapi` or `openai`.
    pub kind: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// The key for it.
    pub api_key: Option<Secret>,
    /// The accelerators to use; all if none is named.
    pub devices: Vec<String>,
    /// Where what writes texts is.
    pub kai_url: String,
    /// Whether that speaks OpenAI's API instead of Kobold's.
    pub openai_api: bool,
    /// Judge pictures on the accelerator.
    pub safety_on_gpu: bool,
    /// Who judges pictures: `embedded` or `remote`.
    pub safety: Option<String>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            kind: None,
            url: None,
            api_key: None,
            devices: Vec::new(),
            kai_url: "http://localhost:5000".to_owned(),
            openai_api: false,
            safety_on_gpu: false,
            safety: None,
        }
    }
}

/// What to tell whoever watches.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its owner's"
)]
pub struct Console {
    /// Between two reports, in seconds; never if 0.
    pub stats_output_frequency: u64,
    /// No full-screen view.
    pub disable_terminal_ui: bool,
    /// Submits and reports only.
    pub limited_console_messages: bool,
    /// End maintenance at the start.
    pub remove_maintenance_on_init: bool,
    /// Before a word about missing jobs.
    pub minutes_allowed_without_jobs: u64,
    /// Write down what jobs were like.
    pub capture_kudos_training_data: bool,
    /// Where to.
    pub kudos_training_data_file: Option<PathBuf>,
    /// Where to answer questions about the worker.
    pub status_bind: Option<String>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            stats_output_frequency: 30,
            disable_terminal_ui: false,
            limited_console_messages: false,
            remove_maintenance_on_init: false,
            minutes_allowed_without_jobs: 30,
            capture_kudos_training_data: false,
            kudos_training_data_file: None,
            status_bind: None,
        }
    }
}
