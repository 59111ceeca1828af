//! How fast the steps of one job come, and how long the rest of them will take. Pure.
//!
//! # Source
//! `worker.md` § 1.12.

use std::time::Duration;

use tokio::time::Instant;

/// Steps that must have come before anything is said about the rest.
const ENOUGH: u32 = 3;

/// The steps of one job.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The first step: what came before it was no sampling.
    first: Option<(Instant, u32)>,
    last: Option<(Instant, u32)>,
    of: u32,
}

impl Pace {
    pub(crate) fn step(&mut self, step: u32, of: u32, now: Instant) {
        // A second pass counts anew.
        if self.of != of || self.last.is_some_and(|(_, before)| step < before) {
            *self = Self::default();
        }
        self.first.get_or_insert((now, step));
        self.last = Some((now, step));
        self.of = of;
    }

    /// How long the steps that are missing will take at least.
    fn remaining(&self) -> Option<Duration> {
        let ((began, first), (ended, last)) = self.first.zip(self.last)?;
        let steps = last.checked_sub(first).filter(|steps| *steps >= ENOUGH)?;
        let each = ended.saturating_duration_since(began) / steps;
        Some(each * self.of.saturating_sub(last))
    }

    /// Whether the steps cannot all come in time.
    pub(crate) fn is_hopeless(&self, end: Instant) -> bool {
        let Some((at, _)) = self.last else {
            return false;
        };
        self.remaining().is_some_and(|rest| at + rest > end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(steps: u32, each: Duration) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for step in 1..=steps {
            pace.step(step, 20, start + each * step);
        }
        (pace, start)
    }

    #[test]
    fn a_job_is_hopeless_if_its_steps_cannot_come_in_time() {
        let second = Duration::from_secs(1);
        let (pace, start) = paced(10, second * 10);
        assert!(pace.is_hopeless(start + second * 199));
        assert!(!pace.is_hopeless(start + second * 200));
    }

    #[test]
    fn nothing_is_said_before_there_are_steps() {
        let (pace, start) = paced(3, Duration::from_hours(1));
        assert!(!pace.is_hopeless(start));
        assert!(!Pace::default().is_hopeless(start));
    }

    #[test]
    fn a_second_pass_begins_anew() {
        let (mut pace, start) = paced(20, Duration::from_secs(1));
        pace.step(1, 10, start + Duration::from_mins(1));
        assert!(!pace.is_hopeless(start));
    }
}
