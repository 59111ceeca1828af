//! Waiting for a request to end.

use std::time::Duration;

use ordu_api::RequestId;
use ordu_api::image::Progress;

use crate::{Error, Horde};

/// How to wait for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time between two looks. Long waits are looked at less often, up to five times this.
    pub interval: Duration,
    /// How often in a row the horde may be out of reach or ask for patience before that is an error.
    pub patience: u32,
}

impl Default for Pace {
    /// Each second; eight failures in a row, which is some two minutes.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            patience: 8,
        }
    }
}

/// A wait is looked at this many times, unless it is so short or long that the pace forbids it.
const LOOKS: u32 = 20;

/// The longest time between two looks, in intervals.
const SLOWEST: u32 = 5;

/// The longest time after a failure, in intervals.
const LONGEST_BACKOFF: u32 = 30;

impl Pace {
    /// The time to the next look when all is well.
    fn after(&self, progress: &Progress) -> Duration {
        let expected = Duration::from_secs(progress.wait_time.min(3600));
        (expected / LOOKS).clamp(self.interval, self.interval * SLOWEST)
    }

    /// The time to the next look after the `failures`th failure in a row; `None` to give up.
    pub(crate) fn after_failure(&self, failures: u32, error: &Error) -> Option<Duration> {
        if !error.is_passing() || failures > self.patience {
            return None;
        }
        let factor = 2_u32.saturating_pow(failures).min(LONGEST_BACKOFF);
        Some(error.retry_after().unwrap_or(self.interval * factor))
    }
}

impl Horde {
    /// Waits until nothing more will come of a request, and tells `seen` each time how far it is.
    ///
    /// The answer may be that the request faulted; see [`Progress::faulted`]. To wait only so long,
    /// wrap it in a time-out: dropping the future is fine.
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound`; transport errors when they last.
    pub async fn wait_for(
        &self,
        id: RequestId,
        pace: &Pace,
        mut seen: impl FnMut(&Progress),
    ) -> Result<Progress, Error> {
        let mut failures = 0;
        loop {
            let pause = match self.check(id).await {
                Ok(progress) => {
                    failures = 0;
                    seen(&progress);
                    if progress.done || progress.faulted {
                        return Ok(progress);
                    }
                    pace.after(&progress)
                }
                Err(error) => {
                    failures += 1;
                    match pace.after_failure(failures, &error) {
                        Some(pause) => pause,
                        None => return Err(error),
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_waits_are_looked_at_less_often() {
        let pause = |wait_time| {
            Pace::default().after(&Progress {
                wait_time,
                ..Progress::default()
            })
        };
        assert_eq!(pause(0), Duration::from_secs(1));
        assert_eq!(pause(20), Duration::from_secs(1));
        assert_eq!(pause(60), Duration::from_secs(3));
        assert_eq!(pause(u64::MAX), Duration::from_secs(5));
    }

    #[test]
    fn failures_slow_down_then_end_it() {
        let outage = Error::Unavailable {
            reason: String::new(),
            retry_after: None,
            source: None,
        };
        let limited = Error::RateLimited {
            retry_after: Some(Duration::from_secs(7)),
            message: String::new(),
        };
        let pace = Pace::default();
        let seconds = |failures, error: &Error| {
            pace.after_failure(failures, error)
                .map(|pause| pause.as_secs())
        };
        assert_eq!(seconds(1, &outage), Some(2));
        assert_eq!(seconds(3, &outage), Some(8));
        assert_eq!(seconds(8, &outage), Some(30));
        assert_eq!(seconds(9, &outage), None);
        assert_eq!(seconds(1, &limited), Some(7));
        assert_eq!(seconds(1, &Error::malformed("x")), None);
    }
}
