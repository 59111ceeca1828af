//! Transparent pictures: their networks against PyTorch, their files, and what `ordu-tiny` cuts out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use image::{DynamicImage, RgbaImage};
use ordu_engine::gates::{GateOptions, cut_outs, draw, held_out, judge_cut_out};
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::{Condition, StableDiffusion, Summary};
use ordu_engine::native::transparent::{AlphaConfig, AlphaDecoder, Kits};
use ordu_engine::native::weights::{TensorFile, Weights};
use ordu_engine::{
    Compute, Engine, EngineError, Feature, Hires, ImageTask, Lora, Mode, NativeEngine,
    NativeOptions, Quiet, Source,
};

use crate::data::{compare, get, json, path, tensors};
use crate::grown::{self, File, Raw, Shapes};

const SHARING: &str = "layer_sd15_transparent_attn";
const SHARING_DECODER: &str = "layer_sd15_vae_transparent_decoder";
const PATCHES: &str = "layer_xl_transparent_conv";
const PATCHES_DECODER: &str = "vae_transparent_decoder";

fn grown_part(part: &str) -> File {
    let shapes: BTreeMap<String, Shapes> = json("transparent.json");
    let mut file = grown::part(part, &shapes[part], str::to_owned);
    for (name, raw) in &mut file {
        if name.ends_with("::lora::2") {
            *raw = Raw::number(3.0);
        }
    }
    file
}

fn put(folder: &Path, name: &str, file: &File) {
    let path = folder.join("miscellaneous").join(name);
    grown::write(file, &path.with_extension("safetensors"), &[]);
}

/// A folder with a model like Stable Diffusion 1, and the kit for it.
fn sharing_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&path("tiny-sd"), &folder.path().join("tiny-sd"));
    put(folder.path(), SHARING, &grown_part("sharing"));
    put(folder.path(), SHARING_DECODER, &grown_part("small"));
    folder
}

/// A folder with a model like SDXL, and the kit for it.
fn patches_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    crate::families::xl_single(folder.path());
    put(folder.path(), PATCHES, &grown_part("patches"));
    put(folder.path(), PATCHES_DECODER, &grown_part("small"));
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(folder: &Path) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: Some(folder.to_owned()),
        ..NativeOptions::default()
    })
    .unwrap()
}

/// Against PyTorch: a UNet that shares attention, one that is patched, and the decoder.
pub(crate) fn parity() {
    let io = tensors("transparent.safetensors");
    let folder = sharing_folder();
    let files = ModelFiles::folder(&folder.path().join("tiny-sd")).unwrap();
    let text = Condition::of_text(get(&io, "sharing.text"));
    compare_changed("sharing", (folder.path(), &files.unwrap()), &io, &text);

    let folder = patches_folder();
    let files = ModelFiles::file(&folder.path().join("xl.safetensors")).unwrap();
    let told = Condition {
        text: get(&io, "patches.text"),
        summary: Some(Summary {
            text: get(&io, "patches.summary"),
            sizes: [64, 96, 0, 0, 64, 96],
        }),
    };
    compare_changed("patches", (folder.path(), &files.unwrap()), &io, &told);
    decoder_parity(&io);
}

fn compare_changed(
    kind: &str,
    (folder, files): (&Path, &ModelFiles),
    io: &TensorFile,
    condition: &Condition,
) {
    let kit = Kits::open(Some(folder)).of(files).unwrap().unwrap();
    let changes = kit.changes(files).unwrap();
    let model = StableDiffusion::load_changed(files, &Compute::cpu(), &changes).unwrap();
    let x = get(io, &format!("{kind}.x"));
    let y = model
        .unet
        .forward(&x, 501.0, condition, Edges::Zero)
        .unwrap();
    compare(
        &format!("UNet with {kind}"),
        &y,
        &get(io, &format!("{kind}.y")),
    );
}

fn deep_decoder() -> AlphaDecoder {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decoder.safetensors");
    grown::write(&grown_part("decoder"), &file, &[]);
    let weights = Weights::from_file(&TensorFile::open(&file).unwrap());
    let config = AlphaConfig::from_shapes("decoder", &weights).unwrap();
    assert_eq!(config.widths, [8, 8, 8, 16, 16, 24, 24]);
    AlphaDecoder::new(("decoder", &weights), &config, 8, &Compute::cpu()).unwrap()
}

