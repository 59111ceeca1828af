//! The image worker as a role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ordu_api::image::{ImageJob, ImagePop};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Fetcher, Horde, Trust};
use ordu_engine::{Capabilities, Engine, Feature, Origin};

use crate::Config;
use crate::effort::{Extra, Pending, Shape, effort};
use crate::inputs::Larder;
use crate::job::{Terms, Workshop, work};
use crate::manager::Pantry;
use crate::offer::{allowed_models, image_offer};
use crate::pacing::jitter;
use crate::role::{Answer, End, Fit, Office, Order, Role, Room, Ticket};
use crate::safety::{Classifier, Safety};

/// Makes pictures.
pub(crate) struct Dreamer {
    shop: Arc<Workshop>,
}

/// Who helps it, if anybody does.
#[derive(Default)]
pub(crate) struct Helpers {
    /// Looks at pictures.
    pub(crate) classifier: Option<Arc<dyn Classifier>>,
    /// Brings add-ons.
    pub(crate) pantry: Option<Arc<Pantry>>,
}

impl Dreamer {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        helpers: Helpers,
        office: &Office,
    ) -> Result<Self, Error> {
        let shop = Workshop {
            larder: larder(&office.current.now(), &office.horde)?,
            pantry: helpers.pantry,
            safety: Safety::new(helpers.classifier, office.current.clone()),
            horde: office.horde.clone(),
            engine,
            turns: office.turns.clone(),
            extras: office.extras.clone(),
            board: office.board.clone(),
            shutdown: office.shutdown.clone(),
            timing: office.timing,
            current: office.current.clone(),
        };
        Ok(Self {
            shop: Arc::new(shop),
        })
    }
}

impl Dreamer {
    /// Why the owner's wish for LoRAs is not followed, if it is not.
    fn lora_trouble(&self, config: &Config, engine: &Capabilities) -> Option<&'static str> {
        if !config.allow_lora || engine.features.contains(&Feature::Lora) {
            None
        } else if self.shop.pantry.is_none() {
            Some("there is no folder for them")
        } else {
            Some("the engine has none, or does not see the folder that they are fetched to")
        }
    }

    /// Whether nobody looks at pictures that might show anything.
    fn is_blind(&self, engine: &Capabilities, models: &[String]) -> bool {
        !self.shop.safety.looks() && may_show_anything(engine, models)
    }
}

/// Whether an add-on of this kind can be served: somebody brings it, and the owner allows it.
pub(crate) fn serves(feature: Feature, pantry: Option<&Arc<Pantry>>, config: &Config) -> bool {
    match feature {
        Feature::Lora => pantry.is_some() && config.allow_lora,
        Feature::TextualInversion => pantry.is_some(),
        _ => true,
    }
}

/// Whether one of these models may draw what must be looked at. Those that are part of this program do
/// not.
pub(crate) fn may_show_anything(engine: &Capabilities, models: &[String]) -> bool {
    let is_ours = |name: &String| {
        let model = engine.model(name);
        model.is_some_and(|model| model.origin == Origin::Bundled)
    };
    !models.iter().all(is_ours)
}

/// Where the pictures of jobs are had from.
pub(crate) fn larder(config: &Config, horde: &Horde) -> Result<Larder, Error> {
    let hosts = config.trusted_hosts.iter();
    Ok(Larder {
        fetcher: Fetcher::new(horde)?,
        trust: hosts.fold(Trust::horde(horde), |trust, url| trust.and(url)),
        timing: config.timing,
    })
}

impl Role for Dreamer {
    type Ability = Capabilities;
    type Offer = ImagePop;
    type Job = (ImageJob, Terms);

    fn kind(&self) -> WorkKind {
        WorkKind::Image
    }

    fn room(&self) -> Room {
        self.shop.current.read(|config| Room {
            threads: config.threads() * config.devices(),
            ahead: config.queue() * config.devices(),
        })
    }

    fn speeds(&self) -> BTreeMap<String, f64> {
        self.shop.current.read(|config| config.speeds.clone())
    }

