//! The words of each kind of work.

use std::sync::Arc;

use ordu_api::alchemy::{AlchemyPop, AlchemySubmit, Form};
use ordu_api::image::{
    ExtraSourceImage, ImagePop, ImageSubmit, Lora, Metadata, SourceProcessing, SubmitState,
    TextualInversion,
};
use ordu_api::text::{TextPop, TextSubmit};
use ordu_api::worker::WorkKind;

use super::{Words, list, worker_id};
use crate::alchemy::AlchemySpec;
use crate::horde::Work;
use crate::image::{ImageSpec, seed};
use crate::text::TextSpec;

/// What a line asks for.
pub(super) fn work(words: &Words<'_>) -> Work {
    match words.kind() {
        WorkKind::Image => Work::Image(Arc::new(image_spec(words))),
        WorkKind::Text => Work::Text(Arc::new(text_spec(words))),
        WorkKind::Interrogation => Work::Alchemy(Arc::new(alchemy_spec(words))),
    }
}

fn agent(words: &Words<'_>, default: &str) -> String {
    let agent = words.get("agent").map(|agent| agent.replace('_', " "));
    agent.unwrap_or_else(|| default.to_owned())
}

fn workers(words: &Words<'_>) -> Vec<ordu_api::WorkerId> {
    let names = list(words.get("workers").unwrap_or_default());
    names.iter().map(|name| worker_id(name)).collect()
}

fn state(words: &Words<'_>) -> SubmitState {
    match words.get("state").unwrap_or("ok") {
        "ok" => SubmitState::Ok,
        "faulted" => SubmitState::Faulted,
        "censored" => SubmitState::Censored,
        "csam" => SubmitState::Csam,
        state => panic!("what is `{state}`?"),
    }
}

/// An alchemist's pop; what is not said is `caption` alone.
pub(super) fn alchemy_pop(name: &str, words: &Words<'_>) -> AlchemyPop {
    AlchemyPop {
        name: name.to_owned(),
        priority_usernames: list(words.get("first").unwrap_or_default()),
        forms: list(words.get("forms").unwrap_or_default()),
        amount: words.small("amount", 1),
        bridge_agent: agent(words, "unknown:0:unknown"),
        threads: words.small("threads", 1),
        max_tiles: words.small("tiles", 80),
    }
}

/// A request for forms; what is not said is `caption` of one tile.
fn alchemy_spec(words: &Words<'_>) -> AlchemySpec {
    let form = |name: String| Form {
        name,
        payload: None,
    };
    AlchemySpec {
        forms: list(words.get("forms").unwrap_or("caption"))
            .into_iter()
            .map(form)
            .collect(),
        source_image: "https://example.org/a.png".to_owned(),
        tiles: words.small("tiles", 1),
        trusted_workers: words.has("trusted_workers"),
        slow_workers: words.on("slow_workers"),
        webhook: None,
    }
}

/// A result with one member.
pub(super) fn alchemy_submit(words: &Words<'_>) -> AlchemySubmit {
    AlchemySubmit {
        id: String::new(),
        result: serde_json::Map::from_iter([("caption".to_owned(), "a cat".into())]),
        state: state(words),
    }
}

/// A text worker's pop; what is not said takes much.
pub(super) fn text_pop(name: &str, words: &Words<'_>) -> TextPop {
    TextPop {
        name: name.to_owned(),
        models: list(words.get("models").unwrap_or("13b")),
        bridge_agent: agent(words, "KoboldCppEmbedWorker:2:x"),
        nsfw: words.on("nsfw"),
        threads: words.small("threads", 1),
        amount: words.small("amount", 1),
        priority_usernames: list(words.get("first").unwrap_or_default()),
        require_upfront_kudos: words.has("upfront"),
        extra_slow_worker: words.has("extra_slow"),
        max_length: words.number("length").unwrap_or(512),
        max_context_length: words.number("context").unwrap_or(4096),
        softprompts: list(words.get("softprompts").unwrap_or_default()),
        capabilities: words.get("capabilities").map(list),
    }
}

/// A request for texts; what is not said is the protocol's default, with the model `13b`.
fn text_spec(words: &Words<'_>) -> TextSpec {
    TextSpec {
        prompt: "Once upon a time".to_owned(),
        models: list(words.get("models").unwrap_or("13b")),
        n: words.small("n", 1),
        max_length: words.small("length", 80),
        max_context_length: words.small("context", 2048),
        softprompt: words.get("softprompt").map(str::to_owned).into(),
        extra_source_images: extra_images(words).into(),
        trusted_workers: words.has("trusted_workers"),
        validated_backends: words.has("validated_backends"),
        slow_workers: words.on("slow_workers"),
        extra_slow_workers: words.has("extra_slow_workers"),
        workers: workers(words).into(),
        worker_blacklist: words.has("worker_blacklist"),
        disable_batching: words.has("disable_batching"),
        ..TextSpec::default()
    }
}

/// A text of `chars` characters.
pub(super) fn text_submit(words: &Words<'_>) -> TextSubmit {
    let remark = words.has("csam").then(|| Metadata {
        kind: "censorship".to_owned(),
        value: "csam".to_owned(),
        reference: None,
    });
    TextSubmit {
        id: String::new(),
        generation: "x".repeat(words.small("chars", 40) as usize),
        state: state(words),
        seed: 1,
        gen_metadata: remark.into_iter().collect(),
    }
}

