//! Fetching files: resumed where they stopped, in several stretches if they are large, checked before
//! anybody sees them, by one worker at a time.
//!
//! A file grows as `<name>.part` and takes its name when its checksum is right. What was planned lies
//! in `<name>.part.json`. Dropping a fetch cancels it; what came stays for the next time.
//!
//! # Source
//! `worker.md` § 3.6.

mod plan;
mod throttle;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ordu_engine::native::weights::TensorFile;
use tokio::sync::watch;
use url::Url;

use self::plan::Plan;
use self::throttle::Throttle;
use super::checksum;
use super::lock::{Hold, Lock};
use super::record::ModelFile;
use super::secret::Secret;
use super::web::{Web, WebError};

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Connections to one file at the same time.
    pub connections: u64,
    /// Files from this size on come over several connections, in bytes.
    pub parallel_from: u64,
    /// The least that one of them fetches, in bytes.
    pub segment: u64,
    /// How much is kept in memory before it is written, in bytes.
    pub buffer: usize,
    /// How often a transfer that broke without getting anywhere is tried again.
    pub retries: u32,
    /// Before it is tried again.
    pub pause: Duration,
    /// How long a server may be silent.
    pub silence: Duration,
    /// What must stay free on the disk, in bytes.
    pub keep_free: u64,
    /// Bytes per second over all transfers.
    pub rate: Option<u64>,
    /// A mirror that has files by their checksum, and the key for it.
    pub gateway: Option<(Url, Secret)>,
    /// Whether nothing may be fetched at all.
    pub offline: bool,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            parallel_from: 64 << 20,
            segment: 16 << 20,
            buffer: 1 << 20,
            retries: 5,
            pause: Duration::from_secs(2),
            silence: Duration::from_secs(20),
            keep_free: 1 << 30,
            rate: None,
            gateway: None,
            offline: false,
        }
    }
}

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it can be had. Without a token: that is added on the way.
    pub url: Url,
    /// What it will be.
    pub target: PathBuf,
    /// What its checksum must be, in lower case.
    pub sha256: Option<String>,
    /// Counts only if there is no `sha256`.
    pub md5: Option<String>,
    /// The most that is fetched, in bytes.
    pub limit: Option<u64>,
    /// What it must be.
    pub format: Format,
}

/// What a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Any,
    /// Named tensors with a header that can be believed.
    Safetensors,
}

impl Wanted {
    /// A file of a model, if its record says where it can be had.
    pub fn of(file: &ModelFile, target: PathBuf) -> Option<Self> {
        Some(Self {
            url: file.url.clone()?,
            target,
            sha256: file.sha256.clone(),
            md5: file.md5.clone(),
            limit: None,
            format: Format::Any,
        })
    }
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TransferProgress {
    /// Bytes that are there, those of earlier runs included.
    pub bytes: u64,
    /// Bytes of the whole file, if the server says.
    pub total: Option<u64>,
    /// Bytes per second since this run started.
    pub speed: f64,
    /// How long it will take at this speed.
    pub eta: Option<Duration>,
}

/// How a fetch ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file was there and is right.
    AlreadyThere,
    /// It came.
    Now,
}

