//! The data folder: whether it can be written, how fast, how much room there is, and who can read secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use ordu_server::Secret;
use rustix::fs::statvfs;

use super::finding::{Finding, words};
use crate::cli::Server;
use crate::commands::data::{DataFolder, SECRET_FILES};

/// Below this much room nothing more should be accepted.
const LEAST_FREE: u64 = 64 << 20;

/// Below this much it is time to look.
const SCARCE: u64 = 1 << 30;

/// What is written to see how fast that is.
const PROBE: &str = "doctor.probe";

/// How often a write is made durable.
const SYNCS: usize = 11;

/// What one of them writes: a page.
const PAGE: [u8; 4096] = [0x6f; 4096];

/// Slower than this is slow for a disk.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// A data folder as it was found.
pub(super) struct Folder {
    pub(super) data: Option<DataFolder>,
    /// Where its server is, if one runs.
    pub(super) served_at: Option<String>,
    /// Where it was, if it is gone without having ended.
    pub(super) lost_at: Option<String>,
}

impl Folder {
    /// Looks at the folder of these options.
    pub(super) fn look(options: &Server, findings: &mut Vec<Finding>) -> Self {
        let path = &options.data;
        let data = match DataFolder::existing(path) {
            Ok(data) => data,
            Err(error) if path.exists() => {
                let mend = "let the server's user own the folder, or name another with `--data`";
                findings.push(Finding::wrong("data", format!("{error:#}"), mend));
                return Self::none();
            }
            Err(_) => {
                let found = format!("there is no folder `{}` yet", path.display());
                findings.push(Finding::untried("data", found));
                return Self::none();
            }
        };
        findings.push(room(path));
        findings.extend(writes(path));
        findings.extend(secrets(options));
        // Asking makes the lock, which would be ours and not the server's.
        let was_served = path.join("lock").exists();
        let served_at = was_served.then(|| data.served_at()).flatten();
        let lost_at = was_served.then(|| data.lost_at()).flatten();
        Self {
            data: Some(data),
            served_at,
            lost_at,
        }
    }

    const fn none() -> Self {
        Self {
            data: None,
            served_at: None,
            lost_at: None,
        }
    }

    /// The address of the folder's own database.
    pub(super) fn database(&self) -> Option<String> {
        self.data.as_ref().map(DataFolder::database_url)
    }

    /// The folder's own secret, if it has one that can be read.
    pub(super) fn secret(&self) -> Option<Secret> {
        self.data.as_ref()?.existing_secret().ok().flatten()
    }
}

/// How much room there is.
fn room(path: &Path) -> Finding {
    let stat = match statvfs(path) {
        Ok(stat) => stat,
        Err(error) => return Finding::untried("disk", words(&io::Error::from(error))),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let all = stat.f_blocks.saturating_mul(stat.f_frsize);
    let found = format!("{} of {} free", HumanBytes(free), HumanBytes(all));
    let mend = "make room, or move the folder to a larger disk; nothing is lost meanwhile, but \
                nothing new is accepted once it is full";
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Finding::wrong("disk", "no file can be made: all inodes are taken", mend);
    }
    match free {
        0..LEAST_FREE => Finding::wrong("disk", found, mend),
        LEAST_FREE..SCARCE => Finding::warning("disk", found, mend),
        _ => Finding::fine("disk", found),
    }
}

/// Whether the folder can be written, and how long it takes until that is durable.
fn writes(path: &Path) -> Vec<Finding> {
    let probe = path.join(PROBE);
    let written = sync_often(&probe);
    // It may not even be there.
    let _ = fs::remove_file(&probe);
    let sync = match written {
        Ok(sync) => sync,
        Err(error) => return vec![unwritable(path, &error)],
    };
    let rate = 1.0 / sync.as_secs_f64().max(1e-6);
    let found = format!("{:.2} ms, {rate:.0} a second", sync.as_secs_f64() * 1e3);
    let fine = Finding::fine("data", format!("`{}` can be written", path.display()));
    let fsync = if sync > SLOW_SYNC {
        Finding::warning(
            "fsync",
            found,
            "operations under way at once share one, but alone each waits so long: use a disk with \
             a write cache that survives power cuts",
        )
    } else {
        Finding::fine("fsync", found)
    };
    vec![fine, fsync]
}

fn unwritable(path: &Path, error: &io::Error) -> Finding {
    let found = format!("`{}` cannot be written: {error}", path.display());
    let mend = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            return Finding::wrong("disk", found, "make room on the disk");
        }
        ErrorKind::ReadOnlyFilesystem => "mount the disk so that it can be written",
        ErrorKind::PermissionDenied => {
            "let the server's user own the folder and everything in it (`chown -R`), and run this as \
             that user"
        }
        _ => "look at the disk: the system's log may know more",
    };
    Finding::wrong("data", found, mend)
}

fn sync_often(probe: &Path) -> io::Result<Duration> {
    let mut options = OpenOptions::new();
    let mut file: File = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(probe)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

/// Whether the secrets are there, and nobody else's to read.
fn secrets(options: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = &options.data;
    for name in SECRET_FILES {
        let path = folder.join(name);
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        let shown = path.display();
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let found = format!("`{shown}` has mode {mode:04o}: others can read it");
            let mend = format!("chmod 600 {shown}");
            findings.push(Finding::wrong("secrets", found, mend));
        } else if let Err(error) = File::open(&path) {
            let found = format!("`{shown}` cannot be read: {error}");
            let mend = "let the server's user own it, and run this as that user";
            findings.push(Finding::wrong("secrets", found, mend));
        }
    }
    let has_rows = options.database.is_none() && folder.join("ordu.db").exists();
    let secret = folder.join(DataFolder::SECRET);
    if has_rows && options.secret_key.is_none() && !secret.exists() {
        let found = format!(
            "`{}` is missing: no key in the database is valid",
            secret.display()
        );
        let mend = "put it back from where you kept it, or give `--secret-key`; a start makes a new \
                    one, with which all keys stay invalid";
        findings.push(Finding::wrong("secrets", found, mend));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("secrets", "only their owner can read them"));
    }
    findings
}
