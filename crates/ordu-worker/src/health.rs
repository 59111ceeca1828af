//! What repeated failures mean for the worker and for its models. Pure: the time is handed in.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::Timing;

/// Failures in a row that stop all pops for a while, or one model for longer.
const TOO_MANY: u32 = 3;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Health {
    in_row: u32,
    by_model: BTreeMap<String, u32>,
    quarantined: BTreeMap<String, Instant>,
    /// Whether the horde ever accepted something from this worker.
    proven: bool,
}

/// What follows from one more failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// Pop nothing until then.
    pub(crate) pause_until: Option<Instant>,
    /// Whether the model is offered no more for a while.
    pub(crate) quarantined: bool,
}

impl Health {
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The horde accepted a result.
    pub(crate) fn delivered(&mut self) {
        self.proven = true;
    }

    /// A job was done wholly.
    pub(crate) fn succeeded(&mut self, model: &str) {
        self.in_row = 0;
        self.by_model.remove(model);
    }

    /// A job failed here, not at the horde; with the model that is to blame, if one is.
    pub(crate) fn failed(
        &mut self,
        model: Option<&str>,
        now: Instant,
        timing: &Timing,
    ) -> Consequence {
        let mut consequence = Consequence::default();
        self.in_row += 1;
        if self.in_row >= TOO_MANY {
            self.in_row = 0;
            consequence.pause_until = Some(now + timing.failure_pause);
        }
        let Some(model) = model else {
            return consequence;
        };
        let failures = self.by_model.entry(model.to_owned()).or_default();
        *failures += 1;
        if *failures >= TOO_MANY {
            self.by_model.remove(model);
            self.quarantine(model, now + timing.quarantine);
            consequence.quarantined = true;
        }
        consequence
    }

    /// Offers a model no more until then.
    pub(crate) fn quarantine(&mut self, model: &str, until: Instant) {
        self.quarantined.insert(model.to_owned(), until);
    }

    pub(crate) fn may_offer(&self, model: &str, now: Instant) -> bool {
        self.quarantined
            .get(model)
            .is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn three_failures_in_a_row_pause_the_worker_and_the_model() {
        let (timing, now) = (Timing::default(), Instant::now());
        let mut health = Health::default();
        assert_eq!(
            health.failed(Some("a"), now, &timing),
            Consequence::default()
        );
        assert_eq!(
            health.failed(Some("a"), now, &timing),
            Consequence::default()
        );
        let third = health.failed(Some("a"), now, &timing);
        assert_eq!(third.pause_until, Some(now + timing.failure_pause));
        assert!(third.quarantined);
        assert!(!health.may_offer("a", now));
        assert!(health.may_offer("b", now));
        assert!(health.may_offer("a", now + timing.quarantine));
        assert_eq!(
            health.failed(Some("b"), now, &timing),
            Consequence::default()
        );
    }

    #[test]
    fn a_success_between_resets_the_count() {
        let (timing, now) = (Timing::default(), Instant::now());
        let mut health = Health::default();
        for _ in 0..5 {
            health.failed(Some("a"), now, &timing);
            health.failed(Some("b"), now, &timing);
            health.succeeded("a");
            health.succeeded("b");
        }
        assert!(health.may_offer("a", now) && health.may_offer("b", now));
    }

    #[test]
    fn failures_of_several_models_pause_the_worker_only() {
        let (timing, now) = (Timing::default(), Instant::now());
        let mut health = Health::default();
        health.failed(Some("a"), now, &timing);
        health.failed(Some("b"), now, &timing);
        let third = health.failed(Some("c"), now + Duration::from_secs(1), &timing);
        assert!(third.pause_until.is_some() && !third.quarantined);
    }
}