/// Why a file could not be fetched. None of these shows an address.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server refused or is not there.
    #[error("`{file}` could not be fetched: {source}")]
    Web {
        /// The name of the file.
        file: String,
        /// Why.
        source: WebError,
    },
    /// It is larger than allowed.
    #[error("`{file}` is larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// The name of the file.
        file: String,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// It does not fit on the disk.
    #[error(
        "`{file}` does not fit: {needed} bytes are needed, {free} are free, {keep_free} must stay free"
    )]
    NoSpace {
        /// The name of the file.
        file: String,
        /// What is missing of it, in bytes.
        needed: u64,
        /// What the disk has, in bytes.
        free: u64,
        /// What must stay free, in bytes.
        keep_free: u64,
    },
    /// It is another file than expected, twice.
    #[error("`{file}` has the checksum {found}, not {expected}")]
    Mismatch {
        /// The name of the file.
        file: String,
        /// Its checksum.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// It is not what it must be.
    #[error("`{file}` is refused: {reason}")]
    Refused {
        /// The name of the file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Nothing may be fetched.
    #[error("`{file}` is not here, and the worker is offline")]
    Offline {
        /// The name of the file.
        file: String,
    },
    /// The disk said no.
    #[error("`{file}` cannot be written")]
    Io {
        /// The name of the file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// Where a transfer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the mirror, if there is one.
    Mirror,
    /// Where the file is from.
    Origin,
}

/// Fetches files.
#[derive(Debug, Clone)]
pub struct Downloads {
    web: Web,
    options: Arc<DownloadOptions>,
    throttle: Arc<Throttle>,
}

impl Downloads {
    /// One for all: what `options` limit is limited over everything that is fetched with it.
    pub fn new(web: Web, options: DownloadOptions) -> Self {
        Self {
            web,
            throttle: Arc::new(Throttle::new(options.rate)),
            options: Arc::new(options),
        }
    }

    /// How files are fetched.
    pub fn options(&self) -> &DownloadOptions {
        &self.options
    }

    /// Fetches a file unless it is there and right. A file that is wrong is removed and fetched anew.
    ///
    /// # Errors
    /// See [`DownloadError`].
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        progress: &watch::Sender<TransferProgress>,
    ) -> Result<Fetched, DownloadError> {
        let file = Named::of(&wanted.target);
        if let Some(folder) = wanted.target.parent() {
            std::fs::create_dir_all(folder).map_err(|error| file.io(error))?;
        }
        let lock = Lock::of(&wanted.target, Hold::Alone).await;
        let _lock = lock.map_err(|error| file.io(error))?;
        if self.is_right(wanted, &file).await? {
            return Ok(Fetched::AlreadyThere);
        }
        if self.options.offline {
            return Err(DownloadError::Offline { file: file.0 });
        }
        let part = part_of(&wanted.target);
        let first = self.fetch_once(wanted, &part, Start::Mirror, progress);
        if let Err(error) = first.await {
            if !matches!(error, DownloadError::Mismatch { .. }) {
                return Err(error);
            }
            tracing::warn!(%error, "a file is fetched once more");
            self.fetch_once(wanted, &part, Start::Origin, progress)
                .await?;
        }
        Ok(Fetched::Now)
    }

    /// Fetches a file, judges it, and gives it its name.
    async fn fetch_once(
        &self,
        wanted: &Wanted,
        part: &Path,
        start: Start,
        progress: &watch::Sender<TransferProgress>,
    ) -> Result<(), DownloadError> {
        let transfer = transfer::Transfer::new(self, wanted, part, progress);
        transfer.run(start).await?;
        let (owned, from) = (wanted.clone(), part.to_owned());
        let judged = tokio::task::spawn_blocking(move || settle(&owned, &from));
        let file = Named::of(&wanted.target);
        judged
            .await
            .unwrap_or_else(|error| Err(file.io(io::Error::other(error))))
    }

    async fn is_right(&self, wanted: &Wanted, file: &Named) -> Result<bool, DownloadError> {
        let wanted = wanted.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let path = &wanted.target;
            if std::fs::metadata(path).map_or(0, |found| found.len()) == 0 {
                return Ok(false);
            }
            let right = match (&wanted.sha256, &wanted.md5) {
                (Some(sum), _) => checksum::sha256(path)? == *sum,
                (None, Some(sum)) => checksum::md5(path)? == *sum,
                (None, None) => true,
            };
            if !right {
                checksum::forget(path);
                std::fs::remove_file(path)?;
            }
            Ok(right)
        });
        let ended = checked
            .await
            .map_err(|error| file.io(io::Error::other(error)))?;
        ended.map_err(|error| file.io(error))
    }
}

/// Whether a file has the checksum that its record says; `None` if its record says none. Blocks.
///
/// # Errors
/// If it cannot be read.
pub fn verify(file: &ModelFile, path: &Path) -> io::Result<Option<bool>> {
    Ok(match (&file.sha256, &file.md5) {
        (Some(sum), _) => {
            let found = checksum::computed_sha256(path)?;
            // A store that is only read has no room for it.
            checksum::remember(path, &found).ok();
            Some(found == *sum)
        }
        (None, Some(sum)) => Some(checksum::md5(path)? == *sum),
        (None, None) => None,
    })
}

/// Judges what came and gives it its name. Whatever is wrong is removed. Blocks.
fn settle(wanted: &Wanted, part: &Path) -> Result<(), DownloadError> {
    let file = Named::of(&wanted.target);
    let judged = judge(wanted, part, &file);
    let sum = match judged {
        Ok(sum) => sum,
        Err(error) => {
            if !matches!(error, DownloadError::Io { .. }) {
                Plan::discard(part);
            }
            return Err(error);
        }
    };
    std::fs::rename(part, &wanted.target).map_err(|error| file.io(error))?;
    Plan::forget(part);
    if let Some(sum) = sum {
        checksum::remember(&wanted.target, &sum).map_err(|error| file.io(error))?;
    }
    Ok(())
}

/// The checksum of what came, if one was asked for.
fn judge(wanted: &Wanted, part: &Path, file: &Named) -> Result<Option<String>, DownloadError> {
    let io = |error| file.io(error);
    let (found, expected) = match (&wanted.sha256, &wanted.md5) {
        (Some(sum), _) => (checksum::computed_sha256(part).map_err(io)?, sum),
        (None, Some(sum)) => (checksum::md5(part).map_err(io)?, sum),
        (None, None) => (String::new(), &String::new()),
    };
    if found != *expected {
        return Err(DownloadError::Mismatch {
            file: file.0.clone(),
            found,
            expected: expected.clone(),
        });
    }
    if wanted.format == Format::Safetensors {
        TensorFile::open(part).map_err(|error| DownloadError::Refused {
            file: file.0.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(wanted.sha256.as_ref().map(|_| found))
}

fn part_of(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{name}.part"))
}

/// The name of a file in errors.
#[derive(Debug, Clone)]
struct Named(String);

impl Named {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default();
        Self(name.to_string_lossy().into_owned())
    }

    fn io(&self, source: io::Error) -> DownloadError {
        DownloadError::Io {
            file: self.0.clone(),
            source,
        }
    }

    fn web(&self, source: WebError) -> DownloadError {
        DownloadError::Web {
            file: self.0.clone(),
            source,
        }
    }
}