fn decoder_parity(io: &TensorFile) {
    let decoder = deep_decoder();
    let picture = get(&tensors("transparent-picture.safetensors"), "picture");
    let latents = get(io, "decoder.latents");
    let once = decoder.forward(&picture, &latents, Edges::Zero).unwrap();
    compare("alpha decoder", &once, &get(io, "decoder.once"));
    let signed = ((picture * 2.0).unwrap() - 1.0).unwrap();
    let whole = decoder
        .cut_out((&signed, &latents), Edges::Zero, &|| Ok(()))
        .unwrap();
    let theirs = io.get("decoder.whole").unwrap().bytes();
    let (mut worst, mut between) = (0, 0);
    for (place, pixel) in whole.pixels().enumerate() {
        let [red, green, blue, alpha] = pixel.0;
        for (channel, ours) in [alpha, red, green, blue].into_iter().enumerate() {
            let theirs = theirs[channel * 64 * 128 + place];
            worst = worst.max(ours.abs_diff(theirs));
            between += usize::from((1..255).contains(&theirs));
        }
    }
    assert!(worst <= 1 && between > 5000, "{worst}, {between}");
}

/// Sides that the network cannot halve so often are filled up, and what was filled in is cut off.
#[test]
fn odd_sides_are_cut_out_too() {
    let decoder = deep_decoder();
    let numbers = |shape: &[usize]| {
        let numbers = grown::numbers("picture", shape);
        Tensor::from_vec(numbers, shape, &candle_core::Device::Cpu).unwrap()
    };
    let made = decoder
        .cut_out(
            (&numbers(&[1, 3, 72, 88]), &numbers(&[1, 4, 9, 11])),
            Edges::Zero,
            &|| Ok(()),
        )
        .unwrap();
    assert_eq!(made.dimensions(), (88, 72));
    let stopped = decoder.cut_out(
        (&numbers(&[1, 3, 64, 64]), &numbers(&[1, 4, 8, 8])),
        Edges::Zero,
        &|| Err(EngineError::Cancelled),
    );
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
}

fn task(model: &str) -> ImageTask {
    ImageTask {
        width: 64,
        height: 64,
        steps: 4,
        cfg_scale: 5.0,
        transparent: true,
        ..ImageTask::new(model, "a large red circle at the center")
    }
}

/// From a folder to pictures with alpha, for both families; `transparent` is offered once all models that
/// can be asked for it have what it takes.
#[test]
fn models_of_both_families_cut_out() {
    for (folder, model) in [(sharing_folder(), "tiny-sd"), (patches_folder(), "xl")] {
        let engine = open(folder.path());
        assert_eq!(engine.problems().len(), 0, "{:?}", engine.problems());
        assert!(
            engine
                .capabilities()
                .features
                .contains(&Feature::Transparent)
        );
        let task = ImageTask {
            width: 32,
            height: 24,
            batch: 2,
            ..task(model)
        };
        let pictures = engine.run(task.clone(), &Quiet).unwrap();
        assert_eq!(pictures.len(), 2);
        let alpha =
            |picture: &RgbaImage| -> Vec<u8> { picture.pixels().map(|it| it.0[3]).collect() };
        let all: Vec<&RgbaImage> = pictures
            .iter()
            .map(|it| it.image.as_rgba8().unwrap())
            .collect();
        assert_eq!(all[0].dimensions(), (32, 24));
        assert_ne!(alpha(all[0]), alpha(all[1]));
        let plain = ImageTask {
            transparent: false,
            ..task
        };
        let plain = engine.run(plain, &Quiet).unwrap().remove(0).image;
        assert!(plain.as_rgb8().is_some(), "what is changed is not kept");
    }
}

#[test]
fn models_without_weights_for_it_are_not_offered() {
    assert!(
        NativeEngine::open(&NativeOptions::default())
            .unwrap()
            .capabilities()
            .features
            .contains(&Feature::Transparent)
    );
    let folder = tempfile::tempdir().unwrap();
    copy(&path("tiny-sd"), &folder.path().join("tiny-sd"));
    let engine = open(folder.path());
    assert!(
        !engine
            .capabilities()
            .features
            .contains(&Feature::Transparent)
    );
    let error = engine.run(task("tiny-sd"), &Quiet).unwrap_err().to_string();
    assert!(
        error.contains("no weights for transparent pictures with `tiny-sd`"),
        "{error}"
    );
}

