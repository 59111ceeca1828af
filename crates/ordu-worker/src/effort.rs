//! How much work a job is, how long it will take, and whether one more can be done in time. Pure.
//!
//! # Source
//! `worker.md` § 1.7. Its table of models gives way to what is measured here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ordu_api::image::{ImageJob, SourceProcessing};
use ordu_engine::PostProcessor;
use ordu_engine::plan::post::PostKind;

use crate::Haste;

/// How much one new measurement counts against those before it.
const WEIGHT: f64 = 0.3;

/// The share of its time that a job may take, those before it included.
const SHARE_OF_TTL: f64 = 0.5;

/// Kinds of jobs whose speed is remembered.
const MAX_KINDS: usize = 1000;

/// Something that a job wants besides a plain picture, for which a worker has a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extra {
    Img2Img,
    Painting,
    PostProcessing,
    ControlNet,
    Lora,
    HiresFix,
}

impl Extra {
    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Img2Img => "img2img",
            Self::Painting => "painting",
            Self::PostProcessing => "post-processing",
            Self::ControlNet => "controlnet",
            Self::Lora => "lora",
            Self::HiresFix => "hires_fix",
        }
    }
}

/// What a job is like, as far as its duration depends on it beyond its effort.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// The size of a picture as a power of two, in pixels.
    pub(crate) magnitude: u32,
    pub(crate) extras: BTreeSet<Extra>,
}

impl Shape {
    pub(crate) fn of(job: &ImageJob) -> Self {
        let payload = &job.payload;
        let is_qr = payload.workflow.as_deref() == Some("qr_code");
        let found = [
            (
                Extra::Img2Img,
                job.source_processing == SourceProcessing::Img2Img && job.source_image.is_some(),
            ),
            (
                Extra::Painting,
                matches!(
                    job.source_processing,
                    SourceProcessing::Inpainting | SourceProcessing::Outpainting
                ),
            ),
            (Extra::PostProcessing, !payload.post_processing.is_empty()),
            (Extra::ControlNet, payload.control_type.is_some() || is_qr),
            (Extra::Lora, !payload.loras.is_empty()),
            (Extra::HiresFix, payload.hires_fix),
        ];
        let extras = found.into_iter().filter(|(_, wanted)| *wanted);
        let pixels = u64::from(payload.width) * u64::from(payload.height);
        Self {
            magnitude: pixels.max(1).ilog2(),
            extras: extras.map(|(extra, _)| extra).collect(),
        }
    }
}

/// Work of a job of so many pictures, in megapixelsteps.
pub(crate) fn effort(job: &ImageJob, pictures: usize) -> f64 {
    let payload = &job.payload;
    let pixels = f64::from(payload.width) * f64::from(payload.height);
    let pictures = u32::try_from(pictures.max(1)).unwrap_or(u32::MAX);
    let steps = f64::from(payload.ddim_steps);
    let mut work = pixels * (1.0 + 0.2 * f64::from(pictures - 1)) * steps;
    let enlarges = |name: &String| {
        let known = PostProcessor::from_name(name).map(PostProcessor::kind);
        matches!(known, Some(PostKind::Upscaler(_)))
    };
    if payload.post_processing.iter().any(enlarges) {
        work += pixels * 20.0 * f64::from(pictures);
    }
    if !payload.loras.is_empty() {
        work += 4e6;
    }
    if payload.hires_fix {
        work += 512.0 * 512.0 * steps;
    }
    if payload.workflow.as_deref() == Some("qr_code") {
        work *= 4.0;
    }
    if is_heavy(job.model.as_deref().unwrap_or_default()) {
        work *= 6.0;
    }
    work / 1e6
}

/// Whether a model leaves no room for others beside it.
pub(crate) fn is_heavy(model: &str) -> bool {
    model.starts_with("Flux.1") || model.starts_with("Stable Cascade")
}

/// Effort of a job that may overtake another at most.
pub(crate) fn light(haste: Haste) -> f64 {
    match haste {
        Haste::None => 25.0,
        Haste::Moderate => 50.0,
        Haste::High => 100.0,
    }
}

/// Effort that may wait as long as nobody knows how fast the engine is.
fn ceiling(haste: Haste) -> f64 {
    match haste {
        Haste::None => 15.0,
        Haste::Moderate => 60.0,
        Haste::High => 80.0,
    }
}

/// One job that has not ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(crate) model: String,
    pub(crate) shape: Shape,
    pub(crate) effort: f64,
    /// Of its picture, if it is one alone.
    pub(crate) pixels: Option<u64>,
    /// How much of it is done, 0 to 1.
    pub(crate) done: f64,
}

/// What decides whether one more job is popped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Jobs at the same time.
    pub(crate) threads: u32,
    /// How long the horde waits for a job.
    pub(crate) ttl: Duration,
    pub(crate) haste: Haste,
}

/// The speed of the engine, learned from finished jobs: of jobs just like it, else of its model, else of
/// all.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    alike: BTreeMap<(String, Shape), f64>,
    models: BTreeMap<String, f64>,
    all: Option<f64>,
    /// Seconds that a usual job takes.
    usual: Option<f64>,
}

