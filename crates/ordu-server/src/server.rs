//! Starting, serving, ending.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use axum::http::HeaderValue;
use ordu_api::status::Modes;
use ordu_core::Kudos;
use ordu_core::horde::{Horde, Policy};
use ordu_store::{DatabaseUrl, Node, Options, RequestState, Store};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::accounts::Accounts;
use crate::app::{App, Live};
use crate::blobs::{BlobError, BlobPlace, Blobs};
use crate::catalogue::{Catalogue, ModelError};
use crate::config::Config;
use crate::explaining::Explainer;
use crate::fetch::Fetcher;
use crate::guard::Guard;
use crate::guesses::Guesses;
use crate::history::Histories;
use crate::hooks::Hooks;
use crate::identity::Identity;
use crate::limits::Limits;
use crate::load::Load;
use crate::messages::Messages;
use crate::metrics::{Jobs, Metrics};
use crate::nodes::{NodeStatus, Nodes};
use crate::openapi::Descriptions;
use crate::passkeys::Passkeys;
use crate::pictures::Pictures;
use crate::push::{Onlookers, Push};
use crate::rankings::Rankings;
use crate::ratings::Ratings;
use crate::rebuild::Rebuilder;
use crate::registry::{self, Known, Registry};
use crate::repeats::Repeats;
use crate::reservation::Reservations;
use crate::secret::{NoRandomness, Secret, random_bytes};
use crate::serve::{self, serve};
use crate::statistics::LastCount;
use crate::styles::Styles;
use crate::subscriptions::Subscriptions;
use crate::tasks::Tasks;
use crate::teams::Teams;
use crate::traffic::TrafficCounters;
use crate::trusted::TrustedAddresses;
use crate::watch::Watch;
use crate::webhooks::Webhooks;
use crate::worker_edits::WorkerEdits;
use crate::{router, tasks};

/// How long requests in flight may take to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(8);

/// Stored requests that lie in memory at once at a start, beside what becomes of them.
const RESTORED_AT_ONCE: usize = 1_000;

/// Under this name a digest of the secret is stored that all nodes must have.
const SECRET_MARK: &str = "secret-mark";

