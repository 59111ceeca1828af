//! Single-file checkpoints: the same model in both layouts, and what is said about damaged ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use image::{DynamicImage, GrayImage, RgbImage};
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::StableDiffusion;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::words::Words;
use ordu_engine::{
    Baseline, Compute, Engine, EngineError, ImageTask, Mode, NativeEngine, NativeOptions, Origin,
    Quiet, Source,
};
use safetensors::tensor::{Dtype, View};

use crate::data::{compare, get, json, path, tensors};

/// Where a tensor of the single file lies in the folder: part, name, shape in the file.
type Names = BTreeMap<String, (String, String, Vec<usize>)>;

struct Raw {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        Dtype::F16
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The tensors of `testdata/tiny-sd` under their original names, by a table that diffusers'
/// converter has checked.
fn checkpoint() -> BTreeMap<String, Raw> {
    let part =
        |name: &str, file: &str| (name.to_owned(), tensors(&format!("tiny-sd/{name}/{file}")));
    let parts = BTreeMap::from([
        part("text_encoder", "model.safetensors"),
        part("unet", "diffusion_pytorch_model.safetensors"),
        part("vae", "diffusion_pytorch_model.safetensors"),
    ]);
    let names: Names = json("tiny-sd.ldm.json");
    let entry = |(name, (part, ours, shape)): (String, (String, String, Vec<usize>))| {
        let bytes = parts[&part].get(&ours).unwrap().bytes().to_vec();
        (name, Raw { shape, bytes })
    };
    names.into_iter().map(entry).collect()
}

/// A models folder with the checkpoint and its tokenizer.
fn folder(checkpoint: &BTreeMap<String, Raw>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    safetensors::serialize_to_file(checkpoint, None, &folder.path().join("single.safetensors"))
        .unwrap();
    copy(&path("tiny-sd/tokenizer"), &folder.path().join("tokenizer"));
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
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

fn task(model: &str) -> ImageTask {
    ImageTask {
        width: 16,
        height: 16,
        steps: 3,
        ..ImageTask::new(model, "a red cat")
    }
}

#[test]
fn both_layouts_are_the_same_model() {
    let folder = folder(&checkpoint());
    let load = |files: ModelFiles| StableDiffusion::load(&files, &Compute::cpu()).unwrap();
    let single = load(
        ModelFiles::file(&folder.path().join("single.safetensors"))
            .unwrap()
            .unwrap(),
    );
    let folder = load(ModelFiles::folder(&path("tiny-sd")).unwrap().unwrap());
    let results = |model: &StableDiffusion| {
        let words = Words::default();
        let text = model.text.encode("a red cat", &words, 1).unwrap();
        let noise = get(&tensors("tiny-sd.io.safetensors"), "noise");
        let latents = model
            .unet
            .forward(&noise, 500.0, &text, Edges::Zero)
            .unwrap();
        let pixels = model.vae.decode(&latents, Edges::Zero).unwrap();
        let again = model.vae.encode(&pixels, Edges::Zero).unwrap();
        [text.text, latents, pixels, again]
            .map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    assert_eq!(results(&single), results(&folder));
}

#[test]
fn a_model_is_described_without_loading_it() {
    let folder = folder(&checkpoint());
    let engine = open(folder.path());
    let capabilities = engine.capabilities();
    let info = capabilities.model("single").unwrap();
    assert_eq!((info.baseline, info.inpainting), (Baseline::Custom, false));
    assert_eq!(
        info.origin,
        Origin::File(folder.path().join("single.safetensors"))
    );
    assert!(engine.holdings().models.is_empty());
}

/// What loading a changed checkpoint answers.
fn refusal(change: impl FnOnce(&mut BTreeMap<String, Raw>)) -> String {
    let mut checkpoint = checkpoint();
    change(&mut checkpoint);
    let folder = folder(&checkpoint);
    let engine = open(folder.path());
    match engine.run(task("single"), &Quiet).unwrap_err() {
        EngineError::UnknownModel { .. } => engine.problems()[0].to_string(),
        other => other.to_string(),
    }
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let prefix = "model.diffusion_model.";
    let message = refusal(|tensors| {
        // This one tells the size of its block: its absence is found before loading.
        tensors.remove(&format!("{prefix}input_blocks.1.0.in_layers.2.weight"));
    });
    assert!(
        message.contains("down_blocks.0.resnets.0.conv1.weight"),
        "{message}"
    );
    let message = refusal(|tensors| {
        tensors.remove(&format!("{prefix}time_embed.0.bias"));
        tensors
            .get_mut(&format!("{prefix}time_embed.2.bias"))
            .unwrap()
            .shape = vec![2, 64];
        tensors.insert(
            format!("{prefix}label_emb.weight"),
            Raw {
                shape: vec![1],
                bytes: vec![0; 2],
            },
        );
    });
    for part in [
        "time_embedding.linear_1.bias [128]",
        "time_embedding.linear_2.bias is [2, 64], expected [128]",
        "label_emb.weight",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn a_single_file_without_tokenizer_says_where_to_put_one() {
    let folder = folder(&checkpoint());
    std::fs::remove_dir_all(folder.path().join("tokenizer")).unwrap();
    let error = open(folder.path()).run(task("single"), &Quiet).unwrap_err();
    assert!(matches!(error, EngineError::NoTokenizer { .. }), "{error}");
    assert!(error.to_string().contains("merges.txt"), "{error}");
}

#[test]
fn files_that_are_no_models_are_passed_over_and_damaged_ones_reported() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("notes.txt", b"hello");
    write("empty.safetensors", b"");
    write("garbage.safetensors", &[0xff; 100]);
    let lora = BTreeMap::from([(
        "lora_up.weight".to_owned(),
        Raw {
            shape: vec![1],
            bytes: vec![0; 2],
        },
    )]);
    safetensors::serialize_to_file(&lora, None, &folder.path().join("lora.safetensors")).unwrap();
    let engine = open(folder.path());
    let problems: Vec<String> = engine.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(engine.capabilities().models.len(), 1);
}

#[test]
fn a_model_that_arrives_later_joins_and_one_that_goes_leaves() {
    let source = folder(&checkpoint());
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let names = || {
        let models = engine.capabilities().models.into_iter();
        models.map(|model| model.name).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["ordu-tiny"]);
    let file = folder.path().join("late.safetensors");
    std::fs::copy(source.path().join("single.safetensors"), &file).unwrap();
    assert_eq!(names(), ["ordu-tiny", "late"]);
    std::fs::write(folder.path().join("bad.safetensors"), "x").unwrap();
    assert_eq!(names(), ["ordu-tiny", "late"]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(names(), ["ordu-tiny"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let options = NativeOptions {
        models: Some(PathBuf::from("/no/such/folder")),
        ..NativeOptions::default()
    };
    assert!(matches!(
        NativeEngine::open(&options),
        Err(EngineError::Io { .. })
    ));
}

#[test]
fn hostile_configurations_are_refused_before_anything_is_built() {
    for (from, to) in [
        (
            "\"layers_per_block\": 1",
            "\"layers_per_block\": 4000000000",
        ),
        ("\"norm_num_groups\": 32", "\"norm_num_groups\": 0"),
        (
            "\"cross_attention_dim\": 64",
            "\"cross_attention_dim\": 18446744073709551615",
        ),
        ("\"attention_head_dim\": 1", "\"attention_head_dim\": 0"),
        ("\"in_channels\": 4", "\"in_channels\": 5"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy(&path("tiny-sd"), &folder.path().join("model"));
        let config = folder.path().join("model/unet/config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
        let error = open(folder.path()).run(task("model"), &Quiet).unwrap_err();
        assert!(
            matches!(
                error,
                EngineError::UnknownModel { .. } | EngineError::BadModel { .. }
            ),
            "{to}: {error}"
        );
    }
}

#[test]
fn an_inpainting_network_is_known_by_its_channels_and_runs_every_mode() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("inpainting");
    copy(&path("tiny-sd"), &model);
    std::fs::remove_dir_all(model.join("unet")).unwrap();
    copy(&path("unet-inpaint"), &model.join("unet"));
    let engine = open(folder.path());
    assert!(
        engine
            .capabilities()
            .model("inpainting")
            .unwrap()
            .inpainting
    );
    let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, image::Rgb([200, 10, 90])));
    let mask = GrayImage::from_fn(16, 16, |x, _| image::Luma([if x < 8 { 255 } else { 0 }]));
    let source = Source {
        mask: Some(mask),
        ..Source::new(image)
    };
    let modes = [
        Mode::Txt2Img,
        Mode::Img2Img(source.clone()),
        Mode::Inpaint(source),
    ];
    let pictures = modes.map(|mode| {
        let task = ImageTask {
            mode,
            batch: 2,
            ..task("inpainting")
        };
        let pictures = engine.run(task, &Quiet).unwrap();
        assert_eq!(pictures.len(), 2);
        pictures[1].image.to_rgb8()
    });
    assert_eq!(pictures[2].get_pixel(12, 4).0, [200, 10, 90]);
    assert_ne!(pictures[2].get_pixel(3, 4).0, [200, 10, 90]);
    assert_ne!(pictures[0], pictures[2]);
}

#[test]
fn tiling_makes_opposite_edges_meet() {
    // Shifting the noise around the edge shifts the picture around the edge, and nothing else.
    let files = ModelFiles::folder(&path("tiny-sd")).unwrap().unwrap();
    let model = StableDiffusion::load(&files, &Compute::cpu()).unwrap();
    let latents = get(&tensors("tiny-sd.io.safetensors"), "noise");
    let decode = |latents: &Tensor| model.vae.decode(latents, Edges::Wrap).unwrap();
    let shifted = decode(&latents.roll(4, 3).unwrap());
    compare("tiling", &shifted, &decode(&latents).roll(8, 3).unwrap());
}
