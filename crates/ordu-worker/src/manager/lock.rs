//! Locks between workers that share a store, also of several processes.
//!
//! A lock is an open file in the folder `.locks` beside the file that it is about; the system frees it
//! when its process ends, however that happens. The empty files stay: to remove one is to race with
//! whoever is about to lock it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that somebody else holds is tried.
const POLL: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Who else may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody: the file is about to change.
    Alone,
    /// Everybody who only reads.
    Shared,
}

impl Lock {
    /// Waits for the lock of a file. Dropping the future gives up.
    pub(crate) async fn of(path: &Path, hold: Hold) -> io::Result<Self> {
        loop {
            if let Some(lock) = Self::try_of(path, hold)? {
                return Ok(lock);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The lock of a file, unless somebody holds it.
    pub(crate) fn try_of(path: &Path, hold: Hold) -> io::Result<Option<Self>> {
        let place = place(path);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(place)?;
        let held = match hold {
            Hold::Alone => file.try_lock(),
            Hold::Shared => file.try_lock_shared(),
        };
        match held {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn place(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(".locks").join(format!("{name}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_writers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let lock = |hold| Lock::try_of(&path, hold).unwrap();
        let one = lock(Hold::Shared).unwrap();
        let two = lock(Hold::Shared).unwrap();
        assert!(lock(Hold::Alone).is_none());
        drop((one, two));
        let alone = lock(Hold::Alone).unwrap();
        assert!(lock(Hold::Shared).is_none() && lock(Hold::Alone).is_none());
        drop(alone);
        assert!(lock(Hold::Alone).is_some());
    }
}
