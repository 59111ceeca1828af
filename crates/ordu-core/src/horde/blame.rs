//! Whose fault it is that a job came back without a result.
//!
//! A worker that drops too many jobs is sent into maintenance, so a drop must be its own: not that
//! of a request on which one worker after the other fails, not of a source that nobody can fetch,
//! not of a horde that was in trouble itself, and not of an owner who ends the worker's work.
//!
//! # Source
//! `generation.md` § 6.13; `users.md` § 1, needs 2, 14 and 21.

use std::collections::BTreeSet;

use ordu_api::image::{DRAIN, Metadata};
use ordu_api::{JobId, WorkerId};
use serde::{Deserialize, Serialize};

use super::{Horde, Job, MAX_FAULTS};
use crate::{Millis, Timestamp};

/// After a start, jobs that are due get this much longer: their workers could not hand them back.
const RESTART_GRACE: Millis = Millis::from_seconds(60);

/// What a remark must be about to blame what the job needs.
const NEEDED: &[&str] = &[
    "source_image",
    "source_mask",
    "extra_source_images",
    "lora",
    "ti",
];

/// What a remark must say about that.
const NOT_TO_BE_HAD: &[&str] = &["download_failed", "parse_failed", "baseline_mismatch"];

/// Whose fault it is that a job came back without a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The worker's: a drop, and a fault of the request.
    #[default]
    Worker,
    /// The request's: what it needs cannot be had, or everybody fails on it. No drop.
    Request,
    /// Nobody's: it counts nowhere.
    Nobody,
}

impl Blame {
    /// What a worker says about a job that it hands back without a result.
    pub fn of_remarks(remarks: &[Metadata]) -> Self {
        let drains = |remark: &Metadata| {
            remark.kind == "information" && remark.reference.as_deref() == Some(DRAIN)
        };
        let lacks = |remark: &Metadata| {
            NEEDED.contains(&remark.kind.as_str()) && NOT_TO_BE_HAD.contains(&remark.value.as_str())
        };
        if remarks.iter().any(lacks) {
            Self::Request
        } else if remarks.iter().any(drains) {
            Self::Nobody
        } else {
            Self::Worker
        }
    }
}

/// How it became known that there will be no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The worker said so, and whom it blames.
    Said(Blame),
    /// Its time was over.
    TimedOut,
}

impl Horde {
    /// The horde could not answer or store something: jobs that are under way now are nobody's
    /// fault if they come to nothing.
    pub fn note_trouble(&mut self, now: Timestamp) {
        self.trouble = self.trouble.max(Some(now));
    }

    /// The horde was away until now. Jobs that were due meanwhile get a little longer.
    pub fn restarted(&mut self, now: Timestamp) {
        self.note_trouble(now);
        let grace = now + RESTART_GRACE;
        let early = |at: &&(Timestamp, JobId)| at.0 < grace;
        let due: Vec<_> = self.deadlines.iter().take_while(early).copied().collect();
        for (deadline, id) in due {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.deadline = grace;
                self.deadlines.remove(&(deadline, id));
                self.deadlines.insert((grace, id));
            }
        }
    }

    /// Whose fault it is that a job comes to nothing now.
    pub(super) fn blame(&mut self, id: JobId, notice: Notice, now: Timestamp) -> Blame {
        let Some(job) = self.jobs.get(&id) else {
            return Blame::Nobody;
        };
        if self.trouble.is_some_and(|trouble| trouble > job.assigned) {
            return Blame::Nobody;
        }
        let worker = job.worker;
        match notice {
            // Its owner ends its work.
            Notice::Said(_) if self.workers.is_in_maintenance(worker) => Blame::Nobody,
            Notice::Said(excuse) if excuse != Blame::Worker && self.workers.excuse(worker, now) => {
                excuse
            }
            Notice::Said(_) | Notice::TimedOut => Blame::Worker,
        }
    }

    /// Takes the drops back from workers that failed on the same thing one after the other.
    pub(super) fn exonerate(&mut self, jobs: &[JobId]) {
        let failed = |job: &&Job| job.is_abort();
        let failed = || {
            jobs.iter()
                .filter_map(|id| self.jobs.get(id))
                .filter(failed)
        };
        let workers: BTreeSet<WorkerId> = failed().map(|job| job.worker).collect();
        if workers.len() < MAX_FAULTS {
            return;
        }
        let blamed = failed().filter(|job| job.blame == Blame::Worker);
        let blamed: Vec<(JobId, WorkerId)> = blamed.map(|job| (job.id, job.worker)).collect();
        for (id, worker) in blamed {
            self.workers.take_drop_back(worker);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.blame = Blame::Request;
            }
        }
    }
}
