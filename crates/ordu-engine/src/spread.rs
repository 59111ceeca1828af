//! Several engines as one: each task goes to the one that is free.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Capabilities, Engine, EngineError, Held, Holdings, ImageTask, Picture, ProgressSink};

/// How long an engine that crashed is only used if no other is there.
const REST: Duration = Duration::from_mins(1);

/// Engines that are alike, such as one for each card of a machine.
///
/// A task goes to the engine with the fewest tasks; of those, to one that has its model in memory; of
/// those, to the one with fewest pictures to make. Only what all that are there can do is offered.
pub struct Spread {
    engines: Vec<Arc<dyn Engine>>,
    loads: Mutex<Vec<Load>>,
}

/// What one engine has to do.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    tasks: usize,
    pictures: u32,
    /// When it crashed last.
    crashed: Option<Instant>,
}

impl Spread {
    /// At least one engine is needed for anything to be offered.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        let loads = Mutex::new(vec![Load::default(); engines.len()]);
        Self { engines, loads }
    }

    /// Takes an engine for a task.
    fn take(&self, task: &ImageTask) -> Option<Taken<'_>> {
        let least = self.least_busy();
        // Asking what lies in memory takes a moment, which is only worth it if there is a choice.
        let warm: BTreeSet<usize> = if least.len() > 1 {
            least
                .into_iter()
                .filter(|place| self.holds(*place, &task.model))
                .collect()
        } else {
            BTreeSet::new()
        };
        let mut loads = self.loads();
        let now = Instant::now();
        let best = loads.iter().enumerate().min_by_key(|(place, load)| {
            (
                load.rests(now),
                load.tasks,
                !warm.contains(place),
                load.pictures,
            )
        });
        let place = best?.0;
        let engine = self.engines.get(place)?.as_ref();
        if let Some(load) = loads.get_mut(place) {
            load.tasks += 1;
            load.pictures = load.pictures.saturating_add(task.batch);
        }
        Some(Taken {
            spread: self,
            engine,
            place,
            pictures: task.batch,
        })
    }

    /// The places of the engines with the fewest tasks.
    fn least_busy(&self) -> Vec<usize> {
        let loads = self.loads();
        let now = Instant::now();
        let rank = |load: &Load| (load.rests(now), load.tasks);
        let least = loads.iter().map(rank).min();
        let places = loads.iter().enumerate();
        let places = places.filter(|(_, load)| Some(rank(load)) == least);
        places.map(|(place, _)| place).collect()
    }

    fn holds(&self, place: usize, model: &str) -> bool {
        let held = self.engines.get(place).map(|engine| engine.holdings());
        held.is_some_and(|held| held.models.iter().any(|held| held.model == model))
    }

    fn loads(&self) -> MutexGuard<'_, Vec<Load>> {
        // Numbers stay true if somebody panicked.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    fn rests(&self, now: Instant) -> bool {
        let since = |crashed| now.saturating_duration_since(crashed);
        self.crashed.is_some_and(|crashed| since(crashed) < REST)
    }
}

/// An engine with one task more. Dropped, it has one less.
struct Taken<'a> {
    spread: &'a Spread,
    engine: &'a dyn Engine,
    place: usize,
    pictures: u32,
}

impl Taken<'_> {
    fn note(&self, made: &Result<Vec<Picture>, EngineError>) {
        if let Some(load) = self.spread.loads().get_mut(self.place) {
            load.crashed = match made {
                Ok(_) => None,
                Err(EngineError::Crashed { .. } | EngineError::Unreachable { .. }) => {
                    Some(Instant::now())
                }
                Err(_) => load.crashed,
            };
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(load) = self.spread.loads().get_mut(self.place) {
            load.tasks = load.tasks.saturating_sub(1);
            load.pictures = load.pictures.saturating_sub(self.pictures);
        }
    }
}

