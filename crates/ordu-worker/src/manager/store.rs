//! Where model files lie: one or several roots, a folder for each kind of file.
//!
//! For reading the first root that has a file wins; the first root that can be written to receives
//! what is fetched.
//!
//! # Source
//! `worker.md` § 3.5.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{ModelFile, Record};

/// How deep below `cache_home` a store is looked for.
const MAX_DEPTH: usize = 4;

/// How many folders are looked at on the way.
const MAX_FOLDERS: usize = 5_000;

/// A folder of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Folder {
    /// Checkpoints.
    Compvis,
    /// Autoencoders.
    Vae,
    /// Text encoders.
    TextEncoders,
    /// Control networks.
    Controlnet,
    /// Upscalers.
    Esrgan,
    /// Face fixers.
    Gfpgan,
    /// Face fixers.
    Codeformer,
    /// Captioning.
    Blip,
    /// Judging pictures by words.
    Clip,
    /// Judges of pictures.
    SafetyChecker,
    /// Helpers of all kinds.
    Miscellaneous,
    /// LoRAs.
    Lora,
    /// Textual inversions.
    Ti,
    /// Copies of the documents about models.
    Reference,
}

impl Folder {
    /// Its name on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compvis => "compvis",
            Self::Vae => "vae",
            Self::TextEncoders => "text_encoders",
            Self::Controlnet => "controlnet",
            Self::Esrgan => "esrgan",
            Self::Gfpgan => "gfpgan",
            Self::Codeformer => "codeformer",
            Self::Blip => "blip",
            Self::Clip => "clip",
            Self::SafetyChecker => "safety_checker",
            Self::Miscellaneous => "miscellaneous",
            Self::Lora => "lora",
            Self::Ti => "ti",
            Self::Reference => "horde_model_reference",
        }
    }
}

/// Whether the files of a model are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All of them.
    Present,
    /// Some of them.
    Partial,
    /// None of them, or its record names none.
    Missing,
}

impl Presence {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Partial => "partial",
            Self::Missing => "missing",
        }
    }
}

/// The model files of this machine.
#[derive(Debug, Clone)]
pub struct Store {
    roots: Vec<PathBuf>,
    /// Where what is fetched goes.
    home: PathBuf,
}

impl Store {
    /// A store in these places, the first of which comes first, and in further ones that are only read.
    /// Nothing is created before something is fetched.
    ///
    /// # Errors
    /// If `homes` is empty.
    pub fn open(homes: &[PathBuf], read_only: &[PathBuf]) -> Result<Self, String> {
        let homes: Vec<_> = homes.iter().map(|home| root_below(home)).collect();
        let writable = homes.iter().find(|home| is_writable(home));
        let home = writable
            .or(homes.first())
            .ok_or("`cache_home` names no folder")?
            .clone();
        let mut roots = homes;
        roots.extend(read_only.iter().map(|root| root_below(root)));
        Ok(Self { roots, home })
    }

    /// The root that receives what is fetched.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// All roots in the order in which they are read.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// A folder of the root that receives what is fetched.
    pub fn folder(&self, folder: Folder) -> PathBuf {
        self.home.join(folder.as_str())
    }

    /// Where a file lies, if it does. Links count.
    pub fn find(&self, folder: Folder, name: &str) -> Option<PathBuf> {
        let candidates = self
            .roots
            .iter()
            .map(|root| root.join(folder.as_str()).join(name));
        candidates.into_iter().find(|path| is_file(path))
    }

    /// Where a file goes.
    pub fn place(&self, folder: Folder, name: &str) -> PathBuf {
        self.folder(folder).join(name)
    }

    /// Whether the files of a model are there, by their names.
    pub fn presence(&self, record: &Record) -> Presence {
        let there = |file: &&ModelFile| self.find(file.folder, &file.name).is_some();
        match record.files.iter().filter(there).count() {
            0 => Presence::Missing,
            some if some == record.files.len() => Presence::Present,
            _ => Presence::Partial,
        }
    }

    /// Removes the files of a model that lie in the root that receives what is fetched, with their
    /// checksums, unless another model that is `kept` needs them. Returns the bytes that are free now.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove<'a>(
        &self,
        record: &Record,
        kept: impl Iterator<Item = &'a Record>,
    ) -> std::io::Result<u64> {
        let kept: Vec<_> = kept.filter(|other| other.name != record.name).collect();
        let mut freed = 0;
        for file in &record.files {
            let shared = kept.iter().any(|other| {
                let mut files = other.files.iter();
                files.any(|known| (known.folder, &known.name) == (file.folder, &file.name))
            });
            let path = self.place(file.folder, &file.name);
            if shared || !is_file(&path) {
                continue;
            }
            let bytes = fs::metadata(&path)?.len();
            super::checksum::forget(&path);
            fs::remove_file(&path)?;
            freed += bytes;
        }
        Ok(freed)
    }
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0)
}

/// Whether files can be made there, or would be after the folder is made.
fn is_writable(root: &Path) -> bool {
    let existing = root.ancestors().find(|path| path.exists());
    existing
        .and_then(|path| fs::metadata(path).ok())
        .is_some_and(|found| found.is_dir() && !found.permissions().readonly())
}

/// The first folder, breadth first, that looks like a store; `home` itself if none does.
fn root_below(home: &Path) -> PathBuf {
    let mut waiting = VecDeque::from([(home.to_owned(), 0)]);
    let mut seen = 0;
    while let Some((folder, depth)) = waiting.pop_front() {
        seen += 1;
        if folder.join(Folder::Compvis.as_str()).is_dir()
            && folder.join(Folder::Clip.as_str()).is_dir()
        {
            return folder;
        }
        if depth == MAX_DEPTH || seen == MAX_FOLDERS {
            continue;
        }
        let mut below: Vec<_> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort();
        waiting.extend(below.into_iter().map(|path| (path, depth + 1)));
    }
    home.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_found_below_the_folder_that_is_named() {
        let home = tempfile::tempdir().unwrap();
        let empty = Store::open(&[home.path().to_owned()], &[]).unwrap();
        assert_eq!(empty.home(), home.path());
        let deep = home.path().join("a/b");
        for folder in ["compvis", "clip"] {
            fs::create_dir_all(deep.join(folder)).unwrap();
        }
        fs::create_dir_all(home.path().join("a0/compvis")).unwrap();
        let store = Store::open(&[home.path().to_owned()], &[]).unwrap();
        assert_eq!(store.home(), deep);
        assert!(Store::open(&[], &[]).is_err());
    }

    #[test]
    fn the_first_root_that_has_a_file_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roots = [one.path().to_owned(), two.path().to_owned()];
        let store = Store::open(&roots[..1], &roots[1..]).unwrap();
        let put = |root: &Path| {
            fs::create_dir_all(root.join("vae")).unwrap();
            fs::write(root.join("vae/x"), "x").unwrap();
        };
        assert_eq!(store.find(Folder::Vae, "x"), None);
        put(two.path());
        assert_eq!(store.find(Folder::Vae, "x"), Some(two.path().join("vae/x")));
        put(one.path());
        assert_eq!(store.find(Folder::Vae, "x"), Some(one.path().join("vae/x")));
        assert_eq!(store.place(Folder::Vae, "y"), one.path().join("vae/y"));
    }
}
