//! A cap on how many bytes come in a second, shared by all transfers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets bytes pass at a rate.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes per second; without a limit if there is none.
    rate: Option<u64>,
    /// When everything that was let pass until now is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            paid: Mutex::new(None),
        }
    }

    /// Waits until so many bytes may have come.
    pub(crate) async fn pass(&self, bytes: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        let micros = bytes.saturating_mul(1_000_000) / rate;
        sleep_until(self.book(micros, Instant::now())).await;
    }

    /// When a transfer of so many microseconds that is asked for now is paid for.
    fn book(&self, micros: u64, now: Instant) -> Instant {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.map_or(now, |paid| paid.max(now));
        *paid.insert(from + Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_share_the_rate_and_unused_time_is_not_saved() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        let seconds = |until: Instant| (until - start).as_secs();
        assert_eq!(seconds(throttle.book(1_500_000, start)), 1);
        assert_eq!(seconds(throttle.book(500_000, start)), 2);
        let later = start + Duration::from_secs(10);
        assert_eq!(seconds(throttle.book(1_000_000, later)), 11);
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        Throttle::new(None).pass(u64::MAX).await;
        Throttle::new(Some(0)).pass(u64::MAX).await;
    }
}
