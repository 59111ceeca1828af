//! Whose turn it is: jobs that were popped and wait for the engine. The choice is pure.
//!
//! Strictly first come, first served, but for one thing: while the first job still has files fetched, a
//! light one behind it may go, if that loads no other model. A batch and a model that fills the card run
//! alone.
//!
//! # Source
//! `worker.md` § 1.8. Its rule that only jobs with *another* model may overtake is one of its processes;
//! here one engine serves all, so the model must be one that lies in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Config;
use crate::effort::light;

/// A job that waits.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Who was popped first goes first.
    pub(crate) popped: Instant,
    /// What it draws with, if it draws; what forms need is small.
    pub(crate) model: Option<String>,
    pub(crate) effort: f64,
    /// Whether it brings files that change the model.
    pub(crate) has_addons: bool,
    /// Whether nothing may run beside it.
    pub(crate) exclusive: bool,
}

/// What limits the choice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Devices. Who runs alone is alone on one of them.
    pub(crate) devices: usize,
    /// Jobs at the same time on each.
    pub(crate) threads: usize,
    /// Effort of a job that may overtake another.
    pub(crate) light: f64,
}

impl Rules {
    /// Those of the settings.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            devices: config.devices() as usize,
            threads: config.threads() as usize,
            light: light(config.haste),
        }
    }
}

/// A job in the line. Whatever ids hordes give, the number is its own.
#[derive(Debug)]
struct Place {
    number: u64,
    job: Entry,
    /// Whether everything that it needs is here.
    is_ready: bool,
    /// Where it runs, if it does. Which device that is, the engine says: it spreads tasks in the same way.
    device: usize,
}

#[derive(Debug, Default)]
struct Line {
    /// In their order.
    waiting: Vec<Place>,
    running: Vec<Place>,
    /// Models in memory, as far as anybody knows.
    loaded: BTreeSet<String>,
    /// How many have joined.
    joined: u64,
}

impl Line {
    /// Who may go, and where.
    fn next(&self, rules: Rules) -> Option<(u64, usize)> {
        let (first, behind) = self.waiting.split_first()?;
        if first.is_ready {
            // Who waits for the others to end is overtaken by nobody, or it would wait for ever.
            let device = self.device_for(&first.job, rules)?;
            return Some((first.number, device));
        }
        let at_hand = |model: &Option<String>| {
            let is_loaded = |model: &String| self.loaded.contains(model);
            self.loaded.is_empty() || model.as_ref().is_none_or(is_loaded)
        };
        let quick = behind.iter().filter(|Place { job, is_ready, .. }| {
            *is_ready && !job.has_addons && job.effort <= rules.light && at_hand(&job.model)
        });
        let mut free = quick.filter_map(|place| {
            let device = self.device_for(&place.job, rules)?;
            Some((place.number, device))
        });
        free.next()
    }

    /// The device with the fewest jobs, of those that could take one more.
    fn device_for(&self, job: &Entry, rules: Rules) -> Option<usize> {
        let there = |device| self.running.iter().filter(move |job| job.device == device);
        let could = |device: &usize| {
            let count = there(*device).count();
            let is_closed = there(*device).any(|place| place.job.exclusive);
            count < rules.threads && !is_closed && (count == 0 || !job.exclusive)
        };
        let open = (0..rules.devices).filter(could);
        open.min_by_key(|device| there(*device).count())
    }

    /// Takes a place, and returns its number.
    fn join(&mut self, job: Entry) -> u64 {
        self.joined += 1;
        let place = Place {
            number: self.joined,
            job,
            is_ready: false,
            device: 0,
        };
        let later = |other: &Place| other.job.popped > place.job.popped;
        let at = self.waiting.iter().position(later);
        self.waiting.insert(at.unwrap_or(self.waiting.len()), place);
        self.joined
    }

    fn ready(&mut self, number: u64) {
        let mut places = self.waiting.iter_mut();
        if let Some(place) = places.find(|place| place.number == number) {
            place.is_ready = true;
        }
    }

