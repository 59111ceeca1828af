//! Slots of the queue that are promised to requests on their way into it.
//!
//! Between the look at what a user has waiting and the moment when the new request waits too, other
//! requests of the same user come by. They see what is promised here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::UserId;
use ordu_api::worker::WorkKind;

/// Slots are promised to a user for one kind of work.
type Whose = (UserId, WorkKind);

/// Promised slots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservations(Arc<Mutex<BTreeMap<Whose, u64>>>);

/// Slots that are promised until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    all: Reservations,
    whose: Whose,
    slots: u64,
}

/// How many slots are taken, promised ones included, when more are not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) u64);

impl Reservations {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Whose, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises `slots` to a user who may have `limit`; `open` says how many wait. It is asked
    /// while nobody else can reserve: what just moved from here into the queue is seen once.
    pub(crate) fn reserve(
        &self,
        whose: Whose,
        slots: u64,
        limit: u64,
        open: impl FnOnce() -> u64,
    ) -> Result<Reservation, Full> {
        let mut promised = self.slots();
        let here = promised.get(&whose).copied().unwrap_or(0);
        let taken = open().saturating_add(here);
        if taken.saturating_add(slots) > limit {
            return Err(Full(taken));
        }
        *promised.entry(whose).or_default() += slots;
        Ok(Reservation {
            all: self.clone(),
            whose,
            slots,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut promised = self.all.slots();
        if let Some(slots) = promised.get_mut(&self.whose) {
            *slots = slots.saturating_sub(self.slots);
            if *slots == 0 {
                promised.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_counts_until_it_is_dropped() {
        let all = Reservations::default();
        let user = (UserId::ANONYMOUS, WorkKind::Image);
        let first = all.reserve(user, 2, 4, || 1).unwrap();
        assert_eq!(all.reserve(user, 2, 4, || 1).unwrap_err(), Full(3));
        let second = all.reserve(user, 1, 4, || 1).unwrap();
        drop(first);
        assert!(all.reserve(user, 2, 4, || 1).is_ok());
        drop(second);
        assert!(all.slots().is_empty());
    }
}
