//! What waits: a request of any kind.

use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, UserId};
use serde::{Deserialize, Serialize};

use crate::image::ImageSpec;
use crate::ledger::{Entry, Event, Reason};
use crate::model_reference::ModelReference;
use crate::pricing::{self, upfront};
use crate::{Kudos, Roles, Timestamp};

/// Checked work of one kind. The only place that a new kind must be added to the match of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Pictures.
    Image(Arc<ImageSpec>),
}

impl Work {
    /// The kind of worker that it needs.
    pub const fn kind(&self) -> WorkKind {
        match self {
            Self::Image(_) => WorkKind::Image,
        }
    }

    /// How many results are wanted.
    pub fn asked(&self) -> u32 {
        match self {
            Self::Image(spec) => spec.n,
        }
    }

    /// Work in one result, in raw units: pixelsteps, tokens, forms.
    pub fn things(&self) -> u64 {
        match self {
            Self::Image(spec) => spec.pixelsteps(),
        }
    }

    /// The models that it names; empty for any.
    pub fn models(&self) -> &[String] {
        match self {
            Self::Image(spec) => &spec.models,
        }
    }

    /// The price of one result before burn and model.
    pub fn base_price(&self) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::base_price(spec),
        }
    }

    /// The price of making it active.
    pub fn activation_tax(&self) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::activation_tax(spec),
        }
    }

    /// What one result is worth with the model that is actually used.
    pub fn job_kudos(&self, model: &str, reference: &ModelReference) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::job_kudos(spec, reference.baseline(model)),
        }
    }

    /// What the requester pays for a result of that worth.
    pub fn burn(&self, worth: Kudos) -> Kudos {
        match self {
            Self::Image(spec) => pricing::image::burn(spec, worth),
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
        }
    }
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
}

impl Request {
    /// The movement that pays for making it active; written together with the request.
    ///
    /// # Source
    /// `generation.md` § 7.4.
    pub fn activation(&self) -> Event {
        let tax = self.work.activation_tax();
        Event {
            id: self.id.uuid(),
            at: self.created,
            kind: Some(self.work.kind()),
            entries: vec![Entry::burn(self.requester.user, tax, Reason::Activation)],
        }
    }
}
