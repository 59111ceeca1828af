//! Requests as others left them.

use std::collections::BTreeSet;

use ordu_api::{JobId, RequestId, WorkerId};
use ordu_core::Kudos;
use ordu_core::horde::Renewed;
use ordu_store::{Error, JobState, Request};

use super::locked;
use crate::app::App;
use crate::rebuild::Rebuilder;

/// Requests that are read at once.
pub(super) const BITE: usize = 200;

impl App {
    /// Reads requests again, and joins what is stored of them with what is known here.
    pub(crate) async fn refresh_requests(&self, ids: &[RequestId]) -> Result<(), Error> {
        for some in ids.chunks(BITE) {
            // What is stored by the time of the look, and what is not yet.
            let unstored = locked(&self.nodes.unstored).clone();
            let stored = self.refresh_stored(some).await?;
            let is_gone = |id: &&RequestId| !stored.contains(id) && !unstored.contains(id);
            for gone in some.iter().filter(is_gone) {
                self.live().horde.forget_request(*gone);
                self.watch.forget_request(*gone);
                self.accounts.release(*gone, None);
            }
        }
        Ok(())
    }

    /// A request comes into the live horde that is stored only then: who does not find it in the
    /// database leaves it alone.
    pub(crate) fn begin_storing(&self, id: RequestId) {
        locked(&self.nodes.unstored).insert(id);
    }

    /// The opposite: it is stored, or gone.
    pub(crate) fn end_storing(&self, id: RequestId) {
        locked(&self.nodes.unstored).remove(&id);
    }

    /// The same of those that are stored, and says which; what is not stored is left alone.
    pub(crate) async fn refresh_stored(
        &self,
        ids: &[RequestId],
    ) -> Result<BTreeSet<RequestId>, Error> {
        let rows = self.store.list_requests(ids).await?;
        self.meet_workers(&rows).await?;
        for row in &rows {
            self.renew(row);
        }
        Ok(rows.iter().map(|row| row.id).collect())
    }

    /// Reads those requests again of which a job was underway when they were read. Of several nodes
    /// each does so with its look into the change log.
    pub(crate) async fn refresh_again(&self) -> Result<(), Error> {
        self.refresh_with_again(BTreeSet::new()).await
    }

    /// The same, and others with them. Where the database is away, they are read the next time.
    pub(super) async fn refresh_with_again(
        &self,
        mut requests: BTreeSet<RequestId>,
    ) -> Result<(), Error> {
        let again = std::mem::take(&mut *locked(&self.nodes.again));
        requests.extend(&again);
        let requests: Vec<RequestId> = requests.into_iter().collect();
        let refreshed = self.refresh_requests(&requests).await;
        if refreshed.as_ref().is_err_and(Error::is_unavailable) {
            locked(&self.nodes.again).extend(again);
        }
        refreshed
    }

    /// Makes a job known that another node gave away, unless nothing more comes of its request; says
    /// how far it is, if there is one.
    pub(crate) async fn refresh_job(&self, id: JobId) -> Result<Option<JobState>, Error> {
        let Some(job) = self.store.find_job(id).await? else {
            return Ok(None);
        };
        self.refresh_requests(&[job.request]).await?;
        Ok(Some(job.state))
    }

    /// Jobs name workers, which may have come to another node for the first time.
    async fn meet_workers(&self, rows: &[Request]) -> Result<(), Error> {
        let workers = rows.iter().flat_map(|row| &row.jobs).map(|job| job.worker);
        let strangers = workers.filter(|worker| !self.registry.contains(*worker));
        let strangers: BTreeSet<WorkerId> = strangers.collect();
        for worker in strangers {
            if let Some(stored) = self.store.find_worker(worker).await? {
                self.show_stored(&stored);
            }
        }
        Ok(())
    }

    fn renew(&self, row: &Request) {
        let reference = self.reference();
        let rebuilder = Rebuilder {
            reference: &reference,
            registry: &self.registry,
        };
        let renewal = match rebuilder.renewal(row) {
            Ok(renewal) => renewal,
            Err(error) => {
                tracing::error!(request.id = %row.id, %error, "a stored request cannot be read");
                return;
            }
        };
        let now = self.clock.now();
        let work = renewal.stored.request.work.clone();
        let (renewed, is_new) = {
            let horde = &mut self.live().horde;
            let is_new = horde.request(row.id).is_none();
            (horde.renew(renewal, now), is_new)
        };
        if is_new && !renewed.done {
            // What the horde itself asks for is not charged, not even its activation.
            let charged = (row.consumed - work.activation_tax()).max(Kudos::ZERO);
            self.accounts.hold(row.id, row.owner, row.hold - charged);
            if let Some(key) = row.shared_key {
                let left = work.most_cost(&reference) - row.consumed;
                self.accounts.shared_keys().restore(key, row.id, left);
            }
        }
        self.note_renewed(row, renewed, is_new);
    }

    /// What others charged counts here as well, and what is over needs nothing held for it.
    fn note_renewed(&self, row: &Request, renewed: Renewed, is_new: bool) {
        if renewed.charged > Kudos::ZERO {
            self.accounts.debit(row.owner, renewed.charged);
            if !is_new {
                self.accounts.release(row.id, Some(renewed.charged));
            }
        }
        if renewed.done {
            self.accounts.release(row.id, None);
            self.watch.forget_request(row.id);
        }
        if renewed.again {
            locked(&self.nodes.again).insert(row.id);
        }
    }
}
