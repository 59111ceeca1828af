//! The old database: opened for reading only, as of one moment.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection as _, FromRow};
use uuid::Uuid;

use super::{BATCH, ImportError, Result, Tally};
use crate::error::Error;

/// Tables that an import cannot do without.
const NEEDED: &[&str] = &[
    "users",
    "user_roles",
    "user_records",
    "user_stats",
    "user_suspicions",
    "user_sharedkeys",
    "workers",
    "worker_stats",
    "worker_models",
    "worker_suspicions",
    "worker_blacklists",
    "worker_messages",
    "interrogation_worker_forms",
    "text_worker_softprompts",
    "styles",
    "style_tags",
    "style_models",
    "style_collections",
    "style_collection_mapping",
    "teams",
    "filters",
    "user_problem_jobs",
];

/// What stays behind on purpose, with the reason.
const LEFT_BEHIND: &[(&str, &str)] = &[
    (
        "waiting_prompts",
        "requests under way end with the old horde",
    ),
    (
        "interrogations",
        "requests under way end with the old horde",
    ),
    (
        "kudos_stat_events",
        "not counted by the old horde yet: let it run until this is empty",
    ),
];

/// How many rows of it, where only some matter.
const COUNTED: &[(&str, &str)] = &[
    ("waiting_prompts", "SELECT COUNT(*) FROM waiting_prompts"),
    ("interrogations", "SELECT COUNT(*) FROM interrogations"),
    (
        "kudos_stat_events",
        "SELECT COUNT(*) FROM kudos_stat_events WHERE NOT applied",
    ),
];

const TABLES: &str = "
    SELECT CAST(table_name AS TEXT)
    FROM information_schema.tables
    WHERE table_schema = ANY (current_schemas(FALSE))";

const READ_ONLY: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const ANONYMOUS: &str = "
    SELECT api_key
    FROM users
    WHERE id = 0";

/// A connection to the old database.
pub(super) struct Source {
    connection: PgConnection,
    tables: BTreeSet<String>,
}

/// A row of the old database.
pub(super) trait OldRow: for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> OldRow for T where T: for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl Source {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let is_postgres = url.starts_with("postgres:") || url.starts_with("postgresql:");
        let options = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres);
        let Some(options) = options else {
            let message = "its address must start with postgres:";
            return Err(ImportError::Layout(message.to_owned()));
        };
        let mut connection = PgConnection::connect_with(&options).await.map_err(read)?;
        sqlx::raw_sql(READ_ONLY)
            .execute(&mut connection)
            .await
            .map_err(read)?;
        let mut source = Self {
            connection,
            tables: BTreeSet::new(),
        };
        let tables: Vec<(String,)> = source.all(TABLES).await?;
        source.tables = tables.into_iter().map(|(name,)| name).collect();
        match NEEDED.iter().find(|name| !source.has(name)) {
            Some(missing) => Err(ImportError::Layout(format!("it has no table `{missing}`"))),
            None => Ok(source),
        }
    }

    /// Whether there is such a table; older releases lack some.
    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    pub(super) async fn close(self) {
        // Nothing was written: how the connection ends does not matter.
        let _ = self.connection.close().await;
    }

    pub(super) async fn all<T: OldRow>(&mut self, sql: &'static str) -> Result<Vec<T>> {
        let query = sqlx::query_as(sql);
        query.fetch_all(&mut self.connection).await.map_err(read)
    }

    /// The rows that belong to a batch of accounts, named by its first and last number.
    pub(super) async fn of_numbers<T: OldRow>(
        &mut self,
        sql: &'static str,
        (first, last): (i32, i32),
    ) -> Result<Vec<T>> {
        let query = sqlx::query_as(sql).bind(first).bind(last);
        query.fetch_all(&mut self.connection).await.map_err(read)
    }

    /// The rows that belong to a batch of things with ids.
    pub(super) async fn of_ids<T: OldRow>(
        &mut self,
        sql: &'static str,
        ids: &[Uuid],
    ) -> Result<Vec<T>> {
        let query = sqlx::query_as(sql).bind(ids);
        query.fetch_all(&mut self.connection).await.map_err(read)
    }

    /// The next batch of rows with a number greater than `after`, in order.
    pub(super) async fn numbered<T: OldRow>(
        &mut self,
        sql: &'static str,
        after: Option<i32>,
    ) -> Result<Vec<T>> {
        let query = sqlx::query_as(sql).bind(after).bind(BATCH);
        query.fetch_all(&mut self.connection).await.map_err(read)
    }

    /// The next batch of rows with an id greater than `after`, in order.
    pub(super) async fn identified<T: OldRow>(
        &mut self,
        sql: &'static str,
        after: Option<Uuid>,
    ) -> Result<Vec<T>> {
        let query = sqlx::query_as(sql).bind(after).bind(BATCH);
        query.fetch_all(&mut self.connection).await.map_err(read)
    }

    /// The stored form of the anonymous account's key.
    pub(super) async fn anonymous_hash(&mut self) -> Result<Option<String>> {
        let rows: Vec<(String,)> = self.all(ANONYMOUS).await?;
        Ok(rows.into_iter().next().map(|(hash,)| hash))
    }

    /// What is not taken over at all.
    pub(super) async fn left_behind(&mut self) -> Result<Vec<Tally>> {
        let mut tallies = Vec::new();
        for ((table, reason), (_, count)) in LEFT_BEHIND.iter().zip(COUNTED) {
            if !self.has(table) {
                continue;
            }
            let counted: Vec<(i64,)> = self.all(count).await?;
            let rows = counted.first().map_or(0, |(rows,)| rows.unsigned_abs());
            let mut tally = Tally::new(table);
            tally.found = rows;
            if rows > 0 {
                tally.skip(format!("all {rows}"), *reason);
            }
            tallies.push(tally);
        }
        Ok(tallies)
    }
}

fn read(error: sqlx::Error) -> ImportError {
    ImportError::Source(Error::from(error))
}
