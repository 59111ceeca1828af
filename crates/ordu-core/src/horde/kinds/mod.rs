//! Where the kinds of work differ, one file each; the rest of the horde does not ask which it is.

pub(super) mod alchemy;
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
use crate::pricing;
use crate::{Kudos, Refusal, Standing};

/// How large a request is.
pub(super) fn size(work: &Work) -> Size {
    match work {
        Work::Image(spec) => Size {
            extent: spec.pixels(),
            length: 0,
        },
        Work::Text(spec) => text::size(spec),
        Work::Alchemy(spec) => alchemy::size(spec),
    }
}

/// Why a request of this kind is too large in its extent.
pub(super) const fn too_large(kind: WorkKind) -> Reason {
    match kind {
        WorkKind::Text => Reason::MaxContextLength,
        WorkKind::Image => Reason::MaxPixels,
        WorkKind::Interrogation => Reason::MaxTiles,
    }
}

/// Adds what work needs of a worker besides what any request does.
pub(super) fn needs(needs: &mut Needs, work: &Work) {
    match work {
        Work::Image(spec) => image::needs(needs, spec),
        Work::Text(spec) => text::needs(needs, spec),
        Work::Alchemy(_) => {}
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
        Declared::Alchemy(pop) => Ok(alchemy::accept(pop)),
    }
}

/// What an offer amounts to.
pub(super) fn terms(offer: &Offer, reference: &ModelReference) -> Terms {
    match &offer.declared {
        Declared::Image(pop) => image::terms(offer, pop, reference),
        Declared::Text(pop) => text::terms(offer, pop, reference.text()),
        Declared::Alchemy(pop) => alchemy::terms(offer, pop),
    }
}

/// How many results a worker may make at once.
pub(super) fn batch(work: &Work, capacity: &Capacity, reference: &ModelReference) -> u32 {
    match work {
        Work::Image(spec) => image::batch(spec, capacity, reference),
        Work::Text(spec) => text::batch(spec, capacity),
        Work::Alchemy(_) => capacity.amount,
    }
}

/// Seconds until the horde gives up on a batch.
pub(super) fn ttl(work: &Work, pace: Pace, reference: &ModelReference) -> u64 {
    match work {
        Work::Image(spec) => image::ttl(spec, pace, reference),
        Work::Text(_) => text::TTL,
        Work::Alchemy(_) => alchemy::TTL,
    }
}

/// How the seeds of a request's jobs are found.
pub(super) fn seeds(work: &Work) -> Seeds {
    match work {
        Work::Image(spec) => Seeds {
            seed: spec.seed,
            variation: spec.seed_variation,
        },
        // The worker of a text says which it used; forms have none.
        Work::Text(_) | Work::Alchemy(_) => Seeds {
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
        Declared::Alchemy(_) => pricing::alchemy::UPTIME,
    }
}

/// How the speed of a worker of this kind is told from what it did: raw units a second, but of
/// alchemists the seconds for a form.
///
/// # Source
/// `generation.md` § 6.14.
#[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
pub(super) fn speed(kind: WorkKind, things: u64, seconds: f64) -> f64 {
    match kind {
        WorkKind::Image | WorkKind::Text => things as f64 / seconds,
        WorkKind::Interrogation => seconds / things.max(1) as f64,
    }
}

/// Raw units a second of a worker with that speed.
pub(super) fn rate(kind: WorkKind, speed: f64) -> f64 {
    match kind {
        WorkKind::Image | WorkKind::Text => speed,
        WorkKind::Interrogation if speed > 0.0 => 1.0 / speed,
        WorkKind::Interrogation => 0.0,
    }
}
