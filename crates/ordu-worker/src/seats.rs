//! Places for jobs whose number may change while they are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many places. One that is taken is free again when its permit is dropped.
#[derive(Debug)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    size: AtomicUsize,
    /// Places that were taken away while somebody sat there: the next ones to be free are not any more.
    owed: AtomicUsize,
}

impl Seats {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: AtomicUsize::new(size),
            owed: AtomicUsize::new(0),
        }
    }

    /// Waits for a place. The semaphore is never closed, so there is one some time.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let permit = self.free.clone().acquire_owned().await.ok()?;
            if !self.settles_a_debt() {
                return Some(permit);
            }
            permit.forget();
        }
    }

    /// So many places from now on. Nobody is sent away. For one caller at a time.
    pub(crate) fn resize(&self, size: usize) {
        let before = self.size.swap(size, Ordering::Relaxed);
        if size < before {
            let missing = before - size;
            let gone = self.free.forget_permits(missing);
            self.owed.fetch_add(missing - gone, Ordering::Relaxed);
        } else {
            let more = (before..size).filter(|_| !self.settles_a_debt()).count();
            self.free.add_permits(more);
        }
    }

    /// Takes one off what is owed; `false` if nothing is.
    fn settles_a_debt(&self) -> bool {
        let less = |owed: usize| owed.checked_sub(1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.owed.fetch_update(set, get, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_that_is_taken_away_goes_when_it_is_free() {
        let seats = Seats::new(2);
        let first = seats.take().now_or_never().unwrap().unwrap();
        let second = seats.take().now_or_never().unwrap().unwrap();
        seats.resize(1);
        drop(first);
        assert!(seats.take().now_or_never().is_none());
        drop(second);
        assert!(seats.take().now_or_never().is_some());
    }

    proptest! {
        /// Whatever happens, no more are taken anew than there are, and in the end exactly so many are free.
        #[test]
        fn there_are_as_many_places_as_were_asked_for(
            steps in proptest::collection::vec((0..3_u8, 0..6_usize), 1..60),
        ) {
            let seats = Seats::new(2);
            let (mut size, mut taken) = (2, Vec::new());
            for (what, number) in steps {
                match what {
                    0 => if let Some(Some(permit)) = seats.take().now_or_never() {
                        taken.push(permit);
                        prop_assert!(taken.len() <= size);
                    },
                    1 => drop(taken.pop()),
                    _ => {
                        seats.resize(number);
                        size = number;
                    }
                }
            }
            taken.clear();
            let mut free = Vec::new();
            while let Some(Some(permit)) = seats.take().now_or_never() {
                free.push(permit);
            }
            prop_assert_eq!(free.len(), size);
        }
    }
}
