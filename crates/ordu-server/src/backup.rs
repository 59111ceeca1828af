//! Backups: one file with every row of the database, and the pictures that its requests still need.
//!
//! A file is lines of JSON: a head, then tables with their rows, then pictures as they are, then the
//! end with a checksum of all before it. It knows no dialect: a backup of SQLite restores into
//! PostgreSQL and back. It has been written whole or it does not exist.

pub(crate) mod file;
mod restore;
mod write;

use std::path::PathBuf;

use ordu_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::secret::Secret;

pub use restore::{Target, head, restore};
pub use write::{Contents, write};

/// The version of the form of the file.
const FORM: u32 = 1;

/// The first line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the form.
    pub ordu_backup: u32,
    /// The newest migration of the database that it was made of.
    pub schema: i64,
    /// When it was made.
    pub made: Timestamp,
    /// The version of the program that made it.
    pub program: String,
    /// A fingerprint of the secret that salts the stored keys.
    pub secret: String,
    /// Files with secrets, by name: only if that was asked for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub files: Map<String, Value>,
}

impl Head {
    /// Whether the keys in the backup work with this secret.
    pub fn is_of(&self, secret: &Secret) -> bool {
        self.secret == fingerprint(secret)
    }
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows of the database.
    pub rows: u64,
    /// Pictures.
    pub pictures: u64,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file or folder cannot be used.
    #[error("cannot use `{}`", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// The database failed, or does not fit.
    #[error("{0}")]
    Store(#[from] ordu_store::Error),
    /// It is no backup of ours.
    #[error("this is no backup of an Ordu horde")]
    Foreign,
    /// A newer program made it.
    #[error("a newer program made this backup (form {0}): use that one")]
    Newer(u32),
    /// It is not what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
}

/// Tells secrets apart without telling them.
fn fingerprint(secret: &Secret) -> String {
    crate::secret::hex(&secret.digest("the secret of a backup"))
}
