//! The two databases behind one face: addresses, connections, transactions, statements.
//!
//! The only place that knows which database runs, besides the statements that differ.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgListener, PgPool, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{FromRow, Postgres, Sqlite};
use tokio::sync::Notify;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::audit;
use crate::counters::Trips;
use crate::error::{Error, Result};

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries where SQLite does not wait by itself.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// The result code of a database that another connection holds.
const SQLITE_BUSY: &str = "5";

/// How long an operation waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long PostgreSQL may take over a group of writes unless somebody says otherwise. After two thirds
/// of that it takes them back itself. Who has not even said that by then is gone, as after a failover
/// that nobody told of: the system finds out after a quarter of an hour, and what has to come after
/// those writes would wait for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connections for reading a database file.
const SQLITE_READERS: u32 = 3;

/// What the connection that writes keeps of the file in memory, in KiB below zero.
const WRITER_CACHE: &str = "-16384";

/// The same of each that reads: little, because what is asked for often lies in memory anyway, and
/// whoever once reads everything would leave all of it full.
const READER_CACHE: &str = "-2048";

/// With so many pages of 4 KiB in the log, a commit carries it over into the database, and is waited
/// for until the disk has both. What is written often is carried over once.
const LOG_PAGES: &str = "4000";

/// Where the data lies: `sqlite://path`, `sqlite::memory:` or `postgres://…`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: String,
    dialect: Dialect,
}

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// The address may hold a password: it is not shown.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({:?}, …)", self.dialect)
    }
}

impl FromStr for DatabaseUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let dialect = if url.starts_with("sqlite:") {
            Dialect::Sqlite
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Dialect::Postgres
        } else {
            // The text may hold a password: it is not repeated.
            let message = "a database address starts with sqlite: or postgres:";
            return Err(Error::Invalid(message.to_owned()));
        };
        Ok(Self {
            url: url.to_owned(),
            dialect,
        })
    }
}

impl DatabaseUrl {
    /// Whether this is PostgreSQL, which several nodes can share.
    pub fn is_shared(&self) -> bool {
        self.dialect == Dialect::Postgres
    }

    fn is_memory(&self) -> bool {
        self.url.contains(":memory:") || self.url.contains("mode=memory")
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The largest size of an SQLite file in pages of 4 KiB; `None` leaves it to the disk.
    pub max_pages: Option<u32>,
    /// How long PostgreSQL may take over a group of writes; `None` for 15 s.
    pub patience: Option<Duration>,
    /// Which of several nodes writes; `None` for one alone, or for what is no node.
    pub node: Option<Uuid>,
}

impl Options {
    fn patience(&self) -> Duration {
        self.patience.unwrap_or(PATIENCE)
    }
}

/// A value that is bound to a statement. Absent values keep their type: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Uuid(Option<Uuid>),
}

macro_rules! value_from {
    ($($variant:ident: $kind:ty),+) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::$variant(Some(value))
            }
        }

        impl From<Option<$kind>> for Value {
            fn from(value: Option<$kind>) -> Self {
                Self::$variant(value)
            }
        }
    )+};
}

value_from!(Int: i64, Real: f64, Bool: bool, Text: String, Uuid: Uuid);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

/// Values in the order of `$1`, `$2`, ….
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::pool::Value::from($value)),*]
    };
}
pub(crate) use args;

/// A row that can be read from both databases.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> AnyRow for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// Connections to one of the two.
#[derive(Debug)]
pub(crate) struct Pool {
    databases: Databases,
    trips: Arc<Trips>,
    /// Rung when something was written, if other nodes want to know.
    written: Option<Arc<Notify>>,
    /// Which of several nodes this is.
    node: Option<Uuid>,
    /// How long PostgreSQL may take over a group of writes.
    patience: Duration,
}

