//! Payloads as hordes send them.

use super::*;

const LIMITS: Limits = Limits {
    max_pixels: 1 << 24,
    max_batch: 20,
    max_steps: 500,
};

fn job(payload: ImagePayload) -> ImageJob {
    let id = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
    let body = serde_json::json!({
        "payload": ImagePayload::default(), "id": id, "ids": [id, id, id], "model": "m",
    });
    ImageJob {
        payload,
        ..serde_json::from_value(body).unwrap()
    }
}

fn convert(payload: ImagePayload) -> ImageTask {
    task(&job(payload), Sources::default(), 7, LIMITS)
}

#[test]
fn seeds_are_read_as_the_horde_reads_them() {
    for (text, number) in [
        ("1", 1),
        ("hello", 111),
        ("The little seed that could", 25708),
        ("-5", 13613),
        ("4294967295", 4_294_967_295),
        ("4294967296", 1),
        ("99999999999", 23),
        ("0", 0),
        ("00000000000000000000000000000000000000000000001", 1),
    ] {
        assert_eq!(seed(Some(text)), Some(number), "{text}");
    }
    for none in [None, Some(""), Some("  ")] {
        assert_eq!(seed(none), None);
    }
}

#[test]
fn a_plain_payload_becomes_its_task() {
    let task = convert(ImagePayload {
        prompt: Some("a cat###blurry".to_owned()),
        ddim_steps: 25,
        width: 768,
        height: 512,
        cfg_scale: 6.5,
        karras: true,
        tiling: true,
        clip_skip: Some(2),
        sampler_name: "K_DPMPP_2M".to_owned(),
        ..ImagePayload::default()
    });
    let expected = ImageTask {
        negative_prompt: "blurry".to_owned(),
        width: 768,
        height: 512,
        steps: 25,
        cfg_scale: 6.5,
        sampler: Sampler::Dpmpp2m,
        schedule: Schedule::Karras,
        seed: 7,
        batch: 3,
        clip_skip: 2,
        tiling: true,
        ..ImageTask::new("m", "a cat")
    };
    assert_eq!(task, expected);
}

#[test]
fn numbers_are_clamped_and_sides_rounded_up() {
    let sides = |width, height| {
        let task = convert(ImagePayload {
            width,
            height,
            ..ImagePayload::default()
        });
        (task.width, task.height)
    };
    assert_eq!(sides(0, 65), (64, 128));
    assert_eq!(sides(512, u32::MAX), (512, 8192));

    let task = convert(ImagePayload {
        ddim_steps: 0,
        cfg_scale: 0.0,
        clip_skip: Some(0),
        sampler_name: "no such sampler".to_owned(),
        ..ImagePayload::default()
    });
    assert_eq!(
        (task.steps, task.clip_skip, task.sampler),
        (1, 1, Sampler::Euler)
    );
    assert!((task.cfg_scale - 1.0).abs() < f32::EPSILON);

    let most = ImagePayload {
        ddim_steps: 9999,
        cfg_scale: f64::NAN,
        clip_skip: Some(99),
        ..ImagePayload::default()
    };
    let limits = Limits {
        max_steps: 100,
        ..LIMITS
    };
    let task = super::task(&job(most), Sources::default(), 0, limits);
    assert_eq!((task.steps, task.clip_skip), (100, 20));
    assert!((task.cfg_scale - 100.0).abs() < f32::EPSILON);
}

fn with_source(processing: SourceProcessing, strength: Option<f64>) -> Mode {
    let mut job = job(ImagePayload {
        denoising_strength: strength,
        ..ImagePayload::default()
    });
    job.source_processing = processing;
    let sources = Sources {
        source: Some(DynamicImage::new_rgb8(8, 8)),
        mask: Some(GrayImage::new(8, 8)),
        extras: vec![
            (DynamicImage::new_rgb8(8, 8), 0.5),
            (DynamicImage::new_rgb8(8, 8), f64::INFINITY),
        ],
        ..Sources::default()
    };
    task(&job, sources, 0, LIMITS).mode
}

