//! Pictures that were made once more, and whether they came out alike.

use ordu_api::{JobId, UserId, WorkerId};
use ordu_core::Timestamp;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::args;

/// A picture that was made once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAudit {
    /// The job that made it first.
    pub job: JobId,
    /// Its worker.
    pub worker: WorkerId,
    /// Whose worker that is.
    pub owner: UserId,
    /// With which model.
    pub model: String,
    /// Who made it once more.
    pub twin_worker: WorkerId,
    /// How different the two look, in thousandths.
    pub distance: i64,
    /// Whether that is too much.
    pub differs: bool,
    /// When that was found out.
    pub at: Timestamp,
}

#[derive(Debug, FromRow)]
struct Row {
    job: Uuid,
    worker: Uuid,
    owner: i64,
    model: String,
    twin_worker: Uuid,
    distance: i64,
    differs: bool,
    happened_at: i64,
}

impl Row {
    fn into_audit(self) -> Result<TrustAudit> {
        Ok(TrustAudit {
            job: JobId::from_uuid(self.job),
            worker: WorkerId::from_uuid(self.worker),
            owner: UserId::new(self.owner)
                .ok_or_else(|| Error::corrupt("trust_audits.owner", &self.owner.to_string()))?,
            model: self.model,
            twin_worker: WorkerId::from_uuid(self.twin_worker),
            distance: self.distance,
            differs: self.differs,
            at: Timestamp(self.happened_at),
        })
    }
}

const INSERT: &str = "
    INSERT INTO trust_audits
        (job, worker, owner, model, twin_worker, distance, differs, happened_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (job) DO NOTHING";

const LIST: &str = "
    SELECT job, worker, owner, model, twin_worker, distance, differs, happened_at
    FROM trust_audits
    ORDER BY happened_at DESC, job
    LIMIT $1 OFFSET $2";

const LIST_OF: &str = "
    SELECT job, worker, owner, model, twin_worker, distance, differs, happened_at
    FROM trust_audits
    WHERE worker = $1
    ORDER BY happened_at DESC, job
    LIMIT $2 OFFSET $3";

const COUNT_DIFFERING: &str = "
    SELECT COUNT(*)
    FROM trust_audits
    WHERE worker = $1 AND differs AND happened_at > $2";

const DELETE_OLD: &str = "
    DELETE FROM trust_audits
    WHERE happened_at < $1";

impl Store {
    /// Records an audit; a repeated one changes nothing. Says whether it is new.
    pub async fn insert_trust_audit(&self, audit: &TrustAudit) -> Result<bool> {
        let values = args![
            audit.job.uuid(),
            audit.worker.uuid(),
            audit.owner.get(),
            audit.model.clone(),
            audit.twin_worker.uuid(),
            audit.distance,
            audit.differs,
            audit.at.0,
        ];
        Ok(self.pool.execute(INSERT, values).await? > 0)
    }

    /// A page of `size` audits, of a worker or of all, newest first; the first page is 0.
    pub async fn list_trust_audits(
        &self,
        worker: Option<WorkerId>,
        page: u32,
        size: u32,
    ) -> Result<Vec<TrustAudit>> {
        let (page, size) = (i64::from(page), i64::from(size));
        let rows: Vec<Row> = match worker {
            Some(worker) => {
                let values = args![worker.uuid(), size, page * size];
                self.pool.all(LIST_OF, values).await?
            }
            None => self.pool.all(LIST, args![size, page * size]).await?,
        };
        rows.into_iter().map(Row::into_audit).collect()
    }

    /// How many audits of a worker after `since` came out different.
    pub async fn count_differing_audits(&self, worker: WorkerId, since: Timestamp) -> Result<u32> {
        let values = args![worker.uuid(), since.0];
        let row: Option<(i64,)> = self.pool.one(COUNT_DIFFERING, values).await?;
        let count = row.map_or(0, |(count,)| count);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Deletes audits from before then; says how many.
    pub async fn delete_trust_audits(&self, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OLD, args![before.0]).await
    }
}
