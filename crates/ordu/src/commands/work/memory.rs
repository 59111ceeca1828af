//! How much memory this process and the processes that it started take.
//!
//! # Source
//! proc(5): `status` and `children`. Where there is no `/proc`, nothing is known.

use std::fs;
use std::path::Path;

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// This process.
    pub(crate) worker: Option<u64>,
    /// The processes that it started: engines.
    pub(crate) engine: Option<u64>,
}

impl Memory {
    /// What they take now.
    pub(crate) fn now() -> Self {
        let engines: Vec<_> = children()
            .iter()
            .filter_map(|process| resident(process))
            .collect();
        Self {
            worker: resident("self"),
            engine: (!engines.is_empty()).then(|| engines.iter().sum()),
        }
    }
}

/// The processes that any thread of this one started.
fn children() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let ids = lists.map(|list| {
        list.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    ids.flatten().collect()
}

fn resident(process: &str) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    read(&status)
}

fn read(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_as_the_system_writes_it() {
        assert_eq!(read("Name:\tordu\nVmRSS:\t   20480 kB\n"), Some(20 << 20));
        assert_eq!(read("Name:\tordu\n"), None);
    }
}
