//! Jobs that workers took and do not bring back.

use ordu_core::Timestamp;
use ordu_store::{HeldJobs, LATELY, Probe};

use super::database::seconds;
use super::finding::Finding;

/// So many workers are named.
const NAMED: usize = 5;

/// Jobs that are late by now, and those that timed out a short while ago.
pub(super) fn judge(found: &Probe, now: Timestamp) -> Vec<Finding> {
    if found.schema == 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !found.held.is_empty() {
        let told = listed(&found.held, |held| late(held, now));
        let mend = "look whether these workers still run; a job that times out goes to another worker, and \
                    one that is overdue for more than a few seconds means that no server runs (or leads)";
        findings.push(Finding::warning("jobs", told, mend));
    }
    if !found.timed_out.is_empty() {
        let told = format!(
            "timed out within {} minutes: {}",
            LATELY.0 / 60_000,
            listed(&found.timed_out, |(worker, jobs)| format!(
                "{jobs} of `{worker}`"
            ))
        );
        let mend = "their workers vanished with them or are too slow: see `ordu admin worker`, and put \
                    into maintenance those that go on so";
        findings.push(Finding::warning("jobs", told, mend));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("jobs", "none is late"));
    }
    findings
}

fn late(held: &HeldJobs, now: Timestamp) -> String {
    let HeldJobs { worker, jobs, .. } = held;
    let until = if held.until > now {
        format!("times out in {}", seconds(held.until.since(now)))
    } else {
        format!("overdue for {}", seconds(now.since(held.until)))
    };
    let since = seconds(now.since(held.since));
    format!("`{worker}` has {jobs} for {since} ({until})")
}

fn listed<T>(all: &[T], told: impl Fn(&T) -> String) -> String {
    let named: Vec<_> = all.iter().take(NAMED).map(told).collect();
    let named = named.join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more workers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_jobs_are_told_with_their_workers() {
        let now = Timestamp(1_700_000_100_000);
        let held = |until| HeldJobs {
            worker: "painter".to_owned(),
            jobs: 2,
            since: Timestamp(1_700_000_000_000),
            until: Timestamp(until),
        };
        let told = late(&held(1_700_000_150_000), now);
        assert_eq!(
            told,
            "`painter` has 2 for 100.000 s (times out in 50.000 s)"
        );
        let told = late(&held(1_700_000_099_000), now);
        assert_eq!(told, "`painter` has 2 for 100.000 s (overdue for 1.000 s)");
        assert_eq!(
            listed(&[1; 7], ToString::to_string),
            "1, 1, 1, 1, 1 and 2 more workers"
        );
    }
}
