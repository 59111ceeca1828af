//! Letting the engine do a task on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ordu_api::JobId;
use ordu_api::image::Steps;
use ordu_engine::{Engine, EngineError, ImageTask, Picture, ProgressSink, Step};
use tokio::time::Instant;

use crate::report::Showing;
use crate::role::Verdict;
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
    /// Add-ons that the engine did not find, by the names that the task had for them.
    pub(crate) left_out: Vec<String>,
}

/// Who is to blame for a task that failed. A program elsewhere that is gone says nothing about a model.
pub(crate) fn blame(error: &EngineError) -> Verdict {
    match error {
        EngineError::Cancelled => Verdict::HandedBack("the worker stops"),
        EngineError::Unreachable { .. } => Verdict::Unreachable(error.to_string()),
        EngineError::Backend { .. } => Verdict::Failed(error.to_string()),
        _ => Verdict::ModelFailed(error.to_string()),
    }
}

/// Runs a task without the add-ons that the engine does not find, and once more if its engine's process
/// dies before `again_until`. `held` is dropped when the engine is done with it, which may be later than
/// this future ends: dropped, it tells the engine to stop, and the engine does so after its present step.
pub(crate) async fn generate(
    engine: Arc<dyn Engine>,
    mut task: ImageTask,
    meter: Meter,
    again_until: Instant,
    held: impl Send + 'static,
) -> Result<Drawn, GenerateError> {
    let run = move |meter: &Meter| {
        let mut left_out = Vec::new();
        let mut crashes = 0;
        loop {
            match engine.run(task.clone(), meter) {
                Err(EngineError::Crashed { reason })
                    if crashes == 0 && Instant::now() < again_until =>
                {
                    tracing::warn!(reason, "the engine died; the job is tried once more");
                    crashes += 1;
                }
                Err(EngineError::NoAddOn { name }) if task.leave_out(&name) => {
                    tracing::warn!("the engine does not find an add-on; it is left out");
                    left_out.push(name);
                }
                made => return made.map(|pictures| Drawn { pictures, left_out }),
            }
        }
    };
    let made = on_a_thread(meter, held, run).await;
    Ok(made.ok_or(GenerateError::Panicked)??)
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
}

impl Meter {
    pub(crate) fn new(board: Arc<Board>, job: JobId) -> Self {
        Self {
            board,
            job,
            cancelled: Arc::default(),
            showing: Arc::default(),
        }
    }

    /// What is shown of the job to others.
    pub(crate) fn showing(&self) -> Arc<Showing> {
        self.showing.clone()
    }
}

impl ProgressSink for Meter {
    fn step(&self, step: Step) {
        if self.cancelled() {
            return;
        }
        let Step { step, of, preview } = step;
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
