//! The arguments of `ordu work`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ordu_engine::DeviceChoice;

use super::{Client, Computing};

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) client: Client,

    /// The worker's name, unique in its horde.
    #[arg(
        long,
        short = 'n',
        alias = "worker-name",
        alias = "worker_name",
        env = "ORDU_NAME",
        default_value = "An Ordu worker"
    )]
    pub(crate) name: String,

    /// Make pictures. Without any role: pictures, and texts if there is an engine for them.
    #[arg(long, env = "ORDU_DREAMER", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) dreamer: bool,

    /// Write texts, with the engine that `--engine` names, or the built-in one.
    #[arg(long, env = "ORDU_SCRIBE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) scribe: bool,

    /// Answer forms of alchemy: `palette` and `describe`, what the engine for pictures can do besides
    /// drawing, `caption`, `interrogation` and `nsfw` with models that read pictures, and `nsfw` with
    /// `--safety`.
    #[arg(long, env = "ORDU_ALCHEMIST", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) alchemist: bool,

    /// What does the work: `native` (pictures, and texts if no other engine writes), `comfyui=URL`,
    /// `openai=URL`, `openai-chat=URL`, `kobold=URL`. One for pictures and one for texts at most. Without
    /// one for pictures, `native` draws; without any, it writes, too. Repeatable.
    #[arg(
        long,
        env = "ORDU_ENGINE",
        value_delimiter = ',',
        value_name = "ENGINE"
    )]
    pub(crate) engine: Vec<EngineChoice>,

    /// The key that the engine at a URL wants.
    #[arg(
        long,
        env = "ORDU_ENGINE_KEY",
        value_name = "KEY",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) engine_key: Option<String>,

    /// The GGUF file of a text model for the built-in engine. Without it `--scribe` offers the model that
    /// is part of this program.
    #[arg(long, env = "ORDU_TEXT_MODEL", value_name = "FILE")]
    pub(crate) text_model: Option<PathBuf>,

    /// The longest text, in tokens; lowered to what the engine can do.
    #[arg(long, env = "ORDU_MAX_LENGTH", default_value_t = 512, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..=16_384))]
    pub(crate) max_length: u32,

    /// The longest prompt and text together, in tokens; lowered to what the engine can do.
    #[arg(long, env = "ORDU_MAX_CONTEXT_LENGTH", default_value_t = 4096, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(80..=1_048_576))]
    pub(crate) max_context_length: u32,

    /// Offer the text model without the owner's name behind it.
    #[arg(long, env = "ORDU_UNBRANDED_MODEL", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) unbranded_model: bool,

    /// Jobs at the same time.
    #[arg(long, alias = "max_threads", env = "ORDU_THREADS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) threads: u32,

    /// Jobs that are popped ahead, 0 to 4.
    #[arg(long, alias = "queue_size", env = "ORDU_QUEUE", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=4))]
    pub(crate) queue: u32,

    /// A word whose prompts are not served. Repeatable.
    #[arg(
        long,
        env = "ORDU_BLACKLIST",
        value_name = "WORD",
        value_delimiter = ','
    )]
    pub(crate) blacklist: Vec<String>,

    /// A form of alchemy to answer; all that can be answered if none is named. Repeatable.
    #[arg(long, env = "ORDU_FORMS", value_name = "FORM", value_delimiter = ',')]
    pub(crate) forms: Vec<String>,

    /// What the worker calls itself, `name:version:contact`, for hordes that judge workers by it.
    #[arg(long, env = "ORDU_BRIDGE_AGENT", value_name = "AGENT")]
    pub(crate) bridge_agent: Option<String>,

    /// An image model to offer; all that are there if none is named. Repeatable.
    #[arg(long, env = "ORDU_MODEL", value_name = "NAME", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// A folder of models: `.safetensors` files, diffusers folders, and folders of models that read
    /// pictures.
    #[arg(long, env = "ORDU_MODELS_DIR", value_name = "DIR")]
    pub(crate) models_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) computing: Computing,

    /// Devices to draw on, each with a process, threads and a queue of its own, such as
    /// `cuda:0,cuda:1`. Without it `--device`, or with `auto` all NVIDIA cards.
    #[arg(
        long,
        env = "ORDU_DEVICES",
        value_name = "DEVICE",
        value_delimiter = ','
    )]
    pub(crate) devices: Vec<DeviceChoice>,

    /// Fetch and use the LoRAs that requests name, in a folder that the engine sees.
    #[arg(long, env = "ORDU_ALLOW_LORA", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) allow_lora: bool,

    /// Let sources steer, as far as there are control networks for the models.
    #[arg(long, env = "ORDU_ALLOW_CONTROLNET", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) allow_controlnet: bool,

    /// Draw transparent pictures, and QR codes with Stable Diffusion XL, as far as there is what they need.
    #[arg(long, env = "ORDU_ALLOW_SDXL_CONTROLNET", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) allow_sdxl_controlnet: bool,

    /// The largest picture, in pixels.
    #[arg(
        long,
        env = "ORDU_MAX_PIXELS",
        default_value_t = 1_048_576,
        value_name = "PIXELS"
    )]
    pub(crate) max_pixels: i64,

    /// The largest batch.
    #[arg(long, env = "ORDU_MAX_BATCH", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) max_batch: u32,

    /// Refuse NSFW requests.
    #[arg(long, env = "ORDU_SFW", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) sfw: bool,

    /// The address of a classifier that looks at each picture: it is sent
    /// `{"image": WebP in base64, "prompt", "model"}` and answers `{"nsfw": BOOL, "csam": BOOL}`.
    /// Without one, and with models beside the bundled one, only requests without adult content are
    /// taken.
    #[arg(long, env = "ORDU_SAFETY", value_name = "URL", hide_env_values = true)]
    pub(crate) safety: Option<String>,

    /// Try everything out and stop: one tiny job for each engine, what would be offered, and what keeps
    /// the rest away. Fails if an engine does not work.
    #[arg(long)]
    pub(crate) check: bool,

    /// Do the picture job in a file and stop: a JSON document as a horde hands it out, or its payload
    /// alone. No horde is asked for anything, and none is told.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub(crate) one_shot: Option<PathBuf>,

    /// With `--one-shot`: where the picture goes; further ones get a number. `.png`, `.webp` or `.jpg`.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "one-shot.png",
        requires = "one_shot"
    )]
    pub(crate) out: PathBuf,

    /// Measure how fast pictures are made with each model that would be offered, and stop: a table, and
    /// the settings that the speed speaks for.
    #[arg(long, conflicts_with_all = ["check", "one_shot"])]
    pub(crate) bench: bool,

    /// Write lines of a log also where there is a terminal to draw on.
    #[arg(long, alias = "no-tui", env = "ORDU_PLAIN", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) plain: bool,

    /// Answer `/metrics` (for Prometheus) and `/status` (JSON) at this address; without it at none.
    #[arg(long, env = "ORDU_METRICS", value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) stock: super::Stock,

    #[command(flatten)]
    pub(crate) legacy: super::Legacy,
}

