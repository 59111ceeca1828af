//! The environment of existing deployments. It is handed in, never read here.
//!
//! # Source
//! `worker.md` § 1.22.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{CustomModel, ModelSettings};

/// What stands before the name of a key.
const PREFIX: &str = "AIWORKER_REGEN_";

/// Names → the key that they set, whatever the file says. The first that is set wins.
const NAMES: &[(&str, &str)] = &[
    ("AIWORKER_CACHE_HOME", "cache_home"),
    ("AIWORKER_DREAMER_WORKER_NAME", "dreamer_name"),
    (
        "AIWORKER_LIMITED_CONSOLE_MESSAGES",
        "limited_console_messages",
    ),
    ("CIVIT_API_TOKEN", "civitai_api_token"),
    ("AI_HORDE_DEV_URL", "horde_url"),
    ("AI_HORDE_URL", "horde_url"),
    ("AI_HORDE_DEV_APIKEY", "api_key"),
    ("AI_HORDE_MODEL_META_LARGE_MODELS", "load_large_models"),
    ("HF_HUB_OFFLINE", "offline"),
    // As the older workers spell them.
    ("HORDE_URL", "horde_url"),
    ("HORDE_API_KEY", "api_key"),
    ("HORDE_WORKER_NAME", "worker_name"),
    ("HORDE_PRIORITY_USERNAMES", "priority_usernames"),
    ("HORDE_MAX_POWER", "max_power"),
    ("HORDE_MAX_THREADS", "max_threads"),
    ("HORDE_QUEUE_SIZE", "queue_size"),
    ("HORDE_ALLOW_UNSAFE_IP", "allow_unsafe_ip"),
    ("REQUIRE_UPFRONT_KUDOS", "require_upfront_kudos"),
    ("HORDE_MAX_LENGTH", "max_length"),
    ("HORDE_MAX_CONTEXT_LENGTH", "max_context_length"),
    ("HORDE_BRANDED_MODEL", "branded_model"),
    ("HORDE_BACKEND_OPENAI_API", "openai_api"),
    ("HORDE_BACKEND_ENGINE", "backend_engine"),
    ("HORDE_NSFW", "nsfw"),
    ("HORDE_BLACKLIST", "blacklist"),
    ("HORDE_INTERROGATION_FORMS", "forms"),
];

/// Keys whose values are lists.
const LISTS: &[&str] = &["priority_usernames", "blacklist", "forms"];

/// Variables and their values.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// These variables. Empty ones are as good as absent.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let given = variables.into_iter();
        Self(
            given
                .filter(|(_, value)| !value.trim().is_empty())
                .collect(),
        )
    }

    /// The keys that the names of `NAMES` set.
    pub(super) fn overrides(&self) -> Vec<(&'static str, Value)> {
        let mut found: Vec<(&'static str, Value)> = Vec::new();
        for (name, key) in NAMES {
            let Some(text) = self.0.get(*name) else {
                continue;
            };
            if found.iter().any(|(known, _)| known == key) {
                continue;
            }
            let value = if LISTS.contains(key) {
                list(text)
            } else {
                Value::String(text.clone())
            };
            found.push((key, value));
        }
        found
    }

    /// The keys of `AIWORKER_REGEN_<KEY>`.
    pub(super) fn members(&self) -> Map<String, Value> {
        let given = self.0.iter();
        given
            .filter_map(|(name, text)| {
                Some((name.strip_prefix(PREFIX)?.to_lowercase(), typed(text)))
            })
            .collect()
    }

    /// What has no key.
    pub(super) fn set_models(&self, models: &mut ModelSettings, wrong: &mut Vec<String>) {
        let mut number = |name: &str, set: &mut dyn FnMut(u64)| {
            let Some(text) = self.0.get(name) else {
                return;
            };
            match text
                .trim()
                .parse::<u64>()
                .ok()
                .filter(|number| *number < 1 << 40)
            {
                Some(number) => set(number),
                None => wrong.push(format!("`{name}` must be a whole number, not `{text}`")),
            }
        };
        number("AIWORKER_LORA_CACHE_SIZE", &mut |mb| {
            models.lora_cache_bytes = mb << 20;
        });
        number("AIWORKER_LORA_MIN_DISK_FREE_MB", &mut |mb| {
            models.min_disk_free = mb << 20;
        });
        number("AIWORKER_LORA_DOWNLOAD_CONNECTIONS", &mut |count| {
            models.lora_connections = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        });
        if let Some(text) = self.0.get("AIWORKER_EXTRA_MODEL_DIRECTORIES") {
            let folders = text
                .split(';')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            models.extra_folders.extend(folders.map(PathBuf::from));
        }
        if let Some(path) = self.0.get("HORDELIB_CUSTOM_MODELS") {
            match custom_models(path) {
                Ok(found) => models.custom_models.extend(found),
                Err(reason) => wrong.push(format!("`HORDELIB_CUSTOM_MODELS` {reason}")),
            }
        }
        let text = |name: &str| self.0.get(name).cloned();
        models.github_proxy = text("GITHUB_PROXY_URL_BASE").or(models.github_proxy.take());
        let primary = text("HORDE_MODEL_REFERENCE_PRIMARY_API_URL");
        models.reference_url = primary.or(models.reference_url.take());
    }
}

/// A key and its value as a variable, if a value of this kind can be one.
pub(super) fn variable(key: &str, value: &Value) -> Option<(String, String)> {
    let text = match value {
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(plain).collect();
            format!("[{}]", items?.join(", "))
        }
        _ => plain(value)?,
    };
    let is_line = !text.contains(['\n', '\r', '\0']);
    is_line.then(|| (format!("{PREFIX}{}", key.to_uppercase()), text))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// The models of a JSON file: name → `baseline`, `config.files[].path`.
fn custom_models(path: &str) -> Result<Vec<CustomModel>, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let records: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| format!("is no JSON object: {error}"))?;
    let model = |(name, record): (&String, &Value)| {
        let member = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let file = member("/config/files/0/path")
            .ok_or_else(|| format!("says not which file `{name}` is"))?;
        Ok(CustomModel {
            name: name.clone(),
            baseline: member("/baseline").unwrap_or_default().to_owned(),
            file: PathBuf::from(file),
        })
    };
    records.iter().map(model).collect()
}

/// A value of `AIWORKER_REGEN_<KEY>`: a bool, a list, or a text.
fn typed(text: &str) -> Value {
    match text.trim().to_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.contains(['[', ',', ';']) => list(text),
        _ => Value::String(text.trim().to_owned()),
    }
}

fn list(text: &str) -> Value {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let items = inner
        .split([',', ';'])
        .map(|item| item.trim().trim_matches(['"', '\'']));
    let items = items.filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}
