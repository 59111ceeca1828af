//! `ordu up`: everything on this machine. Server and worker meet over HTTP, like strangers.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;
use ordu_core::Kudos;
use ordu_server::accounts::{self, NewAccount};
use ordu_server::{Clock, Registration, Server};
use ordu_worker::Engines;

use super::data::{DataFolder, Serving};
use super::files;
use super::host;
use super::serve;
use super::signals::Signals;
use super::work::LocalWorker;
use crate::cli::{Server as Options, Up};
use crate::exit::Exit;

/// What the first admin starts with, in kudos.
const ADMIN_KUDOS: Kudos = Kudos::new(1_000_000);

pub(crate) async fn run(args: Up) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let engines = if args.no_worker {
        None
    } else {
        let hosting = host::Hosting {
            text_model: args.text_model.clone(),
            computing: args.computing,
            ..host::Hosting::default()
        };
        let engine = host::start(&hosting).context("the worker cannot start")?;
        Some(Engines {
            text: Some(engine.clone()),
            ..engine.into()
        })
    };
    let horde = LocalHorde::start_with(&args.server, engines).await?;
    if horde.is_new {
        println!(
            "admin key: {} (kept in {}/admin.key)",
            horde.admin_key.reveal(),
            args.server.data.display()
        );
    }
    println!("listening on {}", horde.url());
    signals.next().await;
    tokio::select! {
        () = horde.stop() => Ok(Exit::Done),
        () = signals.next() => Ok(Exit::Failed),
    }
}

/// A server with its admin and one worker, all in this process.
pub(crate) struct LocalHorde {
    server: Server,
    worker: Option<LocalWorker>,
    url: String,
    admin_key: ApiKey,
    is_new: bool,
    _serving: Serving,
}

impl LocalHorde {
    /// A horde on a free port, for the time of one call.
    pub(crate) async fn start(data: &Path, engines: Engines) -> Result<Self> {
        let options = Options::for_one_call(data);
        let mut horde = Self::start_with(&options, Some(engines)).await?;
        if let Some(worker) = &mut horde.worker {
            worker.is_known().await;
        }
        Ok(horde)
    }

    async fn start_with(options: &Options, engines: Option<Engines>) -> Result<Self> {
        let data = DataFolder::open(&options.data)?;
        let Some(serving) = data.claim()? else {
            bail!("another horde already runs in `{}`", options.data.display());
        };
        files::raise();
        let server = Server::start(serve::config(options, &data, Registration::Open)?).await?;
        let url = server.url();
        serving.announce(&url)?;
        let (admin_key, is_new) = admin(&server, &data).await?;
        let worker = engines.map(|engines| LocalWorker::start(&url, &admin_key, engines));
        Ok(Self {
            server,
            worker,
            url,
            admin_key,
            is_new,
            _serving: serving,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn admin_key(&self) -> ApiKey {
        self.admin_key.clone()
    }

    /// Ends the worker first, so that what it has in hand still finds its server.
    pub(crate) async fn stop(self) {
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        self.server.stop().await;
    }
}

/// The key of the first admin, who is made if there is none. Says whether it was.
async fn admin(server: &Server, data: &DataFolder) -> Result<(ApiKey, bool)> {
    if let Some(key) = data.admin_key() {
        return Ok((key, false));
    }
    let new = NewAccount {
        name: "admin".to_owned(),
        subject: None,
        moderator: true,
        trusted: true,
        kudos: ADMIN_KUDOS,
    };
    let now = Clock::System.now();
    let (_, key) = accounts::add(server.store(), server.secret(), new, now).await?;
    data.keep_admin_key(&key)?;
    Ok((key, true))
}
