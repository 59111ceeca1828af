//! Statements made at run time, for what works on any table: bulk inserts and backups.
//!
//! They are made of names of our own schema; everything from outside is bound as a value.

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Row, Type};
use uuid::Uuid;

use super::{AnyRow, Connection, Link, Value};
use crate::error::Result;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Real,
    Bool,
    Text,
    Uuid,
}

/// The most values that one statement binds; SQLite takes 32,766.
const MOST_VALUES: usize = 30_000;

/// The most rows that one statement inserts.
const MOST_ROWS: usize = 500;

/// Rows on their way into a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InsertInto<'a> {
    pub(crate) table: &'a str,
    pub(crate) columns: &'a [&'a str],
    /// What follows the rows, such as `ON CONFLICT …`.
    pub(crate) suffix: &'a str,
}

impl Connection {
    /// Runs a statement made at run time; says how many rows it touched.
    pub(crate) async fn execute_made(&mut self, sql: String, values: Vec<Value>) -> Result<u64> {
        self.trips.count();
        on_pool!(&mut self.link, connection => {
            let query = bind_all!(sqlx::query(AssertSqlSafe(sql)), values);
            Ok(query.execute(connection).await?.rows_affected())
        })
    }

    /// All rows of a statement made at run time.
    pub(crate) async fn all_made<T: AnyRow>(
        &mut self,
        sql: String,
        values: Vec<Value>,
    ) -> Result<Vec<T>> {
        self.trips.count();
        on_pool!(&mut self.link, connection => {
            let query = bind_all!(sqlx::query_as(AssertSqlSafe(sql)), values);
            Ok(query.fetch_all(connection).await?)
        })
    }

    /// Hands the rows of a statement on as they come, so that not all of them are in memory.
    pub(crate) async fn each_row(
        &mut self,
        sql: String,
        kinds: &[Kind],
        take: &mut (dyn FnMut(Vec<Value>) -> Result<()> + Send),
    ) -> Result<()> {
        self.trips.count();
        on_pool!(&mut self.link, connection => {
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
            while let Some(row) = rows.try_next().await? {
                take(cells(&row, kinds)?)?;
            }
            Ok(())
        })
    }

    /// Inserts rows, many with each statement; says how many went in.
    pub(crate) async fn insert_rows(
        &mut self,
        into: InsertInto<'_>,
        rows: Vec<Vec<Value>>,
    ) -> Result<u64> {
        let width = into.columns.len().max(1);
        let most = (MOST_VALUES / width).clamp(1, MOST_ROWS);
        let mut inserted = 0;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Vec<Value>> = rows.by_ref().take(most).collect();
            let sql = insert_sql(into, chunk.len());
            let values = chunk.into_iter().flatten().collect();
            inserted += self.execute_made(sql, values).await?;
        }
        Ok(inserted)
    }
}

fn insert_sql(into: InsertInto<'_>, rows: usize) -> String {
    let columns: Vec<String> = into.columns.iter().map(|name| quoted(name)).collect();
    let width = columns.len();
    let row = |number: usize| format!("({})", places(number * width + 1, width));
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!(
        "INSERT INTO {} ({}) VALUES {} {}",
        quoted(into.table),
        columns.join(", "),
        rows.join(", "),
        into.suffix
    )
}

/// `$first, $first+1, …`, so many of them.
pub(crate) fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    places.join(", ")
}

/// A name that may be a word of the language.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn cells<'r, R>(row: &'r R, kinds: &[Kind]) -> Result<Vec<Value>>
where
    R: Row,
    usize: ColumnIndex<R>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    Option<f64>: Decode<'r, R::Database> + Type<R::Database>,
    Option<bool>: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    Option<Uuid>: Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database,
{
    let cell = |(index, kind): (usize, &Kind)| {
        Ok(match kind {
            Kind::Int => Value::Int(row.try_get(index)?),
            Kind::Real => Value::Real(row.try_get(index)?),
            Kind::Bool => Value::Bool(row.try_get(index)?),
            Kind::Text => Value::Text(row.try_get(index)?),
            Kind::Uuid => Value::Uuid(row.try_get(index)?),
        })
    };
    kinds.iter().enumerate().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_through() {
        let into = InsertInto {
            table: "t",
            columns: &["a", "open"],
            suffix: "ON CONFLICT DO NOTHING",
        };
        assert_eq!(
            insert_sql(into, 2),
            "INSERT INTO \"t\" (\"a\", \"open\") VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING"
        );
    }
}
