//! Measures the networks of the built-in engine on one device: `cargo run --release -p ordu-engine
//! --features cudnn --example bench -- --models DIR --device cuda:0 --precision f16`.
//!
//! `DIR` holds folders made by `training/speed/torch_speed.py`: `sd15` (`unet`, `vae`, `text_encoder`) and
//! `sdxl` (`unet`), networks of true size with random weights, and for each network what PyTorch made
//! of known inputs. One line of JSON for each thing measured. `--parity` compares the bundled model
//! on the device with the processor instead.
#![allow(clippy::doc_markdown, reason = "PyTorch is a name in prose, not code")]
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]
#![expect(
    clippy::cast_precision_loss,
    reason = "bytes and pixels are far below 2^52"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use image::{DynamicImage, GrayImage, Luma, RgbImage};
use ordu_engine::native::noise::NoiseStream;
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::{Condition, clip::Clip, unet::UNet, vae::Vae};
use ordu_engine::native::weights::{TensorFile, Weights};
use ordu_engine::{
    Compute, Control, ControlType, DeviceChoice, Engine as _, Hires, ImageTask, Mode, NativeEngine,
    NativeOptions, NoiseSource, PostProcessor, Precision, QrSpec, Quiet, RemixImage, Source,
    Workflow,
};
use serde::de::DeserializeOwned;
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// What to measure.
struct Arguments {
    models: PathBuf,
    device: DeviceChoice,
    precision: Precision,
    only: Option<String>,
    size: Vec<usize>,
    batch: Vec<usize>,
    runs: usize,
    parity: bool,
    picture: bool,
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        let mut read = Self {
            models: PathBuf::from("."),
            device: DeviceChoice::Auto,
            precision: Precision::Auto,
            only: None,
            size: vec![512, 1024],
            batch: vec![1, 4],
            runs: 20,
            parity: false,
            picture: false,
        };
        let numbers = |text: &str| -> Result<Vec<usize>, Failure> {
            Ok(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--models" => read.models = PathBuf::from(value()?),
                "--device" => read.device = value()?.parse()?,
                "--precision" => read.precision = value()?.parse()?,
                "--only" => read.only = Some(value()?),
                "--size" => read.size = numbers(&value()?)?,
                "--batch" => read.batch = numbers(&value()?)?,
                "--runs" => read.runs = value()?.parse()?,
                "--parity" => read.parity = true,
                "--picture" => read.picture = true,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(read)
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == what)
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read()?;
    if arguments.parity {
        return parity(&arguments);
    }
    let compute = Compute::open(arguments.device, arguments.precision)?;
    for (model, text, side) in [("sd15", 768, 512), ("sdxl", 2048, 1024)] {
        let folder = arguments.models.join(model);
        if arguments.wants("unet") && folder.join("unet").is_dir() {
            unet(&arguments, &compute, &folder.join("unet"), (text, side))?;
        }
    }
    let folder = arguments.models.join("sd15");
    if arguments.wants("vae") && folder.join("vae").is_dir() {
        vae(
            &arguments,
            &compute.with_range_of_f32(),
            &folder.join("vae"),
        )?;
    }
    if arguments.wants("text") && folder.join("text_encoder").is_dir() {
        text(&arguments, &compute, &folder.join("text_encoder"))?;
    }
    if arguments.picture {
        picture(&arguments)?;
    }
    Ok(())
}

/// Configuration and weights of a folder.
fn load<C: DeserializeOwned>(folder: &Path) -> Result<(C, Weights), Failure> {
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let names = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
    let path = names.iter().map(|name| folder.join(name));
    let path = path.into_iter().find(|path| path.is_file());
    let file = TensorFile::open(&path.ok_or("no weights")?)?;
    Ok((config, Weights::from_file(&file)))
}

fn noise(seed: u64, shape: [usize; 4], device: &Device) -> Result<Tensor, Failure> {
    Ok(NoiseStream::new(NoiseSource::Philox, seed, shape).draw(device)?)
}

/// Milliseconds of the median of some runs, after two that do not count.
fn median(
    compute: &Compute,
    runs: usize,
    mut work: impl FnMut() -> candle_core::Result<Tensor>,
) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for run in 0..runs + 2 {
        let started = Instant::now();
        work()?;
        compute.device().synchronize()?;
        if run >= 2 {
            times.push(started.elapsed().as_secs_f64() * 1000.0);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn report(compute: &Compute, what: &str, (size, batch): (usize, usize), ms: f64) {
    let gib = compute
        .peak_bytes()
        .map(|bytes| bytes as f64 / f64::from(1_u32 << 30));
    println!(
        "{}",
        json!({"who": "ordu", "what": what, "on": compute.to_string(), "size": size,
               "batch": batch, "ms": (ms * 1000.0).round() / 1000.0, "peak_gib": gib})
    );
}

fn unet(
    arguments: &Arguments,
    compute: &Compute,
    folder: &Path,
    (width, least): (usize, usize),
) -> Result<(), Failure> {
    let (config, weights) = load(folder)?;
    let started = Instant::now();
    let unet = UNet::new(&weights, &config, compute)?;
    compute.device().synchronize()?;
    let name = folder
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let name = format!("unet {}", name.to_string_lossy());
    println!(
        "{}",
        json!({"who": "ordu", "what": format!("load {name}"), "s": started.elapsed().as_secs_f64()})
    );
    if let Ok(file) = TensorFile::open(&folder.join("io.safetensors")) {
        let get = tensors(&file)?;
        let made = unet.forward(
            &get("latents")?,
            500.0,
            &Condition::of_text(get("text")?),
            Edges::Zero,
        )?;
        differ(compute, &name, &made, &get("out")?)?;
    }
    for size in arguments.size.iter().copied() {
        if size < least {
            continue;
        }
        for batch in arguments.batch.iter().copied() {
            let latents = noise(1, [2 * batch, 4, size / 8, size / 8], compute.device())?;
            let text = noise(2, [1, 2 * batch, 77, width], compute.device())?.squeeze(0)?;
            let ms = median(compute, arguments.runs, || {
                unet.forward(
                    &latents,
                    500.0,
                    &Condition::of_text(text.clone()),
                    Edges::Zero,
                )
            })?;
            report(compute, &name, (size, batch), ms);
        }
    }
    Ok(())
}

fn vae(arguments: &Arguments, compute: &Compute, folder: &Path) -> Result<(), Failure> {
    let (config, weights) = load(folder)?;
    let vae = Vae::new(&weights, &config, compute)?;
    if let Ok(file) = TensorFile::open(&folder.join("io.safetensors")) {
        let get = tensors(&file)?;
        let made = vae.decode(&get("latents")?, Edges::Zero)?;
        differ(compute, "vae decode", &made, &get("out")?)?;
        let made = vae.encode(&get("pixels")?, Edges::Zero)?;
        differ(compute, "vae encode", &made, &get("mean")?)?;
    }
    for size in arguments.size.iter().copied() {
        let latents = noise(1, [1, 4, size / 8, size / 8], compute.device())?;
        let runs = arguments.runs.div_ceil(2);
        let ms = median(compute, runs, || vae.decode(&latents, Edges::Zero))?;
        report(compute, "vae decode", (size, 1), ms);
    }
    Ok(())
}

fn text(arguments: &Arguments, compute: &Compute, folder: &Path) -> Result<(), Failure> {
    let (config, weights) = load(folder)?;
    let clip = Clip::new(&weights, &config, compute)?;
    let ids = Tensor::arange(0_u32, 2 * 77, compute.device())?.reshape((2, 77))?;
    if let Ok(file) = TensorFile::open(&folder.join("io.safetensors")) {
        let made = clip.forward(&ids, 1)?;
        differ(compute, "text encode", &made, &tensors(&file)?("out")?)?;
    }
    let ms = median(compute, arguments.runs, || clip.forward(&ids, 1))?;
    report(compute, "text encode", (77, 2), ms);
    Ok(())
}

/// A whole picture, 25 steps.
fn picture(arguments: &Arguments) -> Result<(), Failure> {
    let engine = NativeEngine::open(&NativeOptions {
        models: Some(arguments.models.clone()),
        device: arguments.device,
        precision: arguments.precision,
        ..NativeOptions::default()
    })?;
    for problem in engine.problems() {
        println!("{problem}");
    }
    for (model, size) in [("ordu-tiny", 64), ("sd15", 512)] {
        if engine.capabilities().model(model).is_none() {
            continue;
        }
        let task = ImageTask {
            width: size,
            height: size,
            steps: 25,
            ..ImageTask::new(model, "a large red circle")
        };
        let mut times = Vec::new();
        for _ in 0..4 {
            let started = Instant::now();
            engine.run(task.clone(), &Quiet)?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        println!(
            "{}",
            json!({"who": "ordu", "what": format!("first picture {model}"), "ms": times.first()})
        );
        let ms = times.iter().copied().fold(f64::INFINITY, f64::min);
        report(
            engine.compute(),
            &format!("picture {model}"),
            (usize::try_from(size)?, 1),
            ms,
        );
    }
    Ok(())
}

/// Tensors of a file by name, in f32.
fn tensors(file: &TensorFile) -> Result<impl Fn(&str) -> Result<Tensor, Failure>, Failure> {
    let mut all = std::collections::BTreeMap::new();
    for (name, entry) in file.entries() {
        all.insert(name.to_owned(), entry.to_f32(&Device::Cpu)?);
    }
    Ok(move |name: &str| {
        let found = all.get(name).cloned();
        found.ok_or_else(|| format!("no tensor `{name}`").into())
    })
}

/// How far something is from its reference: the largest difference over the largest number, and the
/// norm of the difference over the norm.
fn differ(compute: &Compute, what: &str, made: &Tensor, wanted: &Tensor) -> Result<(), Failure> {
    let made = made.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let difference = (made - wanted)?.contiguous()?;
    let largest = |x: &Tensor| x.abs()?.max_all()?.to_scalar::<f32>();
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    println!(
        "{}",
        json!({"who": "ordu", "what": format!("parity {what}"), "on": compute.to_string(),
               "worst": largest(&difference)? / largest(wanted)?,
               "norm": norm(&difference)? / norm(wanted)?})
    );
    Ok(())
}

/// The bundled model on the device and on the processor.
fn parity(arguments: &Arguments) -> Result<(), Failure> {
    let open = |device, precision| {
        NativeEngine::open(&NativeOptions {
            device,
            precision,
            cascade: true,
            ..NativeOptions::default()
        })
    };
    let reference = open(DeviceChoice::Cpu, Precision::F32)?;
    let mut known = Vec::new();
    let mut failed = false;
    for (name, task) in tasks().into_iter().chain(workflows()) {
        known.push((name, reference.run(task.clone(), &Quiet)?, task));
    }
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let engine = open(arguments.device, precision)?;
        for (name, wanted, task) in &known {
            let made = match engine.run(task.clone(), &Quiet) {
                Ok(made) => made,
                Err(error) => {
                    let error = format!("{name} in {precision:?}: {error}");
                    println!(
                        "{}",
                        json!({"who": "ordu", "what": "parity", "error": error})
                    );
                    failed = true;
                    continue;
                }
            };
            let pairs = wanted.iter().zip(&made).flat_map(|(wanted, made)| {
                let (wanted, made) = (wanted.image.to_rgba8(), made.image.to_rgba8());
                wanted.into_raw().into_iter().zip(made.into_raw())
            });
            let apart: Vec<f64> = pairs
                .map(|(left, right)| f64::from(left.abs_diff(right)))
                .collect();
            let worst = apart.iter().copied().fold(0.0, f64::max);
            let mean = apart.iter().sum::<f64>() / apart.len() as f64;
            println!(
                "{}",
                json!({"who": "ordu", "what": format!("parity {name}"),
                       "on": engine.compute().to_string(), "worst_of_255": worst, "mean": mean})
            );
        }
    }
    if failed {
        return Err("not everything can be done there".into());
    }
    Ok(())
}

/// Two small pictures in 25 steps.
fn plain() -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps: 25,
        cfg_scale: 4.0,
        seed: 7,
        batch: 2,
        ..ImageTask::new(
            "ordu-tiny",
            "a large red circle at the center on a blue background",
        )
    }
}

/// The task with another mode.
fn with(mode: Mode) -> ImageTask {
    ImageTask { mode, ..plain() }
}

fn tasks() -> Vec<(&'static str, ImageTask)> {
    let plain = plain();
    let source = || Source {
        mask: Some(GrayImage::from_fn(64, 64, |x, _| {
            Luma([if x < 32 { 255 } else { 0 }])
        })),
        ..Source::new(DynamicImage::ImageRgb8(RgbImage::from_fn(
            64,
            64,
            |x, y| image::Rgb([x, y, 22].map(|shade| u8::try_from(4 * shade).unwrap_or(u8::MAX))),
        )))
    };
    vec![
        ("txt2img", plain.clone()),
        (
            "img2img",
            with(Mode::Img2Img(Source {
                mask: None,
                denoising_strength: 0.6,
                ..source()
            })),
        ),
        ("inpaint", with(Mode::Inpaint(source()))),
        (
            "tiling",
            ImageTask {
                tiling: true,
                ..plain.clone()
            },
        ),
        (
            "wide",
            ImageTask {
                width: 96,
                height: 64,
                ..plain.clone()
            },
        ),
    ]
}

/// What has networks and pipelines of its own.
fn workflows() -> Vec<(&'static str, ImageTask)> {
    let plain = plain();
    vec![
        (
            "hires",
            ImageTask {
                width: 128,
                height: 128,
                batch: 1,
                hires: Some(Hires::default()),
                ..plain.clone()
            },
        ),
        (
            "control",
            ImageTask {
                control: Some(Control {
                    kind: ControlType::Canny,
                    image_is_control: false,
                    return_map: false,
                    strength: 1.0,
                }),
                ..with(Mode::Img2Img(Source::new(square())))
            },
        ),
        (
            "transparent",
            ImageTask {
                transparent: true,
                ..plain.clone()
            },
        ),
        (
            "strip_background",
            ImageTask {
                post: vec![PostProcessor::StripBackground],
                ..plain.clone()
            },
        ),
        (
            "qr_code",
            ImageTask {
                width: 256,
                height: 256,
                batch: 1,
                workflow: Some(Workflow::QrCode(QrSpec::new("ordu"))),
                ..plain.clone()
            },
        ),
        (
            "stable cascade",
            ImageTask {
                model: CASCADE.to_owned(),
                ..plain.clone()
            },
        ),
        (
            "remix",
            ImageTask {
                model: CASCADE.to_owned(),
                mode: Mode::Remix(vec![RemixImage {
                    image: square(),
                    strength: 1.0,
                }]),
                ..plain.clone()
            },
        ),
    ]
}

/// The bundled Stable Cascade.
const CASCADE: &str = "ordu-tiny-cascade";

/// A red square on white.
fn square() -> DynamicImage {
    let is_inside = |at| (16..48).contains(&at);
    DynamicImage::ImageRgb8(RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb(if is_inside(x) && is_inside(y) {
            [220, 20, 20]
        } else {
            [255; 3]
        })
    }))
}
