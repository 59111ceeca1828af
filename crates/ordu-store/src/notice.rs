//! What moderators are told, and the reports behind it.

use ordu_api::{JobId, UserId, WorkerId};
use ordu_core::Timestamp;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;
use crate::pool::args;

/// Something that moderators should know.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Notice {
    /// Its id.
    pub id: Uuid,
    /// What it is about.
    pub kind: String,
    /// Whom it is about.
    pub subject: String,
    /// In a sentence.
    pub message: String,
    /// The prompt that led to it.
    pub prompt: Option<String>,
    /// When, in epoch milliseconds.
    pub happened_at: i64,
}

/// A job that its worker reported as illegal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemJob {
    /// The job.
    pub job: JobId,
    /// Who asked.
    pub owner: UserId,
    /// For which account of its own, if it is a service.
    pub proxied_account: Option<String>,
    /// From where, IPv6 by /64.
    pub address: Option<String>,
    /// Who reported it.
    pub worker: WorkerId,
    /// When.
    pub at: Timestamp,
}

const INSERT: &str = "
    INSERT INTO notices (id, kind, subject, message, prompt, happened_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO NOTHING";

const LIST: &str = "
    SELECT id, kind, subject, message, prompt, happened_at
    FROM notices
    WHERE ($1 = '' OR kind = $1)
    ORDER BY happened_at DESC, id
    LIMIT $2 OFFSET $3";

const COUNT_SINCE: &str = "
    SELECT COUNT(*)
    FROM notices
    WHERE subject = $1 AND kind = $2 AND happened_at > $3";

const DELETE_OLD: &str = "
    DELETE FROM notices
    WHERE happened_at < $1";

const INSERT_PROBLEM: &str = "
    INSERT INTO problem_jobs (job, owner, proxied_account, address, worker, happened_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (job) DO NOTHING";

const COUNT_OF_OWNER: &str = "
    SELECT COUNT(*)
    FROM problem_jobs
    WHERE owner = $1 AND COALESCE(proxied_account, '') = $2 AND happened_at > $3";

const COUNT_OF_ADDRESS: &str = "
    SELECT COUNT(*)
    FROM problem_jobs
    WHERE address = $1 AND happened_at > $2";

impl Store {
    /// Writes a notice.
    pub async fn insert_notice(&self, notice: &Notice) -> Result<()> {
        let values = args![
            notice.id,
            notice.kind.clone(),
            notice.subject.clone(),
            notice.message.clone(),
            notice.prompt.clone(),
            notice.happened_at,
        ];
        self.pool.execute(INSERT, values).await?;
        Ok(())
    }

    /// A page of `size` notices of a kind, or of all kinds if `kind` is empty, newest first; the
    /// first page is 0.
    pub async fn list_notices(&self, kind: &str, page: u32, size: u32) -> Result<Vec<Notice>> {
        let (page, size) = (i64::from(page), i64::from(size));
        self.pool.all(LIST, args![kind, size, page * size]).await
    }

    /// How many notices of a kind were about a subject after `since`.
    pub async fn count_notices(&self, subject: &str, kind: &str, since: Timestamp) -> Result<i64> {
        let row: Option<(i64,)> = self
            .pool
            .one(COUNT_SINCE, args![subject, kind, since.0])
            .await?;
        Ok(row.map_or(0, |(count,)| count))
    }

    /// Deletes notices from before then; says how many.
    pub async fn delete_notices(&self, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OLD, args![before.0]).await
    }

    /// Records a job that was reported; a repeated report changes nothing.
    pub async fn insert_problem_job(&self, problem: &ProblemJob) -> Result<()> {
        let values = args![
            problem.job.uuid(),
            problem.owner.get(),
            problem.proxied_account.clone(),
            problem.address.clone(),
            problem.worker.uuid(),
            problem.at.0,
        ];
        self.pool.execute(INSERT_PROBLEM, values).await?;
        Ok(())
    }

    /// How many jobs of an account (of an account behind it, if it is a service) were reported
    /// after `since`.
    pub async fn count_problems_of(
        &self,
        owner: UserId,
        proxied_account: Option<&str>,
        since: Timestamp,
    ) -> Result<i64> {
        let values = args![owner.get(), proxied_account.unwrap_or_default(), since.0];
        let row: Option<(i64,)> = self.pool.one(COUNT_OF_OWNER, values).await?;
        Ok(row.map_or(0, |(count,)| count))
    }

    /// How many jobs from an address were reported after `since`.
    pub async fn count_problems_from(&self, address: &str, since: Timestamp) -> Result<i64> {
        let values = args![address, since.0];
        let row: Option<(i64,)> = self.pool.one(COUNT_OF_ADDRESS, values).await?;
        Ok(row.map_or(0, |(count,)| count))
    }
}
