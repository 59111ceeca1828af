//! What must hold between requests, jobs and kudos, whatever happened: a look at all of it.

use ordu_api::{JobId, RequestId};
use ordu_core::Kudos;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;
use crate::pool::args;

/// Rows that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// A delivered job earns its worker's owner something, once, and at most what it is worth (up to a
    /// cent, to which it is rounded); others earn nothing.
    Pay {
        /// Which job.
        job: JobId,
        /// What became of it, as stored.
        state: String,
        /// What it is worth; `None` if it was not delivered.
        worth: Option<Kudos>,
        /// What came from the mint for it; `None` if nothing did.
        paid: Option<Kudos>,
    },
    /// A request counts its jobs, and one that ended has none at work.
    Counts {
        /// Which request.
        request: RequestId,
        /// What became of it, as stored.
        state: String,
        /// Jobs at workers: by the request, and by the jobs themselves.
        running: (i64, i64),
        /// Delivered ones, likewise.
        done: (i64, i64),
    },
}

const PAY: &str = "
    WITH paid AS (
        SELECT event, CAST(SUM(amount) AS BIGINT) AS amount, COUNT(*) - COUNT(DISTINCT target) AS again
        FROM ledger
        WHERE reason = 'generation' AND source = -1
        GROUP BY event
    )
    SELECT j.id, j.state, j.kudos, p.amount
    FROM jobs AS j
        LEFT JOIN paid AS p ON p.event = j.id
    WHERE CASE j.state
        WHEN 'done' THEN (j.kudos > 0 AND p.event IS NULL) OR p.amount > j.kudos + 10 OR p.again > 0
        ELSE p.event IS NOT NULL
    END
    ORDER BY j.id";

const COUNTS: &str = "
    WITH counts AS (
        SELECT request,
            CAST(SUM(CASE state WHEN 'assigned' THEN 1 ELSE 0 END) AS BIGINT) AS running,
            CAST(SUM(CASE state WHEN 'done' THEN 1 ELSE 0 END) AS BIGINT) AS done
        FROM jobs
        GROUP BY request
    )
    SELECT r.id, r.state, r.running, COALESCE(c.running, 0), r.done, COALESCE(c.done, 0)
    FROM requests AS r
        LEFT JOIN counts AS c ON c.request = r.id
    WHERE r.running <> COALESCE(c.running, 0)
        OR r.done <> COALESCE(c.done, 0)
        OR (r.state <> 'live' AND COALESCE(c.running, 0) > 0)
        OR (r.state = 'finished' AND r.open > 0)
    ORDER BY r.id";

impl Store {
    /// Jobs that are not paid as they should be and requests that do not count theirs right: none, or
    /// the books are wrong. Reads every job, request and movement of kudos.
    pub async fn list_flaws(&self) -> Result<Vec<Flaw>> {
        let mut reader = self.pool.reader().await?;
        let jobs: Vec<(Uuid, String, Option<i64>, Option<i64>)> = reader.all(PAY, args![]).await?;
        let pay = |(job, state, worth, paid): (Uuid, String, Option<i64>, Option<i64>)| Flaw::Pay {
            job: JobId::from_uuid(job),
            state,
            worth: worth.map(Kudos::from_milli),
            paid: paid.map(Kudos::from_milli),
        };
        let mut flaws: Vec<Flaw> = jobs.into_iter().map(pay).collect();
        let requests: Vec<(Uuid, String, i64, i64, i64, i64)> = reader.all(COUNTS, args![]).await?;
        let counts = |(request, state, running, at_work, done, delivered)| Flaw::Counts {
            request: RequestId::from_uuid(request),
            state,
            running: (running, at_work),
            done: (done, delivered),
        };
        flaws.extend(requests.into_iter().map(counts));
        Ok(flaws)
    }
}
