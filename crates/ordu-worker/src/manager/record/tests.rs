//! Documents of both forms, whole and broken.

use serde_json::json;

use super::*;

const SUM: &str = "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff";

fn one(category: Category, record: &Value) -> Result<Record, String> {
    let document = json!({"m": record}).to_string();
    parse(category, document.as_bytes()).map(|reference| reference.records["m"].clone())
}

#[test]
fn the_legacy_form_joins_files_and_downloads() {
    let record = one(
        Category::ImageGeneration,
        &json!({
            "name": "m", "baseline": "stable_cascade", "type": "ckpt", "inpainting": false, "version": 1.5,
            "nsfw": true, "size_on_disk_bytes": 9, "available": false, "trigger": ["t"], "brand_new": {},
            "config": {
                "files": [
                    {"path": "b.safetensors", "sha256sum": SUM, "file_type": "stable_cascade_stage_b"},
                    {"path": "v.safetensors", "sha256sum": "FIXME", "file_type": "vae"}
                ],
                "download": [
                    {"file_name": "v.safetensors", "file_path": "", "file_url": "https://x/v"},
                    {"file_name": "b.safetensors", "file_path": "", "file_url": "https://x/b"}
                ]
            }
        }),
    )
    .unwrap();
    assert_eq!(record.family, Family::StableCascade);
    assert_eq!((record.size(), record.version.as_str()), (Some(9), "1.5"));
    let [stage, vae] = record.files.as_slice() else {
        panic!("{:?}", record.files)
    };
    assert_eq!(stage.sha256.as_deref(), Some(SUM.to_lowercase().as_str()));
    assert_eq!(stage.purpose.as_deref(), Some("stable_cascade_stage_b"));
    assert_eq!(stage.url.as_ref().unwrap().as_str(), "https://x/b");
    assert_eq!((vae.folder, vae.sha256.as_ref()), (Folder::Vae, None));
}

#[test]
fn version_2_says_the_same_in_one_list() {
    let record = one(
        Category::ImageGeneration,
        &json!({
            "record_type": "image_generation", "name": "m", "baseline": "stable_diffusion_xl",
            "metadata": {"schema_version": "2"}, "requirements": {"min_steps": 4},
            "config": {"download": [
                {"file_name": "m.safetensors", "file_url": "https://x/m", "sha256sum": SUM, "size_bytes": 12},
                {"file_name": "te.safetensors", "file_url": "https://x/t", "file_purpose": "text_encoders",
                 "size_bytes": 30}
            ]}
        }),
    )
    .unwrap();
    assert_eq!(record.size(), Some(42));
    assert_eq!(record.files[1].folder, Folder::TextEncoders);
    assert_eq!(record.requirements["min_steps"], 4);
    let control = json!({"name": "m", "controlnet_style": "control_canny"});
    let control = one(Category::Controlnet, &control).unwrap();
    assert_eq!(control.kind.as_deref(), Some("control_canny"));
}

#[test]
fn one_bad_record_does_not_spoil_the_others() {
    for bad in [
        json!(1),
        json!({"name": "x"}),
        json!({"name": "x", "baseline": 7.5, "nsfw": "perhaps"}),
        json!({"baseline": "sdxl", "config": {"files": [{"path": "../../etc/passwd"}]}}),
        json!({"baseline": "sdxl", "config": {"files": [{"path": "C:\\x"}]}}),
        json!({"baseline": "sdxl", "config": {"files": [{"path": "a", "sha256sum": "12"}]}}),
        json!({"baseline": "sdxl", "config": {"download": [{"file_name": "a", "file_url": "file:///x"}]}}),
        json!({"baseline": "sdxl", "config": {"download": [{"file_name": "a", "file_path": "b"}]}}),
        json!({"baseline": "sdxl", "config": {"download": "x"}}),
        json!({"baseline": "sdxl", "size_on_disk_bytes": -1}),
    ] {
        let document = json!({"bad": bad, "good": {"name": "good", "baseline": "SDXL"}});
        let reference = parse(Category::ImageGeneration, document.to_string().as_bytes()).unwrap();
        assert_eq!(reference.records.len(), 1, "{document}");
        assert_eq!(reference.problems.len(), 1, "{document}");
    }
}

/// Sizes are added up.
#[test]
fn a_size_that_no_file_has_is_refused() {
    let record = json!({"config": {"files": [{"path": "a.safetensors", "size_bytes": u64::MAX}]}});
    let refused = one(Category::Esrgan, &record).unwrap_err();
    assert!(refused.contains("size_bytes"), "{refused}");
    let record = json!({"size_on_disk_bytes": u64::MAX});
    assert!(one(Category::Esrgan, &record).is_err());
}

#[test]
fn what_is_no_reference_is_refused() {
    for document in [
        "",
        "<html>",
        "3",
        "{\"a\": 1}",
        "[1]",
        "{\"a\": {\"name\": \"\"}}",
    ] {
        assert!(
            parse(Category::ImageGeneration, document.as_bytes()).is_err(),
            "{document}"
        );
    }
    assert!(
        parse(Category::ImageGeneration, b"{}")
            .unwrap()
            .records
            .is_empty()
    );
}

#[test]
fn the_published_documents_are_read_whole() {
    let images = include_bytes!("../../../testdata/reference/stable_diffusion.json");
    let texts = include_bytes!("../../../testdata/reference/db.json");
    let images = parse(Category::ImageGeneration, images).unwrap();
    let texts = parse(Category::TextGeneration, texts).unwrap();
    assert_eq!((images.records.len(), images.problems.len()), (14, 0));
    assert_eq!((texts.records.len(), texts.problems.len()), (9, 0));
    let tiefighter = &texts.records["KoboldAI/LLaMA2-13B-Tiefighter"];
    assert_eq!(tiefighter.parameters, Some(13_000_000_000));
}
