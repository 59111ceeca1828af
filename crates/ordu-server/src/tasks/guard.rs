//! Keeps filters, addresses and suspicions as the database has them, and deletes what is old.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// How often filters are read.
pub(crate) const FILTERS_PAUSE: Duration = Duration::from_secs(10);

/// How often reputation is read.
pub(crate) const REPUTATION_PAUSE: Duration = Duration::from_secs(5);

/// How often old rows are deleted.
pub(crate) const CLEANING_PAUSE: Duration = Duration::from_mins(10);

/// One look at the filters.
pub(crate) async fn filters(app: Arc<App>) {
    if let Err(error) = app.guard.filters.refresh(&app.store).await {
        tracing::warn!(%error, "the filters could not be read");
    }
}

/// One look at addresses and suspicions.
pub(crate) async fn reputation(app: Arc<App>) {
    if let Err(error) = app.refresh_reputation().await {
        tracing::warn!(%error, "reputation could not be read");
    }
}

/// One cleaning.
pub(crate) async fn clean(app: Arc<App>) {
    let cleaned = async {
        app.delete_old_addresses().await?;
        app.delete_forgotten_suspicions().await?;
        app.delete_old_notices().await?;
        app.delete_old_audit().await?;
        app.delete_old_trust_audits().await?;
        app.delete_old_registrations().await
    };
    if let Err(error) = cleaned.await {
        tracing::warn!(%error, "old reputation could not be deleted");
    }
}

impl App {
    /// Reads what the countermeasures need to begin.
    pub(crate) async fn load_guard(&self) -> Result<(), ordu_store::Error> {
        self.guard.filters.refresh(&self.store).await?;
        self.refresh_reputation().await
    }

    async fn refresh_reputation(&self) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        self.guard.addresses.refresh(&self.store, now).await?;
        self.guard.suspicions.refresh(&self.store).await
    }
}
