//! Answers that come when there is one: calls that wait, streams of events.
//!
//! Nobody in here asks again and again. Whenever somebody lets go of the live horde, [`Push::note`]
//! is told what happened to which requests ([`ordu_core::horde::Changes`]); it wakes workers that
//! wait for a job ([`pops`]) and tells those who look at a request ([`watching`], [`viewer`]), or at
//! the horde as a whole ([`pulse`]).
//! Locks are taken in this order: the live horde, then one of those in here.
//!
//! # Source
//! `platform.md` § 4; `docs/decisions/0010`.

pub(crate) mod log;
pub(crate) mod pops;
pub(crate) mod prefer;
pub(crate) mod pulse;
pub(crate) mod seats;
pub(crate) mod viewer;
pub(crate) mod watching;

use ordu_core::horde::{Changes, Horde};

use crate::clock::Clock;
use pops::Pops;
use pulse::Pulses;
use seats::Seats;
use watching::Watching;

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) seats: Seats,
    pub(crate) pops: Pops,
    pub(crate) watching: Watching,
    pub(crate) pulses: Pulses,
}

/// How many wait just now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Onlookers {
    /// Workers that wait for a job.
    pub workers: usize,
    /// Streams of events.
    pub streams: usize,
    /// Calls that wait for something to happen to a request.
    pub calls: usize,
    /// Streams of the horde's pulse.
    pub pulses: usize,
}

impl Push {
    /// Nobody waits yet. Those who wait hold at most half of the `connections`: the others are for those
    /// who do not.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            seats: Seats::new(connections / 2),
            pops: Pops::default(),
            watching: Watching::default(),
            pulses: Pulses::default(),
        }
    }

    /// How many wait just now.
    pub(crate) fn onlookers(&self) -> Onlookers {
        let (streams, calls) = self.watching.onlookers();
        Onlookers {
            workers: self.pops.len(),
            streams,
            calls,
            pulses: self.pulses.onlookers(),
        }
    }

    /// Passes on what happened in the horde.
    pub(crate) fn note(&self, horde: &mut Horde, changes: &Changes, clock: &Clock) {
        self.pops.wake(horde, &changes.opened);
        self.watching.follow(horde, &changes.touched, clock);
        self.pulses.note(&changes.happenings);
    }
}
