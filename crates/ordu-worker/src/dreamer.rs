//! The image worker as a role.

use std::sync::Arc;
use std::time::Duration;

use ordu_api::image::{ImageJob, ImagePop};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Fetcher, Horde, Trust};
use ordu_engine::{Capabilities, Engine, Feature, Origin};

use crate::Config;
use crate::effort::effort;
use crate::inputs::Larder;
use crate::job::{Terms, Workshop, work};
use crate::manager::Pantry;
use crate::offer::{allowed_models, image_offer};
use crate::role::{Answer, End, Office, Order, Role, Room, Ticket};
use crate::safety::{Classifier, Rules, Safety};

/// Makes pictures.
pub(crate) struct Dreamer {
    config: Config,
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
        config: &Config,
        engine: Arc<dyn Engine>,
        helpers: Helpers,
        office: &Office,
    ) -> Result<Self, Error> {
        let rules = Rules {
            sfw: !config.nsfw,
            censor_nsfw: config.censor_nsfw,
            censorlist: words(&config.censorlist),
        };
        let shop = Workshop {
            larder: larder(config, office)?,
            pantry: helpers.pantry,
            safety: Safety::new(helpers.classifier, rules),
            horde: office.horde.clone(),
            engine,
            threads: office.threads.clone(),
            extras: office.extras.clone(),
            board: office.board.clone(),
            shutdown: office.shutdown.clone(),
            timing: office.timing,
            blacklist: words(&config.blacklist),
        };
        Ok(Self {
            config: config.clone(),
            shop: Arc::new(shop),
        })
    }
}

impl Dreamer {
    /// Whether an add-on of this kind can be served: somebody brings it, and the owner allows it.
    fn serves(&self, feature: Feature) -> bool {
        match feature {
            Feature::Lora => self.shop.pantry.is_some() && self.config.allow_lora,
            Feature::TextualInversion => self.shop.pantry.is_some(),
            _ => true,
        }
    }

    /// Why the owner's wish for LoRAs is not followed, if it is not.
    fn lora_trouble(&self, engine: &Capabilities) -> Option<&'static str> {
        if !self.config.allow_lora || engine.features.contains(&Feature::Lora) {
            None
        } else if self.shop.pantry.is_none() {
            Some("there is no folder for them")
        } else {
            Some("the engine has none, or does not see the folder that they are fetched to")
        }
    }

    /// Whether nobody looks at pictures that might show anything. The models that are part of this
    /// program draw nothing that needs to be looked at.
    fn is_blind(&self, engine: &Capabilities, models: &[String]) -> bool {
        let is_ours = |name: &String| {
            let model = engine.model(name);
            model.is_some_and(|model| model.origin == Origin::Bundled)
        };
        !self.shop.safety.looks() && !models.iter().all(is_ours)
    }
}

/// Where the pictures of jobs are had from.
pub(crate) fn larder(config: &Config, office: &Office) -> Result<Larder, Error> {
    let trust = Trust::horde(&office.horde);
    let hosts = config.trusted_hosts.iter();
    Ok(Larder {
        fetcher: Fetcher::new(&office.horde)?,
        trust: hosts.fold(trust, |trust, url| trust.and(url)),
        timing: office.timing,
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
        Room {
            threads: self.config.threads(),
            ahead: self.config.queue(),
        }
    }

    async fn open(&self) {
        let Some(engine) = self.ability().await else {
            return;
        };
        let offered = allowed_models(&self.config, &engine);
        tracing::info!(models = offered.len(), "the image worker starts");
        if let Some(reason) = self.lora_trouble(&engine) {
            tracing::warn!(reason, "LoRAs are not offered, though they are allowed");
        }
        if self.config.nsfw && self.is_blind(&engine, &offered) {
            tracing::warn!(
                "no classifier looks at the pictures: only requests without adult content are taken"
            );
        }
        for model in &self.config.models_to_load {
            if engine.model(model).is_none() {
                tracing::warn!(model, "the engine has no model of this name");
            }
        }
    }

    async fn ability(&self) -> Option<Capabilities> {
        let engine = self.shop.engine.clone();
        // It fails only if the engine panicked.
        let asked = tokio::task::spawn_blocking(move || engine.capabilities());
        let mut found = asked.await.ok()?;
        found.features.retain(|feature| self.serves(*feature));
        Some(found)
    }

    fn offer(&self, ability: &Capabilities, may_offer: &dyn Fn(&str) -> bool) -> Option<ImagePop> {
        let mut offer = image_offer(&self.config, ability, may_offer)?;
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
            model: job.model.clone().unwrap_or_default(),
            parts: job.ids.len(),
            effort: effort(&job.payload, job.ids.len()),
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

/// The words of a blacklist as they are compared.
pub(crate) fn words(blacklist: &[String]) -> Vec<String> {
    let words = blacklist.iter().map(|word| word.trim().to_lowercase());
    words.filter(|word| !word.is_empty()).collect()
}
