//! How the horde was doing over time: what it made, how much waited, how many workers were there.
//!
//! What was made comes from the slices of [`crate::Statistics`]; the rest from samples.

use std::collections::BTreeMap;

use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use serde::Serialize;

use crate::error::Result;
use crate::pool::{Dialect, args};
use crate::statistics::Count;
use crate::{Store, json};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long the slices of a series are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An hour; kept for 14 days.
    Hour,
    /// A day in UTC; kept for two years.
    Day,
}

impl Step {
    /// How long a slice is.
    pub const fn span(self) -> Millis {
        match self {
            Self::Hour => Millis(HOUR),
            Self::Day => Millis(DAY),
        }
    }

    /// How many slices there are at most, the one that is not over yet included.
    pub const fn slices(self) -> i64 {
        match self {
            Self::Hour => 14 * 24,
            Self::Day => 730,
        }
    }

    /// When the slice begins that a time lies in.
    pub const fn start_of(self, at: Timestamp) -> Timestamp {
        let span = self.span().0;
        Timestamp(at.0.saturating_sub(at.0.rem_euclid(span)))
    }

    /// When the oldest slice begins that is kept.
    pub const fn oldest(self, now: Timestamp) -> Timestamp {
        let kept = self.span().0 * (self.slices() - 1);
        Timestamp(self.start_of(now).0.saturating_sub(kept))
    }
}

/// How busy the horde is with one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The kind of work.
    pub kind: WorkKind,
    /// Results that no worker has yet.
    pub queued: u64,
    /// Workers that are online.
    pub workers: u64,
}

/// One slice of a series.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Slice {
    /// What was delivered in it.
    pub made: Count,
    /// How much waited and how many workers were online, on average; `None` if nobody looked.
    pub load: Option<(f64, f64)>,
}

#[derive(Debug, Serialize)]
struct LoadRow<'a> {
    kind: &'a str,
    span: i64,
    start: i64,
    queued: i64,
    workers: i64,
    newest: i64,
}

const SAMPLE_SQLITE: &str = "
    INSERT INTO loads (kind, span, start, samples, queued, workers, newest)
    SELECT value ->> 'kind', value ->> 'span', value ->> 'start', 1, value ->> 'queued',
        value ->> 'workers', value ->> 'newest'
    FROM json_each($1)
    WHERE TRUE
    ON CONFLICT (kind, span, start) DO UPDATE
    SET samples = loads.samples + 1, queued = loads.queued + excluded.queued,
        workers = loads.workers + excluded.workers, newest = excluded.newest
    WHERE loads.newest < excluded.newest";

const SAMPLE_POSTGRES: &str = "
    INSERT INTO loads (kind, span, start, samples, queued, workers, newest)
    SELECT kind, span, start, 1, queued, workers, newest
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        kind TEXT, span BIGINT, start BIGINT, queued BIGINT, workers BIGINT, newest BIGINT)
    ON CONFLICT (kind, span, start) DO UPDATE
    SET samples = loads.samples + 1, queued = loads.queued + excluded.queued,
        workers = loads.workers + excluded.workers, newest = excluded.newest
    WHERE loads.newest < excluded.newest";

const SERIES: &str = "
    SELECT start, jobs, things, CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST(0 AS BIGINT)
    FROM statistics
    WHERE kind = $1 AND model = '' AND span = $2 AND start >= $3
    UNION ALL
    SELECT start, CAST(0 AS BIGINT), CAST(0 AS BIGINT), samples, queued, workers
    FROM loads
    WHERE kind = $1 AND span = $2 AND start >= $3";

/// Deletes samples of slices that no series shows any more.
pub(crate) const PRUNE_LOADS: &str = "
    DELETE FROM loads
    WHERE start < CASE WHEN span = 3600000 THEN $1 ELSE $2 END";

/// What is stored of a slice, read from both tables.
type SliceRow = (i64, i64, i64, i64, i64, i64);

impl Store {
    /// Counts how busy the horde is, once a minute: a second sample of a minute changes nothing.
    pub async fn sample_load(&self, loads: &[Load], now: Timestamp) -> Result<()> {
        let mut rows = Vec::new();
        for load in loads {
            for step in [Step::Hour, Step::Day] {
                rows.push(LoadRow {
                    kind: load.kind.name(),
                    span: step.span().0,
                    start: step.start_of(now).0,
                    queued: i64::try_from(load.queued).unwrap_or(i64::MAX),
                    workers: i64::try_from(load.workers).unwrap_or(i64::MAX),
                    newest: now.0.div_euclid(MINUTE),
                });
            }
        }
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => SAMPLE_SQLITE,
            Dialect::Postgres => SAMPLE_POSTGRES,
        };
        self.pool.execute(sql, args![json::object(&rows)?]).await?;
        Ok(())
    }

    /// The slices of a kind of work that something is known of, by their beginning.
    pub async fn series(
        &self,
        kind: WorkKind,
        step: Step,
        now: Timestamp,
    ) -> Result<BTreeMap<Timestamp, Slice>> {
        let values = args![kind.name(), step.span().0, step.oldest(now).0];
        let rows: Vec<SliceRow> = self.pool.all(SERIES, values).await?;
        let mut series: BTreeMap<Timestamp, Slice> = BTreeMap::new();
        for (start, jobs, things, samples, queued, workers) in rows {
            let slice = series.entry(Timestamp(start)).or_default();
            slice.made.jobs += u64::try_from(jobs).unwrap_or(0);
            slice.made.things += u64::try_from(things).unwrap_or(0);
            if samples > 0 {
                slice.load = Some((mean(queued, samples), mean(workers, samples)));
            }
        }
        Ok(series)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn mean(sum: i64, samples: i64) -> f64 {
    sum as f64 / samples as f64
}
