//! Fixers of faces: networks against the numbers of others, faces found, brought upright and put back,
//! files found by name.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::{DynamicImage, Rgb, RgbImage, Rgba};
use ordu_engine::native::faces::{
    CodeFormer, Gfpgan, ParseNet, Raw, RestoreFormer, RetinaFace, aligned, faces_of, mask_of_kinds,
    pasted, warped,
};
use ordu_engine::plan::post::PostProcessor;
use ordu_engine::{
    AlchemyEngine, Answer, Compute, Engine, EngineError, ImageTask, Mode, NativeEngine,
    NativeOptions, PictureForms, ProgressSink, Quiet, Source, Step, Workflow,
};
use serde_json::Map;

use crate::cutout::{grown_file, grown_weights, numbers, picture};
use crate::data::{compare, compare_within, get, tensors};
use crate::grown::{self, File, Raw as Grown};

const GO: fn() -> Result<(), EngineError> = || Ok(());

/// What is stored of large results.
fn small(x: &Tensor) -> Tensor {
    let even = |side: usize| {
        let places: Vec<u32> = (0..u32::try_from(side).unwrap()).step_by(2).collect();
        Tensor::new(places, &Device::Cpu).unwrap()
    };
    let (_, _, height, width) = x.dims4().unwrap();
    let x = x.index_select(&even(height), 2).unwrap();
    x.index_select(&even(width), 3).unwrap()
}

/// By the parity table.
pub(crate) fn parity() {
    let io = tensors("post/io.safetensors");
    let cpu = Compute::cpu();
    for channels in [8, 68] {
        let name = format!("retinaface{channels}");
        let network = RetinaFace::new(&name, &grown_weights(&name), &cpu).unwrap();
        let made = network.forward(&get(&io, "seen"), &GO).unwrap();
        let parts = [
            ("boxes", &made.boxes),
            ("classes", &made.classes),
            ("landmarks", &made.landmarks),
        ];
        for (part, made) in parts {
            let name = format!("{name}.{part}");
            compare(&name, made, &get(&io, &name));
        }
    }
    let face = get(&io, "face");
    let network = Gfpgan::new("gfpgan", &grown_weights("gfpgan"), &cpu).unwrap();
    assert_eq!(network.side(), 32);
    let made = network.forward(&face, &GO).unwrap();
    compare("GFPGAN", &made, &get(&io, "gfpgan"));
    let weights = grown_weights("restoreformer");
    let network = RestoreFormer::new("restoreformer", &weights, &cpu).unwrap();
    let made = network.forward(&face, &GO).unwrap();
    compare("RestoreFormer", &made, &get(&io, "restoreformer"));
    let network = CodeFormer::new("codeformer", &grown_weights("codeformer"), &cpu).unwrap();
    assert_eq!(network.side(), 64);
    for fidelity in [0.0, 0.5, 1.0] {
        let name = format!("codeformer.{fidelity}");
        let made = network.forward(&get(&io, "face.large"), fidelity, &GO);
        compare(&name, &small(&made.unwrap()), &get(&io, &name));
    }
    let network = ParseNet::new("parsenet", &grown_weights("parsenet"), &cpu).unwrap();
    let made = network.forward(&face, &GO).unwrap();
    compare("ParseNet", &small(&made), &get(&io, "parsenet"));
}

