//! Families beside Stable Diffusion 1: the encoder of 2, both layouts of XL, what is refused by name.
//! Numbers are those of diffusers and transformers, see `training/parity/families.py`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::words::Words;
use ordu_engine::native::sd::{Condition, StableDiffusion};
use ordu_engine::native::weights::TensorFile;
use ordu_engine::{
    Compute, Engine, EngineError, ImageTask, Mode, NativeEngine, NativeOptions, Prediction, Quiet,
    Source,
};
use serde_json::json;

use crate::data::{compare, get, json as read, path, tensors};
use crate::grown::{self, File, Raw, Shapes};

const LONG: &str = "a red cat in the blue (thing:1.3) (and nothingatallofthiskind:0.7) the end";

fn shapes(name: &str) -> BTreeMap<String, Shapes> {
    read(name)
}

/// The autoencoder of `tiny-sd`, in single-file layout, in f32.
fn autoencoder() -> File {
    let names: BTreeMap<String, (String, String, Vec<usize>)> = read("tiny-sd.ldm.json");
    let file = tensors("tiny-sd/vae/diffusion_pytorch_model.safetensors");
    let vae = names.into_iter().filter(|(_, (part, _, _))| part == "vae");
    vae.map(|(name, (_, ours, shape))| {
        let numbers: Vec<f32> = get(&file, &ours).flatten_all().unwrap().to_vec1().unwrap();
        (name, Raw::of(&numbers, &shape))
    })
    .collect()
}

/// Names of the network in single-file layout: it has one residual block a level, and attention in the
/// lower one.
fn original(name: &str) -> String {
    let blocks = [
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
        ("add_embedding.linear_1.", "label_emb.0.0."),
        ("add_embedding.linear_2.", "label_emb.0.2."),
        ("conv_in.", "input_blocks.0.0."),
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
        ("mid_block.resnets.0.", "middle_block.0."),
        ("mid_block.attentions.0.", "middle_block.1."),
        ("mid_block.resnets.1.", "middle_block.2."),
        ("down_blocks.0.resnets.0.", "input_blocks.1.0."),
        ("down_blocks.0.downsamplers.0.conv.", "input_blocks.2.0.op."),
        ("down_blocks.1.resnets.0.", "input_blocks.3.0."),
        ("down_blocks.1.attentions.0.", "input_blocks.3.1."),
        ("up_blocks.0.resnets.0.", "output_blocks.0.0."),
        ("up_blocks.0.attentions.0.", "output_blocks.0.1."),
        ("up_blocks.0.resnets.1.", "output_blocks.1.0."),
        ("up_blocks.0.attentions.1.", "output_blocks.1.1."),
        ("up_blocks.0.upsamplers.0.conv.", "output_blocks.1.2.conv."),
        ("up_blocks.1.resnets.0.", "output_blocks.2.0."),
        ("up_blocks.1.resnets.1.", "output_blocks.3.0."),
    ];
    let (ours, theirs) = blocks
        .into_iter()
        .find(|(ours, _)| name.starts_with(ours))
        .unwrap();
    let mut rest = name[ours.len()..].to_owned();
    if ours.contains("resnets") {
        for (ours, theirs) in [
            ("norm1.", "in_layers.0."),
            ("conv1.", "in_layers.2."),
            ("time_emb_proj.", "emb_layers.1."),
            ("norm2.", "out_layers.0."),
            ("conv2.", "out_layers.3."),
            ("conv_shortcut.", "skip_connection."),
        ] {
            rest = rest.replace(ours, theirs);
        }
    }
    format!("{theirs}{rest}")
}

/// A models folder with the model like SDXL as one file.
pub(crate) fn xl_single(folder: &Path) {
    grown::write(&xl_file(), &folder.join("xl.safetensors"), &[]);
    tokenizer(&folder.join("tokenizer"));
}

