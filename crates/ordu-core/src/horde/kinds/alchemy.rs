//! Forms: what they need of a worker, and what an alchemist has.
//!
//! # Source
//! `generation.md` § 5, § 6.2, § 6.10, § 6.13, § 6.14.

use ordu_api::alchemy::AlchemyPop;

use crate::Role;
use crate::agent::Agent;
use crate::alchemy::AlchemySpec;
use crate::horde::Declared;
use crate::horde::demand::Size;
use crate::horde::needs::{Needs, Switch};
use crate::horde::offer::{Fast, Offer, Pace, Terms};

/// Seconds until the horde gives up on a form.
pub(in crate::horde) const TTL: u64 = 180;
/// An alchemist that takes fewer seconds for a form is fast.
const FAST_SECONDS: f64 = 10.0;
/// What an alchemist does that says nothing.
const DEFAULT_FORM: &str = "caption";

/// How large a picture is.
pub(in crate::horde) fn size(spec: &AlchemySpec) -> Size {
    Size {
        extent: u64::from(spec.tiles),
        length: 0,
    }
}

/// A pop with the forms that count, and the worker's software.
pub(in crate::horde) fn accept(pop: &AlchemyPop) -> (Declared, Agent) {
    let mut pop = pop.clone();
    let mut forms: Vec<String> = Vec::new();
    for form in pop.forms {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    if forms.is_empty() {
        forms.push(DEFAULT_FORM.to_owned());
    }
    pop.forms = forms;
    let agent = Agent::parse(&pop.bridge_agent);
    (pop.into(), agent)
}

/// What an alchemist's offer amounts to.
pub(in crate::horde) fn terms(offer: &Offer, pop: &AlchemyPop) -> Terms {
    let switches = [
        (offer.owner.roles.has(Role::Trusted), Switch::TrustedOwner),
        // Only image workers are asked whether they serve such addresses.
        (true, Switch::UnsafeAddress),
        (true, Switch::Prompt),
    ];
    Terms {
        held: Needs::of(&switches),
        max_size: Size {
            extent: u64::from(pop.max_tiles),
            length: 0,
        },
        pace: Pace::Usual,
        fast: Fast::Under(FAST_SECONDS),
        hopeful: Fast::Under(FAST_SECONDS),
        require_upfront: false,
        serves_unnamed: false,
        softprompts: Vec::new(),
        image: super::image::Limits::default(),
    }
}
