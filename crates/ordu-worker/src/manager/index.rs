//! The add-ons that are here: an index on disk, and which of them go when room is needed.
//!
//! Several workers may share it: it is read anew each time, and changed under a lock and at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::civitai::Asked;
use super::lock::{Hold, Lock};
use super::similar::similarity;
use super::sources::replace;

/// An add-on that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) model_id: u64,
    pub(crate) version_id: u64,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) base_model: String,
    #[serde(default)]
    pub(crate) triggers: Vec<String>,
    #[serde(default)]
    pub(crate) nsfw: bool,
    pub(crate) file: String,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// Grows with each use of any of them.
    #[serde(default)]
    pub(crate) used: u64,
    /// Whether it is one of the defaults, which stay and do not count against the budget.
    #[serde(default)]
    pub(crate) curated: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) entries: Vec<Entry>,
}

impl Index {
    /// Reads it. One that cannot be read is as good as none: the files will be found again.
    pub(crate) fn read(path: &Path) -> Self {
        let Ok(text) = std::fs::read(path) else {
            return Self::default();
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "an index of add-ons is not readable and starts anew");
            Self::default()
        })
    }

    /// Changes it, alone among all workers.
    pub(crate) async fn change<T>(
        path: &Path,
        act: impl FnOnce(&mut Self) -> T,
    ) -> std::io::Result<T> {
        let _lock = Lock::of(path, Hold::Alone).await?;
        let mut index = Self::read(path);
        let before = index.clone();
        let result = act(&mut index);
        if index != before {
            replace(path, &serde_json::to_vec_pretty(&index)?)?;
        }
        Ok(result)
    }

    /// Adds one, in the place of an older one of the same version, as the one that was used last.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let version = entry.version_id;
        self.entries.retain(|known| known.version_id != version);
        self.entries.push(entry);
        self.touch(version);
    }

    /// Remembers that one is used.
    pub(crate) fn touch(&mut self, version: u64) {
        let next = self.entries.iter().map(|entry| entry.used).max();
        let next = next.unwrap_or_default().saturating_add(1);
        for entry in &mut self.entries {
            if entry.version_id == version {
                entry.used = next;
            }
        }
    }

    /// The one that is meant: a version by its id, a model by its id or the like of its name. Of
    /// several versions the highest.
    pub(crate) fn find(&self, asked: &Asked, alike: f64) -> Option<&Entry> {
        let best = |fits: &dyn Fn(&Entry) -> bool| {
            let fitting = self.entries.iter().filter(|entry| fits(entry));
            fitting.max_by_key(|entry| entry.version_id)
        };
        match asked {
            Asked::Version(id) => best(&|entry| entry.version_id == *id),
            Asked::Model(id) => best(&|entry| entry.model_id == *id),
            Asked::Name(name) => {
                let plain = name.to_lowercase();
                best(&|entry| entry.name == *name)
                    .or_else(|| best(&|entry| entry.name.to_lowercase() == plain))
                    .or_else(|| best(&|entry| entry.name.to_lowercase().contains(&plain)))
                    .or_else(|| best(&|entry| similarity(&entry.name, name) > alike))
            }
        }
    }

    /// The versions that must go so that `incoming` bytes fit into `budget`, the longest unused first.
    /// `None` if not enough of them may go.
    pub(crate) fn to_evict(
        &self,
        budget: u64,
        incoming: u64,
        pinned: &BTreeSet<u64>,
    ) -> Option<Vec<u64>> {
        let counted = || self.entries.iter().filter(|entry| !entry.curated);
        let held: u64 = counted().map(|entry| entry.bytes).sum();
        let mut surplus = held.saturating_add(incoming).saturating_sub(budget);
        let mut loose: Vec<_> = counted()
            .filter(|entry| !pinned.contains(&entry.version_id))
            .collect();
        loose.sort_by_key(|entry| (entry.used, entry.version_id));
        let mut evicted = Vec::new();
        for entry in loose {
            if surplus == 0 {
                break;
            }
            surplus = surplus.saturating_sub(entry.bytes);
            evicted.push(entry.version_id);
        }
        (surplus == 0).then_some(evicted)
    }
}

/// Keeps a file from being evicted, by this or any other worker, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    _lock: Lock,
}

impl Pin {
    /// Pins a file. It may have been evicted the moment before.
    pub(crate) async fn new(file: &Path) -> std::io::Result<Self> {
        let lock = Lock::of(&pin_of(file), Hold::Shared).await?;
        Ok(Self { _lock: lock })
    }

