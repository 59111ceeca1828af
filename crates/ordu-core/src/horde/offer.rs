//! What a worker declares at a pop, and what it is therefore able to serve.
//!
//! # Source
//! `generation.md` § 6.1–6.4.

use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, UserId, WorkerId};

use super::Declared;
use super::demand::Size;
use super::kinds::{self, image};
use super::names::Bits;
use super::needs::{Needs, Reason, Reasons};
use super::queue::Names;
use crate::agent::{Agent, VISION};
use crate::model_reference::{Baseline, ModelReference};
use crate::{Refusal, Roles, Standing};

/// The most aliases that a worker may prefer.
const MAX_PRIORITY_USERS: usize = 200;

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
    /// Who it belongs to.
    pub owner: Owner,
    /// Its software.
    pub agent: Agent,
    /// Users that it serves first.
    pub priority_users: Vec<UserId>,
    /// What it said, as far as it is accepted.
    pub declared: Declared,
}

impl Offer {
    /// Reads a pop, and leaves out what the worker may not serve.
    ///
    /// # Errors
    /// `InvalidPriorityUsername` (of an alchemist `BadRequest`) for an entry that is not
    /// `alias#id`; `BadRequest` if a model is branded for somebody else, or no model is left.
    ///
    /// # Source
    /// `generation.md` § 6.1 step 2, § 6.4.
    pub fn new(
        worker: WorkerId,
        owner: &Standing,
        declared: &Declared,
        reference: &ModelReference,
    ) -> Result<Self, Refusal> {
        let priority_users = preferred(declared)?;
        let (declared, agent) = kinds::accept(declared, owner, reference)?;
        Ok(Self {
            worker,
            owner: owner.into(),
            agent,
            priority_users,
            declared,
        })
    }

    /// The kind of work that is offered.
    pub const fn kind(&self) -> WorkKind {
        self.declared.kind()
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        self.declared.common().name
    }

    /// The models that are offered.
    pub fn models(&self) -> &[String] {
        self.declared.common().models
    }

    /// Whether it looks at the pictures that a text is to be about.
    pub fn sees(&self) -> bool {
        self.agent.can(VISION)
    }

    /// How many jobs it runs at the same time.
    pub fn threads(&self) -> u32 {
        self.declared.common().threads
    }
}

/// Whether every preferred user is named by an alias. Comes before the look at the key.
///
/// # Errors
/// `InvalidPriorityUsername`; for alchemists `BadRequest`.
pub fn check_priority_usernames(declared: &Declared) -> Result<(), Refusal> {
    preferred(declared).map(|_| ())
}

fn preferred(declared: &Declared) -> Result<Vec<UserId>, Refusal> {
    let wrong_alias = match declared {
        Declared::Alchemy(_) => ReturnCode::BadRequest,
        Declared::Image(_) | Declared::Text(_) => ReturnCode::InvalidPriorityUsername,
    };
    priority_users(declared.common().priority_usernames)
        .map_err(|message| Refusal::new(wrong_alias, message))
}

fn priority_users(aliases: &[String]) -> Result<Vec<UserId>, String> {
    let mut users = Vec::new();
    for alias in aliases.iter().take(MAX_PRIORITY_USERS) {
        let has_id = alias.rsplit_once('#').is_some_and(|(_, id)| !id.is_empty());
        if !has_id {
            return Err(format!(
                "`{alias}` in `priority_usernames` is not `alias#id`"
            ));
        }
        users.extend(UserId::from_alias(alias));
    }
    users.sort_unstable();
    users.dedup();
    Ok(users)
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
    only_by_name: bool,
}

/// An offer made ready for comparing.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    pub(super) held: Needs,
    /// The largest request that it takes.
    pub(super) max_size: Size,
    pub(super) amount: u32,
    pub(super) pace: Pace,
    /// From when on it counts as fast.
    pub(super) fast: Fast,
    /// From when on a request for fast workers may hope for it.
    pub(super) hopeful: Fast,
    pub(super) require_upfront: bool,
    /// What only image workers are particular about; of others nothing.
    pub(super) image: image::Limits,
    models: Vec<OfferedModel>,
    numbers: Bits,
    softprompts: Vec<usize>,
    /// Whether it serves requests that name no model.
    serves_unnamed: bool,
}

