//! Trying everything out before the first pop: one tiny job for each engine, and what would be offered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use image::{DynamicImage, RgbImage};
use ordu_api::worker::WorkKind;
use ordu_engine::{
    AlchemyEngine, Capabilities, Engine, Feature, Fit, ImageTask, ProgressSink, Sampling, Step,
    TextEngine, TextTask,
};
use serde_json::{Map, Value};

use crate::alchemist::{NSFW, is_wanted};
use crate::dreamer::{may_show_anything, serves};
use crate::offer::{allowed_models, image_offer, text_offer};
use crate::{Config, Engines};

/// How long one engine may take: a large model is loaded first.
const WITHIN: Duration = Duration::from_mins(10);

/// The side of the picture, in pixels, unless the model only draws in another size.
const SIDE: u32 = 64;

/// How one engine did.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Of which role.
    pub kind: WorkKind,
    /// What a pop would say, as the horde gets it; nothing if there is nothing to offer.
    pub offer: Option<Value>,
    /// With which model or form, and how long it took; or why it failed.
    pub tried: Result<(String, Duration), String>,
    /// What is not offered, and what keeps it away.
    pub missing: Vec<String>,
}

/// Tries all engines, one after the other. They wait for each other, so that they need not share memory.
pub async fn try_out(config: &Config, engines: &Engines) -> Vec<Trial> {
    let config = config.clone().named_for(&engines.kinds());
    let mut trials = Vec::new();
    if let Some(engine) = engines.image.clone() {
        let (config, engines) = (config.clone(), engines.clone());
        let trying = move || picture(&config, engine.as_ref(), &engines);
        trials.push(on_time(WorkKind::Image, trying).await);
    }
    if let Some(engine) = engines.text.clone() {
        let config = config.clone();
        trials.push(on_time(WorkKind::Text, move || text(&config, engine.as_ref())).await);
    }
    if !engines.alchemy.is_empty() {
        let (config, engines) = (config.clone(), engines.clone());
        trials.push(on_time(WorkKind::Interrogation, move || form(&config, &engines)).await);
    }
    trials
}

async fn on_time(kind: WorkKind, trying: impl FnOnce() -> Trial + Send + 'static) -> Trial {
    let failed = |reason: &str| Trial {
        kind,
        offer: None,
        tried: Err(reason.to_owned()),
        missing: Vec::new(),
    };
    match tokio::time::timeout(WITHIN, tokio::task::spawn_blocking(trying)).await {
        Ok(Ok(trial)) => trial,
        Ok(Err(_)) => failed("the engine panicked"),
        Err(_) => failed("it did not answer in time"),
    }
}

/// Gives up when the time is over; the trial has been told off by then.
struct Watch(Instant);

impl ProgressSink for Watch {
    fn step(&self, _step: Step) {}

    fn cancelled(&self) -> bool {
        self.0.elapsed() > WITHIN
    }
}

fn picture(config: &Config, engine: &dyn Engine, helpers: &Engines) -> Trial {
    let mut ability = engine.capabilities();
    let mut missing = absent_models(config, &ability);
    missing.extend(absent_features(config, &ability));
    missing.extend(engine.missing());
    let pantry = helpers.pantry.as_ref();
    let add_ons = [Feature::Lora, Feature::TextualInversion];
    if pantry.is_none() && add_ons.iter().any(|kind| ability.features.contains(kind)) {
        let lacks =
            "LoRAs and textual inversions: they need a folder, name one with `--cache-home`";
        missing.push(lacks.to_owned());
    }
    ability
        .features
        .retain(|feature| serves(*feature, pantry, config));
    let mut offer = image_offer(config, &ability, |_| true);
    if let Some(offer) = &mut offer
        && helpers.safety.is_none()
        && may_show_anything(&ability, &offer.models)
    {
        offer.nsfw = false;
        if config.nsfw {
            missing.push("adult content: nobody looks at pictures without `--safety`".to_owned());
        }
    }
    let tried = match allowed_models(config, &ability).first() {
        None => Err("there is no model to offer".to_owned()),
        Some(model) => draw(engine, &ability, model),
    };
    Trial {
        kind: WorkKind::Image,
        offer: offer.and_then(|offer| serde_json::to_value(offer).ok()),
        tried,
        missing,
    }
}