/// An image worker's pop; what is not said takes much.
pub(super) fn image_pop(name: &str, words: &Words<'_>) -> ImagePop {
    ImagePop {
        name: name.to_owned(),
        models: list(words.get("models").unwrap_or("sd")),
        bridge_agent: agent(words, "AI Horde Worker reGen:14:x"),
        nsfw: words.on("nsfw"),
        threads: words.small("threads", 1),
        amount: words.small("amount", 1),
        max_pixels: words.number("max_pixels").unwrap_or(4_194_304),
        blacklist: list(words.get("blacklist").unwrap_or_default()),
        priority_usernames: list(words.get("first").unwrap_or_default()),
        capabilities: words.get("capabilities").map(list),
        allow_img2img: words.on("img2img"),
        allow_painting: words.on("painting"),
        allow_unsafe_ipaddr: words.on("unsafe_ip"),
        allow_post_processing: words.on("post_processing"),
        allow_controlnet: words.on("controlnet"),
        allow_sdxl_controlnet: words.on("sdxl_controlnet"),
        allow_extended_controlnet: words.on("extended_controlnet"),
        allow_lora: words.on("lora"),
        extra_slow_worker: words.has("extra_slow"),
        limit_max_steps: words.has("limit_steps"),
        require_upfront_kudos: words.has("upfront"),
    }
}

/// How a picture is handed back.
pub(super) fn image_submit(words: &Words<'_>) -> ImageSubmit {
    // A kind, then what is said, then a reference: `source_image:download_failed`.
    let remark = words.get("remark").map(|remark| {
        let mut parts = remark.split(':').map(str::to_owned);
        Metadata {
            kind: parts.next().unwrap_or_default(),
            value: parts.next().unwrap_or_else(|| "nsfw".to_owned()),
            reference: parts.next(),
        }
    });
    ImageSubmit {
        id: String::new(),
        generation: "R2".to_owned(),
        state: state(words),
        seed: 1,
        gen_metadata: remark.into_iter().collect(),
    }
}

/// A request for images; what is not said is the protocol's default, with the model `sd`.
fn image_spec(words: &Words<'_>) -> ImageSpec {
    let number = |name, default| u32::try_from(words.number(name).unwrap_or(default)).unwrap();
    let (width, height) = words
        .get("size")
        .unwrap_or("512x512")
        .split_once('x')
        .unwrap();
    let source = words.get("source").map(|_| "source".to_owned());
    let text = |name| words.get(name).map(str::to_owned);
    ImageSpec {
        prompt: text("prompt").unwrap_or_else(|| "a cat".to_owned()),
        models: list(words.get("models").unwrap_or("sd")),
        n: number("n", 1),
        width: width.parse().unwrap(),
        height: height.parse().unwrap(),
        steps: number("steps", 30),
        sampler_name: text("sampler").unwrap_or_else(|| "k_euler_a".to_owned()),
        karras: words.get("karras") != Some("false"),
        tiling: words.has("tiling"),
        hires_fix: words.has("hires_fix"),
        transparent: words.has("transparent"),
        image_is_control: words.has("image_is_control"),
        return_control_map: words.has("return_control_map"),
        seed: words.get("seed").and_then(seed::from_text),
        seed_variation: words.number("variation").map(|v| u32::try_from(v).unwrap()),
        clip_skip: words.number("clip_skip").map(|v| u32::try_from(v).unwrap()),
        post_processing: list(words.get("post").unwrap_or_default()).into(),
        loras: list(words.get("loras").unwrap_or_default())
            .into_iter()
            .map(lora)
            .collect(),
        tis: list(words.get("tis").unwrap_or_default())
            .into_iter()
            .map(inversion)
            .collect(),
        workflow: words.has("qr_code").then(|| "qr_code".to_owned()).into(),
        control_type: text("control").into(),
        nsfw: words.get("nsfw") != Some("false"),
        trusted_workers: words.has("trusted_workers"),
        slow_workers: words.get("slow_workers") != Some("false"),
        extra_slow_workers: words.has("extra_slow_workers"),
        workers: workers(words).into(),
        worker_blacklist: words.has("worker_blacklist"),
        source_processing: match words.get("source") {
            Some("inpainting") => SourceProcessing::Inpainting,
            Some("outpainting") => SourceProcessing::Outpainting,
            Some("remix") => SourceProcessing::Remix,
            _ => SourceProcessing::Img2Img,
        },
        extra_source_images: extra_images(words).into(),
        source_image: source.into(),
        r2: words.get("r2") != Some("false"),
        disable_batching: words.has("disable_batching"),
        ..ImageSpec::default()
    }
}

fn extra_images(words: &Words<'_>) -> Vec<ExtraSourceImage> {
    let picture = |_| ExtraSourceImage {
        image: "extra".to_owned(),
        strength: 1.0,
    };
    (0..words.small("extra_images", 0)).map(picture).collect()
}

/// A LoRA; digits name a version.
fn lora(name: String) -> Lora {
    Lora {
        is_version: name.bytes().all(|byte| byte.is_ascii_digit()),
        name,
        model: 1.0,
        clip: 1.0,
        inject_trigger: None,
    }
}

fn inversion(name: String) -> TextualInversion {
    TextualInversion {
        name,
        inject_ti: None,
        strength: 1.0,
    }
}
