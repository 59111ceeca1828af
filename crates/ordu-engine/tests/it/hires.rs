//! Two passes: the second one refines the first, in as many steps as the rules say.

use std::cell::RefCell;

use image::RgbImage;
use image::imageops::{self, FilterType};
use ordu_engine::gates::{held_out, judge};
use ordu_engine::plan::hires::second_steps;
use ordu_engine::{
    Engine, Hires, ImageTask, NativeEngine, NativeOptions, ProgressSink, Quiet, Step,
};

fn engine() -> NativeEngine {
    NativeEngine::open(&NativeOptions::default()).unwrap()
}

fn task(side: u32, seed: u64) -> ImageTask {
    ImageTask {
        width: side,
        height: side,
        steps: 12,
        cfg_scale: 5.0,
        seed,
        ..ImageTask::new(
            "ordu-tiny",
            "a large red circle at the center on a blue background",
        )
    }
}

fn twice(side: u32, seed: u64, denoising_strength: Option<f32>) -> ImageTask {
    ImageTask {
        hires: Some(Hires { denoising_strength }),
        ..task(side, seed)
    }
}

fn one(task: ImageTask) -> RgbImage {
    engine()
        .run(task, &Quiet)
        .unwrap()
        .remove(0)
        .image
        .to_rgb8()
}

/// How alike two pictures are, −1 to 1, over all their numbers.
fn correlation(one: &RgbImage, other: &RgbImage) -> f64 {
    let numbers = |picture: &RgbImage| -> Vec<f64> {
        let bytes = picture.as_raw().iter();
        bytes.map(|byte| f64::from(*byte)).collect()
    };
    let (one, other) = (numbers(one), numbers(other));
    let count: f64 = one.iter().map(|_| 1.0).sum();
    let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / count;
    let (mean_one, mean_other) = (mean(&one), mean(&other));
    let product = |left: &[f64], right: &[f64], (a, b): (f64, f64)| -> f64 {
        let pairs = left.iter().zip(right);
        pairs.map(|(x, y)| (x - a) * (y - b)).sum()
    };
    product(&one, &other, (mean_one, mean_other))
        / (product(&one, &one, (mean_one, mean_one))
            * product(&other, &other, (mean_other, mean_other)))
        .sqrt()
}

/// Four times the area keeps what the first pass has put where, and is as obedient.
#[test]
fn a_second_pass_keeps_the_composition() {
    for (scene, seed) in held_out().into_iter().step_by(37).zip(1..) {
        let prompt = scene.caption();
        let first = one(ImageTask {
            prompt: prompt.clone(),
            ..task(64, seed)
        });
        let large = one(ImageTask {
            prompt: prompt.clone(),
            ..twice(128, seed, None)
        });
        assert_eq!(large.dimensions(), (128, 128));
        let small = imageops::resize(&large, 64, 64, FilterType::Triangle);
        let alike = correlation(&first, &small);
        let verdict = judge(&small);
        println!("{prompt}: {alike:.3}, {verdict:?}");
        assert!(alike >= 0.8, "{prompt}: {alike}");
        let found = (verdict.colour, verdict.background, verdict.shape);
        let wanted = (Some(scene.colour), scene.background, Some(scene.shape));
        assert_eq!(found, wanted, "{prompt}");
    }
}

/// A model that draws at one size alone refines up to twice as long sides, and is scaled to what is
/// asked for.
#[test]
fn a_small_model_refines_what_it_can() {
    let large = one(twice(128, 5, None));
    let larger = one(twice(256, 5, None));
    assert_eq!(larger.dimensions(), (256, 256));
    let again = imageops::resize(&larger, 128, 128, FilterType::Triangle);
    assert!(correlation(&large, &again) > 0.99);
    let wide = ImageTask {
        height: 96,
        ..twice(192, 5, None)
    };
    assert_eq!(one(wide).dimensions(), (192, 96));
}

#[derive(Default)]
struct Steps(RefCell<Vec<(u32, u32)>>);

impl ProgressSink for Steps {
    fn step(&self, step: Step) {
        self.0.borrow_mut().push((step.step, step.of));
    }
}

#[test]
fn a_second_pass_takes_the_steps_of_the_rules() {
    let engine = engine();
    let info = engine.capabilities().models.remove(0);
    for strength in [None, Some(0.4), Some(1.0)] {
        let task = twice(128, 1, strength);
        let more = second_steps(&task, &info);
        let steps = Steps::default();
        engine.run(task, &steps).unwrap();
        let all = 12 + more;
        let expected: Vec<(u32, u32)> = (1..=all).map(|step| (step, all)).collect();
        assert_eq!(steps.0.into_inner(), expected, "{strength:?}");
    }
}

/// What is no larger than a first pass is drawn once.
#[test]
fn a_small_picture_has_one_pass() {
    assert_eq!(one(twice(64, 3, None)), one(task(64, 3)));
}

#[test]
fn strength_orders_how_far_the_second_pass_goes() {
    // Nothing says what to draw: what is not kept of the first pass is another picture.
    let anything = |task: ImageTask| {
        one(ImageTask {
            prompt: String::new(),
            cfg_scale: 1.0,
            ..task
        })
    };
    let far = |strength: f32| -> f64 {
        let seeds = 2..5;
        seeds
            .map(|seed| {
                let first = anything(task(64, seed));
                let first = imageops::resize(&first, 128, 128, FilterType::Triangle);
                1.0 - correlation(&anything(twice(128, seed, Some(strength))), &first)
            })
            .sum()
    };
    let (little, much) = (far(0.1), far(1.0));
    assert!(little + 0.2 < much, "{little} {much}");
}
