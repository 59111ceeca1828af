//! Control networks: their numbers, their names, and what they make of a picture.

use std::collections::BTreeMap;

use image::{DynamicImage, Rgb, RgbImage, imageops};
use ordu_engine::gates::{GateOptions, Scene, draw, judge, steered};
use ordu_engine::native::control::{Controls, THRESHOLDS, canny, detect};
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::config::UNetConfig;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::unet::{ControlNet, UNet};
use ordu_engine::native::sd::{Condition, Summary};
use ordu_engine::native::weights::{TensorFile, Weights, ldm};
use ordu_engine::{
    Compute, Control, ControlType, Engine, Feature, Hires, ImageTask, Lora, Mode, NativeEngine,
    NativeOptions, Quiet, Source,
};

use crate::data::{compare, get, json, path, tensors, weights};
use crate::grown::{self, Shapes};

fn network(kind: &str) -> Weights {
    let folder = format!("control-{kind}");
    if kind == "sd1" {
        let file = tensors(&format!("{folder}/control_sd15_canny.safetensors"));
        return ldm::control(&file).unwrap();
    }
    weights(&format!("{folder}/diffusion_pytorch_model.safetensors"))
}

/// Against diffusers: what is added, and what the steered network then predicts.
pub(crate) fn parity() {
    for (kind, base) in [("sd1", "sd1"), ("sd2", "sd2"), ("small", "sd1")] {
        let steered: UNetConfig = json(&format!("unet-{base}/config.json"));
        let unet = weights(&format!("unet-{base}/diffusion_pytorch_model.safetensors"));
        let unet = UNet::new(&unet, &steered, &Compute::cpu()).unwrap();
        let control = ControlNet::new(&network(kind), &steered, &Compute::cpu()).unwrap();
        let io = tensors(&format!("control-{kind}/io.safetensors"));
        let text = Condition::of_text(get(&io, "text"));
        compare_steered(kind, (&unet, &control), &io, &text);
    }
    xl_parity();
}

/// One for a network like SDXL, which is told of a summary and of sizes.
fn xl_parity() {
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    let file = folder.path().join("xl.safetensors");
    let model = ModelFiles::file(&file).unwrap().unwrap();
    let file = folder.path().join("control.safetensors");
    xl_network(&file);
    let control = Weights::from_file(&TensorFile::open(&file).unwrap());
    let (unet, config) = &model.unet;
    let unet = UNet::new(unet, config, &Compute::cpu()).unwrap();
    let control = ControlNet::new(&control, config, &Compute::cpu()).unwrap();
    let io = tensors("control-xl.safetensors");
    let told = Condition {
        text: get(&io, "text"),
        summary: Some(Summary {
            text: get(&io, "summary"),
            sizes: [64, 96, 0, 0, 64, 96],
        }),
    };
    compare_steered("xl", (&unet, &control), &io, &told);
    let untold = Condition::of_text(get(&io, "text"));
    let seen = control.see(&get(&io, "map"), Edges::Zero).unwrap();
    let x = get(&io, "x");
    let error = control.forward((&x, 501.0), (&untold, Edges::Zero), &seen, 1.0);
    assert!(error.unwrap_err().to_string().contains("summary"));
}

pub(crate) fn xl_network(file: &std::path::Path) {
    let shapes: BTreeMap<String, Shapes> = json("control-xl.json");
    let grown = grown::part("control", &shapes["control"], str::to_owned);
    grown::write(&grown, file, &[]);
}

/// From a folder to a picture: names say what it steers by, sizes which model.
#[test]
fn a_model_like_xl_is_steered() {
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    let network = "control_v11p_sd15_canny.safetensors";
    xl_network(&folder.path().join("controlnet").join(network));
    let options = NativeOptions {
        models: Some(folder.path().to_owned()),
        ..NativeOptions::default()
    };
    let engine = NativeEngine::open(&options).unwrap();
    let task = ImageTask {
        model: "xl".to_owned(),
        width: 32,
        height: 24,
        steps: 3,
        ..task(ControlType::Canny)
    };
    let plain = ImageTask {
        control: None,
        mode: Mode::Txt2Img,
        ..task.clone()
    };
    let draw = |task: &ImageTask| engine.run(task.clone(), &Quiet).unwrap().remove(0);
    let (steered, plain) = (draw(&task).image.to_rgb8(), draw(&plain).image.to_rgb8());
    assert_eq!(steered.dimensions(), (32, 24));
    assert_ne!(steered, plain);
    let held: Vec<String> = engine
        .holdings()
        .models
        .into_iter()
        .map(|it| it.model)
        .collect();
    assert_eq!(held, ["xl", "control_v11p_sd15_canny"]);
}

