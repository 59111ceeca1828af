//! The arguments of `ordu write`.

use clap::Args;

use super::{Client, EngineChoice};

#[derive(Debug, Args)]
pub(crate) struct Write {
    /// What to go on from.
    pub(crate) prompt: String,

    #[command(flatten)]
    pub(crate) client: Client,

    /// The id or the name of a style, whose prompt, models and parameters are used.
    #[arg(long, value_name = "STYLE")]
    pub(crate) style: Option<String>,

    /// How many texts.
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) n: u32,

    /// The longest text, in tokens.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub(crate) max_length: Option<u32>,

    /// The longest prompt and text together, in tokens.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(80..=1_048_576))]
    pub(crate) max_context_length: Option<u32>,

    /// A model that may be used; any if none is named. Repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// How daring, 0 to 5.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) temperature: Option<f64>,

    /// Only the likeliest tokens that together have this probability, 0.001 to 1.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) top_p: Option<f64>,

    /// Only so many of the likeliest tokens, 0 to 200; 0 for all.
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<u32>,

    /// Only tokens that have this share of the likeliest one's probability, 0 to 1.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) min_p: Option<f64>,

    /// Only typical tokens, 0 to 1.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) typical: Option<f64>,

    /// How strictly to avoid repetition, 1 to 3.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) rep_pen: Option<f64>,

    /// In how many of the last tokens to look for repetition, 0 to 4096.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) rep_pen_range: Option<u32>,

    /// Stop after this text. Repeatable.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    /// Leave an incomplete sentence at the end out.
    #[arg(long)]
    pub(crate) trim: bool,

    /// Stop after one line.
    #[arg(long)]
    pub(crate) single_line: bool,

    /// Print the text as it comes, also where standard output is no terminal. A text that is changed
    /// at the end is printed once more, as a whole.
    #[arg(long, conflicts_with = "json")]
    pub(crate) stream: bool,

    /// What writes if no horde answers and one is started for the call: `openai=URL`,
    /// `openai-chat=URL` or `kobold=URL`; the built-in engine if none is named.
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineChoice>,

    /// The key that the engine at a URL wants.
    #[arg(
        long,
        env = "ORDU_ENGINE_KEY",
        value_name = "KEY",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) engine_key: Option<String>,

    /// Give up after so many seconds.
    #[arg(long, default_value_t = 1200, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}