#[derive(Debug)]
enum Databases {
    Sqlite {
        writer: SqlitePool,
        reader: SqlitePool,
        /// Never used: it keeps a database in memory alive while its writer is being replaced, and the
        /// log of a file the same file.
        anchor: Option<SqlitePool>,
        /// Of a file that has a log.
        disk: Option<Arc<Disk>>,
    },
    Postgres {
        pool: PgPool,
        /// For statements that name their rows by key.
        keyed: PgPool,
        /// For those that write so, in groups.
        line: PgPool,
    },
}

#[derive(Debug)]
enum Link {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// One connection, in or outside a transaction.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
    in_transaction: bool,
    /// Whether a statement was begun whose answer has not come.
    is_midway: bool,
    /// Rows that statements changed so far.
    touched: u64,
    trips: Arc<Trips>,
    written: Option<Arc<Notify>>,
}

/// Expands a body for whichever database it is.
macro_rules! on_pool {
    ($link:expr, $connection:ident => $body:expr) => {
        match $link {
            Link::Sqlite(pooled) => {
                let $connection = &mut **pooled;
                $body
            }
            Link::Postgres(pooled) => {
                let $connection = &mut **pooled;
                $body
            }
        }
    };
}

/// Binds values to a query of either database.
macro_rules! bind_all {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Real(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Uuid(value) => query.bind(value),
            };
        }
        query
    }};
}

mod disk;
mod made;
mod postgres;
mod together;

use disk::Disk;
pub(crate) use disk::SYNCS;
pub(crate) use made::{InsertInto, Kind, places, quoted};
pub(crate) use postgres::QUIET;
use postgres::open_postgres;
pub(crate) use together::{Outcome, Script};

impl Pool {
    /// Opens the database and brings its schema up to date.
    pub(crate) async fn open(
        url: &DatabaseUrl,
        options: &Options,
        trips: Arc<Trips>,
    ) -> Result<Self> {
        let mut databases = connect(url, options).await?;
        migrate(&databases, None).await?;
        if !url.is_memory() {
            databases.find_disk();
        }
        Ok(Self {
            databases,
            trips,
            written: options.node.map(|_| Arc::default()),
            node: options.node,
            patience: options.patience(),
        })
    }

    /// Opens a database whose schema must not be newer than the migration `version`, and brings it
    /// there.
    pub(crate) async fn open_at(
        url: &DatabaseUrl,
        options: &Options,
        version: i64,
    ) -> Result<Self> {
        let databases = connect(url, options).await?;
        migrate(&databases, Some(version)).await?;
        let pool = Self {
            databases,
            trips: Arc::default(),
            written: None,
            node: None,
            patience: PATIENCE,
        };
        let applied: Option<(i64,)> = pool.one(NEWEST_APPLIED, args![]).await?;
        let found = applied.map_or(0, |(version,)| version);
        if found == version {
            return Ok(pool);
        }
        pool.close().await;
        Err(Error::Invalid(format!(
            "the database has schema {found} already, the backup has {version}: restore into a new \
             database"
        )))
    }

    /// Opens a database that is there and changes nothing about it.
    pub(crate) async fn visit(url: &DatabaseUrl) -> Result<Self> {
        let databases = match url.dialect {
            Dialect::Sqlite => visit_sqlite(url).await?,
            Dialect::Postgres => open_postgres(url, &Options::default()).await?,
        };
        Ok(Self {
            databases,
            trips: Arc::default(),
            written: None,
            node: None,
            patience: PATIENCE,
        })
    }