fn compare_steered(
    kind: &str,
    (unet, control): (&UNet, &ControlNet),
    io: &TensorFile,
    condition: &Condition,
) {
    let x = get(io, "x");
    let seen = control.see(&get(io, "map"), Edges::Zero).unwrap();
    let added = control
        .forward((&x, 501.0), (condition, Edges::Zero), &seen, 0.7)
        .unwrap();
    for (place, picture) in added.pictures().iter().enumerate() {
        let what = format!("control {kind}, picture {place}");
        compare(&what, picture, &get(io, &format!("added.{place}")));
    }
    let y = unet
        .forward_steered(&x, 501.0, (condition, Edges::Zero), Some(&added))
        .unwrap();
    compare(&format!("UNet steered by {kind}"), &y, &get(io, "y"));
}

/// A control network fits the networks that it was copied from, and says so of others.
#[test]
fn one_for_another_model_is_refused_by_its_numbers() {
    let other: UNetConfig = json("unet-sd2/config.json");
    let error = ControlNet::new(&network("sd1"), &other, &Compute::cpu()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("[8, 16]") && text.contains("[8, 8, 16]"),
        "{text}"
    );
}

/// Pixel for pixel, of a rough and of a smooth picture.
#[test]
fn edges_are_those_of_opencv() {
    let file = tensors("edges.safetensors");
    for name in ["rough", "smooth"] {
        let entry = |what: &str| file.get(&format!("{name}.{what}")).unwrap();
        let [height, width, 3] = *entry("picture").shape() else {
            unreachable!("it is a picture")
        };
        let side = |side: usize| u32::try_from(side).unwrap();
        let bytes = entry("picture").bytes().to_vec();
        let picture = RgbImage::from_raw(side(width), side(height), bytes).unwrap();
        let ours = canny(&picture, THRESHOLDS);
        let wrong = ours.as_raw().iter().zip(entry("edges").bytes());
        let wrong = wrong.filter(|(ours, theirs)| ours != theirs).count();
        let lines = ours.pixels().filter(|pixel| pixel.0 == [255]).count();
        assert!(wrong == 0 && lines > 100, "{name}: {wrong} of {lines}");
    }
}

/// A cross at the top left.
fn cross() -> RgbImage {
    draw(
        Scene {
            colour: GREEN,
            shape: CROSS,
            place: TOP_LEFT,
            size: 1,
            background: BLACK,
        },
        3,
    )
}

/// Places in the judge's tables.
const RED: usize = 0;
const GREEN: usize = 1;
const YELLOW: usize = 3;
const BLUE: usize = 2;
const BLACK: usize = 7;
const CIRCLE: usize = 0;
const SQUARE: usize = 1;
const CROSS: usize = 3;
const TOP_LEFT: usize = 1;

fn task(kind: ControlType) -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps: 12,
        cfg_scale: 5.0,
        seed: 1,
        mode: Mode::Img2Img(Source::new(DynamicImage::ImageRgb8(cross()))),
        control: Some(Control {
            kind,
            image_is_control: false,
            return_map: false,
            strength: 1.0,
        }),
        ..ImageTask::new("ordu-tiny", "yellow on a blue background")
    }
}

fn with(task: ImageTask, change: impl Fn(&mut Control)) -> ImageTask {
    let mut task = task;
    change(task.control.as_mut().unwrap());
    task
}

fn engine() -> NativeEngine {
    NativeEngine::open(&NativeOptions::default()).unwrap()
}

fn one(task: ImageTask) -> RgbImage {
    let pictures = engine().run(task, &Quiet).unwrap();
    assert_eq!(pictures.len(), 1);
    pictures[0].image.to_rgb8()
}