    /// The right to evict a file, unless somebody uses it.
    pub(crate) fn evicting(file: &Path) -> std::io::Result<Option<Self>> {
        let lock = Lock::try_of(&pin_of(file), Hold::Alone)?;
        Ok(lock.map(|lock| Self { _lock: lock }))
    }
}

fn pin_of(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{name}.pin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(version_id: u64, name: &str) -> Entry {
        Entry {
            model_id: version_id / 10,
            version_id,
            name: name.to_owned(),
            base_model: String::new(),
            triggers: Vec::new(),
            nsfw: false,
            file: String::new(),
            sha256: String::new(),
            bytes: 1,
            used: 0,
            curated: false,
        }
    }

    #[test]
    fn names_are_found_exactly_first_and_alike_last() {
        let index = Index {
            entries: vec![
                entry(11, "Detail Tweaker"),
                entry(12, "Detail Tweaker"),
                entry(21, "detail"),
                entry(31, "Add More Details"),
            ],
        };
        let found = |asked: &Asked| index.find(asked, 90.0).map(|entry| entry.version_id);
        let named = |name: &str| found(&Asked::Name(name.to_owned()));
        assert_eq!(found(&Asked::Version(11)), Some(11));
        assert_eq!(found(&Asked::Model(1)), Some(12));
        assert_eq!(named("Detail Tweaker"), Some(12));
        assert_eq!(named("DETAIL"), Some(21));
        assert_eq!(named("more detail"), Some(31));
        assert_eq!(named("Detial Tweaker"), Some(12));
        assert_eq!(named("Something else"), None);
    }

    proptest! {
        #[test]
        fn the_longest_unused_go_and_no_more_than_needed(
            sizes in prop::collection::vec((1_u64..100, 0_u64..50, any::<bool>(), any::<bool>()), 0..12),
            budget in 0_u64..400,
            incoming in 0_u64..200,
        ) {
            let mut index = Index::default();
            let mut pinned = BTreeSet::new();
            for (id, (bytes, used, pin, curated)) in (1..).zip(&sizes) {
                index.entries.push(Entry { bytes: *bytes, used: *used, curated: *curated, ..entry(id, "") });
                if *pin { pinned.insert(id); }
            }
            let held = |gone: &[u64]| -> u64 {
                let kept = index.entries.iter().filter(|entry| !entry.curated && !gone.contains(&entry.version_id));
                kept.map(|entry| entry.bytes).sum()
            };
            let Some(gone) = index.to_evict(budget, incoming, &pinned) else {
                let stuck = index.entries.iter()
                    .filter(|entry| !entry.curated && pinned.contains(&entry.version_id));
                prop_assert!(stuck.map(|entry| entry.bytes).sum::<u64>() + incoming > budget);
                return Ok(());
            };
            prop_assert!(held(&gone) + incoming <= budget);
            prop_assert!(gone.iter().all(|id| !pinned.contains(id)));
            if let Some((_, all_but_one)) = gone.split_last() {
                prop_assert!(held(all_but_one) + incoming > budget);
            }
            let by_id = |id: u64| index.entries.iter().find(|entry| entry.version_id == id).unwrap();
            let youngest = gone.iter().map(|id| by_id(*id).used).max();
            for kept in &index.entries {
                let may_go = !kept.curated && !pinned.contains(&kept.version_id);
                if may_go && !gone.contains(&kept.version_id) {
                    prop_assert!(youngest.is_none_or(|youngest| kept.used >= youngest));
                }
            }
        }
    }

    #[tokio::test]
    async fn many_who_change_it_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lora.json");
        let changes =
            (1..=20).map(|id| Index::change(&path, move |index| index.insert(entry(id, "x"))));
        for changed in futures::future::join_all(changes).await {
            changed.unwrap();
        }
        let index = Index::read(&path);
        assert_eq!(index.entries.len(), 20);
        let uses: BTreeSet<_> = index.entries.iter().map(|entry| entry.used).collect();
        assert_eq!(uses.len(), 20);
    }

    #[tokio::test]
    async fn a_pinned_file_is_not_evicted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.safetensors");
        let pin = Pin::new(&file).await.unwrap();
        assert!(Pin::evicting(&file).unwrap().is_none());
        drop(pin);
        let evicting = Pin::evicting(&file).unwrap().unwrap();
        let pinning = Pin::new(&file);
        futures::pin_mut!(pinning);
        assert!(futures::poll!(&mut pinning).is_pending());
        drop(evicting);
        pinning.await.unwrap();
    }
}