impl Engine for Spread {
    fn capabilities(&self) -> Capabilities {
        let mut all: Vec<_> = self
            .engines
            .iter()
            .map(|engine| engine.capabilities())
            .collect();
        // One whose process is being started anew says that it can do nothing.
        if all.iter().any(|can| !can.models.is_empty()) {
            all.retain(|can| !can.models.is_empty());
        }
        let shared = all.into_iter().reduce(|mut shared, other| {
            shared
                .models
                .retain(|model| other.model(&model.name).is_some());
            shared
                .samplers
                .retain(|sampler| other.samplers.contains(sampler));
            shared
                .features
                .retain(|feature| other.features.contains(feature));
            shared.controls.retain(|kind| other.controls.contains(kind));
            shared
                .post_processors
                .retain(|step| other.post_processors.contains(step));
            let (own, its) = (&mut shared.limits, other.limits);
            own.max_pixels = own.max_pixels.min(its.max_pixels);
            own.max_batch = own.max_batch.min(its.max_batch);
            own.max_steps = own.max_steps.min(its.max_steps);
            shared
        });
        shared.unwrap_or_else(Capabilities::none)
    }

    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        let Some(taken) = self.take(&task) else {
            return Err(EngineError::crashed("there is no engine"));
        };
        let made = taken.engine.run(task, progress);
        taken.note(&made);
        made
    }

    fn holdings(&self) -> Holdings {
        let mut models: Vec<Held> = Vec::new();
        for held in self
            .engines
            .iter()
            .flat_map(|engine| engine.holdings().models)
        {
            match models.iter_mut().find(|known| known.model == held.model) {
                Some(known) => known.bytes = known.bytes.saturating_add(held.bytes),
                None => models.push(held),
            }
        }
        Holdings { models }
    }

    fn release(&self) {
        for engine in &self.engines {
            engine.release();
        }
    }

    fn missing(&self) -> Vec<String> {
        self.engines
            .first()
            .map_or_else(Vec::new, |engine| engine.missing())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::testing::TestEngine;
    use crate::{Place, Quiet, Step};

    /// Says which one it is, and holds what it drew with.
    struct Card {
        number: usize,
        inner: TestEngine,
        drew: Mutex<Sender<usize>>,
        held: Mutex<Vec<String>>,
        crashes: bool,
    }

    impl Engine for Card {
        fn capabilities(&self) -> Capabilities {
            self.inner.capabilities()
        }

        fn run(
            &self,
            task: ImageTask,
            progress: &dyn ProgressSink,
        ) -> Result<Vec<Picture>, EngineError> {
            self.drew.lock().unwrap().send(self.number).unwrap();
            if self.crashes {
                return Err(EngineError::crashed("planned"));
            }
            self.held.lock().unwrap().push(task.model.clone());
            self.inner.run(task, progress)
        }

        fn holdings(&self) -> Holdings {
            let held = self.held.lock().unwrap();
            let models = held.iter().map(|model| Held {
                model: model.clone(),
                bytes: 5,
                place: Place::Vram,
            });
            Holdings {
                models: models.collect(),
            }
        }
    }

    fn cards(models: &[&[&str]], crashing: Option<usize>) -> (Spread, Receiver<usize>) {
        let (drew, seen) = channel();
        let cards = models.iter().enumerate().map(|(number, models)| {
            Arc::new(Card {
                number,
                inner: TestEngine::new(models.iter().copied()),
                drew: Mutex::new(drew.clone()),
                held: Mutex::default(),
                crashes: crashing == Some(number),
            }) as Arc<dyn Engine>
        });
        (Spread::new(cards.collect()), seen)
    }

    fn task(model: &str) -> ImageTask {
        ImageTask {
            width: 8,
            height: 8,
            steps: 1,
            ..ImageTask::new(model, "x")
        }
    }

    #[test]
    fn a_task_goes_where_its_model_lies() {
        let (spread, seen) = cards(&[&["a", "b"], &["a", "b"]], None);
        spread.loads().first_mut().unwrap().tasks = 1;
        spread.run(task("b"), &Quiet).unwrap();
        spread.loads().first_mut().unwrap().tasks = 0;
        spread.run(task("a"), &Quiet).unwrap();
        spread.run(task("b"), &Quiet).unwrap();
        spread.run(task("a"), &Quiet).unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 0, 1, 0]);
        let held: Vec<_> = spread
            .holdings()
            .models
            .into_iter()
            .map(|held| held.bytes)
            .collect();
        assert_eq!(held, [10, 10], "each of two tasks, added up");
    }

    /// Runs another task while the first is under way.
    struct Meanwhile<'a>(&'a Spread);

    impl ProgressSink for Meanwhile<'_> {
        fn step(&self, _: Step) {
            self.0.run(task("a"), &Quiet).unwrap();
        }
    }

    #[test]
    fn tasks_at_the_same_time_are_spread() {
        let (spread, seen) = cards(&[&["a"], &["a"]], None);
        spread.run(task("a"), &Meanwhile(&spread)).unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 1]);
        assert!(
            spread
                .loads()
                .iter()
                .all(|load| (load.tasks, load.pictures) == (0, 0))
        );
    }

    #[test]
    fn one_that_crashed_is_left_alone() {
        let (spread, seen) = cards(&[&["a"], &["a"]], Some(0));
        assert!(spread.run(task("a"), &Quiet).is_err());
        spread.run(task("a"), &Quiet).unwrap();
        spread.run(task("a"), &Quiet).unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 1, 1]);
        let (alone, seen) = cards(&[&["a"]], Some(0));
        assert!(alone.run(task("a"), &Quiet).is_err());
        assert!(alone.run(task("a"), &Quiet).is_err(), "there is no other");
        assert_eq!(seen.try_iter().count(), 2);
    }

    #[test]
    fn only_what_all_can_do_is_offered() {
        let names = |models: &[&[&str]]| -> Vec<String> {
            let can = cards(models, None).0.capabilities();
            can.models.into_iter().map(|model| model.name).collect()
        };
        assert_eq!(names(&[&["a", "b"], &["b", "c"]]), ["b"]);
        assert_eq!(names(&[&["a"], &[]]), ["a"], "one is being started");
        assert_eq!(names(&[]), [""; 0]);
    }
}
