//! What a database is like for whoever looks for faults. It is left as it is.

use std::time::{Duration, Instant};

use ordu_core::{Millis, Timestamp};

use crate::error::Result;
use crate::pool::{DatabaseUrl, Dialect, Pool, args, newest_migration};

/// How often a round trip is measured.
const TRIPS: usize = 21;

/// How long that may go on: who is far away need not be asked so often.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

/// How often a write is, and then the write that takes it back.
const WRITES: usize = 6;

/// What was found out.
#[derive(Debug)]
pub struct Probe {
    /// How long the shortest statement takes, in the middle of several.
    pub round_trip: Duration,
    /// The schema that it has: its newest migration; 0 if it is empty.
    pub schema: i64,
    /// The schema that this program knows.
    pub known_schema: i64,
    /// How long a write takes until it is durable, in the middle of several; `None` if there is
    /// nothing yet that could be written.
    pub write: Option<Result<Duration>>,
    /// How far its clock is ahead of ours, if it has one of its own.
    pub ahead: Option<Millis>,
    /// When the newest of what servers wrote was written, if there is something.
    pub newest: Option<Timestamp>,
    /// The nodes that did not say that they ended; none where there cannot be several.
    pub nodes: Vec<HeardNode>,
    /// Whether one of several nodes leads; `None` where there cannot be several.
    pub led: Option<bool>,
    /// Workers with jobs that should be done by now, the most pressing first.
    pub held: Vec<HeldJobs>,
    /// Workers whose jobs timed out lately, and how many, the most first.
    pub timed_out: Vec<(String, i64)>,
}

/// A node, and when it was heard of. One that was started again has one row for each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardNode {
    /// What its operator calls it.
    pub name: String,
    /// How it is reached.
    pub url: String,
    /// How long it has said nothing, by the clock of the database.
    pub silent_for: Millis,
}

/// Jobs that took more than half of their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldJobs {
    /// The worker's name.
    pub worker: String,
    /// How many.
    pub jobs: i64,
    /// When the oldest was given to it.
    pub since: Timestamp,
    /// When the first times out, or should have.
    pub until: Timestamp,
}

/// Timeouts are of interest for so long.
pub const LATELY: Millis = Millis::from_minutes(10);

const NOTHING: &str = "SELECT 1";

/// How long the first migration took is known to the nanosecond, and matters to nobody.
const THERE: &str = "
    UPDATE _sqlx_migrations
    SET execution_time = execution_time + 1
    WHERE version = (SELECT MIN(version) FROM _sqlx_migrations)";

const AND_BACK: &str = "
    UPDATE _sqlx_migrations
    SET execution_time = execution_time - 1
    WHERE version = (SELECT MIN(version) FROM _sqlx_migrations)";

const CLOCK_POSTGRES: &str = "
    SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// What is made long ago is not from the future: only what is under way is looked at.
const NEWEST: &str = "
    SELECT CAST(MAX(at) AS BIGINT)
    FROM (
        SELECT MAX(newest) * 60000 AS at FROM loads
        UNION ALL
        SELECT MAX(assigned_at) FROM jobs WHERE state = 'assigned'
        UNION ALL
        SELECT MAX(created) FROM requests WHERE state = 'live'
        UNION ALL
        SELECT MAX(last_check_in) FROM workers
    ) AS written";

const NODES: &str = "
    SELECT name, url, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - beat
    FROM nodes
    ORDER BY name, beat DESC";

/// The lock that `try_lead` takes, whoever has it.
const IS_LED: &str = "
    SELECT EXISTS (
        SELECT 1
        FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND CAST(classid AS BIGINT) = 709311640
            AND CAST(objid AS BIGINT) = CAST(hashtext(current_schema()) AS BIGINT) & 4294967295
    )";

const HELD: &str = "
    SELECT w.name, COUNT(*), MIN(j.assigned_at), MIN(j.assigned_at + j.ttl)
    FROM jobs AS j
    JOIN workers AS w ON w.id = j.worker
    WHERE j.state = 'assigned' AND j.assigned_at + j.ttl / 2 < $1
    GROUP BY w.name
    ORDER BY 4
    LIMIT 20";

