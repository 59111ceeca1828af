//! Upscalers: found by name and checked by content, over a picture in tiles, at the end of a task.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use ordu_engine::native::upscale::{Dat, RealPlksr, Rrdb, Span, Upscalers};
use ordu_engine::native::weights::Weights;
use ordu_engine::plan::post::PostProcessor;
use ordu_engine::{
    AlchemyEngine, Answer, Compute, Engine, EngineError, ImageTask, NamedEngine, NativeEngine,
    NativeOptions, PictureForms, ProgressSink, Quiet, Step,
};
use safetensors::tensor::TensorView;
use serde_json::Map;

use crate::data::{compare, get, json, path, tensors};
use crate::grown::{self, File, Raw, Shapes};

/// The tensors of a file, to be changed.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn network() -> Tensors {
    let file = tensors("upscaler/model.safetensors");
    let raw = |(name, entry): (&str, &ordu_engine::native::weights::Entry)| {
        let value = (entry.shape().to_vec(), entry.bytes().to_vec());
        (name.to_owned(), value)
    };
    file.entries().map(raw).collect()
}

fn write(network: &Tensors, path: &Path) {
    let views = network.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(safetensors::Dtype::F16, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// The upscalers of a folder with one file.
fn folder_with(name: &str, network: &Tensors) -> (tempfile::TempDir, Upscalers) {
    let folder = tempfile::tempdir().unwrap();
    write(network, &folder.path().join(name));
    let upscalers = Upscalers::open(folder.path());
    (folder, upscalers)
}

fn renamed(network: &Tensors, names: &[(&str, &str)]) -> Tensors {
    let rename = |(name, value): (&String, &(Vec<usize>, Vec<u8>))| {
        let mut name = name.clone();
        for (from, to) in names {
            name = name.replace(from, to);
        }
        (name, value.clone())
    };
    network.iter().map(rename).collect()
}

/// As files of the first years name them.
fn old(network: &Tensors) -> Tensors {
    let inner = [1, 2, 3, 4, 5].map(|number| {
        let from = format!(".conv{number}.");
        (from.clone(), format!("{from}0."))
    });
    let mut names: Vec<(&str, &str)> = inner
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect();
    names.extend([
        ("conv_first", "model.0"),
        ("conv_body", "model.1.sub.1"),
        ("conv_up1", "model.3"),
        ("conv_up2", "model.6"),
        ("conv_hr", "model.8"),
        ("conv_last", "model.10"),
        ("body.0.rdb", "model.1.sub.0.RDB"),
    ]);
    renamed(network, &names)
}

/// Smooth, with an edge: what seams would show in.
fn picture(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| {
        let byte = |value: u32| u8::try_from(value % 256).unwrap();
        let edge = if x + y > width { 90 } else { 0 };
        Rgb([byte(x / 2 + edge), byte(y / 2), byte((x + y) / 4)])
    }))
}

/// By the parity table.
pub(crate) fn parity() {
    let io = tensors("upscaler/io.safetensors");
    let model = tensors("upscaler/model.safetensors");
    let forward = |weights: &Weights| {
        let network = Rrdb::new("tiny", weights, &Compute::cpu()).unwrap();
        network.forward(&get(&io, "picture"), &|| Ok(())).unwrap()
    };
    let own = || {
        let entries = model.entries();
        entries.map(|(name, entry)| (name.to_owned(), entry.clone()))
    };
    let whole = forward(&Weights::from_entries(own()));
    compare("upscaler x4", &whole, &get(&io, "x4"));
    let first = io.entries().filter_map(|(name, entry)| {
        Some((name.strip_prefix("shuffled.")?.to_owned(), entry.clone()))
    });
    let first = first.filter(|(name, _)| name.starts_with("conv_first"));
    let shuffled = forward(&Weights::from_entries(own().chain(first)));
    compare(
        "upscaler x2, odd sides",
        &shuffled,
        &get(&io, "shuffled.x2"),
    );
    let single = own().filter(|(name, _)| !name.starts_with("conv_up2"));
    let single = forward(&Weights::from_entries(single));
    compare("upscaler x2, one step", &single, &get(&io, "single.x2"));
    let others = tensors("upscaler/others.safetensors");
    let picture = get(&io, "picture");
    for (name, file) in others_files() {
        let weights = Weights::from_file(&grown::opened(&file));
        let go_on = || Ok(());
        let made = if name.starts_with("span") {
            let network = Span::new(&name, &weights, &Compute::cpu()).unwrap();
            network.forward(&picture, &go_on)
        } else if name == "dat" {
            let network = Dat::new(&name, &weights, &Compute::cpu()).unwrap();
            network.forward(&picture, &go_on)
        } else {
            let network = RealPlksr::new(&name, &weights, &Compute::cpu()).unwrap();
            network.forward(&picture, &go_on)
        };
        compare(
            &format!("upscaler, {name}"),
            &made.unwrap(),
            &get(&others, &name),
        );
    }
}

