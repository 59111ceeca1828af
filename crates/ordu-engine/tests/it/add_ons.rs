//! LoRAs and textual inversions: the numbers of a reference under all names, exactly as before without
//! them, what does not fit, what is hostile, and what they mean to a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use ordu_engine::gates::judge;
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sd::config::VaeConfig;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::lora::{Changes, Strengths};
use ordu_engine::native::sd::vae::Vae;
use ordu_engine::native::sd::words::Words;
use ordu_engine::native::sd::{Condition, StableDiffusion, Summary};
use ordu_engine::native::weights::TensorFile;
use ordu_engine::native::weights::ldm::lone_autoencoder;
use ordu_engine::{
    Budget, Budgets, Compute, Embedding, EmbeddingPlace, Engine, EngineError, Feature, ImageTask,
    Lora, NativeEngine, NativeOptions, Quiet,
};
use proptest::prelude::*;

use crate::data::{compare, get, json, path, tensors};
use crate::families::{open, xl_single};
use crate::grown::{self, File, Raw};

#[derive(serde::Deserialize)]
struct Table {
    /// Layer as `part/name`, to the factors' endings and shapes.
    layers: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    alpha: f32,
}

/// The factors of some layers under names of some program.
fn lora(
    name: impl Fn(&str, &str) -> String,
    ending: impl Fn(&str) -> String,
    chosen: impl Fn(&BTreeMap<String, Vec<usize>>) -> bool,
) -> File {
    let table: Table = json("loras.json");
    let mut file = File::new();
    for (layer, parts) in table.layers.iter().filter(|(_, parts)| chosen(parts)) {
        let (part, module) = layer.split_once('/').unwrap();
        let key = name(part, module);
        for (own, shape) in parts {
            let grown = grown::numbers(&format!("lora/{layer}{own}"), shape);
            let half: Vec<f32> = grown.iter().map(|it| it * 0.5).collect();
            file.insert(format!("{key}{}", ending(own)), Raw::of(&half, shape));
        }
        file.insert(format!("{key}.alpha"), Raw::number(table.alpha));
    }
    file
}

fn kohya(part: &str, module: &str) -> String {
    let flat = module.replace('.', "_");
    match part {
        "unet" => format!("lora_unet_{flat}"),
        "text" => format!("lora_te1_text_model_{flat}"),
        _ => format!("lora_te2_text_model_{flat}"),
    }
}

/// As files for SDXL name the network.
fn kohya_original(part: &str, module: &str) -> String {
    let found = [
        ("down_blocks.1.attentions.0", "input_blocks.3.1"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("up_blocks.0.attentions.1", "output_blocks.1.1"),
        (
            "up_blocks.1.resnets.0.conv_shortcut",
            "output_blocks.2.0.skip_connection",
        ),
        (
            "down_blocks.0.resnets.0.conv1",
            "input_blocks.1.0.in_layers.2",
        ),
        ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
    ]
    .into_iter()
    .find_map(|(ours, theirs)| Some(format!("{theirs}{}", module.strip_prefix(ours)?)));
    match found {
        Some(theirs) if part == "unet" => kohya(part, &theirs),
        _ => kohya(part, module),
    }
}

fn diffusers(part: &str, module: &str) -> String {
    match part {
        "unet" => format!("unet.{module}"),
        "text" => format!("text_encoder.text_model.{module}"),
        _ => format!("text_encoder_2.text_model.{module}"),
    }
}

fn peft_ending(own: &str) -> String {
    own.replace("lora_down", "lora_A")
        .replace("lora_up", "lora_B")
}

fn is_low(parts: &BTreeMap<String, Vec<usize>>) -> bool {
    parts.contains_key(".lora_up.weight") && !parts.contains_key(".lora_mid.weight")
}

fn xl() -> (tempfile::TempDir, ModelFiles) {
    let folder = tempfile::tempdir().unwrap();
    xl_single(folder.path());
    let file = folder.path().join("xl.safetensors");
    let files = ModelFiles::file(&file).unwrap().unwrap();
    (folder, files)
}

fn parsed(file: &File, notes: &[(&str, &str)]) -> TensorFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lora.safetensors");
    grown::write(file, &path, notes);
    TensorFile::open(&path).unwrap()
}

