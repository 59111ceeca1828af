//! A fresh database for each test.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use ordu_core::Timestamp;
use ordu_store::{DatabaseUrl, Options, Store};
use sqlx::{Connection, PgConnection, SqliteConnection};

/// When every test begins.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// An empty database that lives as long as its test.
pub(crate) struct Database {
    url: String,
    /// The folder of an SQLite file.
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub(crate) fn url(&self) -> DatabaseUrl {
        self.url.parse().unwrap()
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.url().is_shared()
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(&Options::default()).await
    }

    pub(crate) async fn open_with(&self, options: &Options) -> Store {
        Store::open(&self.url(), options, NOW).await.unwrap()
    }

    /// Runs statements behind the store's back.
    pub(crate) async fn execute(&self, sql: &'static str) {
        if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
    }

    /// Keeps others from writing to a table until it is dropped; PostgreSQL only.
    pub(crate) async fn lock(&self, table: &str) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let lock = format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
        let lock = sqlx::raw_sql(sqlx::AssertSqlSafe(lock));
        lock.execute(&mut connection).await.unwrap();
        connection
    }

    /// How many connections to this database there are; PostgreSQL only.
    pub(crate) async fn connections(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let others = "SELECT count(*)
             FROM pg_stat_activity
             WHERE application_name = current_setting('application_name')
                 AND pid <> pg_backend_pid()";
        let count = sqlx::query_scalar(others)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        count
    }

    /// How often a table was read from end to end by those who have left; PostgreSQL only.
    pub(crate) async fn whole_tables_read(&self) -> i64 {
        let mut looks = 0;
        while self.connections().await > 0 {
            looks += 1;
            assert!(looks < 1_000, "somebody has not left");
        }
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = "SELECT sum(seq_scan)::int8
             FROM pg_stat_user_tables
             WHERE schemaname = current_schema()";
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// Cuts every connection to this database; PostgreSQL only.
    pub(crate) async fn cut_connections(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid)
             FROM pg_stat_activity
             WHERE application_name = current_setting('application_name')
                 AND pid <> pg_backend_pid()",
        )
        .await;
    }

    /// The address as text.
    pub(crate) fn address(&self) -> &str {
        &self.url
    }

    /// How SQLite runs a statement, one line a step.
    pub(crate) async fn plan(&self, sql: &'static str) -> String {
        let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
        let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(sql)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let steps: Vec<String> = rows.into_iter().map(|(_, _, _, step)| step).collect();
        steps.join("\n")
    }
}

pub(crate) fn run_on_sqlite(test: impl AsyncFnOnce(&Database)) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let database = Database {
        url,
        _folder: Some(folder),
    };
    runtime().block_on(test(&database));
}

/// How many schemas this process made.
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) fn run_on_postgres(test: impl AsyncFnOnce(&Database)) {
    let Some(address) = variable("ORDU_TEST_POSTGRES") else {
        assert!(
            variable("ORDU_TEST_NO_SKIP").is_none_or(|value| value != "1"),
            "ORDU_TEST_POSTGRES is not set and skipping is forbidden"
        );
        eprintln!("SKIPPED on PostgreSQL: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let schema = format!("test_{}_{number}", std::process::id());
    let runtime = runtime();
    runtime.block_on(administer(&address, format!("CREATE SCHEMA {schema}")));
    let separator = if address.contains('?') { '&' } else { '?' };
    let database = Database {
        url: format!("{address}{separator}options[search_path]={schema}&application_name={schema}"),
        _folder: None,
    };
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&database))));
    runtime.block_on(administer(
        &address,
        format!("DROP SCHEMA {schema} CASCADE"),
    ));
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

async fn administer(address: &str, sql: String) {
    let mut connection = PgConnection::connect(address).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
