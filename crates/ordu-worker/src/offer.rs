//! What to offer in a pop: what the owner allows of what the engine can do. Pure.

use ordu_api::image::ImagePop;
use ordu_api::text::TextPop;
use ordu_engine::{Baseline, Capabilities, ControlType, Feature, TextCapabilities};

use crate::Config;

/// What every image engine can do, by the words of the protocol.
const ALWAYS: &[&str] = &["karras", "r2", "r2_source"];

/// Models that one pop may name.
const MAX_MODELS: usize = 300;

/// Threads that a pop may declare.
const MAX_THREADS: u32 = 50;

/// Names that the protocol accepts, in characters.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=255;

/// The offer of an image worker, or `None` if there is nothing to offer. `may_offer` says whether a
/// model is fit to be offered at this moment.
pub(crate) fn image_offer(
    config: &Config,
    engine: &Capabilities,
    may_offer: impl Fn(&str) -> bool,
) -> Option<ImagePop> {
    let mut models = allowed_models(config, engine);
    models.retain(|model| may_offer(model));
    models.truncate(MAX_MODELS);
    if models.is_empty() {
        return None;
    }
    let max_pixels = config.max_pixels().min(engine.limits.max_pixels);
    let can = Allowed::of(config, engine, &models);
    Some(ImagePop {
        name: config.dreamer_name().to_owned(),
        priority_usernames: config.priority_usernames.clone(),
        nsfw: config.nsfw,
        models,
        bridge_agent: config.bridge_agent.clone(),
        threads: (config.threads() * config.devices()).min(MAX_THREADS),
        require_upfront_kudos: config.require_upfront_kudos,
        amount: config.max_batch.min(engine.limits.max_batch).max(1),
        extra_slow_worker: config.extra_slow_worker,
        max_pixels: i64::try_from(max_pixels).unwrap_or(i64::MAX),
        blacklist: config.blacklist.clone(),
        allow_img2img: config.allow_img2img,
        allow_painting: config.allow_painting,
        allow_unsafe_ipaddr: config.allow_unsafe_ip,
        allow_post_processing: can.post_processing,
        allow_controlnet: can.controlnet,
        allow_sdxl_controlnet: can.sdxl_controlnet,
        allow_extended_controlnet: can.extended_controlnet,
        allow_lora: can.lora,
        limit_max_steps: config.limit_max_steps,
        capabilities: Some(words(engine, can)),
    })
}

/// The models that the owner wants and the engine has, in the engine's order.
pub(crate) fn allowed_models(config: &Config, engine: &Capabilities) -> Vec<String> {
    let names = engine.models.iter().map(|model| &model.name);
    let wanted = |name: &String| {
        config.models_to_load.is_empty()
            || config.models_to_load.contains(name)
            || config.followed.contains(name)
    };
    names
        .filter(|name| wanted(name))
        .filter(|name| !config.models_to_skip.contains(name))
        .filter(|name| NAME_CHARS.contains(&name.chars().count()))
        .cloned()
        .collect()
}

/// The program whose agent names its engine and the way that is spoken to it.
const CLASSIC_AGENT: &str = "AI Horde Worker";

/// Between the name of a model and that of its owner.
const BRAND: &str = "::";

/// The word of text workers that look at pictures.
const VISION: &str = "vision";

/// The offer of a text worker, or `None` if there is nothing to offer. `brand` is the owner's alias.
pub(crate) fn text_offer(
    config: &Config,
    engine: &TextCapabilities,
    brand: Option<&str>,
    may_offer: impl Fn(&str) -> bool,
) -> Option<TextPop> {
    let mut model = model_name(&engine.model);
    if let Some(alias) = brand {
        model = format!("{model}{BRAND}{alias}");
    }
    if !NAME_CHARS.contains(&model.chars().count()) || !may_offer(&model) {
        return None;
    }
    let lower = |own: u32, told: Option<u32>| i64::from(told.map_or(own, |told| own.min(told)));
    Some(TextPop {
        name: config.scribe_name().to_owned(),
        priority_usernames: config.priority_usernames.clone(),
        nsfw: config.nsfw,
        models: vec![model],
        bridge_agent: text_agent(config, engine),
        threads: config.threads(),
        require_upfront_kudos: config.require_upfront_kudos,
        amount: 1,
        extra_slow_worker: config.extra_slow_worker,
        max_length: lower(config.max_length, engine.max_length),
        max_context_length: lower(config.max_context_length, engine.max_context_length),
        softprompts: engine.soft_prompts.clone(),
        // Nothing else that a text worker can do has a word.
        capabilities: engine.vision.then(|| vec![VISION.to_owned()]),
    })
}