impl Speed {
    /// That of an engine that was measured before.
    pub(crate) fn known(speeds: BTreeMap<String, f64>) -> Self {
        let mut models = speeds;
        models.retain(|_, rate| rate.is_finite() && *rate > 0.0);
        let count = u32::try_from(models.len()).unwrap_or(u32::MAX);
        let sum: f64 = models.values().sum();
        Self {
            all: (count > 0).then(|| sum / f64::from(count)),
            models,
            ..Self::default()
        }
    }

    /// A job took so long.
    pub(crate) fn learn(&mut self, job: &Pending, took: Duration) {
        if job.effort <= 0.0 {
            return;
        }
        let seconds = took.as_secs_f64();
        let rate = seconds / job.effort;
        if self.alike.len() >= MAX_KINDS {
            self.alike.clear();
            self.models.clear();
        }
        let kind = (job.model.clone(), job.shape.clone());
        let known = self.alike.get(&kind).copied();
        self.alike.insert(kind, mixed(known, rate));
        let known = self.models.get(&job.model).copied();
        self.models.insert(job.model.clone(), mixed(known, rate));
        self.all = Some(mixed(self.all, rate));
        self.usual = Some(mixed(self.usual, seconds));
    }

    /// Seconds per megapixelstep, by model, of those that jobs were done with.
    pub(crate) fn models(&self) -> &BTreeMap<String, f64> {
        &self.models
    }

    /// How many seconds are left of a job; `None` if nothing is known yet.
    pub(crate) fn predict(&self, job: &Pending) -> Option<f64> {
        let alike = self.alike.get(&(job.model.clone(), job.shape.clone()));
        let rate = alike
            .or_else(|| self.models.get(&job.model))
            .copied()
            .or(self.all)?;
        Some(rate * job.effort * (1.0 - job.done.clamp(0.0, 1.0)))
    }

    /// Seconds until all of these are done.
    pub(crate) fn backlog<'a>(
        &self,
        jobs: impl IntoIterator<Item = &'a Pending>,
        threads: u32,
    ) -> Option<f64> {
        let mut jobs = jobs.into_iter().map(|job| self.predict(job));
        let seconds = jobs.try_fold(0.0, |sum, seconds| Some(sum + seconds?))?;
        Some(seconds / f64::from(threads.max(1)))
    }

    /// Whether a usual job could be done in time behind these.
    pub(crate) fn allows(&self, jobs: &[&Pending], load: Load) -> bool {
        let Some(backlog) = self.backlog(jobs.iter().copied(), load.threads) else {
            let waiting: f64 = jobs.iter().map(|job| job.effort).sum();
            return waiting < ceiling(load.haste);
        };
        let own = self.usual.unwrap_or_default();
        backlog + own < SHARE_OF_TTL * load.ttl.as_secs_f64()
    }
}

fn mixed(known: Option<f64>, measured: f64) -> f64 {
    known.map_or(measured, |known| known + WEIGHT * (measured - known))
}

#[cfg(test)]
mod tests {
    use ordu_api::image::ImagePayload;
    use proptest::prelude::*;

    use super::*;

    fn job(change: impl FnOnce(&mut ImageJob)) -> ImageJob {
        let payload = ImagePayload {
            ddim_steps: 30,
            ..ImagePayload::default()
        };
        let mut job = serde_json::from_value(serde_json::json!({"payload": payload})).unwrap();
        change(&mut job);
        job
    }

    fn sized(job: &mut ImageJob, side: u32) {
        (job.payload.width, job.payload.height) = (side, side);
    }

    /// Checklist: vectors: effort.
    #[test]
    fn effort_is_as_specified() {
        let whole =
            |pictures, change: &dyn Fn(&mut ImageJob)| effort(&job(change), pictures).floor();
        let close = |found: f64, expected: f64| (found - expected).abs() < f64::EPSILON;
        assert!(close(whole(1, &|job| sized(job, 512)), 7.0));
        assert!(close(whole(4, &|job| sized(job, 1024)), 50.0));
        let hires = |job: &mut ImageJob| {
            sized(job, 1024);
            job.payload.hires_fix = true;
        };
        assert!(close(whole(1, &hires), 39.0));
        let all = |job: &mut ImageJob| {
            sized(job, 1024);
            job.payload.post_processing = vec!["RealESRGAN_x4plus".to_owned()];
            job.payload.loras = serde_json::from_str("[{\"name\": \"x\"}]").unwrap();
        };
        assert!(close(whole(4, &all), 138.0));
        let qr = |job: &mut ImageJob| {
            sized(job, 512);
            job.payload.workflow = Some("qr_code".to_owned());
            job.model = Some("Flux.1-Schnell fp8 (Compact)".to_owned());
        };
        assert!(close(whole(1, &qr), 188.0));
        let face = |job: &mut ImageJob| {
            sized(job, 512);
            job.payload.post_processing = vec!["GFPGAN".to_owned()];
        };
        assert!(close(whole(1, &face), 7.0));
    }

