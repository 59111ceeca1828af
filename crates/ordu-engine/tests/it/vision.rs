//! Readers of pictures against transformers, diffusers and Pillow, and what they refuse.

use std::path::Path;

use candle_core::Tensor;
use image::{DynamicImage, RgbImage};
use ordu_engine::native::vision::picture::{Fit, prepared};
use ordu_engine::native::vision::{Captioner, ClipReader, SafetyChecker, Wish};
use ordu_engine::native::weights::TensorFile;
use ordu_engine::{AlchemyEngine as _, Answer, EngineError, Quiet, Readers, SAFETY};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::data::{compare, get, json, path, tensors};

const PICTURES: usize = 4;

#[expect(clippy::unnecessary_wraps, reason = "others stop")]
fn nothing_stops() -> Result<(), EngineError> {
    Ok(())
}

fn row(all: &Tensor, place: usize) -> Tensor {
    all.narrow(0, place, 1).unwrap()
}

/// A picture as it lies in a file, `[height, width, 3]`.
fn picture(io: &TensorFile, place: usize) -> DynamicImage {
    let pixels = get(io, &format!("picture.{place}"));
    let (height, width, _) = pixels.dims3().unwrap();
    let numbers: Vec<f32> = pixels.flatten_all().unwrap().to_vec1().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they were bytes"
    )]
    let bytes = numbers.iter().map(|number| *number as u8).collect();
    let (width, height) = (width.try_into().unwrap(), height.try_into().unwrap());
    RgbImage::from_raw(width, height, bytes).unwrap().into()
}

pub(crate) fn parity() {
    for kind in ["quick-gelu", "gelu"] {
        clip(kind);
    }
    blip();
    let io = tensors("vision/safety/io.safetensors");
    let checker = SafetyChecker::open(&path("vision/safety")).unwrap();
    let pixels = get(&io, "pixels");
    let ours = checker.vector(&pixels, &nothing_stops).unwrap();
    compare("safety checker", &ours, &get(&io, "embeds"));
}

fn clip(kind: &str) {
    let folder = format!("vision/clip-{kind}");
    let io = tensors(&format!("{folder}/io.safetensors"));
    let reader = ClipReader::open(&path(&folder)).unwrap();
    let texts: Vec<String> = json(&format!("{folder}/texts.json"));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let phrases = reader.phrases(&texts, &nothing_stops).unwrap();
    compare(
        &format!("CLIP {kind}, phrases"),
        &phrases,
        &get(&io, "texts"),
    );
    for place in 0..PICTURES {
        let seen = reader
            .picture(&picture(&io, place), &nothing_stops)
            .unwrap();
        let expected = row(&get(&io, "images"), place);
        compare(&format!("CLIP {kind}, picture {place}"), &seen, &expected);
        // Shares of logits, which are likenesses stretched.
        let logits: Vec<f32> = row(&get(&io, "logits"), place)
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let likenesses = reader.likenesses(&seen, &phrases).unwrap();
        for (share, logit) in reader.shares(&likenesses).iter().zip(logits) {
            assert!((share - logit.exp() / sum).abs() < 1e-4, "{share} {logit}");
        }
    }
}

fn blip() {
    let io = tensors("vision/blip/io.safetensors");
    let reader = Captioner::open(&path("vision/blip")).unwrap();
    let ids: Vec<u32> = [25, 6, 9, 4, 12, 3, 21, 7].to_vec();
    for place in 0..PICTURES {
        let pixels = row(&get(&io, "pixels"), place);
        let (seen, logits) = reader.read(&pixels, &ids).unwrap();
        compare(
            &format!("BLIP tower, picture {place}"),
            &seen,
            &row(&get(&io, "image"), place),
        );
        let expected = row(&get(&io, "logits"), place).squeeze(0).unwrap();
        compare(
            &format!("BLIP decoder, picture {place}"),
            &logits,
            &expected,
        );
    }
}

#[test]
fn pictures_are_prepared_as_pillow_does() {
    for (folder, fit) in [("clip-gelu", Fit::Cut), ("blip", Fit::Squeeze)] {
        let pictures = tensors("vision/clip-gelu/io.safetensors");
        let expected = get(
            &tensors(&format!("vision/{folder}/io.safetensors")),
            "pixels",
        );
        for place in 0..PICTURES {
            let ours = prepared(&picture(&pictures, place), 32, fit).unwrap();
            let difference = (ours - row(&expected, place)).unwrap().abs().unwrap();
            let worst: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            // One step of 255 would be 0.014.
            assert!(worst < 1e-5, "{folder}, picture {place}: {worst}");
        }
    }
}

