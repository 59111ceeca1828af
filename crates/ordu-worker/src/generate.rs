//! Letting the engine do a task on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ordu_api::JobId;
use ordu_api::image::Steps;
use ordu_engine::{Engine, EngineError, ImageTask, Picture, ProgressSink, Step};
use tokio::time::Instant;

use crate::pace::Pace;
use crate::report::Showing;
use crate::role::is_out_of_memory;
use crate::status::{Board, Stage};

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine panicked")]
    Panicked,
}

/// What the engine made.
pub(crate) struct Drawn {
    pub(crate) pictures: Vec<Picture>,
    /// Add-ons that the engine drew without, by the names that the task had for them.
    pub(crate) left_out: Vec<LeftOut>,
}

/// An add-on that the engine cannot use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// As the task names it.
    pub(crate) name: String,
    /// Why.
    pub(crate) why: Why,
}

/// Why an add-on is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its file is not there or is damaged.
    Missing,
    /// It is for another family of models.
    Mismatch,
}

/// The add-on that an engine has nothing drawn for, if that is what is wrong.
pub(crate) fn unusable(error: &EngineError) -> Option<LeftOut> {
    let (name, why) = match error {
        EngineError::NoAddOn { name } | EngineError::BadAddOn { name, .. } => (name, Why::Missing),
        EngineError::AddOnMismatch { name, .. } => (name, Why::Mismatch),
        _ => return None,
    };
    let name = name.clone();
    Some(LeftOut { name, why })
}

/// Runs a task without the add-ons that the engine cannot use, and once more if before `again_until`
/// its engine's process dies, or memory runs out; then picture by picture. `held` is dropped when the
/// engine is done with it, which may be later than this future ends: dropped, it tells the engine to
/// stop, and the engine does so after its present step.
pub(crate) async fn generate(
    engine: Arc<dyn Engine>,
    mut task: ImageTask,
    meter: Meter,
    again_until: Instant,
    held: impl Send + 'static,
) -> Result<Drawn, GenerateError> {
    let run = move |meter: &Meter| {
        let mut left_out = Vec::new();
        let mut draw: Draw = together;
        let mut may_try_again = true;
        loop {
            let is_in_time = may_try_again && Instant::now() < again_until;
            match draw(engine.as_ref(), &task, meter) {
                Err(error)
                    if let Some(add_on) = unusable(&error)
                        && task.leave_out(&add_on.name) =>
                {
                    tracing::warn!(%error, "an add-on is left out");
                    left_out.push(add_on);
                }
                Err(error) if is_in_time && is_out_of_memory(&error) => {
                    tracing::warn!(%error, "memory ran out; the pictures are tried one by one");
                    may_try_again = false;
                    draw = one_by_one;
                }
                Err(EngineError::Crashed { reason }) if is_in_time => {
                    tracing::warn!(reason, "the engine died; the job is tried once more");
                    may_try_again = false;
                }
                made => return made.map(|pictures| Drawn { pictures, left_out }),
            }
        }
    };
    let made = on_a_thread(meter, held, run).await;
    Ok(made.ok_or(GenerateError::Panicked)??)
}

/// A way to have an engine draw.
type Draw = fn(&dyn Engine, &ImageTask, &Meter) -> Result<Vec<Picture>, EngineError>;

/// All pictures in one go.
fn together(
    engine: &dyn Engine,
    task: &ImageTask,
    meter: &Meter,
) -> Result<Vec<Picture>, EngineError> {
    engine.run(task.clone(), meter)
}

/// The pictures of a batch, each by itself. The noise of a batch is drawn in one go from its seed, so only
/// the first is the one that it would have been; the others get seeds of their own, which are told.
fn one_by_one(
    engine: &dyn Engine,
    task: &ImageTask,
    meter: &Meter,
) -> Result<Vec<Picture>, EngineError> {
    let mut pictures = Vec::new();
    for place in 0..task.batch {
        let alone = ImageTask {
            batch: 1,
            seed: task.seed.wrapping_add(place.into()),
            ..task.clone()
        };
        pictures.extend(engine.run(alone, meter)?);
    }
    Ok(pictures)
}

/// Lets an engine work on a thread of its own; `None` if it panicked. `held` is as for [`generate`].
pub(crate) async fn on_a_thread<T: Send + 'static>(
    meter: Meter,
    held: impl Send + 'static,
    work: impl FnOnce(&Meter) -> T + Send + 'static,
) -> Option<T> {
    let cancel = CancelOnDrop(meter.cancelled.clone());
    let running = tokio::task::spawn_blocking(move || {
        let made = work(&meter);
        drop(held);
        made
    });
    let made = running.await.ok();
    drop(cancel);
    made
}

/// Shows the progress of one job, and tells the engine when nobody wants it any more.
#[derive(Debug)]
pub(crate) struct Meter {
    board: Arc<Board>,
    job: JobId,
    cancelled: Arc<AtomicBool>,
    showing: Arc<Showing>,
    pace: Arc<Mutex<Pace>>,
}

impl Meter {
    pub(crate) fn new(board: Arc<Board>, job: JobId) -> Self {
        Self {
            board,
            job,
            cancelled: Arc::default(),
            showing: Arc::default(),
            pace: Arc::default(),
        }
    }

    /// What is shown of the job to others.
    pub(crate) fn showing(&self) -> Arc<Showing> {
        self.showing.clone()
    }

    /// How fast the steps come.
    pub(crate) fn pace(&self) -> Arc<Mutex<Pace>> {
        self.pace.clone()
    }
}

impl ProgressSink for Meter {
    fn step(&self, step: Step) {
        if self.cancelled() {
            return;
        }
        let Step { step, of, preview } = step;
        // What is known stays true if somebody panicked.
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.step(step, of, Instant::now());
        drop(pace);
        self.board.stage(self.job, Stage::Sampling { step, of });
        self.showing.step(Steps { step, of }, preview);
    }

    fn wants_preview(&self) -> bool {
        self.showing.wants_preview()
    }

    fn wants_text(&self) -> bool {
        self.showing.wants_text()
    }

    fn text(&self, so_far: &str) {
        self.showing.text(so_far);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
