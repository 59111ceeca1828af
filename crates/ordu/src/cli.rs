//! Every argument of every command. No behaviour: what a command does is in `commands`.
//!
//! Each option is also an environment variable (`ORDU_` and the option's name in capitals) and a key
//! of the TOML file given by `--config`. Command line > environment > file > default.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ordu_server::{ModelSource, MostLoad, PATIENCE, PageSource, S3Secret};

mod add_on;
mod admin;
mod bench;
mod bot;
mod computing;
mod doctor;
mod legacy;
mod manual;
mod models;
mod node;
mod qr;
mod work;
mod write;

pub(crate) use add_on::AddOn;
pub(crate) use admin::*;
pub(crate) use bench::*;
pub(crate) use bot::*;
pub(crate) use computing::*;
pub(crate) use doctor::*;
pub(crate) use legacy::*;
pub(crate) use manual::*;
pub(crate) use models::*;
pub(crate) use node::Node;
pub(crate) use qr::Qr;
pub(crate) use work::*;
pub(crate) use write::*;

use crate::guard::Guard;
use crate::identity::Identity;

/// A horde of volunteers that lend their machines: server, worker and client in one binary.
#[derive(Debug, Parser)]
#[command(name = "ordu", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// A TOML file with defaults for all options.
    #[arg(long, global = true, env = "ORDU_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What to log, such as `info` or `ordu_server=debug`. Without it, workers and bots tell what becomes of
    /// their jobs, and everything else tells what is wrong only.
    #[arg(long, global = true, env = "ORDU_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// A collector that is told by OTLP over HTTP where the time of requests goes, such as
    /// `http://127.0.0.1:4318`.
    #[arg(long, global = true, env = "ORDU_OTLP", value_name = "URL")]
    pub(crate) otlp: Option<url::Url>,

    /// Of which share of requests the collector is told, 0 to 1.
    #[arg(
        long,
        global = true,
        env = "ORDU_OTLP_SHARE",
        value_name = "SHARE",
        default_value_t = 1.0,
        value_parser = crate::guard::share
    )]
    pub(crate) otlp_share: f64,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: server, database, pictures, web page and one worker.
    Up(Up),
    /// Run the server alone.
    Serve(Serve),
    /// Run a worker alone.
    Work(Work),
    /// Ask for pictures and save them.
    Imagine(Imagine),
    /// Ask for a text and print it.
    Write(Write),
    /// Show the load of a horde, its models and its workers.
    Status(Status),
    /// Answer people elsewhere with what the horde makes.
    Bot(Bot),
    /// Look for what goes wrong in practice, and say how to mend it.
    Doctor(Box<Doctor>),
    /// Administer the horde of a data folder.
    Admin(Admin),
    /// Measure how fast a server or the built-in engine is.
    Bench(Bench),
    /// Show settings.
    Config(Config),
    /// Print what lets a shell complete this program's commands and options.
    Completions(Completions),
    /// Write the manual pages of all commands into a folder.
    Man(Man),
    /// What `work` and `up` run the built-in engine in; not for people.
    #[command(hide = true)]
    EngineHost(EngineHost),
}

/// The built-in engine in a process of its own.
#[derive(Debug, Args)]
pub(crate) struct EngineHost {
    /// As for `work`.
    #[arg(long, value_name = "DIR")]
    pub(crate) models_dir: Option<PathBuf>,

    /// Whether the bundled Stable Cascade is one of the models.
    #[arg(long)]
    pub(crate) cascade: bool,

    /// Folders with LoRAs.
    #[arg(long, value_name = "DIR")]
    pub(crate) loras_dir: Vec<PathBuf>,

    /// Folders with textual inversions.
    #[arg(long, value_name = "DIR")]
    pub(crate) embeddings_dir: Vec<PathBuf>,

    /// As for `work`.
    #[arg(long, value_name = "FILE")]
    pub(crate) text_model: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) computing: Computing,
}