#[test]
fn faces_are_those_that_facexlib_finds() {
    let io = tensors("post/io.safetensors");
    let raw = Raw {
        boxes: get(&io, "said.boxes"),
        classes: get(&io, "said.classes"),
        landmarks: get(&io, "said.landmarks"),
    };
    let found = faces_of(&raw, (96, 64)).unwrap();
    let rows = found.iter().map(|face| {
        let mut row = vec![face.score];
        row.extend(face.bounds);
        row.extend(face.points.as_flattened());
        row
    });
    let rows: Vec<Vec<f32>> = rows.collect();
    let ours = Tensor::new(rows, &Device::Cpu).unwrap();
    compare_within(1e-5, "faces", &ours, &get(&io, "faces"));
    // Numbers of all kinds do no harm.
    for value in [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX] {
        let all = |numbers: usize| Tensor::full(value, (252, numbers), &Device::Cpu).unwrap();
        let classes = Tensor::ones((252, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let raw = Raw {
            boxes: all(4),
            classes,
            landmarks: all(10),
        };
        assert!(faces_of(&raw, (96, 64)).unwrap().is_empty(), "{value}");
    }
}

#[test]
fn faces_are_placed_as_opencv_places_them() {
    let io = tensors("post/io.safetensors");
    let shown = picture(&io, "place.picture");
    let marks = get(&io, "place.landmarks").to_vec2::<f32>().unwrap();
    let points = std::array::from_fn(|at| [marks[at][0], marks[at][1]]);
    let place = aligned(&points, 512).unwrap();
    let matrix = get(&io, "place.matrix").to_vec2::<f32>().unwrap();
    let ours = [[place.a, -place.b, place.u], [place.b, place.a, place.v]];
    for (ours, theirs) in ours.as_flattened().iter().zip(matrix.iter().flatten()) {
        assert!(
            (ours - f64::from(*theirs)).abs() < 1e-3,
            "{place:?} {matrix:?}"
        );
    }
    let upright = warped(&shown, &place, 512).unwrap();
    let part = RgbImage::from_fn(32, 32, |x, y| *upright.get_pixel(8 + 16 * x, 8 + 16 * y));
    near(&part, &picture(&io, "place.upright"), 3);

    let mut kinds = vec![0_f32; 19 * 512 * 512];
    for place in 0..512_u32 * 512 {
        let square =
            |at: u32, middle: f64, radius: f64| ((f64::from(at) - middle) / radius).powi(2);
        let oval = square(place % 512, 256.0, 150.0) + square(place / 512, 270.0, 190.0) < 1.0;
        kinds[if oval { 1 } else { 17 } * 512 * 512 + place as usize] = 1.0;
    }
    let kinds = Tensor::from_vec(kinds, (1, 19, 512, 512), &Device::Cpu).unwrap();
    let mask = mask_of_kinds(&kinds).unwrap();
    let turned = RgbImage::from_fn(512, 512, |x, y| {
        Rgb(upright.get_pixel(x, y).0.map(|byte| 255 - byte))
    });
    let mut made = shown;
    pasted(&mut made, &turned, &mask, &place);
    near(&made, &picture(&io, "place.pasted"), 4);
}

/// OpenCV looks at pictures in steps of a 32nd of a pixel.
#[track_caller]
fn near(ours: &RgbImage, theirs: &RgbImage, most: u8) {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    let pairs = ours.as_raw().iter().zip(theirs.as_raw());
    let worst = pairs.map(|(one, other)| one.abs_diff(*other)).max();
    assert!(worst.unwrap() <= most, "off by {worst:?}");
    let mean = (numbers(ours.as_raw()) - numbers(theirs.as_raw())).unwrap();
    let mean = mean.abs().unwrap().mean_all().unwrap();
    assert!(mean.to_scalar::<f32>().unwrap() < 0.8);
}

/// What a detector sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    Nothing,
    /// A face in the middle of a square picture, not quite half as wide.
    AFace,
}

/// A detector that sees the same in all pictures.
fn detector(sees: Sees) -> File {
    let mut file = grown_file("retinaface8");
    // Where eyes, nose and mouth are in an upright face, from its middle; seen from the first of all
    // places, which lies 16 pixels from the corner of the 640 that are looked at.
    let marks = [
        193.0, 240.0, 319.0, 240.0, 257.0, 314.0, 201.0, 371.0, 313.0, 371.0,
    ];
    let marks = marks.map(|at: f32| (at / 512.0 - 0.5) * 6.0 + (320.0 - 16.0) / 51.2);
    let marks = [marks, marks].concat();
    // Boxes so large that all of them are the same.
    let boxes = [[0.0, 0.0, 10.0, 10.0]; 2].concat();
    for level in 0..3 {
        let yes = if sees == Sees::AFace && level == 2 {
            9.0
        } else {
            -9.0
        };
        for (head, bias) in [
            ("ClassHead", vec![9.0, -9.0, -yes, yes]),
            ("BboxHead", boxes.clone()),
            ("LandmarkHead", marks.clone()),
        ] {
            let name = format!("{head}.{level}.conv1x1");
            let count = bias.len();
            let zeros = Grown::of(&vec![0.0; count * 8], &[count, 8, 1, 1]);
            file.insert(format!("{name}.weight"), zeros);
            file.insert(format!("{name}.bias"), Grown::of(&bias, &[count]));
        }
    }
    file
}

/// A parser that takes everything for skin.
fn parser() -> File {
    let mut file = grown_file("parsenet");
    let name = "out_mask_conv.conv2d";
    let weight = file[&format!("{name}.weight")].shape.clone();
    let zeros = vec![0.0; weight.iter().product()];
    file.insert(format!("{name}.weight"), Grown::of(&zeros, &weight));
    let mut bias = vec![0.0; 19];
    bias[1] = 1.0;
    file.insert(format!("{name}.bias"), Grown::of(&bias, &[19]));
    file
}

/// A folder with fixers of these names, and what they need.
fn folder(fixers: &[(&str, &str)], sees: Sees) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, file: &File| grown::write(file, &folder.path().join(name), &[]);
    for (name, part) in fixers {
        write(name, &grown_file(part));
    }
    write(
        "facedetection/detection_Resnet50_Final.safetensors",
        &detector(sees),
    );
    write("facedetection/parsing_parsenet.safetensors", &parser());
    folder
}

