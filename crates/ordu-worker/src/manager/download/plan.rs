//! What has come of a file and what has not: written beside the unfinished file, so that a later run
//! goes on where this one stopped.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The next byte that is missing.
    pub(crate) at: u64,
    /// The byte after the last one, unless nobody knows the size.
    pub(crate) end: Option<u64>,
    /// Whether all of it has come.
    pub(crate) done: bool,
}

/// How a file is being fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What the server calls this state of the file.
    pub(crate) etag: Option<String>,
    /// The size of the file, in bytes.
    pub(crate) total: Option<u64>,
    pub(crate) segments: Vec<Segment>,
}

impl Plan {
    /// A file that comes in one go, of which `at` bytes are there.
    pub(crate) fn whole(etag: Option<String>, total: Option<u64>, at: u64) -> Self {
        let segment = Segment {
            at,
            end: total,
            done: total == Some(at),
        };
        Self {
            etag,
            total,
            segments: vec![segment],
        }
    }

    /// A file in at most `most` stretches of at least `least` bytes.
    pub(crate) fn split(etag: Option<String>, total: u64, most: u64, least: u64) -> Self {
        let count = (total / least.max(1)).clamp(1, most.max(1));
        let step = total.div_ceil(count);
        let segments = (0..count).map(|place| {
            let at = (place * step).min(total);
            let end = ((place + 1) * step).min(total);
            Segment {
                at,
                end: Some(end),
                done: at == end,
            }
        });
        Self {
            etag,
            total: Some(total),
            segments: segments.collect(),
        }
    }

    /// What an earlier run left. A part without a plan is believed if its checksum will tell.
    pub(crate) fn of(part: &Path, will_be_checked: bool) -> Option<Self> {
        let length = fs::metadata(part).ok()?.len();
        let written = fs::read(beside(part)).ok();
        let plan: Option<Self> = written.and_then(|text| serde_json::from_slice(&text).ok());
        match plan {
            Some(plan) => plan.is_possible(length).then_some(plan),
            None => (will_be_checked && length > 0).then(|| Self::whole(None, None, length)),
        }
    }

    /// Whether a part of this length may have come of it.
    fn is_possible(&self, length: u64) -> bool {
        let mut start = 0;
        let in_order = self.segments.iter().all(|segment| {
            let end = segment.end.unwrap_or(u64::MAX);
            let is_inside = segment.at >= start && segment.at <= end;
            // What is said to have come must be there.
            let is_there = segment.at == start || segment.at <= length;
            start = end;
            is_inside && is_there
        });
        let last = self.segments.last();
        in_order && last.is_some_and(|last| self.total.is_none() || last.end == self.total)
    }

    /// Writes it beside the unfinished file.
    pub(crate) fn save(&self, part: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        fs::write(beside(part), text)
    }

    /// Removes an unfinished file and what was planned.
    pub(crate) fn discard(part: &Path) {
        fs::remove_file(part).ok();
        Self::forget(part);
    }

    /// Removes what was planned.
    pub(crate) fn forget(part: &Path) {
        fs::remove_file(beside(part)).ok();
    }

    pub(crate) fn is_done(&self) -> bool {
        self.segments.iter().all(|segment| segment.done)
    }

    /// Bytes that are missing, if the size is known.
    pub(crate) fn missing(&self) -> Option<u64> {
        let left = |segment: &Segment| segment.end.map(|end| end.saturating_sub(segment.at));
        self.segments.iter().map(left).sum()
    }
}

fn beside(part: &Path) -> PathBuf {
    let name = part.file_name().unwrap_or_default().to_string_lossy();
    part.with_file_name(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn segments_cover_the_file_once(total in 0_u64..5_000, most in 0_u64..9, least in 0_u64..600) {
            let plan = Plan::split(None, total, most, least);
            let mut next = 0;
            for segment in &plan.segments {
                prop_assert_eq!(segment.at, next);
                next = segment.end.unwrap();
            }
            prop_assert_eq!(next, total);
            prop_assert_eq!(plan.missing(), Some(total));
            prop_assert!(plan.segments.len() as u64 <= most.max(1));
            prop_assert!(plan.is_possible(0));
        }
    }

    #[test]
    fn a_plan_that_does_not_match_its_part_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("x.part");
        assert_eq!(Plan::of(&part, true), None);
        fs::write(&part, "12345").unwrap();
        assert_eq!(Plan::of(&part, false), None);
        assert_eq!(Plan::of(&part, true), Some(Plan::whole(None, None, 5)));
        let plan = Plan::whole(Some("\"e\"".to_owned()), Some(9), 5);
        plan.save(&part).unwrap();
        assert_eq!(Plan::of(&part, false), Some(plan));
        Plan::whole(None, Some(9), 6).save(&part).unwrap();
        assert_eq!(Plan::of(&part, true), None);
        let mut split = Plan::split(None, 9, 2, 1);
        split.save(&part).unwrap();
        assert!(Plan::of(&part, true).is_some());
        split.segments[1].at = 8;
        split.save(&part).unwrap();
        assert_eq!(Plan::of(&part, true), None, "nothing is there at 8");
        fs::write(beside(&part), "{").unwrap();
        assert_eq!(Plan::of(&part, false), None);
    }
}
