//! A fresh database for one test, and a wire to it, for tests.

mod wire;

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};

use crate::error::Result;
pub use wire::Wire;

/// How many schemas this process made.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An empty schema in a PostgreSQL database, until it is [dropped](Self::drop_schema).
#[derive(Debug)]
pub struct Schema {
    address: String,
    name: String,
}

impl Schema {
    /// Makes one in the database at `address`.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn create(address: &str) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = Self {
            address: address.to_owned(),
            name: format!("above_{}_{number}", std::process::id()),
        };
        let name = &schema.name;
        schema.administer(format!("CREATE SCHEMA {name}")).await?;
        Ok(schema)
    }

    /// The address that leads into it.
    pub fn url(&self) -> String {
        let Self { address, name } = self;
        let separator = if address.contains('?') { '&' } else { '?' };
        format!("{address}{separator}options[search_path]={name}&application_name={name}")
    }

    /// Runs statements in it.
    ///
    /// # Errors
    /// The database cannot be reached, or does not take them.
    pub async fn run(&self, sql: &str) -> Result<()> {
        let name = &self.name;
        self.administer(format!("SET search_path = {name}; {sql}"))
            .await
    }

    /// Ends it with everything in it, and whatever a server that was just dropped still asks there:
    /// the two could wait for each other for ever.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn drop_schema(self) -> Result<()> {
        let name = &self.name;
        self.administer(format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}';
             DROP SCHEMA {name} CASCADE"
        ))
        .await
    }

    async fn administer(&self, sql: String) -> Result<()> {
        let mut connection = PgConnection::connect(&self.address).await?;
        let sql = sqlx::AssertSqlSafe(sql);
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        Ok(())
    }
}

/// Runs statements in an SQLite file that no store has open.
///
/// # Errors
/// The file cannot be opened, or does not take them.
pub async fn run_in_file(file: &std::path::Path, sql: &str) -> Result<()> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
