//! What waits: a request of any kind.

use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, UserId, WorkerId};
use serde::{Deserialize, Serialize};

use super::slots::Slots;
use super::{Content, Twin};
use crate::agent::Agent;
use crate::alchemy::AlchemySpec;
use crate::image::ImageSpec;
use crate::ledger::{Entry, Event, Reason};
use crate::model_reference::ModelReference;
use crate::pricing::breakdown::{self, Item};
use crate::pricing::text::Writer;
use crate::pricing::{self, upfront};
use crate::text::TextSpec;
use crate::{Kudos, Roles, Timestamp};

/// Checked work of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Pictures.
    Image(Arc<ImageSpec>),
    /// Texts.
    Text(Arc<TextSpec>),
    /// Forms of alchemy.
    Alchemy(Arc<AlchemySpec>),
}

impl Work {
    /// The kind of worker that it needs.
    pub const fn kind(&self) -> WorkKind {
        match self {
            Self::Image(_) => WorkKind::Image,
            Self::Text(_) => WorkKind::Text,
            Self::Alchemy(_) => WorkKind::Interrogation,
        }
    }

    /// Lets its results go to the public dataset.
    pub fn share(&mut self) {
        match self {
            Self::Image(spec) => Arc::make_mut(spec).shared = true,
            // There is a dataset of pictures only.
            Self::Text(_) | Self::Alchemy(_) => {}
        }
    }

    /// How many results are wanted.
    pub fn asked(&self) -> u32 {
        match self {
            Self::Image(spec) => spec.n,
            Self::Text(spec) => spec.n,
            Self::Alchemy(spec) => spec.slots().end,
        }
    }

    /// Work in one result, in raw units: pixelsteps, tokens, forms.
    pub fn things(&self) -> u64 {
        match self {
            Self::Image(spec) => spec.pixelsteps(),
            Self::Text(spec) => u64::from(spec.max_length),
            Self::Alchemy(_) => 1,
        }
    }

    /// What all kinds have in common: on which terms it may be served.
    pub fn terms(&self) -> Terms<'_> {
        match self {
            Self::Image(spec) => Terms {
                nsfw: spec.nsfw,
                trusted_workers: spec.trusted_workers,
                slow_workers: spec.slow_workers,
                extra_slow_workers: spec.extra_slow_workers,
                workers: &spec.workers,
                worker_blacklist: spec.worker_blacklist,
            },
            Self::Text(spec) => Terms {
                // Texts are not marked.
                nsfw: false,
                trusted_workers: spec.trusted_workers,
                slow_workers: spec.slow_workers,
                extra_slow_workers: spec.extra_slow_workers,
                workers: &spec.workers,
                worker_blacklist: spec.worker_blacklist,
            },
            Self::Alchemy(spec) => Terms {
                nsfw: false,
                trusted_workers: spec.trusted_workers,
                slow_workers: spec.slow_workers,
                extra_slow_workers: true,
                workers: &[],
                worker_blacklist: false,
            },
        }
    }

    /// The prompt; empty where there is none.
    pub fn prompt(&self) -> &str {
        match self {
            Self::Image(spec) => &spec.prompt,
            Self::Text(spec) => &spec.prompt,
            Self::Alchemy(_) => "",
        }
    }

    /// How often a model is evaluated for one result; 0 where that means nothing.
    pub(super) fn steps(&self) -> u32 {
        match self {
            Self::Image(spec) => spec.accurate_steps(),
            Self::Text(_) | Self::Alchemy(_) => 0,
        }
    }

    /// The models that it names; empty for any.
    pub fn models(&self) -> &[String] {
        match self {
            Self::Image(spec) => &spec.models,
            Self::Text(spec) => &spec.models,
            Self::Alchemy(_) => &[],
        }
    }

    /// What a worker must have one of while these slots are open: the models that it names, empty
    /// for any; or the open forms.
    pub(super) fn names(&self, open: &Slots) -> Vec<&String> {
        match self {
            Self::Image(_) | Self::Text(_) => self.models().iter().collect(),
            Self::Alchemy(spec) => {
                let is_open = |slot: &u32| open.has(*slot);
                let forms = spec.slots().filter(is_open);
                forms
                    .filter_map(|slot| spec.form(slot).map(|form| &form.name))
                    .collect()
            }
        }
    }

    /// The soft prompt that a worker must have.
    pub fn softprompt(&self) -> Option<&String> {
        match self {
            Self::Image(_) | Self::Alchemy(_) => None,
            Self::Text(spec) => spec.softprompt.as_ref(),
        }
    }

    /// The price of one result before burn: of a picture before its model is known, of a text the
    /// estimate, of a form nothing, because each has its own.
    pub fn base_price(&self, reference: &ModelReference) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::base_price(spec),
            Self::Text(spec) => pricing::text::estimate(spec, reference.text()),
            Self::Alchemy(_) => Kudos::ZERO,
        }
    }

    /// The price of making it active.
    pub fn activation_tax(&self) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::activation_tax(spec),
            Self::Text(spec) => pricing::text::activation_tax(spec),
            Self::Alchemy(_) => Kudos::ZERO,
        }
    }

    /// What one result is worth with the model that is actually used; `None` if only the result
    /// itself tells, see `result_kudos`.
    pub fn job_kudos(&self, model: &str, reference: &ModelReference) -> Option<Kudos> {
        match self {
            Self::Image(spec) => Some(pricing::image::job_kudos(spec, reference.baseline(model))),
            Self::Text(_) => None,
            Self::Alchemy(spec) => Some(pricing::alchemy::form_kudos(model, spec.tiles)),
        }
    }

    /// What a result is worth of which only itself tells.
    pub(super) fn result_kudos(
        &self,
        content: &Content,
        writer: Writer<'_>,
        reference: &ModelReference,
    ) -> Kudos {
        match (self, content) {
            (Self::Text(spec), Content::Text(text)) => {
                pricing::text::job_kudos(spec, text, writer, reference.text())
            }
            (Self::Image(_) | Self::Text(_) | Self::Alchemy(_), _) => Kudos::ZERO,
        }
    }

    /// The share of a job's kudos that an agent earns, in percent: only image agents are ranked.
    pub fn reward_percent(&self, agent: &Agent) -> u8 {
        match self {
            Self::Image(_) => agent.reward_percent(),
            Self::Text(_) | Self::Alchemy(_) => 100,
        }
    }

    /// What the requester pays for a result of that worth.
    pub fn burn(&self, worth: Kudos) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::burn(spec, worth),
            Self::Text(_) => pricing::text::burn(worth),
            Self::Alchemy(spec) => pricing::alchemy::burn(spec, worth),
        }
    }

    /// What it will cost in all, by the dearest model that it may be made with.
    ///
    /// # Source
    /// `generation.md` § 7.5; the dearest model is `observed.md` 13.
    pub fn full_price(&self, reference: &ModelReference) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::estimate(spec, reference).total,
            Self::Text(spec) => pricing::text::full_price(spec, reference.text()),
            Self::Alchemy(spec) => pricing::alchemy::full_price(spec),
        }
    }

    /// What that price is made of; adds up to [`Self::full_price`].
    pub fn breakdown(&self, reference: &ModelReference) -> Vec<Item> {
        match self {
            Self::Image(spec) => breakdown::image(spec, reference),
            Self::Text(spec) => breakdown::text(spec, reference.text()),
            Self::Alchemy(spec) => breakdown::alchemy(spec),
        }
    }

    /// What all of it may cost at most, the activation included.
    pub fn most_cost(&self, reference: &ModelReference) -> Kudos {
        self.full_price(reference) + self.activation_tax()
    }

    /// What its requester must have if its kudos are needed upfront.
    pub fn upfront_price(&self, reference: &ModelReference) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::estimate(spec, reference).upfront,
            Self::Alchemy(_) => self.full_price(reference),
            Self::Text(spec) => pricing::text::upfront_price(spec, reference.text()),
        }
    }

    /// The same, shrunk until nothing is needed upfront.
    #[must_use]
    pub fn downgrade(&self, load: upfront::Load, reference: &ModelReference) -> Self {
        match self {
            Self::Image(spec) => Self::Image(Arc::new(upfront::downgrade(spec, load, reference))),
            Self::Text(spec) => Self::Text(Arc::new(pricing::text::downgrade(spec, load))),
            // Nothing is needed upfront in any case.
            Self::Alchemy(_) => self.clone(),
        }
    }

    /// Why its kudos are needed upfront, if they are.
    pub fn upfront(
        &self,
        load: upfront::Load,
        reference: &ModelReference,
    ) -> Option<upfront::Need> {
        match self {
            Self::Image(spec) => upfront::image(spec, load, reference),
            Self::Text(spec) => pricing::text::upfront(spec, load),
            Self::Alchemy(_) => None,
        }
    }
}

