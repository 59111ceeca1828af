//! How long answers took, by endpoint, and what went wrong.
//!
//! Where load comes at fixed times, what is noted is the time from when a request was due: a server that
//! stalls is charged with everything that should have happened meanwhile (no coordinated omission).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// What is measured at most, in microseconds.
const LONGEST_MICROS: u64 = 600_000_000;
/// Three digits of each time are kept.
const DIGITS: u8 = 3;

/// The answers of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) times: Histogram<u64>,
    /// By return code, status, or what the connection said.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Everything that was noted in one phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) lines: BTreeMap<&'static str, Line>,
    pub(crate) lifecycles: u64,
    /// The most arrivals that were due and had no connection yet.
    pub(crate) backlog: u64,
}

/// What drivers tell what happened; deaf outside of a phase.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Option<Record>>);

impl Recorder {
    /// Begins a phase.
    pub(crate) fn begin(&self) {
        self.with(|record| *record = Some(Record::default()));
    }

    /// Ends it.
    pub(crate) fn end(&self) -> Record {
        self.with(Option::take).unwrap_or_default()
    }

    /// Notes an answer, right or wrong.
    pub(crate) fn note(&self, endpoint: &'static str, took: Duration, error: Option<&str>) {
        self.with(|record| {
            let Some(line) = record.as_mut().and_then(|record| record.line(endpoint)) else {
                return;
            };
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            line.times.saturating_record(micros.max(1));
            if let Some(error) = error {
                *line.errors.entry(error.to_owned()).or_default() += 1;
            }
        });
    }

    /// Notes a request that went all the way.
    pub(crate) fn note_lifecycle(&self) {
        self.with(|record| {
            if let Some(record) = record {
                record.lifecycles += 1;
            }
        });
    }

    /// Notes how many arrivals wait for a connection.
    pub(crate) fn note_backlog(&self, waiting: usize) {
        self.with(|record| {
            if let Some(record) = record {
                let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
                record.backlog = record.backlog.max(waiting);
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Option<Record>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Record {
    fn line(&mut self, endpoint: &'static str) -> Option<&mut Line> {
        if !self.lines.contains_key(endpoint) {
            // The bounds are constants that it takes.
            let times = Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).ok()?;
            let errors = BTreeMap::new();
            self.lines.insert(endpoint, Line { times, errors });
        }
        self.lines.get_mut(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_outside_of_a_phase_is_not_noted() {
        let recorder = Recorder::default();
        recorder.note("a", Duration::from_millis(1), None);
        recorder.begin();
        recorder.note("a", Duration::from_millis(2), Some("KudosUpfront"));
        recorder.note_lifecycle();
        recorder.note_backlog(3);
        recorder.note_backlog(2);
        let record = recorder.end();
        recorder.note("a", Duration::from_millis(3), None);
        let line = &record.lines["a"];
        assert_eq!((line.times.len(), line.errors["KudosUpfront"]), (1, 1));
        assert!(line.times.max().abs_diff(2_000) <= 2);
        assert_eq!((record.lifecycles, record.backlog), (1, 3));
        assert!(recorder.end().lines.is_empty());
    }

    #[test]
    fn times_beyond_all_bounds_are_kept_as_the_longest() {
        let recorder = Recorder::default();
        recorder.begin();
        recorder.note("a", Duration::from_hours(9), None);
        recorder.note("a", Duration::ZERO, None);
        let times = &recorder.end().lines["a"].times;
        assert_eq!((times.len(), times.min()), (2, 1));
        assert!(times.max() >= LONGEST_MICROS);
    }
}