/// Where a server keeps things and how it is reached.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Server {
    /// The address to listen on; port 0 picks a free one.
    #[arg(
        long,
        env = "ORDU_LISTEN",
        default_value = "127.0.0.1:7001",
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,

    /// The folder that holds everything.
    #[arg(
        long,
        env = "ORDU_DATA",
        default_value = "./ordu-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,

    /// `sqlite:///FILE` or `postgres://…` instead of the data folder's database.
    #[arg(
        long,
        env = "ORDU_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database: Option<String>,

    /// `file:///DIR` or `s3://BUCKET[/FOLDER]?endpoint=https://…` instead of the data folder's
    /// pictures.
    #[arg(long, env = "ORDU_BLOBS", value_name = "URL", hide_env_values = true)]
    pub(crate) blobs: Option<String>,

    #[command(flatten)]
    pub(crate) bucket_key: BucketKey,

    /// The address under which clients and workers reach this server.
    #[arg(long, env = "ORDU_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,

    /// A reverse proxy whose `X-Forwarded-For` is believed. Repeatable.
    #[arg(
        long,
        env = "ORDU_TRUSTED_PROXY",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxy: Vec<IpAddr>,

    /// Enforce no request limits. For load tests, or where a proxy limits.
    #[arg(long, env = "ORDU_NO_RATE_LIMITS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_rate_limits: bool,

    /// The most calls in hand at once, without those that only wait: who comes then is answered 503.
    #[arg(
        long,
        env = "ORDU_MAX_CALLS",
        value_name = "CALLS",
        default_value_t = MostLoad::default().calls,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) max_calls: u64,

    /// The most memory that the bodies of calls in hand may take together, in MiB; the call whose body
    /// is too much then is answered 503.
    #[arg(
        long,
        env = "ORDU_MAX_BODY_MEMORY",
        value_name = "MIB",
        default_value_t = MostLoad::default().body_bytes >> 20,
        value_parser = clap::value_parser!(u64).range(1..=1 << 20)
    )]
    pub(crate) max_body_memory: u64,

    /// The most connections at once; more wait until one ends.
    #[arg(
        long,
        env = "ORDU_MAX_CONNECTIONS",
        value_name = "CONNECTIONS",
        default_value_t = MostLoad::default().connections,
        value_parser = clap::value_parser!(u32).range(2..=1 << 20)
    )]
    pub(crate) max_connections: u32,

    /// The most requests that are known at once, ended ones that are kept for who asked included; new
    /// ones are answered 503 then. Each takes some 2 KB of memory.
    #[arg(
        long,
        env = "ORDU_MAX_REQUESTS",
        value_name = "REQUESTS",
        default_value_t = MostLoad::default().requests,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) max_requests: u64,

    /// How long a client may take for the head of a request, and without reading any of an answer, in
    /// seconds.
    #[arg(
        long,
        env = "ORDU_CLIENT_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = PATIENCE.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub(crate) client_timeout: u64,

    /// A private address that source images and webhooks may lead to all the same. Repeatable.
    #[arg(
        long,
        env = "ORDU_PRIVATE_ADDRESS",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub(crate) private_address: Vec<IpAddr>,

    /// The service that collects ratings of shared pictures.
    #[arg(long, env = "ORDU_RATINGS_URL", value_name = "URL")]
    pub(crate) ratings_url: Option<url::Url>,

    /// Let requests share their results: copies stay, with prompt and parameters.
    #[arg(long, env = "ORDU_SHARE_RESULTS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) share_results: bool,

    /// The secret that salts stored keys and signs links, instead of the one in the data folder.
    #[arg(
        long,
        env = "ORDU_SECRET_KEY",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) secret_key: Option<String>,

    /// An account that administers the horde, as `name#id`. Repeatable.
    #[arg(long, env = "ORDU_ADMINS", value_name = "ALIAS", value_delimiter = ',')]
    pub(crate) admins: Vec<String>,

    /// An account that may thank others with kudos, as `name#id`. Repeatable.
    #[arg(
        long,
        env = "ORDU_AWARDERS",
        value_name = "ALIAS",
        value_delimiter = ',',
        default_value = "1"
    )]
    pub(crate) awarders: Vec<String>,

    /// A JSON document of image models, instead of the built-in list; it may change while the
    /// horde runs.
    #[arg(long, env = "ORDU_MODEL_REFERENCE", value_name = "FILE|URL")]
    pub(crate) model_reference: Option<ModelSource>,

    /// A JSON document of more image models; it counts more than the other one.
    #[arg(long, env = "ORDU_EXTRA_MODEL_REFERENCE", value_name = "FILE|URL")]
    pub(crate) extra_model_reference: Option<ModelSource>,

    /// A JSON document of text models, instead of the built-in list.
    #[arg(long, env = "ORDU_TEXT_MODEL_REFERENCE", value_name = "FILE|URL")]
    pub(crate) text_model_reference: Option<ModelSource>,

    /// Kudos in escrow above which a worker's owner becomes trusted by itself; never if not given.
    #[arg(long, env = "ORDU_TRUST_THRESHOLD", value_name = "KUDOS")]
    pub(crate) trust_threshold: Option<u32>,

    /// Let requests to `generate/text/async` bring pictures, for workers that look at them.
    #[arg(long, env = "ORDU_TEXT_VISION", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) text_vision: bool,

    /// A JSON file with news for `/api/v2/status/news`. It may change while the horde runs.
    #[arg(long, env = "ORDU_NEWS", value_name = "FILE")]
    pub(crate) news: Option<PathBuf>,

    /// A JSON file of those who support the horde with money. It may change while the horde runs.
    #[arg(long, env = "ORDU_SUBSCRIPTIONS", value_name = "FILE")]
    pub(crate) subscriptions: Option<PathBuf>,

    /// Allow loopback clients to mint users at `/api/v2/dev/test-user`. For tests only.
    #[arg(long, env = "ORDU_TEST_APIKEYS", hide = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) test_apikeys: bool,

    #[command(flatten)]
    pub(crate) node: Node,

    #[command(flatten)]
    pub(crate) site: Site,

    #[command(flatten)]
    pub(crate) guard: Guard,

    #[command(flatten)]
    pub(crate) identity: Identity,
}

