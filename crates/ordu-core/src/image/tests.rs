//! The rules of image requests, one text each.

use ordu_api::ReturnCode;
use ordu_api::image::Warning;
use serde_json::{Value, json};

use super::*;
use crate::{Kudos, Roles};

fn reference() -> ModelReference {
    let document = json!({
        "stable_diffusion": {"baseline": "stable diffusion 1"},
        "stable_diffusion_2.1": {"baseline": "stable diffusion 2"},
        "SDXL 1.0": {"baseline": "stable_diffusion_xl"},
        "Stable Cascade 1.0": {"baseline": "stable_cascade"},
        "Flux": {"baseline": "flux_1", "requirements":
            {"min_steps": 4, "max_steps": 8, "cfg_scale": 1, "samplers": ["k_euler"]}},
        "Qwen": {"baseline": "qwen_image"},
        "Z-Image": {"baseline": "z_image_turbo"},
        "control": {"baseline": "stable diffusion 1", "type": "controlnet"},
        "picky": {"baseline": "stable diffusion 1", "requirements": {
            "clip_skip": 2, "min_cfg_scale": 8, "max_cfg_scale": 2, "schedulers": ["simple"]}},
    });
    ModelReference::from_json(&document.to_string()).unwrap()
}

fn standing(roles: Roles) -> Standing {
    Standing {
        user: ordu_api::UserId::new(7).unwrap(),
        alias: "me#7".to_owned(),
        roles,
        kudos: Kudos::new(100),
    }
}

