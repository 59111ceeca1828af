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

/// Measured: 7.61; see the anchors in `fitted/tests.rs` for all others.
#[test]
fn base_price_has_two_decimals() {
    let plain = base_price(&spec(|_| ()));
    assert_eq!(plain.milli() % 10, 0);
    assert!((plain.as_f64() - 7.61).abs() <= 0.02, "{plain}");
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
    let five = base_price(&spec(|s| s.loras = vec![lora("a"); 5].into()));
    assert_eq!(five - plain, Kudos::new(15));
    let inversions = base_price(&spec(|s| s.tis = vec![inversion; 20].into()));
    assert_eq!(inversions - plain, Kudos::new(1));
}

#[test]
fn model_multipliers() {
    let plain = spec(|_| ());
    let hires = spec(|s| s.hires_fix = true);
    let code = spec(|s| s.workflow = Some("qr_code".to_owned()).into());
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
    let source = |s: &mut ImageSpec| s.source_image = Some("x".to_owned()).into();
    let cases = [
        (spec(|_| ()), 7_610, 861),
        (spec(|_| ()), 0, 100),
        (
            spec(|s| {
                s.post_processing = ["GFPGAN", "RealESRGAN_x4plus"]
                    .map(str::to_owned)
                    .to_vec()
                    .into();
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
    let two = spec(|s| s.extra_source_images = vec![extra; 2].into());
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
    let price = base_price(&spec(|_| ()));
    let each = price + Kudos::new(1);
    let times = |times: i64| Kudos::from_milli(each.milli() * times) + Kudos::new(1);
    let plain = of(&["sd"], 1);
    assert_eq!((plain.base, plain.multiplier), (price, 1));
    assert_eq!((plain.total, plain.upfront), (times(1), times(1)));
    assert_eq!(of(&["sd"], 2).total, times(2));
    assert_eq!(of(&[], 1).total, times(2));
    assert_eq!(of(&[], 1).model, None);
    let dearest = of(&["xl", "qwen", "sd"], 1);
    assert_eq!(dearest.model.as_deref(), Some("qwen"));
    assert_eq!(dearest.total, times(12));
}

/// The multiplier of an estimate knows the model only: neither the workflow nor hires fix.
#[test]
fn estimates_know_no_refinements() {
    let reference = ModelReference::from_json(
        r#"{"xl": {"baseline": "stable_diffusion_xl"}, "sc": {"baseline": "stable_cascade"}}"#,
    )
    .unwrap();
    let code = spec(|s| {
        s.models = vec!["xl".to_owned()];
        s.workflow = Some("qr_code".to_owned()).into();
    });
    let hires = spec(|s| {
        s.models = vec!["sc".to_owned()];
        s.hires_fix = true;
    });
    assert_eq!(estimate(&code, &reference).multiplier, 2);
    assert_eq!(estimate(&hires, &reference).multiplier, 4);
}

/// Whoever must pay upfront is not asked for the share of a source image, which is fetched later;
/// whoever asks for the price is told of it.
#[test]
fn source_images_count_in_the_total_only() {
    let drawn = spec(|s| {
        s.source_image = Some("x".to_owned()).into();
        s.n = 3;
    });
    let estimate = estimate(&drawn, &ModelReference::default());
    let base = estimate.base.as_f64();
    let rounded = |each: f64| (each * 100.0).round() / 100.0;
    let total = rounded(base * 1.3 + 1.0) * 3.0 + 1.0;
    let upfront = (base + 1.0) * 3.0 + 1.0;
    assert_eq!(estimate.total, Kudos::round_to_cents(total));
    assert_eq!(estimate.upfront, Kudos::round_to_cents(upfront));
}
