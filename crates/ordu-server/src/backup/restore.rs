//! A backup back into an empty database and an empty folder of pictures.

use std::fs;
use std::path::{Path, PathBuf};

use ordu_store::backup::Restoration;
use ordu_store::{DatabaseUrl, Error};

use super::file::{Item, Reader};
use super::{BackupError, Head, Summary};

/// Where a backup is restored to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The database: empty, or not there yet.
    pub database: DatabaseUrl,
    /// The folder of pictures; without one they are left out.
    pub pictures: Option<PathBuf>,
}

/// Reads the head of a backup.
pub fn head(path: &Path) -> Result<Head, BackupError> {
    Reader::open(path).map(|(_, head)| head)
}

/// Puts everything in its place: first the whole file is checked, then all rows go in at once.
pub async fn restore(path: &Path, target: &Target) -> Result<Summary, BackupError> {
    let head = check(path)?;
    let mut restoration = Restoration::begin(&target.database, head.schema).await?;
    if let Some(folder) = &target.pictures {
        fs::create_dir_all(folder).map_err(|error| BackupError::File(folder.clone(), error))?;
    }
    let (mut reader, _) = Reader::open(path)?;
    while let Some(item) = reader.next()? {
        match item {
            Item::Table { name, columns } => restoration.table(&name, &columns).await?,
            Item::Row(cells) => restoration.row(&cells).await?,
            Item::Picture { name, bytes } => keep(target, &name, &bytes)?,
        }
    }
    let rows = restoration.commit().await?;
    let found = reader.found();
    debug_assert_eq!(rows, found.rows, "every row was put in");
    Ok(found)
}

/// Reads the whole file: nothing is restored of a damaged one.
fn check(path: &Path) -> Result<Head, BackupError> {
    let (mut reader, head) = Reader::open(path)?;
    if head.schema > ordu_store::backup::schema_version() {
        return Err(BackupError::Store(Error::NewerSchema {
            found: head.schema,
            known: ordu_store::backup::schema_version(),
        }));
    }
    while reader.next()?.is_some() {}
    Ok(head)
}

fn keep(target: &Target, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
    let Some(folder) = &target.pictures else {
        return Ok(());
    };
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(|error| BackupError::File(path, error))
}
