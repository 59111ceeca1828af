//! From rows to the live horde: after a start, and for requests that ended but can still be read.

use std::sync::Arc;

use ordu_core::Kudos;
use ordu_core::agent::Agent;
use ordu_core::horde::{Blame, Delivered, Horde, Job, JobState, Renewal, Request, Stage, Stored};
use ordu_core::model_reference::ModelReference;
use ordu_store::{JobState as StoredState, RequestState};

use crate::registry::Registry;

/// Turns stored requests back into live ones.
pub(crate) struct Rebuilder<'a> {
    pub(crate) reference: &'a Arc<ModelReference>,
    pub(crate) registry: &'a Registry,
}

impl Rebuilder<'_> {
    /// Puts a stored request into the horde; says whether it could be read.
    pub(crate) fn restore(&self, horde: &mut Horde, row: &ordu_store::Request) -> bool {
        match self.read(row) {
            Ok(stored) => {
                horde.restore(stored);
                true
            }
            Err(error) => {
                // Written by a newer version, or damaged: it stays stored, and expires.
                tracing::error!(request.id = %row.id, %error, "a stored request cannot be read");
                false
            }
        }
    }

    /// A stored request as it is now, to be joined with what is known of it.
    pub(crate) fn renewal(&self, row: &ordu_store::Request) -> Result<Renewal, serde_json::Error> {
        let dropped = row.jobs.iter();
        let dropped = dropped.filter(|job| job.state == StoredState::Aborted);
        Ok(Renewal {
            stored: self.read(row)?,
            dropped: dropped.map(|job| job.id).collect(),
            stage: match row.state {
                RequestState::Live if row.cancelled => Stage::Cancelled,
                RequestState::Live => Stage::Live,
                RequestState::Finished | RequestState::Faulted | RequestState::Expired => {
                    Stage::Over
                }
            },
        })
    }

    fn read(&self, row: &ordu_store::Request) -> Result<Stored, serde_json::Error> {
        let request: Request = serde_json::from_str(&row.spec)?;
        // What was released or dropped leaves no trace in the counts.
        let kept = row
            .jobs
            .iter()
            .filter(|job| job.state != StoredState::Aborted);
        let jobs = kept.map(|job| self.job(&request, job));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let count = |number: i64| u32::try_from(number).unwrap_or(0);
        Ok(Stored {
            open: count(row.open),
            asked: if row.cancelled {
                count(row.done)
            } else {
                count(row.n)
            },
            kudos: row.consumed,
            expires: row.expires,
            faulted: row.state == RequestState::Faulted,
            jobs,
            request,
        })
    }

    fn job(&self, request: &Request, row: &ordu_store::Job) -> Result<Job, serde_json::Error> {
        let known = self.registry.by_id(row.worker);
        // An agent that nobody knows any more is an unknown one.
        let agent = Agent::parse(
            known
                .as_ref()
                .map_or("", |known| known.declared.common().agent),
        );
        let worth = || request.work.job_kudos(&row.model, self.reference);
        Ok(Job {
            id: row.id,
            request: row.request,
            slot: row.slot,
            worker: row.worker,
            worker_name: known
                .as_ref()
                .map(|known| known.name.clone())
                .unwrap_or_default(),
            owner: known.map(|known| known.owner).unwrap_or_default(),
            model: row.model.clone(),
            kudos: row
                .kudos
                .filter(|kudos| *kudos > Kudos::ZERO)
                .or_else(worth),
            reward_percent: request.work.reward_percent(&agent),
            validated: agent.is_validated_backend(),
            things: request.work.things(),
            assigned: row.assigned_at,
            deadline: row.assigned_at + row.ttl,
            decoy: false,
            state: state(row)?,
            blame: Blame::Worker,
        })
    }
}

fn state(row: &ordu_store::Job) -> Result<JobState, serde_json::Error> {
    Ok(match row.state {
        StoredState::Assigned => JobState::Running,
        StoredState::Done => {
            let delivered: Delivered =
                serde_json::from_str(row.result.as_deref().unwrap_or_default())?;
            JobState::Done(delivered)
        }
        StoredState::Faulted | StoredState::Aborted => JobState::Faulted,
    })
}
