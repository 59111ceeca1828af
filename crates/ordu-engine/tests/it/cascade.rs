//! Stable Cascade against diffusers, torchvision and transformers; which files make one; what it does
//! and refuses.

use std::path::Path;

use candle_core::Tensor;
use image::{DynamicImage, RgbImage};
use ordu_engine::gates::{GateOptions, remixes};
use ordu_engine::native::cascade::StableCascade;
use ordu_engine::native::cascade::config::Stage;
use ordu_engine::native::cascade::files::CascadeFiles;
use ordu_engine::native::cascade::network::Wish;
use ordu_engine::native::cascade::schedule::{Cosine, level};
use ordu_engine::native::weights::TensorFile;
use ordu_engine::{
    Baseline, Compute, DeviceChoice, Engine as _, EngineError, Feature, Hires, ImageTask, Lora,
    Mode, NativeEngine, NativeOptions, NoiseSource, ProgressSink, Quiet, RemixImage, Sampler,
    Source, Step,
};
use tempfile::TempDir;

use crate::data::{compare, get, json, path, tensors};
use crate::grown::{self, File, Raw, Shapes};

const MODEL: &str = "tiny_stage_c";

type Parts = std::collections::BTreeMap<String, Shapes>;

/// Grows a part, with what keeps it from blowing up.
fn grow(part: &str, shapes: &Parts, rule: impl Fn(&str) -> String) -> File {
    let grown = shapes[part].iter().map(|(name, shape)| {
        let mut numbers = grown::numbers(&format!("{part}/{name}"), shape);
        for number in &mut numbers {
            match (part, name.as_str()) {
                ("a", "out_block.0.weight") => *number *= 0.004,
                ("a", "out_block.0.bias") => *number = 0.5,
                _ => {}
            }
        }
        (rule(name), Raw::of(&numbers, shape))
    });
    grown.collect()
}

/// The names of the published files: queries, keys and values as one.
fn published(mut file: File, stage: Stage) -> File {
    let names: Vec<String> = file.keys().cloned().collect();
    for name in names {
        if let Some((block, kind)) = name.split_once(".attention.to_q.") {
            let parts = ["q", "k", "v"].map(|letter| {
                let name = format!("{block}.attention.to_{letter}.{kind}");
                file.remove(&name).unwrap()
            });
            let mut shape = parts[0].shape.clone();
            shape[0] *= 3;
            let bytes = parts.map(|part| part.bytes).concat();
            let fused = format!("{block}.attention.attn.in_proj_{kind}");
            file.insert(fused, Raw { shape, bytes });
        }
    }
    let renamed = file.into_iter().map(|(name, raw)| {
        let mut name = name.replace(".attention.to_out.0.", ".attention.attn.out_proj.");
        if stage == Stage::B {
            name = name.replace("clip_txt_pooled_mapper", "clip_mapper");
        }
        (format!("model.diffusion_model.{name}"), raw)
    });
    renamed.collect()
}

fn stage_c(shapes: &Parts) -> File {
    let mut file = published(grow("c", shapes, str::to_owned), Stage::C);
    file.extend(grow("text", shapes, |name| {
        format!("text_encoder.clip_g.transformer.{name}")
    }));
    file.extend(grow("vision", shapes, |name| {
        format!("clip_l_vision.{name}")
    }));
    file.extend(grow("encoder", shapes, |name| {
        format!("vae.encoder.{name}")
    }));
    // What is in published files and nobody needs here.
    file.insert("vae.previewer.blocks.0.bias".to_owned(), Raw::number(0.0));
    file
}

fn stage_b(shapes: &Parts) -> File {
    let mut file = published(grow("b", shapes, str::to_owned), Stage::B);
    file.extend(grow("a", shapes, |name| format!("vae.{name}")));
    file
}

/// Both files and the tokenizer, under these names.
fn write(folder: &Path, c: Option<&str>, b: Option<&str>) {
    let shapes: Parts = json("cascade/shapes.json");
    std::fs::create_dir_all(folder).unwrap();
    if let Some(name) = c {
        grown::write(&stage_c(&shapes), &folder.join(name), &[]);
    }
    if let Some(name) = b {
        grown::write(&stage_b(&shapes), &folder.join(name), &[]);
    }
    std::fs::copy(
        path("cascade/tokenizer.json"),
        folder.join("tokenizer.json"),
    )
    .unwrap();
}

const C: &str = "tiny_stage_c.safetensors";
const B: &str = "tiny_stage_b.safetensors";

fn loaded() -> StableCascade {
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let files = CascadeFiles::folder(folder.path()).unwrap().unwrap();
    StableCascade::load(&files, &Compute::cpu()).unwrap()
}

