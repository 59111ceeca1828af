//! The bundled model does what a person expects of it. Margins are wide: the gates proper are
//! `--example gates`.

use std::cell::{Cell, RefCell};

use candle_core::Tensor;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use ordu_engine::gates::{GateOptions, gates, judge};
use ordu_engine::native::sd::StableDiffusion;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::words::Words;
use ordu_engine::{
    Compute, Engine, EngineError, Fit, ImageTask, Mode, NativeEngine, NativeOptions, NoiseSource,
    ProgressSink, Quiet, Sampler, Schedule, Source, Step,
};

use crate::data::largest;

const MODEL: &str = "ordu-tiny";
/// Places of colours in the judge's table.
const RED: usize = 0;
const BLUE: usize = 2;
const YELLOW: usize = 3;

fn engine() -> NativeEngine {
    NativeEngine::open(&NativeOptions::default()).unwrap()
}

/// A red circle on blue, as quickly as can be judged.
fn task() -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps: 10,
        cfg_scale: 5.0,
        seed: 7,
        ..ImageTask::new(
            MODEL,
            "a large red circle at the center on a blue background",
        )
    }
}

fn run(task: ImageTask) -> Vec<RgbImage> {
    let pictures = engine().run(task, &Quiet).unwrap();
    pictures
        .into_iter()
        .map(|picture| picture.image.to_rgb8())
        .collect()
}

fn one(task: ImageTask) -> RgbImage {
    run(task).remove(0)
}

#[track_caller]
fn shows(picture: &RgbImage, colour: usize, background: usize) {
    let verdict = judge(picture);
    assert_eq!(
        (verdict.colour, verdict.background),
        (Some(colour), background),
        "{verdict:?}"
    );
}

#[test]
fn the_gates_hold_on_a_few_prompts() {
    let options = GateOptions {
        prompts: 8,
        steps: 15,
        ..GateOptions::default()
    };
    let report = gates(&engine(), &options).unwrap();
    println!("{report}");
    assert!(
        report.obedience.background >= 0.75
            && report.obedience.colour >= 0.75
            && report.obedience.place >= 0.75,
        "{report}"
    );
    assert!(
        report.obedience.shape >= 0.5 && report.autoencoder < 0.006,
        "{report}"
    );
    assert!(report.inpaint_outside < 0.05, "{report}");
    assert!(report.distances[0].1 < report.distances[4].1, "{report}");
}