/// A running server.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    url: String,
    tasks: Tasks,
    shutdown: CancellationToken,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The database cannot be used.
    #[error("cannot open the database")]
    Store(#[from] ordu_store::Error),
    /// The folder of pictures cannot be used.
    #[error("cannot use the folder of pictures `{0}`")]
    BlobFolder(String, #[source] std::io::Error),
    /// The place of pictures cannot be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The operator's documents of models cannot be used.
    #[error(transparent)]
    Models(#[from] ModelError),
    /// No outgoing connections can be made.
    #[error("cannot set up outgoing connections")]
    Client(#[from] reqwest::Error),
    /// A hook cannot be asked.
    #[error("{0}")]
    Hooks(String),
    /// One of several servers must share everything with the others.
    #[error("{0}")]
    Node(&'static str),
    /// Nothing secret can be made.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl Server {
    /// Starts a server: it is ready when this returns.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listen = config.listen;
        let listener = serve::listen(listen).map_err(|error| StartError::Listen(listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen(listen, error))?;
        let url = public_url(&config, address);
        let app = Arc::new(open(config, address, &url).await?);
        restore(&app).await?;
        let shutdown = app.closing.clone();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks::start_all(&mut tasks, &app);
        let http = serve(
            listener,
            router::router(&app),
            Arc::clone(&app.load),
            app.config.patience,
            shutdown.clone(),
        );
        tasks.start("http", http);
        tracing::info!(%address, "listening");
        Ok(Self {
            app,
            address,
            url,
            tasks,
            shutdown,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the server is reached on this machine.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The database behind the server.
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// What salts the stored keys.
    pub fn secret(&self) -> &Secret {
        &self.app.secret
    }

    /// What happened around requests so far.
    pub fn traffic(&self) -> TrafficCounters {
        self.app.traffic()
    }

    /// How many wait for an answer or look at a request just now.
    pub fn onlookers(&self) -> Onlookers {
        self.app.push.onlookers()
    }

    /// How it goes with several nodes; `None` for a node alone.
    pub fn nodes(&self) -> Option<NodeStatus> {
        self.app.nodes.status()
    }

    /// Lets everything happen once that happens by itself, and writes what waits to be written: for
    /// tests that move the clock instead of waiting.
    pub async fn settle_down(&self) -> Result<(), ordu_store::Error> {
        self.app.store.flush().await?;
        tasks::run_all(&self.app).await;
        Ok(())
    }

    /// Ends: no new connections, requests in flight get their answer, everything is written.
    pub async fn stop(self) {
        self.app.draining.store(true, Ordering::Relaxed);
        self.shutdown.cancel();
        self.app.tracker.close();
        let drained = async {
            self.tasks.ended().await;
            self.app.tracker.wait().await;
        };
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        self.app.leave_nodes().await;
        self.app.store.close().await;
        tracing::info!("stopped");
    }
}

/// A wildcard address is no address that anybody can go to.
fn public_url(config: &Config, address: SocketAddr) -> String {
    if let Some(url) = &config.public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    if address.ip().is_unspecified() {
        return format!("http://127.0.0.1:{}", address.port());
    }
    format!("http://{address}")
}

async fn open(config: Config, address: SocketAddr, url: &str) -> Result<App, StartError> {
    let clock = config.clock.clone();
    let secret = config.secret.clone();
    let (store, own) = open_store(&config, url).await?;
    let blobs = open_blobs(&config.blobs, &secret, url)?;
    blobs.check().await?;
    let client = crate::outgoing::client().build()?;
    let catalogue = Catalogue::open(&config.models, client, clock.now()).await?;
    let subscriptions = Arc::new(Subscriptions::new(config.subscriptions.clone()));
    let accounts = Accounts::new(
        Arc::clone(&store),
        secret.clone(),
        clock.clone(),
        Arc::clone(&subscriptions),
    );
    let fetcher = Fetcher::new(config.private_addresses.clone())?;
    let horde = Horde::new(catalogue.current(), Policy::default());
    let dice = ChaCha12Rng::from_seed(random_bytes()?);
    let version = env!("CARGO_PKG_VERSION");
    let node = HeaderValue::from_str(&format!("{}:{}:{version}", address.ip(), address.port()));
    Ok(App {
        accounts,
        passkeys: Passkeys::new(secret.clone()),
        trusted: TrustedAddresses::new(&config.guard.service_addresses),
        limits: open_limits(&config, &secret),
        guesses: Guesses::new(config.wrong_keys),
        identity: Identity::new(&config, url)?,
        guard: Guard::new(&config.guard)?,
        pictures: Pictures::new(fetcher.clone()),
        hooks: Hooks::new(config.hooks.clone(), fetcher.clone()).map_err(StartError::Hooks)?,
        webhooks: Webhooks::new(fetcher),
        ratings: Ratings::new(config.ratings_url.as_ref())?,
        registry: Registry::default(),
        worker_edits: WorkerEdits::default(),
        watch: Watch::default(),
        nodes: Nodes::new(own),
        push: Push::new(config.most_load.connections as usize),
        reservations: Reservations::default(),
        repeats: Repeats::default(),
        styles: Styles::default(),
        teams: Teams::default(),
        subscriptions: Arc::clone(&subscriptions),
        rankings: Rankings::default(),
        messages: Messages::default(),
        live: Mutex::new(Live { horde, dice }),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
        url: url.to_owned(),
        node: node.unwrap_or(HeaderValue::from_static("ordu")),
        active: AtomicU64::new(0),
        load: Load::new(config.most_load),
        draining: AtomicBool::new(false),
        reachable: AtomicBool::new(true),
        modes: RwLock::new(Modes::default()),
        last_count: LastCount::default(),
        histories: Histories::default(),
        explainer: Explainer::default(),
        descriptions: Descriptions::default(),
        metrics: Metrics::new(router::paths()),
        jobs: Jobs::default(),
        config,
        clock,
        secret,
        store,
        blobs,
        catalogue,
    })
}

async fn open_store(config: &Config, url: &str) -> Result<(Arc<Store>, Option<Node>), StartError> {
    let database: DatabaseUrl = config.database.parse()?;
    let own = own_node(config, &database, url)?;
    let mut options = Options::default();
    options.node = own.as_ref().map(|node| node.id);
    let store = Arc::new(Store::open(&database, &options, config.clock.now()).await?);
    join(&store, own.as_ref(), &config.secret).await?;
    Ok((store, own))
}

fn open_limits(config: &Config, secret: &Secret) -> Limits {
    let limits = Limits::new(config.rate_limits, secret.digest("limits"));
    match config.node {
        Some(_) => limits.shared(),
        None => limits,
    }
}

/// Which of several nodes this is; `None` for one alone.
fn own_node(
    config: &Config,
    database: &DatabaseUrl,
    url: &str,
) -> Result<Option<Node>, StartError> {
    let Some(node) = &config.node else {
        return Ok(None);
    };
    if !database.is_shared() {
        return Err(StartError::Node(
            "several nodes share a PostgreSQL database: name it, or start one node alone, without a \
             node's name",
        ));
    }
    let is_shared = match &config.blobs {
        BlobPlace::S3(_) => true,
        BlobPlace::Folder(_) => node.shared_folder,
        BlobPlace::Memory => false,
    };
    if !is_shared {
        return Err(StartError::Node(
            "several nodes need pictures that all of them reach: use S3, or say that the folder of \
             pictures is the same one on every node",
        ));
    }
    Ok(Some(Node {
        id: Uuid::new_v4(),
        name: node.name.clone(),
        url: url.to_owned(),
    }))
}

/// Becomes one of several nodes, or makes sure that there are no others.
async fn join(store: &Store, own: Option<&Node>, secret: &Secret) -> Result<(), StartError> {
    let Some(own) = own else {
        if !store.list_nodes().await?.is_empty() {
            return Err(StartError::Node(
                "other nodes serve this database: give this one a node's name, too",
            ));
        }
        return Ok(store.stop_telling_changes().await?);
    };
    let digest = secret.digest("the secret of every node");
    let mark = digest.iter().fold(String::new(), |mut mark, byte| {
        // Writing into a text cannot fail.
        let _ = write!(mark, "{byte:02x}");
        mark
    });
    let known = store.find_setting(SECRET_MARK).await?;
    let has_others = !store.list_nodes().await?.is_empty();
    match known {
        Some(known) if known == mark => {}
        Some(_) if has_others => {
            return Err(StartError::Node(
                "the other nodes have another secret key: no API key would fit here",
            ));
        }
        Some(_) | None => store.set_setting(SECRET_MARK, &mark).await?,
    }
    store.tell_changes().await?;
    store.beat(own).await?;
    Ok(())
}

fn open_blobs(place: &BlobPlace, secret: &Secret, url: &str) -> Result<Blobs, StartError> {
    match place {
        BlobPlace::Memory => Ok(Blobs::in_memory(secret.clone(), url)),
        BlobPlace::Folder(folder) => {
            make_folder(folder)?;
            Ok(Blobs::in_folder(folder, secret.clone(), url)?)
        }
        BlobPlace::S3(place) => Ok(Blobs::in_bucket(place)?),
    }
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(folder)
        .map_err(|error| StartError::BlobFolder(folder.display().to_string(), error))
}

/// What a request may still cost is held and promised again.
fn restore_promises(app: &App, row: &ordu_store::Request) {
    let Some(work) = app
        .live()
        .horde
        .request(row.id)
        .map(|request| request.work.clone())
    else {
        return;
    };
    // What the horde itself asks for is not charged, not even its activation.
    let charged = (row.consumed - work.activation_tax()).max(Kudos::ZERO);
    app.accounts.hold(row.id, row.owner, row.hold - charged);
    if let Some(key) = row.shared_key {
        let left = work.most_cost(&app.reference()) - row.consumed;
        app.accounts.shared_keys().restore(key, row.id, left);
    }
}

/// Workers, waiting requests and modes come back as they were.
async fn restore(app: &App) -> Result<(), StartError> {
    app.worker_edits.begin(app.clock.now());
    app.begin_log().await?;
    let workers = app.store.list_workers().await?;
    let live = app.store.list_live().await?;
    app.load_modes().await?;
    app.load_guard().await?;
    app.passkeys.refresh(&app.store).await?;
    app.trusted.load(&app.store).await?;
    app.load_messages().await?;
    app.load_teams().await?;
    app.load_model_edits().await?;
    app.load_subscriptions().await;
    for worker in &workers {
        app.registry.put(Known::from_stored(worker));
        app.live().horde.restore_worker(registry::record(worker));
    }
    let reference = app.reference();
    let rebuilder = Rebuilder {
        reference: &reference,
        registry: &app.registry,
    };
    let mut restored = 0_usize;
    for page in live.chunks(RESTORED_AT_ONCE) {
        for request in app.store.list_requests(page).await? {
            // What another node ended meanwhile, the change log tells.
            let is_live = request.state == RequestState::Live;
            if is_live && rebuilder.restore(&mut app.live().horde, &request) {
                restore_promises(app, &request);
                restored += 1;
            }
        }
    }
    app.live().horde.restarted(app.clock.now());
    tracing::info!(workers = workers.len(), requests = restored, "restored");
    Ok(())
}
