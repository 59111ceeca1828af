//! What a worker declares at a pop, and what it is therefore able to serve.
//!
//! # Source
//! `generation.md` § 6.1–6.4.

use ordu_api::image::ImagePop;
use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, UserId, WorkerId};

use super::names::{Bits, Interner};
use super::needs::{Needs, Reason, Reasons, Schedule, Switch};
use crate::agent::Agent;
use crate::model_reference::{self, Baseline, ModelReference};
use crate::{Refusal, Role, Roles, Standing};

/// The most models of an image worker that count.
pub const MAX_MODELS: usize = 300;
/// The most refused words of a worker that count.
const MAX_BLACKLIST: usize = 200;
/// Refused words are cut to so many characters.
const MAX_BLACKLIST_WORD: usize = 15;
/// The most aliases that a worker may prefer.
const MAX_PRIORITY_USERS: usize = 200;
/// Fewest steps of a model that does not say.
const DEFAULT_MIN_STEPS: u32 = 20;
/// Most steps of a model that does not say.
const DEFAULT_MAX_STEPS: u32 = 40;

/// Who a worker belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub user: UserId,
    /// Its roles.
    pub roles: Roles,
}

impl From<&Standing> for Owner {
    fn from(standing: &Standing) -> Self {
        Self {
            user: standing.user,
            roles: standing.roles,
        }
    }
}

/// What a worker declares at a pop.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The worker.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    pub owner: Owner,
    /// Its software.
    pub agent: Agent,
    /// Users that it serves first.
    pub priority_users: Vec<UserId>,
    /// The rest, by kind of work.
    pub declared: Declared,
}

/// The part of an offer that depends on the kind of work.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// An image worker's pop, with the models that are accepted.
    Image(Box<ImagePop>),
}

impl Offer {
    /// Reads the pop of an image worker, and leaves out the models that it may not serve.
    ///
    /// # Errors
    /// `InvalidPriorityUsername` for an entry that is not `alias#id`; `BadRequest` if a model is
    /// branded for somebody else, or no model is left.
    ///
    /// # Source
    /// `generation.md` § 6.1 step 2, § 6.4.
    pub fn image(
        worker: WorkerId,
        owner: &Standing,
        pop: &ImagePop,
        reference: &ModelReference,
    ) -> Result<Self, Refusal> {
        let priority_users = priority_users(&pop.priority_usernames)?;
        let mut pop = pop.clone();
        pop.models = accepted_models(&pop.models, owner, reference)?;
        pop.blacklist = blacklist(&pop.blacklist);
        let agent = match &pop.capabilities {
            Some(words) => Agent::declared(&pop.bridge_agent, words),
            None => Agent::parse(&pop.bridge_agent),
        };
        Ok(Self {
            worker,
            name: pop.name.clone(),
            owner: owner.into(),
            agent,
            priority_users,
            declared: Declared::Image(Box::new(pop)),
        })
    }

    /// The kind of work that is offered.
    pub const fn kind(&self) -> WorkKind {
        match self.declared {
            Declared::Image(_) => WorkKind::Image,
        }
    }

    /// The models that are offered.
    pub fn models(&self) -> &[String] {
        let Declared::Image(pop) = &self.declared;
        &pop.models
    }

    /// How many jobs it runs at the same time.
    pub fn threads(&self) -> u32 {
        let Declared::Image(pop) = &self.declared;
        pop.threads
    }

    /// The pop of an image worker.
    pub fn image_pop(&self) -> Option<&ImagePop> {
        let Declared::Image(pop) = &self.declared;
        Some(pop)
    }
}

/// Whether every preferred user is named by an alias. Comes before the look at the key.
///
/// # Errors
/// `InvalidPriorityUsername`.
pub fn check_priority_usernames(aliases: &[String]) -> Result<(), Refusal> {
    priority_users(aliases).map(|_| ())
}