/// What the site says of itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct Site {
    /// The site's name.
    #[arg(long, env = "ORDU_TITLE", default_value = DEFAULT_TITLE, value_name = "NAME")]
    pub(crate) title: String,

    /// Where the operators can be reached.
    #[arg(long, env = "ORDU_CONTACT", value_name = "ADDRESS")]
    pub(crate) contact: Option<String>,

    /// The site's picture, for `/.well-known/serviceinfo`.
    #[arg(long, env = "ORDU_LOGO", value_name = "URL")]
    pub(crate) logo: Option<String>,

    /// Where the source of this server is, if you changed it.
    #[arg(long, env = "ORDU_REPOSITORY", value_name = "URL")]
    pub(crate) repository: Option<String>,

    /// The terms of the site: a file, Markdown or HTML, instead of the built-in text.
    #[arg(long, env = "ORDU_TERMS_PAGE", value_name = "FILE")]
    pub(crate) terms_page: Option<PageSource>,

    /// What the site says about privacy, in the same way.
    #[arg(long, env = "ORDU_PRIVACY_PAGE", value_name = "FILE")]
    pub(crate) privacy_page: Option<PageSource>,
}

/// The name of a site that was given none.
const DEFAULT_TITLE: &str = "Ordu";

impl Default for Site {
    fn default() -> Self {
        Self {
            title: DEFAULT_TITLE.to_owned(),
            contact: None,
            logo: None,
            repository: None,
            terms_page: None,
            privacy_page: None,
        }
    }
}

/// Who we are at the store that `--blobs s3://…` names; what its address says counts more.
#[derive(Debug, Clone, Default, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "they are the names of the options"
)]
pub(crate) struct BucketKey {
    /// The key for `--blobs s3://…`.
    #[arg(
        long,
        env = "ORDU_S3_ACCESS_KEY_ID",
        value_name = "KEY",
        allow_hyphen_values = true
    )]
    pub(crate) s3_access_key_id: Option<String>,

    /// The secret of that key.
    #[arg(
        long,
        env = "ORDU_S3_SECRET_ACCESS_KEY",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) s3_secret_access_key: Option<S3Secret>,

    /// What goes with a key that is only lent.
    #[arg(
        long,
        env = "ORDU_S3_SESSION_TOKEN",
        value_name = "TOKEN",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) s3_session_token: Option<S3Secret>,

    /// The store's region, where it has several.
    #[arg(long, env = "ORDU_S3_REGION", value_name = "REGION")]
    pub(crate) s3_region: Option<String>,
}

