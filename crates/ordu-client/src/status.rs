//! The state of the horde as a whole.

use ordu_api::status::{Heartbeat, ModelCounts, ModelStatus, Modes, Performance};
use ordu_api::worker::WorkKind;

use crate::transport::answer;
use crate::{Error, Horde};

impl Horde {
    /// Whether the horde is alive (`GET /status/heartbeat`).
    ///
    /// # Errors
    /// Transport errors only: there is no refusal.
    pub async fn heartbeat(&self) -> Result<Heartbeat, Error> {
        answer(self.get(&["status", "heartbeat"])).await
    }

    /// Load and throughput (`GET /status/performance`).
    ///
    /// # Errors
    /// Transport errors and [`Error::RateLimited`].
    pub async fn performance(&self) -> Result<Performance, Error> {
        answer(self.get(&["status", "performance"])).await
    }

    /// The models of one kind that workers offer now, with their queues (`GET /status/models`).
    ///
    /// # Errors
    /// Transport errors and [`Error::RateLimited`].
    pub async fn models(&self, kind: WorkKind) -> Result<Vec<ModelStatus>, Error> {
        answer(self.get_of_kind(&["status", "models"], kind)).await
    }

    /// How many pictures each model that the horde knows made lately (`GET /stats/img/models`).
    ///
    /// # Errors
    /// Transport errors and [`Error::RateLimited`].
    pub async fn image_model_stats(&self) -> Result<ModelCounts, Error> {
        let path = ["stats", "img", "models"];
        answer(self.get_with(&path, "model_state", "known")).await
    }

    /// The switches of the whole horde (`GET /status/modes`).
    ///
    /// # Errors
    /// Transport errors and [`Error::RateLimited`].
    pub async fn modes(&self) -> Result<Modes, Error> {
        answer(self.get(&["status", "modes"])).await
    }
}
