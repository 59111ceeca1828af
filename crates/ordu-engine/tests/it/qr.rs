//! Pictures that scan: drawn by the bundled model, by models with files of their own, and refused.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::{DynamicImage, RgbImage};
use ordu_engine::gates::held_out;
use ordu_engine::native::sampling::{Denoiser, Level, NoiseSchedule, sample};
use ordu_engine::native::sd::config::SchedulerConfig;
use ordu_engine::plan::qr::reads;
use ordu_engine::plan::steps::{qr_finder_start, qr_hand_over};
use ordu_engine::{
    Engine, EngineError, Feature, ImageTask, NativeEngine, NativeOptions, Picture, ProgressSink,
    QrSpec, Quiet, Sampler, Schedule, Step, Workflow,
};

const TEXT: &str = "https://example.org/abc";

/// The stem of networks for Stable Diffusion XL.
const XL: &str = "control_v1p_sdxl_qrcode_monster.safetensors";

fn engine(folder: Option<&Path>) -> NativeEngine {
    let options = NativeOptions {
        models: folder.map(Path::to_owned),
        ..NativeOptions::default()
    };
    NativeEngine::open(&options).unwrap()
}

fn task(seed: u64) -> ImageTask {
    ImageTask {
        steps: 10,
        cfg_scale: 5.0,
        seed,
        workflow: Some(Workflow::QrCode(QrSpec::new(TEXT))),
        ..ImageTask::new(
            "ordu-tiny",
            "a large red circle at the center on a blue background",
        )
    }
}

fn one(task: ImageTask) -> Picture {
    engine(None).run(task, &Quiet).unwrap().remove(0)
}

/// A scanner has looked at what is delivered, at the size asked for.
#[test]
fn a_picture_says_whether_it_scans() {
    let picture = one(task(1));
    assert_eq!(picture.scans, Some(reads(&picture.image, TEXT)));
    let size = (picture.image.width(), picture.image.height());
    assert_eq!(size, (512, 512));
}

/// With the sampler of requests that name none: scenes that the network has not learned from, and a prompt
/// that the model does not understand.
#[test]
fn pictures_scan() {
    let (engine, scenes) = (engine(None), held_out());
    for (seed, prompt) in [
        (1, scenes[0].caption()),
        (2, scenes[40].caption()),
        (5, "a lighthouse at the sea".to_owned()),
    ] {
        let task = ImageTask {
            sampler: Sampler::EulerA,
            schedule: Schedule::Karras,
            steps: 20,
            prompt: prompt.clone(),
            ..task(seed)
        };
        let picture = engine.run(task, &Quiet).unwrap().remove(0);
        assert_eq!(picture.scans, Some(true), "{prompt}");
    }
}

/// The same seed is the same picture; another schedule is another one. One step is a picture, too.
#[test]
fn steps_and_schedules_are_those_of_the_task() {
    let base = one(task(3));
    assert_eq!(base, one(task(3)));
    let karras = one(ImageTask {
        schedule: Schedule::Karras,
        ..task(3)
    });
    assert_ne!(base.image, karras.image);
    assert!(karras.scans.is_some());
    let hasty = one(ImageTask {
        steps: 1,
        sampler: Sampler::EulerA,
        ..task(3)
    });
    assert!(hasty.scans.is_some());
}

#[derive(Default)]
struct Steps(RefCell<Vec<(u32, u32)>>);

impl ProgressSink for Steps {
    fn step(&self, step: Step) {
        self.0.borrow_mut().push((step.step, step.of));
    }
}

/// A network of random weights draws nothing that scans: the finish is tried twice, the step is said, and
/// a second look at the same picture is not a third.
#[test]
fn what_does_not_scan_is_finished_once_more() {
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    crate::control::xl_network(&folder.path().join("miscellaneous").join(XL));
    let engine = engine(Some(folder.path()));
    let task = ImageTask {
        model: "xl".to_owned(),
        // A strip of a symbol is enough to be tried.
        width: 192,
        height: 16,
        steps: 4,
        workflow: Some(Workflow::QrCode(QrSpec::new("x"))),
        ..task(1)
    };
    let (hand_over, start) = (qr_hand_over(4), qr_finder_start(4));
    let once = 4 + hand_over - start;
    let rest = 4 - hand_over;
    let steps = Steps::default();
    let picture = engine.run(task, &steps).unwrap().remove(0);
    assert_eq!(picture.scans, Some(false));
    assert_eq!((picture.image.width(), picture.image.height()), (192, 16));
    let first = (1..=once).map(|step| (step, once));
    let again = (once + 1..=once + rest).map(|step| (step, once + rest));
    let expected: Vec<_> = first.chain(again).collect();
    assert_eq!(steps.0.into_inner(), expected);
    let held: Vec<String> = engine
        .holdings()
        .models
        .into_iter()
        .map(|it| it.model)
        .collect();
    assert_eq!(held, ["xl", "control_v1p_sdxl_qrcode_monster"]);
}

