//! An existing AI Horde's database, taken over: accounts with their keys and kudos, workers, teams,
//! styles, collections, shared keys, filters, messages, reports of illegal jobs.
//!
//! The old database is only read, as of one moment, in batches. What was taken over before is left
//! alone, so the import may be repeated. Every row that cannot be taken is named with the reason.
//!
//! # Source
//! The catalogue of a running AI Horde 5.1.5; `community.md` § 2, § 3, § 4, § 5, § 8, § 9.4 for
//! what the columns mean.

pub(crate) mod accounts;
mod filters;
mod opening;
mod shared_keys;
mod source;
pub(crate) mod styles;
mod talk;
mod teams;
mod workers;

use std::collections::HashSet;

use ordu_core::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::Store;
use crate::error::Error;
use crate::pool::{Connection, InsertInto, Value};

use source::Source;

/// Rows that are read and written together.
const BATCH: i64 = 500;

/// What is to be taken over, and how.
#[derive(Debug, Clone)]
pub struct Import {
    /// Where the old database lies: `postgres://…`.
    pub source: String,
    /// The stored form of the anonymous key under the secret that the new horde uses: if the old
    /// horde has another one, no key would work.
    pub anonymous_hash: String,
    /// Whether to write anything.
    pub mode: Mode,
    /// When.
    pub now: Timestamp,
}

/// Whether an import writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Write,
    /// It only counts what it would write.
    DryRun,
}

/// How the rows of one table fared. Every row that was found is counted once more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The table in the old database.
    pub table: &'static str,
    /// Rows there.
    pub found: u64,
    /// Taken over now.
    pub imported: u64,
    /// Taken over before, or here anyway.
    pub already: u64,
    /// Those that were not, and why.
    pub skipped: Vec<Remark>,
    /// Those that were, but not with everything.
    pub changed: Vec<Remark>,
}

/// One row and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Which row.
    pub row: String,
    /// What about it.
    pub reason: String,
}

/// Why nothing more was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The old database cannot be read.
    #[error("the old database cannot be read")]
    Source(#[source] Error),
    /// It is not what it should be.
    #[error("the old database is not one of an AI Horde 5.x: {0}")]
    Layout(String),
    /// Its keys are salted otherwise.
    #[error(
        "the old horde's keys are salted with another secret, so none would work here: give its \
         `secret_key` as `--secret-key`"
    )]
    Salt,
    /// This horde's database cannot be written.
    #[error("this horde's database cannot be written")]
    Target(#[from] Error),
}

type Result<T> = std::result::Result<T, ImportError>;

impl Tally {
    fn new(table: &'static str) -> Self {
        Self {
            table,
            ..Self::default()
        }
    }

    fn skip(&mut self, row: impl ToString, reason: impl Into<String>) {
        self.skipped.push(remark(row, reason));
    }

    fn note(&mut self, row: impl ToString, reason: impl Into<String>) {
        self.changed.push(remark(row, reason));
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "names and numbers alike, written as they are"
)]
fn remark(row: impl ToString, reason: impl Into<String>) -> Remark {
    Remark {
        row: row.to_string(),
        reason: reason.into(),
    }
}

/// Everything that one import works with.
struct Desk<'a> {
    source: Source,
    store: &'a Store,
    mode: Mode,
    now: Timestamp,
    /// Accounts of the old horde that are here, by now or by the end of a dry run.
    users: HashSet<i64>,
    /// The same for what others refer to.
    teams: HashSet<Uuid>,
    workers: HashSet<Uuid>,
    shared_keys: HashSet<Uuid>,
    styles: HashSet<Uuid>,
}

impl Store {
    /// Takes over what an AI Horde's database holds, and says how each table fared.
    ///
    /// # Errors
    /// [`ImportError`]; what was taken over until then stays, and an import may be repeated.
    pub async fn import(&self, import: &Import) -> Result<Vec<Tally>> {
        let source = Source::open(&import.source).await?;
        let mut desk = Desk {
            source,
            store: self,
            mode: import.mode,
            now: import.now,
            users: HashSet::new(),
            teams: HashSet::new(),
            workers: HashSet::new(),
            shared_keys: HashSet::new(),
            styles: HashSet::new(),
        };
        if desk.source.anonymous_hash().await? != Some(import.anonymous_hash.clone()) {
            return Err(ImportError::Salt);
        }
        let mut tallies = vec![accounts::import(&mut desk).await?];
        tallies.push(shared_keys::import(&mut desk).await?);
        tallies.push(teams::import(&mut desk).await?);
        tallies.push(workers::import(&mut desk).await?);
        tallies.extend(styles::import(&mut desk).await?);
        tallies.push(filters::import(&mut desk).await?);
        tallies.extend(talk::import(&mut desk).await?);
        tallies.extend(desk.source.left_behind().await?);
        desk.source.close().await;
        Ok(tallies)
    }
}

/// Rows for one of our tables.
struct Rows {
    into: InsertInto<'static>,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    const fn new(into: InsertInto<'static>) -> Self {
        Self {
            into,
            rows: Vec::new(),
        }
    }
}

impl Desk<'_> {
    /// Writes rows of several tables in one commit, unless this is a dry run.
    async fn write(&self, tables: Vec<Rows>) -> Result<()> {
        if self.mode == Mode::DryRun || tables.iter().all(|table| table.rows.is_empty()) {
            return Ok(());
        }
        let mut connection = self.store.pool.begin().await?;
        let written = insert(&mut connection, tables).await;
        Ok(connection.end(written).await?)
    }

    /// Moves a counter of ours behind the largest number taken over.
    async fn count_from(&self, sequence: &str, largest: i64) -> Result<()> {
        if self.mode == Mode::Write {
            let values = crate::pool::args![sequence, largest.saturating_add(1)];
            self.store.pool.execute(COUNT_FROM, values).await?;
        }
        Ok(())
    }

    /// Which of these ids one of our tables has.
    async fn known(&self, table: Known, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        let mut known = HashSet::new();
        if ids.is_empty() {
            return Ok(known);
        }
        let places = crate::pool::places(1, ids.len());
        let sql = format!("SELECT id FROM {} WHERE id IN ({places})", table.name());
        let values = ids.iter().copied().map(Value::from).collect();
        let rows: Vec<(Uuid,)> = self.reader().await?.all_made(sql, values).await?;
        known.extend(rows.into_iter().map(|(id,)| id));
        Ok(known)
    }

    async fn reader(&self) -> Result<Connection> {
        Ok(self.store.pool.reader().await?)
    }
}

/// Tables of ours that have ids as their key.
#[derive(Debug, Clone, Copy)]
enum Known {
    Teams,
    Workers,
    SharedKeys,
    Styles,
    Collections,
    Messages,
}

impl Known {
    const fn name(self) -> &'static str {
        match self {
            Self::Teams => "teams",
            Self::Workers => "workers",
            Self::SharedKeys => "shared_keys",
            Self::Styles => "styles",
            Self::Collections => "collections",
            Self::Messages => "worker_messages",
        }
    }
}

const COUNT_FROM: &str = "
    UPDATE sequences
    SET next = $2
    WHERE name = $1 AND next < $2";

async fn insert(connection: &mut Connection, tables: Vec<Rows>) -> crate::Result<()> {
    for table in tables {
        connection.insert_rows(table.into, table.rows).await?;
    }
    Ok(())
}

/// Whole kudos as millikudos.
const fn milli(kudos: i64) -> Option<i64> {
    kudos.checked_mul(1000)
}