#[test]
fn every_sampler_and_schedule_obeys() {
    let mut wrong = Vec::new();
    for sampler in Sampler::all() {
        // With few steps these go too far where guesses mean little yet.
        let is_hasty = matches!(sampler, Sampler::Dpm2A | Sampler::DpmFast | Sampler::UniPc);
        for schedule in [Schedule::Normal, Schedule::Karras] {
            let picture = one(ImageTask {
                sampler,
                schedule,
                steps: if is_hasty { 25 } else { 10 },
                ..task()
            });
            let verdict = judge(&picture);
            if (verdict.colour, verdict.background) != (Some(RED), BLUE) {
                wrong.push(format!("{sampler} {schedule:?} {verdict:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn larger_sizes_are_drawn_small_and_scaled() {
    let capabilities = engine().capabilities();
    assert_eq!(
        capabilities.model(MODEL).unwrap().fit,
        Fit::Scale { native: 64 }
    );
    let picture = one(ImageTask {
        width: 512,
        height: 512,
        ..task()
    });
    assert_eq!(picture.dimensions(), (512, 512));
    shows(
        &imageops::resize(&picture, 64, 64, FilterType::Triangle),
        RED,
        BLUE,
    );
    let wide = one(ImageTask {
        width: 501,
        height: 333,
        ..task()
    });
    assert_eq!(wide.dimensions(), (501, 333));
    let far = one(ImageTask {
        width: 1,
        height: 1000,
        steps: 1,
        ..task()
    });
    assert_eq!(far.dimensions(), (1, 1000));
}

#[test]
fn the_seed_and_the_place_in_the_batch_decide() {
    let short = || ImageTask { steps: 3, ..task() };
    let batch = run(ImageTask {
        batch: 3,
        ..short()
    });
    assert_eq!(batch.len(), 3);
    assert_ne!(batch[0], batch[1]);
    assert_ne!(batch[0], one(ImageTask { seed: 8, ..short() }));
    // Alone or in a batch: the same noise, up to the order of sums the same picture.
    let difference = batch[0]
        .iter()
        .zip(one(short()).iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(difference.unwrap() <= 1, "{difference:?}");
    assert_eq!(
        batch,
        run(ImageTask {
            batch: 3,
            ..short()
        })
    );
    assert_ne!(
        batch[0],
        one(ImageTask {
            noise: NoiseSource::TorchCpu,
            ..short()
        })
    );
}

#[test]
fn the_negative_prompt_and_guidance_matter() {
    let short = || ImageTask { steps: 4, ..task() };
    let plain = one(short());
    assert_ne!(
        plain,
        one(ImageTask {
            negative_prompt: "yellow".to_owned(),
            ..short()
        })
    );
    let unguided = || ImageTask {
        cfg_scale: 1.0,
        ..short()
    };
    assert_ne!(plain, one(unguided()));
    // Without guidance nothing looks at the negative prompt.
    assert_eq!(
        one(unguided()),
        one(ImageTask {
            negative_prompt: "yellow".to_owned(),
            ..unguided()
        })
    );
}

#[test]
fn any_text_is_a_prompt() {
    let long = "red circle, ".repeat(200);
    let deep = "((((circle))))) (red:9e9) (:) \\( \u{0} \u{1f600} 狐";
    for prompt in ["", "zebra xylophone", long.as_str(), deep] {
        let task = ImageTask {
            steps: 1,
            prompt: prompt.to_owned(),
            ..task()
        };
        assert_eq!(one(task).dimensions(), (64, 64));
    }
}

#[test]
fn long_prompts_are_read_in_chunks_and_emphasis_moves_words() {
    let model = StableDiffusion::load(&ModelFiles::bundled().unwrap(), &Compute::cpu()).unwrap();
    let words = Words::default();
    let encode = |text: &str| model.text.encode(text, &words, 1).unwrap().text;
    // 30 words with their commas are 60 ids: three chunks of 22 and two marks each.
    let long = encode(&"circle, ".repeat(30));
    assert_eq!(long.dims(), [1, 72, 96]);
    let (positive, negative) = model
        .text
        .encode_pair((&"red ".repeat(30), ""), &words, 1)
        .unwrap();
    assert_eq!(
        (positive.text.dims(), negative.text.dims()),
        (&[1_usize, 48, 96][..], &[1_usize, 48, 96][..])
    );
    let [plain, once, twice, none] = ["red", "(red:1.0)", "(red:2)", "(red:0)"].map(encode);
    assert!(largest(&(&once - &plain).unwrap()) < 1e-6);
    let empty = encode("");
    // Twice as far from what no prompt gives, in the word's own place only.
    let word = |tensor: &Tensor| tensor.narrow(1, 1, 1).unwrap();
    let expected = ((word(&plain) * 2.0).unwrap() - word(&empty)).unwrap();
    assert!(largest(&(word(&twice) - expected).unwrap()) < 1e-5);
    assert!(largest(&(word(&none) - word(&empty)).unwrap()) < 1e-6);
    let rest = |tensor: &Tensor| tensor.narrow(1, 2, 22).unwrap();
    assert!(largest(&(rest(&plain) - rest(&twice)).unwrap()) < 1e-5);
}

#[test]
fn clip_skip_and_tiling_are_taken() {
    let short = || ImageTask { steps: 2, ..task() };
    let plain = one(short());
    assert_ne!(
        plain,
        one(ImageTask {
            clip_skip: 2,
            ..short()
        })
    );
    assert_ne!(
        plain,
        one(ImageTask {
            tiling: true,
            ..short()
        })
    );
    one(ImageTask {
        clip_skip: 99,
        ..short()
    });
}

/// Notes steps and stops after some of them.
#[derive(Default)]
struct Watch {
    stop_after: Option<u32>,
    preview: bool,
    seen: RefCell<Vec<Step>>,
    cancelled: Cell<bool>,
}

impl ProgressSink for Watch {
    fn step(&self, step: Step) {
        self.cancelled
            .set(self.stop_after.is_some_and(|last| step.step >= last));
        self.seen.borrow_mut().push(step);
    }
    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }
    fn wants_preview(&self) -> bool {
        self.preview
    }
}

#[test]
fn progress_is_told_and_stops_the_work() {
    let watch = Watch {
        stop_after: Some(3),
        ..Watch::default()
    };
    let result = engine().run(task(), &watch);
    assert!(matches!(result, Err(EngineError::Cancelled)));
    let steps: Vec<(u32, u32)> = watch
        .seen
        .borrow()
        .iter()
        .map(|step| (step.step, step.of))
        .collect();
    assert_eq!(steps, [(1, 10), (2, 10), (3, 10)]);
}

#[test]
fn previews_show_the_colours_of_the_picture() {
    let watch = Watch {
        preview: true,
        ..Watch::default()
    };
    engine().run(task(), &watch).unwrap();
    let seen = watch.seen.borrow();
    let preview = seen.last().unwrap().preview.as_ref().unwrap();
    shows(preview, RED, BLUE);
    assert!(seen.iter().all(|step| step.preview.is_some()));
}

/// A yellow field with a blue square in the middle.
fn source() -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let inside = (20..44).contains(&x) && (20..44).contains(&y);
        Rgb(if inside {
            [30, 60, 220]
        } else {
            [245, 220, 50]
        })
    })
}

#[test]
fn a_little_strength_keeps_the_source() {
    let image = DynamicImage::ImageRgb8(source());
    let mode = |denoising_strength| {
        Mode::Img2Img(Source {
            denoising_strength,
            ..Source::new(image.clone())
        })
    };
    let prompt = "a large blue square at the center on a yellow background".to_owned();
    let kept = one(ImageTask {
        mode: mode(0.1),
        prompt,
        ..task()
    });
    shows(&kept, BLUE, YELLOW);
    let replaced = one(ImageTask {
        mode: mode(1.0),
        ..task()
    });
    shows(&replaced, RED, BLUE);
}

#[test]
fn white_is_made_anew_and_black_is_kept_to_the_pixel() {
    let mask = GrayImage::from_fn(64, 64, |x, y| {
        Luma([if (16..48).contains(&x) && (16..48).contains(&y) {
            255
        } else {
            0
        }])
    });
    let masked = Source {
        mask: Some(mask.clone()),
        ..Source::new(DynamicImage::ImageRgb8(source()))
    };
    // The same by transparency.
    let cut_out = RgbaImage::from_fn(64, 64, |x, y| {
        let Rgb([r, g, b]) = *source().get_pixel(x, y);
        Rgba([r, g, b, 255 - mask.get_pixel(x, y).0[0]])
    });
    let transparent = Source::new(DynamicImage::ImageRgba8(cut_out));
    let prompt = "a large red circle at the center on a yellow background".to_owned();
    let paint = |mode| {
        one(ImageTask {
            mode,
            prompt: prompt.clone(),
            ..task()
        })
    };
    let modes = [
        Mode::Inpaint(masked.clone()),
        Mode::Inpaint(transparent),
        Mode::Img2Img(masked),
    ];
    for mode in modes {
        let painted = paint(mode.clone());
        shows(&painted, RED, YELLOW);
        for (x, y, pixel) in painted.enumerate_pixels() {
            if mask.get_pixel(x, y).0[0] == 0 {
                assert_eq!(pixel, source().get_pixel(x, y), "{x} {y}");
            }
        }
    }
}

#[test]
fn a_larger_canvas_is_filled_around_the_source() {
    // The picture in the middle of a transparent canvas twice as large.
    let mut canvas = RgbaImage::new(128, 128);
    imageops::overlay(
        &mut canvas,
        &DynamicImage::ImageRgb8(source()).to_rgba8(),
        32,
        32,
    );
    let mode = Mode::Outpaint(Source::new(DynamicImage::ImageRgba8(canvas)));
    let prompt = "a small blue square at the center on a yellow background".to_owned();
    let painted = one(ImageTask {
        width: 128,
        height: 128,
        prompt,
        mode,
        ..task()
    });
    assert_eq!(painted.get_pixel(64, 64), &Rgb([30, 60, 220]));
    let Rgb([r, g, b]) = *painted.get_pixel(4, 64);
    assert!(r > 150 && g > 120 && b < 150, "{r} {g} {b}");
}

#[test]
fn a_source_without_mask_is_filled_entirely() {
    let mode = Mode::Inpaint(Source::new(DynamicImage::ImageRgb8(source())));
    shows(&one(ImageTask { mode, ..task() }), RED, BLUE);
}

#[test]
fn impossible_tasks_are_refused_with_reasons() {
    let refuse = |task: ImageTask| engine().run(task, &Quiet).unwrap_err().to_string();
    for (task, reason) in [
        (ImageTask { width: 0, ..task() }, "0x64 pixels"),
        (
            ImageTask {
                width: 100_000,
                height: 100_000,
                ..task()
            },
            "100000x100000 pixels",
        ),
        (ImageTask { steps: 0, ..task() }, "0 steps"),
        (
            ImageTask {
                steps: 501,
                ..task()
            },
            "501 steps",
        ),
        (
            ImageTask {
                batch: 21,
                ..task()
            },
            "21 pictures",
        ),
        (
            ImageTask {
                cfg_scale: f32::NAN,
                ..task()
            },
            "guidance",
        ),
        (
            ImageTask {
                model: "stable_diffusion".to_owned(),
                ..task()
            },
            "known: ordu-tiny",
        ),
    ] {
        let message = refuse(task);
        assert!(message.contains(reason), "{message}");
    }
}
