//! Which workers something else than their server changed or deleted: servers look at them again.

use ordu_api::WorkerId;
use ordu_core::Timestamp;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;
use crate::pool::args;

const NOTE: &str = "
    INSERT INTO worker_edits (worker, changed)
    VALUES ($1, $2)
    ON CONFLICT (worker) DO UPDATE
    SET changed = excluded.changed";

const LIST: &str = "
    SELECT worker, changed
    FROM worker_edits
    WHERE changed >= $1
    ORDER BY changed, worker";

const DELETE_OLD: &str = "
    DELETE FROM worker_edits
    WHERE changed < $1";

impl Store {
    /// Tells every server to look at a worker again; after the change is written.
    pub async fn note_worker_edit(&self, worker: WorkerId, at: Timestamp) -> Result<()> {
        self.pool.execute(NOTE, args![worker.uuid(), at.0]).await?;
        Ok(())
    }

    /// What was changed at `since` or later, oldest change first.
    pub async fn list_worker_edits(&self, since: Timestamp) -> Result<Vec<(WorkerId, Timestamp)>> {
        let rows: Vec<(Uuid, i64)> = self.pool.all(LIST, args![since.0]).await?;
        let edit = |(worker, changed)| (WorkerId::from_uuid(worker), Timestamp(changed));
        Ok(rows.into_iter().map(edit).collect())
    }

    /// Deletes what every server has seen by now; says how much that was.
    pub async fn delete_worker_edits(&self, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OLD, args![before.0]).await
    }
}