/// The networks of other families in `training/parity/upscalers.py`.
fn others_files() -> BTreeMap<String, File> {
    let shapes: BTreeMap<String, Shapes> = json("upscaler/others.json");
    let others = tensors("upscaler/others.safetensors");
    let files = shapes.into_iter().map(|(name, shapes)| {
        let mut file = grown::part(&name, &shapes, str::to_owned);
        for (tensor, raw) in &mut file {
            let is_spread = tensor == "conv_1.conv.0.weight" || tensor == "conv_1.sk.weight";
            if name == "span" && is_spread {
                let numbers = grown::numbers(&format!("span/{tensor}"), &raw.shape);
                let smaller: Vec<f32> = numbers.iter().map(|number| number / 256.0).collect();
                *raw = Raw::of(&smaller, &raw.shape.clone());
            }
        }
        // Numbers that follow from sizes are not grown.
        for (kept, own) in others.entries() {
            let Some(kept) = kept.strip_prefix(&format!("{name}/")) else {
                continue;
            };
            let raw = Raw {
                shape: own.shape().to_vec(),
                bytes: own.bytes().to_vec(),
            };
            file.insert(kept.to_owned(), raw);
        }
        (name, file)
    });
    files.collect()
}

/// Notes how far it is told to be.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<(u32, u32)>>);

impl ProgressSink for Told {
    fn step(&self, step: Step) {
        self.0.lock().unwrap().push((step.step, step.of));
    }
}

#[test]
fn other_families_are_told_by_their_tensors() {
    let files = others_files();
    for (name, stem, step) in [
        (
            "span",
            "2x_ModernSpanimationV1",
            PostProcessor::ModernSpanimation2x,
        ),
        (
            "plksr",
            "4xNomosWebPhoto_RealPLKSR",
            PostProcessor::NomosWebPhoto4x,
        ),
        ("dat", "4xNomos2_hq_dat2", PostProcessor::Nomos2HqDat4x),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder
            .path()
            .join("esrgan")
            .join(format!("{stem}.safetensors"));
        grown::write(&files[name], &path, &[]);
        let engine = open(folder.path());
        assert_eq!(engine.problems().len(), 0, "{:?}", engine.problems());
        assert!(engine.capabilities().post_processors.contains(&step));
        let made = Upscalers::open(folder.path())
            .run(step, &picture(21, 13), &Quiet)
            .unwrap();
        let factor = if name == "span" { 2 } else { 4 };
        assert_eq!((made.width(), made.height()), (21 * factor, 13 * factor));
    }
}