fn picture(io: &TensorFile, name: &str, place: Option<usize>) -> RgbImage {
    let mut pixels = get(io, name);
    if let Some(place) = place {
        pixels = pixels.get(place).unwrap();
    }
    let (height, width, _) = pixels.dims3().unwrap();
    let numbers: Vec<f32> = pixels.flatten_all().unwrap().to_vec1().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they were bytes"
    )]
    let bytes = numbers.iter().map(|number| *number as u8).collect();
    RgbImage::from_raw(width.try_into().unwrap(), height.try_into().unwrap(), bytes).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "others stop")]
fn nothing_stops() -> Result<(), EngineError> {
    Ok(())
}

pub(crate) fn parity() {
    let io = tensors("cascade/io.safetensors");
    let model = loaded();
    let prompts = ["w3 w7 w12", "w20"];
    let reads = prompts.map(|prompt| model.text.encode(prompt, 1).unwrap());
    for (number, read) in reads.iter().enumerate() {
        let name = |part: &str| get(&io, &format!("{part}.{number}"));
        compare(
            &format!("Cascade, text {number}"),
            &read.text,
            &name("text"),
        );
        compare(
            &format!("Cascade, summary {number}"),
            &read.summary,
            &name("summary"),
        );
    }
    let seen = [0, 1].map(|place| {
        let picture = picture(&io, "pictures", Some(place));
        let picture = DynamicImage::ImageRgb8(picture);
        model.sight.of(&picture, &nothing_stops).unwrap()
    });
    let seen = Tensor::cat(&seen, 0).unwrap();
    compare("Cascade, vision tower", &seen, &get(&io, "seen"));
    let pictures = seen.unsqueeze(0).unwrap();
    for time in [0.05, 0.6] {
        let given = |name: &str| get(&io, &format!("{name}.{time}"));
        // Two texts in one batch; asked about one by one and in one go.
        let told = reads.clone().map(|read| {
            let wish = Wish {
                text: read.text,
                summary: read.summary,
                pictures: Some(pictures.clone()),
            };
            model.stage_c.wish(&wish).unwrap()
        });
        let both = told[0].join(&told[1]).unwrap().unwrap();
        let ours = model.stage_c.forward(&given("c.z"), time, &both).unwrap();
        compare(&format!("Cascade, stage C at {time}"), &ours, &given("c"));
        let drawn = given("b.drawn");
        let told = model.stage_b.filling(&reads[0].summary, &drawn, (20, 28));
        let ours = model.stage_b.forward(&given("b.z"), time, &told.unwrap());
        compare(
            &format!("Cascade, stage B at {time}"),
            &ours.unwrap(),
            &given("b"),
        );
    }
    let ours = model.stage_a.decode(&get(&io, "a.z")).unwrap();
    compare("Cascade, stage A", &ours, &get(&io, "a"));
    let ours = model
        .encoder
        .encode(&picture(&io, "encoder.picture", None))
        .unwrap();
    compare("Cascade, encoder", &ours, &get(&io, "encoder"));
    levels_parity(&io);
}

/// Levels of noise and the times that the networks are told.
fn levels_parity(io: &TensorFile) {
    for (name, shift) in [("c", 2.0), ("b", 1.0)] {
        let levels = Cosine::new(shift).levels(Sampler::Euler, 20, 1.0);
        let column = |of: fn(f64) -> f64| {
            let numbers = levels.iter().take(20).map(|it| of(it.sigma));
            #[expect(clippy::cast_possible_truncation, reason = "the reference is f32")]
            let numbers: Vec<f32> = numbers.map(|it| it as f32).collect();
            Tensor::new(numbers, &candle_core::Device::Cpu).unwrap()
        };
        let what = |part: &str| get(io, &format!("{part}.{name}"));
        compare(
            &format!("Cascade, levels {name}"),
            &column(|it| it),
            &what("levels"),
        );
        compare(
            &format!("Cascade, times {name}"),
            &column(|it| level(it).time),
            &what("times"),
        );
    }
}

fn engine(folder: &Path) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: Some(folder.to_owned()),
        device: DeviceChoice::Cpu,
        ..NativeOptions::default()
    })
    .unwrap()
}

