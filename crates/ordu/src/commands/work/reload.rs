//! A worker's file of settings while the worker runs: what changes in it takes effect, what is wrong with it
//! changes nothing.

use std::convert::Infallible;

use anyhow::Result;
use ordu_api::worker::WorkKind;
use ordu_worker::Controls;
use ordu_worker::bridge_data::{BridgeData, Change, Settings};
use tokio::sync::watch;

use crate::cli::Work;
use crate::commands::models;

/// Whose settings change.
pub(crate) struct Follower<'a> {
    pub(crate) args: &'a Work,
    pub(crate) controls: &'a Controls,
    pub(crate) kinds: Vec<WorkKind>,
    /// What the file said beside the worker's own settings when the worker was started.
    pub(crate) settings: Settings,
}

impl Follower<'_> {
    /// Follows a file until it is dropped. `watching` is what looks at it.
    pub(crate) async fn run(
        self,
        mut changes: watch::Receiver<Change>,
        watching: impl Future<Output = ()>,
    ) -> Infallible {
        changes.mark_unchanged();
        let following = async {
            while changes.changed().await.is_ok() {
                let change = changes.borrow_and_update().clone();
                self.take(change).await;
            }
        };
        tokio::join!(following, watching);
        std::future::pending().await
    }

    async fn take(&self, change: Change) {
        let applied = match change {
            Ok(data) => self.apply(&data).await,
            Err(wrong) => Err(wrong.into()),
        };
        match applied {
            Ok(fixed) if fixed.is_empty() => tracing::info!("the new settings are in effect"),
            Ok(fixed) => tracing::warn!(
                keys = fixed.join(", "),
                "the new settings are in effect, but for what needs the worker to be started anew"
            ),
            Err(error) => tracing::error!(
                reason = format_args!("{error:#}"),
                "the new settings are wrong: those before stay"
            ),
        }
    }

    /// Applies what can change, and returns the keys of what cannot.
    async fn apply(&self, data: &BridgeData) -> Result<Vec<&'static str>> {
        for warning in &data.warnings {
            tracing::warn!("{warning}");
        }
        let config = models::config_of(self.args, data).await?;
        let mut fixed = self.controls.change(config, &self.kinds)?;
        fixed.extend(stale(&self.settings, &data.settings));
        Ok(fixed)
    }
}

/// What differs of what only a start looks at.
fn stale(before: &Settings, now: &Settings) -> Vec<&'static str> {
    let groups = [
        ("roles", before.roles != now.roles),
        ("engines and their keys", before.backend != now.backend),
        ("folders and downloads", before.models != now.models),
        ("time-outs", before.effort != now.effort),
        ("console", before.console != now.console),
    ];
    let differ = groups.iter().filter(|(_, differs)| *differs);
    differ.map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use ordu_worker::bridge_data::Role;

    use super::*;

    #[test]
    fn what_only_a_start_looks_at_is_named() {
        let before = Settings::default();
        let mut now = before.clone();
        assert!(stale(&before, &now).is_empty());
        now.roles = vec![Role::Scribe];
        now.backend.kai_url = "http://elsewhere".to_owned();
        assert_eq!(stale(&before, &now), ["roles", "engines and their keys"]);
    }
}