fn changes(file: &TensorFile, model: &ModelFiles, (unet, text): (f64, f64)) -> Changes {
    let mut changes = Changes::default();
    let strengths = Strengths { unet, text };
    changes.add(("a", file), model, strengths).unwrap();
    changes
}

fn check(what: &str, model: &StableDiffusion, label: &str) {
    let io = tensors("loras.safetensors");
    let xl = tensors("xl.safetensors");
    let text = model
        .text
        .encode("a red cat", &Words::default(), 1)
        .unwrap();
    compare(
        &format!("{what}, text"),
        &text.text,
        &get(&io, &format!("text.{label}")),
    );
    let cat = |one: &str, two: &str| {
        candle_core::Tensor::cat(&[get(&xl, one), get(&xl, two)], 0).unwrap()
    };
    let condition = Condition {
        text: cat("plain.skip1", "word"),
        summary: Some(Summary {
            text: cat("plain.summary", "word.summary"),
            sizes: [64, 96, 0, 0, 64, 96],
        }),
    };
    let y = model
        .unet
        .forward(&get(&xl, "x"), 501.0, &condition, Edges::Zero);
    compare(
        &format!("{what}, UNet"),
        &y.unwrap(),
        &get(&io, &format!("unet.{label}")),
    );
}

#[test]
fn changes_are_those_of_the_reference_under_all_names() {
    let (_folder, files) = xl();
    let cpu = Compute::cpu();
    let base = StableDiffusion::load(&files, &cpu).unwrap();
    check("no LoRA", &base, "none");
    let same = |own: &str| own.to_owned();
    let all = [
        ("kohya", lora(kohya, same, |_| true)),
        (
            "kohya, original names",
            lora(kohya_original, same, |_| true),
        ),
        ("diffusers", lora(diffusers, same, |_| true)),
    ];
    for (name, file) in all {
        let changes = changes(&parsed(&file, &[]), &files, (0.8, -0.6));
        check(name, &base.changed(&files, &changes).unwrap(), "all");
        let whole = StableDiffusion::load_changed(&files, &cpu, &changes).unwrap();
        check(&format!("{name}, loaded whole"), &whole, "all");
    }
    let mut low = lora(diffusers, peft_ending, is_low);
    let with_alpha = changes(&parsed(&low, &[]), &files, (1.0, 1.0));
    check("peft", &base.changed(&files, &with_alpha).unwrap(), "low");
    // The same with alpha in the header, as diffusers writes it.
    low.retain(|_, raw| !raw.shape.is_empty());
    let note =
        r#"{"unet.lora_alpha": 2, "text_encoder.lora_alpha": 2.0, "text_encoder_2.lora_alpha": 2}"#;
    let noted = parsed(&low, &[("lora_adapter_metadata", note)]);
    let noted = changes(&noted, &files, (1.0, 1.0));
    check(
        "peft, alpha noted",
        &base.changed(&files, &noted).unwrap(),
        "low",
    );
    // Two that are each half of it, one behind the other.
    let file = parsed(&lora(kohya, same, |_| true), &[]);
    let mut twice = Changes::default();
    for _ in 0..2 {
        let half = Strengths {
            unet: 0.4,
            text: -0.3,
        };
        twice.add(("a", &file), &files, half).unwrap();
    }
    check("two halves", &base.changed(&files, &twice).unwrap(), "all");
    let nothing = changes(&file, &files, (0.0, 0.0));
    assert!(nothing.is_empty());
    check("no LoRA, still", &base, "none");
    crate::data::print_table();
}