fn draw(
    engine: &dyn Engine,
    ability: &Capabilities,
    model: &str,
) -> Result<(String, Duration), String> {
    let side = match ability.model(model).map(|model| model.fit) {
        Some(Fit::Scale { native }) => native.min(SIDE),
        _ => SIDE,
    };
    let task = ImageTask {
        width: side,
        height: side,
        steps: 1,
        ..ImageTask::new(model, "a red circle")
    };
    let started = Instant::now();
    let pictures = engine.run(task, &Watch(started));
    match pictures {
        Ok(pictures) if pictures.len() == 1 => Ok((model.to_owned(), started.elapsed())),
        Ok(pictures) => Err(format!("`{model}` made {} pictures", pictures.len())),
        Err(error) => Err(format!("`{model}`: {error}")),
    }
}

/// Models that the owner wants and the engine has not.
fn absent_models(config: &Config, ability: &Capabilities) -> Vec<String> {
    let wanted = config.models_to_load.iter();
    let absent = wanted.filter(|name| ability.model(name).is_none());
    absent
        .map(|name| format!("model `{name}`: the engine has none of this name"))
        .collect()
}

/// Switches that are on and features that are not there, and the other way round.
fn absent_features(config: &Config, ability: &Capabilities) -> Vec<String> {
    let has = |any: &[Feature]| any.iter().any(|feature| ability.features.contains(feature));
    let steered = has(&[Feature::ControlNet, Feature::ControlLines, Feature::QrCode]);
    let rows = [
        (
            "allow_img2img",
            config.allow_img2img,
            has(&[Feature::Img2Img]),
        ),
        (
            "allow_painting",
            config.allow_painting,
            has(&[Feature::Inpainting]),
        ),
        (
            "allow_post_processing",
            config.allow_post_processing,
            !ability.post_processors.is_empty(),
        ),
        ("allow_controlnet", config.allow_controlnet, steered),
        (
            "allow_sdxl_controlnet",
            config.allow_sdxl_controlnet,
            has(&[Feature::QrCodeXl]),
        ),
        ("allow_lora", config.allow_lora, has(&[Feature::Lora])),
    ];
    let told = rows
        .iter()
        .filter_map(|(key, is_on, is_there)| match (is_on, is_there) {
            (true, false) => Some(format!("`{key}` is on, and the engine cannot do it")),
            (false, true) => Some(format!("`{key}` is off, and the engine can do it")),
            _ => None,
        });
    told.collect()
}

fn text(config: &Config, engine: &dyn TextEngine) -> Trial {
    let mut trial = Trial {
        kind: WorkKind::Text,
        offer: None,
        tried: Err(String::new()),
        missing: Vec::new(),
    };
    let ability = match engine.capabilities() {
        Ok(ability) => ability,
        Err(error) => {
            trial.tried = Err(error.to_string());
            return trial;
        }
    };
    let offer = text_offer(config, &ability, None, |_| true);
    trial.offer = offer.and_then(|offer| serde_json::to_value(offer).ok());
    if trial.offer.is_none() {
        let name = &ability.model;
        trial
            .missing
            .push(format!("model `{name}`: a horde takes no such name"));
    }
    if config.branded_model {
        let brand = "the model's name gets the owner's behind it once the horde has told it";
        trial.missing.push(brand.to_owned());
    }
    let task = TextTask {
        prompt: "Once upon a time".to_owned(),
        max_length: 1,
        max_context_length: 80,
        sampling: Sampling::default(),
        ..TextTask::default()
    };
    let started = Instant::now();
    trial.tried = match engine.write(&task, &Watch(started)) {
        Ok(_) => Ok((ability.model, started.elapsed())),
        Err(error) => Err(error.to_string()),
    };
    trial
}