#[test]
fn a_large_picture_tells_of_its_tiles() {
    let (_folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let told = |picture: &DynamicImage| {
        let told = Told::default();
        upscalers
            .run(PostProcessor::RealEsrganX4Plus, picture, &told)
            .unwrap();
        told.0.into_inner().unwrap()
    };
    assert_eq!(told(&picture(192, 4)), []);
    assert_eq!(told(&picture(200, 4)), [(1, 2), (2, 2)]);
    let mut clear = picture(200, 4).to_rgba8();
    clear.put_pixel(0, 0, Rgba([0; 4]));
    let steps = told(&DynamicImage::ImageRgba8(clear));
    assert_eq!(steps, [(1, 4), (2, 4), (3, 4), (4, 4)]);
}

#[test]
fn old_and_wrapped_names_are_the_same_network() {
    let network = network();
    let picture = picture(20, 13);
    let run = |network: &Tensors| {
        let (_folder, upscalers) = folder_with("4x-AnimeSharp.safetensors", network);
        let made = upscalers.run(PostProcessor::AnimeSharp4x, &picture, &Quiet);
        made.unwrap()
    };
    let expected = run(&network);
    assert_eq!((expected.width(), expected.height()), (80, 52));
    assert_eq!(run(&old(&network)), expected);
    let wrapped: Tensors = network
        .iter()
        .map(|(name, value)| (format!("params_ema.{name}"), value.clone()))
        .collect();
    assert_eq!(run(&wrapped), expected);
}

#[test]
fn tiles_do_not_show() {
    let (_folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let run = |picture: &DynamicImage| {
        let made = upscalers.run(PostProcessor::RealEsrganX4Plus, picture, &Quiet);
        made.unwrap().into_rgb8()
    };
    // Over two tiles to the right; its right half alone fits into one.
    let whole = picture(300, 40);
    let tiled = run(&whole);
    let part = run(&whole.crop_imm(140, 0, 160, 40));
    let inner = 30..130_u32;
    for (x, y) in inner.flat_map(|x| (0..40).map(move |y| (x * 4, y * 4))) {
        let (one, other) = (tiled.get_pixel(x + 560, y), part.get_pixel(x, y));
        for (one, other) in one.0.iter().zip(other.0) {
            assert!(one.abs_diff(other) <= 1, "at {x}, {y}");
        }
    }
}

#[test]
fn alpha_grows_with_the_colours() {
    let (_folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let run = |picture: RgbaImage| {
        let picture = DynamicImage::ImageRgba8(picture);
        let made = upscalers.run(PostProcessor::RealEsrganX4Plus, &picture, &Quiet);
        made.unwrap()
    };
    let colours = picture(12, 9).to_rgba8();
    let opaque = run(colours.clone()).into_rgba8();
    assert!(opaque.pixels().all(|pixel| pixel.0[3] == 255));
    let mut clear = colours;
    for (x, _, pixel) in clear.enumerate_pixels_mut() {
        *pixel = Rgba([
            pixel.0[0],
            pixel.0[1],
            pixel.0[2],
            if x < 6 { 0 } else { 255 },
        ]);
    }
    let half = run(clear).into_rgba8();
    let same_colours = opaque.pixels().zip(half.pixels());
    assert!(
        same_colours
            .clone()
            .all(|(one, other)| one.0[..3] == other.0[..3])
    );
    assert!(
        same_colours
            .clone()
            .any(|(one, other)| one.0[3] != other.0[3])
    );
}

#[test]
fn what_is_no_upscaler_is_said() {
    let network = network();
    let refusal = |name: &str, network: &Tensors| {
        let (folder, _) = folder_with(name, network);
        let engine = open(folder.path());
        let offered = engine.capabilities().post_processors;
        assert_eq!(offered, [PostProcessor::StripBackground].into());
        engine
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    };
    let without = |name: &str| {
        let mut network = network.clone();
        network.remove(name).unwrap();
        network
    };
    for (name, network, expected) in [
        (
            "RealESRGAN_x2plus.safetensors",
            network.clone(),
            "enlarges by 4, its name promises 2",
        ),
        (
            "4xNomos2_hq_dat2.safetensors",
            without("conv_first.weight"),
            "no network of the ESRGAN family",
        ),
        (
            "RealESRGAN_x4plus.safetensors",
            without("body.0.rdb1.conv1.weight"),
            "`body.0.rdb1.conv1.weight` is missing",
        ),
    ] {
        let said = refusal(name, &network);
        assert!(said.contains(expected), "{said}");
    }
    // What its header does not tell is found when it is loaded, by name.
    for (network, expected) in [
        (
            without("conv_last.bias"),
            "1 tensor is missing: conv_last.bias [3]",
        ),
        (
            renamed(&network, &[("rdb3.conv5.bias", "rdb3.conv6.bias")]),
            "rdb3.conv6.bias",
        ),
    ] {
        let (_folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network);
        let refused = upscalers.run(PostProcessor::RealEsrganX4Plus, &picture(4, 4), &Quiet);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn damaged_files_do_no_harm() {
    let whole = std::fs::read(path("upscaler/model.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("RealESRGAN_x4plus.safetensors");
    for length in [0, 1, 7, 8, 9, 100, 5000, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let mut upscalers = Upscalers::open(folder.path());
        assert_eq!(upscalers.available().count(), 0, "{length} bytes");
        assert_eq!(upscalers.take_problems().len(), 1, "{length} bytes");
    }
}

fn open(folder: &Path) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: Some(folder.to_owned()),
        ..NativeOptions::default()
    })
    .unwrap()
}

fn task() -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps: 2,
        post: vec![PostProcessor::RealEsrganX4Plus],
        ..ImageTask::new("ordu-tiny", "a red circle")
    }
}

#[test]
fn enlarging_alone_is_a_form_and_needs_no_model() {
    let (folder, _) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let engine = NamedEngine::new(Arc::new(open(folder.path())));
    let forms = PictureForms::new(Arc::new(engine));
    assert_eq!(forms.forms(), ["RealESRGAN_x4plus", "strip_background"]);
    let answer = |form: &str| forms.answer(form, &picture(20, 12), &Map::new(), &Quiet);
    let Ok(Answer::Picture(made)) = answer("RealESRGAN_x4plus") else {
        panic!("no picture")
    };
    assert_eq!((made.width(), made.height()), (80, 48));
    for form in ["NMKD_Siax", "GFPGAN", "annotation", "caption"] {
        assert!(answer(form).is_err(), "{form}");
    }
}

#[test]
fn a_picture_is_enlarged_at_the_end_of_its_task() {
    let (folder, _) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let engine = open(folder.path());
    let offered = engine.capabilities().post_processors;
    let expected = [
        PostProcessor::RealEsrganX4Plus,
        PostProcessor::StripBackground,
    ];
    assert_eq!(offered, expected.into());
    let made = engine.run(task(), &Quiet).unwrap();
    assert_eq!((made[0].image.width(), made[0].image.height()), (256, 256));
    let held = engine.holdings().models;
    assert!(held.iter().any(|held| held.model == "RealESRGAN_x4plus"));

    let missing = ImageTask {
        post: vec![PostProcessor::NmkdSiax],
        ..task()
    };
    let refused = engine.run(missing, &Quiet).unwrap_err();
    assert!(refused.to_string().contains("no NMKD_Siax"), "{refused}");
}

/// Changes its mind after the last step of sampling.
struct Impatient(std::sync::atomic::AtomicBool);

impl ProgressSink for Impatient {
    fn step(&self, step: Step) {
        let enough = step.step == step.of;
        self.0.store(enough, std::sync::atomic::Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn enlarging_can_be_cancelled() {
    let (folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    let sink = Impatient(true.into());
    let stopped = upscalers.run(PostProcessor::RealEsrganX4Plus, &picture(9, 9), &sink);
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
    let sink = Impatient(false.into());
    let stopped = open(folder.path()).run(task(), &sink);
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
}

#[test]
fn what_could_not_be_handed_on_is_refused() {
    let (_folder, upscalers) = folder_with("RealESRGAN_x4plus.safetensors", &network());
    for (width, height) in [(4096, 1), (1, 5000), (0, 3)] {
        let picture = DynamicImage::new_rgb8(width, height);
        let refused = upscalers.run(PostProcessor::RealEsrganX4Plus, &picture, &Quiet);
        assert!(
            matches!(refused, Err(EngineError::BadTask { .. })),
            "{width}x{height}"
        );
    }
}
