//! Workers as they are shown.

use ordu_api::WorkerId;
use ordu_api::worker::{WorkKind, WorkerChanged, WorkerInput, WorkerView};
use reqwest::Method;

use crate::transport::answer;
use crate::{Error, Horde};

impl Horde {
    /// The workers that are online, of one kind or of all (`GET /workers`).
    ///
    /// # Errors
    /// Transport errors and [`Error::RateLimited`].
    pub async fn workers(&self, kind: Option<WorkKind>) -> Result<Vec<WorkerView>, Error> {
        let path = ["workers"];
        answer(match kind {
            Some(kind) => self.get_of_kind(&path, kind),
            None => self.get(&path),
        })
        .await
    }

    /// One worker by its name, compared exactly, online or not (`GET /workers/name/{name}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerNotFound`.
    pub async fn worker_by_name(&self, name: &str) -> Result<WorkerView, Error> {
        answer(self.get(&["workers", "name", name])).await
    }

    /// One worker by its id, online or not (`GET /workers/{id}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerNotFound`.
    pub async fn worker(&self, id: WorkerId) -> Result<WorkerView, Error> {
        answer(self.get(&["workers", &id.to_string()])).await
    }

    /// Changes a worker of one's own (`PUT /workers/{id}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerNotFound`, or if it is somebody else's.
    pub async fn update_worker(
        &self,
        id: WorkerId,
        change: &WorkerInput,
    ) -> Result<WorkerChanged, Error> {
        let call = self.call(Method::PUT, &["workers", &id.to_string()]);
        answer(call.json(change)).await
    }
}