fn priority_users(aliases: &[String]) -> Result<Vec<UserId>, Refusal> {
    let mut users = Vec::new();
    for alias in aliases.iter().take(MAX_PRIORITY_USERS) {
        let has_id = alias.rsplit_once('#').is_some_and(|(_, id)| !id.is_empty());
        if !has_id {
            let message = format!("`{alias}` in `priority_usernames` is not `alias#id`");
            return Err(Refusal::new(ReturnCode::InvalidPriorityUsername, message));
        }
        users.extend(UserId::from_alias(alias));
    }
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

fn accepted_models(
    models: &[String],
    owner: &Standing,
    reference: &ModelReference,
) -> Result<Vec<String>, Refusal> {
    let mut accepted: Vec<String> = Vec::new();
    for name in models.iter().take(MAX_MODELS) {
        let brand = name.split_once("::").map(|(_, alias)| alias);
        let is_branded = owner.roles.has(Role::Special) && brand.is_some();
        if is_branded && brand != Some(owner.alias.as_str()) {
            let message = format!("The model `{name}` belongs to somebody else");
            return Err(Refusal::new(ReturnCode::BadRequest, message));
        }
        let may_serve =
            is_branded || owner.roles.has(Role::Customizer) || reference.get(name).is_some();
        if may_serve && !accepted.contains(name) {
            accepted.push(name.clone());
        }
    }
    if accepted.is_empty() {
        let message = "Unfortunately we cannot accept workers serving unrecognised models at this \
                       time, offer a model of the reference";
        return Err(Refusal::new(ReturnCode::BadRequest, message));
    }
    Ok(accepted)
}

fn blacklist(words: &[String]) -> Vec<String> {
    let cut = |word: &String| {
        let lower = word.to_lowercase();
        lower.chars().take(MAX_BLACKLIST_WORD).collect::<String>()
    };
    let words = words.iter().take(MAX_BLACKLIST).map(cut);
    words.filter(|word| !word.is_empty()).collect()
}

/// One model of a worker, and what is known about it.
#[derive(Debug, Clone)]
pub(super) struct OfferedModel {
    pub(super) name: String,
    /// Its number in the queue.
    pub(super) number: usize,
    baseline: Baseline,
    /// The most steps that a worker with a limit takes for it.
    step_limit: f64,
    /// Whether it serves only requests that name it.
    special: bool,
}

/// An offer made ready for comparing.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the offer, independent of the others"
)]
pub(super) struct Capacity {
    pub(super) held: Needs,
    pub(super) max_size: u64,
    pub(super) blacklist: Vec<String>,
    pub(super) limit_steps: bool,
    pub(super) require_upfront: bool,
    pub(super) amount: u32,
    pub(super) pace: Pace,
    models: Vec<OfferedModel>,
    numbers: Bits,
    has_ordinary_model: bool,
    flux: bool,
    two_pass_cascade: bool,
    sdxl_control: bool,
    /// Whether some models do not fit some requests; else naming one is enough.
    is_particular: bool,
}

/// Whether a worker calls itself extra slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Usual,
    ExtraSlow,
}

impl Capacity {
    /// Makes an offer ready; holds the names of its models until [`Self::let_go`].
    pub(super) fn new(
        offer: &Offer,
        reference: &ModelReference,
        names: &mut Interner<String>,
    ) -> Self {
        let Declared::Image(pop) = &offer.declared;
        let describe = |name: &String| OfferedModel {
            name: name.clone(),
            number: names.hold(name),
            baseline: reference.baseline(name),
            step_limit: step_limit(name, reference),
            special: model_reference::is_special(name),
        };
        let models: Vec<OfferedModel> = pop.models.iter().map(describe).collect();
        let mut numbers = Bits::default();
        for model in &models {
            numbers.insert(model.number);
        }
        let flux = offer.agent.can("flux");
        let two_pass_cascade = offer.agent.can("stable_cascade_2pass");
        let sdxl_control = pop.allow_sdxl_controlnet;
        let lacks = |model: &OfferedModel| match model.baseline {
            Baseline::Flux1 => !flux,
            Baseline::StableCascade => !two_pass_cascade,
            Baseline::StableDiffusionXl => !sdxl_control,
            _ => false,
        };
        Self {
            held: held(offer, pop, reference),
            max_size: u64::try_from(pop.max_pixels).unwrap_or(0),
            blacklist: pop.blacklist.clone(),
            limit_steps: pop.limit_max_steps,
            require_upfront: pop.require_upfront_kudos,
            amount: pop.amount,
            pace: if pop.extra_slow_worker {
                Pace::ExtraSlow
            } else {
                Pace::Usual
            },
            has_ordinary_model: models.iter().any(|model| !model.special),
            is_particular: models.iter().any(lacks),
            flux,
            two_pass_cascade,
            sdxl_control,
            models,
            numbers,
        }
    }

    /// Gives back the names that it held.
    pub(super) fn let_go(&self, names: &mut Interner<String>) {
        for model in &self.models {
            names.let_go(model.number);
        }
    }