fn open(folder: &Path) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: Some(folder.to_owned()),
        ..NativeOptions::default()
    })
    .unwrap()
}

fn portrait() -> RgbImage {
    RgbImage::from_fn(160, 160, |x, y| {
        let byte = |value: u32| u8::try_from(value % 256).unwrap();
        Rgb([byte(x), byte(y), byte(x / 2 + y / 2)])
    })
}

fn fixed(engine: &NativeEngine, form: &str, source: &DynamicImage, strength: f32) -> DynamicImage {
    let task = ImageTask {
        width: source.width(),
        height: source.height(),
        post: vec![PostProcessor::from_name(form).unwrap()],
        workflow: Some(Workflow::PostProcess),
        mode: Mode::Img2Img(Source::new(source.clone())),
        face_strength: Some(strength),
        ..ImageTask::new("", "")
    };
    engine.run(task, &Quiet).unwrap().remove(0).image
}

#[test]
fn a_face_is_mended_and_what_is_around_it_stays() {
    let names = [
        ("GFPGANv1.4.safetensors", "gfpgan"),
        ("codeformer/codeformer.safetensors", "codeformer"),
    ];
    let folder = folder(&names, Sees::AFace);
    let engine = open(folder.path());
    assert_eq!(engine.problems().len(), 0, "{:?}", engine.problems());
    let fixers = [PostProcessor::Gfpgan, PostProcessor::CodeFormers];
    for fixer in fixers {
        assert!(engine.capabilities().post_processors.contains(&fixer));
    }
    let mut source = DynamicImage::ImageRgb8(portrait()).to_rgba8();
    source.put_pixel(80, 80, Rgba([1, 2, 3, 77]));
    let source = DynamicImage::ImageRgba8(source);
    let made = fixed(&engine, "GFPGAN", &source, 0.5);
    assert_eq!((made.width(), made.height()), (160, 160));
    let (made, before) = (made.to_rgba8(), source.to_rgba8());
    let differs = |x: u32, y: u32| made.get_pixel(x, y) != before.get_pixel(x, y);
    assert_eq!(made.get_pixel(80, 80).0[3], 77);
    assert!(differs(80, 76) && differs(60, 100));
    for at in 0..160 {
        assert!(!differs(at, 0) && !differs(0, at) && !differs(159, at));
    }
    // How true it stays to the face counts for CodeFormer.
    let weak = fixed(&engine, "CodeFormers", &source, 1.0);
    assert_ne!(fixed(&engine, "CodeFormers", &source, 0.0), weak);
    assert_eq!(fixed(&engine, "CodeFormers", &source, 1.0), weak);
    let held = engine.holdings().models;
    assert!(
        held.iter().any(|held| held.model == "CodeFormers"),
        "{held:?}"
    );
}

#[test]
fn a_picture_without_faces_stays_as_it_is() {
    let folder = folder(
        &[("RestoreFormer.safetensors", "restoreformer")],
        Sees::Nothing,
    );
    let engine = open(folder.path());
    let source = DynamicImage::ImageRgb8(portrait());
    assert_eq!(fixed(&engine, "RestoreFormer", &source, 0.5), source);
    let forms = PictureForms::new(Arc::new(engine));
    assert_eq!(forms.forms(), ["RestoreFormer", "strip_background"]);
    let Ok(Answer::Picture(made)) = forms.answer("RestoreFormer", &source, &Map::new(), &Quiet)
    else {
        panic!("no picture")
    };
    assert_eq!(made, source);
}