/// Rows 9 of the pipelines.
#[test]
fn the_map_alone_is_a_picture_of_the_size_asked_for() {
    let map = |kind, side| {
        let task = ImageTask {
            model: String::new(),
            width: side,
            height: side,
            ..with(task(kind), |control| control.return_map = true)
        };
        one(task)
    };
    let edges = map(ControlType::Canny, 64);
    assert_eq!(edges, detect(ControlType::Canny, &cross()).unwrap());
    assert!(edges.pixels().any(|pixel| pixel.0 == [255; 3]));
    assert_eq!(map(ControlType::Scribble, 128).dimensions(), (128, 128));
}

#[test]
fn what_nobody_here_can_look_at_or_steer_by_is_refused_by_name() {
    for (task, words) in [
        (
            with(task(ControlType::Depth), |control| {
                control.return_map = true;
            }),
            ["depth", "send the map"],
        ),
        (task(ControlType::Openpose), ["openpose", "send the map"]),
        (
            with(task(ControlType::Hed), |control| {
                control.image_is_control = true;
            }),
            ["hed", "fits ordu-tiny"],
        ),
        (task(ControlType::Tile), ["tile", "fits ordu-tiny"]),
    ] {
        let error = engine().run(task, &Quiet).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// Without a source it means nothing.
#[test]
fn steering_by_nothing_is_drawing() {
    let mut task = task(ControlType::Depth);
    task.mode = Mode::Txt2Img;
    let plain = ImageTask {
        control: None,
        ..task.clone()
    };
    assert_eq!(one(task), one(plain));
}

/// A folder of models tells which of its files are control networks, what they show, and what is
/// wrong with the others.
#[test]
fn networks_are_found_by_their_tensors_and_told_apart_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("compvis");
    let beside = folder.path().join("controlnet");
    let packed = beside.join("control_v11p_sd15_scribble");
    for folder in [&models, &packed] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let ours = path("control-sd1/control_sd15_canny.safetensors");
    let put = |to: std::path::PathBuf| std::fs::copy(&ours, to).unwrap();
    put(models.join("diff_control_sd15_canny_fp16.safetensors"));
    put(beside.join("something.safetensors"));
    put(packed.join("diffusion_pytorch_model.safetensors"));
    std::fs::write(beside.join("broken.safetensors"), [0; 40]).unwrap();
    let mut controls = Controls::open(Some(&models));
    let steered: UNetConfig = json("unet-sd1/config.json");
    let kinds = controls.kinds(&steered);
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    // Two that are networks themselves, whose maps nobody here makes, share the file's name.
    assert_eq!(names, ["canny", "scribble", "binary", "scribble_xdog"]);
    let other: UNetConfig = json("unet-sd2/config.json");
    assert!(controls.kinds(&other).is_empty());
    let problems: Vec<String> = controls
        .take_problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("something"), "{problems:?}");
}

/// Fifty drawings, of which the prompts tell the colours alone.
#[test]
fn pictures_have_the_shape_that_the_edges_show() {
    let options = GateOptions {
        steps: 10,
        ..GateOptions::default()
    };
    let found = steered(&engine(), &options).unwrap();
    println!("{found:?}");
    assert!(found.shape >= 0.85 && found.place >= 0.9, "{found:?}");
    assert!(
        found.colour >= 0.95 && found.background >= 0.95,
        "{found:?}"
    );
}

#[test]
fn a_map_that_is_one_already_strength_and_strokes() {
    let drawn = one(task(ControlType::Canny));
    let map = detect(ControlType::Canny, &cross()).unwrap();
    let of_map = ImageTask {
        mode: Mode::Img2Img(Source::new(DynamicImage::ImageRgb8(map))),
        ..with(task(ControlType::Canny), |control| {
            control.image_is_control = true;
        })
    };
    assert_eq!(one(of_map), drawn);
    let verdict = judge(&drawn);
    let expected = (Some(YELLOW), BLUE, Some(CROSS), Some(TOP_LEFT));
    let found = (
        verdict.colour,
        verdict.background,
        verdict.shape,
        verdict.place,
    );
    assert_eq!(found, expected);
    // Nothing is left of the control where it counts next to nothing.
    let faint = with(task(ControlType::Canny), |control| {
        control.strength = 0.001;
    });
    let mut plain = faint.clone();
    (plain.control, plain.mode) = (None, Mode::Txt2Img);
    let far = |one: &RgbImage, other: &RgbImage| -> u64 {
        let pairs = one.as_raw().iter().zip(other.as_raw());
        pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
    };
    let (faint, plain) = (one(faint), one(plain));
    assert!(far(&faint, &plain) * 10 < far(&drawn, &plain));
}

