//! What speaks against accounts and workers.

use ordu_api::{UserId, WorkerId};
use ordu_core::Timestamp;
use ordu_core::suspicion::{Reason, Suspect};
use sqlx::FromRow;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::args;

/// How often a reason speaks against somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Against whom.
    pub suspect: Suspect,
    /// What.
    pub reason: Reason,
    /// How often; 0 if it was forgotten.
    pub count: u32,
    /// When that was last changed.
    pub changed: Timestamp,
}

#[derive(Debug, FromRow)]
struct SuspicionRow {
    owner: i64,
    worker: String,
    reason: i64,
    count: i64,
    changed: i64,
}

impl SuspicionRow {
    fn into_suspicion(self) -> Result<Suspicion> {
        let worker: Option<WorkerId> = match self.worker.as_str() {
            "" => None,
            id => Some(
                id.parse()
                    .map_err(|_| Error::corrupt("suspicions.worker", id))?,
            ),
        };
        let user = UserId::new(self.owner)
            .ok_or_else(|| Error::corrupt("suspicions.owner", &self.owner.to_string()))?;
        Ok(Suspicion {
            suspect: Suspect { user, worker },
            reason: Reason::from_number(self.reason)
                .ok_or_else(|| Error::corrupt("suspicions.reason", &self.reason.to_string()))?,
            count: u32::try_from(self.count).unwrap_or(u32::MAX),
            changed: Timestamp(self.changed),
        })
    }
}

const LIST: &str = "
    SELECT owner, worker, reason, count, changed
    FROM suspicions
    WHERE changed >= $1
    ORDER BY changed, owner, worker, reason";

const PUT: &str = "
    INSERT INTO suspicions (owner, worker, reason, count, changed)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (owner, worker, reason) DO UPDATE
    SET count = excluded.count,
        changed = excluded.changed
    WHERE suspicions.changed <= excluded.changed";

const FORGET: &str = "
    UPDATE suspicions
    SET count = 0,
        changed = $2
    WHERE owner = $1";

const DELETE_FORGOTTEN: &str = "
    DELETE FROM suspicions
    WHERE count = 0 AND changed < $1";

impl Store {
    /// What was changed at `since` or later, oldest change first.
    pub async fn list_suspicions(&self, since: Timestamp) -> Result<Vec<Suspicion>> {
        let rows = self.pool.all(LIST, args![since.0]).await?;
        rows.into_iter().map(SuspicionRow::into_suspicion).collect()
    }

    /// Writes how often a reason speaks, unless something newer is there.
    pub async fn put_suspicion(&self, suspicion: &Suspicion) -> Result<()> {
        let worker = suspicion.suspect.worker;
        let values = args![
            suspicion.suspect.user.get(),
            worker.map(|worker| worker.to_string()).unwrap_or_default(),
            i64::from(suspicion.reason.number()),
            i64::from(suspicion.count),
            suspicion.changed.0,
        ];
        self.pool.execute(PUT, values).await?;
        Ok(())
    }

    /// Forgets what speaks against an account and its workers. It stays for a while with a count
    /// of 0, so that other nodes learn of it.
    pub async fn forget_suspicions(&self, user: UserId, now: Timestamp) -> Result<()> {
        self.pool.execute(FORGET, args![user.get(), now.0]).await?;
        Ok(())
    }

    /// Deletes what was forgotten before then; says how much that was.
    pub async fn delete_forgotten_suspicions(&self, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_FORGOTTEN, args![before.0]).await
    }
}
