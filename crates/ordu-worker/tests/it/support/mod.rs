//! A horde, an engine and a worker between them.

pub mod engine;
pub mod files;
pub mod gate;
pub mod horde;
#[path = "../../../../ordu-client/tests/it/support/http.rs"]
pub mod http;
pub mod logs;
pub mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::ApiKey;
use ordu_api::worker::WorkKind;
use ordu_worker::{Classifier, Config, Controls, Engines, RunError, Shutdown, Status, Timing};
use tokio::sync::watch;
use tokio::task::JoinSet;

use engine::Scripted;
use horde::FakeHorde;

pub const KEY: &str = "SECRETKEY0123456789abc";

/// How long anything may take before a test counts as stuck.
const STUCK: Duration = Duration::from_secs(20);

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STUCK, future)
        .await
        .expect("the test is stuck")
}

/// A running worker.
pub struct Rig {
    pub horde: FakeHorde,
    pub engine: Arc<Scripted>,
    pub shutdown: Shutdown,
    pub controls: Controls,
    pub status: watch::Receiver<Status>,
    worker: JoinSet<Result<Status, RunError>>,
}

/// Settings that never make a test wait.
pub fn config(horde: &FakeHorde) -> Config {
    let soon = Duration::from_millis(1);
    Config {
        horde_url: horde.url().to_owned(),
        api_key: ApiKey::new(KEY),
        worker_name: "tester".to_owned(),
        timing: Timing {
            pop_interval: soon,
            outage_first: soon,
            outage_last: soon,
            rate_limited: soon,
            maintenance: soon,
            refused: soon,
            retry_first: soon,
            retry_last: soon,
            report_interval: soon,
            token_interval: soon,
            preview_interval: soon,
            text_margin: Duration::ZERO,
            ..Timing::default()
        },
        ..Config::default()
    }
}

impl Rig {
    pub fn start(horde: FakeHorde, engine: Scripted) -> Self {
        let config = config(&horde);
        Self::start_with(horde, engine, config)
    }

    pub fn start_with(horde: FakeHorde, engine: Scripted, config: Config) -> Self {
        Self::start_helped(horde, engine, config, |_| {})
    }

    /// With somebody who looks at the pictures.
    pub fn start_guarded(
        horde: FakeHorde,
        engine: Scripted,
        config: Config,
        safety: Option<Arc<dyn Classifier>>,
    ) -> Self {
        Self::start_helped(horde, engine, config, |engines| engines.safety = safety)
    }

    /// With others who help the engine.
    pub fn start_helped(
        horde: FakeHorde,
        engine: Scripted,
        config: Config,
        help: impl FnOnce(&mut Engines),
    ) -> Self {
        logs::record();
        let engine = Arc::new(engine);
        let shutdown = Shutdown::new();
        let (sender, status) = watch::channel(Status::default());
        let mut engines = Engines::from(engine.clone());
        help(&mut engines);
        let mut worker = JoinSet::new();
        let controls = Controls::new(config, shutdown.clone());
        let steered = controls.clone();
        worker.spawn(async move { ordu_worker::run_with(&steered, engines, sender).await });
        Self {
            horde,
            engine,
            shutdown,
            controls,
            status,
            worker,
        }
    }

    /// Gives it other settings; returns what needs a new start.
    pub fn change(&self, change: impl FnOnce(&mut Config)) -> Vec<&'static str> {
        let mut config = self.controls.config();
        change(&mut config);
        self.controls.change(config, &[WorkKind::Image]).unwrap()
    }

    /// Waits until the worker's status is as described.
    pub async fn until(&mut self, holds: impl FnMut(&Status) -> bool) -> Status {
        let found = within(self.status.wait_for(holds)).await;
        found.expect("the worker ended before").clone()
    }

    /// Waits until so many jobs have ended, one way or the other.
    pub async fn ended(&mut self, jobs: u64) -> Status {
        self.until(|status| status.done + status.faulted + status.lost >= jobs)
            .await
    }

    /// Waits for the end of a worker that was told to stop.
    pub async fn end(&mut self) -> Result<Status, RunError> {
        within(self.worker.join_next()).await.unwrap().unwrap()
    }

    pub async fn stop(mut self) -> Status {
        self.shutdown.escalate();
        self.end().await.unwrap()
    }
}
