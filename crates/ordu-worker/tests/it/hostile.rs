//! Jobs, sources and files that mean harm: the worker survives, says what is wrong, and goes on.

use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat};
use ordu_engine::{ImageTask, Mode};
use ordu_worker::manager::Taste;
use serde_json::{Value, json};

use crate::downloads::sum;
use crate::pantry::{brought, failed, lora, model, pantry_with, remarks, tensors, version};
use crate::support::engine::{Plan, Scripted};
use crate::support::files::{FileServer, Served, Trick};
use crate::support::horde::{FakeHorde, job, job_with, ok, outcomes};
use crate::support::{Rig, config};

/// Payloads that no honest horde sends.
fn payloads() -> Vec<Value> {
    let many = |item: Value| vec![item; 10_000];
    let long = "a".repeat(1 << 20);
    let deep = format!("{}a{}", "{".repeat(100_000), "|b}".repeat(100_000));
    vec![
        json!({"width": 0, "height": -5}),
        json!({"width": 1e300, "height": u64::MAX}),
        json!({"width": "x", "height": [64]}),
        json!({"ddim_steps": 0}),
        json!({"ddim_steps": 4_000_000_000_u32}),
        json!({"ddim_steps": -1, "cfg_scale": "NaN"}),
        json!({"cfg_scale": 1e308, "clip_skip": 1_000_000}),
        json!({"n_iter": 1_000_000_000}),
        json!({"n_iter": null, "seed": {"a": 1}}),
        json!({"seed": "9".repeat(100_000)}),
        json!({"seed": "\u{0}\u{202e}"}),
        json!({"sampler_name": "../../etc/passwd", "karras": "perhaps"}),
        json!({"control_type": "telepathy", "return_control_map": true}),
        json!({"workflow": "rm -rf /", "extra_texts": many(json!({"text": "x", "reference": "qr_code"}))}),
        json!({"workflow": "qr_code", "extra_texts": [{"text": long, "reference": "qr_code"}]}),
        json!({"workflow": "qr_code", "extra_texts": [{"text": "x", "reference": "x_offset"},
               {"text": "-99999999999999999999", "reference": "qr_border"}]}),
        json!({"post_processing": many(json!("RealESRGAN_x4plus"))}),
        json!({"post_processing": [null, 7, "sharpen", {"a": "b"}], "facefixer_strength": -1e99}),
        json!({"loras": many(json!({"name": "../../x", "model": "NaN", "clip": 1e99}))}),
        json!({"loras": {"name": "x"}, "tis": "y"}),
        json!({"loras": [{"name": ""}, {"name": "\u{0}"}, {"name": "4294967296"}, {"name": -1}]}),
        json!({"tis": many(json!({"name": "9", "strength": [], "inject_ti": "elsewhere"}))}),
        json!({"prompt": long}),
        json!({"prompt": deep}),
        json!({"prompt": "###".repeat(100_000)}),
        json!({"prompt": "\u{0}\u{1}\u{ffff}\u{202e}"}),
        json!({"prompt": ["a", "b"]}),
        json!({"hires_fix": 7, "hires_fix_denoising_strength": "x", "denoising_strength": -1}),
        json!({"tiling": [], "transparent": {}, "special": [[[[]]]], "use_nsfw_censor": "?"}),
        json!({"batch_size": 1e9, "unknown": {"a": many(json!(0))}}),
    ]
}

/// What else of a job may be odd.
fn tops() -> Vec<Value> {
    let many = vec![json!({"image": "AAAA", "strength": "x"}); 10_000];
    vec![
        json!({"payload": null}),
        json!({"payload": [1, 2]}),
        json!({"source_image": 7, "source_processing": "teleport"}),
        json!({"source_image": "file:///etc/passwd"}),
        json!({"source_image": "data:image/png;base64,"}),
        json!({"source_image": "http://", "source_mask": "https://\u{0}/"}),
        json!({"source_image": "httpx", "source_processing": "inpainting"}),
        json!({"source_image": "https://user:pass@127.0.0.1:22/", "source_processing": "remix"}),
        json!({"extra_source_images": many, "source_processing": "remix"}),
        json!({"extra_source_images": {"image": "x"}}),
        json!({"ttl": 1e300, "messages": [{"id": 1}], "skipped": [], "r2_upload": 3}),
        json!({"r2_upload": null, "r2_uploads": []}),
    ]
}

