//! The results of a request that no worker has.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::JobId;

use super::{Blame, Entry, Horde, Job, JobState, MAX_FAULTS, Work};
use crate::alchemy::AlchemySpec;

/// A form that failed so often is given up.
///
/// # Source
/// `generation.md` § 6.13.
pub(super) const MAX_ABORTS: usize = 4;

/// The results of a request that no worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slots {
    /// So many, each like the others.
    Alike(u32),
    /// These, by number: each is a form of its own.
    Forms(BTreeSet<u32>),
}

/// What becomes of the slot of a job that faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// Another worker may take it.
    Reopened,
    /// Nobody may: its form failed too often.
    GivenUp,
    /// Another worker may take it, and the fault counts nowhere.
    Returned,
}

impl Slots {
    /// Nothing is open.
    pub(super) fn none(work: &Work) -> Self {
        match work {
            Work::Image(_) | Work::Text(_) => Self::Alike(0),
            Work::Alchemy(_) => Self::Forms(BTreeSet::new()),
        }
    }

    /// What was open of a request that is stored, of whose results `open` were.
    pub(super) fn restored(work: &Work, open: u32, jobs: &[Job]) -> Self {
        match work {
            Work::Image(_) | Work::Text(_) => Self::Alike(open),
            Work::Alchemy(spec) if open > 0 => Self::Forms(open_forms(spec, jobs)),
            Work::Alchemy(_) => Self::none(work),
        }
    }

    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Alike(count) => *count,
            Self::Forms(slots) => u32::try_from(slots.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a form of this number is open.
    pub(super) fn has(&self, slot: u32) -> bool {
        match self {
            Self::Alike(_) => false,
            Self::Forms(slots) => slots.contains(&slot),
        }
    }

    /// A worker took one.
    pub(super) fn take(&mut self, slot: Option<u32>) {
        match (self, slot) {
            (Self::Alike(count), _) => *count = count.saturating_sub(1),
            (Self::Forms(slots), Some(slot)) => {
                slots.remove(&slot);
            }
            (Self::Forms(_), None) => {}
        }
    }

    /// A worker gave one back.
    pub(super) fn give_back(&mut self, slot: Option<u32>) {
        match (self, slot) {
            (Self::Alike(count), _) => *count += 1,
            (Self::Forms(slots), Some(slot)) => {
                slots.insert(slot);
            }
            (Self::Forms(_), None) => {}
        }
    }

    /// Nobody gets anything any more.
    pub(super) fn close(&mut self) {
        match self {
            Self::Alike(count) => *count = 0,
            Self::Forms(slots) => slots.clear(),
        }
    }
}

/// The forms that nobody has, that are not done, and that did not fail too often.
fn open_forms(spec: &AlchemySpec, jobs: &[Job]) -> BTreeSet<u32> {
    let is_open = |slot: &u32| {
        let of_slot = || jobs.iter().filter(|job| job.slot == Some(*slot));
        let is_taken = of_slot().any(|job| job.state != JobState::Faulted);
        !is_taken && of_slot().filter(|job| job.is_abort()).count() < MAX_ABORTS
    };
    spec.slots().filter(is_open).collect()
}

impl Entry {
    /// Whether it faulted too often as a whole. Forms are given up one by one.
    pub(super) fn is_hopeless(&self) -> bool {
        let are_alike = matches!(self.open, Slots::Alike(_));
        are_alike && self.faults as usize >= MAX_FAULTS && !self.faulted
    }

    /// How many of its forms failed too often.
    pub(super) fn given_up(&self, jobs: &BTreeMap<JobId, Job>) -> u32 {
        let Work::Alchemy(spec) = &self.request.work else {
            return 0;
        };
        let aborts = |slot: u32| {
            let jobs = self.jobs.iter().filter_map(|id| jobs.get(id));
            let of_slot = jobs.filter(|job| job.slot == Some(slot));
            of_slot.filter(|job| job.is_abort()).count()
        };
        let given_up = spec.slots().filter(|slot| aborts(*slot) >= MAX_ABORTS);
        let most = self.request.work.asked();
        u32::try_from(given_up.count()).unwrap_or(most).min(most)
    }

    /// Gives a slot back, unless all that is wanted is there, running or open.
    pub(super) fn reopen(&mut self, slot: Option<u32>) {
        let taken = u64::from(self.running) + u64::from(self.finished);
        let covered = u64::from(self.open.count()) + taken;
        if !self.faulted && covered < u64::from(self.asked) {
            self.open.give_back(slot);
        }
    }
}

impl Horde {
    /// What becomes of a job's slot if the job faults now.
    pub(super) fn aftermath(&self, job: &Job, blame: Blame) -> Aftermath {
        if blame == Blame::Nobody {
            return Aftermath::Returned;
        }
        let (Some(slot), Some(entry)) = (job.slot, self.requests.get(&job.request)) else {
            return Aftermath::Reopened;
        };
        if self.aborts(entry, slot) + 1 >= MAX_ABORTS {
            Aftermath::GivenUp
        } else {
            Aftermath::Reopened
        }
    }

    /// How often a form failed.
    pub(super) fn aborts(&self, entry: &Entry, slot: u32) -> usize {
        self.jobs_of(entry, slot)
            .filter(|job| job.is_abort())
            .count()
    }

    /// The jobs of one form, oldest first.
    pub(super) fn jobs_of<'a>(
        &'a self,
        entry: &'a Entry,
        slot: u32,
    ) -> impl Iterator<Item = &'a Job> {
        let jobs = entry.jobs.iter().filter_map(|id| self.jobs.get(id));
        jobs.filter(move |job| job.slot == Some(slot))
    }
}
