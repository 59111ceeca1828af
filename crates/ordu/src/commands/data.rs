//! The data folder: who uses it, and the secrets in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;
use ordu_server::Secret;
use serde_json::{Map, Value};

/// The files with secrets.
pub(crate) const SECRET_FILES: &[&str] = &[DataFolder::SECRET, "admin.key"];

/// A folder that holds everything of one horde.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder(PathBuf);

/// The right to serve a data folder, given up when dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    _lock: File,
    address: PathBuf,
    is_announced: AtomicBool,
}

impl DataFolder {
    /// Opens a data folder, and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the data folder `{}`", path.display()))?;
        // Links inside the program must not depend on where it was started.
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot use the data folder `{}`", path.display()))?;
        Ok(Self(path))
    }

    /// A data folder that must be there already.
    pub(crate) fn existing(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!(
                "there is no data folder `{}`: start `ordu up --data` there first",
                path.display()
            );
        }
        Self::open(path)
    }

    pub(crate) fn database_url(&self) -> String {
        format!("sqlite://{}", self.0.join("ordu.db").display())
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// What was fetched about models.
    pub(crate) fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// The key of the first admin, if one was made.
    pub(crate) fn admin_key(&self) -> Option<ApiKey> {
        let text = fs::read_to_string(self.0.join("admin.key")).ok()?;
        Some(ApiKey::new(text.trim()))
    }

    /// Keeps the key of the first admin for its owner only.
    pub(crate) fn keep_admin_key(&self, key: &ApiKey) -> Result<()> {
        write_private(&self.0.join("admin.key"), key.reveal())
    }

    /// The file of the secret.
    pub(crate) const SECRET: &str = "secret.key";

    /// The secret that salts keys and signs links; made the first time.
    pub(crate) fn secret(&self) -> Result<Secret> {
        if let Some(secret) = self.existing_secret()? {
            return Ok(secret);
        }
        let fresh = ordu_server::new_api_key()?;
        write_private(&self.0.join(Self::SECRET), fresh.reveal())?;
        Ok(Secret::new(fresh.reveal()))
    }

    /// The same, if it was made already.
    pub(crate) fn existing_secret(&self) -> Result<Option<Secret>> {
        let path = self.0.join(Self::SECRET);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the secret `{}`", path.display()))?;
        Ok(Some(Secret::new(text.trim())))
    }

    /// Makes `secret` the folder's own, unless it has one.
    pub(crate) fn keep_first_secret(&self, secret: &str) -> Result<()> {
        let path = self.0.join(Self::SECRET);
        if path.exists() {
            return Ok(());
        }
        write_private(&path, secret)
    }

    /// The files with secrets that are here, by name.
    pub(crate) fn secret_files(&self) -> Map<String, Value> {
        let read = |name: &&str| fs::read_to_string(self.0.join(name)).ok();
        SECRET_FILES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), Value::from(read(name)?.trim()))))
            .collect()
    }

    /// Writes files with secrets, except those that are here already.
    pub(crate) fn keep_secret_files(&self, files: &Map<String, Value>) -> Result<()> {
        for name in SECRET_FILES {
            let path = self.0.join(name);
            if let Some(text) = files.get(*name).and_then(Value::as_str)
                && !path.exists()
            {
                write_private(&path, text)?;
            }
        }
        Ok(())
    }

    /// Claims the folder for one server.
    ///
    /// `None` when another one serves it.
    pub(crate) fn claim(&self) -> Result<Option<Serving>> {
        let path = self.0.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot write to the data folder `{}`", self.0.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Serving {
                _lock: lock,
                address: self.0.join("address"),
                is_announced: AtomicBool::new(false),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock `{}`", path.display()))
            }
        }
    }

    /// Where the folder's server can be reached, if one is running.
    pub(crate) fn served_at(&self) -> Option<String> {
        let running = self.claim().ok()?.is_none();
        let address = fs::read_to_string(self.0.join("address")).ok()?;
        running.then(|| address.trim().to_owned())
    }

    /// Where the folder's server was, if it is gone and did not get to say so.
    pub(crate) fn lost_at(&self) -> Option<String> {
        let _nobody = self.claim().ok()??;
        let address = fs::read_to_string(self.0.join("address")).ok()?;
        Some(address.trim().to_owned())
    }
}

impl Serving {
    /// Tells others where this server can be reached.
    pub(crate) fn announce(&self, url: &str) -> Result<()> {
        self.is_announced.store(true, Ordering::Relaxed);
        fs::write(&self.address, url)
            .with_context(|| format!("cannot write `{}`", self.address.display()))
    }
}

impl Drop for Serving {
    /// A server that ends takes its address along: what stays behind is of one that was killed.
    fn drop(&mut self) {
        if *self.is_announced.get_mut() {
            // Then it says what is not true any more, as after a kill.
            let _ = fs::remove_file(&self.address);
        }
    }
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    writeln!(file, "{text}")?;
    file.sync_all()
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time_and_the_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let serving = data.claim().unwrap().unwrap();
        serving.announce("http://127.0.0.1:1").unwrap();
        assert!(data.claim().unwrap().is_none());
        assert_eq!(data.served_at().as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(data.lost_at(), None);
        drop(serving);
        assert_eq!((data.served_at(), data.lost_at()), (None, None));
        fs::write(folder.path().join("address"), "http://127.0.0.1:1").unwrap();
        assert_eq!(data.served_at(), None);
        assert_eq!(data.lost_at().as_deref(), Some("http://127.0.0.1:1"));
        let key = ApiKey::anonymous();
        assert_eq!(
            data.secret().unwrap().hash(&key),
            data.secret().unwrap().hash(&key)
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_admin_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        data.keep_admin_key(&ApiKey::new("k")).unwrap();
        assert_eq!(data.admin_key(), Some(ApiKey::new("k")));
        let mode = fs::metadata(folder.path().join("admin.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
