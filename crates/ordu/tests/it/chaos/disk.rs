//! A small disk that can be filled.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder, on a disk of its own where the system lets us mount one.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    /// One of this many MiB.
    pub(crate) fn new(mebibytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: full disks, because none can be mounted here");
        }
        Self { folder, mounted }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it can be filled without harm to others.
    pub(crate) fn can_be_full(&self) -> bool {
        self.mounted
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves no byte.
    pub(crate) fn fill(&self) {
        assert!(self.mounted, "only a disk of our own is filled");
        let mut file = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        // It may never have been filled.
        fs::remove_file(self.ballast()).ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let unmount = Command::new("umount").arg("-l").arg(self.path()).status();
            if !unmount.is_ok_and(|status| status.success()) {
                eprintln!("{} is still mounted", self.path().display());
            }
        }
    }
}
