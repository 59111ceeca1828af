//! Checksums of files, and the small files beside them that remember one.
//!
//! `model.sha256` holds the checksum of `model.safetensors` and counts as long as the model was not
//! written to after it. All of this blocks.
//!
//! # Source
//! `worker.md` § 3.6.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use md5::Md5;
use sha2::{Digest, Sha256};

/// How much is read at a time.
const CHUNK: usize = 1 << 20;

/// The SHA-256 of a file, remembered or computed, in lower case.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    if let Some(known) = remembered(path) {
        return Ok(known);
    }
    let sum = computed_sha256(path)?;
    remember(path, &sum)?;
    Ok(sum)
}

/// The SHA-256 of a file as it is now, in lower case.
pub(crate) fn computed_sha256(path: &Path) -> io::Result<String> {
    digest::<Sha256>(path)
}

/// The MD5 of a file, in lower case. Against accidents only.
pub(crate) fn md5(path: &Path) -> io::Result<String> {
    digest::<Md5>(path)
}

fn digest<D: Digest>(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = D::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Writes a checksum beside its file.
pub(crate) fn remember(path: &Path, sum: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(beside(path), format!("{sum} *{name}\n"))
}

/// Removes the checksum beside a file, if there is one.
pub(crate) fn forget(path: &Path) {
    if remembered_for(path).is_some() {
        fs::remove_file(beside(path)).ok();
    }
}

/// The checksum beside a file, unless the file was written to after it.
fn remembered(path: &Path) -> Option<String> {
    let written = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if written(path)? > written(&beside(path))? {
        return None;
    }
    remembered_for(path)
}

fn remembered_for(path: &Path) -> Option<String> {
    let text = fs::read_to_string(beside(path)).ok()?;
    let mut words = text.splitn(2, char::is_whitespace);
    let sum = words.next()?.to_ascii_lowercase();
    let about = words
        .next()
        .unwrap_or_default()
        .trim()
        .trim_start_matches('*');
    let name = path.file_name()?.to_string_lossy();
    let is_sum = sum.len() == 64 && sum.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_sum && (about.is_empty() || about == name)).then_some(sum)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn sums_are_those_of_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), OF_ABC);
        assert_eq!(md5(&path).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn a_remembered_sum_counts_until_the_file_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, "abc").unwrap();
        let other = "0".repeat(64);
        remember(&path, &other).unwrap();
        assert_eq!(sha256(&path).unwrap(), other);
        // As if the file had been written to an hour later.
        let sidecar = beside(&path);
        let written = fs::metadata(&sidecar).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(written + std::time::Duration::from_hours(1))
            .unwrap();
        assert_eq!(sha256(&path).unwrap(), OF_ABC);
    }

    #[test]
    fn a_sum_of_another_file_with_the_same_stem_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (model, notes) = (
            folder.path().join("x.safetensors"),
            folder.path().join("x.yaml"),
        );
        fs::write(&model, "abc").unwrap();
        fs::write(&notes, "other").unwrap();
        assert_ne!(sha256(&notes).unwrap(), OF_ABC);
        assert_eq!(sha256(&model).unwrap(), OF_ABC);
    }
}