/// On which terms a request may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the protocol is a list of switches"
)]
pub struct Terms<'a> {
    /// Whether results may be NSFW.
    pub nsfw: bool,
    /// Whether only workers of trusted owners may serve it.
    pub trusted_workers: bool,
    /// Whether slow workers may serve it.
    pub slow_workers: bool,
    /// Whether workers may serve it that call themselves extra slow.
    pub extra_slow_workers: bool,
    /// The workers that may, or with `worker_blacklist` may not, serve it; empty for any.
    pub workers: &'a [WorkerId],
    /// Turns `workers` into exclusions.
    pub worker_blacklist: bool,
}

/// Raw units of work in one unit that is shown.
pub(super) const fn divisor(kind: WorkKind) -> f64 {
    match kind {
        WorkKind::Image => 1_000_000.0,
        WorkKind::Text | WorkKind::Interrogation => 1.0,
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// An address like any other.
    #[default]
    Safe,
    /// One that hides who is behind it.
    Unsafe,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The account that pays.
    pub user: UserId,
    /// Its roles.
    pub roles: Roles,
    /// What it could spend when it asked, above its floor.
    pub available: Kudos,
    /// From where.
    pub address: Address,
}

/// Checked work and who asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Who asks.
    pub requester: Requester,
    /// For what.
    pub work: Work,
    /// The priority that it is born with, in kudos; see [`crate::Standing::priority`].
    pub priority: Kudos,
    /// When it became active; its age counts from here.
    pub created: Timestamp,
    /// The picture that it makes once more, if the horde itself asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<Box<Twin>>,
}

impl Request {
    /// The movement that pays for making it active; written together with the request. `None` if
    /// that costs nothing, as with alchemy.
    ///
    /// # Source
    /// `generation.md` § 7.4.
    pub fn activation(&self) -> Option<Event> {
        let tax = self.work.activation_tax();
        (tax > Kudos::ZERO && self.twin.is_none()).then(|| Event {
            id: self.id.uuid(),
            at: self.created,
            kind: Some(self.work.kind()),
            entries: vec![Entry::burn(self.requester.user, tax, Reason::Activation)],
        })
    }
}