/// A request with `prompt` "a" unless it says otherwise.
fn request(body: &Value) -> ImageRequest {
    let mut whole = json!({"prompt": "a"});
    for (name, value) in body.as_object().unwrap() {
        whole[name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// The code that a request is refused with, or `ok`.
fn verdict(body: &Value, roles: Roles) -> &'static str {
    match check(&request(body), &standing(roles), &reference()) {
        Ok(_) => "ok",
        Err(refusal) => refusal.code.name(),
    }
}

#[track_caller]
fn assert_verdicts(cases: &[(Value, &str)]) {
    for (body, code) in cases {
        assert_eq!(verdict(body, Roles::NONE), *code, "{body}");
    }
}

fn loras(count: usize) -> Value {
    Value::from(vec![json!({"name": "a"}); count])
}

fn extra_images(count: usize) -> Value {
    Value::from(vec![json!({"image": "x"}); count])
}

#[test]
fn first_rules() {
    assert_verdicts(&[
        (json!({}), "ok"),
        (json!({"prompt": ""}), "MissingPrompt"),
        (json!({"prompt": "a\u{0}b"}), "NulByteInPayload"),
        (json!({"models": ["a\u{0}"]}), "NulByteInPayload"),
        (
            json!({"params": {"loras": [{"name": "a\u{0}"}]}}),
            "NulByteInPayload",
        ),
        (
            json!({"extra_source_images": extra_images(6)}),
            "TooManyExtraSourceImages.",
        ),
        (
            json!({"extra_source_images": extra_images(2)}),
            "MoreThanMinExtraSourceImage.",
        ),
        (
            json!({"disable_batching": true, "params": {"n": 2}}),
            "RequiresTrust",
        ),
        (json!({"disable_batching": true}), "ok"),
        (json!({"workers": ["garbage"]}), "WorkerNotFound"),
    ]);
    let trusted = Roles::NONE.with(Role::Trusted);
    let batch = json!({"disable_batching": true, "params": {"n": 2}});
    assert_eq!(verdict(&batch, trusted), "ok");
    let remix = json!({
        "models": ["Stable Cascade 1.0"], "source_image": "x", "source_processing": "remix",
        "extra_source_images": extra_images(5)});
    assert_eq!(verdict(&remix, trusted), "ok");
    assert_eq!(verdict(&remix, Roles::NONE.with(Role::Patron)), "ok");
}

/// The recorded scenario `image-validation/loras-tis-rules`.
#[test]
fn lora_and_inversion_rules() {
    let inversions = |count| Value::from(vec![json!({"name": "t"}); count]);
    assert_verdicts(&[
        (json!({"params": {"loras": loras(5)}}), "ok"),
        (json!({"params": {"loras": loras(6)}}), "TooManyLoras"),
        (
            json!({"params": {"loras": [{"name": "123", "is_version": true}]}}),
            "ok",
        ),
        (
            json!({"params": {"loras": [{"name": "12a", "is_version": true}]}}),
            "BadLoraVersion",
        ),
        (json!({"params": {"tis": inversions(20)}}), "ok"),
        (json!({"params": {"tis": inversions(21)}}), "TooManyTIs"),
        (
            json!({"params": {"tis": inversions(21), "loras": loras(6)}}),
            "TooManyLoras",
        ),
    ]);
}

/// The recorded scenario `image-validation/models-upscalers`.
#[test]
fn model_and_upscaler_rules() {
    assert_verdicts(&[
        (json!({"models": ["GFPGAN"]}), "UnexpectedModelName"),
        (
            json!({"models": ["stable_diffusion", "strip_background"]}),
            "UnexpectedModelName",
        ),
        (
            json!({"params": {"post_processing": ["RealESRGAN_x4plus", "4x_AnimeSharp"]}}),
            "TooManyUpscalers",
        ),
        (
            json!({"params": {"post_processing": ["RealESRGAN_x4plus", "GFPGAN"]}}),
            "ok",
        ),
        (
            json!({"models": ["SDXL_beta::stability.ai#6901"]}),
            "BetaComparisonFault",
        ),
        (
            json!({"models": ["horde_special::me#7"]}),
            "SpecialModelNeedsSpecialUser",
        ),
        (
            json!({"params": {"special": {"a": 1}}}),
            "SpecialFieldNeedsSpecialUser",
        ),
        (json!({"params": {"special": {}}}), "ok"),
        (
            json!({"models": ["Stable Diffusion 2 Depth"]}),
            "SourceImageRequiredForModel",
        ),
        (
            json!({"models": ["pix2pix"]}),
            "SourceImageRequiredForModel",
        ),
        (json!({"models": ["pix2pix"], "source_image": "x"}), "ok"),
        (json!({"models": ["control"]}), "UnexpectedModelName"),
        (json!({"models": ["control"], "source_image": "x"}), "ok"),
        (json!({"params": {"cfg_scale": 5.123}}), "BadCFGDecimals"),
        (json!({"params": {"cfg_scale": 5.12}}), "ok"),
        (json!({"params": {"cfg_scale": 0.29}}), "ok"),
        (json!({"prompt": "a ".repeat(7500)}), "ok"),
        (json!({"prompt": "a ".repeat(7501)}), "InvalidPromptSize"),
        (json!({"source_mask": "x"}), "SourceMaskUnnecessary"),
    ]);
}

#[test]
fn special_models_are_for_their_owner() {
    let special = Roles::NONE.with(Role::Special);
    let cases = [
        (
            json!({"models": ["horde_special"]}),
            "SpecialMissingUsername",
        ),
        (
            json!({"models": ["horde_special::you#8"]}),
            "SpecialForbidden",
        ),
        (
            json!({"models": ["horde_special::me#7"]}),
            "SpecialMissingPayload",
        ),
        (
            json!({"models": ["horde_special::me#7"], "params": {"special": {"a": 1}}}),
            "ok",
        ),
    ];
    for (body, code) in cases {
        assert_eq!(verdict(&body, special), code, "{body}");
    }
}

#[test]
fn the_beta_comparison_is_not_for_anonymous() {
    let body = request(&json!({"models": ["SDXL_beta::stability.ai#6901"], "params": {"n": 2}}));
    let anonymous = Standing::anonymous(Kudos::ZERO);
    let refusal = check(&body, &anonymous, &reference()).unwrap_err();
    assert_eq!(refusal.code, ReturnCode::BetaAnonForbidden);
}

/// The recorded scenario `image-validation/controlnet`.
#[test]
fn control_and_hires_rules() {
    let control = |kind: &str, model: &str| json!({"models": [model], "source_image": "x", "params": {"control_type": kind}});
    let hires = |model: &str| json!({"models": [model], "params": {"hires_fix": true}});
    assert_verdicts(&[
        (
            json!({"params": {"control_type": "canny"}}),
            "ControlNetSourceMissing",
        ),
        (
            json!({"params": {"control_type": "canny"}, "source_image": "x",
                   "source_processing": "inpainting"}),
            "ControlNetInpaintingMismatch",
        ),
        (control("canny", "SDXL 1.0"), "ControlNetMismatch"),
        (control("canny", "Stable Cascade 1.0"), "ControlNetMismatch"),
        (control("canny", "Flux"), "ControlNetMismatch"),
        (control("canny", "Qwen"), "ControlNetMismatch"),
        (control("canny", "Z-Image"), "ControlNetMismatch"),
        (
            control("normal", "stable_diffusion_2.1"),
            "ControlNetUnsupported",
        ),
        (
            control("hough", "stable_diffusion_2.1"),
            "ControlNetUnsupported",
        ),
        (control("canny", "stable_diffusion_2.1"), "ok"),
        (control("canny", "pix2pix"), "ControlNetUnsupported"),
        (hires("Flux"), "HiResMismatch"),
        (hires("Qwen"), "HiResMismatch"),
        (hires("Z-Image"), "HiResMismatch"),
        (hires("SDXL 1.0"), "ok"),
    ]);
}

/// The recorded scenario `image-validation/transparent-qr`.
#[test]
fn transparent_remix_and_qr_rules() {
    let qr = |model: &str, texts: Value| json!({"models": [model], "params": {"workflow": "qr_code", "extra_texts": texts}});
    let code = json!([{"text": "x", "reference": "qr_code"}]);
    let transparent = |model: &str| json!({"models": [model], "params": {"transparent": true}});
    assert_verdicts(&[
        (
            transparent("stable_diffusion_2.1"),
            "InvalidTransparencyModel",
        ),
        (
            transparent("Stable Cascade 1.0"),
            "InvalidTransparencyModel",
        ),
        (transparent("SDXL 1.0"), "ok"),
        (
            json!({"params": {"transparent": true, "control_type": "canny"}, "source_image": "x"}),
            "InvalidTransparencyCN",
        ),
        (
            json!({"params": {"transparent": true}, "extra_source_images": extra_images(1)}),
            "InvalidTransparencyImg2Img",
        ),
        (qr("stable_diffusion", json!([])), "MissingExtraTexts."),
        (
            qr(
                "stable_diffusion",
                json!([{"text": "x", "reference": "other"}]),
            ),
            "MissingExtraTexts.",
        ),
        (qr("stable_diffusion", code.clone()), "ok"),
        (qr("SDXL 1.0", code.clone()), "ok"),
        (qr("Flux", code.clone()), "ControlNetMismatch."),
        (
            json!({"params": {"extra_texts": code}}),
            "InvalidExtraTexts.",
        ),
        (
            json!({"source_image": "x", "source_processing": "remix"}),
            "InvalidRemix",
        ),
        (
            json!({"extra_source_images": extra_images(1)}),
            "InvalidExtraSourceImages.",
        ),
    ]);
}

#[test]
fn defaults_are_the_effective_ones() {
    let spec = check(&request(&json!({})), &standing(Roles::NONE), &reference()).unwrap();
    assert_eq!(spec.models, ["stable_diffusion"]);
    assert_eq!(
        (spec.width, spec.height, spec.steps, spec.n),
        (512, 512, 30, 1)
    );
    assert_eq!(spec.sampler_name, "k_euler_a");
    assert!((spec.cfg_scale - 5.0).abs() < f64::EPSILON);
    assert!(spec.karras && spec.nsfw && spec.censor_nsfw && spec.r2 && spec.slow_workers);
    assert!(!spec.shared && !spec.trusted_workers && spec.seed.is_none());
}

#[test]
fn steps_with_a_control_type_are_fewer() {
    let steps = |params: Value| {
        let body = json!({"source_image": "x", "params": params});
        check(&request(&body), &standing(Roles::NONE), &reference())
            .unwrap()
            .steps
    };
    assert_eq!(steps(json!({"control_type": "canny"})), 20);
    assert_eq!(steps(json!({"control_type": "canny", "steps": 60})), 40);
    assert_eq!(steps(json!({"control_type": "canny", "steps": 10})), 10);
    assert_eq!(steps(json!({"steps": 60})), 60);
}

#[test]
fn schools_are_kept_safe() {
    let body = json!({"nsfw": true, "censor_nsfw": false, "shared": true});
    let school = standing(Roles::NONE.with(Role::Education));
    let spec = check(&request(&body), &school, &reference()).unwrap();
    assert!(!spec.nsfw && spec.censor_nsfw && spec.trusted_workers && !spec.shared);
}

#[test]
fn only_the_first_five_workers_count() {
    let ids: Vec<String> = (0..6)
        .map(|number| uuid::Uuid::from_u128(number).to_string())
        .collect();
    let spec = check(
        &request(&json!({"workers": ids})),
        &standing(Roles::NONE),
        &reference(),
    );
    assert_eq!(spec.unwrap().workers.len(), 5);
}

#[test]
fn accurate_steps_and_lcm() {
    let spec = |params: Value| {
        check(
            &request(&json!({"params": params})),
            &standing(Roles::NONE),
            &reference(),
        )
        .unwrap()
    };
    let steps =
        |sampler: &str| spec(json!({"sampler_name": sampler, "steps": 10})).accurate_steps();
    assert_eq!(steps("k_euler"), 10);
    assert_eq!(steps("k_heun"), 20);
    assert_eq!(steps("k_dpmpp_sde"), 20);
    assert_eq!(steps("k_dpm_adaptive"), 40);
    assert!(spec(json!({"sampler_name": "lcm"})).is_lcm());
    assert!(spec(json!({"loras": [{"name": "195519"}]})).is_lcm());
    assert!(spec(json!({"loras": [{"name": "246747", "is_version": true}]})).is_lcm());
    assert!(!spec(json!({"loras": [{"name": "246747"}]})).is_lcm());
}

#[test]
fn a_stored_request_reads_back_and_old_ones_get_defaults() {
    let body = json!({"prompt": "x ### y", "params": {"seed": "hello", "tiling": true,
        "loras": [{"name": "a"}], "special": {}}, "source_image": "data"});
    let spec = check(&request(&body), &standing(Roles::NONE), &reference()).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ImageSpec>(&text).unwrap(), spec);
    let old: ImageSpec = serde_json::from_str(r#"{"prompt": "x", "unheard_of": 1}"#).unwrap();
    assert_eq!((old.width, old.steps, old.karras), (512, 30, true));
}

/// The recorded payload of `image-flow/all-params`, step 2.
#[test]
fn payload_has_exactly_the_recorded_members() {
    let body = json!({"prompt": "castle ### blurry", "params": {
        "width": 576, "height": 640, "steps": 25, "cfg_scale": 7.5, "sampler_name": "k_dpmpp_2m",
        "karras": false, "seed": "42", "tiling": true, "hires_fix": true,
        "hires_fix_denoising_strength": 0.5, "clip_skip": 2, "facefixer_strength": 0.75,
        "post_processing": ["GFPGAN", "RealESRGAN_x4plus"],
        "loras": [{"name": "aaa"}, {"name": "123", "is_version": true, "model": 0.5, "clip": 0.25,
                   "inject_trigger": "any"}],
        "tis": [{"name": "t1", "inject_ti": "prompt", "strength": 0.5}, {"name": "t2"}]}});
    let spec = check(&request(&body), &standing(Roles::NONE), &reference()).unwrap();
    let payload = serde_json::to_value(spec.payload(1, spec.seed.unwrap())).unwrap();
    let expected = json!({"prompt": "castle ### blurry", "ddim_steps": 25, "n_iter": 1, "seed": "42",
        "image_is_control": false, "return_control_map": false, "sampler_name": "k_dpmpp_2m",
        "cfg_scale": 7.5, "hires_fix_denoising_strength": 0.5, "height": 640, "width": 576,
        "post_processing": ["GFPGAN", "RealESRGAN_x4plus"], "karras": false, "tiling": true,
        "hires_fix": true, "clip_skip": 2, "facefixer_strength": 0.75,
        "loras": [{"name": "aaa", "model": 1.0, "clip": 1.0, "is_version": false},
                  {"name": "123", "model": 0.5, "clip": 0.25, "inject_trigger": "any",
                   "is_version": true}],
        "tis": [{"name": "t1", "inject_ti": "prompt", "strength": 0.5},
                {"name": "t2", "strength": 1.0}],
        "transparent": false});
    assert_eq!(payload, expected);
}

#[test]
fn safe_requests_ask_for_the_censor() {
    let payload = |body: Value| {
        let spec = check(&request(&body), &standing(Roles::NONE), &reference()).unwrap();
        spec.payload(2, 1)
    };
    assert_eq!(payload(json!({"nsfw": false})).use_nsfw_censor, Some(true));
    assert_eq!(
        payload(json!({"nsfw": false, "censor_nsfw": false})).use_nsfw_censor,
        None
    );
    assert_eq!(payload(json!({})).use_nsfw_censor, None);
    assert_eq!(payload(json!({})).n_iter, 2);
}

#[test]
fn prompts_split_once() {
    assert_eq!(split_prompt("a ### b ### c"), ("a ", Some(" b ### c")));
    assert_eq!(split_prompt("a"), ("a", None));
}

/// The recorded scenario `image-validation/warnings`.
#[test]
fn warnings_name_what_would_do() {
    let codes = |body: Value| -> Vec<String> {
        let found = warnings(&request(&body), &reference());
        found.into_iter().map(|warning| warning.code).collect()
    };
    let flux = |params: Value| json!({"models": ["Flux"], "params": params});
    assert_eq!(
        codes(flux(json!({}))),
        ["StepsTooMany", "CfgScaleMismatch", "SamplerMismatch"]
    );
    let good = json!({"steps": 4, "cfg_scale": 1, "sampler_name": "k_euler"});
    assert_eq!(codes(flux(good.clone())), [""; 0]);
    let with = |name: &str, value: Value| {
        let mut params = good.clone();
        params[name] = value;
        codes(flux(params))
    };
    assert_eq!(with("steps", json!(3)), ["StepsTooFew"]);
    assert_eq!(with("steps", json!(9)), ["StepsTooMany"]);
    assert_eq!(with("cfg_scale", json!(2)), ["CfgScaleMismatch"]);
    assert_eq!(with("sampler_name", json!("k_heun")), ["SamplerMismatch"]);
    assert_eq!(
        codes(json!({"models": ["picky", "picky"]})),
        [
            "ClipSkipMismatch",
            "CfgScaleTooSmall",
            "CfgScaleTooLarge",
            "SchedulerMismatch"
        ]
    );
    let found = warnings(&request(&flux(json!({"cfg_scale": 1}))), &reference());
    let first = Warning {
        code: "StepsTooMany".to_owned(),
        message: "`Flux` works best with `steps` 8 or fewer".to_owned(),
    };
    assert_eq!(found.first(), Some(&first));
}
