//! What its owner can set. Names are those of the deployed worker's file where it has them.

use std::collections::BTreeMap;
use std::time::Duration;

use ordu_api::ApiKey;
use ordu_api::worker::WorkKind;
use serde::Deserialize;

/// The agent that is sent unless the owner says otherwise.
const AGENT: &str = concat!(
    "Ordu Worker:",
    env!("CARGO_PKG_VERSION"),
    ":",
    env!("CARGO_PKG_REPOSITORY")
);

/// The longest name that the protocol keeps whole, in characters.
const MAX_NAME_CHARS: usize = 100;

/// One unit of `max_power`, in pixels.
const PIXELS_PER_POWER: u64 = 8 * 64 * 64;

/// Settings of a worker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its owner's"
)]
pub struct Config {
    /// Where the horde is, with or without `/api`.
    pub horde_url: String,
    /// The owner's key. The anonymous one may not run workers.
    pub api_key: ApiKey,
    /// The worker's name, unique in the horde, for every role that has no name of its own. With several
    /// roles, scribe and alchemist put their role behind it: the horde wants a name for each.
    pub worker_name: String,
    /// The name as an image worker.
    pub dreamer_name: Option<String>,
    /// The name as a text worker.
    pub scribe_name: Option<String>,
    /// The name as an alchemist.
    pub alchemist_name: Option<String>,
    /// `name:version:contact`. Hordes that do not know `capabilities` judge the worker by it.
    pub bridge_agent: String,
    /// Aliases (`name#1`) of users who are served first.
    pub priority_usernames: Vec<String>,
    /// Jobs that are sampled at the same time, 1 to 16.
    pub max_threads: u32,
    /// Jobs that are popped ahead, 0 to 4.
    pub queue_size: u32,
    /// Pictures of one job, 1 to 20.
    pub max_batch: u32,
    /// The largest picture, in units of 32,768 pixels, 1 to 512: 8 is 512×512, 32 is 1024×1024.
    pub max_power: u32,
    /// Models to offer; all that the engine has if empty.
    pub models_to_load: Vec<String>,
    /// Models to offer besides, because much work waits for them. Not for the file.
    #[serde(skip)]
    pub followed: Vec<String>,
    /// Models not to offer.
    pub models_to_skip: Vec<String>,
    /// Whether to serve NSFW requests.
    pub nsfw: bool,
    /// Whether pictures that turn out to be for adults are withheld even where `nsfw` is served.
    pub censor_nsfw: bool,
    /// Words of prompts whose pictures are withheld if they turn out to be for adults.
    pub censorlist: Vec<String>,
    /// Words whose prompts are not served. Compared in lower case, anywhere in the prompt.
    pub blacklist: Vec<String>,
    /// Whether to take source images.
    pub allow_img2img: bool,
    /// Whether to take inpainting and outpainting.
    pub allow_painting: bool,
    /// Whether to enlarge pictures, mend faces and strip backgrounds, as far as the engine can.
    pub allow_post_processing: bool,
    /// Whether to draw by what a source shows.
    pub allow_controlnet: bool,
    /// The same with Stable Diffusion XL, QR codes included. Needs `allow_controlnet`.
    pub allow_sdxl_controlnet: bool,
    /// Whether to fetch and use `LoRA`s.
    pub allow_lora: bool,
    /// Forms of alchemy to answer; all that can be answered if empty. `post_process` stands for all
    /// post-processors. `annotation` is offered only where it is named: not all hordes know it.
    pub forms: Vec<String>,
    /// Whether to serve requests from unsafe addresses. `allow_unsafe_ipaddr` on the wire.
    pub allow_unsafe_ip: bool,
    /// Whether to serve only requesters who can pay.
    pub require_upfront_kudos: bool,
    /// Whether to say that this worker crawls: one job at a time, three times the time for it.
    pub extra_slow_worker: bool,
    /// Whether to refuse requests of many steps.
    pub limit_max_steps: bool,
    /// Addresses, such as `http://minio.lan:9000`, that source images may come from although they are
    /// private or not `https`. The horde itself and the store it uploads to need not be named.
    pub trusted_hosts: Vec<String>,
    /// The longest text, in tokens, 16 to 16,384. Lowered to what the text engine can do.
    pub max_length: u32,
    /// The longest prompt and text together, in tokens, 80 to 1,048,576. Lowered in the same way.
    pub max_context_length: u32,
    /// Whether the text model's name carries its owner's behind it, so that requests can tell it from
    /// the same model elsewhere.
    pub branded_model: bool,
    /// The word for what writes texts, behind the classic name in the agent; as it is recognised if not
    /// given.
    pub backend_engine: Option<String>,
    /// How likely a pop offers only models that lie in memory, 0 to 1.
    pub model_stickiness: f64,
    /// How much is popped ahead.
    pub haste: Haste,
    /// Whether to stop where the worker would pause because too many jobs failed.
    pub exit_on_unhandled_faults: bool,
    /// Whether nothing is said about jobs that earn little for their time.
    pub suppress_speed_warnings: bool,
    /// Devices that pictures are made on, each with threads and a queue of its own. Not for the file.
    #[serde(skip)]
    pub devices: u32,
    /// Seconds per megapixelstep, by model, as measured before. Not for the file.
    #[serde(skip)]
    pub speeds: BTreeMap<String, f64>,
    /// Waits and limits. Not for the file.
    #[serde(skip)]
    pub timing: Timing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            horde_url: "http://127.0.0.1:7001".to_owned(),
            api_key: ApiKey::anonymous(),
            worker_name: String::new(),
            dreamer_name: None,
            scribe_name: None,
            alchemist_name: None,
            bridge_agent: AGENT.to_owned(),
            priority_usernames: Vec::new(),
            max_threads: 1,
            queue_size: 1,
            max_batch: 1,
            max_power: 8,
            models_to_load: Vec::new(),
            followed: Vec::new(),
            models_to_skip: Vec::new(),
            nsfw: true,
            censor_nsfw: false,
            censorlist: Vec::new(),
            blacklist: Vec::new(),
            allow_img2img: true,
            allow_painting: true,
            allow_post_processing: true,
            allow_controlnet: false,
            allow_sdxl_controlnet: false,
            allow_lora: false,
            forms: Vec::new(),
            allow_unsafe_ip: true,
            require_upfront_kudos: false,
            extra_slow_worker: false,
            limit_max_steps: false,
            trusted_hosts: Vec::new(),
            max_length: 80,
            max_context_length: 1024,
            branded_model: true,
            backend_engine: None,
            model_stickiness: 0.0,
            haste: Haste::None,
            exit_on_unhandled_faults: false,
            suppress_speed_warnings: false,
            devices: 1,
            speeds: BTreeMap::new(),
            timing: Timing::default(),
        }
    }
}