#[test]
fn the_processing_chooses_the_mode() {
    use SourceProcessing::{Img2Img, Inpainting, Outpainting, Remix};
    assert!(matches!(with_source(Img2Img, None), Mode::Img2Img(_)));
    let Mode::Remix(pictures) = with_source(Remix, None) else {
        panic!("no remix");
    };
    let strengths: Vec<f32> = pictures.iter().map(|picture| picture.strength).collect();
    assert_eq!(strengths, [1.0, 0.5, 5.0]);
    assert!(matches!(with_source(Inpainting, None), Mode::Inpaint(_)));
    assert!(matches!(with_source(Outpainting, None), Mode::Outpaint(_)));
}

#[test]
fn strength_counts_with_a_source_only() {
    for (asked, given) in [
        (None, 1.0),
        (Some(0.4), 0.4),
        (Some(0.0), 0.01),
        (Some(9.0), 1.0),
    ] {
        match with_source(SourceProcessing::Img2Img, asked) {
            Mode::Img2Img(source) => {
                assert!((source.denoising_strength - given).abs() < f32::EPSILON);
                assert!(source.mask.is_some());
            }
            other => panic!("{other:?}"),
        }
    }
    let without = convert(ImagePayload {
        denoising_strength: Some(0.4),
        ..ImagePayload::default()
    });
    assert_eq!(without.mode, Mode::Txt2Img);
}

#[test]
fn everything_that_can_be_asked_for_arrives() {
    let text = |reference: &str, text: &str| ordu_api::image::ExtraText {
        text: Some(text.to_owned()),
        reference: Some(reference.to_owned()),
    };
    let task = convert(ImagePayload {
        hires_fix: true,
        hires_fix_denoising_strength: Some(0.3),
        control_type: Some("hough".to_owned()),
        image_is_control: true,
        transparent: true,
        workflow: Some("qr_code".to_owned()),
        extra_texts: vec![text("qr_code", "example.com"), text("protocol", "http")],
        post_processing: vec![
            "GFPGAN".to_owned(),
            "no such".to_owned(),
            "NMKD_Siax".to_owned(),
        ],
        facefixer_strength: Some(7.0),
        ..ImagePayload::default()
    });
    assert_eq!(
        task.hires,
        Some(Hires {
            denoising_strength: Some(0.3)
        })
    );
    let control = Control {
        kind: ControlType::Hough,
        image_is_control: true,
        return_map: false,
        strength: 1.0,
    };
    assert_eq!(task.control, Some(control));
    assert!(task.transparent);
    assert_eq!(
        task.workflow,
        Some(Workflow::QrCode(QrSpec::new("http://example.com")))
    );
    assert_eq!(task.post, [PostProcessor::Gfpgan, PostProcessor::NmkdSiax]);
    assert_eq!(task.face_strength, Some(1.0));
}

#[test]
fn names_that_nobody_knows_mean_nothing() {
    let task = convert(ImagePayload {
        control_type: Some("telepathy".to_owned()),
        workflow: Some("magic".to_owned()),
        post_processing: vec!["sharpen".to_owned()],
        ..ImagePayload::default()
    });
    assert_eq!(
        (task.control, task.workflow, task.post.len()),
        (None, None, 0)
    );
}

#[test]
fn add_ons_are_taken_as_they_lie_there() {
    let lora = |file: usize| Lora {
        file: format!("{file}.safetensors"),
        model: 1.0,
        clip: 1.0,
    };
    let sources = Sources {
        loras: (0..9).map(lora).collect(),
        triggers: vec!["one".to_owned(), "two".to_owned()],
        ..Sources::default()
    };
    let payload = ImagePayload {
        prompt: Some("a cat".to_owned()),
        ..ImagePayload::default()
    };
    let task = task(&job(payload), sources, 7, LIMITS);
    assert_eq!(task.prompt, "two, one, a cat");
    assert_eq!(task.loras.len(), 5);
}