impl Work {
    /// Whether it does something on this machine alone, and stops.
    pub(crate) fn is_alone(&self) -> bool {
        self.check || self.bench || self.one_shot.is_some()
    }
}

/// Something that does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineChoice {
    /// Ours, for pictures, and for texts where nothing else writes.
    Native,
    /// A ComfyUI at this address, for pictures.
    ComfyUi(String),
    /// A program that speaks like OpenAI's, for texts.
    OpenAi(String),
    /// The same, asked in the manner of a chat.
    OpenAiChat(String),
    /// A program that speaks like KoboldAI, for texts.
    Kobold(String),
}

impl EngineChoice {
    /// What it is mostly for.
    pub(crate) fn makes(&self) -> Makes {
        match self {
            Self::Native | Self::ComfyUi(_) => Makes::Pictures,
            Self::OpenAi(_) | Self::OpenAiChat(_) | Self::Kobold(_) => Makes::Texts,
        }
    }
}

/// What an engine makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Makes {
    Pictures,
    Texts,
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "native" {
            return Ok(Self::Native);
        }
        let (name, url) = text.split_once('=').unwrap_or((text, ""));
        let kind = match name {
            "comfyui" => Self::ComfyUi,
            "openai" => Self::OpenAi,
            "openai-chat" => Self::OpenAiChat,
            "kobold" => Self::Kobold,
            _ => {
                return Err(format!(
                    "`{name}` is no engine: use `native`, `openai=URL`, `openai-chat=URL`, \
                     `kobold=URL` or `comfyui=URL`"
                ));
            }
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!(
                "`{name}` needs an address: write it as `{name}=http://127.0.0.1:5001`"
            ));
        }
        Ok(kind(url.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_a_name_or_a_name_and_an_address() {
        let read = |text: &str| text.parse::<EngineChoice>();
        assert_eq!(read("native"), Ok(EngineChoice::Native));
        assert_eq!(
            read("kobold=http://x:5001?a=b"),
            Ok(EngineChoice::Kobold("http://x:5001?a=b".to_owned()))
        );
        for wrong in ["", "openai", "openai=", "openai=x:1", "gpt=http://x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
