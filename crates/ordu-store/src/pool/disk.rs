//! Bringing to the disk what SQLite committed without waiting for it.
//!
//! With `synchronous = NORMAL` a commit is in the log, in its place, but nobody has asked the disk for it
//! yet. Asking here instead of inside the commit lets the next transaction be written meanwhile, and
//! several may ask at once.
//!
//! # Source
//! sqlite.org: "Write-Ahead Logging"; `PRAGMA synchronous`: with `NORMAL` the log is brought to the disk
//! before each checkpoint and when it begins anew. So what has left the log is on the disk as well.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Databases;
use crate::error::Result;

/// Transactions that are on their way to the disk at once.
pub(crate) const SYNCS: usize = 2;

/// The log of a database file. It stays the same file as long as one connection is open.
#[derive(Debug)]
pub(super) struct Disk {
    /// The log, opened once for each that asks at the same time: of a failure the system tells each open
    /// file once.
    logs: Mutex<Vec<File>>,
    free: Semaphore,
    /// After a failure nobody knows what of the log is on the disk, whatever the disk says later.
    has_failed: AtomicBool,
}

impl Disk {
    /// The log of a database file that has one; its name is in its folder for good.
    fn of(database: &Path) -> io::Result<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let open = || OpenOptions::new().write(true).open(&log);
        let logs = (0..SYNCS).map(|_| open()).collect::<io::Result<_>>()?;
        #[cfg(unix)]
        File::open(folder_of(&log))?.sync_all()?;
        Ok(Self::new(logs))
    }

    fn new(logs: Vec<File>) -> Self {
        Self {
            free: Semaphore::new(logs.len()),
            logs: Mutex::new(logs),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Fails once bringing something to the disk has failed.
    pub(super) fn check(&self) -> Result<()> {
        if self.has_failed.load(Ordering::Relaxed) {
            let message = "the disk has lost something: see that it is well, then restart";
            return Err(sqlx::Error::Io(io::Error::other(message)).into());
        }
        Ok(())
    }

    /// What was committed before is on the disk when this returns.
    pub(super) async fn sync(self: &Arc<Self>) -> Result<()> {
        // Nobody closes it.
        let _turn = self.free.acquire().await;
        let disk = Arc::clone(self);
        let synced = tokio::task::spawn_blocking(move || disk.sync_one()).await;
        if let Err(error) = synced.unwrap_or_else(|error| Err(io::Error::other(error))) {
            self.has_failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the disk does not keep what is written: nothing is written any more");
        }
        self.check()
    }

    fn sync_one(&self) -> io::Result<()> {
        let log = self.with(Vec::pop);
        let log = log.ok_or_else(|| io::Error::other("no open log is free"))?;
        let synced = log.sync_data();
        self.with(|logs| logs.push(log));
        synced
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<File>) -> T) -> T {
        change(&mut self.logs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(unix)]
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Databases {
    /// Looks for the log of an SQLite file that is open. Where there is none, commits wait for the disk.
    pub(super) fn find_disk(&mut self) {
        let Self::Sqlite { writer, disk, .. } = self else {
            return;
        };
        let database = writer.connect_options().get_filename().to_owned();
        *disk = match Disk::of(&database) {
            Ok(found) => Some(Arc::new(found)),
            Err(error) => {
                tracing::warn!(%error, "no log beside the database: each commit waits for the disk");
                None
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::watch;
    use uuid::Uuid;

    use super::*;
    use crate::error::Error;
    use crate::pool::{Options, Pool};
    use crate::writer::{Kind, Write, Writer};

    /// So many writes that come at once go to the disk apart from their commit.
    const MANY: u128 = 8;

    async fn pool(folder: &Path) -> Pool {
        let url = format!("sqlite://{}", folder.join("horde.db").display());
        let url = url.parse().unwrap();
        let opened = Pool::open(&url, &Options::default(), Arc::default()).await;
        opened.unwrap()
    }

    fn write(event: u128) -> Write {
        let id = Uuid::from_u128(event);
        let event = id.simple();
        Write {
            kind: Kind::Record,
            key: id,
            token: id,
            row: format!(r#"{{"event":"{event}","reason":"test"}}"#),
            first: format!(
                r#"{{"event":"{event}","reason":"test","line":0,"source":-1,"target":2,"amount":1,"at":1}}"#
            ),
            second: String::new(),
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_the_disk_does_not_keep_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let mut pool = pool(folder.path()).await;
        let (_open, closing) = watch::channel(false);
        let Databases::Sqlite { disk, .. } = &mut pool.databases else {
            panic!("this is SQLite");
        };
        assert!(disk.is_some(), "a file has a log");
        // What cannot be brought to a disk: the system says no.
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        *disk = Some(Arc::new(Disk::new(vec![null])));
        let pool = Arc::new(pool);
        let tally = Arc::default();
        let writer = Writer::start(&pool, &tally, &closing);
        // A commit of few asks the disk itself, many go there apart from theirs.
        assert!(writer.write(write(0)).await.unwrap());
        let many = (1..=MANY).map(|event| writer.write(write(event)));
        for written in join_all(many).await {
            assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
        }
        let one_more = writer.write(write(MANY + 1)).await;
        assert!(
            matches!(one_more, Err(Error::Unavailable(_))),
            "{one_more:?}"
        );
        assert!(pool.writer().await.is_err(), "nobody else writes on");
        assert!(pool.check_disk().is_err(), "whoever asks is told");
        let counted = (tally.read().commits, tally.read().unavailable);
        assert_eq!(counted, (1, u64::try_from(MANY).unwrap() + 1));
    }

    #[tokio::test]
    async fn commits_are_counted_when_they_are_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let pool = Arc::new(pool(folder.path()).await);
        let (_open, closing) = watch::channel(false);
        let tally = Arc::default();
        let writer = Writer::start(&pool, &tally, &closing);
        assert!(writer.write(write(1)).await.unwrap());
        assert!(
            !writer.write(write(1)).await.unwrap(),
            "it is there already"
        );
        let (third, fourth) = tokio::join!(writer.write(write(3)), writer.write(write(1)));
        assert_eq!((third.unwrap(), fourth.unwrap()), (true, false));
        let many = (4..4 + MANY).map(|event| writer.write(write(event)));
        assert!(join_all(many).await.into_iter().all(|new| new.unwrap()));
        assert_eq!(tally.read().split_batches, 0);
    }
}
