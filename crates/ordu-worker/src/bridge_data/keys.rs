//! Every key of the file: its name, what it may be, and where it goes.
//!
//! # Source
//! `worker.md` § 1.21.

use std::path::PathBuf;

use ordu_api::ApiKey;
use serde_json::Value;

use super::value::{address, flag, share, text, texts, whole};
use super::{Amount, BridgeData, CustomModel, Role};
use crate::Haste;
use crate::manager::Secret;

/// One key.
pub(super) struct Key {
    pub(super) name: &'static str,
    rule: Rule,
}

/// What a key may be, and what to do with it.
enum Rule {
    Flag(fn(&mut BridgeData, bool)),
    Whole(u64, u64, fn(&mut BridgeData, u64)),
    Share(fn(&mut BridgeData, f64)),
    Text(fn(&mut BridgeData, String)),
    Address(fn(&mut BridgeData, String)),
    Texts(fn(&mut BridgeData, Vec<String>)),
    /// Anything else, with what it may be in words.
    Other(
        &'static str,
        fn(&mut BridgeData, &Value) -> Result<(), String>,
    ),
    /// Accepted without effect, for this reason.
    Ignored(&'static str),
}

impl Key {
    pub(super) fn apply(&self, to: &mut BridgeData, value: &Value) -> Result<(), String> {
        match self.rule {
            Rule::Flag(set) => set(to, flag(value)?),
            Rule::Whole(least, most, set) => set(to, whole(value, least, most)?),
            Rule::Share(set) => set(to, share(value)?),
            Rule::Text(set) => set(to, text(value)?),
            Rule::Address(set) => set(to, address(value)?),
            Rule::Texts(set) => set(to, texts(value)?),
            Rule::Other(_, set) => return set(to, value),
            Rule::Ignored(reason) => {
                if !matches!(flag(value), Ok(false)) {
                    to.warnings
                        .push(format!("`{}` has no effect: {reason}", self.name));
                }
            }
        }
        Ok(())
    }