/// A models folder with the model like SDXL, LoRAs and words.
fn stocked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    xl_single(folder.path());
    let put = |name: &str, file: &File| grown::write(file, &folder.path().join(name), &[]);
    let same = |own: &str| own.to_owned();
    put("lora/good.safetensors", &lora(kohya, same, |_| true));
    put(
        "lora/low.safetensors",
        &lora(diffusers, peft_ending, is_low),
    );
    let word = |rows: usize, widths: [usize; 2]| -> File {
        let tensor = |(part, width): (&str, usize)| {
            (
                part.to_owned(),
                Raw::grown(&format!("word/{part}"), &[rows, width]),
            )
        };
        ["clip_l", "clip_g"]
            .into_iter()
            .zip(widths)
            .map(tensor)
            .collect()
    };
    put("ti/7.safetensors", &word(2, [32, 32]));
    put("ti/wide.safetensors", &word(2, [32, 64]));
    put("ti/long.safetensors", &word(76, [32, 32]));
    let lone = File::from([("emb_params".to_owned(), Raw::grown("word/clip_l", &[2, 32]))]);
    put("ti/first.safetensors", &lone);
    put(
        "ti/noise.safetensors",
        &File::from([("x".to_owned(), Raw::number(1.0))]),
    );
    std::fs::write(folder.path().join("lora/garbage.safetensors"), [0xff; 64]).unwrap();
    std::fs::write(folder.path().join("lora/empty.safetensors"), "").unwrap();
    folder
}

fn task() -> ImageTask {
    ImageTask {
        width: 16,
        height: 16,
        steps: 2,
        ..ImageTask::new("xl", "a red cat")
    }
}

fn with(loras: &[(&str, f32, f32)]) -> ImageTask {
    let lora = |(file, model, clip): &(&str, f32, f32)| Lora {
        file: (*file).to_owned(),
        model: *model,
        clip: *clip,
    };
    ImageTask {
        loras: loras.iter().map(lora).collect(),
        ..task()
    }
}

fn draw(engine: &NativeEngine, task: ImageTask) -> RgbImage {
    engine.run(task, &Quiet).unwrap().remove(0).image.to_rgb8()
}

#[test]
fn a_model_is_exactly_itself_again_when_its_loras_are_gone() {
    let folder = stocked();
    // All of it, and less than the smallest model has.
    for memory in [Budget::Auto, Budget::Megabytes(1)] {
        let engine = NativeEngine::open(&NativeOptions {
            models: Some(folder.path().to_owned()),
            loras: vec![folder.path().join("lora")],
            memory: Budgets {
                ram: memory,
                vram: memory,
            },
            ..NativeOptions::default()
        })
        .unwrap();
        let plain = draw(&engine, task());
        let changed = draw(&engine, with(&[("good", 0.8, 0.5)]));
        assert_ne!(plain, changed);
        assert_eq!(plain, draw(&engine, task()));
        assert_eq!(
            changed,
            draw(&engine, with(&[("good.safetensors", 0.8, 0.5)]))
        );
        assert_eq!(plain, draw(&engine, with(&[("good", 0.0, 0.0)])));
        let text_alone = draw(&engine, with(&[("good", 0.0, 0.5)]));
        assert!(text_alone != plain && text_alone != changed);
        let both = draw(&engine, with(&[("good", 0.8, 0.5), ("low", 1.0, 0.0)]));
        assert_ne!(both, changed);
        assert_eq!(plain, draw(&engine, task()));
        let held = engine.holdings().models;
        assert_eq!(held.len(), 1, "{held:?}");
    }
}

#[test]
fn features_are_offered_where_there_are_folders() {
    let folder = stocked();
    let offered = |engine: &NativeEngine| {
        let features = engine.capabilities().features;
        [Feature::Lora, Feature::TextualInversion].map(|it| features.contains(&it))
    };
    assert_eq!(offered(&open(folder.path())), [true, true]);
    std::fs::remove_dir_all(folder.path().join("ti")).unwrap();
    assert_eq!(offered(&open(folder.path())), [true, false]);
    let none = NativeEngine::open(&NativeOptions::default()).unwrap();
    assert_eq!(offered(&none), [false, false]);
}

fn refusal(folder: &Path, task: ImageTask) -> EngineError {
    open(folder).run(task, &Quiet).unwrap_err()
}

