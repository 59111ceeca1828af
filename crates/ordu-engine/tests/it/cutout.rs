//! Backgrounds: networks and mattes against the numbers of others, weights found by name, and what the
//! bundled one makes of the bundled model's pictures.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};
use ordu_engine::gates::{GateOptions, backgrounds};
use ordu_engine::native::cutout::{Matting, U2Net, alpha_of, without_background};
use ordu_engine::native::weights::{TensorFile, Weights};
use ordu_engine::plan::post::PostProcessor;
use ordu_engine::{
    AlchemyEngine, Answer, Compute, Engine, EngineError, ImageTask, NamedEngine, NativeEngine,
    NativeOptions, PictureForms, ProgressSink, Quiet, Step,
};
use serde_json::Map;
use std::sync::Arc;

use crate::data::{compare, get, json, tensors};
use crate::grown::{self, File, Shapes};

/// The tensors of a network of `training/parity/post.py`.
pub(crate) fn grown_file(part: &str) -> File {
    let shapes: BTreeMap<String, Shapes> = json("post/shapes.json");
    grown::part(part, &shapes[part], str::to_owned)
}

pub(crate) fn grown_weights(part: &str) -> Weights {
    Weights::from_file(&grown::opened(&grown_file(part)))
}

/// A picture among the numbers of `training/parity/post.py`.
pub(crate) fn picture(io: &TensorFile, name: &str) -> RgbImage {
    let entry = io.get(name).unwrap();
    let [height, width, 3] = entry.shape()[..] else {
        panic!("no picture")
    };
    let side = |side: usize| u32::try_from(side).unwrap();
    RgbImage::from_raw(side(width), side(height), entry.bytes().to_vec()).unwrap()
}

fn mask(io: &TensorFile, name: &str) -> GrayImage {
    let entry = io.get(name).unwrap();
    let [height, width] = entry.shape()[..] else {
        panic!("no mask")
    };
    let side = |side: usize| u32::try_from(side).unwrap();
    GrayImage::from_raw(side(width), side(height), entry.bytes().to_vec()).unwrap()
}

pub(crate) fn numbers(bytes: &[u8]) -> Tensor {
    let numbers: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte)).collect();
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

/// By the parity table.
pub(crate) fn parity() {
    let io = tensors("post/io.safetensors");
    for kind in ["u2net", "isnet"] {
        let network = U2Net::new(kind, &grown_weights(kind), &Compute::cpu()).unwrap();
        let made = network.forward(&get(&io, "picture"), &|| Ok(())).unwrap();
        compare(&format!("background, {kind}"), &made, &get(&io, kind));
    }
}

#[test]
fn mattes_are_those_of_pymatting() {
    let io = tensors("post/io.safetensors");
    let shown = picture(&io, "matte.picture");
    let made = alpha_of(&shown, &mask(&io, "matte.mask"), &|| Ok(())).unwrap();
    let Matting::Done(alpha) = made else {
        panic!("no matte: {made:?}")
    };
    let expected = mask(&io, "matte.alpha");
    let worst = |one: &[u8], other: &[u8]| {
        let differences = one.iter().zip(other);
        differences.map(|(one, other)| one.abs_diff(*other)).max()
    };
    let off = worst(alpha.as_raw(), expected.as_raw()).unwrap();
    assert!(off <= 1, "alpha is off by {off}");
    let colours = without_background(&shown, &expected);
    let theirs = picture(&io, "matte.foreground");
    let off = worst(colours.as_raw(), theirs.as_raw()).unwrap();
    assert!(off <= 1, "colours are off by {off}");
}

fn write(file: &File, path: &Path) {
    grown::write(file, path, &[]);
}

fn open(folder: Option<&Path>) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: folder.map(Path::to_owned),
        ..NativeOptions::default()
    })
    .unwrap()
}

