//! Writing behind: what nobody needs after a crash waits in memory, newest per key, and is written
//! in batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ordu_api::{CollectionId, StyleId, TeamId, UserId, WorkerId};
use ordu_core::Timestamp;
use serde::Serialize;

use crate::counters::Tally;
use crate::error::Result;
use crate::json;
use crate::pool::{Dialect, Pool, args};
use crate::statistics::{Archived, WRITE_ARCHIVE_POSTGRES, WRITE_ARCHIVE_SQLITE};
use crate::style::{self, UseRow};
use crate::team::{self, UptimeRow};
use crate::user::{WRITE_ACTIVE_POSTGRES, WRITE_ACTIVE_SQLITE};
use crate::worker::{CheckIn, WRITE_CHECK_INS_POSTGRES, WRITE_CHECK_INS_SQLITE};

/// Rows that one statement writes at most.
const BITE: usize = 500;

/// Jobs that ended and wait to be written at most; more are not kept while the database is away.
const MAX_ARCHIVED: usize = 10_000;

/// What waits to be written. Bounded by the number of workers, users, styles,
/// collections and teams.
#[derive(Debug, Default)]
struct Waiting {
    check_ins: BTreeMap<WorkerId, CheckIn>,
    active: BTreeMap<UserId, Timestamp>,
    style_uses: BTreeMap<StyleId, i64>,
    collection_uses: BTreeMap<CollectionId, i64>,
    /// Seconds.
    team_uptime: BTreeMap<TeamId, i64>,
    /// At most [`MAX_ARCHIVED`].
    archived: Vec<Archived>,
}

#[derive(Debug)]
pub(crate) struct Behind {
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Serialize)]
struct ActiveRow {
    id: i64,
    at: i64,
}

impl Behind {
    pub(crate) fn new(pool: Arc<Pool>, tally: Arc<Tally>) -> Self {
        Self {
            pool,
            tally,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn check_in(&self, check_in: CheckIn) {
        self.with(|waiting| {
            waiting.check_ins.insert(check_in.worker, check_in);
        });
    }

    pub(crate) fn active(&self, user: UserId, at: Timestamp) {
        self.with(|waiting| {
            let newest = waiting.active.entry(user).or_insert(at);
            *newest = at.max(*newest);
        });
    }

    pub(crate) fn archive(&self, archived: Archived) {
        self.with(|waiting| {
            if waiting.archived.len() < MAX_ARCHIVED {
                waiting.archived.push(archived);
            }
        });
    }

    pub(crate) fn style_used(&self, style: StyleId, collection: Option<CollectionId>) {
        self.with(|waiting| {
            *waiting.style_uses.entry(style).or_default() += 1;
            if let Some(collection) = collection {
                *waiting.collection_uses.entry(collection).or_default() += 1;
            }
        });
    }

    pub(crate) fn team_online(&self, team: TeamId, seconds: i64) {
        self.with(|waiting| *waiting.team_uptime.entry(team).or_default() += seconds);
    }

    /// Forgets a worker that is being deleted.
    pub(crate) fn forget(&self, worker: WorkerId) {
        self.with(|waiting| {
            waiting.check_ins.remove(&worker);
        });
    }

    /// Writes what waits; what cannot be written waits on, unless something newer came.
    pub(crate) async fn flush(&self) -> Result<()> {
        let mut taken = self.with(std::mem::take);
        let done = self.write(&mut taken).await;
        if done.is_err() {
            self.with(|waiting| {
                for (worker, check_in) in taken.check_ins {
                    waiting.check_ins.entry(worker).or_insert(check_in);
                }
                for (user, at) in taken.active {
                    waiting.active.entry(user).or_insert(at);
                }
                for (style, uses) in taken.style_uses {
                    *waiting.style_uses.entry(style).or_default() += uses;
                }
                for (collection, uses) in taken.collection_uses {
                    *waiting.collection_uses.entry(collection).or_default() += uses;
                }
                for (team, seconds) in taken.team_uptime {
                    *waiting.team_uptime.entry(team).or_default() += seconds;
                }
                waiting.archived.splice(0..0, taken.archived);
                waiting.archived.truncate(MAX_ARCHIVED);
            });
        }
        done
    }

    async fn write(&self, taken: &mut Waiting) -> Result<()> {
        let (check_ins_sql, active_sql, archive_sql) = match self.pool.dialect() {
            Dialect::Sqlite => (
                WRITE_CHECK_INS_SQLITE,
                WRITE_ACTIVE_SQLITE,
                WRITE_ARCHIVE_SQLITE,
            ),
            Dialect::Postgres => (
                WRITE_CHECK_INS_POSTGRES,
                WRITE_ACTIVE_POSTGRES,
                WRITE_ARCHIVE_POSTGRES,
            ),
        };
        let check_ins: Vec<_> = taken.check_ins.values().map(CheckIn::row).collect();
        self.write_rows(check_ins_sql, &check_ins).await?;
        let active = taken.active.iter().map(|(user, at)| ActiveRow {
            id: user.get(),
            at: at.0,
        });
        let active: Vec<_> = active.collect();
        self.write_rows(active_sql, &active).await?;
        let archived: Vec<_> = taken.archived.iter().map(Archived::row).collect();
        self.write_rows(archive_sql, &archived).await?;
        self.write_uses(taken).await
    }

    /// Counts are added, not replaced: what is written must not be written again.
    async fn write_uses(&self, taken: &mut Waiting) -> Result<()> {
        let row = |id: uuid::Uuid, uses: i64| UseRow {
            id: json::hex(id),
            uses,
        };
        let styles = taken.style_uses.iter();
        let styles: Vec<_> = styles.map(|(id, uses)| row(id.uuid(), *uses)).collect();
        let sql = style::count_style_uses(self.pool.dialect());
        self.write_rows(sql, &styles).await?;
        taken.style_uses.clear();
        let collections = taken.collection_uses.iter();
        let collections: Vec<_> = collections
            .map(|(id, uses)| row(id.uuid(), *uses))
            .collect();
        let sql = style::count_collection_uses(self.pool.dialect());
        self.write_rows(sql, &collections).await?;
        taken.collection_uses.clear();
        let teams = taken.team_uptime.iter();
        let teams: Vec<_> = teams
            .map(|(id, seconds)| UptimeRow {
                id: json::hex(id.uuid()),
                seconds: *seconds,
            })
            .collect();
        let sql = team::add_uptime(self.pool.dialect());
        self.write_rows(sql, &teams).await?;
        taken.team_uptime.clear();
        Ok(())
    }

    async fn write_rows(&self, sql: &'static str, rows: &[impl Serialize]) -> Result<()> {
        for bite in rows.chunks(BITE) {
            self.pool.execute(sql, args![json::object(&bite)?]).await?;
            self.tally.wrote_behind(bite.len());
        }
        Ok(())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = self
            .waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut waiting)
    }
}
