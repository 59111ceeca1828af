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
    task(
        &job(payload),
        Sources::default(),
        &AddOns::default(),
        7,
        LIMITS,
    )
}

/// Checklist: vectors: seeds.
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
    let task = super::task(
        &job(most),
        Sources::default(),
        &AddOns::default(),
        0,
        limits,
    );
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
    };
    task(&job, sources, &AddOns::default(), 0, LIMITS).mode
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

fn drawing(mode: Mode) -> ImageTask {
    ImageTask {
        mode,
        width: 128,
        height: 64,
        hires: Some(Hires::default()),
        ..ImageTask::new("m", "x")
    }
}

#[test]
fn an_inpainting_model_gets_something_to_fill_in() {
    let source = || Source::new(DynamicImage::new_rgb8(8, 8));
    let masked = Source {
        mask: Some(GrayImage::new(8, 8)),
        ..source()
    };
    let see_through = Source::new(DynamicImage::new_rgba8(8, 8));
    let remix = Mode::Remix(vec![RemixImage {
        image: DynamicImage::new_rgb8(8, 8),
        strength: 1.0,
    }]);
    let (no_source, no_mask) = ("source_image", "source_mask");
    for (mode, told) in [
        (Mode::Txt2Img, vec![no_source, no_mask]),
        (Mode::Img2Img(source()), vec![no_mask]),
        (Mode::Outpaint(source()), vec![no_mask]),
        (remix, vec![no_mask]),
        (Mode::Img2Img(masked.clone()), vec![]),
        (Mode::Inpaint(masked), vec![]),
        (Mode::Img2Img(see_through), vec![]),
    ] {
        let mut task = drawing(mode);
        let remarks = fill_in(&mut task);
        let kinds: Vec<_> = remarks.iter().map(|remark| remark.kind.as_str()).collect();
        assert_eq!(kinds, told);
        assert!(remarks.iter().all(|remark| remark.value == "parse_failed"));
        assert_eq!(task.hires, None);
        let (Mode::Inpaint(filled) | Mode::Outpaint(filled)) = task.mode else {
            panic!("{:?}", task.mode)
        };
        assert!(filled.mask.is_some() || filled.image.color().has_alpha());
    }
}

#[test]
fn the_picture_that_stands_for_none_is_noise_of_the_seed() {
    let noise = |seed| {
        let mut task = drawing(Mode::Txt2Img);
        task.seed = seed;
        fill_in(&mut task);
        let source = task.source().unwrap().image.to_rgb8();
        assert_eq!(source.dimensions(), (128, 64));
        source
    };
    assert_eq!(noise(1), noise(1));
    assert_ne!(noise(1), noise(2));
    let mean = noise(3)
        .as_raw()
        .iter()
        .map(|value| u64::from(*value))
        .sum::<u64>()
        / (128 * 64 * 3);
    assert!((118..138).contains(&mean), "{mean}");
}

#[test]
fn no_step_is_done_twice_and_one_enlarges_at_most() {
    use PostProcessor as P;
    let names = [
        "RealESRGAN_x4plus",
        "GFPGAN",
        "NMKD_Siax",
        "GFPGAN",
        "strip_background",
    ];
    let many = names
        .iter()
        .cycle()
        .take(10_000)
        .map(|name| (*name).to_owned());
    let task = convert(ImagePayload {
        post_processing: many.collect(),
        ..ImagePayload::default()
    });
    assert_eq!(
        task.post,
        [P::RealEsrganX4Plus, P::Gfpgan, P::StripBackground]
    );
}
