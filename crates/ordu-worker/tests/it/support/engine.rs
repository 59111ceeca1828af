//! An engine that does what a test plans.

use std::collections::VecDeque;
use std::sync::Mutex;

use image::RgbImage;
use ordu_engine::testing::TestEngine;
use ordu_engine::{
    Capabilities, Engine, EngineError, Feature, Holdings, ImageTask, ModelInfo, Origin, Picture,
    ProgressSink, Step,
};
use tokio::sync::watch;

/// What to do with one task.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Fail.
    Fail,
    /// Say that memory ran out.
    OutOfMemory,
    /// Panic.
    Panic,
    /// Draw so many pictures, whatever was asked for.
    Draw(usize),
    /// Take the first of two steps, show pictures to who wants some, wait for [`Scripted::release`], then draw.
    Hold,
    /// Draw as many pictures as were asked for, of a few pixels, whatever size was asked for.
    Dot,
    /// Draw a picture of nothing.
    Clear,
    /// Not find the first add-on of the task, if it has one.
    Lack,
    /// Find that the first LoRA of the task is for other models, if it has one.
    Mismatch,
    /// Find that the first LoRA of the task is damaged, if it has one.
    Damaged,
    /// Be a program elsewhere that is gone.
    Gone,
    /// Be a program elsewhere that answers nonsense.
    Lie,
}

/// Draws, unless it is told otherwise.
pub struct Scripted {
    inner: TestEngine,
    features: Vec<Feature>,
    /// Whether its models can only fill in.
    fills_in: bool,
    plans: Mutex<VecDeque<Plan>>,
    tasks: Mutex<Vec<ImageTask>>,
    started: watch::Sender<usize>,
    released: watch::Sender<usize>,
    /// How often it was told to let go of what it holds.
    rested: watch::Sender<usize>,
    /// How often it was asked what it can do.
    asked: watch::Sender<usize>,
    is_foreign: bool,
    /// Models that came later.
    gained: Mutex<Vec<String>>,
}

impl Scripted {
    pub fn new(plans: impl IntoIterator<Item = Plan>) -> Self {
        Self::with_models(&["test"], plans)
    }

    pub fn with_models(models: &[&str], plans: impl IntoIterator<Item = Plan>) -> Self {
        Self {
            inner: TestEngine::new(models.iter().copied()),
            features: Vec::new(),
            fills_in: false,
            plans: Mutex::new(plans.into_iter().collect()),
            tasks: Mutex::default(),
            started: watch::Sender::new(0),
            released: watch::Sender::new(0),
            rested: watch::Sender::new(0),
            asked: watch::Sender::new(0),
            is_foreign: false,
            gained: Mutex::default(),
        }
    }

    /// The same, with models from somewhere else, which could draw anything.
    pub fn foreign(self) -> Self {
        Self {
            is_foreign: true,
            ..self
        }
    }

    /// One that can do this, too.
    pub fn knowing(mut self, features: &[Feature]) -> Self {
        self.features = features.to_vec();
        self
    }

    /// One with models that can only fill in.
    pub fn filling_in(mut self) -> Self {
        self.fills_in = true;
        self
    }

    /// One more model is there from now on.
    pub fn gain(&self, model: &str) {
        self.gained.lock().unwrap().push(model.to_owned());
    }

    /// How often it was asked what it can do, for whoever waits for the next time.
    pub fn asked(&self) -> watch::Receiver<usize> {
        self.asked.subscribe()
    }

    /// Waits until it was told so often to let go of what it holds.
    pub async fn rested(&self, count: usize) {
        let mut rested = self.rested.subscribe();
        super::within(rested.wait_for(|now| *now >= count))
            .await
            .unwrap();
    }

    /// The tasks that came, in their order.
    pub fn tasks(&self) -> Vec<ImageTask> {
        self.tasks.lock().unwrap().clone()
    }

    /// Waits until so many tasks were started.
    pub async fn started(&self, count: usize) {
        let mut started = self.started.subscribe();
        super::within(started.wait_for(|now| *now >= count))
            .await
            .unwrap();
    }

    /// Lets one held task go on.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Blocks the engine's thread, and gives in when nobody wants the task any more.
    fn hold(&self, progress: &dyn ProgressSink) -> Result<(), EngineError> {
        progress.step(Step {
            step: 1,
            of: 2,
            preview: None,
        });
        loop {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            if progress.wants_preview() {
                progress.step(Step {
                    step: 1,
                    of: 2,
                    preview: Some(RgbImage::new(8, 8)),
                });
            }
            let released = self.released.send_if_modified(|count| {
                let any = *count > 0;
                *count = count.saturating_sub(1);
                any
            });
            if released {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }
}

impl Engine for Scripted {
    fn capabilities(&self) -> Capabilities {
        self.asked.send_modify(|count| *count += 1);
        let mut can = self.inner.capabilities();
        can.features.extend(&self.features);
        let gained = self.gained.lock().unwrap().clone();
        let like = can.models.first().cloned();
        let gained = gained.into_iter().zip(like.into_iter().cycle());
        can.models
            .extend(gained.map(|(name, like)| ModelInfo { name, ..like }));
        for model in &mut can.models {
            model.inpainting = self.fills_in;
            if self.is_foreign {
                model.origin = Origin::File(model.name.clone().into());
            }
        }
        can
    }

    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        self.tasks.lock().unwrap().push(task.clone());
        let plan = self.plans.lock().unwrap().pop_front();
        self.started.send_modify(|count| *count += 1);
        match plan {
            None => self.inner.run(task, progress),
            Some(Plan::Fail) => Err(EngineError::BadTask {
                reason: "planned".to_owned(),
            }),
            Some(Plan::OutOfMemory) => Err(broken("CUDA out of memory. Tried to allocate 9 GiB")),
            Some(Plan::Panic) => panic!("planned"),
            Some(Plan::Dot) => {
                let (width, height) = (8, 8);
                let small = ImageTask {
                    width,
                    height,
                    steps: 1,
                    ..task
                };
                self.inner.run(small, progress)
            }
            Some(Plan::Clear) => Ok(vec![Picture {
                image: image::DynamicImage::new_rgba8(task.width, task.height),
                seed: task.seed,
                scans: None,
            }]),
            Some(plan @ (Plan::Lack | Plan::Mismatch | Plan::Damaged)) => {
                let Some(lora) = task.loras.first() else {
                    return self.inner.run(task, progress);
                };
                let (name, reason) = (lora.file.clone(), "planned".to_owned());
                Err(match plan {
                    Plan::Lack => EngineError::NoAddOn { name },
                    Plan::Mismatch => EngineError::AddOnMismatch { name, reason },
                    _ => EngineError::BadAddOn { name, reason },
                })
            }
            Some(Plan::Gone) => Err(EngineError::Unreachable {
                backend: "it".to_owned(),
                reason: "planned".to_owned(),
            }),
            Some(Plan::Lie) => Err(broken("planned")),
            Some(Plan::Draw(count)) => {
                let mut pictures = self.inner.run(task, progress)?;
                pictures.truncate(count);
                Ok(pictures)
            }
            Some(Plan::Hold) => {
                self.hold(progress)?;
                self.inner.run(task, progress)
            }
        }
    }

    fn holdings(&self) -> Holdings {
        self.inner.holdings()
    }

    fn release(&self) {
        self.rested.send_modify(|count| *count += 1);
    }
}

fn broken(reason: &str) -> EngineError {
    EngineError::Backend {
        backend: "it".to_owned(),
        reason: reason.to_owned(),
    }
}
