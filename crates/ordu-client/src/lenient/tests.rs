//! Answers with odd members.

use super::*;

const ID: &str = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
const OTHER: &str = "00000000-0000-4000-8000-000000000001";

fn read(body: Value) -> ImageJob {
    image_job(body).unwrap()
}

fn ids(job: &ImageJob) -> Vec<String> {
    job.ids.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_at_all_is_no_job() {
    for body in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"id": null, "ids": null}),
    ] {
        let job = read(body.clone());
        assert_eq!(job.id, None, "{body}");
        assert_eq!(job.payload, ImagePayload::default(), "{body}");
    }
}

#[test]
fn the_idle_answer_of_the_protocol_reads() {
    let job = read(json!({
        "payload": {"ddim_steps": 30, "n_iter": 1, "sampler_name": "k_euler_a", "cfg_scale": 7.5,
                    "height": 512, "width": 512, "karras": false},
        "id": null, "ids": [], "messages": [], "ttl": null, "model": null,
        "skipped": {"models": 1, "post-processing": 0, "news": "x"},
        "source_image": null, "source_processing": "img2img", "source_mask": null,
        "extra_source_images": null, "r2_upload": null, "r2_uploads": null, "unknown": [1]
    }));
    assert_eq!(job.skipped.get("models"), Some(&1));
    assert!(!job.skipped.contains_key("news"));
    assert_eq!(job.source_image, None);
}

#[test]
fn a_single_id_is_a_batch_of_one_and_bad_ids_are_dropped() {
    assert_eq!(ids(&read(json!({"id": ID}))), [ID]);
    let job = read(json!({"id": ID, "ids": [OTHER, "x", 5, ID]}));
    assert_eq!(ids(&job), [OTHER, ID]);
    assert_eq!(job.id, job.ids.first().copied());
    assert_eq!(read(json!({"id": "x"})).id, None);
}

#[test]
fn wrong_types_are_converted() {
    let job = read(json!({"id": ID, "ttl": 150.0, "payload": {
        "seed": 4_294_967_295_u32, "ddim_steps": "25", "width": 512.0, "cfg_scale": "7",
        "karras": "true", "tiling": 1, "hires_fix": "perhaps", "height": -5,
        "post_processing": "GFPGAN",
        "loras": [{"name": 247_778, "model": "0.5"}, {"clip": 1}, "x"],
        "denoising_strength": null, "clip_skip": [2], "special": 3
    }}));
    let payload = job.payload;
    assert_eq!(job.ttl, Some(150));
    assert_eq!(payload.seed.as_deref(), Some("4294967295"));
    assert_eq!(
        (payload.ddim_steps, payload.width, payload.height),
        (25, 512, 0)
    );
    assert!((payload.cfg_scale - 7.0).abs() < f64::EPSILON);
    assert!(payload.karras && payload.tiling && !payload.hires_fix);
    assert_eq!(payload.post_processing, ["GFPGAN"]);
    assert_eq!(payload.loras.len(), 1);
    assert_eq!(payload.loras[0].name, "247778");
    assert_eq!((payload.clip_skip, payload.special), (None, None));
}

#[test]
fn upload_addresses_keep_their_places() {
    let job = read(json!({"id": ID, "r2_uploads": ["http://a", null, "http://c"]}));
    assert_eq!(job.r2_uploads.unwrap(), ["http://a", "", "http://c"]);
}

#[test]
fn unknown_processing_and_broken_messages_are_left_out() {
    let job = read(json!({
        "id": ID, "source_processing": "txt2img",
        "messages": [{"id": "m", "message": "hello"}, {"id": "n"}, {"message": "no id"}, 7]
    }));
    assert_eq!(job.source_processing, SourceProcessing::Img2Img);
    assert_eq!(job.messages.len(), 1);
    assert_eq!(
        read(json!({"source_processing": "remix"})).source_processing,
        SourceProcessing::Remix
    );
}

#[test]
fn no_member_of_any_type_makes_a_job_unreadable() {
    let strange = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("\u{0}x"),
        json!([]),
        json!([null, [], {}]),
        json!({}),
        json!({"name": []}),
        json!([{"name": "x", "model": {}}]),
        json!([{"id": 1, "message": 2, "origin": 3, "expiry": 4}]),
    ];
    for value in strange {
        for (name, _) in JOB {
            assert!(image_job(json!({*name: value})).is_ok(), "{name}: {value}");
        }
        for (name, _) in PAYLOAD {
            assert!(
                image_job(json!({"payload": {*name: value}})).is_ok(),
                "payload.{name}: {value}"
            );
        }
        assert!(
            image_job(json!({"payload": value})).is_ok()
                && image_job(json!({"skipped": value})).is_ok()
        );
    }
}