#[test]
fn a_picture_is_drawn_and_its_background_goes() {
    let engine = open(None);
    let offered = engine.capabilities().post_processors;
    assert_eq!(offered, [PostProcessor::StripBackground].into());
    let task = ImageTask {
        width: 64,
        height: 64,
        steps: 10,
        cfg_scale: 5.0,
        seed: 7,
        post: vec![PostProcessor::StripBackground],
        ..ImageTask::new(
            "ordu-tiny",
            "a large red circle at the center on a blue background",
        )
    };
    let made = engine.run(task, &Quiet).unwrap().remove(0).image;
    let DynamicImage::ImageRgba8(made) = made else {
        panic!("no transparency")
    };
    assert_eq!(made.dimensions(), (64, 64));
    let [red, _, blue, alpha] = made.get_pixel(32, 32).0;
    assert!(red > 150 && blue < 100 && alpha > 240);
    for (x, y) in [(1, 1), (62, 1), (1, 62), (62, 62)] {
        assert!(made.get_pixel(x, y).0[3] < 15, "{x}, {y}");
    }
    assert!(
        engine
            .holdings()
            .models
            .iter()
            .any(|held| held.model == "ordu-tiny-cutout")
    );
    engine.release();
    assert!(engine.holdings().models.is_empty());
}

#[test]
fn shapes_of_the_bundled_model_are_cut_out() {
    let options = GateOptions {
        prompts: 10,
        steps: 15,
        ..GateOptions::default()
    };
    let found = backgrounds(&open(None), &options).unwrap();
    println!("{:.0} % good, {:.3}", 100.0 * found.good(), found.mean());
    assert!(found.shared.len() >= 8, "{found:?}");
    assert!(found.good() >= 0.9 && found.mean() >= 0.9, "{found:?}");
}

/// A store with a network for backgrounds, under this name, and one model beside the bundled one.
fn store(name: &str, file: &File) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(file, &folder.path().join(name));
    folder
}

#[test]
fn weights_in_the_folder_come_first_and_are_a_form() {
    let folder = store("miscellaneous/u2net.safetensors", &grown_file("u2net"));
    let engine = open(Some(folder.path()));
    assert_eq!(engine.problems().len(), 0);
    let engine = Arc::new(NamedEngine::new(Arc::new(engine)));
    let forms = PictureForms::new(Arc::clone(&engine) as Arc<dyn Engine>);
    assert_eq!(forms.forms(), ["strip_background"]);
    let mut source = RgbaImage::from_pixel(40, 24, image::Rgba([200, 10, 30, 255]));
    source.put_pixel(3, 4, image::Rgba([1, 2, 3, 0]));
    let source = DynamicImage::ImageRgba8(source);
    let Ok(Answer::Picture(made)) = forms.answer("strip_background", &source, &Map::new(), &Quiet)
    else {
        panic!("no picture")
    };
    assert_eq!((made.width(), made.height()), (40, 24));
    assert!(made.color().has_alpha());
    let held = engine.holdings().models;
    assert!(held.iter().any(|held| held.model == "u2net"), "{held:?}");
}

#[test]
fn the_bundled_network_promises_nothing_where_there_are_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ordu-tiny");
    copy(&bundled, &folder.path().join("another"));
    let engine = open(Some(folder.path()));
    assert_eq!(engine.capabilities().models.len(), 2);
    assert!(engine.capabilities().post_processors.is_empty());
    let task = ImageTask {
        post: vec![PostProcessor::StripBackground],
        ..ImageTask::new("another", "a red circle")
    };
    let refused = engine.run(task, &Quiet).unwrap_err().to_string();
    assert!(refused.contains("no strip_background"), "{refused}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_is_no_network_for_backgrounds_is_said() {
    let said = |name: &str, file: &File| {
        let folder = store(name, file);
        let engine = open(Some(folder.path()));
        let problems = engine.problems().iter();
        problems.map(ToString::to_string).collect::<String>()
    };
    let other = grown_file("parsenet");
    assert!(said("u2net.safetensors", &other).contains("no U²-Net"));
    let pickled = said("u2net.pth", &other);
    assert!(
        pickled.contains("python -c") && pickled.contains("u2net.safetensors"),
        "{pickled}"
    );
    // What the header does not tell is found when it is used.
    let mut file = grown_file("u2net");
    file.remove("stage3.rebnconv2.bn_s1.running_var").unwrap();
    let folder = store("u2net.safetensors", &file);
    let forms = PictureForms::new(Arc::new(open(Some(folder.path()))));
    let source = DynamicImage::new_rgb8(8, 8);
    let refused = forms.answer("strip_background", &source, &Map::new(), &Quiet);
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains("stage3.rebnconv2.bn_s1.running_var"),
        "{refused}"
    );
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
fn cutting_out_can_be_cancelled() {
    let forms = PictureForms::new(Arc::new(open(None)));
    let source = DynamicImage::new_rgb8(64, 64);
    let stopped = forms.answer("strip_background", &source, &Map::new(), &Impatient);
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
}
