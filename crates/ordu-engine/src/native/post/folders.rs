//! Where files of post-processors lie, and what to do with those that are not read.

use std::path::{Path, PathBuf};

use super::super::weights::{Entry, TensorFile, Weights};
use crate::EngineError;

/// Folders for such files in a store of models, and in other programs.
const NAMES: [&str; 6] = [
    "esrgan",
    "gfpgan",
    "codeformer",
    "facerestore_models",
    "facedetection",
    "miscellaneous",
];
/// Files that can run code when they are opened.
const PICKLES: [&str; 4] = ["pth", "pt", "ckpt", "bin"];
/// What files put before all names of their tensors, the ones to take first.
const WRAPPINGS: [&str; 6] = [
    "params_ema.",
    "params.",
    "state_dict.",
    "module.",
    "vqvae.",
    "net.",
];

/// What makes a file that can be read of a pickle.
const CONVERT: &str = "python -c \"import sys, torch; from safetensors.torch import save_file; \
    d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); \
    d = next((d[k] for k in ('params_ema', 'params', 'state_dict') if k in d), d); \
    save_file({k: v.clone().contiguous() for k, v in d.items()}, sys.argv[2])\"";

/// Folders in which to look.
#[derive(Clone, Debug, Default)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// The folder of models, those below it, and, where it is `compvis` of a store, those beside it.
    pub fn around(models: Option<&Path>) -> Self {
        let Some(models) = models else {
            return Self::default();
        };
        let mut folders = vec![models.to_owned()];
        folders.extend(NAMES.map(|name| models.join(name)));
        if let Some(store) = models.parent()
            && models.file_name().is_some_and(|name| name == "compvis")
        {
            folders.extend(NAMES.map(|name| store.join(name)));
        }
        Self(folders)
    }

    /// The file of a stem. If there is only a pickle of it, that is a problem, with what to do about it.
    pub fn find(&self, stem: &str, problems: &mut Vec<EngineError>) -> Option<PathBuf> {
        let all = |extension: &str| {
            let name = format!("{stem}.{extension}");
            let mut paths = self.0.iter().map(|folder| folder.join(&name));
            paths.find(|path| path.is_file())
        };
        if let Some(path) = all("safetensors") {
            return Some(path);
        }
        if let Some(pickle) = PICKLES.iter().find_map(|extension| all(extension)) {
            let reason = format!(
                "it can run code when it is opened and is not read. Convert it: {CONVERT} {} {}",
                pickle.display(),
                pickle.with_extension("safetensors").display()
            );
            problems.push(EngineError::bad_model(pickle.display().to_string(), reason));
        }
        None
    }
}

/// The tensors of a file without what is put before all their names.
pub(in crate::native) fn unwrapped(file: &TensorFile) -> Weights {
    let wrapping = WRAPPINGS
        .iter()
        .find(|wrapping| file.entries().any(|(name, _)| name.starts_with(**wrapping)));
    let Some(wrapping) = wrapping else {
        return Weights::from_file(file);
    };
    let own = |(name, entry): (&str, &Entry)| {
        Some((name.strip_prefix(wrapping)?.to_owned(), entry.clone()))
    };
    Weights::from_entries(file.entries().filter_map(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_a_store_and_pickles_are_told() {
        let store = tempfile::tempdir().unwrap();
        let models = store.path().join("compvis");
        let write = |path: &Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        };
        write(&models.join("4x-AnimeSharp.safetensors"));
        write(&store.path().join("gfpgan/GFPGANv1.4.safetensors"));
        write(&store.path().join("gfpgan/GFPGANv1.4.pth"));
        write(&models.join("codeformer/codeformer.pth"));
        let folders = Folders::around(Some(&models));
        let mut problems = Vec::new();
        let mut found = |stem: &str| folders.find(stem, &mut problems);
        assert!(found("4x-AnimeSharp").is_some());
        assert!(
            found("GFPGANv1.4")
                .unwrap()
                .ends_with("gfpgan/GFPGANv1.4.safetensors")
        );
        assert_eq!(found("codeformer"), None);
        assert_eq!(found("RestoreFormer"), None);
        assert_eq!(problems.len(), 1, "the file that is read is enough");
        let said = problems[0].to_string();
        assert!(
            said.contains("codeformer.pth") && said.contains("python -c"),
            "{said}"
        );
        assert!(Folders::around(None).find("u2net", &mut problems).is_none());
    }
}
