//! What a database is like for whoever looks for faults. It is left as it is.

use std::time::{Duration, Instant};

use ordu_core::{Millis, Timestamp};

use crate::error::Result;
use crate::pool::{DatabaseUrl, Dialect, Pool, args, newest_migration};

/// How often a round trip is measured.
const TRIPS: usize = 21;

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
    /// The minute of the newest sample that servers took, if there is one.
    pub newest: Option<Timestamp>,
}

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

const NEWEST_SAMPLE: &str = "
    SELECT CAST(MAX(newest) AS BIGINT)
    FROM loads";

const MINUTE: i64 = 60_000;

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
    for _ in 0..TRIPS {
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
        ahead: ahead(pool, clock).await?,
        newest: newest(pool).await,
    })
}

async fn write(pool: &Pool) -> Result<Duration> {
    let mut writes = Vec::with_capacity(2 * WRITES);
    for _ in 0..WRITES {
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
async fn ahead(pool: &Pool, clock: impl Fn() -> Timestamp) -> Result<Option<Millis>> {
    if pool.dialect() == Dialect::Sqlite {
        return Ok(None);
    }
    let before = clock();
    let told: Option<(i64,)> = pool.one(CLOCK_POSTGRES, args![]).await?;
    let after = clock();
    let ours = i64::midpoint(before.0, after.0);
    Ok(told.map(|(theirs,)| Millis(theirs.saturating_sub(ours))))
}

/// Older schemas have no samples.
async fn newest(pool: &Pool) -> Option<Timestamp> {
    let found: Option<(Option<i64>,)> = pool.one(NEWEST_SAMPLE, args![]).await.ok()?;
    let minute = found?.0?;
    Some(Timestamp(minute.saturating_mul(MINUTE)))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