    #[test]
    fn a_shape_is_what_has_a_switch() {
        let shape = |change: &dyn Fn(&mut ImageJob)| Shape::of(&job(change)).extras;
        assert_eq!(shape(&|_| {}), BTreeSet::new());
        let both = |job: &mut ImageJob| {
            job.source_processing = SourceProcessing::Inpainting;
            job.payload.workflow = Some("qr_code".to_owned());
        };
        assert_eq!(shape(&both), [Extra::Painting, Extra::ControlNet].into());
    }

    fn pending(model: &str, effort: f64) -> Pending {
        Pending {
            model: model.to_owned(),
            effort,
            ..Pending::default()
        }
    }

    const LOAD: Load = Load {
        threads: 1,
        ttl: Duration::from_secs(150),
        haste: Haste::None,
    };

    #[test]
    fn a_slow_engine_pops_nothing_ahead() {
        let mut speed = Speed::default();
        let allows = |speed: &Speed, effort, load| speed.allows(&[&pending("m", effort)], load);
        assert!(allows(&speed, 14.0, LOAD), "as the formula seeds it");
        assert!(!allows(&speed, 15.0, LOAD));
        let hasty = Load {
            haste: Haste::High,
            ..LOAD
        };
        assert!(allows(&speed, 79.0, hasty));
        speed.learn(&pending("m", 10.0), Duration::from_secs(50));
        assert!(speed.allows(&[], LOAD));
        assert!(allows(&speed, 4.0, LOAD));
        assert!(
            !allows(&speed, 6.0, LOAD),
            "30 s before it and 50 s of its own"
        );
        let two = Load { threads: 2, ..LOAD };
        assert!(allows(&speed, 6.0, two));
        let half_done = Pending {
            done: 0.5,
            ..pending("m", 6.0)
        };
        assert!(speed.allows(&[&half_done], LOAD));
    }

    #[test]
    fn what_was_measured_before_counts_until_there_is_more() {
        let rates = [("m", 2.0), ("n", 4.0), ("bad", f64::NAN), ("worse", 0.0)];
        let rates = rates.map(|(name, rate)| (name.to_owned(), rate));
        let mut speed = Speed::known(rates.into());
        let predict = |speed: &Speed, model| speed.predict(&pending(model, 10.0)).unwrap();
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(close(predict(&speed, "m"), 20.0) && close(predict(&speed, "bad"), 30.0));
        speed.learn(&pending("m", 1.0), Duration::from_secs(3));
        assert!(predict(&speed, "m") > 20.0);
        assert_eq!(
            Speed::known(BTreeMap::new()).predict(&pending("m", 1.0)),
            None
        );
    }

    #[test]
    fn what_is_alike_counts_more_than_what_is_not() {
        let mut speed = Speed::default();
        let hires = |model: &str| Pending {
            shape: Shape {
                extras: [Extra::HiresFix].into(),
                ..Shape::default()
            },
            ..pending(model, 1.0)
        };
        speed.learn(&pending("m", 1.0), Duration::from_secs(2));
        assert_eq!(speed.predict(&hires("m")), Some(2.0));
        assert_eq!(speed.predict(&pending("other", 1.0)), Some(2.0));
        speed.learn(&hires("m"), Duration::from_secs(10));
        assert_eq!(speed.predict(&hires("m")), Some(10.0));
        assert_eq!(speed.predict(&pending("m", 1.0)), Some(2.0));
        assert!(speed.predict(&hires("other")) > Some(2.0));
    }

    proptest! {
        /// A prediction lies between the fastest and the slowest job that was seen.
        #[test]
        fn predictions_stay_within_what_was_measured(
            jobs in proptest::collection::vec((0..3_u8, 0.1..100.0_f64, 1..10_000_u64), 1..50),
            asked in (0..4_u8, 0.1..100.0_f64),
        ) {
            let mut speed = Speed::default();
            let (mut least, mut most) = (f64::MAX, 0.0_f64);
            for (model, effort, ms) in jobs {
                let took = Duration::from_millis(ms);
                speed.learn(&pending(&model.to_string(), effort), took);
                let rate = took.as_secs_f64() / effort;
                (least, most) = (least.min(rate), most.max(rate));
            }
            let (model, effort) = asked;
            let seconds = speed.predict(&pending(&model.to_string(), effort)).unwrap();
            prop_assert!(seconds >= least * effort * 0.999 && seconds <= most * effort * 1.001);
        }

        /// Whoever may pop with much work waiting may do so with less.
        #[test]
        fn less_waiting_never_forbids_a_pop(
            efforts in proptest::collection::vec(0.1..100.0_f64, 1..10),
            took in proptest::option::of(1..200_u64),
        ) {
            let mut speed = Speed::default();
            if let Some(seconds) = took {
                speed.learn(&pending("m", 10.0), Duration::from_secs(seconds));
            }
            let jobs: Vec<_> = efforts.iter().map(|effort| pending("m", *effort)).collect();
            let all: Vec<_> = jobs.iter().collect();
            if speed.allows(&all, LOAD) {
                prop_assert!(speed.allows(&all[1..], LOAD));
            }
        }
    }
}