/// Each file, what is done to it, and what the complaint about it says.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn files_that_do_not_fit_are_refused_by_name() {
    let said = |change: &dyn Fn(&Path)| {
        let folder = sharing_folder();
        change(folder.path());
        let engine = open(folder.path());
        let problems: Vec<String> = engine.problems().iter().map(ToString::to_string).collect();
        assert!(
            !engine
                .capabilities()
                .features
                .contains(&Feature::Transparent)
        );
        let error = engine.run(task("tiny-sd"), &Quiet).unwrap_err().to_string();
        format!("{error} {}", problems.join(" "))
    };
    let file = |folder: &Path, name: &str| -> PathBuf {
        folder
            .join("miscellaneous")
            .join(name)
            .with_extension("safetensors")
    };
    let replace = |part: &'static str, name: &'static str, edit: fn(&mut File)| {
        said(&move |folder: &Path| {
            let mut tensors = grown_part(part);
            edit(&mut tensors);
            put(folder, name, &tensors);
        })
    };
    let cases = [
        (
            said(&|folder| std::fs::remove_file(file(folder, SHARING_DECODER)).unwrap()),
            "its other half `layer_sd15_vae_transparent_decoder.safetensors` is missing",
        ),
        (
            said(&|folder| std::fs::write(file(folder, SHARING), vec![255; 100]).unwrap()),
            SHARING,
        ),
        (
            replace("sharing", SHARING, |it| {
                it.remove("hookers.layers.3.temporal_v.weight");
            }),
            "it has no `hookers.layers.3.temporal_v.weight`",
        ),
        (
            replace("sharing", SHARING, |it| {
                let one = it["hookers.layers.0.temporal_i.bias"].clone();
                it.insert("hookers.layers.40.temporal_i.bias".to_owned(), one);
            }),
            "beyond what 8 attentions and one frame take",
        ),
        (
            replace("sharing", SHARING, |it| {
                let name = "hookers.layers.1.to_k_lora.0.down.weight";
                it.insert(name.to_owned(), Raw::grown("x", &[4, 768]));
            }),
            "its `hookers.layers.1.to_k_lora.0` changes a layer of [32, 768]",
        ),
        (
            replace("sharing", SHARING, |it| {
                let name = "hookers.layers.2.temporal_n.weight";
                it.insert(name.to_owned(), Raw::grown("x", &[64]));
            }),
            "its `hookers.layers.2.temporal_n.weight` is [64]",
        ),
        (
            replace("sharing", SHARING, |it| {
                it.insert("lora_unet_x".to_owned(), Raw::number(1.0));
            }),
            "it holds no changes for transparent pictures",
        ),
        (
            replace("patches", SHARING, |_| {}),
            "it is not for `tiny-sd`: it changes `diffusion_model.",
        ),
        (
            replace("small", SHARING_DECODER, |it| {
                it.remove("latent_conv_in.weight");
            }),
            "it is no decoder of transparent pictures",
        ),
        (
            replace("small", SHARING_DECODER, |it| {
                it.insert(
                    "down_blocks.0.resnets.0.conv1.weight".to_owned(),
                    Raw::grown("x", &[9, 9, 3, 3]),
                );
            }),
            "widths [9, 8, 16] are not built",
        ),
        (
            replace("decoder", SHARING_DECODER, |it| {
                it.insert(
                    "latent_conv_in.weight".to_owned(),
                    Raw::grown("x", &[64, 4, 1, 1]),
                );
            }),
            "it does not see latents that are 2 times as small",
        ),
    ];
    for (text, expected) in cases {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// What is wrong with a decoder beyond its sizes shows when it is loaded, by name.
#[test]
fn a_decoder_that_lacks_a_layer_says_which() {
    let folder = sharing_folder();
    let mut file = grown_part("small");
    file.remove("mid_block.attentions.0.to_v.bias");
    put(folder.path(), SHARING_DECODER, &file);
    let error = open(folder.path())
        .run(task("tiny-sd"), &Quiet)
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("mid_block.attentions.0.to_v.bias"), "{text}");
    assert!(text.contains(SHARING_DECODER), "{text}");
}

