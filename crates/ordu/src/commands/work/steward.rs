//! Tells the horde to give a worker its owner's jobs only, and to give it everybody's again.

use anyhow::{Context as _, Result};
use ordu_api::worker::{WorkKind, WorkerInput};
use ordu_client::Horde;
use ordu_worker::Config;

/// Whether the horde keeps a worker in maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maintenance {
    On,
    Off,
}

/// Speaks with the horde about the workers of one configuration, one for each role.
#[derive(Debug, Clone)]
pub(crate) struct Steward {
    horde: Horde,
    names: Vec<String>,
}

impl Steward {
    pub(crate) fn new(config: &Config, kinds: &[WorkKind]) -> Result<Self> {
        let config = config.clone().named_for(kinds);
        let horde = Horde::new(
            &config.horde_url,
            config.api_key.clone(),
            &config.bridge_agent,
        )?;
        let names = kinds.iter().map(|kind| config.name(*kind).to_owned());
        Ok(Self {
            horde,
            names: names.collect(),
        })
    }

    /// Puts every role into maintenance if the first is not in it, and out of it otherwise.
    pub(crate) async fn toggle(&self) -> Result<Maintenance> {
        let first = self.names.first().context("there is no role")?;
        let view = self.horde.worker_by_name(first).await?;
        let next = if view.maintenance_mode {
            Maintenance::Off
        } else {
            Maintenance::On
        };
        self.set(next).await?;
        Ok(next)
    }

    /// The same for every role.
    pub(crate) async fn set(&self, maintenance: Maintenance) -> Result<()> {
        let change = WorkerInput {
            maintenance: Some(maintenance == Maintenance::On),
            ..WorkerInput::default()
        };
        for name in &self.names {
            let view = self.horde.worker_by_name(name).await?;
            let id = view.id.parse().context("the horde tells no id")?;
            self.horde.update_worker(id, &change).await?;
        }
        Ok(())
    }
}
