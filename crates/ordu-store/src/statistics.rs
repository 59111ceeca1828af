//! What the horde made, counted in slices of time, so that no window is ever counted anew.
//!
//! The fold adds to a few rows; a window is the sum of the slices that begin in it. What is counted
//! leaves a window at most one slice early and never late.

use std::collections::BTreeMap;

use ordu_api::JobId;
use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use serde::Serialize;

use crate::Store;
use crate::error::{Error, Result};
use crate::json;
use crate::load::{PRUNE_LOADS, Step};
use crate::pool::{Connection, Dialect, args};

/// What stands for all models together.
const ALL_MODELS: &str = "";

/// Slices of all models together, in milliseconds; for the last minute, hour, day and month.
const SPANS_OF_ALL: [i64; 4] = [10_000, 60_000, 600_000, 3_600_000];
/// Slices of all models together that no window is made of, but the series of two years.
const SPAN_OF_SERIES: i64 = 86_400_000;
/// Slices of one model, in milliseconds; for the last day and month.
const SPANS_OF_MODEL: [i64; 2] = [3_600_000, 86_400_000];
/// The slice that never ends.
const FOR_EVER: i64 = 0;

/// A row of a job that ended is kept for so long.
const ARCHIVE_LIFETIME: Millis = Millis::from_minutes(7 * 24 * 60);

/// Rows that one round of pruning deletes at most from the archive.
const PRUNE_BITE: i64 = 5000;

/// Jobs, and the work in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many jobs.
    pub jobs: u64,
    /// Raw units of work: pixelsteps, tokens.
    pub things: u64,
}

/// What was made in the time that ends now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say how long")]
pub struct Windows {
    pub minute: Count,
    pub hour: Count,
    pub day: Count,
    /// 30 days.
    pub month: Count,
    pub total: Count,
}

/// How many jobs of each model were done in the time that ends now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say how long")]
pub struct ModelCounts {
    pub day: BTreeMap<String, u64>,
    /// 30 days.
    pub month: BTreeMap<String, u64>,
    pub total: BTreeMap<String, u64>,
}

/// Everything that is counted, by kind of work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    totals: BTreeMap<WorkKind, Windows>,
    models: BTreeMap<WorkKind, ModelCounts>,
}

impl Statistics {
    /// What was made of a kind.
    pub fn totals(&self, kind: WorkKind) -> Windows {
        self.totals.get(&kind).copied().unwrap_or_default()
    }

    /// The same by model.
    pub fn models(&self, kind: WorkKind) -> ModelCounts {
        self.models.get(&kind).cloned().unwrap_or_default()
    }
}

/// What one fold adds.
#[derive(Debug, Default)]
pub(crate) struct Additions(BTreeMap<Slice, (i64, i64)>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slice {
    kind: WorkKind,
    model: String,
    span: i64,
    start: i64,
}

#[derive(Debug, Serialize)]
struct SliceRow<'a> {
    kind: &'a str,
    model: &'a str,
    span: i64,
    start: i64,
    jobs: i64,
    things: i64,
}

impl Additions {
    /// Counts one job that was done at a time; only among all jobs of its kind if it is of no model.
    pub(crate) fn add(&mut self, kind: WorkKind, model: Option<&str>, at: i64, things: i64) {
        let of_all = SPANS_OF_ALL.iter().chain([&SPAN_OF_SERIES, &FOR_EVER]);
        self.add_to(kind, ALL_MODELS, of_all, (at, things));
        if let Some(model) = model {
            let of_model = SPANS_OF_MODEL.iter().chain([&FOR_EVER]);
            self.add_to(kind, model, of_model, (at, things));
        }
    }

