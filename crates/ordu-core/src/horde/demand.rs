//! What a request asks of a worker, computed once when it comes.
//!
//! Requests with the same demand are served by the same workers, so the queue keeps them together.

use ordu_api::WorkerId;

use super::needs::{Needs, Switch};
use super::{Address, Request, kinds};
use crate::Role;

/// What a request asks of a worker, except what must be looked at one by one: words in its
/// prompt, its steps and what its requester can pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    pub(super) needs: Needs,
    /// The number of its set of models, or of open forms, in the queue; `None` for any model.
    pub(super) models: Option<usize>,
    /// The number of its list of workers in the queue; `None` for any worker.
    pub(super) list: Option<usize>,
    /// The number of its soft prompt in the queue; `None` if it needs none.
    pub(super) softprompt: Option<usize>,
    pub(super) size: Size,
}

/// How large a request is, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size {
    /// In the unit of its kind: pixels, tokens of the context, tiles.
    pub(super) extent: u64,
    /// Of a text: its tokens. Of other kinds nothing.
    pub(super) length: u64,
}

/// Which workers may serve a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkerList {
    /// These only.
    Only(Vec<WorkerId>),
    /// All but these.
    Except(Vec<WorkerId>),
}

impl WorkerList {
    /// The list of a request; `None` if it takes any worker.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let terms = request.work.terms();
        let mut ids = terms.workers.to_vec();
        if ids.is_empty() {
            return None;
        }
        ids.sort_unstable();
        ids.dedup();
        Some(if terms.worker_blacklist {
            Self::Except(ids)
        } else {
            Self::Only(ids)
        })
    }

    pub(super) fn allows(&self, worker: WorkerId) -> bool {
        match self {
            Self::Only(ids) => ids.contains(&worker),
            Self::Except(ids) => !ids.contains(&worker),
        }
    }
}

/// The yes-or-no needs of a request.
pub(super) fn needs(request: &Request) -> Needs {
    let mut needs = Needs::default();
    origin(&mut needs, request);
    kinds::needs(&mut needs, &request.work);
    needs
}

/// Who asks, and whom they trust.
fn origin(needs: &mut Needs, request: &Request) {
    let terms = request.work.terms();
    let is_unsafe = request.requester.address == Address::Unsafe;
    if terms.nsfw {
        needs.switch(Switch::Nsfw);
    }
    // An unknown address of an unknown user is only for owners who are known.
    if terms.trusted_workers || is_unsafe && !request.requester.roles.has(Role::Trusted) {
        needs.switch(Switch::TrustedOwner);
    }
    if is_unsafe {
        needs.switch(Switch::UnsafeAddress);
    }
    if !terms.slow_workers {
        needs.switch(Switch::Fast);
    }
    if !terms.extra_slow_workers {
        needs.switch(Switch::Prompt);
    }
}
