//! A backup of a horde that goes on serving.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use ordu_core::Timestamp;
use ordu_store::Store;
use ordu_store::backup::Dumped;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::file::{Mark, Writer, is_picture};
use super::{BackupError, FORM, Head, Summary, fingerprint};
use crate::secret::Secret;

/// Tables whose ids pictures are named by.
const WITH_PICTURES: &[&str] = &["requests", "jobs"];

/// How a picture's name begins: with an id.
const ID_CHARS: usize = 36;

/// What goes into a backup.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The database.
    pub store: &'a Store,
    /// The folder of pictures, if they lie in one.
    pub pictures: Option<&'a Path>,
    /// What salts the stored keys.
    pub secret: &'a Secret,
    /// Files with secrets, by name.
    pub files: Map<String, Value>,
    /// When.
    pub now: Timestamp,
}

/// Writes a backup: whatever was acknowledged before this was called is in it.
///
/// The file must not exist yet; until it is whole it has another name.
pub async fn write(contents: Contents<'_>, path: &Path) -> Result<Summary, BackupError> {
    if path.exists() {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(BackupError::File(path.to_owned(), error));
    }
    let part = part_of(path);
    let written = write_to(&contents, &part).await;
    let kept = written.and_then(|summary| {
        let renamed = fs::rename(&part, path).and_then(|()| sync_folder_of(path));
        renamed
            .map(|()| summary)
            .map_err(|error| cannot(path, error))
    });
    if kept.is_err() {
        // What is not whole helps nobody.
        let _ = fs::remove_file(&part);
    }
    kept
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    PathBuf::from(name)
}

async fn write_to(contents: &Contents<'_>, part: &Path) -> Result<Summary, BackupError> {
    let fail = |error| cannot(part, error);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // It holds addresses and prompts of people.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(part).map_err(fail)?;
    let head = Head {
        ordu_backup: FORM,
        schema: ordu_store::backup::schema_version(),
        made: contents.now,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        secret: fingerprint(contents.secret),
        files: contents.files.clone(),
    };
    let mut writer = Writer::new(file, &head).map_err(fail)?;
    let mut summary = Summary::default();
    let needed = write_rows(contents.store, &mut writer, &mut summary).await?;
    if let Some(folder) = contents.pictures {
        write_pictures(folder, &needed, &mut writer, &mut summary).map_err(fail)?;
    }
    writer.finish(summary).map_err(fail)?;
    Ok(summary)
}

/// Writes the database; answers the ids that pictures may be named by.
async fn write_rows(
    store: &Store,
    writer: &mut Writer,
    summary: &mut Summary,
) -> Result<HashSet<Uuid>, BackupError> {
    let mut needed = HashSet::new();
    // The place of the id, in tables whose pictures are needed.
    let mut place = None;
    let mut sink = |dumped: Dumped<'_>| match dumped {
        Dumped::Table { name, columns } => {
            place = columns.iter().position(|column| column == "id");
            place = place.filter(|_| WITH_PICTURES.contains(&name));
            writer.line(&Mark::Table {
                table: name.to_owned(),
                columns: columns.to_vec(),
            })
        }
        Dumped::Row(cells) => {
            let id = place.and_then(|place| cells.get(place));
            needed.extend(
                id.and_then(Value::as_str)
                    .and_then(|id| id.parse::<Uuid>().ok()),
            );
            summary.rows += 1;
            writer.line(&cells)
        }
    };
    store.dump(&mut sink).await?;
    Ok(needed)
}

/// Rows come first: the picture of a row is older than the row.
fn write_pictures(
    folder: &Path,
    needed: &HashSet<Uuid>,
    writer: &mut Writer,
    summary: &mut Summary,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.get(..ID_CHARS).and_then(|id| id.parse::<Uuid>().ok());
        if !is_picture(&name) || !id.is_some_and(|id| needed.contains(&id)) {
            continue;
        }
        match fs::read(entry.path()) {
            Ok(bytes) => {
                writer.picture(&name, &bytes)?;
                summary.pictures += 1;
            }
            // Its request ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The new name survives a power cut once the folder is written.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

fn cannot(path: &Path, error: io::Error) -> BackupError {
    BackupError::File(path.to_owned(), error)
}