impl Server {
    /// The options of a horde that lives for one call: a free port, everything else by default.
    pub(crate) fn for_one_call(data: &std::path::Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.to_owned(),
            database: None,
            blobs: None,
            bucket_key: BucketKey::default(),
            public_url: None,
            trusted_proxy: Vec::new(),
            no_rate_limits: false,
            max_calls: MostLoad::default().calls,
            max_body_memory: MostLoad::default().body_bytes >> 20,
            max_connections: MostLoad::default().connections,
            max_requests: MostLoad::default().requests,
            client_timeout: PATIENCE.as_secs(),
            private_address: Vec::new(),
            ratings_url: None,
            share_results: false,
            secret_key: None,
            admins: Vec::new(),
            awarders: Vec::new(),
            model_reference: None,
            extra_model_reference: None,
            text_model_reference: None,
            news: None,
            subscriptions: None,
            trust_threshold: None,
            text_vision: false,
            test_apikeys: false,
            node: Node::default(),
            site: Site::default(),
            guard: Guard::default(),
            identity: Identity::default(),
        }
    }
}

impl Cli {
    /// What to log.
    pub(crate) fn log(&self) -> &str {
        let usual = match self.command {
            Command::Work(_) => "warn,ordu=info,ordu_worker=info",
            Command::Bot(_) => "warn,ordu=info",
            _ => "warn",
        };
        self.log.as_deref().unwrap_or(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) server: Server,

    /// Run no worker.
    #[arg(long, env = "ORDU_NO_WORKER", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_worker: bool,

    /// The GGUF file of a text model for the worker, in place of the built-in one.
    #[arg(long, env = "ORDU_TEXT_MODEL", value_name = "FILE")]
    pub(crate) text_model: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) computing: Computing,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Which horde to talk to, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct Client {
    /// The horde's address; `http://127.0.0.1:7001` if none is given.
    #[arg(long, env = "ORDU_HORDE", value_name = "URL")]
    pub(crate) horde: Option<String>,

    /// The key to use [default: the anonymous key].
    #[arg(
        long,
        env = "ORDU_API_KEY",
        value_name = "KEY",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) api_key: Option<String>,

    /// A data folder: finds the address and the admin's key of the horde in it.
    #[arg(long, env = "ORDU_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Imagine {
    /// What to paint.
    pub(crate) prompt: String,

    #[command(flatten)]
    pub(crate) client: Client,

    /// What to avoid.
    #[arg(long, value_name = "TEXT")]
    pub(crate) negative: Option<String>,

    /// The id or the name of a style, whose prompt, models and parameters are used.
    #[arg(long, value_name = "STYLE")]
    pub(crate) style: Option<String>,

    /// Width and height in pixels, multiples of 64.
    #[arg(long, default_value = "512x512", value_name = "WxH", value_parser = parse_size)]
    pub(crate) size: Size,

