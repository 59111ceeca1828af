//! What repeated failures mean for the worker, its models and what it offers beside plain pictures. Pure:
//! the time is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::Timing;
use crate::effort::Extra;
use crate::pacing::doubled;

/// Failures in a row that stop all pops for a while, or one model for longer.
const TOO_MANY: u32 = 3;

/// Pictures of so many pixels are offered whatever happens.
const SMALL: u64 = 512 * 512;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Health {
    in_row: u32,
    by_model: BTreeMap<String, Failures>,
    by_extra: BTreeMap<Extra, u32>,
    quarantined: BTreeMap<String, Instant>,
    benched: BTreeMap<Extra, Instant>,
    /// The largest picture that memory is enough for, in pixels, and until when that is believed.
    outgrown: Option<(u64, Instant)>,
    /// How often in a row what does the work was not there.
    away: u32,
    /// Jobs that were done, whatever the model.
    successes: u64,
    /// Whether the horde ever accepted something from this worker.
    proven: bool,
}

/// Failures of one model since it last did a job.
#[derive(Debug)]
struct Failures {
    count: u32,
    /// Jobs of any model that were done before the last of them.
    seen: u64,
}

/// What failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Blame<'a> {
    /// Nothing that could be left out of the offer.
    Nothing,
    /// The model, or what the job wanted besides.
    Model(&'a str, &'a BTreeSet<Extra>),
    /// The program that does the work said so: it, or the model.
    Program(&'a str),
}