    fn start(&mut self, number: u64, device: usize) {
        let mut places = self.waiting.iter();
        if let Some(at) = places.position(|place| place.number == number) {
            let place = self.waiting.remove(at);
            self.running.push(Place { device, ..place });
        }
    }

    fn leave(&mut self, number: u64) {
        self.waiting.retain(|place| place.number != number);
        self.running.retain(|place| place.number != number);
    }
}

/// The line of a worker, for all that the device does. Clones are the same line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    changed: watch::Sender<()>,
}

/// A place in the line, and afterwards at the engine. Dropped, the job has left.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    number: u64,
}

impl Turns {
    /// Takes a place.
    pub(crate) fn join(&self, entry: Entry) -> Turn {
        Turn {
            turns: self.clone(),
            number: self.line().join(entry),
        }
    }

    /// The rules have changed: whoever waits looks again.
    pub(crate) fn stir(&self) {
        self.0.changed.send_replace(());
    }

    /// What lies in memory now.
    pub(crate) fn loaded(&self, models: BTreeSet<String>) {
        self.line().loaded = models;
        self.0.changed.send_replace(());
    }

    /// What lay in memory when that was last told.
    pub(crate) fn held(&self) -> BTreeSet<String> {
        self.line().loaded.clone()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // What is known stays true if somebody panicked.
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Everything that the job needs is here: waits until it may go.
    pub(crate) async fn comes(&self, rules: impl Fn() -> Rules) {
        let mut changes = self.turns.0.changed.subscribe();
        self.turns.line().ready(self.number);
        self.turns.0.changed.send_replace(());
        loop {
            changes.mark_unchanged();
            {
                let mut line = self.turns.line();
                if let Some((number, device)) = line.next(rules())
                    && number == self.number
                {
                    line.start(number, device);
                    drop(line);
                    // There may be room for another.
                    self.turns.0.changed.send_replace(());
                    return;
                }
            }
            // The sender is part of `self`, so it cannot be gone.
            drop(changes.changed().await);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.line().leave(self.number);
        self.turns.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn entry(start: Instant, number: u64) -> Entry {
        Entry {
            popped: start + Duration::from_secs(number),
            model: Some("m".to_owned()),
            effort: 1.0,
            has_addons: false,
            exclusive: false,
        }
    }

    const TWO: Rules = Rules {
        devices: 1,
        threads: 2,
        light: 25.0,
    };

    #[test]
    fn the_first_goes_first_unless_it_waits_for_files() {
        let start = Instant::now();
        let mut line = Line::default();
        // Whoever starts later may join earlier.
        let [second, first, third] = [2, 1, 3].map(|number| line.join(entry(start, number)));
        assert_eq!(line.next(TWO), None);
        line.ready(third);
        assert_eq!(
            line.next(TWO),
            Some((third, 0)),
            "light, and it loads nothing"
        );
        line.ready(second);
        assert_eq!(line.next(TWO), Some((second, 0)));
        line.ready(first);
        assert_eq!(line.next(TWO), Some((first, 0)));
        line.start(first, 0);
        assert_eq!(line.next(TWO), Some((second, 0)));
        line.start(second, 0);
        assert_eq!(line.next(TWO), None, "both threads are taken");
        line.leave(first);
        assert_eq!(line.next(TWO), Some((third, 0)));
    }

    #[test]
    fn heavy_jobs_and_those_that_load_something_overtake_nobody() {
        let start = Instant::now();
        let overtakes = |change: &dyn Fn(&mut Entry), loaded: &[&str]| {
            let mut line = Line::default();
            line.join(entry(start, 1));
            let mut second = entry(start, 2);
            change(&mut second);
            let number = line.join(second);
            line.ready(number);
            line.loaded = loaded.iter().map(|name| (*name).to_owned()).collect();
            line.next(TWO).is_some()
        };
        assert!(overtakes(&|_| {}, &[]) && overtakes(&|_| {}, &["m"]));
        assert!(!overtakes(&|_| {}, &["other"]));
        assert!(overtakes(&|job| job.model = None, &["other"]), "a form");
        assert!(!overtakes(&|job| job.effort = 26.0, &[]));
        assert!(!overtakes(&|job| job.has_addons = true, &[]));
    }

    #[test]
    fn a_batch_waits_until_it_is_alone_and_stays_so() {
        let start = Instant::now();
        let mut line = Line::default();
        for number in 1..=3 {
            let joined = line.join(Entry {
                exclusive: number == 2,
                ..entry(start, number)
            });
            assert_eq!(joined, number);
            line.ready(number);
        }
        line.start(1, 0);
        assert_eq!(line.next(TWO), None);
        line.leave(1);
        assert_eq!(line.next(TWO), Some((2, 0)));
        line.start(2, 0);
        assert_eq!(line.next(TWO), None);
        line.leave(2);
        assert_eq!(line.next(TWO), Some((3, 0)));
    }

    #[test]
    fn jobs_are_spread_over_devices_and_who_is_alone_is_so_on_one() {
        let start = Instant::now();
        let mut line = Line::default();
        for number in 1..=5 {
            let joined = line.join(Entry {
                exclusive: number == 2 || number == 5,
                ..entry(start, number)
            });
            line.ready(joined);
        }
        let both = Rules { devices: 2, ..TWO };
        let mut went = Vec::new();
        while let Some((number, device)) = line.next(both) {
            line.start(number, device);
            went.push((number, device));
        }
        assert_eq!(
            went,
            [(1, 0), (2, 1), (3, 0)],
            "the second is alone on its device"
        );
        line.leave(2);
        assert_eq!(line.next(both), Some((4, 1)));
        line.start(4, 1);
        assert_eq!(
            line.next(both),
            None,
            "the fifth waits for a device of its own"
        );
        line.leave(4);
        assert_eq!(line.next(both), Some((5, 1)));
    }

    #[tokio::test]
    async fn a_turn_comes_when_the_one_before_leaves() {
        let (turns, start) = (Turns::default(), Instant::now());
        let rules = || Rules {
            devices: 1,
            threads: 1,
            light: 0.0,
        };
        let first = turns.join(entry(start, 1));
        let second = turns.join(entry(start, 2));
        first.comes(rules).await;
        let waiting = second.comes(rules);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        waiting.await;
    }

    proptest! {
        /// Never more than there are threads, nobody beside who is alone, everybody some time.
        #[test]
        fn every_job_gets_its_turn(
            jobs in proptest::collection::vec((any::<bool>(), any::<bool>(), 0.0..60.0_f64, any::<bool>()), 1..12),
            threads in 1..4_usize,
            devices in 1..4_usize,
        ) {
            let start = Instant::now();
            let rules = Rules { devices, threads, light: 25.0 };
            let mut line = Line::default();
            for (number, (exclusive, has_addons, effort, ready)) in (1..).zip(&jobs) {
                line.join(Entry {
                    exclusive: *exclusive,
                    has_addons: *has_addons,
                    effort: *effort,
                    ..entry(start, number)
                });
                if *ready {
                    line.ready(number);
                }
            }
            let mut ended = 0;
            while ended < jobs.len() {
                while let Some((next, device)) = line.next(rules) {
                    line.start(next, device);
                    prop_assert!(device < devices);
                    let here: Vec<_> =
                        line.running.iter().filter(|place| place.device == device).collect();
                    prop_assert!(here.len() <= threads);
                    let alone = here.iter().any(|place| place.job.exclusive);
                    prop_assert!(!alone || here.len() == 1);
                }
                // One job ends; if none runs, the files of the first one arrive.
                if let Some(job) = line.running.first().map(|place| place.number) {
                    line.leave(job);
                    ended += 1;
                } else {
                    let first = line.waiting.first().map(|place| place.number);
                    line.ready(first.unwrap());
                }
            }
            prop_assert!(line.waiting.is_empty());
        }
    }
}
