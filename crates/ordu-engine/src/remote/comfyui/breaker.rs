//! Leaves a dead ComfyUI alone for a while, longer each time.

use std::time::{Duration, Instant};

/// How often in a row it did not answer, and when to try again.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// Whether it is to be left alone at this moment.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether the last try failed.
    pub(super) fn is_broken(&self) -> bool {
        self.failures > 0
    }

    /// It did not answer. How long it is left alone: twice as long each time, up to `last`.
    pub(super) fn failed(&mut self, now: Instant, first: Duration, last: Duration) -> Duration {
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(last);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        pause
    }

    /// It answered. Whether that is news.
    pub(super) fn answered(&mut self) -> bool {
        let was_broken = self.is_broken();
        *self = Self::default();
        was_broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_an_answer_ends_them() {
        let (first, last) = (Duration::from_secs(1), Duration::from_secs(5));
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.is_open(now));
        let pauses: Vec<u64> = (0..4)
            .map(|_| breaker.failed(now, first, last).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 5]);
        assert!(breaker.is_open(now + Duration::from_secs(4)));
        assert!(!breaker.is_open(now + Duration::from_secs(5)));
        assert!(breaker.answered());
        assert!(!breaker.answered());
        assert!(!breaker.is_open(now));
    }
}