#[test]
fn add_ons_that_do_not_fit_or_are_damaged_are_named_before_anything_is_drawn() {
    let folder = stocked();
    let bundled = |mut task: ImageTask| {
        task.model = "ordu-tiny".to_owned();
        task
    };
    let mismatch = refusal(folder.path(), bundled(with(&[("good", 1.0, 1.0)])));
    assert!(
        matches!(&mismatch, EngineError::AddOnMismatch { name, .. } if name == "good"),
        "{mismatch}"
    );
    for name in ["garbage", "empty"] {
        let error = refusal(folder.path(), with(&[(name, 1.0, 1.0)]));
        assert!(
            matches!(&error, EngineError::BadAddOn { name: it, .. } if it == name),
            "{error}"
        );
    }
    for name in ["absent", "../xl", "/etc/passwd"] {
        let error = refusal(folder.path(), with(&[(name, 1.0, 1.0)]));
        assert!(
            matches!(&error, EngineError::NoAddOn { name: it } if it == name),
            "{error}"
        );
    }
    let error = refusal(folder.path(), with(&[("good", f32::NAN, 1.0)]));
    assert!(matches!(error, EngineError::BadTask { .. }), "{error}");
    let word = |name: &str| {
        let mut task = task();
        task.embeddings = vec![Embedding {
            name: name.to_owned(),
            strength: 1.0,
            place: Some(EmbeddingPlace::Prompt),
        }];
        task
    };
    for name in ["wide", "first"] {
        let error = refusal(folder.path(), word(name));
        assert!(
            matches!(error, EngineError::AddOnMismatch { .. }),
            "{error}"
        );
    }
    for name in ["long", "noise"] {
        let error = refusal(folder.path(), word(name));
        assert!(matches!(error, EngineError::BadAddOn { .. }), "{error}");
    }
    assert!(matches!(
        refusal(folder.path(), word("8")),
        EngineError::NoAddOn { .. }
    ));
}