fn xl_file() -> File {
    let shapes = shapes("xl.json");
    let mut file = autoencoder();
    file.extend(grown::part("unet", &shapes["unet"], |name| {
        format!("model.diffusion_model.{}", original(name))
    }));
    file.extend(grown::part("text", &shapes["text"], |name| {
        format!("conditioner.embedders.0.transformer.text_model.{name}")
    }));
    let second = grown::open_clip(
        "text_2",
        &shapes["text_2"],
        "conditioner.embedders.1.model.",
    );
    file.extend(second);
    file
}

fn tokenizer(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["vocab.json", "merges.txt"] {
        let from = path("tiny-sd/tokenizer").join(name);
        std::fs::copy(from, folder.join(name)).unwrap();
    }
}

/// The same in the layout of diffusers.
fn xl_folder(folder: &Path) {
    let shapes = shapes("xl.json");
    let config = |part: &str, value: serde_json::Value| {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        std::fs::write(folder.join(part).join("config.json"), value.to_string()).unwrap();
    };
    let text = |act: &str| {
        json!({"vocab_size": 530, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 1, "max_position_embeddings": 16, "hidden_act": act})
    };
    config("text_encoder", text("quick_gelu"));
    config("text_encoder_2", text("gelu"));
    config(
        "unet",
        json!({"sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
            "block_out_channels": [32, 32], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "transformer_layers_per_block": [1, 2],
            "cross_attention_dim": 64, "attention_head_dim": 1, "use_linear_projection": true,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 72}),
    );
    for (part, name) in [("text", "text_encoder"), ("text_2", "text_encoder_2")] {
        let file = grown::part(part, &shapes[part], |name| {
            if name.starts_with("text_projection") {
                name.to_owned()
            } else {
                format!("text_model.{name}")
            }
        });
        grown::write(&file, &folder.join(name).join("model.safetensors"), &[]);
    }
    let unet = grown::part("unet", &shapes["unet"], str::to_owned);
    let file = "diffusion_pytorch_model.safetensors";
    grown::write(&unet, &folder.join("unet").join(file), &[]);
    std::fs::create_dir_all(folder.join("vae")).unwrap();
    for name in ["config.json", file] {
        let from = path("tiny-sd/vae").join(name);
        std::fs::copy(from, folder.join("vae").join(name)).unwrap();
    }
    tokenizer(&folder.join("tokenizer"));
    tokenizer(&folder.join("tokenizer_2"));
    std::fs::write(
        folder.join("tokenizer_2/tokenizer_config.json"),
        json!({"pad_token": "Ā"}).to_string(),
    )
    .unwrap();
}

pub(crate) fn load(files: &ModelFiles) -> StableDiffusion {
    StableDiffusion::load(files, &Compute::cpu()).unwrap()
}

/// The condition of the reference for the network.
pub(crate) fn condition(one: &Condition, two: &Condition) -> Condition {
    let fitted = |it: &Condition| it.clone().for_size(96, 64);
    fitted(one).join(&fitted(two)).unwrap()
}

fn sun() -> (tempfile::TempDir, TensorFile) {
    let folder = tempfile::tempdir().unwrap();
    let word = ["clip_l", "clip_g"].map(|part| {
        (
            part.to_owned(),
            Raw::grown(&format!("word/{part}"), &[2, 32]),
        )
    });
    let file = folder.path().join("sun.safetensors");
    grown::write(&File::from(word), &file, &[]);
    let file = TensorFile::open(&file).unwrap();
    (folder, file)
}