/// Row 10 of the pipelines: steered, then refined without steering. Where it is, the edges alone tell.
#[test]
fn a_steered_picture_is_refined() {
    let large = ImageTask {
        prompt: "a yellow cross on a blue background".to_owned(),
        width: 128,
        height: 128,
        hires: Some(Hires {
            denoising_strength: Some(0.65),
        }),
        ..task(ControlType::Canny)
    };
    let picture = one(large);
    assert_eq!(picture.dimensions(), (128, 128));
    let verdict = judge(&imageops::thumbnail(&picture, 64, 64));
    assert_eq!(
        (verdict.shape, verdict.place),
        (Some(CROSS), Some(TOP_LEFT))
    );
}

/// All at once: the prompt says red, or a learned word that means yellow, or the LoRA makes it yellow;
/// the edges say where and what; twice as large.
#[test]
fn a_steered_picture_with_a_lora_or_a_learned_word_is_refined() {
    let (_folder, engine) = crate::add_ons::learned();
    let yellow = |strength: f32| Lora {
        file: "ordu-tiny-yellow.safetensors".to_owned(),
        model: strength,
        clip: 0.0,
    };
    for (word, loras, colour) in [
        ("red", vec![], RED),
        ("red", vec![yellow(1.0)], YELLOW),
        ("embedding:sun", vec![], YELLOW),
    ] {
        let task = ImageTask {
            prompt: format!("a {word} cross on a blue background"),
            width: 128,
            height: 128,
            hires: Some(Hires {
                denoising_strength: Some(0.65),
            }),
            loras,
            ..task(ControlType::Canny)
        };
        let picture = engine.run(task, &Quiet).unwrap().remove(0).image.to_rgb8();
        let verdict = judge(&imageops::thumbnail(&picture, 64, 64));
        let found = (verdict.colour, verdict.shape, verdict.place);
        let wanted = (Some(colour), Some(CROSS), Some(TOP_LEFT));
        println!("{word}: {verdict:?}");
        assert_eq!(found, wanted, "{word}");
    }
    let held: Vec<String> = engine
        .holdings()
        .models
        .into_iter()
        .map(|it| it.model)
        .collect();
    assert_eq!(held, ["ordu-tiny", "ordu-tiny-control-edge"]);
    engine.release();
    assert!(engine.holdings().models.is_empty());
}

/// A job may name any model that is offered.
#[test]
fn lines_are_offered_if_all_models_can_be_steered_by_them() {
    let alone = engine().capabilities();
    assert!(alone.features.contains(&Feature::ControlLines));
    assert!(!alone.features.contains(&Feature::ControlNet));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("tiny-sd");
    copy(&path("tiny-sd"), &place);
    let options = NativeOptions {
        models: Some(folder.path().to_owned()),
        ..NativeOptions::default()
    };
    let both = NativeEngine::open(&options).unwrap().capabilities();
    assert_eq!(both.models.len(), 2);
    assert!(!both.features.contains(&Feature::ControlLines));
    assert!(both.controls.contains(&ControlType::Canny));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Outlines as somebody draws them with a pen, two pixels wide.
#[test]
fn strokes_of_a_pen_steer() {
    for (index, shape) in [CROSS, SQUARE, CIRCLE].into_iter().enumerate() {
        let seed = 10 + index as u64;
        let filled = draw(
            Scene {
                colour: BLACK,
                shape,
                place: TOP_LEFT,
                size: 1,
                background: YELLOW,
            },
            seed,
        );
        let edges = canny(&filled, THRESHOLDS);
        let is_edge = |x: u32, y: u32| edges.get_pixel(x.min(63), y.min(63)).0 == [255];
        let paper = RgbImage::from_fn(64, 64, |x, y| {
            let inked = is_edge(x, y) || is_edge(x + 1, y) || is_edge(x, y + 1);
            Rgb(if inked { [20, 20, 60] } else { [255; 3] })
        });
        let task = ImageTask {
            mode: Mode::Img2Img(Source::new(DynamicImage::ImageRgb8(paper))),
            seed,
            ..task(ControlType::Scribble)
        };
        let verdict = judge(&one(task));
        let found = (verdict.shape, verdict.place);
        assert_eq!(found, (Some(shape), Some(TOP_LEFT)), "{verdict:?}");
    }
}