/// Offered is what all models of a family can; a bundled network promises nothing for others.
#[test]
fn what_is_offered_follows_from_the_files() {
    let features = |folder: Option<&Path>| -> BTreeSet<Feature> {
        let found = engine(folder).capabilities().features;
        let both = [Feature::QrCode, Feature::QrCodeXl];
        found.into_iter().filter(|it| both.contains(it)).collect()
    };
    assert_eq!(features(None), [Feature::QrCode].into());
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    // Its sizes are none of SDXL's, so that it is a model of no family.
    assert_eq!(features(Some(folder.path())), [].into());
    crate::control::xl_network(&folder.path().join(XL));
    assert_eq!(features(Some(folder.path())), [Feature::QrCode].into());
}

#[test]
fn what_cannot_be_drawn_is_refused_by_name() {
    let refused = |engine: &NativeEngine, task: ImageTask| match engine.run(task, &Quiet) {
        Err(EngineError::BadTask { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let small = ImageTask {
        width: 64,
        height: 64,
        ..task(1)
    };
    let reason = refused(&engine(None), small);
    assert!(reason.contains("no QR code fits into 64x64"), "{reason}");
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    let unsteered = ImageTask {
        model: "xl".to_owned(),
        ..task(1)
    };
    let reason = refused(&engine(Some(folder.path())), unsteered);
    assert!(reason.contains("`qr_code` fits xl"), "{reason}");
}

/// A scanner other than a person's phone is not fooled by a picture without a symbol.
#[test]
fn a_plain_picture_does_not_scan() {
    let picture = one(ImageTask {
        workflow: None,
        ..task(1)
    });
    assert_eq!(picture.scans, None);
    assert!(!reads(&picture.image, TEXT));
    let grey = DynamicImage::ImageRgb8(RgbImage::from_pixel(64, 64, image::Rgb([128; 3])));
    assert!(!reads(&grey, TEXT));
}

/// A network that knows nothing but the level: the clean picture is a share of the noisy one.
struct Share;

impl Denoiser for Share {
    fn denoise(&self, z: &Tensor, level: Level) -> candle_core::Result<Tensor> {
        z * (level.alpha * 0.7)
    }

    fn level(&self, sigma: f64) -> Level {
        schedule().level(sigma)
    }
}

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(&SchedulerConfig::default()).unwrap()
}

/// Samplers that look at the present step alone may be stopped at any level and go on from there: the
/// rest of the noise is left in the picture.
#[test]
fn a_walk_in_two_stretches_is_the_walk_in_one() {
    let (one, two) = (7, 12);
    let z = Tensor::rand(-1.0_f32, 1.0, (1, 4, 3, 5), &Device::Cpu).unwrap();
    for sampler in Sampler::all() {
        let levels = schedule().levels_for((sampler, Schedule::Karras), two, 1.0);
        let walk = |levels: &[Level], z: &Tensor| {
            let mut fresh = || Ok(z.zeros_like()?);
            let mut quiet = |_: usize, _: &Tensor| Ok(());
            sample((sampler, levels), z.clone(), &Share, &mut fresh, &mut quiet).unwrap()
        };
        let whole = walk(&levels, &z);
        let half = walk(&levels[..=one], &z);
        let rest = walk(&levels[one..], &half);
        let difference = (&whole - &rest).unwrap().abs().unwrap();
        let difference = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
        let largest = whole.abs().unwrap().max_all().unwrap();
        let relative = difference / largest.to_scalar::<f32>().unwrap();
        let bound = match sampler {
            // They remember earlier steps, or end near the clean picture.
            Sampler::Dpmpp2m | Sampler::Lms | Sampler::UniPc | Sampler::UniPcBh2 => 0.05,
            // They choose orders and steps for the whole of what they are to walk.
            Sampler::DpmFast | Sampler::DpmAdaptive => 0.5,
            _ => 1e-5,
        };
        assert!(relative < bound, "{}: {relative}", sampler.name());
    }
}