#[test]
fn fixers_come_behind_upscalers_and_the_background_last() {
    use PostProcessor::{GfpganV13, LsdirPlus4x, StripBackground};

    let folder = folder(&[("GFPGANv1.3.safetensors", "gfpgan")], Sees::AFace);
    std::fs::copy(
        crate::data::path("upscaler/model.safetensors"),
        folder.path().join("4xLSDIRplus.safetensors"),
    )
    .unwrap();
    let engine = open(folder.path());
    let task = |post: &[PostProcessor]| ImageTask {
        width: 64,
        height: 64,
        steps: 2,
        post: post.to_vec(),
        ..ImageTask::new("ordu-tiny", "a red circle")
    };
    let run = |post: &[PostProcessor]| engine.run(task(post), &Quiet).unwrap().remove(0).image;
    let made = run(&[StripBackground, GfpganV13, LsdirPlus4x]);
    assert_eq!((made.width(), made.height()), (256, 256));
    assert!(made.color().has_alpha());
    assert_eq!(made, run(&[LsdirPlus4x, GfpganV13, StripBackground]));
    assert_ne!(made, run(&[LsdirPlus4x, StripBackground]));
}

#[test]
fn a_fixer_is_offered_with_all_that_it_needs_alone() {
    let said = |engine: &NativeEngine| {
        let problems = engine.problems().iter();
        problems
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let whole = folder(&[("GFPGANv1.4.safetensors", "gfpgan")], Sees::AFace);
    let helper = whole
        .path()
        .join("facedetection/parsing_parsenet.safetensors");
    std::fs::rename(&helper, helper.with_extension("pth")).unwrap();
    let engine = open(whole.path());
    assert!(
        !engine
            .capabilities()
            .post_processors
            .contains(&PostProcessor::Gfpgan)
    );
    let problems = said(&engine);
    assert!(
        problems.contains("python -c") && problems.contains("are needed, too"),
        "{problems}"
    );

    let wrong = folder(&[("codeformer.safetensors", "parsenet")], Sees::AFace);
    let engine = open(wrong.path());
    assert!(said(&engine).contains("no CodeFormer"), "{}", said(&engine));

    let none = tempfile::tempdir().unwrap();
    assert_eq!(open(none.path()).problems().len(), 0);
}

#[test]
fn what_a_header_does_not_tell_is_found_by_name() {
    for (part, tensor) in [
        ("gfpgan", "stylegan_decoder.noises.noise3"),
        ("restoreformer", "decoder.up.1.block.2.norm2.bias"),
        ("codeformer", "fuse_convs_dict.32.shift.2.weight"),
    ] {
        let mut file = grown_file(part);
        file.remove(tensor).unwrap();
        let weights = ordu_engine::native::weights::Weights::from_file(&grown::opened(&file));
        let refused = ordu_engine::native::faces::Restorer::new(part, &weights, &Compute::cpu());
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(tensor), "{said}");
    }
}

/// Wants nothing any more.
struct Impatient;

impl ProgressSink for Impatient {
    fn step(&self, _step: Step) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn mending_can_be_cancelled() {
    let folder = folder(&[("GFPGANv1.4.safetensors", "gfpgan")], Sees::AFace);
    let forms = PictureForms::new(Arc::new(open(folder.path())));
    let source = DynamicImage::ImageRgb8(portrait());
    let stopped = forms.answer("GFPGAN", &source, &Map::new(), &Impatient);
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
}

#[test]
fn pictures_of_all_sizes_are_looked_at() {
    let folder = folder(&[("GFPGANv1.4.safetensors", "gfpgan")], Sees::AFace);
    let engine = open(folder.path());
    for (width, height) in [(1, 1), (1, 300), (700, 3)] {
        let source = DynamicImage::new_luma8(width, height);
        let made = fixed(&engine, "GFPGAN", &source, 0.5);
        assert_eq!((made.width(), made.height()), (width, height));
    }
}