/// How much is popped ahead as long as the speed of the machine is not known, and how large a job may be
/// that overtakes another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Haste {
    /// Little: for most cards.
    #[default]
    None,
    /// More.
    Moderate,
    /// Much: for the fastest cards.
    High,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// The name as an image worker.
    pub fn dreamer_name(&self) -> &str {
        self.dreamer_name.as_deref().unwrap_or(&self.worker_name)
    }

    /// The name as a text worker.
    pub fn scribe_name(&self) -> &str {
        self.scribe_name.as_deref().unwrap_or(&self.worker_name)
    }

    /// The name as an alchemist.
    pub fn alchemist_name(&self) -> &str {
        self.alchemist_name.as_deref().unwrap_or(&self.worker_name)
    }

    /// The name in one role.
    pub fn name(&self, kind: WorkKind) -> &str {
        match kind {
            WorkKind::Image => self.dreamer_name(),
            WorkKind::Text => self.scribe_name(),
            WorkKind::Interrogation => self.alchemist_name(),
        }
    }

    /// The same with a name for each of these roles, no two alike unless the owner wrote it so.
    #[must_use]
    pub fn named_for(mut self, kinds: &[WorkKind]) -> Self {
        if kinds.len() > 1 {
            let name = self.worker_name.clone();
            let suffixed = |role| format!("{} {role}", name.trim());
            self.dreamer_name.get_or_insert_with(|| name.clone());
            self.scribe_name.get_or_insert_with(|| suffixed("scribe"));
            self.alchemist_name
                .get_or_insert_with(|| suffixed("alchemist"));
        }
        self
    }

    /// Devices that pictures are made on.
    pub fn devices(&self) -> u32 {
        self.devices.max(1)
    }

    /// Jobs that are sampled at the same time, on each device.
    pub fn threads(&self) -> u32 {
        if self.extra_slow_worker {
            1
        } else {
            self.max_threads
        }
    }

    /// Jobs that are popped ahead, for each device.
    pub fn queue(&self) -> u32 {
        match (self.extra_slow_worker, self.max_threads) {
            (true, _) => 0,
            (false, 1) => self.queue_size,
            (false, _) => self.queue_size.min(3),
        }
    }

    /// The largest picture, in pixels.
    pub fn max_pixels(&self) -> u64 {
        u64::from(self.max_power) * PIXELS_PER_POWER
    }

    /// No picture may be larger than so many pixels.
    pub(crate) fn limit_pixels(&mut self, most: u64) {
        let power = u32::try_from(most / PIXELS_PER_POWER).unwrap_or(u32::MAX);
        self.max_power = self.max_power.min(power.max(1));
    }

    /// Whether the settings make sense for a worker of these kinds.
    ///
    /// # Errors
    /// Every offending key with what it may be.
    pub fn check(&self, kinds: &[WorkKind]) -> Result<(), ConfigError> {
        let mut wrong = self.wrong_names(kinds);
        let mut require = |holds: bool, complaint: &str| {
            if !holds {
                wrong.push(complaint.to_owned());
            }
        };
        require(
            self.api_key != ApiKey::anonymous(),
            "`api_key` must be a key of your own: the anonymous one may not run workers",
        );
        for (key, value, most) in [
            ("max_threads", self.max_threads, 16),
            ("max_batch", self.max_batch, 20),
            ("max_power", self.max_power, 512),
        ] {
            let complaint = format!("`{key}` must be 1 to {most}, not {value}");
            require((1..=most).contains(&value), &complaint);
        }
        let length = format!("`max_length` must be 16 to 16384, not {}", self.max_length);
        require((16..=16_384).contains(&self.max_length), &length);
        let context = format!(
            "`max_context_length` must be 80 to 1048576, not {}",
            self.max_context_length
        );
        require(
            (80..=1_048_576).contains(&self.max_context_length),
            &context,
        );
        let complaint = format!("`queue_size` must be 0 to 4, not {}", self.queue_size);
        require(self.queue_size <= 4, &complaint);
        require(
            self.bridge_agent.splitn(3, ':').count() == 3 && self.bridge_agent.len() <= 1000,
            "`bridge_agent` must be `name:version:contact`",
        );
        require(
            self.priority_usernames.iter().all(|name| is_alias(name)),
            "`priority_usernames` must be aliases such as `name#1`",
        );
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(wrong))
        }
    }

    fn wrong_names(&self, kinds: &[WorkKind]) -> Vec<String> {
        if kinds.is_empty() {
            return vec!["the worker needs an engine: without one it has no role".to_owned()];
        }
        let named = self.clone().named_for(kinds);
        let mut wrong = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let (key, name) = (name_key(*kind), named.name(*kind).trim());
            if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
                wrong.push(format!(
                    "`{key}` or `worker_name` must be 1 to 100 characters"
                ));
            }
            let before = kinds.iter().take(place);
            for other in before.filter(|other| named.name(**other).trim() == name) {
                let other = name_key(*other);
                wrong.push(format!("`{key}` and `{other}` must not be the same name"));
            }
        }
        wrong
    }
}

