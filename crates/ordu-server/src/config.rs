//! What an operator can decide, resolved: no environment, no files are read here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ordu_api::UserId;
use ordu_core::text::Vision;
use ordu_core::{Kudos, Millis};
use url::Url;

use crate::blobs::BlobPlace;
use crate::catalogue::ModelSources;
use crate::clock::Clock;
use crate::documents::PageSource;
use crate::guard::GuardConfig;
use crate::hooks::HookConfig;
use crate::identity::IdentityConfig;
use crate::load::MostLoad;
use crate::nodes::NodeConfig;
use crate::secret::Secret;
use crate::trust_audits::TrustAuditConfig;

/// How long a client may take by default.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest that a client may wait for an answer by default.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How often a stream shows by default that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The database's URL: `sqlite:///FILE`, `sqlite::memory:` or `postgres://…`.
    pub database: String,
    /// Where pictures lie.
    pub blobs: BlobPlace,
    /// How clients and workers reach this server; derived from the address if not given.
    pub public_url: Option<Url>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long a client may take for the head of a request, before its body must keep pace, and
    /// without reading any of an answer.
    pub patience: Duration,
    /// The longest that a client may wait for an answer that it asked to wait for.
    pub longest_wait: Duration,
    /// How often a stream of events shows that it is alive.
    pub keep_alive: Duration,
    /// How much may be in hand at once.
    pub most_load: MostLoad,
    /// Whether request limits are enforced.
    pub rate_limits: bool,
    /// Private addresses that sources and webhooks may lead to all the same.
    pub private_addresses: Vec<IpAddr>,
    /// The service that collects ratings; none are collected if `None`.
    pub ratings_url: Option<Url>,
    /// Whether results may go to the public dataset.
    pub share_results: bool,
    /// Salts stored keys and signs links.
    pub secret: Secret,
    /// That it is one of several servers with the same PostgreSQL database; `None` for one alone.
    pub node: Option<NodeConfig>,
    /// Accounts with the rights of an admin.
    pub admins: Vec<UserId>,
    /// Accounts that may thank others with kudos from nowhere.
    pub awarders: Vec<UserId>,
    /// Whether loopback clients may mint users for tests.
    pub test_users: bool,
    /// Where it is known from what models there are.
    pub models: ModelSources,
    /// A file with news, a JSON array; read whenever somebody asks.
    pub news: Option<PathBuf>,
    /// A file of those who support the horde with money, JSON; read again when it changes.
    pub subscriptions: Option<PathBuf>,
    /// Whether requests to `generate/text/async` may bring pictures to look at.
    pub text_vision: Vision,
    /// The site's name.
    pub title: String,
    /// What else the site says of itself.
    pub site: Site,
    /// Escrow above which an owner becomes trusted; never if `None`.
    pub trust_threshold: Option<Kudos>,
    /// Countermeasures.
    pub guard: GuardConfig,
    /// How closely untrusted workers are looked at.
    pub trust_audits: TrustAuditConfig,
    /// The operator's programs that decide with us.
    pub hooks: HookConfig,
    /// How accounts are made and who vouches for them.
    pub identity: IdentityConfig,
    /// Wrong keys that an address may present before it has to wait; any number if `None`.
    pub wrong_keys: Option<u32>,
    /// How long the audit log is kept; for good if `None`.
    pub audit_kept_for: Option<Millis>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// What a site says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Where its operators can be reached.
    pub contact: Option<String>,
    /// Its picture; ours if `None`.
    pub logo: Option<String>,
    /// Where its source is; ours if `None`.
    pub repository: Option<String>,
    /// Its terms; the built-in ones if `None`.
    pub terms: Option<PageSource>,
    /// What it says about privacy; the built-in text if `None`.
    pub privacy: Option<PageSource>,
}

impl Config {
    /// A server that keeps everything in memory and limits nobody, for tests.
    pub fn in_memory() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: "sqlite::memory:".to_owned(),
            blobs: BlobPlace::Memory,
            public_url: None,
            trusted_proxies: Vec::new(),
            patience: PATIENCE,
            longest_wait: LONGEST_WAIT,
            keep_alive: KEEP_ALIVE,
            most_load: MostLoad::default(),
            rate_limits: false,
            private_addresses: Vec::new(),
            ratings_url: None,
            share_results: false,
            secret: Secret::new("only for tests"),
            node: None,
            admins: Vec::new(),
            awarders: UserId::new(1).into_iter().collect(),
            test_users: true,
            models: ModelSources::default(),
            news: None,
            subscriptions: None,
            text_vision: Vision::Off,
            title: "Ordu".to_owned(),
            site: Site::default(),
            trust_threshold: None,
            guard: GuardConfig::default(),
            trust_audits: TrustAuditConfig::default(),
            hooks: HookConfig::default(),
            identity: IdentityConfig::default(),
            wrong_keys: None,
            audit_kept_for: None,
            clock: Clock::System,
        }
    }
}