#[tokio::test]
async fn no_payload_brings_the_worker_down() {
    let odd_payloads = payloads()
        .into_iter()
        .map(|odd| job_with(1, &json!({}), &odd));
    let odd_tops = tops().into_iter().map(|odd| {
        let mut job = job(&[1]);
        job.as_object_mut()
            .unwrap()
            .extend(odd.as_object().unwrap().clone());
        job
    });
    let jobs: Vec<Value> = odd_payloads.chain(odd_tops).chain([job(&[2])]).collect();
    let count = jobs.len();
    let engine = Scripted::new(vec![Plan::Dot; count]);
    let mut rig = Rig::start(FakeHorde::with_jobs(jobs).await, engine);
    let status = rig.ended(count as u64).await;
    // Whatever was asked for, something sensible was made of it.
    assert_eq!((status.done, status.faulted), (count as u64, 0));
    let outcomes = outcomes(&rig.horde.submits());
    assert_eq!(outcomes.last(), Some(&ok(2)));
    for task in rig.engine.tasks() {
        assert_is_sane(&task);
    }
    rig.stop().await;
}

fn assert_is_sane(task: &ImageTask) {
    assert!((64..=8192).contains(&task.width) && (64..=8192).contains(&task.height));
    assert!((1..=500).contains(&task.steps) && (1..=20).contains(&task.clip_skip));
    assert!((1.0..=100.0).contains(&task.cfg_scale));
    assert!(task.loras.len() <= 5 && task.embeddings.len() <= 20 && task.post.len() <= 16);
    assert_eq!(task.batch, 1);
    if let Mode::Remix(pictures) = &task.mode {
        assert!(pictures.len() <= 6);
    }
}

/// The head of a PNG that promises this size, with some bytes behind it.
fn promising(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let dot = DynamicImage::new_rgb8(1, 1);
    dot.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let mut png = bytes.into_inner();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// The checksum of a chunk of PNG.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[tokio::test]
async fn a_source_that_is_a_bomb_or_a_lie_is_told_and_left_out() {
    let server = FileServer::start().await;
    let endless = vec![0; 21 << 20];
    let honest = promising(1, 1);
    for (path, file, value) in [
        (
            "/bomb",
            Served::new(promising(60_000, 60_000)),
            "parse_failed",
        ),
        (
            "/long",
            Served::new(promising(64_000_001, 1)),
            "parse_failed",
        ),
        (
            "/short",
            Served::new(promising(4_000, 4_000)),
            "parse_failed",
        ),
        (
            "/text",
            Served::new("<svg onload=alert(1)>"),
            "parse_failed",
        ),
        ("/empty", Served::new(""), "parse_failed"),
        (
            "/endless",
            Served::new(endless).always(Trick::NoLength),
            "download_failed",
        ),
        (
            "/lie",
            Served::new(honest.clone()).always(Trick::Claim(100)),
            "download_failed",
        ),
        (
            "/huge",
            Served::new(honest).always(Trick::Claim(1 << 40)),
            "download_failed",
        ),
    ] {
        server.put(path, file);
        let top = json!({"source_image": server.at(path).to_string()});
        let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({}))]).await;
        let mut config = config(&horde);
        config.trusted_hosts = vec![server.url.clone()];
        let mut rig = Rig::start_with(horde, Scripted::new([]), config);
        assert_eq!(rig.ended(1).await.done, 1, "{path}");
        let said = rig.horde.submits().remove(0)["gen_metadata"].clone();
        let expected = json!([{"type": "source_image", "value": value, "ref": "source_image"}]);
        assert_eq!(said, expected, "{path}");
        assert_eq!(rig.engine.tasks()[0].mode, Mode::Txt2Img);
        rig.stop().await;
    }
}