/// How the file calls the name in a role.
fn name_key(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Image => "dreamer_name",
        WorkKind::Text => "scribe_name",
        WorkKind::Interrogation => "alchemist_name",
    }
}

/// Whether a text looks like `name#1`.
pub(crate) fn is_alias(text: &str) -> bool {
    text.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// How long the worker waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two pops when all is well.
    pub pop_interval: Duration,
    /// Before the next pop after the first outage in a row; doubles with each further one.
    pub outage_first: Duration,
    /// The longest wait after an outage.
    pub outage_last: Duration,
    /// Before the next pop when the horde asks for fewer, and does not say how long.
    pub rate_limited: Duration,
    /// Before the next pop while the horde keeps the worker in maintenance.
    pub maintenance: Duration,
    /// Before the next pop after a refusal that its owner must do something about.
    pub refused: Duration,
    /// Without pops after three failed jobs in a row.
    pub failure_pause: Duration,
    /// Without a model that failed three times in a row, or that the horde does not accept.
    pub quarantine: Duration,
    /// How long before the end of its time a job that is not sampled yet is given up.
    pub deadline_margin: Duration,
    /// The same for a text, which needs no encoding and no upload.
    pub text_margin: Duration,
    /// The time of a job whose horde does not say.
    pub ttl: Duration,
    /// Before the second try of an upload, a submit or a download; doubles with each further one.
    pub retry_first: Duration,
    /// The longest wait between two tries.
    pub retry_last: Duration,
    /// The longest that an engine may take for a form of alchemy, enlarging aside.
    pub form_limit: Duration,
    /// The same for each tile of a picture to enlarge.
    pub tile_limit: Duration,
    /// What it may take at least for the first of a kind, whose model it has to load.
    pub cold_limit: Duration,
    /// Between two reports of progress.
    pub report_interval: Duration,
    /// The same for a text that somebody sees coming.
    pub token_interval: Duration,
    /// Between two rough pictures of what is coming.
    pub preview_interval: Duration,
    /// How long the horde is asked to wait for a job before it says that there is none.
    pub longest_pop: Duration,
    /// Between two looks at the owner's account.
    pub account_interval: Duration,
    /// How long popped jobs may take after the worker was told to stop.
    pub drain: Duration,
    /// How long handing everything back may take when the worker must stop at once.
    pub abort: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pop_interval: Duration::from_secs(1),
            outage_first: Duration::from_secs(2),
            outage_last: Duration::from_mins(1),
            rate_limited: Duration::from_secs(10),
            maintenance: Duration::from_secs(30),
            refused: Duration::from_mins(1),
            failure_pause: Duration::from_mins(3),
            quarantine: Duration::from_hours(1),
            deadline_margin: Duration::from_secs(15),
            text_margin: Duration::from_secs(5),
            ttl: Duration::from_secs(150),
            retry_first: Duration::from_secs(1),
            retry_last: Duration::from_secs(30),
            form_limit: Duration::from_secs(15),
            tile_limit: Duration::from_secs(5),
            cold_limit: Duration::from_mins(2),
            report_interval: Duration::from_secs(1),
            token_interval: Duration::from_millis(250),
            preview_interval: Duration::from_secs(2),
            longest_pop: Duration::from_mins(1),
            account_interval: Duration::from_mins(1),
            drain: Duration::from_mins(5),
            abort: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        Config {
            api_key: ApiKey::new("0123456789abcdefghijkl"),
            worker_name: "w".to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn a_file_needs_a_key_and_a_name_only() {
        let config: Config =
            toml::from_str("api_key = 'k'\nworker_name = 'w'\nunknown = 1").unwrap();
        assert_eq!(config.check(&[WorkKind::Image]), Ok(()));
        assert_eq!(config.max_pixels(), 512 * 512);
        assert!(config.bridge_agent.starts_with("Ordu Worker:0."));
        assert!(config.bridge_agent.contains(":https://"));
    }

    #[test]
    fn every_offending_key_is_named() {
        let config = Config {
            max_threads: 0,
            queue_size: 5,
            max_batch: 21,
            max_power: 513,
            bridge_agent: "x".to_owned(),
            priority_usernames: vec!["nobody".to_owned()],
            ..Config::default()
        };
        let wrong = config.check(&[WorkKind::Image]).unwrap_err().to_string();
        for key in [
            "worker_name",
            "api_key",
            "max_threads",
            "queue_size",
            "max_batch",
            "max_power",
            "bridge_agent",
            "priority_usernames",
        ] {
            assert!(wrong.contains(key), "{key}: {wrong}");
        }
    }

    #[test]
    fn slow_workers_and_many_threads_lower_the_queue() {
        let queue = |slow, threads, queue| {
            let config = Config {
                extra_slow_worker: slow,
                max_threads: threads,
                queue_size: queue,
                ..valid()
            };
            (config.threads(), config.queue())
        };
        assert_eq!(queue(false, 1, 4), (1, 4));
        assert_eq!(queue(false, 2, 4), (2, 3));
        assert_eq!(queue(true, 2, 4), (1, 0));
    }

    #[test]
    fn a_role_may_have_a_name_of_its_own() {
        let config = Config {
            dreamer_name: Some("d".to_owned()),
            ..valid()
        };
        assert_eq!((valid().dreamer_name(), config.dreamer_name()), ("w", "d"));
    }

    #[test]
    fn each_role_gets_a_name_of_its_own() {
        let kinds = WorkKind::ALL;
        let names = |config: Config| {
            let named = config.named_for(&kinds);
            kinds.map(|kind| named.name(kind).to_owned())
        };
        assert_eq!(names(valid()), ["w", "w scribe", "w alchemist"]);
        assert_eq!(valid().named_for(&kinds[1..2]).scribe_name(), "w");
        let clash = Config {
            scribe_name: Some("w".to_owned()),
            ..valid()
        };
        assert_eq!(valid().check(&kinds), Ok(()));
        let wrong = clash.check(&kinds).unwrap_err().to_string();
        assert!(
            wrong.contains("`scribe_name` and `dreamer_name`"),
            "{wrong}"
        );
        assert!(valid().check(&[]).is_err());
    }
}