    /// How many pictures.
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) n: u32,

    /// Sampling steps.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) steps: Option<u32>,

    /// Digits or any text; the same seed gives the same picture.
    #[arg(long)]
    pub(crate) seed: Option<String>,

    /// A model that may be used; any if none is named. Repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// The sampler, such as `k_euler_a`.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(ordu_api::image::SAMPLERS))]
    pub(crate) sampler: Option<String>,

    /// How strictly to follow the prompt.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cfg_scale: Option<f64>,

    /// Do not use the karras noise schedule.
    #[arg(long)]
    pub(crate) no_karras: bool,

    /// Text encoder layers to leave out, plus 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=12))]
    pub(crate) clip_skip: Option<u32>,

    /// Seamless edges.
    #[arg(long)]
    pub(crate) tiling: bool,

    /// Draw what stands on nothing: a picture with alpha. A `.jpg` knows none.
    #[arg(long, conflicts_with = "control")]
    pub(crate) transparent: bool,

    /// A LoRA by its CivitAI id or its name, and how strongly it counts. Repeatable.
    #[arg(long, value_name = "NAME[=STRENGTH]", value_parser = add_on::parse)]
    pub(crate) lora: Vec<AddOn>,

    /// A textual inversion, put before the prompt. Repeatable.
    #[arg(long, value_name = "NAME[=STRENGTH]", value_parser = add_on::parse)]
    pub(crate) ti: Vec<AddOn>,

    /// A picture to start from.
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,

    /// Where to redraw the picture given by `--init`: white is redrawn.
    #[arg(long, value_name = "FILE", requires = "init")]
    pub(crate) mask: Option<PathBuf>,

    /// How much of `--init` is redrawn, 0.01 to 1.
    #[arg(long, value_name = "NUMBER", requires = "init")]
    pub(crate) strength: Option<f64>,

    /// Pictures to mix, six at most; how strongly each but the first counts. A horde needs a worker
    /// with a Stable Cascade; one that is started for the call has `ordu-tiny-cascade`.
    #[arg(long, value_name = "FILE[=STRENGTH]", num_args = 1.., conflicts_with_all = ["init", "mask", "strength", "control", "tiling", "transparent", "text"], value_parser = add_on::parse)]
    pub(crate) remix: Vec<AddOn>,

    /// Draw small first, then refine at the size asked for.
    #[arg(long)]
    pub(crate) hires_fix: bool,

    /// How much the refining of `--hires-fix` changes, 0.01 to 1; 0.65 if it is not said.
    #[arg(long, value_name = "NUMBER", requires = "hires_fix")]
    pub(crate) hires_strength: Option<f64>,

    /// Let the picture given by `--init` steer, by its edges (`canny`), its strokes (`scribble`), …
    #[arg(long, value_name = "TYPE", requires = "init", conflicts_with_all = ["mask", "strength"], value_parser = clap::builder::PossibleValuesParser::new(ordu_api::image::CONTROL_TYPES))]
    pub(crate) control: Option<String>,

    /// The picture given by `--init` is such a map already.
    #[arg(long, requires = "control")]
    pub(crate) init_is_map: bool,

    /// Save the map that would steer, and draw nothing.
    #[arg(long, requires = "control", conflicts_with = "init_is_map")]
    pub(crate) map_only: bool,

    /// What to do with the finished picture: enlarge it, mend its faces, take its background away
    /// (`strip_background`). Repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(ordu_api::image::POST_PROCESSORS))]
    pub(crate) post: Vec<String>,

    /// How true fixers of faces that can be told so stay to the picture, 0 (strongest) to 1; 0.5 if it is
    /// not said.
    #[arg(long, value_name = "NUMBER", requires = "post")]
    pub(crate) face_strength: Option<f64>,

    #[command(flatten)]
    pub(crate) qr: Qr,

    /// Where to save, `.png`, `.webp` or `.jpg`; further pictures get a number.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Give up after so many seconds.
    #[arg(long, default_value_t = 1200, value_name = "SECONDS")]
    pub(crate) timeout: u64,

    #[command(flatten)]
    pub(crate) computing: Computing,
}

/// Width and height of a picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Reads a size as people write it.
pub(crate) fn parse_size(text: &str) -> Result<Size, String> {
    let wrong = || format!("`{text}` is not a size: write it as 512x512");
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    let side = |side: &str| -> Result<u32, String> {
        let pixels: u32 = side.parse().map_err(|_| wrong())?;
        let fits = (64..=3072).contains(&pixels) && pixels.is_multiple_of(64);
        fits.then_some(pixels)
            .ok_or_else(|| format!("{pixels} is not a multiple of 64 between 64 and 3072"))
    };
    Ok(Size {
        width: side(width)?,
        height: side(height)?,
    })
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) client: Client,
    /// Tell of this request only: what keeps workers from it, and what would help.
    #[arg(long, value_name = "ID", conflicts_with = "watch")]
    pub(crate) request: Option<ordu_api::RequestId>,

    /// Go on showing it as it changes, until `q` or Ctrl-C. With `--json`, or where there is no terminal
    /// to draw on, a line for each change.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn secrets_may_begin_with_a_dash() {
        fn look(command: &clap::Command) -> usize {
            let secret = |arg: &&clap::Arg| {
                let names = arg.get_value_names().unwrap_or_default();
                names
                    .iter()
                    .any(|name| ["KEY", "SECRET", "TOKEN"].contains(&name.as_str()))
            };
            let mut seen = 0;
            for arg in command.get_arguments().filter(secret) {
                assert!(arg.is_allow_hyphen_values_set(), "{arg}");
                seen += 1;
            }
            seen + command.get_subcommands().map(look).sum::<usize>()
        }
        assert!(look(&Cli::command()) > 10);
        for option in ["--api-key", "--api_key", "-a"] {
            let worker = Cli::try_parse_from(["ordu", "work", option, "-xfIAHFtxqrIO"]);
            assert!(worker.is_ok(), "{option}: {worker:?}");
        }
    }

    #[test]
    fn sizes_are_multiples_of_64() {
        assert_eq!(
            parse_size("64x128"),
            Ok(Size {
                width: 64,
                height: 128
            })
        );
        for wrong in ["64", "64x", "65x64", "0x64", "4096x64", "axb", "64x64x64"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