const TIMED_OUT: &str = "
    SELECT w.name, COUNT(*)
    FROM jobs AS j
    JOIN workers AS w ON w.id = j.worker
    WHERE j.state = 'faulted' AND j.finished_at > $1 AND j.finished_at >= j.assigned_at + j.ttl
    GROUP BY w.name
    ORDER BY 2 DESC, 1
    LIMIT 20";

/// Looks at the database of `url`; `clock` tells the time.
///
/// # Errors
/// [`crate::Error::NotFound`] if there is no such file; otherwise what keeps it from being read.
pub async fn probe(url: &DatabaseUrl, clock: impl Fn() -> Timestamp) -> Result<Probe> {
    let pool = Pool::visit(url).await?;
    let found = look(&pool, clock).await;
    pool.close().await;
    found
}

async fn look(pool: &Pool, clock: impl Fn() -> Timestamp) -> Result<Probe> {
    let mut trips = Vec::with_capacity(TRIPS);
    let mut connection = pool.reader().await?;
    let started = Instant::now();
    while trips.len() < TRIPS && started.elapsed() < LONG_ENOUGH {
        let begun = Instant::now();
        connection.plain(NOTHING).await?;
        trips.push(begun.elapsed());
    }
    drop(connection);
    let schema = pool.schema().await?;
    let known_schema = newest_migration();
    let write = if schema > 0 {
        Some(write(pool).await)
    } else {
        None
    };
    Ok(Probe {
        round_trip: middle(trips),
        schema,
        known_schema,
        write,
        ahead: ahead(pool, &clock).await?,
        newest: newest(pool).await,
        nodes: nodes(pool).await,
        led: led(pool).await,
        held: held(pool, clock()).await,
        timed_out: timed_out(pool, clock()).await,
    })
}

async fn write(pool: &Pool) -> Result<Duration> {
    let mut writes = Vec::with_capacity(2 * WRITES);
    let started = Instant::now();
    for _ in 0..WRITES {
        if !writes.is_empty() && started.elapsed() > LONG_ENOUGH {
            break;
        }
        // SQLite does not write what does not change.
        for statement in [THERE, AND_BACK] {
            let begun = Instant::now();
            pool.execute(statement, args![]).await?;
            writes.push(begun.elapsed());
        }
    }
    Ok(middle(writes))
}

/// The clock of a server compared with ours; a file has none.
async fn ahead(pool: &Pool, clock: &impl Fn() -> Timestamp) -> Result<Option<Millis>> {
    if pool.dialect() == Dialect::Sqlite {
        return Ok(None);
    }
    let before = clock();
    let told: Option<(i64,)> = pool.one(CLOCK_POSTGRES, args![]).await?;
    let after = clock();
    let ours = i64::midpoint(before.0, after.0);
    Ok(told.map(|(theirs,)| Millis(theirs.saturating_sub(ours))))
}

/// Older schemas lack what is looked at, here and below.
async fn newest(pool: &Pool) -> Option<Timestamp> {
    let found: Option<(Option<i64>,)> = pool.one(NEWEST, args![]).await.ok()?;
    Some(Timestamp(found?.0?))
}

async fn nodes(pool: &Pool) -> Vec<HeardNode> {
    if pool.dialect() == Dialect::Sqlite {
        return Vec::new();
    }
    let rows: Vec<(String, String, i64)> = pool.all(NODES, args![]).await.unwrap_or_default();
    let node = |(name, url, silent_for)| HeardNode {
        name,
        url,
        silent_for: Millis(silent_for),
    };
    rows.into_iter().map(node).collect()
}

async fn led(pool: &Pool) -> Option<bool> {
    if pool.dialect() == Dialect::Sqlite {
        return None;
    }
    let row: Option<(bool,)> = pool.one(IS_LED, args![]).await.ok()?;
    row.map(|(led,)| led)
}

async fn held(pool: &Pool, now: Timestamp) -> Vec<HeldJobs> {
    let rows: Result<Vec<(String, i64, i64, i64)>> = pool.all(HELD, args![now.0]).await;
    let jobs = |(worker, jobs, since, until)| HeldJobs {
        worker,
        jobs,
        since: Timestamp(since),
        until: Timestamp(until),
    };
    rows.unwrap_or_default().into_iter().map(jobs).collect()
}

async fn timed_out(pool: &Pool, now: Timestamp) -> Vec<(String, i64)> {
    let since = now.0.saturating_sub(LATELY.0);
    pool.all(TIMED_OUT, args![since]).await.unwrap_or_default()
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
