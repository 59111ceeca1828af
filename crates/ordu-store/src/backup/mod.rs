//! The whole database as rows: out of a running horde in one moment, and back into an empty one.
//!
//! The rows know no dialect: what came out of SQLite goes into PostgreSQL and back. Which tables
//! and columns there are follows from the migrations, so none can be forgotten. What a file of
//! such rows looks like is decided elsewhere.

mod dump;
mod restoration;
mod shape;

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::pool::{Kind, Value, newest_migration};

pub use restoration::Restoration;

/// One thing out of a database.
#[derive(Debug)]
pub enum Dumped<'a> {
    /// The rows of this table follow.
    Table {
        /// Its name.
        name: &'a str,
        /// Its columns, in the order of the cells.
        columns: &'a [String],
    },
    /// A row of the table that was named last.
    Row(&'a [Json]),
}

/// Takes what is dumped, in order.
pub type Sink<'a> = dyn FnMut(Dumped<'_>) -> std::io::Result<()> + Send + 'a;

/// The schema that this program writes: the number of its newest migration.
pub fn schema_version() -> i64 {
    newest_migration()
}

fn json(value: Value) -> Json {
    match value {
        Value::Int(value) => value.map_or(Json::Null, Json::from),
        Value::Real(value) => value.map_or(Json::Null, Json::from),
        Value::Bool(value) => value.map_or(Json::Null, Json::from),
        Value::Text(value) => value.map_or(Json::Null, Json::from),
        Value::Uuid(value) => value.map_or(Json::Null, |id| Json::from(crate::json::hex(id))),
    }
}

/// A cell for a column of this kind; `None` if it is no such thing.
fn value(cell: &Json, kind: Kind) -> Option<Value> {
    let absent = cell.is_null();
    Some(match kind {
        Kind::Int => Value::Int(some(cell.as_i64(), absent)?),
        Kind::Real => Value::Real(some(cell.as_f64(), absent)?),
        Kind::Bool => Value::Bool(some(cell.as_bool(), absent)?),
        Kind::Text => Value::Text(some(cell.as_str().map(str::to_owned), absent)?),
        Kind::Uuid => {
            let id = cell.as_str().and_then(|text| text.parse().ok());
            Value::Uuid(some(id, absent)?)
        }
    })
}

#[expect(
    clippy::option_option,
    reason = "the outer one says whether the cell could be read"
)]
fn some<T>(value: Option<T>, absent: bool) -> Option<Option<T>> {
    match value {
        Some(value) => Some(Some(value)),
        None if absent => Some(None),
        None => None,
    }
}

fn cannot_write(error: &std::io::Error) -> Error {
    Error::Invalid(format!("the rows cannot be written: {error}"))
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}