#[derive(Deserialize)]
struct Caption {
    picture: usize,
    beams: usize,
    least: usize,
    most: usize,
    penalty: f32,
    ids: Vec<u32>,
}

#[test]
fn captions_are_searched_for_as_transformers_does() {
    let captions: Vec<Caption> = json("vision/blip/captions.json");
    let pixels = get(&tensors("vision/blip/io.safetensors"), "pixels");
    let reader = Captioner::open(&path("vision/blip")).unwrap();
    assert_eq!(captions.len(), 80);
    for caption in captions {
        let wish = Wish {
            beams: caption.beams,
            least: caption.least,
            most: caption.most,
            penalty: caption.penalty,
        };
        let found = reader.tokens(&row(&pixels, caption.picture), &wish, &nothing_stops);
        assert_eq!(
            found.unwrap(),
            caption.ids,
            "picture {}, {wish:?}",
            caption.picture
        );
    }
}

#[test]
fn the_safety_checker_judges_as_diffusers_does() {
    let io = tensors("vision/safety/io.safetensors");
    let checker = SafetyChecker::open(&path("vision/safety")).unwrap();
    let vectors = checker.vector(&get(&io, "pixels"), &nothing_stops).unwrap();
    let expected = |name: &str| -> Vec<f32> { get(&io, name).to_vec1().unwrap() };
    let (has, care) = (expected("has"), expected("care"));
    let mut met = [0; 4];
    for (place, (has, care)) in has.into_iter().zip(care).enumerate() {
        let shown = checker.judge(&row(&vectors, place)).unwrap();
        assert_eq!(
            (shown.nsfw, shown.special),
            (has > 0.0, care > 0.0),
            "{place}"
        );
        met[usize::from(shown.nsfw) + 2 * usize::from(shown.special)] += 1;
    }
    assert!(met[0] > 0 && met[1] > 0 && met[3] > 0, "{met:?}");
}

fn ask(readers: &Readers, form: &str, options: &Value) -> Result<Value, EngineError> {
    let picture = DynamicImage::from(RgbImage::from_fn(70, 50, |x, y| {
        image::Rgb([x, y, x * y % 256].map(|value| u8::try_from(value).unwrap()))
    }));
    let options = options.as_object().cloned().unwrap_or_default();
    match readers.answer(form, &picture, &options, &Quiet)? {
        Answer::Words(words) => Ok(words),
        Answer::Picture(_) => panic!("{form} is no picture"),
    }
}

/// Copies a reader's folder without what only tests need.
fn put(name: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(path("vision").join(name)).unwrap() {
        let entry = entry.unwrap().path();
        std::fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

#[test]
fn readers_answer_the_forms_that_have_models() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("compvis");
    std::fs::create_dir(&models).unwrap();
    let readers = Readers::open(&models);
    assert!(readers.forms().is_empty());
    let missing = ask(&readers, "caption", &json!({}))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("BLIP"), "{missing}");
    // What comes later is found.
    put("blip", &home.path().join("blip/large"));
    put("clip-gelu", &models.join("clip"));
    put("safety", &models.join("a model/safety_checker"));
    assert_eq!(readers.forms(), ["caption", "interrogation", "nsfw"]);
    assert!(readers.problems().is_empty());

    let caption = ask(&readers, "caption", &json!({"num_beams": 3, "top_p": 0.9})).unwrap();
    assert!(!caption.as_str().unwrap().is_empty());
    let held = |readers: &Readers| -> Vec<String> {
        readers.held().into_iter().map(|held| held.model).collect()
    };
    assert_eq!(held(&readers), ["large"]);
    let found = ask(&readers, "interrogation", &json!({"top_count": 2})).unwrap();
    let kinds = [
        "tags",
        "sites",
        "artists",
        "flavors",
        "mediums",
        "movements",
        "techniques",
    ];
    for kind in kinds {
        let first = &found[kind][0];
        assert!(first["text"].is_string());
        assert!(
            first["confidence"].as_f64().unwrap() >= found[kind][1]["confidence"].as_f64().unwrap()
        );
        assert_eq!(found[kind].as_array().unwrap().len(), 2);
    }
    let nsfw = ask(&readers, "nsfw", &json!({})).unwrap();
    let safety = ask(&readers, SAFETY, &json!({})).unwrap();
    assert_eq!(safety["nsfw"], nsfw);
    assert!(safety["csam"].is_boolean());
    // The checker stays beside the one that was used last.
    assert_eq!(held(&readers), ["clip", "safety_checker"]);
    let unknown = ask(&readers, "palette", &json!({})).unwrap_err();
    assert!(matches!(unknown, EngineError::BadTask { .. }));
    let empty = readers.answer("nsfw", &DynamicImage::new_rgb8(0, 0), &Map::new(), &Quiet);
    assert!(matches!(empty, Err(EngineError::BadTask { .. })));
}