fn check_xl(layout: &str, model: &StableDiffusion) {
    let io = tensors("xl.safetensors");
    let mut words = Words::default();
    words.add("sun", &sun().1, &[32, 32]).unwrap();
    let encode = |text: &str, skip: usize| model.text.encode(text, &words, skip).unwrap();
    for (name, text) in [("plain", "a red cat"), ("long", LONG)] {
        for skip in [1, 3] {
            let made = encode(text, skip);
            let what = format!("XL {layout}, {name} text, clip skip {skip}");
            compare(&what, &made.text, &get(&io, &format!("{name}.skip{skip}")));
            let summary = made.summary.unwrap().text;
            let reference = get(&io, &format!("{name}.summary"));
            compare(
                &format!("XL {layout}, {name} summary"),
                &summary,
                &reference,
            );
        }
        assert_eq!(
            encode(text, 1).text.to_vec3::<f32>().unwrap(),
            encode(text, 2).text.to_vec3::<f32>().unwrap()
        );
    }
    let word = encode("a (embedding:sun:1.2) cat", 1);
    compare(&format!("XL {layout}, word"), &word.text, &get(&io, "word"));
    let summary = &word.summary.as_ref().unwrap().text;
    compare(
        &format!("XL {layout}, word's summary"),
        summary,
        &get(&io, "word.summary"),
    );
    let both = condition(&encode("a red cat", 1), &word);
    let y = model
        .unet
        .forward(&get(&io, "x"), 501.0, &both, Edges::Zero);
    compare(&format!("XL {layout}, UNet"), &y.unwrap(), &get(&io, "y"));
}

#[test]
fn both_layouts_of_xl_are_those_of_diffusers() {
    let folder = tempfile::tempdir().unwrap();
    xl_single(folder.path());
    let file = ModelFiles::file(&folder.path().join("xl.safetensors"))
        .unwrap()
        .unwrap();
    assert!((file.vae.1.scaling_factor - 0.13025).abs() < 1e-9);
    check_xl("file", &load(&file));
    let inner = folder.path().join("xl-folder");
    xl_folder(&inner);
    check_xl(
        "folder",
        &load(&ModelFiles::folder(&inner).unwrap().unwrap()),
    );
}

#[test]
fn the_encoder_of_stable_diffusion_2_is_cut_apart_and_read_before_its_end() {
    let shapes = shapes("open-clip.json");
    let names: BTreeMap<String, (String, String, Vec<usize>)> = read("tiny-sd.ldm.json");
    let folder = tempfile::tempdir().unwrap();
    // The rest is of `tiny-sd`, whose network takes texts twice as wide: the encoder alone is asked.
    let mut file = autoencoder();
    let unet = tensors("tiny-sd/unet/diffusion_pytorch_model.safetensors");
    for (name, (part, ours, shape)) in names {
        if part == "unet" {
            let numbers: Vec<f32> = get(&unet, &ours).flatten_all().unwrap().to_vec1().unwrap();
            file.insert(name, Raw::of(&numbers, &shape));
        }
    }
    file.extend(grown::open_clip(
        "text",
        &shapes["text"],
        "cond_stage_model.model.",
    ));
    let path = folder.path().join("two.safetensors");
    grown::write(&file, &path, &[("modelspec.prediction_type", "v")]);
    tokenizer(&folder.path().join("tokenizer"));
    let files = ModelFiles::file(&path).unwrap().unwrap();
    assert_eq!(files.scheduler.prediction().unwrap(), Prediction::Velocity);
    let error = StableDiffusion::load(&files, &Compute::cpu())
        .unwrap_err()
        .to_string();
    assert!(error.contains("32 wide, its UNet expects 64"), "{error}");
    let text = StableDiffusion::load_text(&files, &Compute::cpu()).unwrap();
    let io = tensors("open-clip.safetensors");
    for (name, prompt) in [("plain", "a red cat"), ("long", LONG)] {
        for skip in [1, 2, 3] {
            let made = text.encode(prompt, &Words::default(), skip).unwrap();
            let what = format!("OpenCLIP, {name} text, clip skip {skip}");
            compare(&what, &made.text, &get(&io, &format!("{name}.skip{skip}")));
            assert!(made.summary.is_none());
        }
    }
    // A configuration beside the file says the same as its header.
    grown::write(&file, &path, &[]);
    let predicts = || {
        ModelFiles::file(&path)
            .unwrap()
            .unwrap()
            .scheduler
            .prediction_type
    };
    assert_eq!(predicts(), "epsilon");
    let yaml = "model:\n  params:\n    parameterization: \"v\"\n";
    std::fs::write(folder.path().join("two.yaml"), yaml).unwrap();
    assert_eq!(predicts(), "v_prediction");
    std::fs::remove_file(folder.path().join("two.yaml")).unwrap();
    for mark in ["v_pred", "ztsnr"] {
        file.insert(mark.to_owned(), Raw::number(0.0));
    }
    grown::write(&file, &path, &[]);
    assert_eq!(predicts(), "v_prediction");
    assert!(
        ModelFiles::file(&path)
            .unwrap()
            .unwrap()
            .scheduler
            .rescale_betas_zero_snr
    );
}