    fn rest(&self) {
        let engine = self.shop.engine.clone();
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(move || engine.release()));
    }

    async fn open(&self) {
        let Some(engine) = self.ability().await else {
            return;
        };
        let config = self.shop.current.now();
        let offered = allowed_models(&config, &engine);
        tracing::info!(models = offered.len(), "the image worker starts");
        if let Some(reason) = self.lora_trouble(&config, &engine) {
            tracing::warn!(reason, "LoRAs are not offered, though they are allowed");
        }
        if config.nsfw && self.is_blind(&engine, &offered) {
            tracing::warn!(
                "no classifier looks at the pictures: only requests without adult content are taken"
            );
        }
        for model in &config.models_to_load {
            if engine.model(model).is_none() {
                tracing::warn!(model, "the engine has no model of this name");
            }
        }
    }

    async fn ability(&self) -> Option<Capabilities> {
        let engine = self.shop.engine.clone();
        // It fails only if the engine panicked.
        let asked = tokio::task::spawn_blocking(move || (engine.capabilities(), engine.holdings()));
        let (mut ability, holdings) = asked.await.ok()?;
        let Workshop {
            current, pantry, ..
        } = self.shop.as_ref();
        let served = |feature| current.read(|config| serves(feature, pantry.as_ref(), config));
        ability.features.retain(|feature| served(*feature));
        let names = holdings.models.iter().map(|held| held.model.clone());
        self.shop.turns.loaded(names.collect());
        self.shop.board.engine(|engine| {
            engine.is_up = !ability.models.is_empty();
            engine.held = holdings.models;
        });
        Some(ability)
    }

    fn offer(&self, ability: &Capabilities, fit: &Fit<'_>) -> Option<ImagePop> {
        let mut config = self.shop.current.now();
        // What fails all the time is not offered for a while.
        config.allow_img2img &= fit.extra(Extra::Img2Img);
        config.allow_painting &= fit.extra(Extra::Painting);
        config.allow_post_processing &= fit.extra(Extra::PostProcessing);
        config.allow_controlnet &= fit.extra(Extra::ControlNet);
        config.allow_lora &= fit.extra(Extra::Lora);
        if let Some(most) = fit.max_pixels() {
            config.limit_pixels(most);
        }
        let mut offer = image_offer(&config, ability, |model| fit.model(model))?;
        let held = self.shop.turns.held();
        let draw = f64::midpoint(jitter(), 1.0);
        if fit.busy && draw < config.model_stickiness {
            stick_to(&held, &mut offer.models);
        }
        if self.is_blind(ability, &offer.models) {
            offer.nsfw = false;
        }
        Some(offer)
    }

    fn models(offer: &ImagePop) -> &[String] {
        &offer.models
    }

    async fn pop(
        &self,
        horde: &Horde,
        offer: &ImagePop,
        ability: Capabilities,
    ) -> Result<Answer<Self::Job>, Error> {
        let mut job = horde.pop_image(offer).await?;
        let messages = std::mem::take(&mut job.messages);
        let skipped = std::mem::take(&mut job.skipped);
        let ticket = job.ids.first().copied().map(|id| Ticket {
            id,
            work: Pending {
                model: job.model.clone().unwrap_or_default(),
                shape: Shape::of(&job),
                effort: effort(&job, job.ids.len()),
                pixels: (job.ids.len() == 1)
                    .then(|| u64::from(job.payload.width) * u64::from(job.payload.height)),
                done: 0.0,
            },
            parts: job.ids.len(),
            ttl: job.ttl.map_or(self.shop.timing.ttl, Duration::from_secs),
            job: {
                let terms = Terms::of(&ability, job.model.as_deref().unwrap_or_default());
                (job, terms)
            },
        });
        Ok(Answer {
            ticket,
            messages,
            skipped,
        })
    }

    async fn work(self: Arc<Self>, order: Order<Self::Job>) -> End {
        work(self.shop.clone(), order).await
    }
}

/// Leaves only models that lie in memory, if that leaves any.
fn stick_to(held: &BTreeSet<String>, models: &mut Vec<String>) {
    if models.iter().any(|model| held.contains(model)) {
        models.retain(|model| held.contains(model));
    }
}

/// The words of a blacklist as they are compared.
pub(crate) fn words(blacklist: &[String]) -> Vec<String> {
    let words = blacklist.iter().map(|word| word.trim().to_lowercase());
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sticky_worker_offers_what_lies_in_memory_if_that_is_anything() {
        let list = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let stuck = |held: &[&str]| {
            let mut models = list(&["a", "b", "c"]);
            stick_to(&list(held).into_iter().collect(), &mut models);
            models
        };
        assert_eq!(stuck(&["b"]), ["b"]);
        assert_eq!(stuck(&["elsewhere"]), ["a", "b", "c"]);
        assert_eq!(stuck(&[]), ["a", "b", "c"]);
    }
}