/// A model's name as hordes know it. A file is called by its name; without an organisation, the first
/// `_` stands for the `/` behind it.
fn model_name(told: &str) -> String {
    let told = told.trim();
    if told.starts_with("koboldcpp/") {
        return told.to_owned();
    }
    let is_file = told.to_ascii_lowercase().ends_with(".gguf");
    let name = if is_file {
        let last = told.rsplit(['/', '\\']).next().unwrap_or(told);
        last.get(..last.len() - ".gguf".len()).unwrap_or(last)
    } else {
        told.trim_matches('/')
    };
    if name.contains('/') {
        name.to_owned()
    } else {
        name.replacen('_', "/", 1)
    }
}

/// Hordes that judge text workers by their agent's name want to know what stands behind the classic one.
fn text_agent(config: &Config, engine: &TextCapabilities) -> String {
    let agent = config.bridge_agent.as_str();
    let (name, rest) = agent.split_once(':').unwrap_or((agent, ""));
    if name == CLASSIC_AGENT {
        let TextCapabilities { engine, mode, .. } = engine;
        let engine = config.backend_engine.as_deref().unwrap_or(engine);
        return format!("{name}~{engine}~{mode}:{rest}");
    }
    agent.to_owned()
}

/// What the owner allows and the engine can, of what has a switch.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the protocol"
)]
struct Allowed {
    post_processing: bool,
    controlnet: bool,
    control_lines: bool,
    qr_code: bool,
    sdxl_controlnet: bool,
    extended_controlnet: bool,
    lora: bool,
    cascade: bool,
}

impl Allowed {
    fn of(config: &Config, engine: &Capabilities, models: &[String]) -> Self {
        let offered = engine
            .models
            .iter()
            .filter(|model| models.contains(&model.name));
        let mut families = offered.map(|model| model.baseline);
        let has = |feature| engine.features.contains(&feature);
        // A hint is a source image.
        let controls = config.allow_controlnet && config.allow_img2img;
        // Hordes ask those alone for transparent pictures who allow this. It promises QR codes of all
        // models, too, to whom draws any.
        let has_xl = || {
            let mut models = engine.models.iter();
            models.any(|model| model.baseline == Baseline::StableDiffusionXl)
        };
        let codes_of_xl = has(Feature::QrCodeXl);
        let promises_more =
            config.allow_controlnet && has(Feature::QrCode) && !codes_of_xl && has_xl();
        let heavy = codes_of_xl && controls || has(Feature::Transparent) && !promises_more;
        Self {
            post_processing: config.allow_post_processing && !engine.post_processors.is_empty(),
            controlnet: controls && has(Feature::ControlNet),
            control_lines: controls && has(Feature::ControlLines),
            qr_code: config.allow_controlnet,
            sdxl_controlnet: config.allow_sdxl_controlnet && heavy,
            extended_controlnet: controls
                && has(Feature::ControlNet)
                && ControlType::all().all(|kind| engine.controls.contains(&kind)),
            lora: config.allow_lora && has(Feature::Lora),
            cascade: families.any(|family| family == Baseline::StableCascade),
        }
    }

    fn feature(self, feature: Feature) -> bool {
        match feature {
            Feature::ControlNet | Feature::ControlMap => self.controlnet,
            Feature::QrCode => self.qr_code,
            Feature::ControlLines => self.control_lines,
            Feature::QrCodeXl => self.sdxl_controlnet,
            Feature::Lora => self.lora,
            // The engine can do it with a model that may not be offered.
            Feature::CascadeTwoPass | Feature::Remix => self.cascade,
            _ => true,
        }
    }
}

