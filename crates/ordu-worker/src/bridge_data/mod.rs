//! The file of the deployed worker, `bridgeData.yaml`: read as it is, checked whole, and watched.
//!
//! Every key is a line of a table (`keys`). What this worker's [`Config`] has a field for goes there;
//! the rest is in [`Settings`], grouped by who needs it. Keys that nobody knows are told and kept.
//!
//! # Source
//! `worker.md` § 1.21, 1.22.

mod effects;
mod environment;
mod keys;
mod settings;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tokio::sync::watch;

pub use environment::Environment;
pub use settings::{Amount, Backend, Console, CustomModel, Effort, ModelSettings, Role, Settings};

use crate::{Config, ConfigError, Haste};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// How often a watched file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgeData {
    /// What the image worker already knows.
    pub config: Config,
    /// The rest.
    pub settings: Settings,
    /// What its owner should know, such as keys that nobody knows.
    pub warnings: Vec<String>,
    /// The keys that nobody knows.
    pub unknown: Map<String, Value>,
}

impl Default for BridgeData {
    /// What the deployed worker does with an empty file.
    fn default() -> Self {
        let config = Config {
            horde_url: "https://aihorde.net/api/".to_owned(),
            models_to_load: vec!["top 2".to_owned()],
            allow_painting: false,
            allow_post_processing: false,
            ..Config::default()
        };
        Self {
            config,
            settings: Settings::default(),
            warnings: Vec::new(),
            unknown: Map::new(),
        }
    }
}

impl BridgeData {
    /// Reads the text of a file: JSON if `path` ends so, YAML otherwise.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let members = members(path, text).map_err(|reason| ConfigError(vec![reason]))?;
        Self::read(members, environment)
    }

    /// What the environment alone says, where `AIWORKER_REGEN_<KEY>` stands for each key.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Self::read(environment.members(), environment)
    }

    fn read(members: Map<String, Value>, environment: &Environment) -> Result<Self, ConfigError> {
        let mut data = Self::default();
        let mut wrong = Vec::new();
        for (key, value) in members {
            data.set(&key, &value, &mut wrong);
        }
        for (key, value) in environment.overrides() {
            data.set(key, &value, &mut wrong);
        }
        environment.set_models(&mut data.settings.models, &mut wrong);
        data.reconcile(&mut wrong);
        if wrong.is_empty() {
            Ok(data)
        } else {
            Err(ConfigError(wrong))
        }
    }

    fn set(&mut self, key: &str, value: &Value, wrong: &mut Vec<String>) {
        match keys::find(key) {
            Some(rule) if !value.is_null() => {
                if let Err(reason) = rule.apply(self, value) {
                    wrong.push(format!("`{key}` {reason}"));
                }
            }
            Some(_) => {}
            None => {
                self.warnings
                    .push(format!("`{key}` is no key that this worker knows"));
                self.unknown.insert(key.to_owned(), value.clone());
            }
        }
    }

    /// Of two switches that are on, the hastier counts.
    fn hurries(&mut self, haste: Haste, on: bool) {
        if on {
            self.config.haste = self.config.haste.max(haste);
        }
    }

    /// What keys mean for each other, and what they may not mean together.
    fn reconcile(&mut self, wrong: &mut Vec<String>) {
        let config = &mut self.config;
        if config.allow_sdxl_controlnet && !config.allow_controlnet {
            config.allow_sdxl_controlnet = false;
            self.warnings.push(
                "`allow_sdxl_controlnet` needs `allow_controlnet`, and is off without it"
                    .to_owned(),
            );
        }
        if config.allow_controlnet && !config.allow_img2img {
            config.allow_controlnet = false;
            config.allow_sdxl_controlnet = false;
            self.warnings
                .push("`allow_controlnet` needs `allow_img2img`, and is off without it".to_owned());
        }
        let effort = &mut self.settings.effort;
        effort.high_memory_mode |= effort.very_high_memory_mode;
        if config.extra_slow_worker {
            config.haste = Haste::None;
            effort.high_memory_mode = false;
            effort.very_high_memory_mode = false;
            effort.preload_timeout = effort.preload_timeout.max(120);
        }
        let models = &self.settings.models;
        if models.dynamic_models && models.number_of_dynamic_models == 0 {
            self.warnings.push(
                "`dynamic_models` follows nothing while `number_of_dynamic_models` is 0".to_owned(),
            );
        }
        let roles = &self.settings.roles;
        let is_dreamer = roles.is_empty() || roles.contains(&Role::Dreamer);
        if is_dreamer && self.config.dreamer_name() == "An Awesome Dreamer" {
            wrong.push("`dreamer_name` must be changed to a name of your own".to_owned());
        }
        let unheeded = effects::unheeded(&self.settings);
        self.warnings.extend(unheeded);
    }
}