    /// The newest migration that the database has; 0 if it has none.
    pub(crate) async fn schema(&self) -> Result<i64> {
        let applied: Result<Option<(i64,)>> = self.one(NEWEST_APPLIED, args![]).await;
        match applied {
            Ok(applied) => Ok(applied.map_or(0, |(version,)| version)),
            // There is no such table.
            Err(Error::Unexpected(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// An empty database in memory with the schema as of the migration `version`.
    pub(crate) async fn open_reference(version: i64) -> Result<Self> {
        let url = DatabaseUrl {
            url: "sqlite::memory:".to_owned(),
            dialect: Dialect::Sqlite,
        };
        Self::open_at(&url, &Options::default(), version).await
    }

    /// Rung when something was written, if other nodes want to know.
    pub(crate) fn written(&self) -> Option<Arc<Notify>> {
        self.written.clone()
    }

    /// Which of several nodes this is.
    pub(crate) const fn node(&self) -> Option<Uuid> {
        self.node
    }

    /// How long PostgreSQL may take over a group of writes.
    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Something was written.
    pub(crate) fn note_written(&self) {
        if let Some(written) = &self.written {
            written.notify_one();
        }
    }

    /// A connection of its own that hears notices.
    pub(crate) async fn listener(&self) -> Result<PgListener> {
        match &self.databases {
            Databases::Postgres { pool, .. } => Ok(PgListener::connect_with(pool).await?),
            Databases::Sqlite { .. } => Err(Error::Invalid(
                "only a PostgreSQL database gives notice".to_owned(),
            )),
        }
    }

    /// Brings the schema up to date.
    pub(crate) async fn migrate(&self) -> Result<()> {
        migrate(&self.databases, None).await
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self.databases {
            Databases::Sqlite { .. } => Dialect::Sqlite,
            Databases::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Waits for every connection to come back and closes it.
    pub(crate) async fn close(&self) {
        match &self.databases {
            Databases::Sqlite {
                writer,
                reader,
                anchor,
                ..
            } => {
                reader.close().await;
                writer.close().await;
                if let Some(anchor) = anchor {
                    anchor.close().await;
                }
            }
            Databases::Postgres { pool, keyed, line } => {
                line.close().await;
                keyed.close().await;
                pool.close().await;
            }
        }
    }

    /// A connection for statements that do not write.
    pub(crate) async fn reader(&self) -> Result<Connection> {
        let link = match &self.databases {
            Databases::Sqlite { reader, .. } => Link::Sqlite(reader.acquire().await?),
            Databases::Postgres { pool, .. } => Link::Postgres(pool.acquire().await?),
        };
        Ok(self.connection(link))
    }

    /// A connection for statements that name every row by its key; on SQLite they do not write.
    pub(crate) async fn keyed(&self) -> Result<Connection> {
        match &self.databases {
            Databases::Sqlite { .. } => self.reader().await,
            Databases::Postgres { keyed, .. } => {
                Ok(self.connection(Link::Postgres(keyed.acquire().await?)))
            }
        }
    }

    /// A connection for groups of writes on PostgreSQL, which takes back what lasts too long.
    pub(crate) async fn line(&self) -> Result<Connection> {
        match &self.databases {
            Databases::Sqlite { .. } => self.writer().await,
            Databases::Postgres { line, .. } => {
                Ok(self.connection(Link::Postgres(line.acquire().await?)))
            }
        }
    }

    /// A connection for single statements that write.
    pub(crate) async fn writer(&self) -> Result<Connection> {
        self.check_disk()?;
        let link = match &self.databases {
            Databases::Sqlite { writer, .. } => Link::Sqlite(writer.acquire().await?),
            Databases::Postgres { pool, .. } => Link::Postgres(pool.acquire().await?),
        };
        Ok(self.connection(link))
    }

    /// A connection in a transaction that may write. Dropped without [`Connection::end`], it takes
    /// the transaction along.
    pub(crate) async fn begin(&self) -> Result<Connection> {
        let mut connection = self.writer().await?;
        connection.in_transaction = true;
        // The plain form fails on SQLite as soon as two transactions read before they write.
        connection
            .plain(match self.dialect() {
                Dialect::Sqlite => "BEGIN IMMEDIATE",
                Dialect::Postgres => "BEGIN",
            })
            .await?;
        Ok(connection)
    }

    /// A connection in a transaction that sees the database as it is now, whatever others write.
    /// End it with [`Connection::end`].
    pub(crate) async fn begin_snapshot(&self) -> Result<Connection> {
        let mut connection = self.reader().await?;
        connection.in_transaction = true;
        match self.dialect() {
            Dialect::Sqlite => {
                connection.plain("BEGIN").await?;
                // The moment is that of the first read.
                let _: Option<(i64,)> = connection.one(NEWEST_APPLIED, args![]).await?;
            }
            Dialect::Postgres => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                connection.plain(begin).await?;
                let _: Option<(i64,)> = connection.one(NEWEST_APPLIED, args![]).await?;
            }
        }
        Ok(connection)
    }

    fn connection(&self, link: Link) -> Connection {
        Connection {
            link,
            in_transaction: false,
            is_midway: false,
            touched: 0,
            trips: Arc::clone(&self.trips),
            written: self.written.clone(),
        }
    }

    /// All rows of a statement that does not write.
    pub(crate) async fn all<T: AnyRow>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<T>> {
        let statement = async { self.reader().await?.all(sql, values).await };
        statement.instrument(statement_span()).await
    }

    /// The first row of a statement that does not write.
    pub(crate) async fn one<T: AnyRow>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<T>> {
        let statement = async { self.reader().await?.one(sql, values).await };
        statement.instrument(statement_span()).await
    }

    /// Runs one statement that writes, durable when it returns; says how many rows it touched.
    pub(crate) async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        if audit::is_waiting() {
            let mut connection = self.begin().await?;
            let touched = connection.execute(sql, values).await;
            return connection.end(touched).await;
        }
        let touched = self.writer().await?.execute(sql, values).await?;
        self.note_written();
        Ok(touched)
    }
}

/// A statement of its own, from waiting for a connection to its rows.
fn statement_span() -> tracing::Span {
    tracing::info_span!(target: "ordu_traces", "statement", otel.kind = "client")
}

impl Connection {
    pub(crate) const fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
        }
    }

    /// All rows of a statement.
    pub(crate) async fn all<T: AnyRow>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<T>> {
        self.begin_statement();
        let rows = on_pool!(&mut self.link, connection => {
            bind_all!(sqlx::query_as(sql), values).fetch_all(connection).await
        });
        self.is_midway = false;
        Ok(rows?)
    }

    /// The first row of a statement.
    pub(crate) async fn one<T: AnyRow>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<T>> {
        self.begin_statement();
        let row = on_pool!(&mut self.link, connection => {
            bind_all!(sqlx::query_as(sql), values).fetch_optional(connection).await
        });
        self.is_midway = false;
        Ok(row?)
    }

    /// Runs a statement; says how many rows it touched.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        self.begin_statement();
        let touched = on_pool!(&mut self.link, connection => {
            let done = bind_all!(sqlx::query(sql), values).execute(connection).await;
            done.map(|done| done.rows_affected())
        });
        self.is_midway = false;
        self.touched += touched.as_ref().map_or(0, |touched| *touched);
        Ok(touched?)
    }

    /// Runs a statement without values or answer, such as `SAVEPOINT`.
    pub(crate) async fn plain(&mut self, sql: &'static str) -> Result<()> {
        self.begin_statement();
        let done = on_pool!(&mut self.link, connection => {
            sqlx::raw_sql(sql).execute(connection).await.map(drop)
        });
        self.is_midway = false;
        Ok(done?)
    }

    fn begin_statement(&mut self) {
        self.trips.count();
        self.is_midway = true;
    }

    /// Commits what went well, with the audit entry that waits for it; takes back what did not.
    pub(crate) async fn end<T>(mut self, mut result: Result<T>) -> Result<T> {
        if result.is_ok() {
            let touched = self.touched;
            let joined = audit::join(&mut self, touched).await;
            result = result.and_then(|value| joined.map(|()| value));
        }
        let statement = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.plain(statement).await;
        self.in_transaction = ended.is_err();
        if let Some(written) = &self.written {
            written.notify_one();
        }
        result.and_then(|value| ended.map(|()| value))
    }
}

impl Connection {
    /// Lets nobody else have this connection: it is closed in the end.
    pub(crate) const fn keep_apart(&mut self) {
        self.in_transaction = true;
    }
}

impl Drop for Connection {
    /// A connection with an open transaction is not given back: closing it rolls back, whatever
    /// state the database left it in. Nor is one to PostgreSQL whose answer nobody waited for: the pool
    /// would wait for it, without a deadline.
    fn drop(&mut self) {
        match &mut self.link {
            Link::Sqlite(pooled) if self.in_transaction => pooled.close_on_drop(),
            Link::Postgres(pooled) if self.in_transaction || self.is_midway => {
                pooled.close_on_drop();
            }
            Link::Sqlite(_) | Link::Postgres(_) => {}
        }
    }
}

async fn connect(url: &DatabaseUrl, options: &Options) -> Result<Databases> {
    match url.dialect {
        Dialect::Sqlite => open_sqlite(url, options).await,
        Dialect::Postgres => open_postgres(url, options).await,
    }
}

async fn open_sqlite(url: &DatabaseUrl, options: &Options) -> Result<Databases> {
    let mut connect = SqliteConnectOptions::from_str(&url.url)
        .map_err(|_| Error::Invalid("not an address of an SQLite database".to_owned()))?
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", LOG_PAGES)
        .thread_name(|number| format!("sqlite-{number}"));
    if let Some(pages) = options.max_pages {
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    let pool = |connections: u32| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let writer = patiently(|| pool(1).connect_with(connect.clone())).await?;
    let anchor = Some(pool(1).connect_with(connect.clone()).await?);
    let reader = if url.is_memory() {
        // Connections to one memory database block each other by table: all share the writer.
        writer.clone()
    } else {
        let connect = connect.pragma("cache_size", READER_CACHE);
        pool(SQLITE_READERS).connect_lazy_with(connect)
    };
    Ok(Databases::Sqlite {
        writer,
        reader,
        anchor,
        disk: None,
    })
}

/// A file that is there, as it is.
async fn visit_sqlite(url: &DatabaseUrl) -> Result<Databases> {
    let connect = SqliteConnectOptions::from_str(&url.url)
        .map_err(|_| Error::Invalid("not an address of an SQLite database".to_owned()))?
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .synchronous(SqliteSynchronous::Full);
    if url.is_memory() || !connect.get_filename().exists() {
        return Err(Error::NotFound);
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(connect)
        .await?;
    Ok(Databases::Sqlite {
        writer: pool.clone(),
        reader: pool,
        anchor: None,
        disk: None,
    })
}

/// Of two that make a file at once, one meets the other's change of the journal mode, for which
/// SQLite itself does not wait.
async fn patiently<T, F>(mut open: impl FnMut() -> F) -> std::result::Result<T, sqlx::Error>
where
    F: Future<Output = std::result::Result<T, sqlx::Error>>,
{
    let until = tokio::time::Instant::now() + BUSY_TIMEOUT;
    loop {
        match open().await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(SQLITE_BUSY)
                    && tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Every schema change, oldest first. Released ones never change.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The newest migration that a database has.
const NEWEST_APPLIED: &str = "
    SELECT CAST(MAX(version) AS BIGINT)
    FROM _sqlx_migrations";

/// The number of the newest migration that this program knows.
pub(crate) fn newest_migration() -> i64 {
    let versions = MIGRATIONS.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Applies the migrations that are missing, up to `target` if one is given, one process at a time.
async fn migrate(databases: &Databases, target: Option<i64>) -> Result<()> {
    let done = match databases {
        Databases::Sqlite { writer, .. } => migrate_sqlite(writer, target).await?,
        Databases::Postgres { pool, .. } => match target {
            Some(target) => MIGRATIONS.run_to(target, pool).await,
            None => MIGRATIONS.run(pool).await,
        },
    };
    let known = newest_migration();
    match done {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) if found > known => {
            Err(Error::NewerSchema { found, known })
        }
        Err(MigrateError::Execute(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

/// PostgreSQL has an advisory lock for this, SQLite the right to write: all in one transaction.
async fn migrate_sqlite(
    writer: &SqlitePool,
    target: Option<i64>,
) -> Result<std::result::Result<(), MigrateError>> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let done = match target {
        Some(target) => MIGRATIONS.run_to(target, &mut *transaction).await,
        None => MIGRATIONS.run(&mut *transaction).await,
    };
    if done.is_ok() {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(done)
}