/// What an offer amounts to, except the models: how each kind answers for itself.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) held: Needs,
    pub(super) max_size: Size,
    pub(super) pace: Pace,
    pub(super) fast: Fast,
    pub(super) hopeful: Fast,
    pub(super) require_upfront: bool,
    /// Whether it serves requests that name no model though it has no ordinary model.
    pub(super) serves_unnamed: bool,
    pub(super) softprompts: Vec<String>,
    pub(super) image: image::Limits,
}

/// When a worker counts as fast, by its measured speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fast {
    /// With so many raw units a second.
    AtLeast(f64),
    /// With less than so many seconds for a form.
    Under(f64),
}

impl Fast {
    pub(super) fn is(self, speed: f64) -> bool {
        match self {
            Self::AtLeast(least) => speed >= least,
            Self::Under(most) => speed < most,
        }
    }
}

/// Whether a worker calls itself extra slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Usual,
    ExtraSlow,
}

impl Pace {
    pub(super) const fn of(extra_slow: bool) -> Self {
        if extra_slow {
            Self::ExtraSlow
        } else {
            Self::Usual
        }
    }
}

impl Capacity {
    /// Makes an offer ready; holds the names that it mentions until [`Self::let_go`].
    pub(super) fn new(offer: &Offer, reference: &ModelReference, names: &mut Names) -> Self {
        let describe = |name: &String| OfferedModel {
            name: name.clone(),
            number: names.models.hold(name),
            baseline: reference.baseline(name),
            step_limit: image::step_limit(name, reference),
            only_by_name: reference.is_only_by_name(name),
        };
        let models: Vec<OfferedModel> = offer.models().iter().map(describe).collect();
        let mut numbers = Bits::default();
        for model in &models {
            numbers.insert(model.number);
        }
        let terms = kinds::terms(offer, reference);
        let softprompts = terms.softprompts.iter();
        let has_ordinary_model = models.iter().any(|model| !model.only_by_name);
        Self {
            held: terms.held,
            max_size: terms.max_size,
            amount: offer.declared.common().amount,
            pace: terms.pace,
            fast: terms.fast,
            hopeful: terms.hopeful,
            require_upfront: terms.require_upfront,
            image: terms.image,
            serves_unnamed: has_ordinary_model || terms.serves_unnamed,
            softprompts: softprompts
                .map(|name| names.softprompts.hold(name))
                .collect(),
            models,
            numbers,
        }
    }

    /// How many of these models it has; of forms, how many of them it could do.
    pub(super) fn offers_of(&self, set: &[usize]) -> u64 {
        let offered = set.iter().filter(|number| self.numbers.contains(**number));
        offered.count() as u64
    }

    /// Gives back the names that it held.
    pub(super) fn let_go(&self, names: &mut Names) {
        for model in &self.models {
            names.models.let_go(model.number);
        }
        for softprompt in &self.softprompts {
            names.softprompts.let_go(*softprompt);
        }
    }

    /// Whether it has a soft prompt, by number.
    pub(super) fn has_softprompt(&self, number: usize) -> bool {
        self.softprompts.contains(&number)
    }

    /// Whether a request must be looked at itself, not only at its demand.
    pub(super) fn is_picky(&self) -> bool {
        self.require_upfront || self.image.is_picky()
    }

    /// Why no model fits a request that names this set of them and has these needs; empty if one
    /// does.
    pub(super) fn model_reasons(&self, set: Option<&[usize]>, needs: Needs) -> Reasons {
        let mut reasons = Reasons::default();
        let names_one = set.map_or(self.serves_unnamed, |set| {
            set.iter().any(|number| self.numbers.contains(*number))
        });
        if !names_one {
            reasons.add(Reason::Models);
            return reasons;
        }
        if !self.image.is_particular {
            return reasons;
        }
        for model in self.named(set) {
            match self.image.obstacle(model.baseline, needs) {
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
            let in_limit = !self.image.limit_steps || f64::from(steps) <= model.step_limit;
            in_limit && self.image.obstacle(model.baseline, needs).is_none()
        };
        self.named(set).filter(fits)
    }

    /// The models that a request with this set names.
    fn named(&self, set: Option<&[usize]>) -> impl Iterator<Item = &OfferedModel> {
        self.models.iter().filter(move |model| match set {
            Some(set) => set.contains(&model.number),
            None => !model.only_by_name,
        })
    }
}
