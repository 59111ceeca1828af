//! The three switches of the whole horde: kept in the database, at hand in memory.

use std::sync::{Arc, PoisonError};

use futures::{StreamExt as _, stream};
use ordu_api::RequestId;
use ordu_api::status::Modes;
use ordu_core::horde::{Alert, Policy};

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::routes::request::cancel;

/// The name under which the modes are stored.
const SETTING: &str = "modes";

/// Requests that are aborted at the same time.
const ABORTS_AT_ONCE: usize = 64;

impl App {
    /// The modes as they are now; `raid_mode` is always there.
    pub(crate) fn modes(&self) -> Modes {
        *self.modes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches modes, for now and for later starts.
    pub(crate) async fn set_modes(&self, modes: Modes) -> ApiResult<()> {
        let text =
            serde_json::to_string(&modes).map_err(|error| ApiError::Internal(error.to_string()))?;
        self.store.set_setting(SETTING, &text).await?;
        self.apply_modes(modes);
        Ok(())
    }

    /// Gives nothing away any more of all requests that wait: the horde is closed. Jobs that run
    /// may end.
    ///
    /// # Source
    /// `community.md` § 7.1.
    pub(crate) async fn abort_waiting(self: &Arc<Self>) {
        let waiting: Vec<RequestId> = self.live().horde.open_requests().collect();
        tracing::info!(requests = waiting.len(), "waiting requests are aborted");
        // Those that cannot be stored are dropped after the next start, once they expire.
        let aborted = stream::iter(waiting).map(|id| cancel(self, id));
        let failed = aborted.buffer_unordered(ABORTS_AT_ONCE);
        let failed = failed.filter(|aborted| std::future::ready(aborted.is_err()));
        let failed = failed.count().await;
        if failed > 0 {
            tracing::warn!(failed, "aborted requests could not all be stored");
        }
    }

    /// Takes over what is stored.
    pub(crate) async fn load_modes(&self) -> Result<(), ordu_store::Error> {
        let stored = self.store.find_setting(SETTING).await?;
        let modes: Modes = stored
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        self.apply_modes(modes);
        Ok(())
    }

    fn apply_modes(&self, modes: Modes) {
        let raid = modes.raid_mode.unwrap_or(false);
        let alert = if raid { Alert::Raid } else { Alert::Calm };
        self.live().horde.set_policy(Policy { alert });
        let modes = Modes {
            raid_mode: Some(raid),
            ..modes
        };
        *self.modes.write().unwrap_or_else(PoisonError::into_inner) = modes;
    }
}