/// The whole way from words to pixels, with the noise of PyTorch: at most a level of brightness apart.
#[test]
fn whole_pictures_are_those_of_the_public_implementations() {
    let io = tensors("cascade/io.safetensors");
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let engine = engine(folder.path());
    let remix = [(0, 1.0), (1, 0.5)].map(|(place, strength)| RemixImage {
        image: DynamicImage::ImageRgb8(picture(&io, "pictures", Some(place))),
        strength,
    });
    for (name, mode) in [
        ("plain", Mode::Txt2Img),
        ("remix", Mode::Remix(remix.to_vec())),
    ] {
        let task = ImageTask {
            negative_prompt: "w20".to_owned(),
            width: 128,
            height: 96,
            steps: 12,
            cfg_scale: 3.0,
            seed: 11,
            noise: NoiseSource::TorchCpu,
            mode,
            ..ImageTask::new(MODEL, "w3 w7 w12")
        };
        let made = engine.run(task, &Quiet).unwrap()[0].image.to_rgb8();
        let reference = picture(&io, &format!("whole.{name}"), None);
        assert_eq!(made.dimensions(), reference.dimensions());
        let apart = made.as_raw().iter().zip(reference.as_raw());
        let worst = apart.map(|(one, two)| one.abs_diff(*two)).max().unwrap();
        assert!(worst <= 1, "{name}: {worst} levels apart");
    }
}

/// Checklist: Cascade: both stage files required, otherwise the model is not offered.
#[test]
fn both_files_make_a_model_and_one_alone_says_what_it_lacks() {
    for (c, b, missing) in [
        (Some(C), Some(B), None),
        (Some(C), Some("other.safetensors"), None),
        (Some(C), None, Some("stage B")),
        (None, Some(B), Some("stage C")),
    ] {
        let folder = TempDir::new().unwrap();
        write(folder.path(), c, b);
        let engine = engine(folder.path());
        let can = engine.capabilities();
        let model = can.model(MODEL);
        assert_eq!(model.is_some(), missing.is_none());
        assert!(model.is_none_or(|model| model.baseline == Baseline::StableCascade));
        let problems: Vec<String> = engine.problems().iter().map(ToString::to_string).collect();
        match missing {
            None => assert_eq!(problems, [""; 0]),
            Some(part) => assert!(
                problems.len() == 1 && problems[0].contains(part),
                "{problems:?}"
            ),
        }
    }
    // In a folder of their own they are called like it.
    let folder = TempDir::new().unwrap();
    write(
        &folder.path().join("mine"),
        Some("c.safetensors"),
        Some("b.safetensors"),
    );
    assert!(engine(folder.path()).capabilities().model("mine").is_some());
}

