//! Requests that go straight to a worker that waits: stored together with their jobs, by one write
//! instead of two that follow each other. Far from the database that is half of the way to the worker.
//!
//! Whatever could take some time, or go to several workers, takes the usual way: forms, more results than
//! the worker makes at once, rules of the operator's that are asked about each assignment.

use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_core::Timestamp;
use ordu_core::horde::{Assignment, Request};
use ordu_store::{Error, NewRequest};
use tokio::time::Instant;

use crate::app::App;
use crate::handover::{Handover, stored};
use crate::hooks::Stage;
use crate::push::pops::Promise;

/// A request in the live horde that is not stored yet, with all of its jobs promised to a worker. Dropped
/// before it is [handed over](Self::hand_over), it was never there.
pub(crate) struct Straight {
    promise: Option<Promise>,
    app: Arc<App>,
    assignment: Assignment,
    now: Timestamp,
    chosen: Instant,
}

impl Straight {
    /// Lets a request go straight to a worker, if one waits for just that.
    pub(crate) fn begin(app: &Arc<App>, request: &Request) -> Option<Self> {
        let (id, kind) = (request.id, request.work.kind());
        let takes_time = app.hooks.are_asked(Stage::Assignment, kind);
        let is_form = kind == WorkKind::Interrogation;
        if is_form || takes_time || !app.push.pops.is_somebody_at_rest(kind) {
            return None;
        }
        let (now, chosen) = (app.clock.now(), Instant::now());
        let mut promise = None;
        let live = &mut *app.live();
        let find = |horde: &_| {
            promise = Promise::make(app, horde, (kind, id));
            promise.as_ref().map(Promise::worker)
        };
        let request = request.clone();
        let assignment = live
            .horde
            .enqueue_assigned(request, find, &mut live.dice, now)?;
        // Before anybody else sees the horde.
        app.begin_storing(id);
        Some(Self {
            promise,
            app: Arc::clone(app),
            assignment,
            now,
            chosen,
        })
    }

    /// Stores it.
    pub(crate) async fn store(&self, row: &NewRequest) -> Result<(), Error> {
        let assignment = stored(&self.assignment);
        self.app.store_request(row, Some(&assignment)).await
    }

    /// It is stored: the worker gets its jobs.
    pub(crate) async fn hand_over(mut self) {
        let Some(promise) = self.promise.take() else {
            return;
        };
        let id = self.assignment.request;
        self.app.end_storing(id);
        self.app.count_claims((1, 0), self.chosen);
        // Its client may have seen it among what it asked for, and given it up, before it was there.
        let is_cancelled = self.app.live().horde.is_cancelled(id);
        if is_cancelled && let Err(error) = self.app.store.cancel_request(id).await {
            tracing::warn!(request.id = %id, %error, "a request that was given up is stored");
        }
        let jobs = vec![self.assignment.clone()];
        promise.keep(Handover::of(&self.app, jobs, self.now));
    }
}

impl Drop for Straight {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            let id = self.assignment.request;
            self.app.live().horde.forget_request(id);
            self.app.end_storing(id);
            // Now the worker may look.
            drop(promise);
        }
    }
}
