//! Workers that come to other nodes.

use ordu_api::WorkerId;
use ordu_core::Kudos;
use ordu_core::horde::{Declared, Offer};
use ordu_store::{Error, Worker};

use crate::app::App;
use crate::error::ApiError;
use crate::registry::{self, Known};

impl App {
    /// A worker may have come to another node for the first time just now.
    pub(crate) async fn meet_worker_named(&self, name: &str) -> Result<(), Error> {
        if self.nodes.are_several()
            && self.registry.by_name(name).is_none()
            && let Some(stored) = self.store.find_worker_by_name(name).await?
        {
            self.show_stored(&stored);
        }
        Ok(())
    }

    /// Reads a worker again that another node changed, or that came to one.
    pub(super) async fn refresh_worker(&self, id: WorkerId) -> Result<(), Error> {
        let Some(stored) = self.store.find_worker(id).await? else {
            self.forget_deleted(id);
            return Ok(());
        };
        self.show_stored(&stored);
        let seen = self.live().horde.worker(id).map(|worker| {
            let offers = worker.offer.is_some();
            (worker.record.checked_in, offers)
        });
        let is_news = seen.is_none_or(|(at, offers)| at < stored.last_check_in || !offers);
        if is_news {
            self.see_elsewhere(&stored).await;
        }
        Ok(())
    }

    /// A worker is online at another node: here it counts for what can be served and how fast.
    async fn see_elsewhere(&self, stored: &Worker) {
        let declared = Declared::from_json(stored.kind, &stored.declared);
        let owner = match self.accounts.by_id(stored.owner).await {
            Ok(Some(owner)) => owner,
            Ok(None) | Err(ApiError::Refused(_)) => return,
            Err(error) => {
                tracing::warn!(?error, worker.id = %stored.id, "its owner cannot be read");
                return;
            }
        };
        let standing = owner.standing(Kudos::ZERO);
        let Ok(offer) = Offer::new(stored.id, &standing, &declared, &self.reference()) else {
            return;
        };
        if let Some(known) = self.registry.by_id(stored.id) {
            let fresh = Known::from_stored(stored);
            self.registry.put(Known {
                declared: fresh.declared,
                address: fresh.address,
                ..known
            });
        }
        let (check_in, is_home) = {
            let horde = &mut self.live().horde;
            let is_home = horde.is_home_of(stored.id);
            if !is_home {
                horde.follow_worker(&registry::record(stored));
            }
            (horde.check_in(offer, stored.last_check_in), is_home)
        };
        if let Some(reward) = &check_in.reward {
            self.pay_uptime(reward).await;
        }
        if check_in.store && is_home {
            let agent = declared.common().agent.replace('\0', "");
            self.store_check_in(stored.id, agent, stored.last_check_in);
        }
    }
}
