//! How much memory this process and the processes that it started take.
//!
//! # Source
//! proc(5): `status`, `children` and `clear_refs`. Where there is no `/proc`, nothing is known.

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
        Self::of("VmRSS:")
    }

    /// What they took at most.
    pub(crate) fn peak() -> Self {
        Self::of("VmHWM:")
    }

    /// Has the most that this process took begin anew. Where that cannot be done, it counts on.
    pub(crate) fn forget_peak() {
        fs::write("/proc/self/clear_refs", "5").ok();
    }

    fn of(field: &str) -> Self {
        let engines: Vec<_> = children()
            .iter()
            .filter_map(|process| resident(process, field))
            .collect();
        Self {
            worker: resident("self", field),
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

fn resident(process: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    read(&status, field)
}

fn read(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_as_the_system_writes_it() {
        let status = "Name:\tordu\nVmHWM:\t   30720 kB\nVmRSS:\t   20480 kB\n";
        assert_eq!(read(status, "VmRSS:"), Some(20 << 20));
        assert_eq!(read(status, "VmHWM:"), Some(30 << 20));
        assert_eq!(read("Name:\tordu\n", "VmRSS:"), None);
    }
}
