//! SQLite only: several statements in one call, and commits that do not wait for the disk.
//!
//! Each call wakes the connection's thread and is waited for: for short statements that costs more than
//! they do.

use std::sync::Arc;

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Either, Executor as _};

use super::disk::Disk;
use super::{Connection, Databases, Link, Pool, Value};
use crate::error::{Error, Result};

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Rows that it changed, if it changes any.
    pub(crate) changed: u64,
    /// Rows that it answered.
    pub(crate) rows: u64,
}

/// Statements that run one after the other, their values numbered through.
#[derive(Debug, Default)]
pub(crate) struct Script {
    sql: String,
    values: Vec<Value>,
    statements: usize,
}

impl Script {
    /// Adds a statement that takes `value` as its `$1`, the only one; says which one it is.
    pub(crate) fn push(&mut self, sql: &str, value: String) -> usize {
        self.values.push(value.into());
        let place = format!("${}", self.values.len());
        self.push_plain(&sql.replace("$1", &place))
    }

    /// Adds a statement without values; says which one it is.
    pub(crate) fn push_plain(&mut self, sql: &str) -> usize {
        self.sql.push_str(sql);
        self.sql.push_str(";\n");
        self.statements += 1;
        self.statements - 1
    }
}

impl Pool {
    /// A connection for transactions of scripts. Give it back with [`Connection::let_go`].
    pub(crate) async fn calm_writer(&self) -> Result<Connection> {
        let mut connection = self.writer().await?;
        connection.keep_apart();
        Ok(connection)
    }

    /// The same, but commits are on the disk only after [`Self::sync`], as far as there is a disk. Give
    /// it back with [`Connection::give_back`].
    pub(crate) async fn hasty_writer(&self) -> Result<Connection> {
        let mut connection = self.calm_writer().await?;
        if self.disk().is_some() {
            connection.plain("PRAGMA synchronous = NORMAL").await?;
        }
        Ok(connection)
    }

    /// What was committed before is on the disk when this returns.
    pub(crate) async fn sync(&self) -> Result<()> {
        match self.disk() {
            Some(disk) => disk.sync().await,
            None => Ok(()),
        }
    }

    /// Fails once the disk has lost something: from then on nothing is written.
    pub(crate) fn check_disk(&self) -> Result<()> {
        self.disk().map_or(Ok(()), |disk| disk.check())
    }

    fn disk(&self) -> Option<&Arc<Disk>> {
        match &self.databases {
            Databases::Sqlite { disk, .. } => disk.as_ref(),
            Databases::Postgres { .. } => None,
        }
    }
}

impl Connection {
    /// Runs a script; says how many rows each of its statements changed and answered.
    pub(crate) async fn run(&mut self, script: Script) -> Result<Vec<Outcome>> {
        self.trips.count();
        let Link::Sqlite(pooled) = &mut self.link else {
            let message = "only SQLite takes several statements at once";
            return Err(Error::Invalid(message.to_owned()));
        };
        let query = bind_all!(sqlx::query(AssertSqlSafe(script.sql)), script.values);
        let mut steps = pooled.fetch_many(query);
        let mut outcomes = Vec::with_capacity(script.statements);
        let mut rows = 0;
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Right(_) => rows += 1,
                Either::Left(done) => outcomes.push(Outcome {
                    changed: done.rows_affected(),
                    rows: std::mem::take(&mut rows),
                }),
            }
        }
        Ok(outcomes)
    }

    /// Ends haste: the next one's commits wait for the disk again.
    pub(crate) async fn give_back(mut self) -> Result<()> {
        self.plain("PRAGMA synchronous = FULL").await?;
        self.let_go();
        Ok(())
    }

    /// Lets others have this connection, which is in no transaction.
    pub(crate) fn let_go(mut self) {
        self.in_transaction = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Options;

    /// What `PRAGMA synchronous` says: 1 if commits do not wait for the disk, 2 if they do.
    async fn waits(connection: &mut Connection) -> i64 {
        let answer: Option<(i64,)> = connection.one("PRAGMA synchronous", args![]).await.unwrap();
        answer.unwrap().0
    }

    #[tokio::test]
    async fn only_who_asks_for_haste_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("horde.db").display());
        let url = url.parse().unwrap();
        let options = Options::default();
        let pool = Pool::open(&url, &options, Arc::default()).await.unwrap();
        let mut hasty = pool.hasty_writer().await.unwrap();
        assert_eq!(waits(&mut hasty).await, 1);
        hasty.give_back().await.unwrap();
        assert_eq!(waits(&mut pool.writer().await.unwrap()).await, 2);
        // Who does not give it back leaves nothing behind.
        drop(pool.hasty_writer().await.unwrap());
        assert_eq!(waits(&mut pool.writer().await.unwrap()).await, 2);
        // Another one is open all the time: the last to close would have emptied the log.
        let log = folder.path().join("horde.db-wal").metadata().unwrap();
        assert!(log.len() > 0, "the log is the same file");
        pool.sync().await.unwrap();
    }

    #[tokio::test]
    async fn a_script_says_what_each_statement_did() {
        let url = "sqlite::memory:".parse().unwrap();
        let options = Options::default();
        let pool = Pool::open(&url, &options, Arc::default()).await.unwrap();
        let mut connection = pool.writer().await.unwrap();
        let mut script = Script::default();
        script.push_plain("CREATE TEMP TABLE t (a INTEGER PRIMARY KEY)");
        let all = script.push(
            "INSERT INTO t SELECT value FROM json_each($1)",
            "[1, 2]".to_owned(),
        );
        let some = script.push(
            "INSERT INTO t SELECT value FROM json_each($1) WHERE TRUE ON CONFLICT DO NOTHING",
            "[2, 3]".to_owned(),
        );
        let read = script.push("SELECT a FROM t WHERE a > $1", "0".to_owned());
        let done = connection.run(script).await.unwrap();
        assert_eq!(
            (done[all].changed, done[some].changed, done[read].rows),
            (2, 1, 3)
        );
    }
}