/// A feature in the words of the protocol.
fn feature_words(feature: Feature) -> &'static [&'static str] {
    match feature {
        Feature::Img2Img => &["img2img"],
        Feature::Inpainting => &["inpainting"],
        Feature::Tiling => &["tiling"],
        Feature::ClipSkip => &["clip_skip"],
        Feature::HiresFix => &["hires_fix"],
        Feature::ControlNet => &["controlnet", "image_is_control"],
        // Hordes that do not know the first word take it for nothing.
        Feature::ControlLines => &["controlnet_lines", "image_is_control", "return_control_map"],
        Feature::ControlMap => &["return_control_map"],
        Feature::Lora => &["lora", "lora_versions"],
        Feature::TextualInversion => &["textual_inversion"],
        Feature::QrCode => &["qr_code", "extra_texts", "workflow"],
        // The switch for Stable Diffusion XL says the rest.
        Feature::QrCodeXl => &[],
        Feature::Transparent => &["layer_diffuse"],
        Feature::CascadeTwoPass => &["stable_cascade_2pass"],
        Feature::Remix => &["extra_source_images"],
    }
}

fn words(engine: &Capabilities, can: Allowed) -> Vec<String> {
    let features = engine.features.iter();
    let features = features.filter(|feature| can.feature(**feature));
    let features = features
        .flat_map(|feature| feature_words(*feature))
        .copied();
    let samplers = engine.samplers.iter().map(|sampler| sampler.name());
    let post = engine.post_processors.iter().map(|step| step.name());
    let post = std::iter::once("post-processing").chain(post);
    let has_flux = engine.models.iter().any(|model| model.baseline.is_flux());
    let words = ALWAYS.iter().copied().chain(features).chain(samplers);
    words
        .chain(post.filter(|_| can.post_processing))
        .chain(has_flux.then_some("flux"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use ordu_engine::testing::TestEngine;
    use ordu_engine::{Engine, Limits};

    use super::*;

    fn engine(models: &[&str]) -> Capabilities {
        TestEngine::new(models.iter().copied()).capabilities()
    }

    fn offered(config: &Config, engine: &Capabilities) -> Vec<String> {
        image_offer(config, engine, |_| true).map_or_else(Vec::new, |offer| offer.models)
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn models_are_those_of_the_engine_that_the_owner_wants() {
        let engine = engine(&["one", "two", "three"]);
        for (load, skip, expected) in [
            (vec![], vec![], vec!["one", "two", "three"]),
            (vec!["two", "absent"], vec![], vec!["two"]),
            (vec![], vec!["two"], vec!["one", "three"]),
            (vec!["two"], vec!["two"], vec![]),
        ] {
            let config = Config {
                models_to_load: list(&load),
                models_to_skip: list(&skip),
                ..Config::default()
            };
            assert_eq!(offered(&config, &engine), expected);
        }
        let config = Config {
            models_to_load: list(&["two"]),
            followed: list(&["three", "one", "absent"]),
            models_to_skip: list(&["one"]),
            ..Config::default()
        };
        assert_eq!(offered(&config, &engine), ["two", "three"]);
    }

    #[test]
    fn names_that_would_get_the_whole_pop_refused_are_left_out() {
        let long = "x".repeat(256);
        assert_eq!(
            offered(&Config::default(), &engine(&["ab", "abc", &long])),
            ["abc"]
        );
        let many: Vec<String> = (0..400).map(|number| format!("model-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(offered(&Config::default(), &engine(&many)).len(), 300);
    }

    #[test]
    fn a_model_that_is_unfit_now_is_left_out_and_nothing_left_is_no_offer() {
        let engine = engine(&["one", "two"]);
        let config = Config::default();
        let offer = image_offer(&config, &engine, |model| model != "one").unwrap();
        assert_eq!(offer.models, ["two"]);
        assert!(image_offer(&config, &engine, |_| false).is_none());
    }

    #[test]
    fn limits_are_the_stricter_of_owner_and_engine() {
        let mut engine = engine(&["one"]);
        let config = Config {
            max_power: 32,
            max_batch: 8,
            ..Config::default()
        };
        let limits = |engine: &Capabilities| {
            let offer = image_offer(&config, engine, |_| true).unwrap();
            (offer.max_pixels, offer.amount)
        };
        assert_eq!(limits(&engine), (1024 * 1024, 8));
        engine.limits = Limits {
            max_pixels: 1000,
            max_batch: 2,
            max_steps: 10,
        };
        assert_eq!(limits(&engine), (1000, 2));
    }

    /// Checklist: `allow_unsafe_ipaddr` is the wire name; `allow_unsafe_ip` the config name.
    #[test]
    fn switches_travel_under_their_wire_names_and_capabilities_are_told() {
        let config = Config {
            allow_unsafe_ip: false,
            ..Config::default()
        };
        let offer = image_offer(&config, &engine(&["one"]), |_| true).unwrap();
        let wire = serde_json::to_value(&offer).unwrap();
        assert_eq!(wire["allow_unsafe_ipaddr"], false);
        assert!(wire.get("allow_unsafe_ip").is_none());
        let words = offer.capabilities.unwrap();
        for word in [
            "img2img",
            "inpainting",
            "karras",
            "r2",
            "tiling",
            "clip_skip",
            "k_euler_a",
        ] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
        assert!(
            !words
                .iter()
                .any(|word| word == "hires_fix" || word == "lora")
        );
    }

    fn writer(model: &str) -> TextCapabilities {
        TextCapabilities {
            vision: false,
            model: model.to_owned(),
            max_length: Some(64),
            max_context_length: None,
            soft_prompts: list(&["soft"]),
            engine: "aphrodite",
            mode: "oai",
        }
    }

    #[test]
    fn a_text_model_is_called_as_hordes_know_it() {
        for (told, name) in [
            ("org_name_v1", "org/name_v1"),
            ("org/name_v1", "org/name_v1"),
            ("koboldcpp/some_model", "koboldcpp/some_model"),
            ("/models/dir/Some-Model.Q4.gguf", "Some-Model.Q4"),
            ("plain", "plain"),
        ] {
            assert_eq!(model_name(told), name);
        }
    }

    #[test]
    fn a_text_offer_promises_no_more_than_the_engine_does() {
        let config = Config {
            worker_name: "w".to_owned(),
            max_length: 100,
            bridge_agent: "AI Horde Worker:26:x:y".to_owned(),
            ..Config::default()
        };
        let offer = text_offer(&config, &writer("a/b"), Some("me#1"), |_| true).unwrap();
        assert_eq!((offer.max_length, offer.max_context_length), (64, 1024));
        assert_eq!(offer.models, ["a/b::me#1"]);
        assert_eq!(offer.bridge_agent, "AI Horde Worker~aphrodite~oai:26:x:y");
        assert_eq!(offer.softprompts, ["soft"]);
        let ours = text_offer(&Config::default(), &writer("a/b"), None, |_| true).unwrap();
        assert_eq!(ours.bridge_agent, Config::default().bridge_agent);
        assert!(text_offer(&config, &writer("a/b"), None, |_| false).is_none());
    }

    #[test]
    fn further_control_types_are_offered_when_all_of_them_run() {
        let mut engine = engine(&["one"]);
        engine.features.insert(Feature::ControlNet);
        let config = Config {
            allow_controlnet: true,
            ..Config::default()
        };
        let extended = |engine: &Capabilities| {
            let offer = image_offer(&config, engine, |_| true).unwrap();
            serde_json::to_value(&offer).unwrap()["allow_extended_controlnet"] == true
        };
        let classic = ControlType::all().filter(|kind| kind.is_classic());
        engine.controls = classic.collect();
        assert!(!extended(&engine));
        engine.controls = ControlType::all().collect();
        assert!(extended(&engine));
        engine.features.remove(&Feature::ControlNet);
        assert!(!extended(&engine));
    }

    /// Who draws QR codes need not be steered by sources.
    #[test]
    fn qr_codes_are_offered_without_all_types_of_control() {
        let mut engine = engine(&["one"]);
        engine.features.insert(Feature::QrCode);
        for allowed in [false, true] {
            let config = Config {
                allow_controlnet: allowed,
                allow_img2img: false,
                ..Config::default()
            };
            let offer = image_offer(&config, &engine, |_| true).unwrap();
            let words = offer.capabilities.unwrap();
            for word in ["qr_code", "extra_texts", "workflow"] {
                assert_eq!(words.contains(&word.to_owned()), allowed, "{word}");
            }
            assert!(!offer.allow_controlnet && !words.contains(&"controlnet".to_owned()));
        }
    }

    /// Hordes give any of the classic types to whoever says `allow_controlnet`.
    #[test]
    fn lines_alone_are_a_word_that_only_some_hordes_know() {
        let mut engine = engine(&["one"]);
        engine.features.insert(Feature::ControlLines);
        for allowed in [false, true] {
            let config = Config {
                allow_controlnet: allowed,
                ..Config::default()
            };
            let offer = image_offer(&config, &engine, |_| true).unwrap();
            let words = offer.capabilities.unwrap();
            assert_eq!(words.contains(&"controlnet_lines".to_owned()), allowed);
            assert!(!offer.allow_controlnet && !words.contains(&"controlnet".to_owned()));
        }
    }

    #[test]
    fn what_only_a_cascade_can_do_is_offered_with_one() {
        let mut engine = engine(&["one", "two"]);
        engine.features.insert(Feature::Remix);
        engine.models[1].baseline = Baseline::StableCascade;
        for (named, expected) in [(vec![], true), (vec!["two"], true), (vec!["one"], false)] {
            let config = Config {
                models_to_load: list(&named),
                ..Config::default()
            };
            let offer = image_offer(&config, &engine, |_| true).unwrap();
            let words = offer.capabilities.unwrap();
            assert_eq!(words.contains(&"extra_source_images".to_owned()), expected);
        }
    }

    #[test]
    fn learned_words_need_no_switch_of_their_own() {
        let mut engine = engine(&["one"]);
        engine.features.insert(Feature::TextualInversion);
        let offer = image_offer(&Config::default(), &engine, |_| true).unwrap();
        let words = offer.capabilities.unwrap();
        assert!(words.iter().any(|word| word == "textual_inversion"));
    }

    /// Transparent pictures alone are worth the switch, unless it promised codes that cannot be made.
    #[test]
    fn the_switch_for_xl_is_sent_for_transparent_pictures_too() {
        let offered = |features: &[Feature], allowed: bool| {
            let mut engine = engine(&["one"]);
            engine.features.extend(features.iter().copied());
            engine
                .models
                .iter_mut()
                .for_each(|model| model.baseline = Baseline::StableDiffusionXl);
            let config = Config {
                allow_controlnet: true,
                allow_sdxl_controlnet: allowed,
                ..Config::default()
            };
            let offer = image_offer(&config, &engine, |_| true).unwrap();
            offer.allow_sdxl_controlnet
        };
        let (clear, code, code_xl) = (Feature::Transparent, Feature::QrCode, Feature::QrCodeXl);
        assert!(offered(&[clear], true));
        assert!(!offered(&[clear], false));
        assert!(!offered(&[], true));
        assert!(!offered(&[clear, code], true));
        assert!(offered(&[clear, code, code_xl], true));
    }

    /// Checklist: QR: `allow_sdxl_controlnet` gate.
    #[test]
    fn what_the_engine_can_is_offered_as_far_as_the_owner_allows() {
        use ordu_engine::PostProcessor;
        let mut engine = engine(&["one"]);
        let all = [
            Feature::HiresFix,
            Feature::ControlNet,
            Feature::ControlMap,
            Feature::Lora,
            Feature::QrCode,
            Feature::QrCodeXl,
            Feature::Remix,
            Feature::Transparent,
        ];
        engine.features.extend(all);
        engine.models[0].baseline = Baseline::StableCascade;
        engine.post_processors = [PostProcessor::CodeFormers].into();
        let switches = |config: &Config| {
            let offer = image_offer(config, &engine, |_| true).unwrap();
            let switches = [
                offer.allow_post_processing,
                offer.allow_controlnet,
                offer.allow_sdxl_controlnet,
                offer.allow_lora,
            ];
            (switches, offer.capabilities.unwrap())
        };
        let careful = Config {
            allow_post_processing: false,
            ..Config::default()
        };
        let (offered, words) = switches(&careful);
        assert_eq!(offered, [false; 4]);
        for word in [
            "controlnet",
            "lora",
            "qr_code",
            "CodeFormers",
            "post-processing",
        ] {
            assert!(!words.iter().any(|known| known == word), "{word}");
        }
        let generous = Config {
            allow_controlnet: true,
            allow_sdxl_controlnet: true,
            allow_lora: true,
            ..Config::default()
        };
        let (offered, words) = switches(&generous);
        assert_eq!(offered, [true, true, true, true]);
        for word in [
            "hires_fix",
            "controlnet",
            "image_is_control",
            "return_control_map",
            "qr_code",
            "extra_source_images",
            "layer_diffuse",
            "post-processing",
            "CodeFormers",
            "lora",
            "lora_versions",
        ] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
        let without_sources = Config {
            allow_img2img: false,
            ..generous
        };
        // Transparent pictures need no source.
        assert_eq!(switches(&without_sources).0, [true, false, true, true]);
    }
}