/// A stage that lacks a tensor, or has one too many, is refused by its name.
#[test]
fn damaged_files_are_refused_by_name() {
    let shapes: Parts = json("cascade/shapes.json");
    let wrong = |change: &dyn Fn(&mut File, &mut File)| {
        let folder = TempDir::new().unwrap();
        write(folder.path(), None, None);
        let (mut c, mut b) = (stage_c(&shapes), stage_b(&shapes));
        change(&mut c, &mut b);
        grown::write(&c, &folder.path().join(C), &[]);
        grown::write(&b, &folder.path().join(B), &[]);
        let engine = engine(folder.path());
        let task = ImageTask {
            width: 64,
            height: 64,
            steps: 1,
            ..ImageTask::new(MODEL, "w3")
        };
        match engine.problems().first() {
            Some(problem) => problem.to_string(),
            None => engine.run(task, &Quiet).unwrap_err().to_string(),
        }
    };
    let block = "model.diffusion_model.down_blocks.0.0.channelwise.4.bias";
    let error = wrong(&|c, _| drop(c.remove(block)));
    assert!(
        error.contains("down_blocks.0.0.channelwise.4.bias"),
        "{error}"
    );
    let error = wrong(&|_, b| drop(b.remove("vae.up_blocks.0.0.weight")));
    assert!(error.contains("up_blocks.0.0.weight"), "{error}");
    let error = wrong(&|_, b| {
        b.insert(
            "model.diffusion_model.surplus.weight".to_owned(),
            Raw::number(1.0),
        );
    });
    assert!(error.contains("surplus"), "{error}");
    let error = wrong(&|c, _| drop(c.remove("clip_l_vision.visual_projection.weight")));
    assert!(error.contains("visual_projection"), "{error}");
    let error =
        wrong(&|c, _| drop(c.remove("text_encoder.clip_g.transformer.text_projection.weight")));
    assert!(error.contains("summaries"), "{error}");
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let engine = engine(folder.path());
    let task = || ImageTask {
        steps: 3,
        ..ImageTask::new(MODEL, "w3")
    };
    let said = |task: ImageTask| engine.run(task, &Quiet).unwrap_err();
    let lora = Lora {
        file: "yellow".to_owned(),
        model: 1.0,
        clip: 1.0,
    };
    let error = said(ImageTask {
        loras: vec![lora],
        ..task()
    });
    assert!(matches!(error, EngineError::AddOnMismatch { ref name, .. } if name == "yellow"));
    let picture = |strength| RemixImage {
        image: DynamicImage::new_rgb8(8, 8),
        strength,
    };
    for (wrong, part) in [
        (
            ImageTask {
                tiling: true,
                ..task()
            },
            "tile",
        ),
        (
            ImageTask {
                transparent: true,
                ..task()
            },
            "transparen",
        ),
        (
            ImageTask {
                mode: Mode::Remix(Vec::new()),
                ..task()
            },
            "without pictures",
        ),
        (
            ImageTask {
                mode: Mode::Remix(vec![picture(f32::NAN)]),
                ..task()
            },
            "strength",
        ),
    ] {
        let error = said(wrong);
        assert!(matches!(error, EngineError::BadTask { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let other = ImageTask {
        mode: Mode::Remix(vec![picture(1.0)]),
        ..ImageTask::new("ordu-tiny", "x")
    };
    assert!(said(other).to_string().contains("cannot mix pictures"));
    let without = NativeEngine::open(&NativeOptions::default()).unwrap();
    for feature in [Feature::Remix, Feature::CascadeTwoPass] {
        assert!(engine.capabilities().features.contains(&feature));
        assert!(!without.capabilities().features.contains(&feature));
    }
}

/// Pairs of held-out scenes without a colour in common; the words beside them say nothing.
#[test]
fn the_bundled_one_mixes_colours_of_both() {
    let engine = NativeEngine::open(&NativeOptions {
        cascade: true,
        ..NativeOptions::default()
    })
    .unwrap();
    let options = GateOptions {
        prompts: 40,
        sampler: Sampler::EulerA,
        ..GateOptions::default()
    };
    let found = remixes(&engine, &options).unwrap();
    assert_eq!(found.count, 10);
    assert!(found.both >= 0.8, "{found:#?}");
}

/// Batches, sizes that are no whole latents, every way to draw: as many steps as are told, and pictures
/// of the size asked for.
#[test]
fn every_way_to_draw_makes_pictures_of_the_size_asked_for() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let engine = engine(folder.path());
    let source = Source {
        denoising_strength: 0.5,
        ..Source::new(DynamicImage::new_rgb8(90, 50))
    };
    let mixed = vec![
        RemixImage {
            image: DynamicImage::new_rgb8(30, 80),
            strength: -7000.0,
        };
        9
    ];
    for (mode, hires, batch) in [
        (Mode::Txt2Img, false, 2),
        (Mode::Img2Img(source.clone()), false, 2),
        (Mode::Img2Img(source.clone()), true, 1),
        (Mode::Inpaint(source), true, 1),
        (Mode::Remix(mixed), true, 2),
    ] {
        for (width, height) in [(100, 72), (1, 50)] {
            let task = ImageTask {
                width,
                height,
                steps: 3,
                batch,
                mode: mode.clone(),
                hires: hires.then(Default::default),
                sampler: Sampler::EulerA,
                ..ImageTask::new(
                    "tiny_stage_c",
                    "w3 (w4:1.2) w5 w6 w7 w8 w9 w10 w11 w12 w13 w14",
                )
            };
            let made = engine.run(task, &Quiet).unwrap();
            assert_eq!(made.len(), batch as usize);
            assert!(
                made.iter()
                    .all(|it| it.image.width() == width && it.image.height() == height)
            );
        }
    }
}

#[test]
fn one_seed_makes_one_picture() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let engine = engine(folder.path());
    let run = |seed| {
        let task = ImageTask {
            width: 128,
            height: 128,
            steps: 3,
            seed,
            ..ImageTask::new(MODEL, "w3")
        };
        engine.run(task, &Quiet).unwrap()[0].image.to_rgb8()
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

/// Tells the steps.
#[derive(Default)]
struct Steps(std::cell::RefCell<Vec<(u32, u32)>>);

impl ProgressSink for Steps {
    fn step(&self, step: Step) {
        self.0.borrow_mut().push((step.step, step.of));
    }
}

#[test]
fn both_stages_and_both_passes_are_told_step_by_step() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), Some(C), Some(B));
    let engine = engine(folder.path());
    let told = |hires| {
        let steps = Steps::default();
        let task = ImageTask {
            width: 64,
            height: 64,
            steps: 6,
            hires,
            ..ImageTask::new(MODEL, "w3")
        };
        engine.run(task, &steps).unwrap();
        steps.0.into_inner()
    };
    // 4 of stage C, 2 of stage B.
    assert_eq!(
        told(None),
        (1..=6).map(|step| (step, 6)).collect::<Vec<_>>()
    );
    let twice: Vec<(u32, u32)> = (1..=12).map(|step| (step, 12)).collect();
    assert_eq!(
        told(Some(Hires {
            denoising_strength: Some(1.0)
        })),
        twice
    );
}