#[test]
fn who_has_enough_is_heard() {
    struct Enough;
    impl ordu_engine::ProgressSink for Enough {
        fn step(&self, _step: ordu_engine::Step) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let readers = Readers::open(&path("vision"));
    let picture = DynamicImage::new_rgb8(9, 9);
    for form in readers.forms() {
        let answer = readers.answer(&form, &picture, &Map::new(), &Enough);
        assert!(matches!(answer, Err(EngineError::Cancelled)), "{form}");
    }
}

/// What is said of a reader that was changed: when it is opened, and when it is found.
fn refused(name: &str, change: impl Fn(&Path)) -> (String, String) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(name);
    put(name, &folder);
    change(&folder);
    let problems = Readers::open(home.path()).problems();
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let opened = match name {
        "blip" => Captioner::open(&folder).map(drop),
        "safety" => SafetyChecker::open(&folder).map(drop),
        _ => ClipReader::open(&folder).map(drop),
    };
    (opened.unwrap_err().to_string(), problems.join("\n"))
}

#[test]
fn numbers_that_do_not_fit_are_refused_by_name() {
    for (name, member, value, expected) in [
        ("blip", "patch_size", "0", "sides"),
        ("blip", "patch_size", "5", "sides"),
        ("blip", "num_attention_heads", "5", "heads"),
        ("blip", "vocab_size", "99", "word_embeddings"),
        ("blip", "bos_token_id", "2500", "marks"),
        ("clip-gelu", "hidden_act", "\"step\"", "step"),
        ("clip-gelu", "num_hidden_layers", "3", "layers.2"),
        ("clip-gelu", "image_size", "4000000000", "sides"),
        ("safety", "hidden_size", "99999999", "width"),
        ("safety", "num_hidden_layers", "1", "layers.1"),
    ] {
        let (reason, _) = refused(name, |folder| {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut changed = 0;
            for part in ["vision_config", "text_config"] {
                if let Some(place) = config[part].get_mut(member) {
                    *place = serde_json::from_str(value).unwrap();
                    changed += 1;
                }
            }
            assert!(changed > 0, "{member}");
            std::fs::write(path, config.to_string()).unwrap();
        });
        assert!(reason.contains(expected), "{reason}");
        assert!(reason.contains(name), "{reason}");
    }
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    let (reason, problems) = refused("clip-gelu", |folder| {
        std::fs::write(folder.join("model.safetensors"), b"\x80\x02}").unwrap();
    });
    assert!(reason.contains("model.safetensors"), "{reason}");
    assert!(problems.contains("model.safetensors"), "{problems}");
    let (reason, problems) = refused("clip-gelu", |folder| {
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    });
    assert!(reason.contains("no tokenizer"), "{reason}");
    assert!(problems.contains("no tokenizer"), "{problems}");
    let (reason, problems) = refused("blip", |folder| {
        std::fs::write(folder.join("config.json"), b"{\"vision_config\": 3}").unwrap();
    });
    assert!(reason.contains("config.json"), "{reason}");
    assert!(problems.contains("config.json"), "{problems}");
}

#[test]
fn damaged_weights_never_panic() {
    let home = tempfile::tempdir().unwrap();
    for name in ["blip", "clip-gelu", "safety"] {
        put(name, &home.path().join(name));
        let file = home.path().join(name).join("model.safetensors");
        let whole = std::fs::read(&file).unwrap();
        let header =
            8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
        for round in 0..60 {
            let mut bytes = whole.clone();
            // The header is where damage matters.
            let place = round * 7919 % header;
            bytes[place] ^= 1 << (round % 7);
            if round % 6 == 5 {
                bytes.truncate(bytes.len() * round / 60);
            }
            std::fs::write(&file, bytes).unwrap();
            let readers = Readers::open(home.path());
            for form in readers.forms() {
                let _ = ask(
                    &readers,
                    &form,
                    &json!({"num_beams": 2, "max_length": 6, "min_length": 0}),
                );
            }
        }
        std::fs::remove_file(&file).unwrap();
    }
}
