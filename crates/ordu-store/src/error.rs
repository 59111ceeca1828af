//! What can go wrong, by what a caller can do about it.

use std::io;
use std::sync::Arc;

/// Why a store operation did not happen. Nothing is half done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database is away, full or overloaded: try again later. After a lost connection the
    /// operation may have happened; repeating it is safe.
    #[error("the database cannot be used at the moment")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The connection was lost, or silent for too long, with a write under way: it may have happened,
    /// or may still. Repeating it is safe.
    #[error("the database was not heard of after a write")]
    Unheard(#[source] Arc<sqlx::Error>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The database was written by a newer program: use that one.
    #[error("the database has schema {found}, this program knows {known}; use a newer program")]
    NewerSchema {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration this program has.
        known: i64,
    },
    /// A name, id or key that must be unique is in use.
    #[error("already taken")]
    Taken,
    /// What was asked for does not exist.
    #[error("not found")]
    NotFound,
    /// The caller's input cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// A migration failed.
    #[error("cannot prepare the schema")]
    Schema(#[source] Arc<sqlx::migrate::MigrateError>),
    /// Anything unforeseen: a fault in a statement or in the stored data.
    #[error("unexpected answer of the database")]
    Unexpected(#[source] Arc<sqlx::Error>),
}

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A stored text that this program does not know.
    pub(crate) fn corrupt(column: &'static str, value: &str) -> Self {
        let source = format!("unknown value {value:?} in {column}");
        Self::Unexpected(Arc::new(sqlx::Error::Decode(source.into())))
    }

    /// Nothing came back in time.
    pub(crate) fn silence() -> Self {
        let message = "the database did not answer in time";
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)).into()
    }

    /// The same, after a write had gone out.
    pub(crate) fn after_a_write(self) -> Self {
        match self {
            Self::Unavailable(error) => Self::Unheard(error),
            other => other,
        }
    }

    /// Whether the database is away: the same may succeed later, or on a fresh connection.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unheard(_) | Self::Closed)
    }

    /// Whether no connection came about for a while, and nobody said why.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(error) if matches!(**error, sqlx::Error::PoolTimedOut))
    }

    /// Whether PostgreSQL gave up the transaction in favour of another one.
    pub(crate) fn is_rollback(&self) -> bool {
        let Self::Unavailable(error) = self else {
            return false;
        };
        error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| code.len() == 5 && code.starts_with("40"))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => Self::Unavailable(Arc::new(error)),
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Taken,
            sqlx::Error::Database(database) if is_passing(database.code().as_deref()) => {
                Self::Unavailable(Arc::new(error))
            }
            sqlx::Error::Database(database) if is_unfit(database.code().as_deref()) => {
                Self::Invalid(format!("cannot be stored: {}", database.message()))
            }
            _ => Self::Unexpected(Arc::new(error)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Schema(Arc::new(error))
    }
}

/// Codes of conditions that pass by themselves. SQLite's are numbers whose low byte is the kind,
/// PostgreSQL's are five letters whose first two are the class.
fn is_passing(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    if code.len() == 5 {
        // Connection, rollback by deadlock, resources, operator, system, read-only server.
        let class = code.get(..2).unwrap_or_default();
        return matches!(class, "08" | "40" | "53" | "57" | "58") || code == "25006";
    }
    // Busy, locked, out of memory, read-only, interrupted, I/O, full, cannot open.
    let kind = code.parse::<u32>().map_or(0, |number| number & 0xff);
    matches!(kind, 5..=10 | 13 | 14)
}

/// PostgreSQL's class of values that do not fit, such as a text with a zero byte.
fn is_unfit(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.len() == 5 && code.starts_with("22"))
}
