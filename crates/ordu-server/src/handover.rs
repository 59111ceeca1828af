//! Jobs on their way to a worker.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use ordu_core::Timestamp;
use ordu_core::horde::Assignment;
use ordu_store::NewJob;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::metrics::JobStep;

/// Jobs on their way to a worker. Dropped before they are handed over, because who asked for them has
/// hung up or because the answer could not be made, they go back.
pub(crate) struct Handover {
    app: Arc<App>,
    assignments: Vec<Assignment>,
    now: Timestamp,
}

impl Handover {
    /// Jobs that were stored just now, or none.
    pub(crate) fn of(app: &Arc<App>, assignments: Vec<Assignment>, now: Timestamp) -> Self {
        for assignment in &assignments {
            let worker = assignment.jobs.first().map(|job| job.worker);
            tracing::info!(
                request.id = %assignment.request,
                worker.id = worker.map(tracing::field::display),
                model = assignment.model,
                jobs = assignment.jobs.len(),
                "jobs were given away"
            );
        }
        Self {
            app: Arc::clone(app),
            assignments,
            now,
        }
    }

    /// The answer is made: the worker has them.
    pub(crate) fn handed_over(&mut self) {
        let jobs = self.assignments.iter().flat_map(Assignment::ids);
        jobs.for_each(|_| self.app.jobs.note(JobStep::Assigned));
        self.assignments.clear();
    }

    /// The answer cannot be made: they have gone back when this ends.
    pub(crate) async fn take_back(&mut self) {
        if let Some(going) = self.send_back() {
            // It only fails if it panicked, and then their time runs out.
            drop(going.await);
        }
    }

    fn send_back(&mut self) -> Option<JoinHandle<()>> {
        if self.assignments.is_empty() {
            return None;
        }
        let unheard = std::mem::take(&mut self.assignments);
        let (app, now) = (Arc::clone(&self.app), self.now);
        Some(self.app.tracker.spawn(async move {
            for assignment in &unheard {
                app.give_back(assignment, now).await;
            }
        }))
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.assignments.iter().map(|assignment| assignment.request);
        f.debug_list().entries(requests).finish()
    }
}

impl Deref for Handover {
    type Target = [Assignment];

    fn deref(&self) -> &[Assignment] {
        &self.assignments
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        drop(self.send_back());
    }
}

/// An assignment as it is stored.
pub(crate) fn stored(assignment: &Assignment) -> ordu_store::Assignment {
    let jobs = assignment.jobs.iter().map(|job| NewJob {
        id: job.id,
        worker: job.worker,
        slot: job.slot,
        seed: Some(i64::from(assignment.seed)),
        model: job.model.clone(),
        assigned_at: job.assigned,
        ttl: job.deadline.since(job.assigned),
    });
    ordu_store::Assignment {
        request: assignment.request,
        expires: assignment.expires,
        jobs: jobs.collect(),
    }
}
