//! Everything a worker does, in all its roles at once.

use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_client::Horde;
use ordu_engine::Engine;
use tokio::sync::watch;

use crate::Shutdown;
use crate::config::{Config, ConfigError};
use crate::desk::Desk;
use crate::dreamer::Dreamer;
use crate::role::{Office, Role};
use crate::status::{Board, Status};

/// What does the work: a role for each engine that is there.
#[derive(Clone, Default)]
pub struct Engines {
    /// Makes pictures: the worker is a dreamer.
    pub image: Option<Arc<dyn Engine>>,
}

impl Engines {
    /// The kinds of work that there is an engine for.
    pub fn kinds(&self) -> Vec<WorkKind> {
        let image = self.image.as_ref().map(|_| WorkKind::Image);
        image.into_iter().collect()
    }
}

impl<E: Engine + 'static> From<Arc<E>> for Engines {
    fn from(engine: Arc<E>) -> Self {
        Self {
            image: Some(engine),
        }
    }
}

/// Why a worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Change the settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Change the address, the key or the agent.
    #[error(transparent)]
    Client(#[from] ordu_client::Error),
    /// Use another key: the horde does not know this one. Everything popped before was handed back.
    #[error("the horde does not accept the key: {0}")]
    KeyRefused(String),
}

/// Works for a horde until it is told to stop, and returns when everything popped was handed back.
///
/// It works in every role that there is an engine for. `status` always shows what it is doing; the last
/// status is also the result. Of `shutdown`, the first level finishes what was popped, the second hands
/// back what is not being sampled, the third hands back everything.
///
/// # Errors
/// If the configuration cannot work, or if the horde refuses the key.
pub async fn run(
    config: Config,
    engines: Engines,
    shutdown: Shutdown,
    status: watch::Sender<Status>,
) -> Result<Status, RunError> {
    let kinds = engines.kinds();
    config.check(&kinds)?;
    let config = config.named_for(&kinds);
    let horde = Horde::new(
        &config.horde_url,
        config.api_key.clone(),
        &config.bridge_agent,
    )?;
    let office = |kind| Office {
        horde: horde.clone(),
        board: Arc::new(Board::new(status.clone(), kind)),
        shutdown: shutdown.clone(),
        timing: config.timing,
    };
    let dreamer = match engines.image {
        Some(engine) => {
            let office = office(WorkKind::Image);
            Some(Desk::new(Dreamer::new(&config, engine, &office)?, office))
        }
        None => None,
    };
    match at_work(dreamer).await {
        Some(reason) => Err(RunError::KeyRefused(reason)),
        None => Ok(status.borrow().clone()),
    }
}

async fn at_work<R: Role>(desk: Option<Desk<R>>) -> Option<String> {
    match desk {
        Some(desk) => desk.run().await,
        None => None,
    }
}
