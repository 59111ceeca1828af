//! Everything a worker does, in all its roles at once.

use std::sync::Arc;

use futures::future::join3;
use ordu_api::worker::WorkKind;
use ordu_client::Horde;
use ordu_engine::{AlchemyEngine, Engine, TextEngine};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Shutdown;
use crate::alchemist::Alchemist;
use crate::config::{Config, ConfigError};
use crate::controls::Controls;
use crate::desk::{Desk, Quit};
use crate::dreamer::{Dreamer, Helpers};
use crate::line::Turns;
use crate::manager::Pantry;
use crate::report::Extras;
use crate::role::{Office, Role};
use crate::safety::Classifier;
use crate::scribe::Scribe;
use crate::status::{Board, Status};
use crate::{account, agent};

/// What does the work: a role for each engine that is there.
#[derive(Clone, Default)]
pub struct Engines {
    /// Makes pictures: the worker is a dreamer.
    pub image: Option<Arc<dyn Engine>>,
    /// Writes texts: the worker is a scribe.
    pub text: Option<Arc<dyn TextEngine>>,
    /// Answer forms about pictures: the worker is an alchemist. Of several that know a form, the first
    /// answers it.
    pub alchemy: Vec<Arc<dyn AlchemyEngine>>,
    /// Brings LoRAs and textual inversions of jobs to where the image engine finds them. Without it
    /// neither is offered.
    pub pantry: Option<Arc<Pantry>>,
    /// Looks at each picture before it leaves. Without one, and with models beside
    /// the bundled ones, the dreamer takes only requests without adult content.
    pub safety: Option<Arc<dyn Classifier>>,
}

impl Engines {
    /// The kinds of work that there is an engine for.
    pub fn kinds(&self) -> Vec<WorkKind> {
        let image = self.image.as_ref().map(|_| WorkKind::Image);
        let text = self.text.as_ref().map(|_| WorkKind::Text);
        let alchemy = self.alchemy.first().map(|_| WorkKind::Interrogation);
        image.into_iter().chain(text).chain(alchemy).collect()
    }
}

impl<E: Engine + 'static> From<Arc<E>> for Engines {
    fn from(engine: Arc<E>) -> Self {
        Self {
            image: Some(engine),
            ..Self::default()
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
    /// Find out why: too many jobs failed in a row, and the settings say to stop then.
    #[error("too many jobs failed in a row; the last: {0}")]
    Failing(String),
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
    run_with(&Controls::new(config, shutdown), engines, status).await
}

/// The same, steered by `controls` while it works.
///
/// # Errors
/// As [`run()`], and if too many jobs fail where the settings say that it should end then.
pub async fn run_with(
    controls: &Controls,
    engines: Engines,
    status: watch::Sender<Status>,
) -> Result<Status, RunError> {
    let kinds = engines.kinds();
    let config = controls.config();
    config.check(&kinds)?;
    let config = config.named_for(&kinds);
    status.send_modify(|status| status.earned.start(Instant::now()));
    let horde = Horde::new(
        &config.horde_url,
        config.api_key.clone(),
        &config.bridge_agent,
    )?;
    let extras = Arc::new(Extras::default());
    let turns = Turns::default();
    let office = |kind| Office {
        turns: turns.clone(),
        horde: horde.clone(),
        board: Arc::new(Board::new(status.clone(), kind)),
        shutdown: controls.shutdown().clone(),
        timing: config.timing,
        extras: extras.clone(),
        current: controls.current(&kinds),
    };
    let dreamer = match engines.image {
        Some(engine) => {
            let office = office(WorkKind::Image);
            let helpers = Helpers {
                classifier: engines.safety.clone(),
                pantry: engines.pantry,
            };
            Some(Desk::new(Dreamer::new(engine, helpers, &office)?, office))
        }
        None => None,
    };
    let scribe = match engines.text {
        Some(engine) => {
            let office = office(WorkKind::Text);
            Some(Desk::new(Scribe::new(engine, &office)?, office))
        }
        None => None,
    };
    let alchemist = if engines.alchemy.is_empty() {
        None
    } else {
        let office = office(WorkKind::Interrogation);
        let alchemist = Alchemist::new(engines.alchemy, engines.safety, &office)?;
        Some(Desk::new(alchemist, office))
    };
    let working = join3(
        Box::pin(at_work(dreamer)),
        Box::pin(at_work(scribe)),
        Box::pin(at_work(alchemist)),
    );
    let looking = async {
        agent::look(&horde, &extras, &config.bridge_agent).await;
        account::watch(&horde, &status, &config.timing).await
    };
    let (first, second, third) = tokio::select! {
        ended = working => ended,
        never = looking => match never {},
    };
    match first.or(second).or(third) {
        Some(Quit::KeyRefused(reason)) => Err(RunError::KeyRefused(reason)),
        Some(Quit::Failing) => {
            let last = status.borrow().last_error.clone();
            Err(RunError::Failing(last.unwrap_or_default()))
        }
        None => Ok(status.borrow().clone()),
    }
}

async fn at_work<R: Role>(desk: Option<Desk<R>>) -> Option<Quit> {
    match desk {
        Some(desk) => desk.run().await,
        None => None,
    }
}