    /// Whether a request must be looked at itself, not only at its demand.
    pub(super) fn is_picky(&self) -> bool {
        self.limit_steps || self.require_upfront || !self.blacklist.is_empty()
    }

    /// Why no model fits a request that names this set of them and has these needs; empty if one
    /// does.
    pub(super) fn model_reasons(&self, set: Option<&[usize]>, needs: Needs) -> Reasons {
        let mut reasons = Reasons::default();
        let names_one = set.map_or(self.has_ordinary_model, |set| {
            set.iter().any(|number| self.numbers.contains(*number))
        });
        if !names_one {
            reasons.add(Reason::Models);
            return reasons;
        }
        if !self.is_particular {
            return reasons;
        }
        for model in self.named(set) {
            match self.obstacle(model, needs) {
                Some(reason) => reasons.add(reason),
                None => return Reasons::default(),
            }
        }
        reasons
    }

    /// The models that may serve a request with `steps`, whatever else it needs.
    pub(super) fn usable(
        &self,
        set: Option<&[usize]>,
        needs: Needs,
        steps: u32,
    ) -> impl Iterator<Item = &OfferedModel> {
        let fits = move |model: &&OfferedModel| {
            let in_limit = !self.limit_steps || f64::from(steps) <= model.step_limit;
            in_limit && self.obstacle(model, needs).is_none()
        };
        self.named(set).filter(fits)
    }

    /// The models that a request with this set names.
    fn named(&self, set: Option<&[usize]>) -> impl Iterator<Item = &OfferedModel> {
        self.models.iter().filter(move |model| match set {
            Some(set) => set.contains(&model.number),
            None => !model.special,
        })
    }

    /// What keeps a single model from serving, though the worker as a whole could.
    fn obstacle(&self, model: &OfferedModel, needs: Needs) -> Option<Reason> {
        let lacks = match model.baseline {
            Baseline::Flux1 => !self.flux,
            Baseline::StableCascade => !self.two_pass_cascade && needs.has_ability("hires_fix"),
            _ => false,
        };
        if lacks {
            return Some(Reason::BridgeVersion);
        }
        let refuses = model.baseline == Baseline::StableDiffusionXl
            && !self.sdxl_control
            && needs.has_ability("qr_code");
        refuses.then_some(Reason::Controlnet)
    }
}

/// The mean of the fewest and the most steps of a model.
///
/// # Source
/// `generation.md` § 6.7 check 18; `observed.md` 7.
fn step_limit(name: &str, reference: &ModelReference) -> f64 {
    let wanted = reference.get(name).map(|model| &model.requirements);
    let fewest = wanted.and_then(|wanted| wanted.min_steps);
    let most = wanted.and_then(|wanted| wanted.max_steps);
    let fewest = f64::from(fewest.unwrap_or(DEFAULT_MIN_STEPS));
    f64::midpoint(fewest, f64::from(most.unwrap_or(DEFAULT_MAX_STEPS)))
}

/// What an image worker has, except its speed.
fn held(offer: &Offer, pop: &ImagePop, reference: &ModelReference) -> Needs {
    let is_inpainting = |model: &&String| reference.is_inpainting(model);
    let inpainting_models = pop.models.iter().filter(is_inpainting).count();
    let switches = [
        (pop.nsfw, Switch::Nsfw),
        (offer.owner.roles.has(Role::Trusted), Switch::TrustedOwner),
        (!pop.extra_slow_worker, Switch::Prompt),
        (pop.allow_unsafe_ipaddr, Switch::UnsafeAddress),
        (pop.allow_img2img, Switch::SourceImage),
        (pop.allow_painting, Switch::Painting),
        (inpainting_models > 0, Switch::InpaintingModel),
        (inpainting_models < pop.models.len(), Switch::OrdinaryModel),
        (pop.allow_post_processing, Switch::PostProcessing),
        (pop.allow_controlnet, Switch::ControlNet),
        (pop.allow_sdxl_controlnet, Switch::SdxlControlNet),
        (pop.allow_lora, Switch::Lora),
    ];
    let mut held = Needs::default();
    for (has, switch) in switches {
        if has {
            held.switch(switch);
        }
    }
    for word in &offer.agent.abilities {
        held.held_ability(word);
    }
    for name in &offer.agent.karras_samplers {
        held.sampler(name, Schedule::Karras);
    }
    for name in &offer.agent.plain_samplers {
        held.sampler(name, Schedule::Plain);
    }
    held
}
