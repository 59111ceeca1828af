//! Places for those who wait: each holds a connection, so there are only so many.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::ApiError;
use crate::load;

/// So many may wait from one address.
const MAX_SEATS_OF_NETWORK: usize = 500;

/// How long to stay away when there is no place, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Who sits where.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: BTreeMap<IpAddr, usize>,
}

/// A place, given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    network: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// Too many wait.
    Full,
    /// Too many wait from this address.
    Crowd,
}

impl Seats {
    /// So many places, all free.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the call that is being answered, which [waits](Seat::wait) from some moment on.
    pub(crate) fn take(&self, network: IpAddr) -> Result<Seat, NoSeat> {
        let mut taken = self.taken();
        if taken.all >= self.most {
            return Err(NoSeat::Full);
        }
        let here = taken.by_network.entry(network).or_default();
        if *here >= MAX_SEATS_OF_NETWORK {
            return Err(NoSeat::Crowd);
        }
        *here += 1;
        taken.all += 1;
        Ok(Seat {
            seats: self.clone(),
            network,
        })
    }
}

impl Seat {
    /// From now on the call is no work: it waits for something to happen.
    #[expect(clippy::unused_self, reason = "who has no place does not wait")]
    pub(crate) fn wait(&self) {
        load::wait();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.all -= 1;
        if let Some(here) = taken.by_network.get_mut(&self.network) {
            *here -= 1;
            if *here == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

impl From<NoSeat> for ApiError {
    fn from(no: NoSeat) -> Self {
        match no {
            NoSeat::Full => Self::Busy(RETRY_AFTER_SECONDS),
            NoSeat::Crowd => Self::too_often(
                i64::try_from(RETRY_AFTER_SECONDS).unwrap_or(1),
                format!("{MAX_SEATS_OF_NETWORK} connections of this address wait already"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn an_address_takes_only_so_many_places() {
        let seats = Seats::new(MAX_SEATS_OF_NETWORK + 2);
        let mut taken: Vec<Seat> = (0..MAX_SEATS_OF_NETWORK)
            .map(|_| seats.take(network(1)).unwrap())
            .collect();
        assert_eq!(seats.take(network(1)).unwrap_err(), NoSeat::Crowd);
        assert!(seats.take(network(2)).is_ok());
        taken.pop();
        assert!(seats.take(network(1)).is_ok());
    }

    #[test]
    fn all_together_take_only_so_many_places() {
        let seats = Seats::new(20);
        let taken: Vec<Seat> = (0..20)
            .map(|number| seats.take(network(number)).unwrap())
            .collect();
        assert_eq!(seats.take(network(20)).unwrap_err(), NoSeat::Full);
        drop(taken);
        assert!(seats.taken().by_network.is_empty());
        assert!(seats.take(network(0)).is_ok());
    }
}