    fn add_to<'a>(
        &mut self,
        kind: WorkKind,
        model: &str,
        spans: impl Iterator<Item = &'a i64>,
        (at, things): (i64, i64),
    ) {
        for span in spans.copied() {
            let start = if span == FOR_EVER {
                0
            } else {
                at - at.rem_euclid(span)
            };
            let slice = Slice {
                kind,
                model: model.to_owned(),
                span,
                start,
            };
            let sums = self.0.entry(slice).or_default();
            sums.0 += 1;
            sums.1 += things;
        }
    }

    pub(crate) async fn write(self, connection: &mut Connection) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(self.0.len());
        for (slice, (jobs, things)) in &self.0 {
            rows.push(SliceRow {
                kind: slice.kind.name(),
                model: &slice.model,
                span: slice.span,
                start: slice.start,
                jobs: *jobs,
                things: *things,
            });
        }
        let sql = match connection.dialect() {
            Dialect::Sqlite => ADD_SQLITE,
            Dialect::Postgres => ADD_POSTGRES,
        };
        connection.execute(sql, args![json::object(&rows)?]).await?;
        Ok(())
    }
}

const ADD_SQLITE: &str = "
    INSERT INTO statistics (kind, model, span, start, jobs, things)
    SELECT value ->> 'kind', value ->> 'model', value ->> 'span', value ->> 'start',
        value ->> 'jobs', value ->> 'things'
    FROM json_each($1)
    WHERE TRUE
    ON CONFLICT (kind, model, span, start) DO UPDATE
    SET jobs = statistics.jobs + excluded.jobs, things = statistics.things + excluded.things";

const ADD_POSTGRES: &str = "
    INSERT INTO statistics (kind, model, span, start, jobs, things)
    SELECT kind, model, span, start, jobs, things
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        kind TEXT, model TEXT, span BIGINT, start BIGINT, jobs BIGINT, things BIGINT)
    ON CONFLICT (kind, model, span, start) DO UPDATE
    SET jobs = statistics.jobs + excluded.jobs, things = statistics.things + excluded.things";

/// How long the window is that a slice is part of, in milliseconds.
macro_rules! window {
    () => {
        "CASE WHEN model <> '' AND span = 3600000 THEN 86400000
              WHEN model = '' AND span = 86400000 THEN 63072000000
              WHEN span = 10000 THEN 60000
              WHEN span = 60000 THEN 3600000
              WHEN span = 600000 THEN 86400000
              ELSE 2592000000 END"
    };
}

const SUMS: &str = concat!(
    "
    SELECT kind, model, span, CAST(SUM(jobs) AS BIGINT), CAST(SUM(things) AS BIGINT)
    FROM statistics
    WHERE span = 0 OR NOT (model = '' AND span = 86400000) AND start > $1 - ",
    window!(),
    "
    GROUP BY kind, model, span"
);

const PRUNE: &str = concat!(
    "
    DELETE FROM statistics
    WHERE span > 0 AND start <= $1 - ",
    window!()
);

const PRUNE_ARCHIVE: &str = "
    DELETE FROM archive
    WHERE job IN (SELECT job
                  FROM archive
                  WHERE finished_at <= $1
                  ORDER BY finished_at
                  LIMIT $2)";

impl Store {
    /// Everything that is counted, as far as folded, for the windows that end now.
    pub async fn statistics(&self, now: Timestamp) -> Result<Statistics> {
        let rows: Vec<(String, String, i64, i64, i64)> = self.pool.all(SUMS, args![now.0]).await?;
        let mut statistics = Statistics::default();
        for (kind, model, span, jobs, things) in rows {
            let kind = kind.parse();
            let kind = kind.map_err(|_| Error::corrupt("statistics.kind", "unknown"))?;
            let count = Count {
                jobs: u64::try_from(jobs).unwrap_or(0),
                things: u64::try_from(things).unwrap_or(0),
            };
            if model == ALL_MODELS {
                statistics.totals.entry(kind).or_default().set(span, count);
            } else {
                let models = statistics.models.entry(kind).or_default();
                models.set(span, model, count.jobs);
            }
        }
        Ok(statistics)
    }