    /// What it may be, in words.
    pub(super) fn describe(&self) -> String {
        match self.rule {
            Rule::Flag(_) => "`true` or `false`".to_owned(),
            Rule::Whole(least, most, _) => format!("a whole number from {least} to {most}"),
            Rule::Share(_) => "a number from 0 to 1".to_owned(),
            Rule::Text(_) => "a text".to_owned(),
            Rule::Address(_) => "an address".to_owned(),
            Rule::Texts(_) => "a list of texts".to_owned(),
            Rule::Other(words, _) => words.to_owned(),
            Rule::Ignored(reason) => format!("without effect: {reason}"),
        }
    }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// Lines of the table: `key rule => what happens`.
macro_rules! keys {
    ($($name:ident $rule:ident $(($($limit:expr),*))? |$to:pat_param, $value:pat_param| $act:expr;)*) => {
        &[$(Key { name: stringify!($name), rule: Rule::$rule($($($limit,)*)? |$to, $value| $act) }),*]
    };
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    COMMON
        .iter()
        .chain(DREAMER)
        .chain(OTHERS)
        .chain(WITHOUT_EFFECT)
}

const WITHOUT_EFFECT: &[Key] = &[
    Key {
        name: "always_download",
        rule: Rule::Ignored("the worker never asks"),
    },
    Key {
        name: "disable_disk_cache",
        rule: Rule::Ignored("there is none"),
    },
    Key {
        name: "cycle_process_on_model_change",
        rule: Rule::Ignored("models do not run in processes of their own"),
    },
];

const YEAR: u64 = 366 * 24 * 3600;

const COMMON: &[Key] = keys! {
    horde_url Address |to, url| to.config.horde_url = url;
    api_key Other("22 characters, or `0000000000`") |to, value| api_key(to, value);
    priority_usernames Other("a list of `alias#id`") |to, value| priority(to, value);
    worker_name Text |to, name| to.config.worker_name = name;
    max_threads Whole(1, 16) |to, count| to.config.max_threads = small(count);
    queue_size Whole(0, 4) |to, count| to.config.queue_size = small(count);
    max_batch Whole(1, 20) |to, count| to.config.max_batch = small(count);
    safety_on_gpu Flag |to, on| to.settings.backend.safety_on_gpu = on;
    require_upfront_kudos Flag |to, on| to.config.require_upfront_kudos = on;
    allow_unsafe_ip Flag |to, on| to.config.allow_unsafe_ip = on;
    stats_output_frequency Whole(0, YEAR) |to, s| to.settings.console.stats_output_frequency = s;
    cache_home Other("folders, separated by `;`") |to, value| cache_home(to, value);
    temp_dir Text |to, path| to.settings.models.temp_dir = folder(&path);
    disable_terminal_ui Flag |to, on| to.settings.console.disable_terminal_ui = on;
    suppress_speed_warnings Flag |to, on| to.config.suppress_speed_warnings = on;
    remove_maintenance_on_init Flag |to, on| to.settings.console.remove_maintenance_on_init = on;
    limited_console_messages Flag |to, on| to.settings.console.limited_console_messages = on;
    exit_on_unhandled_faults Flag |to, on| to.config.exit_on_unhandled_faults = on;
    minutes_allowed_without_jobs Whole(0, 3599) |to, m| to.settings.console.minutes_allowed_without_jobs = m;
};

const DREAMER: &[Key] = keys! {
    dreamer_name Text |to, name| to.config.dreamer_name = named(name);
    max_power Whole(1, 512) |to, power| to.config.max_power = small(power);
    models_to_load Texts |to, names| to.config.models_to_load = names;
    models_to_skip Texts |to, names| to.config.models_to_skip = names;
    load_large_models Flag |to, on| to.settings.models.load_large_models = on;
    custom_models Other("a list of `name`, `baseline`, `filepath`") |to, value| custom_models(to, value);
    model_stickiness Share |to, share| to.config.model_stickiness = share;
    nsfw Flag |to, on| to.config.nsfw = on;
    censor_nsfw Flag |to, on| to.config.censor_nsfw = on;
    censorlist Texts |to, words| to.config.censorlist = words;
    blacklist Texts |to, words| to.config.blacklist = words;
    allow_img2img Flag |to, on| to.config.allow_img2img = on;
    allow_painting Flag |to, on| to.config.allow_painting = on;
    allow_post_processing Flag |to, on| to.config.allow_post_processing = on;
    allow_controlnet Flag |to, on| to.config.allow_controlnet = on;
    allow_sdxl_controlnet Flag |to, on| to.config.allow_sdxl_controlnet = on;
    allow_lora Flag |to, on| to.config.allow_lora = on;
    max_lora_cache_size Whole(10, 2048) |to, gb| to.settings.models.lora_cache_bytes = gb << 30;
    purge_loras_on_download Flag |to, on| to.settings.models.purge_loras_on_download = on;
    civitai_api_token Text |to, token| to.settings.models.civitai_api_token = named(token).map(Secret::new);
    extra_slow_worker Flag |to, on| to.config.extra_slow_worker = on;
    limit_max_steps Flag |to, on| to.config.limit_max_steps = on;
    high_performance_mode Flag |to, on| to.hurries(Haste::High, on);
    moderate_performance_mode Flag |to, on| to.hurries(Haste::Moderate, on);
    high_memory_mode Flag |to, on| to.settings.effort.high_memory_mode = on;
    very_high_memory_mode Flag |to, on| to.settings.effort.very_high_memory_mode = on;
    unload_models_from_vram_often Flag |to, on| to.settings.effort.unload_models_from_vram_often = on;
    very_fast_disk_mode Flag |to, on| to.settings.effort.very_fast_disk_mode = on;
    post_process_job_overlap Flag |to, on| to.settings.effort.post_process_job_overlap = on;
    ram_to_leave_free Other("`N%` or MB") |to, value| {
        to.settings.effort.ram_to_leave_free = amount(value)?;
        Ok(())
    };
    vram_to_leave_free Other("`N%` or MB") |to, value| {
        to.settings.effort.vram_to_leave_free = amount(value)?;
        Ok(())
    };
    process_timeout Whole(1, YEAR) |to, s| to.settings.effort.process_timeout = s;
    preload_timeout Whole(15, YEAR) |to, s| to.settings.effort.preload_timeout = s;
    download_timeout Whole(1, YEAR) |to, s| to.settings.effort.download_timeout = s;
    post_process_timeout Whole(15, YEAR) |to, s| to.settings.effort.post_process_timeout = s;
    inference_step_timeout Whole(15, 30) |to, s| to.settings.effort.inference_step_timeout = s;
    dynamic_models Flag |to, on| to.settings.models.dynamic_models = on;
    number_of_dynamic_models Whole(0, 1000) |to, n| to.settings.models.number_of_dynamic_models = small(n);
    max_models_to_download Whole(0, 1000) |to, n| to.settings.models.max_models_to_download = small(n);
    capture_kudos_training_data Flag |to, on| to.settings.console.capture_kudos_training_data = on;
    kudos_training_data_file Text |to, path| {
        to.settings.console.kudos_training_data_file = named(path).map(|path| folder(&path));
    };
    extra_stable_diffusion_models_folders Texts |to, paths| {
        to.settings.models.extra_folders = paths.iter().map(|path| folder(path)).collect();
    };
};

const OTHERS: &[Key] = keys! {
    scribe_name Text |to, name| to.config.scribe_name = named(name);
    kai_url Address |to, url| to.settings.backend.kai_url = url;
    max_length Whole(1, 16_384) |to, n| to.config.max_length = small(n);
    max_context_length Whole(1, 1_048_576) |to, n| to.config.max_context_length = small(n);
    branded_model Flag |to, on| to.config.branded_model = on;
    openai_api Flag |to, on| to.settings.backend.openai_api = on;
    backend_engine Text |to, word| to.config.backend_engine = named(word);
    alchemist_name Text |to, name| to.config.alchemist_name = named(name);
    forms Other("a list of forms of alchemy") |to, value| forms(to, value);
    bridge_agent Text |to, agent| to.config.bridge_agent = agent;
    trusted_hosts Texts |to, hosts| to.config.trusted_hosts = hosts;
    roles Other("a list of `dreamer`, `scribe`, `alchemist`") |to, value| roles(to, value);
    backend Other("`embedded`, `comfyui`, `sdapi` or `openai`") |to, value| {
        to.settings.backend.kind = Some(one_of(value, &["embedded", "comfyui", "sdapi", "openai"])?);
        Ok(())
    };
    backend_url Address |to, url| to.settings.backend.url = Some(url);
    backend_api_key Text |to, key| to.settings.backend.api_key = named(key).map(Secret::new);
    devices Texts |to, devices| to.settings.backend.devices = devices;
    vram_budget_mb Whole(1, 1 << 30) |to, mb| to.settings.effort.vram_budget_mb = Some(mb);
    ram_budget_mb Whole(1, 1 << 30) |to, mb| to.settings.effort.ram_budget_mb = Some(mb);
    bandwidth_limit Whole(0, 1 << 40) |to, rate| {
        to.settings.models.bandwidth_limit = Some(rate).filter(|rate| *rate > 0);
    };
    status_bind Text |to, bind| to.settings.console.status_bind = named(bind);
    safety Other("`embedded` or `remote`") |to, value| {
        to.settings.backend.safety = Some(one_of(value, &["embedded", "remote"])?);
        Ok(())
    };
    offline Flag |to, on| to.settings.models.offline = on;
    download_connections Whole(1, 64) |to, n| to.settings.models.download_connections = small(n);
};

/// Words for forms that the horde knows; `post_process` stands for all post-processors.
const FORMS: &[&str] = &[
    "caption",
    "nsfw",
    "interrogation",
    "post_process",
    "vectorize",
    "palette",
    "describe",
    "aesthetic",
    "annotation",
];

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A path as people write it, on whatever system: a back-slash separates on Windows only, where it does
/// so anyway, so elsewhere it is taken for what was meant.
fn folder(text: &str) -> PathBuf {
    if cfg!(windows) {
        PathBuf::from(text)
    } else {
        PathBuf::from(text.replace('\\', "/"))
    }
}

fn api_key(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    // The value is a secret, and stays out of the message.
    let wrong = || "must be 22 characters, or `0000000000`".to_owned();
    // Without quotes YAML reads the anonymous key as a number.
    let key = match value.as_f64() {
        Some(0.0) => "0000000000".to_owned(),
        _ => text(value).map_err(|_| wrong())?,
    };
    if key.chars().count() != 22 && key != "0000000000" {
        return Err(wrong());
    }
    to.config.api_key = ApiKey::new(key);
    Ok(())
}

fn priority(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    let names = texts(value)?;
    if let Some(name) = names.iter().find(|name| !crate::config::is_alias(name)) {
        return Err(format!("must be aliases such as `name#1`, not `{name}`"));
    }
    to.config.priority_usernames = names;
    Ok(())
}

fn cache_home(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    let parts = texts(value)?;
    let folders: Vec<_> = parts
        .iter()
        .flat_map(|part| part.split(';'))
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(folder)
        .collect();
    if folders.is_empty() {
        return Err("must name a folder".to_owned());
    }
    to.settings.models.cache_home = folders;
    Ok(())
}

fn custom_models(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    let wrong = || "must be a list of `name`, `baseline` and `filepath`".to_owned();
    let items = value.as_array().ok_or_else(wrong)?;
    let model = |item: &Value| -> Result<CustomModel, String> {
        let member = |key: &str| text(item.get(key).unwrap_or(&Value::Null)).map_err(|_| wrong());
        Ok(CustomModel {
            name: member("name")?,
            baseline: member("baseline")?,
            file: folder(&member("filepath")?),
        })
    };
    to.settings.models.custom_models = items.iter().map(model).collect::<Result<_, _>>()?;
    Ok(())
}

/// The shipped file says `80%` in many places without meaning it, so that means nothing.
fn amount(value: &Value) -> Result<Option<Amount>, String> {
    let wrong = || "must be a share such as `20%`, or MB".to_owned();
    let text = text(value).map_err(|_| wrong())?;
    if text == "80%" {
        return Ok(None);
    }
    let amount = match text.strip_suffix('%') {
        Some(share) => share
            .trim()
            .parse()
            .ok()
            .filter(|share| *share <= 100)
            .map(Amount::Percent),
        None => text.parse().ok().map(Amount::Megabytes),
    };
    amount.map(Some).ok_or_else(wrong)
}

fn forms(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    let forms: Vec<_> = texts(value)?
        .iter()
        .map(|form| form.to_lowercase().replace('-', "_"))
        .collect();
    let processors = ordu_api::image::POST_PROCESSORS;
    let is_known = |form: &str| {
        let mut processors = processors.iter();
        FORMS.contains(&form)
            || processors.any(|known| known.to_lowercase().replace('-', "_") == form)
    };
    if let Some(form) = forms.iter().find(|form| !is_known(form)) {
        return Err(format!("must be forms of alchemy, not `{form}`"));
    }
    to.config.forms = forms;
    Ok(())
}

fn roles(to: &mut BridgeData, value: &Value) -> Result<(), String> {
    let role = |word: &String| match word.to_lowercase().as_str() {
        "dreamer" => Ok(Role::Dreamer),
        "scribe" => Ok(Role::Scribe),
        "alchemist" => Ok(Role::Alchemist),
        _ => Err(format!(
            "must be `dreamer`, `scribe` or `alchemist`, not `{word}`"
        )),
    };
    to.settings.roles = texts(value)?.iter().map(role).collect::<Result<_, _>>()?;
    Ok(())
}

fn one_of(value: &Value, words: &[&str]) -> Result<String, String> {
    let word = text(value)?.to_lowercase();
    if words.contains(&word.as_str()) {
        return Ok(word);
    }
    Err(format!(
        "must be one of `{}`, not `{word}`",
        words.join("`, `")
    ))
}
