//! How a running worker is steered: its settings, a pause, its end.

use std::sync::Arc;

use ordu_api::worker::WorkKind;
use tokio::sync::watch;

use crate::{Config, ConfigError, Shutdown};

/// The levers of one worker. Clones steer the same one.
#[derive(Debug, Clone)]
pub struct Controls(Arc<Levers>);

#[derive(Debug)]
struct Levers {
    config: watch::Sender<Config>,
    paused: watch::Sender<bool>,
    stirred: watch::Sender<()>,
    shutdown: Shutdown,
}

impl Controls {
    /// Those of a worker that is to start with these settings.
    pub fn new(config: Config, shutdown: Shutdown) -> Self {
        Self(Arc::new(Levers {
            config: watch::Sender::new(config),
            paused: watch::Sender::new(false),
            stirred: watch::Sender::new(()),
            shutdown,
        }))
    }

    /// How it is told to end.
    pub fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    /// Its settings at this moment.
    pub fn config(&self) -> Config {
        self.0.config.borrow().clone()
    }

    /// The same for whoever wants to hear of changes.
    pub fn settings(&self) -> watch::Receiver<Config> {
        self.0.config.subscribe()
    }

    /// Other settings from now on; jobs that it has go on. Returns the keys that cannot change while it
    /// runs: they stay as they were.
    ///
    /// # Errors
    /// If a worker of these kinds cannot work with them; nothing has changed then.
    pub fn change(
        &self,
        mut config: Config,
        kinds: &[WorkKind],
    ) -> Result<Vec<&'static str>, ConfigError> {
        config.check(kinds)?;
        let fixed = keep_fixed(&self.0.config.borrow(), &mut config);
        self.0.config.send_if_modified(|now| {
            let differs = *now != config;
            *now = config;
            differs
        });
        Ok(fixed)
    }

    /// Offers these models beside those of the settings, as far as they are here.
    pub fn follow(&self, models: Vec<String>) {
        self.0.config.send_if_modified(|now| {
            let differs = now.followed != models;
            now.followed = models;
            differs
        });
    }

    /// Pops nothing until it is called again; returns whether it pauses now.
    pub fn toggle_pause(&self) -> bool {
        self.0.paused.send_modify(|paused| *paused = !*paused);
        self.is_paused()
    }

    /// Whether its owner keeps it from popping.
    pub fn is_paused(&self) -> bool {
        *self.0.paused.borrow()
    }

    /// There may be something else to offer, or somebody else to serve: whoever waits for a job looks
    /// again.
    pub fn stir(&self) {
        self.0.stirred.send_replace(());
    }

    /// What those who work look at.
    pub(crate) fn current(&self, kinds: &[WorkKind]) -> Current {
        Current {
            config: self.0.config.subscribe(),
            paused: self.0.paused.subscribe(),
            stirred: self.0.stirred.subscribe(),
            kinds: kinds.into(),
        }
    }
}

/// Keeps what connections were made with, and says what that is.
fn keep_fixed(now: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    let mut keep = |key, differs| {
        if differs {
            fixed.push(key);
        }
    };
    keep("horde_url", now.horde_url != new.horde_url);
    keep("api_key", now.api_key != new.api_key);
    keep("bridge_agent", now.bridge_agent != new.bridge_agent);
    keep("trusted_hosts", now.trusted_hosts != new.trusted_hosts);
    keep("branded_model", now.branded_model != new.branded_model);
    new.horde_url.clone_from(&now.horde_url);
    new.api_key = now.api_key.clone();
    new.bridge_agent.clone_from(&now.bridge_agent);
    new.trusted_hosts.clone_from(&now.trusted_hosts);
    new.branded_model = now.branded_model;
    new.timing = now.timing;
    new.devices = now.devices;
    new.speeds.clone_from(&now.speeds);
    new.followed.clone_from(&now.followed);
    fixed
}

/// The settings as they are now, for whoever works by them.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    config: watch::Receiver<Config>,
    paused: watch::Receiver<bool>,
    stirred: watch::Receiver<()>,
    kinds: Arc<[WorkKind]>,
}

impl Current {
    /// All of them, with a name for each role.
    pub(crate) fn now(&self) -> Config {
        self.config.borrow().clone().named_for(&self.kinds)
    }

    /// What is made of them.
    pub(crate) fn read<T>(&self, of: impl FnOnce(&Config) -> T) -> T {
        of(&self.config.borrow())
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Ends when anything changes. The levers are held by whoever runs the worker, so they do not vanish.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            changed = self.config.changed() => drop(changed),
            changed = self.paused.changed() => drop(changed),
            changed = self.stirred.changed() => drop(changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_were_made_with_stays_and_is_told() {
        let config = Config {
            api_key: ordu_api::ApiKey::new("a key of its own"),
            worker_name: "w".to_owned(),
            ..Config::default()
        };
        let controls = Controls::new(config.clone(), Shutdown::new());
        let mut new = Config {
            horde_url: "http://elsewhere".to_owned(),
            max_power: 64,
            max_threads: 3,
            ..config.clone()
        };
        let told = controls.change(new.clone(), &[WorkKind::Image]);
        assert_eq!(told, Ok(vec!["horde_url"]));
        let now = controls.config();
        assert_eq!((now.max_power, now.max_threads), (64, 3));
        assert_eq!(now.horde_url, config.horde_url);
        new.max_power = 0;
        assert!(controls.change(new, &[WorkKind::Image]).is_err());
        assert_eq!(controls.config(), now);
    }

    #[tokio::test]
    async fn a_pause_is_a_switch_and_wakes_who_waits() {
        let controls = Controls::new(Config::default(), Shutdown::new());
        let mut current = controls.current(&[WorkKind::Image]);
        assert!(controls.toggle_pause());
        current.changed().await;
        assert!(current.is_paused());
        assert!(!controls.toggle_pause());
    }
}