/// What follows from one more failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// Pop nothing until then.
    pub(crate) pause_until: Option<Instant>,
    /// What is offered no more for a while.
    pub(crate) quarantined: Vec<String>,
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
    pub(crate) fn succeeded(&mut self, model: &str, extras: &BTreeSet<Extra>) {
        self.in_row = 0;
        self.away = 0;
        self.successes += 1;
        self.by_model.remove(model);
        self.by_extra.retain(|extra, _| !extras.contains(extra));
    }

    /// A job failed here, not at the horde.
    pub(crate) fn failed(
        &mut self,
        blame: Blame<'_>,
        now: Instant,
        timing: &Timing,
    ) -> Consequence {
        let mut consequence = Consequence::default();
        self.in_row += 1;
        if self.in_row >= TOO_MANY {
            self.in_row = 0;
            consequence.pause_until = Some(now + timing.failure_pause);
        }
        let until = now + timing.quarantine;
        let guilty = match blame {
            Blame::Nothing => None,
            Blame::Model(model, extras) => {
                let benched = self.bench(extras, until);
                if benched.is_empty() {
                    self.is_guilty(model, false).then_some(model)
                } else {
                    // Without them the model may be as good as before.
                    self.by_model.remove(model);
                    consequence.quarantined.extend(benched);
                    None
                }
            }
            Blame::Program(model) => self.is_guilty(model, true).then_some(model),
        };
        if let Some(model) = guilty {
            self.by_model.remove(model);
            self.quarantine(model, until);
            consequence.quarantined.push(model.to_owned());
        }
        consequence
    }

    /// What does the work is not there. That is nobody's failure; nothing is popped until the time that
    /// is returned, which is later each time.
    pub(crate) fn away(&mut self, now: Instant, timing: &Timing) -> Instant {
        self.away = self.away.saturating_add(1);
        now + doubled(timing.outage_first, self.away, timing.outage_last, 0.0)
    }

    /// Counts one more failure with each of these, and takes those out of the offer that had too many.
    fn bench(&mut self, extras: &BTreeSet<Extra>, until: Instant) -> Vec<String> {
        let mut benched = Vec::new();
        for extra in extras {
            let failures = self.by_extra.entry(*extra).or_default();
            *failures += 1;
            if *failures >= TOO_MANY {
                self.by_extra.remove(extra);
                self.benched.insert(*extra, until);
                benched.push(extra.name().to_owned());
            }
        }
        benched
    }

    /// Counts one more failure of a model. What a program reports counts only if it does jobs of other
    /// models in between: otherwise it is the program.
    fn is_guilty(&mut self, model: &str, is_doubtful: bool) -> bool {
        let seen = self.successes;
        let first = || Failures { count: 0, seen };
        let failures = self.by_model.entry(model.to_owned()).or_insert_with(first);
        let others_go_well = seen > failures.seen;
        failures.seen = seen;
        failures.count += u32::from(!is_doubtful || others_go_well);
        failures.count >= TOO_MANY
    }

    /// Memory was not enough for a picture of so many pixels: smaller ones are offered until then. Whether
    /// that changes anything; where memory is not enough for small ones, it is the model.
    pub(crate) fn outgrew(&mut self, pixels: u64, until: Instant) -> bool {
        let most = pixels / 4 * 3;
        if most < SMALL {
            return false;
        }
        let before = self.outgrown.map_or(u64::MAX, |(most, _)| most);
        self.outgrown = Some((most.min(before), until));
        true
    }

    /// The largest picture that may be offered, in pixels, if memory was not enough for larger ones.
    pub(crate) fn max_pixels(&self, now: Instant) -> Option<u64> {
        let (most, _) = self.outgrown.filter(|(_, until)| *until > now)?;
        Some(most)
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

    pub(crate) fn may_offer_extra(&self, extra: Extra, now: Instant) -> bool {
        self.benched.get(&extra).is_none_or(|until| *until <= now)
    }

    /// What is not offered now, and for how long.
    pub(crate) fn quarantines(&self, now: Instant) -> BTreeMap<String, Duration> {
        let models = self.quarantined.iter();
        let models = models.map(|(model, until)| (model.clone(), *until));
        let extras = self.benched.iter();
        let extras = extras.map(|(extra, until)| (extra.name().to_owned(), *until));
        let large = self.outgrown.iter();
        let large = large.map(|(most, until)| (format!("pictures above {most} pixels"), *until));
        models
            .chain(extras)
            .chain(large)
            .filter(|(_, until)| *until > now)
            .map(|(name, until)| (name, until - now))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &BTreeSet<Extra> = &BTreeSet::new();

    fn fails(health: &mut Health, blame: Blame<'_>, now: Instant) -> Consequence {
        health.failed(blame, now, &Timing::default())
    }

    #[test]
    fn three_failures_in_a_row_pause_the_worker_and_the_model() {
        let (timing, now) = (Timing::default(), Instant::now());
        let mut health = Health::default();
        let a = Blame::Model("a", PLAIN);
        assert_eq!(fails(&mut health, a, now), Consequence::default());
        assert_eq!(fails(&mut health, a, now), Consequence::default());
        let third = fails(&mut health, a, now);
        assert_eq!(third.pause_until, Some(now + timing.failure_pause));
        assert_eq!(third.quarantined, ["a"]);
        assert!(!health.may_offer("a", now));
        assert!(health.may_offer("b", now));
        assert_eq!(health.quarantines(now)["a"], timing.quarantine);
        assert!(health.may_offer("a", now + timing.quarantine));
        assert!(health.quarantines(now + timing.quarantine).is_empty());
        let b = Blame::Model("b", PLAIN);
        assert_eq!(fails(&mut health, b, now), Consequence::default());
    }

    #[test]
    fn a_success_between_resets_the_count() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 0..5 {
            fails(&mut health, Blame::Model("a", PLAIN), now);
            fails(&mut health, Blame::Model("b", PLAIN), now);
            health.succeeded("a", PLAIN);
            health.succeeded("b", PLAIN);
        }
        assert!(health.may_offer("a", now) && health.may_offer("b", now));
    }

    #[test]
    fn failures_of_several_models_pause_the_worker_only() {
        let now = Instant::now();
        let mut health = Health::default();
        fails(&mut health, Blame::Model("a", PLAIN), now);
        fails(&mut health, Blame::Model("b", PLAIN), now);
        let third = fails(&mut health, Blame::Model("c", PLAIN), now);
        assert!(third.pause_until.is_some() && third.quarantined.is_empty());
    }

    #[test]
    fn what_fails_with_every_model_is_left_out_and_the_models_stay() {
        let now = Instant::now();
        let mut health = Health::default();
        let extras = [Extra::ControlNet].into();
        for model in ["a", "a", "b"] {
            fails(&mut health, Blame::Model(model, &extras), now);
        }
        assert!(!health.may_offer_extra(Extra::ControlNet, now));
        assert!(health.may_offer_extra(Extra::Lora, now));
        assert!(health.may_offer("a", now) && health.may_offer("b", now));
        let later = now + Timing::default().quarantine;
        assert!(health.may_offer_extra(Extra::ControlNet, later));
    }

    #[test]
    fn a_job_that_goes_well_clears_what_it_wanted() {
        let now = Instant::now();
        let mut health = Health::default();
        let both = [Extra::ControlNet, Extra::Lora].into();
        for _ in 0..2 {
            fails(&mut health, Blame::Model("a", &both), now);
        }
        health.succeeded("b", &[Extra::Lora].into());
        fails(&mut health, Blame::Model("a", &both), now);
        assert!(!health.may_offer_extra(Extra::ControlNet, now));
        assert!(health.may_offer_extra(Extra::Lora, now));
    }

    #[test]
    fn a_program_that_fails_everything_is_not_its_models_fault() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 0..9 {
            let consequence = fails(&mut health, Blame::Program("a"), now);
            assert!(consequence.quarantined.is_empty());
        }
        // If it does others in between, it is this one.
        let mut quarantined = Vec::new();
        for _ in 0..3 {
            health.succeeded("b", PLAIN);
            quarantined = fails(&mut health, Blame::Program("a"), now).quarantined;
        }
        assert_eq!(quarantined, ["a"]);
    }

    #[test]
    fn what_memory_is_not_enough_for_is_not_offered_for_a_while() {
        let (hour, now) = (Duration::from_hours(1), Instant::now());
        let mut health = Health::default();
        assert_eq!(health.max_pixels(now), None);
        assert!(!health.outgrew(512 * 512, now + hour), "it is the model");
        assert_eq!(health.max_pixels(now), None);
        assert!(health.outgrew(2048 * 2048, now + hour));
        assert_eq!(health.max_pixels(now), Some(2048 * 2048 / 4 * 3));
        assert!(health.outgrew(1024 * 1024, now + hour));
        assert!(health.outgrew(2048 * 1024, now + hour));
        assert_eq!(health.max_pixels(now), Some(1024 * 1024 / 4 * 3));
        let told = health.quarantines(now);
        assert_eq!(told["pictures above 786432 pixels"], hour);
        assert_eq!(health.max_pixels(now + hour), None);
    }

    #[test]
    fn a_program_that_is_away_is_left_alone_ever_longer() {
        let (timing, now) = (Timing::default(), Instant::now());
        let mut health = Health::default();
        let mut pause = || (health.away(now, &timing) - now).as_secs();
        assert_eq!([pause(), pause(), pause()], [2, 4, 8]);
        health.succeeded("a", PLAIN);
        assert_eq!((health.away(now, &timing) - now).as_secs(), 2);
        assert!(health.may_offer("a", now));
    }
}
