//! A file of the operator's that may change while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::io::AsyncReadExt as _;

/// The largest file that is read, in bytes.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

/// A file and how it looked when it was read last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Option<Stamp>>,
}

/// How a file looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl WatchedFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file, if it changed since it was read last. A file that cannot be read stays
    /// unread; one that was read counts as read, whatever is made of it.
    pub(crate) async fn read_if_changed(&self) -> std::io::Result<Option<String>> {
        let found = tokio::fs::metadata(&self.path).await?;
        let stamp = Stamp {
            modified: found.modified().ok(),
            bytes: found.len(),
        };
        if *self.seen() == Some(stamp) {
            return Ok(None);
        }
        let text = read(&self.path).await?;
        *self.seen() = Some(stamp);
        Ok(Some(text))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Stamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file as text, at most [`MAX_BYTES`] of it.
pub(crate) async fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_BYTES).read_to_string(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_once_for_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = WatchedFile::new(path.clone());
        assert!(file.read_if_changed().await.is_err());
        std::fs::write(&path, "one").unwrap();
        let read = async || file.read_if_changed().await.unwrap();
        assert_eq!(read().await.as_deref(), Some("one"));
        assert_eq!(read().await, None);
        std::fs::write(&path, "three").unwrap();
        assert_eq!(read().await.as_deref(), Some("three"));
    }
}
