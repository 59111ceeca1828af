//! How far running jobs are, as their workers tell. Never stored, only passed on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::image::Steps;
use ordu_api::{JobId, RequestId};

/// The newest report for each request with a running job.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<BTreeMap<RequestId, (JobId, Steps)>>);

impl Watch {
    fn reports(&self) -> MutexGuard<'_, BTreeMap<RequestId, (JobId, Steps)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report. The job must be running: a request has then an end that forgets it.
    pub(crate) fn report(&self, request: RequestId, job: JobId, steps: Steps) {
        self.reports().insert(request, (job, steps));
    }

    /// How far the request's job is that was reported last.
    pub(crate) fn steps(&self, request: RequestId) -> Option<Steps> {
        self.reports().get(&request).map(|(_, steps)| *steps)
    }

    /// Forgets a job that ended.
    pub(crate) fn forget_job(&self, request: RequestId, job: JobId) {
        let mut reports = self.reports();
        if reports
            .get(&request)
            .is_some_and(|(reported, _)| *reported == job)
        {
            reports.remove(&request);
        }
    }

    /// Forgets a request that ended.
    pub(crate) fn forget_request(&self, request: RequestId) {
        self.reports().remove(&request);
    }
}
