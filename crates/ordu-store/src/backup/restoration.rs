//! Rows back into an empty database: all of them or none.

use serde_json::Value as Json;

use super::shape::{Shape, shapes};
use super::{refuse, schema_version, value};
use crate::error::{Error, Result};
use crate::pool::{Connection, DatabaseUrl, InsertInto, Options, Pool, Value, quoted};

/// Rows that are put in together.
const BATCH: usize = 500;

/// A database that is being filled. Dropped without [`Restoration::commit`], it stays empty.
#[derive(Debug)]
pub struct Restoration {
    pool: Pool,
    connection: Connection,
    tables: Vec<Shape>,
    /// The table that is being filled.
    current: Option<Shape>,
    waiting: Vec<Vec<Value>>,
    rows: u64,
}

impl Restoration {
    /// Prepares an empty database for rows that were dumped with the schema `version`.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] when this program does not know that schema; [`Error::Invalid`] when
    /// the database is not empty.
    pub async fn begin(url: &DatabaseUrl, version: i64) -> Result<Self> {
        if version > schema_version() {
            return Err(Error::NewerSchema {
                found: version,
                known: schema_version(),
            });
        }
        let tables = shapes(version).await?;
        let pool = Pool::open_at(url, &Options::default(), version).await?;
        let mut connection = pool.begin().await?;
        check_empty(&mut connection, &tables).await?;
        // What migrations put in comes back with the rows.
        for table in tables.iter().rev() {
            let sql = format!("DELETE FROM {}", quoted(&table.name));
            connection.execute_made(sql, Vec::new()).await?;
        }
        Ok(Self {
            pool,
            connection,
            tables,
            current: None,
            waiting: Vec::new(),
            rows: 0,
        })
    }

    /// The rows that follow belong into this table.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the schema has no such table, or it has other columns.
    pub async fn table(&mut self, name: &str, columns: &[String]) -> Result<()> {
        self.flush().await?;
        let known = self.tables.iter().find(|table| table.name == name);
        match known.filter(|table| table.columns == columns) {
            Some(table) => {
                self.current = Some(table.clone());
                Ok(())
            }
            None => refuse(format!(
                "the backup's table `{name}` is not one of the schema it names"
            )),
        }
    }

    /// Takes one row.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it does not fit its table.
    pub async fn row(&mut self, cells: &[Json]) -> Result<()> {
        let number = self.rows + 1;
        let Some(table) = &self.current else {
            return refuse(format!("row {number} of the backup belongs to no table"));
        };
        let wrong = || {
            let message = format!("row {number} of the backup does not fit `{}`", table.name);
            Error::Invalid(message)
        };
        if cells.len() != table.kinds.len() {
            return Err(wrong());
        }
        let read = cells.iter().zip(&table.kinds);
        let read = read.map(|(cell, kind)| value(cell, *kind));
        let row: Option<Vec<Value>> = read.collect();
        self.waiting.push(row.ok_or_else(wrong)?);
        self.rows = number;
        if self.waiting.len() >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let Some(table) = self.current.as_ref().filter(|_| !rows.is_empty()) else {
            return Ok(());
        };
        let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        let into = InsertInto {
            table: &table.name,
            columns: &columns,
            suffix: "",
        };
        let inserted = self.connection.insert_rows(into, rows).await;
        inserted.map(|_| ()).map_err(|error| match error {
            Error::Invalid(message) => Error::Invalid(format!("table `{}`: {message}", table.name)),
            other => other,
        })
    }

    /// Keeps everything, and brings the schema up to date. Says how many rows that were.
    pub async fn commit(mut self) -> Result<u64> {
        let flushed = self.flush().await;
        self.connection.end(flushed).await?;
        let migrated = self.pool.migrate().await;
        self.pool.close().await;
        migrated.map(|()| self.rows)
    }
}

/// An empty database has the anonymous account at most, and numbers to count with.
async fn check_empty(connection: &mut Connection, tables: &[Shape]) -> Result<()> {
    for table in tables.iter().filter(|table| table.name != "sequences") {
        let condition = if table.name == "users" {
            "WHERE id <> 0"
        } else {
            ""
        };
        let sql = format!("SELECT COUNT(*) FROM {} {condition}", quoted(&table.name));
        let counted: Vec<(i64,)> = connection.all_made(sql, Vec::new()).await?;
        let rows = counted.first().map_or(0, |(rows,)| *rows);
        if rows > 0 {
            return refuse(format!(
                "the database is not empty: `{}` has {rows} rows; restore into a new one",
                table.name
            ));
        }
    }
    Ok(())
}