/// What a LoRA with one layer of these tensors is told.
fn told(tensors: &[(&str, &[usize])]) -> String {
    let (_folder, files) = xl();
    let key = "lora_unet_mid_block_attentions_0_proj_in";
    let file: File = tensors
        .iter()
        .map(|(ending, shape)| (format!("{key}{ending}"), Raw::grown(ending, shape)))
        .collect();
    let strengths = Strengths {
        unet: 1.0,
        text: 1.0,
    };
    let mut changes = Changes::default();
    match changes.add(("a", &parsed(&file, &[])), &files, strengths) {
        Ok(()) => "fine".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn strange_and_contradictory_loras_are_refused_by_name() {
    let (up, down) = (".lora_up.weight", ".lora_down.weight");
    assert_eq!(told(&[(up, &[32, 2]), (down, &[2, 32])]), "fine");
    for (tensors, reason) in [
        (vec![(up, &[32, 2][..])], "lacks one of its factors"),
        (
            vec![(up, &[32, 3]), (down, &[2, 32])],
            "do not fit each other",
        ),
        (vec![(up, &[64, 2]), (down, &[2, 32])], "(64, 32)"),
        (
            vec![(up, &[32, 2]), (down, &[2, 32]), (".alpha", &[2])],
            "alpha",
        ),
        (
            vec![(up, &[32, 2]), (down, &[2, 32]), (".dora_scale", &[32, 1])],
            "DoRA",
        ),
        (vec![(".lokr_w1", &[2, 2])], "LoKr"),
        (vec![(".something", &[2, 2])], "it is no LoRA"),
        // A product that nobody could hold is never made.
        (
            vec![(up, &[300_000, 1]), (down, &[1, 300_000])],
            "(300000, 300000)",
        ),
        (
            vec![(up, &[32, 0]), (down, &[0, 32])],
            "do not fit each other",
        ),
        (vec![(up, &[32]), (down, &[32])], "do not fit each other"),
        (
            vec![(".hada_w1_a", &[32, 2]), (".hada_w1_b", &[2, 32])],
            "lacks one",
        ),
    ] {
        let message = told(&tensors);
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

#[test]
fn words_of_a_prompt_are_found_and_unknown_ones_left_out() {
    let folder = stocked();
    let engine = open(folder.path());
    let prompt = |text: &str| {
        let mut task = task();
        task.prompt = text.to_owned();
        draw(&engine, task)
    };
    let plain = prompt("a cat");
    assert_ne!(plain, prompt("a embedding:7 cat"));
    assert_ne!(
        prompt("a embedding:7 cat"),
        prompt("a (embedding:7:1.5) cat")
    );
    assert_eq!(plain, prompt("a embedding:8 cat"));
    assert_eq!(plain, prompt("a embedding:../ti/7 cat"));
    assert_eq!(plain, prompt("a embedding:wide cat"));
    // Put in by the engine where the task says.
    let mut placed = task();
    placed.prompt = "a cat".to_owned();
    placed.embeddings = vec![Embedding {
        name: "7".to_owned(),
        strength: 1.5,
        place: Some(EmbeddingPlace::Prompt),
    }];
    assert_eq!(draw(&engine, placed), prompt("(embedding:7:1.5),a cat"));
}

/// Places of colours in the judge's table.
const YELLOW: usize = 3;

#[derive(serde::Deserialize)]
struct Vocabulary {
    model: Model,
}
#[derive(serde::Deserialize)]
struct Model {
    vocab: BTreeMap<String, usize>,
}

/// An engine that has what was learned for `ordu-tiny`.
/// An engine that has a LoRA and a word for the bundled model.
pub(crate) fn learned() -> (tempfile::TempDir, NativeEngine) {
    let folder = tempfile::tempdir().unwrap();
    let lora = folder.path().join("lora");
    std::fs::create_dir_all(&lora).unwrap();
    let file = "ordu-tiny-yellow.safetensors";
    std::fs::copy(path(file), lora.join(file)).unwrap();
    // A word that means what a word of the model means: its row of the table.
    let text = path("../models/ordu-tiny/text_encoder/model.safetensors");
    let table = TensorFile::open(&text).unwrap();
    let name = "embeddings.token_embedding.weight";
    let (_, entry) = table.entries().find(|(it, _)| it.ends_with(name)).unwrap();
    let rows = entry.to_f32(&candle_core::Device::Cpu).unwrap();
    let words: Vocabulary = json("../models/ordu-tiny/tokenizer/tokenizer.json");
    let row: Vec<f32> = rows
        .get(words.model.vocab["yellow"])
        .unwrap()
        .to_vec1()
        .unwrap();
    let word = File::from([("emb_params".to_owned(), Raw::of(&row, &[1, row.len()]))]);
    grown::write(&word, &folder.path().join("ti/sun.safetensors"), &[]);
    let engine = NativeEngine::open(&NativeOptions {
        loras: vec![lora],
        embeddings: vec![folder.path().join("ti")],
        ..NativeOptions::default()
    })
    .unwrap();
    (folder, engine)
}

fn shown(engine: &NativeEngine, prompt: &str, strength: f32) -> Option<usize> {
    let loras = vec![Lora {
        file: "ordu-tiny-yellow.safetensors".to_owned(),
        model: strength,
        clip: 0.0,
    }];
    let task = ImageTask {
        width: 64,
        height: 64,
        steps: 10,
        cfg_scale: 5.0,
        seed: 7,
        loras,
        ..ImageTask::new("ordu-tiny", prompt)
    };
    judge(&draw(engine, task)).colour
}

/// The LoRA was trained to paint every shape yellow, by `training/train_lora.py`.
#[test]
fn a_lora_means_what_it_was_trained_for_and_nothing_without_strength() {
    let (_folder, engine) = learned();
    let prompts = [
        (0, "a large red circle at the center on a blue background"),
        (2, "a large blue square at the center on a white background"),
        (
            1,
            "a large green cross at the top left on a black background",
        ),
        (
            4,
            "a large purple triangle at the center on a green background",
        ),
    ];
    for (colour, prompt) in prompts {
        assert_eq!(shown(&engine, prompt, 0.0), Some(colour), "{prompt}");
        assert_eq!(shown(&engine, prompt, 1.0), Some(YELLOW), "{prompt}");
    }
}

#[test]
fn a_learned_word_means_what_its_row_means() {
    let (_folder, engine) = learned();
    let prompt = "a large embedding:sun circle at the center on a blue background";
    assert_eq!(shown(&engine, prompt, 0.0), Some(YELLOW));
}

/// The small LoRA for `ordu-tiny`, as bytes.
fn bytes() -> Vec<u8> {
    std::fs::read(path("ordu-tiny-yellow.safetensors")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Headers that are sound and lie: factors of any shape under any ending.
    #[test]
    fn lying_shapes_never_panic(
        shapes in proptest::collection::vec((0..9_usize, proptest::collection::vec(0..40_usize, 0..5)), 1..7),
        layer in 0..3_usize,
    ) {
        let endings = [
            ".lora_up.weight", ".lora_down.weight", ".lora_mid.weight", ".alpha", ".hada_w1_a",
            ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1",
        ];
        let layers = [
            "lora_unet_mid_block_attentions_0_proj_in",
            "lora_unet_conv_in",
            "lora_te_text_model_encoder_layers_0_mlp_fc1",
        ];
        let tensors = shapes.into_iter().filter(|(_, shape)| shape.iter().product::<usize>() < 100_000);
        let file: File = tensors
            .map(|(ending, shape)| {
                let name = format!("{}{}", layers[layer], endings[ending]);
                (name, Raw::grown("x", &shape))
            })
            .collect();
        let file = TensorFile::from_bytes("lying", safetensors::serialize(&file, None).unwrap()).unwrap();
        let files = ModelFiles::bundled().unwrap();
        let strengths = Strengths { unet: 1.0, text: 1.0 };
        let mut changes = Changes::default();
        if changes.add(("lying", &file), &files, strengths).is_ok() {
            StableDiffusion::load_changed(&files, &Compute::cpu(), &changes).unwrap();
        }
        Words::default().add("lying", &file, &[96]).ok();
    }

    /// Damaged headers of all kinds of add-ons: refused or applied, never a panic, never more memory than
    /// the model's own.
    #[test]
    fn damaged_add_ons_never_panic(
        edits in proptest::collection::vec((0..14_000_usize, any::<u8>()), 1..6),
        kind in 0..3,
    ) {
        let files = ModelFiles::bundled().unwrap();
        let strengths = Strengths { unet: 1.0, text: 1.0 };
        let mut damaged = match kind {
            0 => bytes(),
            1 => {
                let file = File::from([("emb_params".to_owned(), Raw::grown("word", &[3, 96]))]);
                safetensors::serialize(&file, None).unwrap()
            }
            _ => std::fs::read(path("vae-plain/diffusion_pytorch_model.safetensors")).unwrap(),
        };
        for (at, byte) in edits {
            let at = at % damaged.len();
            damaged[at] = byte;
        }
        let Ok(file) = TensorFile::from_bytes("damaged", damaged) else {
            return Ok(());
        };
        let mut changes = Changes::default();
        if changes.add(("damaged", &file), &files, strengths).is_ok() {
            StableDiffusion::load_changed(&files, &Compute::cpu(), &changes).ok();
        }
        Words::default().add("damaged", &file, &[96]).ok();
        let Some(weights) = lone_autoencoder(&file) else {
            return Ok(());
        };
        if let Ok(config) = VaeConfig::from_shapes(&weights) {
            Vae::new(&weights, &config, &Compute::cpu()).ok();
        }
    }
}

#[test]
fn messages_tell_names_and_no_paths() {
    let folder = stocked();
    for name in ["garbage", "empty", "absent"] {
        let message = refusal(folder.path(), with(&[(name, 1.0, 1.0)])).to_string();
        let place = PathBuf::from(folder.path());
        assert!(!message.contains(&*place.to_string_lossy()), "{message}");
        assert!(message.contains(name), "{message}");
    }
}
