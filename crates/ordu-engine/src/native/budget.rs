//! How much memory weights may take. The sums are pure; what there is, the system says.
//!
//! # Source
//! `worker.md` § 3.7, 1.21; proc(5) `meminfo`; the kernel's `cgroup-v2`, `memory.max`.

use std::fmt;
use std::str::FromStr;

use super::Compute;

/// What weights may take where nobody knows how much there is, in bytes.
const BLIND: u64 = 8 << 30;

/// The part of the computer's memory that they take by themselves, in percent.
const RAM_SHARE: u8 = 60;

/// The same of a card's. The rest is for what is computed with them.
const CARD_SHARE: u8 = 70;

/// What weights may take of one kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// What leaves enough for everything else.
    #[default]
    Auto,
    /// So much of what there is, in percent.
    Share(u8),
    /// So much, in MiB.
    Megabytes(u64),
    /// What is left when so much stays free, in MiB.
    AllBut(u64),
}

/// What weights may take, by where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// In the computer's own memory.
    pub ram: Budget,
    /// In an accelerator's.
    pub vram: Budget,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.trim().parse::<u64>().ok();
        let budget = if text == "auto" {
            Some(Self::Auto)
        } else if let Some(share) = text.strip_suffix('%') {
            let share = share.trim().parse().ok();
            share
                .filter(|share| (1..=100).contains(share))
                .map(Self::Share)
        } else if let Some(free) = text.strip_prefix("free:") {
            number(free).map(Self::AllBut)
        } else {
            number(text).filter(|size| *size > 0).map(Self::Megabytes)
        };
        budget.ok_or_else(|| {
            format!(
                "`{text}` is no amount of memory: use `auto`, `60%`, `4000` (MiB) or `free:2000` (all \
                 but 2000 MiB)"
            )
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Share(share) => write!(f, "{share}%"),
            Self::Megabytes(size) => write!(f, "{size}"),
            Self::AllBut(free) => write!(f, "free:{free}"),
        }
    }
}

impl Budget {
    /// In bytes, of so many; `usual` is the part that is taken by itself, in percent.
    fn bytes(self, total: Option<u64>, usual: u8) -> u64 {
        let share = |percent: u8| total.map_or(BLIND, |total| total / 100 * u64::from(percent));
        match self {
            Self::Auto => share(usual),
            Self::Share(percent) => share(percent),
            Self::Megabytes(size) => size.saturating_mul(1 << 20),
            Self::AllBut(free) => {
                let free = free.saturating_mul(1 << 20);
                total.map_or(BLIND, |total| total.saturating_sub(free))
            }
        }
    }
}

impl Budgets {
    /// What may lie where a device computes, in bytes.
    pub(super) fn of(self, compute: &Compute) -> u64 {
        if compute.device().is_cpu() {
            self.ram.bytes(physical(), RAM_SHARE)
        } else {
            self.vram.bytes(compute.total_bytes(), CARD_SHARE)
        }
    }
}

/// The memory that this process may use, in bytes: that of the computer, or less in a container.
fn physical() -> Option<u64> {
    let read = |path| std::fs::read_to_string(path).ok();
    let there = read("/proc/meminfo").and_then(|text| total_of(&text));
    let lent: Option<u64> =
        read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    match (there, lent) {
        (Some(there), Some(lent)) => Some(lent.min(there)),
        (there, lent) => there.or(lent),
    }
}

/// `MemTotal`, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_written_as_it_is_read() {
        for text in ["auto", "60%", "4000", "free:2000", "free:0"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        for wrong in ["", "0", "0%", "101%", "-1", "4GB", "free:", "free:20%"] {
            let said = wrong.parse::<Budget>().unwrap_err();
            assert!(said.contains(&format!("`{wrong}`")), "{said}");
        }
    }

    #[test]
    fn a_budget_is_a_part_of_what_there_is() {
        let ten = Some(10 << 30);
        let gib = |budget: Budget, total| budget.bytes(total, 60) >> 30;
        assert_eq!(gib(Budget::Auto, Some(100 << 30)), 60);
        assert_eq!(gib(Budget::Share(50), ten), 4, "rounded down");
        assert_eq!(gib(Budget::Megabytes(3 << 10), ten), 3);
        assert_eq!(gib(Budget::AllBut(4 << 10), ten), 6);
        assert_eq!(Budget::AllBut(u64::MAX).bytes(ten, 60), 0);
        for unknown in [Budget::Auto, Budget::Share(10), Budget::AllBut(1)] {
            assert_eq!(unknown.bytes(None, 60), BLIND);
        }
    }

    #[test]
    fn the_memory_of_the_computer_is_read_as_the_system_writes_it() {
        let text = "MemTotal:       16384 kB\nMemFree:        1 kB\n";
        assert_eq!(total_of(text), Some(16 << 20));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
    }
}