fn form(config: &Config, helpers: &Engines) -> Trial {
    let engines = &helpers.alchemy;
    let mut all: BTreeSet<String> = engines.iter().flat_map(|engine| engine.forms()).collect();
    // The classifier is another program, and tried by nobody but its first picture.
    all.extend(helpers.safety.iter().map(|_| NSFW.to_owned()));
    let (offered, unwished): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|form| is_wanted(form, &config.forms));
    let mut missing: Vec<_> = unwished
        .iter()
        .map(|form| format!("form `{form}`: `forms` does not name it"))
        .collect();
    let wishes = config.forms.iter();
    let unknown = wishes.filter(|wish| {
        !offered
            .iter()
            .any(|form| is_wanted(form, &[(*wish).clone()]))
    });
    missing.extend(unknown.map(|wish| format!("form `{wish}`: no engine answers it")));
    let tried = match offered.iter().find(|form| *form != NSFW) {
        None => Err("there is no form to try".to_owned()),
        Some(form) => {
            let mut knowing = engines
                .iter()
                .filter(|engine| engine.forms().contains(form));
            let engine = knowing.next();
            engine.map_or_else(
                || Err(format!("nobody answers `{form}` any more")),
                |engine| answer(engine.as_ref(), form),
            )
        }
    };
    Trial {
        kind: WorkKind::Interrogation,
        offer: (!offered.is_empty()).then(|| serde_json::json!({"forms": offered})),
        tried,
        missing,
    }
}

fn answer(engine: &dyn AlchemyEngine, form: &str) -> Result<(String, Duration), String> {
    let picture = DynamicImage::from(RgbImage::new(SIDE, SIDE));
    let started = Instant::now();
    let answered = engine.answer(form, &picture, &Map::new(), &Watch(started));
    match answered {
        Ok(_) => Ok((form.to_owned(), started.elapsed())),
        Err(error) => Err(format!("`{form}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ordu_engine::NativeAlchemy;
    use ordu_engine::testing::TestEngine;

    use super::*;

    fn config() -> Config {
        Config {
            worker_name: "tester".to_owned(),
            models_to_load: vec!["test".to_owned(), "absent".to_owned()],
            allow_controlnet: true,
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn engines_that_work_are_shown_with_what_is_missing() {
        let engines = Engines {
            image: Some(Arc::new(TestEngine::default())),
            alchemy: vec![Arc::new(NativeAlchemy)],
            ..Engines::default()
        };
        let trials = try_out(&config(), &engines).await;
        let [picture, forms] = trials.as_slice() else {
            panic!("{trials:?}");
        };
        assert_eq!(picture.tried.as_ref().unwrap().0, "test");
        let offer = picture.offer.as_ref().unwrap();
        assert_eq!(offer["models"], serde_json::json!(["test"]));
        let said = picture.missing.join("\n");
        assert!(said.contains("model `absent`"), "{said}");
        assert!(said.contains("`allow_controlnet` is on"), "{said}");
        assert_eq!(forms.tried.as_ref().unwrap().0, "describe");
    }

    #[tokio::test]
    async fn an_engine_without_a_model_fails_and_says_why() {
        let engines = Engines::from(Arc::new(TestEngine::new(["other"])));
        let trials = try_out(&config(), &engines).await;
        assert_eq!(trials[0].offer, None);
        assert_eq!(
            trials[0].tried,
            Err("there is no model to offer".to_owned())
        );
    }

    #[tokio::test]
    async fn forms_that_nobody_answers_are_named() {
        let engines = Engines {
            alchemy: vec![Arc::new(NativeAlchemy)],
            ..Engines::default()
        };
        let config = Config {
            forms: vec!["palette".to_owned(), "caption".to_owned()],
            ..config()
        };
        let trials = try_out(&config, &engines).await;
        assert_eq!(trials[0].tried.as_ref().unwrap().0, "palette");
        assert_eq!(
            trials[0].missing,
            [
                "form `describe`: `forms` does not name it",
                "form `caption`: no engine answers it"
            ]
        );
    }
}
