//! `dynamic_models`: looks which models are asked for most now and then, and has the worker offer them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use ordu_api::worker::WorkKind;
use ordu_client::Horde;
use ordu_worker::manager::{
    Candidate, Circumstances, Family, Large, Presence, Record, Reference, Room, follow, select,
};
use ordu_worker::{Controls, Status};
use tokio::sync::watch;

use super::Errand;

/// Between two looks. A model takes minutes to come, so queues that vanish within them are not worth it.
const LOOK: Duration = Duration::from_mins(5);

/// Whose offer follows the horde.
pub(super) struct Follower<'a> {
    pub(super) errand: &'a Errand,
    pub(super) reference: &'a Reference,
    pub(super) controls: &'a Controls,
    /// Tells how fast it is with which model.
    pub(super) status: watch::Receiver<Status>,
}

impl Follower<'_> {
    /// Follows until it is dropped, if it should.
    pub(super) async fn run(&self) -> Infallible {
        let models = &self.errand.supply.data.settings.models;
        let is_on = models.dynamic_models && models.number_of_dynamic_models > 0;
        if !is_on {
            return std::future::pending().await;
        }
        loop {
            match self.look().await {
                Ok(chosen) => self.adopt(chosen),
                Err(error) => {
                    tracing::warn!(%error, "the horde does not tell what is asked for");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn adopt(&self, chosen: Vec<String>) {
        let before: BTreeSet<_> = self.controls.config().followed.into_iter().collect();
        let now: BTreeSet<_> = chosen.iter().cloned().collect();
        if now != before {
            tracing::info!(
                models = chosen.join(", "),
                "much is asked of these models: they are offered"
            );
            self.controls.follow(chosen);
        }
    }

    /// The models that are worth following now.
    async fn look(&self) -> Result<Vec<String>, ordu_client::Error> {
        let config = self.controls.config();
        let horde = Horde::new(
            &config.horde_url,
            config.api_key.clone(),
            &config.bridge_agent,
        )?;
        let queues = horde.models(WorkKind::Image).await?;
        let eligible = self.eligible();
        let fixed = &config.models_to_load;
        let candidates: Vec<_> = queues
            .into_iter()
            .filter(|model| eligible.contains(&model.name) && !fixed.contains(&model.name))
            .filter_map(|model| {
                let record = self.reference.records.get(&model.name)?;
                Some(Candidate {
                    is_here: self.is_here(record),
                    is_followed: config.followed.contains(&model.name),
                    name: model.name,
                    queued: model.queued,
                })
            })
            .collect();
        let status = self.status.borrow();
        let speeds = status.engines.get(&WorkKind::Image);
        let speeds = speeds.map(|engine| engine.speeds.clone());
        Ok(follow(
            &candidates,
            &speeds.unwrap_or_default(),
            self.room(fixed),
        ))
    }

    fn is_here(&self, record: &Record) -> bool {
        self.errand.supply.depot.store.presence(record) == Presence::Present
    }

    /// How many may be followed. Models that lie here and that nobody named were fetched for that once.
    fn room(&self, fixed: &[String]) -> Room {
        let models = &self.errand.supply.data.settings.models;
        let records = self.reference.records.values();
        let fetched = records
            .filter(|record| !fixed.contains(&record.name) && self.is_here(record))
            .count();
        Room {
            most: models.number_of_dynamic_models as usize,
            fetches: (models.max_models_to_download as usize).saturating_sub(fetched),
        }
    }

    /// The models that this worker could offer, if they were here.
    fn eligible(&self) -> BTreeSet<String> {
        let data = &self.errand.supply.data;
        let config = self.controls.config();
        let large = if data.settings.models.load_large_models {
            Large::Allowed
        } else {
            Large::LeftOut
        };
        let card_mb = data.settings.effort.vram_budget_mb;
        let world = Circumstances {
            reference: self.reference,
            usage: None,
            card_mb,
            large,
        };
        let all = if card_mb.is_some() { "fits" } else { "all" };
        let mut names = select(&[all.to_owned()], &config.models_to_skip, &world).models;
        names.retain(|name| {
            self.reference.records.get(name).is_some_and(|record| {
                record.may_be_offered_by(self.errand.names.version)
                    && (config.nsfw || !record.nsfw)
                    && self.can_be_drawn(&record.family)
            })
        });
        names
    }

    /// Whether the engine draws with models of a family: nobody wants to fetch others.
    fn can_be_drawn(&self, family: &Family) -> bool {
        let ours = [
            Family::StableDiffusion1,
            Family::StableDiffusion2,
            Family::StableDiffusion2Small,
            Family::StableDiffusionXl,
        ];
        self.errand.names.comfy.is_some() || ours.contains(family)
    }
}
