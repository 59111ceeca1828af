//! What years of work leave behind in a database, made up in bulk: for load tests, which cannot wait for years.

use ordu_api::{UserId, WorkerId};
use ordu_core::Timestamp;

use crate::Store;
use crate::error::Result;
use crate::pool::{Dialect, Value, args};

/// Requests that one transaction makes up.
const BITE: u32 = 20_000;

/// Requests of the past, each with one delivered job, settled and folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// How many.
    pub requests: u32,
    /// Who asked.
    pub owner: UserId,
    /// Who did the jobs.
    pub worker: WorkerId,
    /// What was asked, as a checked request in JSON.
    pub spec: String,
    /// What was delivered, as JSON.
    pub result: String,
    /// When.
    pub at: Timestamp,
    /// Until when they can be read.
    pub expires: Timestamp,
}

/// The numbers from `$1` up to `$2` and the id that goes with each. Ids are scattered as random ones are.
macro_rules! numbered {
    ($id:literal, $rest:literal) => {
        concat!(
            "
    WITH RECURSIVE numbers (i) AS (
        SELECT CAST($1 AS BIGINT)
        UNION ALL
        SELECT i + 1 FROM numbers WHERE i < $2
    ), rows AS (
        SELECT i, ",
            $id,
            " AS id
        FROM numbers
    )",
            $rest
        )
    };
}

macro_rules! numbered_sqlite {
    ($rest:literal) => {
        numbered!(
            "unhex(printf('%08x%024x', (i * 2654435761) % 4294967296, i))",
            $rest
        )
    };
}

macro_rules! numbered_postgres {
    ($rest:literal) => {
        numbered!(
            "CAST(lpad(to_hex((i * 2654435761) % 4294967296), 8, '0')
                || lpad(to_hex(i), 24, '0') AS UUID)",
            $rest
        )
    };
}

/// One statement for each table, by dialect.
macro_rules! statements {
    ($numbered:ident) => {
        [
            $numbered!(
                "
    INSERT INTO requests
        (id, owner, kind, spec, n, open, done, priority, created, expires, state, client_agent)
    SELECT id, $3, 'text', $4, 1, 0, 1, 0, $5, $6, 'finished', 'rehearsal:1:ordu'
    FROM rows"
            ),
            $numbered!(
                "
    INSERT INTO jobs
        (id, request, worker, slot, seed, model, assigned_at, ttl, state, finished_at, result,
         kudos)
    SELECT id, id, $3, 0, i, 'rehearsal', $4, 150000, 'done', $4, $5, 1000
    FROM rows"
            ),
            $numbered!(
                "
    INSERT INTO ledger
        (event, reason, line, source, target, amount, kind, happened_at, folded)
    SELECT id, 'generation', 0, 2 * $3, -1, 0, 'text', $4, TRUE
    FROM rows"
            ),
        ]
    };
}

const SQLITE: [&str; 3] = statements!(numbered_sqlite);
const POSTGRES: [&str; 3] = statements!(numbered_postgres);

impl Store {
    /// Makes up a past in an empty database. It moves no kudos.
    ///
    /// # Errors
    /// [`crate::Error::Taken`] where there is one already.
    pub async fn rehearse(&self, past: &Past) -> Result<()> {
        let [requests, jobs, ledger] = match self.pool.dialect() {
            Dialect::Sqlite => SQLITE,
            Dialect::Postgres => POSTGRES,
        };
        let mut first = 1;
        while first <= past.requests {
            let last = past.requests.min(first.saturating_add(BITE - 1));
            let span: Vec<Value> = args![i64::from(first), i64::from(last)];
            let owner = past.owner.get();
            let at = past.at.0;
            let mut connection = self.pool.begin().await?;
            let written = async {
                let rest = args![owner, past.spec.clone(), at, past.expires.0];
                let values = [span.clone(), rest].concat();
                connection.execute(requests, values).await?;
                let rest = args![past.worker.uuid(), at, past.result.clone()];
                let values = [span.clone(), rest].concat();
                connection.execute(jobs, values).await?;
                let values = [span, args![owner, at]].concat();
                connection.execute(ledger, values).await?;
                Ok(())
            }
            .await;
            connection.end(written).await?;
            first = last + 1;
        }
        Ok(())
    }
}