    /// Deletes slices that no window shows any more, and rows of jobs that ended a week ago.
    pub async fn prune_statistics(&self, now: Timestamp) -> Result<u64> {
        let slices = self.pool.execute(PRUNE, args![now.0]).await?;
        let loads = args![Step::Hour.oldest(now).0, Step::Day.oldest(now).0];
        let slices = slices + self.pool.execute(PRUNE_LOADS, loads).await?;
        let oldest = (now - ARCHIVE_LIFETIME).0;
        let values = args![oldest, PRUNE_BITE];
        Ok(slices + self.pool.execute(PRUNE_ARCHIVE, values).await?)
    }
}

impl Windows {
    fn set(&mut self, span: i64, count: Count) {
        let [minute, hour, day, month] = SPANS_OF_ALL;
        match span {
            FOR_EVER => self.total = count,
            _ if span == minute => self.minute = count,
            _ if span == hour => self.hour = count,
            _ if span == day => self.day = count,
            _ if span == month => self.month = count,
            _ => {}
        }
    }
}

impl ModelCounts {
    fn set(&mut self, span: i64, model: String, jobs: u64) {
        let [day, month] = SPANS_OF_MODEL;
        let counts = match span {
            FOR_EVER => &mut self.total,
            _ if span == day => &mut self.day,
            _ if span == month => &mut self.month,
            _ => return,
        };
        counts.insert(model, jobs);
    }
}

/// A job that ended: what it was, never what it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: WorkKind,
    /// Its model.
    pub model: String,
    /// `ok`, `censored` or `faulted`.
    pub state: &'static str,
    /// When it was given away.
    pub assigned_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Size, steps, switches and agents, as JSON.
    pub detail: String,
}

/// The same as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct ArchivedRow<'a> {
    job: String,
    kind: &'a str,
    model: &'a str,
    state: &'a str,
    assigned_at: i64,
    finished_at: i64,
    detail: &'a str,
}

impl Archived {
    pub(crate) fn row(&self) -> ArchivedRow<'_> {
        ArchivedRow {
            job: json::hex(self.job.uuid()),
            kind: self.kind.name(),
            model: &self.model,
            state: self.state,
            assigned_at: self.assigned_at.0,
            finished_at: self.finished_at.0,
            detail: &self.detail,
        }
    }
}

pub(crate) const WRITE_ARCHIVE_SQLITE: &str = "
    INSERT INTO archive (job, kind, model, state, assigned_at, finished_at, detail)
    SELECT unhex(value ->> 'job'), value ->> 'kind', value ->> 'model', value ->> 'state',
        value ->> 'assigned_at', value ->> 'finished_at', value ->> 'detail'
    FROM json_each($1)
    WHERE TRUE
    ON CONFLICT (job) DO NOTHING";

pub(crate) const WRITE_ARCHIVE_POSTGRES: &str = "
    INSERT INTO archive (job, kind, model, state, assigned_at, finished_at, detail)
    SELECT job, kind, model, state, assigned_at, finished_at, detail
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        job UUID, kind TEXT, model TEXT, state TEXT, assigned_at BIGINT, finished_at BIGINT,
        detail TEXT)
    ON CONFLICT (job) DO NOTHING";

impl Store {
    /// Notes that a job ended; written within a second or so, lost in a crash.
    pub fn archive_later(&self, archived: Archived) {
        self.behind.archive(archived);
    }

    /// How many jobs of a kind ended in the past week, by state.
    pub async fn archived(&self, kind: WorkKind) -> Result<BTreeMap<String, u64>> {
        let rows: Vec<(String, i64)> = self.pool.all(ARCHIVED, args![kind.name()]).await?;
        let count = |(state, jobs)| (state, u64::try_from(jobs).unwrap_or(0));
        Ok(rows.into_iter().map(count).collect())
    }
}

const ARCHIVED: &str = "
    SELECT state, COUNT(*)
    FROM archive
    WHERE kind = $1
    GROUP BY state";
