//! Where the kinds of work differ, one file each; the rest of the horde does not ask which it is.

pub(super) mod image;

use super::needs::Needs;
use super::offer::{Capacity, Offer, Pace, Terms};
use super::{Declared, Work};
use crate::agent::Agent;
use crate::image::seed::Seeds;
use crate::model_reference::ModelReference;
use crate::{Kudos, Refusal, Standing};

/// The size of a request, in the unit of its kind: pixels.
pub(super) fn size(work: &Work) -> u64 {
    match work {
        Work::Image(spec) => spec.pixels(),
    }
}

/// Adds what work needs of a worker besides what any request does.
pub(super) fn needs(needs: &mut Needs, work: &Work) {
    match work {
        Work::Image(spec) => image::needs(needs, spec),
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
    }
}

/// What an offer amounts to.
pub(super) fn terms(offer: &Offer, reference: &ModelReference) -> Terms {
    match &offer.declared {
        Declared::Image(pop) => image::terms(offer, pop, reference),
    }
}

/// How many results a worker may make at once.
pub(super) fn batch(work: &Work, capacity: &Capacity, reference: &ModelReference) -> u32 {
    match work {
        Work::Image(spec) => image::batch(spec, capacity, reference),
    }
}

/// Seconds until the horde gives up on a batch.
pub(super) fn ttl(work: &Work, pace: Pace, reference: &ModelReference) -> u64 {
    match work {
        Work::Image(spec) => image::ttl(spec, pace, reference),
    }
}

/// How the seeds of a request's jobs are found.
pub(super) fn seeds(work: &Work) -> Seeds {
    match work {
        Work::Image(spec) => Seeds {
            seed: spec.seed,
            variation: spec.seed_variation,
        },
    }
}

/// The reward for having been online for a while.
pub(super) fn uptime_reward(declared: &Declared) -> Kudos {
    match declared {
        Declared::Image(pop) => image::uptime_reward(pop),
    }
}
