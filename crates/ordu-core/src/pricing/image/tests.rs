//! Prices against what was measured.

use super::*;

fn spec(change: impl FnOnce(&mut ImageSpec)) -> ImageSpec {
    let mut spec = ImageSpec::default();
    change(&mut spec);
    spec
}

fn cents_of(kudos: Kudos) -> i64 {
    kudos.milli() / 10
}

/// The formula by hand. It is within 20 % of the measured anchors of `generation.md` § 7.1 between
/// 20 and 50 steps and 512² and 1024²; the fitted model comes closer.
#[test]
fn base_price_follows_the_formula() {
    let cases = [
        (spec(|_| ()), 650),
        (spec(|s| s.steps = 50), 1083),
        (spec(|s| (s.width, s.height) = (1024, 1024)), 3604),
        (spec(|s| (s.width, s.height, s.steps) = (64, 64, 1)), 12),
        (spec(|s| s.sampler_name = "k_heun".to_owned()), 1299),
        (spec(|s| s.sampler_name = "k_dpm_adaptive".to_owned()), 866),
        (
            spec(|s| s.post_processing = vec!["RestoreFormer".to_owned(); 2]),
            936,
        ),
        (spec(|s| s.control_type = Some("canny".to_owned())), 1950),
        (
            spec(|s| {
                s.control_type = Some("canny".to_owned());
                s.return_control_map = true;
            }),
            650,
        ),
    ];
    for (spec, price) in cases {
        assert_eq!(cents_of(base_price(&spec)), price, "{spec:?}");
    }
}

#[test]
fn measured_samplers_that_evaluate_twice_cost_twice() {
    let heun = base_price(&spec(|s| s.sampler_name = "k_heun".to_owned())).as_f64();
    assert!((heun - 13.03).abs() / 13.03 < 0.01, "{heun}");
    let sde = base_price(&spec(|s| s.sampler_name = "k_dpmpp_sde".to_owned())).as_f64();
    assert!((sde - 12.93).abs() / 12.93 < 0.01, "{sde}");
    let reference = base_price(&spec(|s| s.steps = 50)).as_f64();
    assert!((reference - 11.0).abs() / 11.0 < 0.02, "{reference}");
}

/// `image-validation/loras-tis-rules`: 5 LoRAs add 15, inversions 1, both are burnt like the rest.
#[test]
fn loras_and_inversions_add_fixed_amounts() {
    let lora = |name: &str| ordu_api::image::Lora {
        name: name.to_owned(),
        model: 1.0,
        clip: 1.0,
        inject_trigger: None,
        is_version: false,
    };
    let inversion = ordu_api::image::TextualInversion {
        name: "t".to_owned(),
        inject_ti: None,
        strength: 1.0,
    };
    let plain = base_price(&spec(|_| ()));
    let five = base_price(&spec(|s| s.loras = vec![lora("a"); 5]));
    assert_eq!(five - plain, Kudos::new(15));
    let inversions = base_price(&spec(|s| s.tis = vec![inversion; 20]));
    assert_eq!(inversions - plain, Kudos::new(1));
}

#[test]
fn model_multipliers() {
    let plain = spec(|_| ());
    let hires = spec(|s| s.hires_fix = true);
    let code = spec(|s| s.workflow = Some("qr_code".to_owned()));
    let cases = [
        (&plain, Baseline::StableDiffusion1, 1),
        (&plain, Baseline::StableDiffusion2, 1),
        (&plain, Baseline::Other, 1),
        (&plain, Baseline::StableDiffusionXl, 2),
        (&code, Baseline::StableDiffusionXl, 4),
        (&plain, Baseline::StableCascade, 4),
        (&hires, Baseline::StableCascade, 7),
        (&plain, Baseline::Flux1, 8),
        (&plain, Baseline::ZImageTurbo, 8),
        (&plain, Baseline::QwenImage, 12),
    ];
    for (spec, baseline, multiplier) in cases {
        assert_eq!(model_multiplier(spec, baseline), multiplier, "{baseline:?}");
        let worth = base_price(spec).milli() * i64::from(multiplier);
        assert_eq!(job_kudos(spec, baseline).milli(), worth);
    }
}

/// Recorded: `image-flow/minimal-defaults` (8.61), `all-params` (39.598 and 21.944 + 1).
#[test]
fn burn_adds_in_its_order() {
    let worth = |milli| Kudos::from_milli(milli);
    let source = |s: &mut ImageSpec| s.source_image = Some("x".to_owned());
    let cases = [
        (spec(|_| ()), 7_610, 861),
        (spec(|_| ()), 0, 100),
        (
            spec(|s| {
                s.post_processing = ["GFPGAN", "RealESRGAN_x4plus"].map(str::to_owned).to_vec();
            }),
            36_760,
            3_960,
        ),
        (spec(source), 16_880, 2_294),
        (spec(|s| s.slow_workers = false), 7_610, 1_033),
        (spec(|s| s.worker_blacklist = true), 7_610, 947),
        (
            spec(|s| {
                source(s);
                s.slow_workers = false;
                s.worker_blacklist = true;
            }),
            10_000,
            1_848,
        ),
    ];
    for (spec, milli, burnt) in cases {
        assert_eq!(cents_of(burn(&spec, worth(milli))), burnt, "{spec:?}");
    }
}

#[test]
fn activation_costs_three_and_five_for_each_extra_image() {
    assert_eq!(activation_tax(&spec(|_| ())), Kudos::new(3));
    let extra = ordu_api::image::ExtraSourceImage {
        image: "x".to_owned(),
        strength: 1.0,
    };
    let two = spec(|s| s.extra_source_images = vec![extra; 2]);
    assert_eq!(activation_tax(&two), Kudos::new(13));
}

#[test]
fn estimates_assume_the_dearest_model() {
    let reference = ModelReference::from_json(
        r#"{"xl": {"baseline": "stable_diffusion_xl"}, "qwen": {"baseline": "qwen_image"}}"#,
    )
    .unwrap();
    let of = |models: &[&str], n| {
        let spec = spec(|s| {
            s.models = models.iter().map(|model| (*model).to_owned()).collect();
            s.n = n;
        });
        estimate(&spec, &reference)
    };
    let plain = of(&["sd"], 1);
    assert_eq!(plain.base, Kudos::from_milli(6_500));
    assert_eq!(
        (plain.multiplier, plain.total),
        (1, Kudos::from_milli(8_500))
    );
    assert_eq!(of(&["sd"], 2).total, Kudos::new(16));
    assert_eq!(of(&[], 1).multiplier, 2);
    assert_eq!(of(&[], 1).model, None);
    let dearest = of(&["xl", "qwen", "sd"], 1);
    assert_eq!(dearest.model.as_deref(), Some("qwen"));
    assert_eq!(dearest.total, Kudos::new(91));
}
