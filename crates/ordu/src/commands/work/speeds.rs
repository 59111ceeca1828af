//! What a worker has learned of its speed, from one start to the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file in the folder of models: seconds per megapixelstep, by model.
#[derive(Debug, Clone)]
pub(crate) struct SpeedFile(PathBuf);

/// Its name there.
const NAME: &str = "ordu-speeds.json";

/// Models that are remembered.
const MAX_MODELS: usize = 1000;

impl SpeedFile {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.join(NAME))
    }

    /// What is known; nothing if there is no such file, or if it cannot be read.
    pub(crate) fn read(&self) -> BTreeMap<String, f64> {
        let text = std::fs::read(&self.0).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Adds what was learned. Without it, the next start learns it again.
    pub(crate) fn keep(&self, learned: BTreeMap<String, f64>) {
        if learned.is_empty() {
            return;
        }
        let mut known = self.read();
        known.extend(learned);
        while known.len() > MAX_MODELS {
            known.pop_first();
        }
        let written = serde_json::to_vec_pretty(&known).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|text| std::fs::write(&self.0, text)) {
            tracing::warn!(%error, "what was learned about speeds is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_adds_to_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = SpeedFile::new(folder.path());
        assert!(file.read().is_empty());
        let of = |name: &str, rate| BTreeMap::from([(name.to_owned(), rate)]);
        file.keep(of("a", 1.5));
        file.keep(of("b", 2.0));
        file.keep(of("a", 2.5));
        file.keep(BTreeMap::new());
        let known = file.read();
        assert_eq!(known.len(), 2);
        assert!((known["a"] - 2.5).abs() < f64::EPSILON);
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(file.read().is_empty());
    }
}