#[tokio::test]
async fn bombs_inside_a_job_are_found_by_their_head_too() {
    let bomb = STANDARD.encode(promising(60_000, 60_000));
    let top = json!({"source_image": bomb, "source_mask": bomb, "source_processing": "inpainting"});
    let horde = FakeHorde::with_jobs([job_with(1, &top, &json!({}))]).await;
    let mut rig = Rig::start(horde, Scripted::new([]));
    assert_eq!(rig.ended(1).await.done, 1);
    let said = rig.horde.submits().remove(0)["gen_metadata"].clone();
    let values: Vec<_> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["value"])
        .collect();
    assert_eq!(values, ["parse_failed", "parse_failed"]);
    rig.stop().await;
}

/// Files that claim to be tensors.
fn poisoned() -> Vec<(&'static str, Vec<u8>)> {
    let good = tensors(1, 1_000);
    let headed = |length: u64, head: &str| {
        let mut file = length.to_le_bytes().to_vec();
        file.write_all(head.as_bytes()).unwrap();
        file
    };
    let overlap = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let outside = r#"{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}"#;
    vec![
        (
            "a pickle",
            b"\x80\x02}q\x00X\x05\x00\x00\x00tensorq\x01cos\nsystem\n".to_vec(),
        ),
        (
            "a zip of pickles",
            b"PK\x03\x04\x14\x00\x00\x00archive/data.pkl".to_vec(),
        ),
        ("a truncated file", good[..good.len() - 10].to_vec()),
        ("a truncated head", good[..12].to_vec()),
        ("a head without end", headed(u64::MAX, "{}")),
        ("a head of gigabytes", headed(8 << 30, "{}")),
        ("no JSON", headed(4, "nope")),
        ("overlapping tensors", headed(overlap.len() as u64, overlap)),
        ("tensors outside", headed(outside.len() as u64, outside)),
        ("HTML", b"<html>sign in first</html>".to_vec()),
    ]
}

#[tokio::test]
async fn a_poisoned_lora_never_gets_its_name() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, folder.path(), |_| {});
    for (number, (what, body)) in poisoned().into_iter().enumerate() {
        let id = number as u64 + 1;
        let mut poison = version(&server, id * 10, "SD 1.5");
        poison["files"][0]["hashes"]["SHA256"] = json!(sum(&body));
        server.put(&format!("/files/{}", id * 10), Served::new(body));
        server.put_json(&format!("/civitai/models/{id}"), &model(id, "x", &[poison]));
        let name = id.to_string();
        let add_ons = brought(&pantry, vec![lora(&name)], Vec::new()).await;
        assert_eq!(remarks(&add_ons), failed(&name), "{what}");
    }
    let here = std::fs::read_dir(folder.path().join("lora")).unwrap();
    let files = here.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tensors: Vec<_> = files
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    assert!(tensors.is_empty(), "{tensors:?}");
}

#[tokio::test]
async fn names_of_add_ons_stay_in_their_folder() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("deep/store");
    let pantry = pantry_with(&server, &store, |options| options.taste = Taste::Any);
    let names = [
        "../../../evil",
        "/etc/evil",
        "C:\\evil",
        "..",
        "\u{0}evil",
        "a/../../evil",
    ];
    for (number, name) in names.iter().enumerate() {
        let id = number as u64 + 1;
        let mut here = version(&server, id * 10, "SD 1.5");
        here["files"][0]["name"] = json!(format!("{name}.safetensors"));
        server.put_json(&format!("/civitai/models/{id}"), &model(id, name, &[here]));
        let add_ons = brought(&pantry, vec![lora(&id.to_string())], Vec::new()).await;
        let ready = add_ons.loras.first().map(|lora| lora.path.clone());
        let ready = ready.unwrap_or_else(|| panic!("{name:?}: {:?}", remarks(&add_ons)));
        assert_eq!(
            ready.parent(),
            Some(store.join("lora").as_path()),
            "{name:?}"
        );
        let asked = brought(&pantry, vec![lora(name)], Vec::new()).await;
        assert!(asked.loras.iter().all(|lora| lora.path.starts_with(&store)));
    }
    let outside = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(outside, 1, "only the folder that the store is in");
}