/// The keys of a file and their values.
fn members(path: &Path, text: &str) -> Result<Map<String, Value>, String> {
    let is_json = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let value: Value = if is_json {
        serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?
    } else {
        value::yaml(text)?
    };
    match value {
        Value::Object(members) => Ok(members),
        Value::Null => Ok(Map::new()),
        _ => Err("it must be a list of keys and values".to_owned()),
    }
}

/// A file as variables of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// Names and values.
    pub lines: Vec<(String, String)>,
    /// Keys whose values no variable can have.
    pub missing: Vec<String>,
}

/// Whether a variable means what a key of the file does.
fn means_the_same(key: &str, value: &Value, (name, text): &(String, String)) -> bool {
    let file = Map::from_iter([(key.to_owned(), value.clone())]);
    let environment = Environment::new([(name.clone(), text.clone())]);
    let said = BridgeData::read(environment.members(), &Environment::default());
    BridgeData::read(file, &Environment::default()) == said
}

/// A file, to be read now and watched later.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    environment: Environment,
}

/// What became of a change to a watched file. The settings before it stay if it is wrong.
pub type Change = Result<BridgeData, ConfigError>;

impl ConfigFile {
    /// A file, and the environment that counts more.
    pub fn new(path: PathBuf, environment: Environment) -> Self {
        Self { path, environment }
    }

    /// What it says now.
    ///
    /// # Errors
    /// If it cannot be read, and everything that is wrong with it.
    pub fn load(&self) -> Result<BridgeData, ConfigError> {
        BridgeData::parse(&self.path, &self.read()?, &self.environment)
    }

    fn read(&self) -> Result<String, ConfigError> {
        let unreadable = |reason: String| {
            let path = self.path.display();
            ConfigError(vec![format!("`{path}` cannot be read: {reason}")])
        };
        let found = std::fs::metadata(&self.path).map_err(|error| unreadable(error.to_string()))?;
        if found.len() > MAX_BYTES {
            return Err(unreadable(format!("it is larger than {MAX_BYTES} bytes")));
        }
        std::fs::read_to_string(&self.path).map_err(|error| unreadable(error.to_string()))
    }

    /// What it says as variables of the environment, for `-e`.
    ///
    /// # Errors
    /// If it cannot be read, and everything that is wrong with it.
    pub fn to_environment(&self) -> Result<Variables, ConfigError> {
        let wrong = |reason| ConfigError(vec![reason]);
        let members = members(&self.path, &self.read()?).map_err(wrong)?;
        BridgeData::read(members.clone(), &Environment::default())?;
        let mut found = Variables::default();
        for (key, value) in members {
            if value.is_null() {
                continue;
            }
            let variable = environment::variable(&key, &value);
            match variable.filter(|variable| means_the_same(&key, &value, variable)) {
                Some(variable) => found.lines.push(variable),
                None => found.missing.push(key),
            }
        }
        Ok(found)
    }

    /// Watches it: whenever it was written to, what it says then, or what is wrong with it. The first
    /// value is that of now. Ends when nobody listens any more.
    ///
    /// # Errors
    /// If it is wrong now.
    pub fn watch(
        self,
    ) -> Result<(watch::Receiver<Change>, impl Future<Output = ()> + Send), ConfigError> {
        self.watch_every(WATCH_INTERVAL)
    }

    /// The same, looking at another pace.
    ///
    /// # Errors
    /// If it is wrong now.
    pub fn watch_every(
        self,
        interval: Duration,
    ) -> Result<(watch::Receiver<Change>, impl Future<Output = ()> + Send), ConfigError> {
        let mut seen = self.state();
        let first = self.load()?;
        let (sender, receiver) = watch::channel(Ok(first));
        let watching = async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(interval) => {}
                }
                let now = self.state();
                // A file that is gone is being replaced by its editor.
                if now.is_none() || now == seen {
                    continue;
                }
                seen = now;
                drop(sender.send_replace(self.load()));
            }
        };
        Ok((receiver, watching))
    }

    /// When it was written to, and its size.
    fn state(&self) -> Option<(SystemTime, u64)> {
        let found = std::fs::metadata(&self.path).ok()?;
        Some((found.modified().ok()?, found.len()))
    }
}

/// Every key that a file may have, with what it may be, for documentation.
pub fn known_keys() -> BTreeMap<&'static str, String> {
    keys::all().map(|key| (key.name, key.describe())).collect()
}

#[cfg(test)]
mod tests;