pub(crate) fn open(folder: &Path) -> NativeEngine {
    NativeEngine::open(&NativeOptions {
        models: Some(folder.to_owned()),
        loras: vec![folder.join("lora")],
        embeddings: vec![folder.join("ti")],
        ..NativeOptions::default()
    })
    .unwrap()
}

#[test]
fn a_model_like_xl_draws_with_prompts_of_any_length_and_tiles() {
    let folder = tempfile::tempdir().unwrap();
    xl_single(folder.path());
    let engine = open(folder.path());
    let draw = |change: fn(&mut ImageTask)| {
        let mut task = ImageTask {
            width: 24,
            height: 16,
            steps: 2,
            ..ImageTask::new("xl", "a red cat")
        };
        change(&mut task);
        engine.run(task, &Quiet).unwrap().remove(0).image.to_rgb8()
    };
    let plain = draw(|_| {});
    assert_eq!(plain.dimensions(), (24, 16));
    assert_ne!(plain, draw(|task| task.tiling = true));
    assert_ne!(plain, draw(|task| task.clip_skip = 3));
    assert_ne!(plain, draw(|task| task.cfg_scale = 1.0));
    assert_ne!(plain, draw(|task| task.prompt = LONG.repeat(3)));
}

#[test]
fn a_network_like_xl_with_nine_channels_fills_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = xl_file();
    let first = "model.diffusion_model.input_blocks.0.0.weight";
    file.insert(first.to_owned(), Raw::grown(first, &[32, 9, 3, 3]));
    grown::write(&file, &folder.path().join("xl-inpainting.safetensors"), &[]);
    tokenizer(&folder.path().join("tokenizer"));
    let engine = open(folder.path());
    let known = engine.capabilities();
    assert!(known.model("xl-inpainting").unwrap().inpainting);
    let image = image::RgbImage::from_pixel(16, 16, image::Rgb([200, 10, 90]));
    let mask = image::GrayImage::from_fn(16, 16, |x, _| image::Luma([if x < 8 { 255 } else { 0 }]));
    let source = Source {
        mask: Some(mask),
        ..Source::new(image.into())
    };
    let task = ImageTask {
        width: 16,
        height: 16,
        steps: 2,
        mode: Mode::Inpaint(source),
        ..ImageTask::new("xl-inpainting", "a red cat")
    };
    let made = engine.run(task, &Quiet).unwrap().remove(0).image.to_rgb8();
    assert_eq!(made.get_pixel(12, 4).0, [200, 10, 90]);
    assert_ne!(made.get_pixel(3, 4).0, [200, 10, 90]);
    // Five channels: told by name.
    file.insert(first.to_owned(), Raw::grown(first, &[32, 5, 3, 3]));
    grown::write(&file, &folder.path().join("depth.safetensors"), &[]);
    let problems: Vec<String> = open(folder.path())
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        problems.iter().any(|it| it.contains("guided by depth")),
        "{problems:?}"
    );
}

#[test]
fn a_prompt_that_is_there_twice_is_the_same_prompt() {
    let files = ModelFiles::folder(&path("tiny-sd")).unwrap().unwrap();
    let model = load(&files);
    let (long, short) = model
        .text
        .encode_pair((&"red cat ".repeat(10), "blue"), &Words::default(), 1)
        .unwrap();
    assert_eq!(long.text.dims(), short.text.dims());
    let once = model.text.encode("blue", &Words::default(), 1).unwrap();
    assert!(once.text.dim(1).unwrap() < short.text.dim(1).unwrap());
    let noise = Tensor::randn(0f32, 1f32, (1, 4, 8, 8), &candle_core::Device::Cpu).unwrap();
    let see = |it: &Condition| model.unet.forward(&noise, 500.0, it, Edges::Zero).unwrap();
    compare("a text twice", &see(&short), &see(&once));
}

