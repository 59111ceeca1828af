//! Where the kinds of work differ, one file each; the rest of the horde does not ask which it is.

pub(super) mod image;
pub(super) mod text;

use ordu_api::worker::WorkKind;

use super::demand::Size;
use super::needs::{Needs, Reason};
use super::offer::{Capacity, Offer, Pace, Terms};
use super::{Declared, Work};
use crate::agent::Agent;
use crate::image::seed::Seeds;
use crate::model_reference::ModelReference;
use crate::{Kudos, Refusal, Standing};

/// How large a request is.
pub(super) fn size(work: &Work) -> Size {
    match work {
        Work::Image(spec) => Size {
            extent: spec.pixels(),
            length: 0,
        },
        Work::Text(spec) => text::size(spec),
    }
}

/// Why a request of this kind is too large in its extent.
pub(super) const fn too_large(kind: WorkKind) -> Reason {
    match kind {
        WorkKind::Text => Reason::MaxContextLength,
        WorkKind::Image | WorkKind::Interrogation => Reason::MaxPixels,
    }
}

/// Adds what work needs of a worker besides what any request does.
pub(super) fn needs(needs: &mut Needs, work: &Work) {
    match work {
        Work::Image(spec) => image::needs(needs, spec),
        Work::Text(spec) => text::needs(needs, spec),
    }
}

/// What of a pop is accepted, and the worker's software.
///
/// # Errors
/// What the worker offers is not acceptable.
pub(super) fn accept(
    declared: &Declared,
    owner: &Standing,
    reference: &ModelReference,
) -> Result<(Declared, Agent), Refusal> {
    match declared {
        Declared::Image(pop) => image::accept(pop, owner, reference),
        Declared::Text(pop) => text::accept(pop, owner),
    }
}

/// What an offer amounts to.
pub(super) fn terms(offer: &Offer, reference: &ModelReference) -> Terms {
    match &offer.declared {
        Declared::Image(pop) => image::terms(offer, pop, reference),
        Declared::Text(pop) => text::terms(offer, pop, reference.text()),
    }
}

/// How many results a worker may make at once.
pub(super) fn batch(work: &Work, capacity: &Capacity, reference: &ModelReference) -> u32 {
    match work {
        Work::Image(spec) => image::batch(spec, capacity, reference),
        Work::Text(spec) => text::batch(spec, capacity),
    }
}

/// Seconds until the horde gives up on a batch.
pub(super) fn ttl(work: &Work, pace: Pace, reference: &ModelReference) -> u64 {
    match work {
        Work::Image(spec) => image::ttl(spec, pace, reference),
        Work::Text(_) => text::TTL,
    }
}

/// How the seeds of a request's jobs are found.
pub(super) fn seeds(work: &Work) -> Seeds {
    match work {
        Work::Image(spec) => Seeds {
            seed: spec.seed,
            variation: spec.seed_variation,
        },
        // The worker says which it used.
        Work::Text(_) => Seeds {
            seed: Some(0),
            variation: None,
        },
    }
}

/// The reward for having been online for a while.
pub(super) fn uptime_reward(offer: &Offer, reference: &ModelReference) -> Kudos {
    match &offer.declared {
        Declared::Image(pop) => image::uptime_reward(pop),
        Declared::Text(pop) => text::uptime_reward(offer, pop, reference.text()),
    }
}
