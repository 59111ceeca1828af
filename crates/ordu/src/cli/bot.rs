//! The arguments of `ordu bot`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Client;

#[derive(Debug, Args)]
pub(crate) struct Bot {
    #[command(subcommand)]
    pub(crate) what: BotCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BotCommand {
    /// Answer those who mention an account of Mastodon with pictures.
    Mastodon(Box<MastodonBot>),
}

#[derive(Debug, Args)]
pub(crate) struct MastodonBot {
    #[command(flatten)]
    pub(crate) client: Client,

    /// The address of the Mastodon server that the bot has its account on.
    #[arg(long, env = "ORDU_MASTODON_URL", value_name = "URL")]
    pub(crate) mastodon_url: url::Url,

    /// The account's access token, with `read:notifications`, `read:accounts`, `write:statuses` and
    /// `write:media`. Better given by its variable: others can read command lines.
    #[arg(
        long,
        env = "ORDU_MASTODON_TOKEN",
        value_name = "TOKEN",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) mastodon_token: String,

    /// Where the bot keeps what it has answered.
    #[arg(
        long,
        env = "ORDU_BOT_STATE",
        value_name = "FILE",
        default_value = "ordu-mastodon.json"
    )]
    pub(crate) bot_state: PathBuf,

    /// The style of pictures whose mention names none.
    #[arg(long, env = "ORDU_BOT_STYLE", value_name = "STYLE")]
    pub(crate) bot_style: Option<String>,

    /// A model that may be used; any if none is named. Repeatable.
    #[arg(
        long,
        env = "ORDU_BOT_MODEL",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) bot_model: Vec<String>,

    /// The size of pictures whose mention names none.
    #[arg(long, env = "ORDU_BOT_SIZE", default_value = "512x512", value_name = "WxH", value_parser = super::parse_size)]
    pub(crate) bot_size: super::Size,

    /// The largest side that a mention may ask for, in pixels.
    #[arg(long, env = "ORDU_BOT_MAX_SIDE", default_value_t = 1024, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(64..=3072))]
    pub(crate) bot_max_side: u32,

    /// Let pictures show what not everybody wants to see. They are marked as sensitive.
    #[arg(long, env = "ORDU_BOT_NSFW", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) bot_nsfw: bool,

    /// Pictures that one account gets in an hour.
    #[arg(long, env = "ORDU_BOT_PER_ACCOUNT", default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) bot_per_account: u32,

    /// Mentions that are answered at the same time.
    #[arg(long, env = "ORDU_BOT_AT_ONCE", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) bot_at_once: u32,

    /// Give a picture up after so many seconds.
    #[arg(
        long,
        env = "ORDU_BOT_TIMEOUT",
        default_value_t = 1200,
        value_name = "SECONDS"
    )]
    pub(crate) bot_timeout: u64,

    /// Look for mentions so often where the server does not tell of them at once.
    #[arg(long, env = "ORDU_BOT_INTERVAL", default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bot_interval: u64,
}