#[test]
fn an_autoencoder_beside_a_model_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("compvis");
    std::fs::create_dir_all(&models).unwrap();
    xl_single(&models);
    let file = models.join("xl.safetensors");
    let own = ModelFiles::file(&file).unwrap().unwrap();
    let bias = |files: &ModelFiles| -> Vec<f32> {
        let entry = files.vae.0.get("decoder.conv_out.bias").unwrap();
        entry
            .to_f32(&candle_core::Device::Cpu)
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    // In three layouts, in two places.
    let other = |prefix: &str| -> File {
        let strip = |(name, mut raw): (String, Raw)| {
            let name = name.replace("first_stage_model.", prefix);
            if name.ends_with("decoder.conv_out.bias") {
                raw = Raw::of(&[1.0, 2.0, 3.0], &[3]);
            }
            (name, raw)
        };
        autoencoder().into_iter().map(strip).collect()
    };
    for (place, prefix) in [
        (models.join("xl.vae.safetensors"), ""),
        (
            folder.path().join("vae/xl.safetensors"),
            "first_stage_model.",
        ),
    ] {
        grown::write(&other(prefix), &place, &[]);
        let changed = ModelFiles::file(&file).unwrap().unwrap();
        assert_ne!(bias(&own), bias(&changed));
        assert_eq!(bias(&changed), [1.0, 2.0, 3.0]);
        assert!((changed.vae.1.scaling_factor - 0.13025).abs() < 1e-9);
        assert_eq!(open(&models).capabilities().models.len(), 2);
        std::fs::remove_file(&place).unwrap();
    }
    let diffusers = path("vae-plain/diffusion_pytorch_model.safetensors");
    std::fs::copy(&diffusers, models.join("xl.vae.safetensors")).unwrap();
    assert_ne!(bias(&own), bias(&ModelFiles::file(&file).unwrap().unwrap()));
    // One that is none is told.
    let wrong = File::from([("x".to_owned(), Raw::number(1.0))]);
    grown::write(&wrong, &models.join("xl.vae.safetensors"), &[]);
    let error = ModelFiles::file(&file).unwrap_err().to_string();
    assert!(error.contains("is no autoencoder"), "{error}");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let one = |tensor: &str, shape: &[usize]| {
        let file = File::from([(tensor.to_owned(), Raw::grown(tensor, shape))]);
        grown::write(&file, &folder.path().join("m.safetensors"), &[]);
        ModelFiles::file(&folder.path().join("m.safetensors"))
            .unwrap_err()
            .to_string()
    };
    for (tensor, family) in [
        (
            "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
            "Stable Diffusion 3",
        ),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        (
            "model.diffusion_model.clip_txt_mapper.weight",
            "Stable Cascade",
        ),
        (
            "conditioner.embedders.0.model.token_embedding.weight",
            "refiner",
        ),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            "no text encoder",
        ),
    ] {
        let message = one(tensor, &[2, 2]);
        assert!(message.contains(family), "{message}");
    }
    let model = folder.path().join("model");
    std::fs::create_dir_all(&model).unwrap();
    assert!(ModelFiles::folder(&model).unwrap().is_none());
    let index = r#"{"_class_name": "StableDiffusion3Pipeline"}"#;
    std::fs::write(model.join("model_index.json"), index).unwrap();
    let error = ModelFiles::folder(&model).unwrap_err();
    assert!(matches!(error, EngineError::BadModel { .. }), "{error}");
    assert!(
        error.to_string().contains("`StableDiffusion3Pipeline`"),
        "{error}"
    );
}
