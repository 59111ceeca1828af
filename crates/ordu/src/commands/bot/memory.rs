//! What a bot has seen and answered, in a file that survives it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use ordu_api::RequestId;
use ordu_core::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::mastodon::Status;

/// How long what an account asked for counts.
const HOUR: Millis = Millis::from_minutes(60);

/// A mention that is being answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Whose it is.
    pub(super) account: String,
    pub(super) status: Status,
    /// Whether the answer is that it was too many.
    #[serde(default)]
    pub(super) too_many: bool,
    /// What was asked of the horde.
    #[serde(default)]
    pub(super) request: Option<RequestId>,
}

/// What becomes of an account's mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets a picture.
    Welcome,
    /// It is told that it was too many.
    TooMany,
    /// It was told so before.
    Silence,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// The newest notification that was taken.
    since: Option<String>,
    /// By status.
    open: BTreeMap<String, Open>,
    /// When each account asked, in the past hour.
    asked: BTreeMap<String, Vec<i64>>,
}

/// What a bot knows.
pub(super) struct Memory {
    since: Option<String>,
    journal: Journal,
}

/// Writes down how far answers are.
#[derive(Clone)]
pub(super) struct Journal {
    path: PathBuf,
    kept: Arc<Mutex<Kept>>,
}

impl Memory {
    /// Opens a file, which need not be there yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let kept: Kept = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("`{}` is no memory of a bot", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let memory = Self {
            since: kept.since.clone(),
            journal: Journal {
                path: path.to_owned(),
                kept: Arc::new(Mutex::new(kept)),
            },
        };
        // Better now than after the first answer.
        memory.journal.keep()?;
        Ok(memory)
    }

    /// The newest notification that was taken; `None` if this is the first start.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Takes only what comes after a notification.
    pub(super) fn begin_after(&mut self, notification: String) -> Result<()> {
        self.pass(notification)
    }

    /// Does not answer a notification.
    pub(super) fn pass(&mut self, notification: String) -> Result<()> {
        self.since = Some(notification);
        self.journal.kept().since.clone_from(&self.since);
        self.journal.keep()
    }

    /// Answers a notification, sooner or later.
    pub(super) fn take(&mut self, notification: String, open: Open) -> Result<()> {
        let status = open.status.id.clone();
        self.journal.kept().open.entry(status).or_insert(open);
        self.pass(notification)
    }

    /// What is to be answered, oldest first.
    pub(super) fn opened(&self) -> Vec<(String, Open)> {
        let kept = self.journal.kept();
        kept.open
            .iter()
            .map(|(id, open)| (id.clone(), open.clone()))
            .collect()
    }

    /// A status was answered.
    pub(super) fn close(&self, status: &str) -> Result<()> {
        self.journal.kept().open.remove(status);
        self.journal.keep()
    }

    /// Counts a mention of an account that may have `most` pictures in an hour. It is kept with the
    /// next change.
    pub(super) fn count(&self, account: &str, most: usize, now: Timestamp) -> Verdict {
        let mut kept = self.journal.kept();
        let oldest = (now - HOUR).0;
        kept.asked.retain(|_, times| {
            times.retain(|time| *time > oldest);
            !times.is_empty()
        });
        let times = kept.asked.entry(account.to_owned()).or_default();
        let verdict = match times.len() {
            asked if asked < most => Verdict::Welcome,
            asked if asked == most => Verdict::TooMany,
            _ => return Verdict::Silence,
        };
        times.push(now.0);
        verdict
    }

    pub(super) fn journal(&self) -> Journal {
        self.journal.clone()
    }
}

impl Journal {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The horde was asked for a status.
    pub(super) fn asked(&self, status: &str, request: RequestId) -> Result<()> {
        if let Some(open) = self.kept().open.get_mut(status) {
            open.request = Some(request);
        }
        self.keep()
    }

    /// Writes everything down: all of it, or nothing.
    fn keep(&self) -> Result<()> {
        let kept = self.kept();
        let bytes = serde_json::to_vec(&*kept)?;
        let part = self.path.with_extension("part");
        let written = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&part, &self.path)
        };
        written().with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: &str) -> Open {
        Open {
            account: "alice".to_owned(),
            status: Status {
                id: id.to_owned(),
                content: "a cat".to_owned(),
                visibility: "unlisted".to_owned(),
                sensitive: false,
                spoiler_text: String::new(),
                language: None,
            },
            too_many: false,
            request: None,
        }
    }

    #[test]
    fn what_was_taken_is_remembered_until_it_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.json");
        let mut memory = Memory::open(&path).unwrap();
        assert_eq!(memory.since(), None);
        memory.begin_after("5".to_owned()).unwrap();
        memory.take("6".to_owned(), open("60")).unwrap();
        let request: RequestId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        memory.journal().asked("60", request).unwrap();
        drop(memory);
        let mut memory = Memory::open(&path).unwrap();
        assert_eq!(memory.since(), Some("6"));
        // Told twice is asked once.
        memory.take("6".to_owned(), open("60")).unwrap();
        let expected = Open {
            request: Some(request),
            ..open("60")
        };
        assert_eq!(memory.opened(), [("60".to_owned(), expected)]);
        memory.close("60").unwrap();
        assert_eq!(Memory::open(&path).unwrap().opened(), []);
        fs::write(&path, "[").unwrap();
        assert!(Memory::open(&path).is_err());
    }

    #[test]
    fn an_account_gets_so_many_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(&folder.path().join("bot.json")).unwrap();
        let at = |minutes| Timestamp(1_700_000_000_000) + Millis::from_minutes(minutes);
        let count = |minutes| memory.count("alice", 2, at(minutes));
        assert_eq!(count(0), Verdict::Welcome);
        assert_eq!(count(1), Verdict::Welcome);
        assert_eq!(count(2), Verdict::TooMany);
        assert_eq!(count(3), Verdict::Silence);
        assert_eq!(memory.count("bob", 2, at(3)), Verdict::Welcome);
        assert_eq!(count(61), Verdict::Welcome);
    }
}