/// Patches that are no patches of this model.
#[test]
fn patches_are_looked_at_before_they_are_used() {
    let target = "diffusion_model.out.2.bias::diff::0";
    for (name, raw, expected) in [
        (
            "diffusion_model.out.2.bias::diff::1",
            Raw::number(1.0),
            "has a part `1` too many",
        ),
        (
            "diffusion_model.out.2.bias::loha::0",
            Raw::number(1.0),
            "is of an unknown kind",
        ),
        (
            "diffusion_model.out.2.weight::lora::0",
            Raw::grown("x", &[4, 1]),
            "lacks one of its parts",
        ),
        (
            target,
            Raw::grown("x", &[5]),
            "changes a layer of [5], `conv_out.bias` is [4]",
        ),
        (
            "diffusion_model.input_blocks.0.0.weight::diff::0",
            Raw::grown("x", &[32, 6, 5, 5]),
            "`conv_in.weight` is [32, 4, 3, 3]",
        ),
    ] {
        let folder = patches_folder();
        let mut file = grown_part("patches");
        file.insert(name.to_owned(), raw);
        put(folder.path(), PATCHES, &file);
        let text = open(folder.path())
            .run(task("xl"), &Quiet)
            .unwrap_err()
            .to_string();
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

fn tiny() -> NativeEngine {
    NativeEngine::open(&NativeOptions::default()).unwrap()
}

fn cut(engine: &NativeEngine, task: ImageTask) -> RgbaImage {
    let made = engine.run(task, &Quiet).unwrap().remove(0).image;
    made.as_rgba8().unwrap().clone()
}

/// Ten prompts that name no background: what is opaque is the shape, in its colour, where it was wanted.
#[test]
fn shapes_are_cut_out() {
    let options = GateOptions {
        // Of 200, fifty are cut out.
        prompts: 40,
        steps: 15,
        ..GateOptions::default()
    };
    let found = cut_outs(&tiny(), &options).unwrap();
    println!("{found:?}");
    assert!(found.overlap >= 0.85 && found.enough >= 0.9, "{found:?}");
    assert!(found.colour >= 0.9 && found.place >= 0.9, "{found:?}");
}

/// Colours are not mixed with the ground: those of half-opaque edges are those of the shape.
#[test]
fn colours_are_straight() {
    let engine = tiny();
    let (mut sum, mut edges) = (0.0, 0_u32);
    for seed in 1..=3 {
        let task = ImageTask {
            steps: 15,
            seed,
            ..task("ordu-tiny")
        };
        for pixel in cut(&engine, task).pixels() {
            let [red, green, blue, alpha] = pixel.0;
            if (64..192).contains(&alpha) {
                let far = |(ours, wanted): (u8, u8)| f64::from(ours.abs_diff(wanted)).powi(2);
                let colours = [red, green, blue].into_iter().zip([230, 40, 40]);
                sum += colours.map(far).sum::<f64>().sqrt();
                edges += 1;
            }
        }
    }
    // Half red, half white lies 150 away.
    let mean = sum / f64::from(edges);
    assert!(edges > 30 && mean < 60.0, "{mean} over {edges} pixels");
}

/// A batch, and a second pass: the decoder reads the latents of that.
#[test]
fn two_passes_and_batches_are_cut_out() {
    let engine = tiny();
    let task = ImageTask {
        width: 128,
        height: 128,
        steps: 12,
        batch: 2,
        hires: Some(Hires {
            denoising_strength: None,
        }),
        ..task("ordu-tiny")
    };
    let pictures = engine.run(task, &Quiet).unwrap();
    assert_eq!(pictures.len(), 2);
    for picture in pictures {
        let large = picture.image.as_rgba8().unwrap();
        assert_eq!(large.dimensions(), (128, 128));
        let small = image::imageops::thumbnail(large, 64, 64);
        let found = judge_cut_out(&small, CIRCLE).unwrap();
        assert!(found.overlap > 0.75, "{found:?}");
        assert_eq!((found.colour, found.place), (RED, CENTER), "{found:?}");
    }
}

const CIRCLE: usize = 0;
const RED: usize = 0;
const YELLOW: usize = 3;
const WHITE: usize = 6;
const CENTER: usize = 0;

/// Checklist: a LoRA counts with transparent too.
#[test]
fn a_lora_counts_beside_what_makes_transparent() {
    let engine = NativeEngine::open(&NativeOptions {
        loras: vec![path("")],
        ..NativeOptions::default()
    })
    .unwrap();
    let with = |loras: Vec<Lora>| {
        let task = ImageTask {
            steps: 15,
            loras,
            ..task("ordu-tiny")
        };
        judge_cut_out(&cut(&engine, task), CIRCLE).unwrap()
    };
    let yellow = Lora {
        file: "ordu-tiny-yellow".to_owned(),
        model: 1.0,
        clip: 1.0,
    };
    assert_eq!(with(Vec::new()).colour, RED);
    let changed = with(vec![yellow]);
    assert_eq!(changed.colour, YELLOW);
    assert!(changed.overlap > 0.7, "{changed:?}");
    assert_eq!(with(Vec::new()).colour, RED, "the LoRA is gone again");
}

/// What is drawn over a source that stands on the neutral ground is cut out as well.
#[test]
fn a_source_is_cut_out() {
    let engine = tiny();
    let scenes = held_out().into_iter();
    let scenes = scenes.filter(|scene| scene.background == WHITE).step_by(9);
    for (scene, seed) in scenes.zip(1..) {
        let source = Source {
            denoising_strength: 0.1,
            ..Source::new(DynamicImage::ImageRgb8(draw(scene, seed)))
        };
        let task = ImageTask {
            mode: Mode::Img2Img(source),
            steps: 20,
            seed,
            ..ImageTask {
                prompt: scene.caption(),
                ..task("ordu-tiny")
            }
        };
        let found = judge_cut_out(&cut(&engine, task), scene.shape).unwrap();
        assert!(found.overlap > 0.7, "{scene:?}: {found:?}");
        assert_eq!(found.place, scene.place, "{scene:?}");
    }
}
