//! When to pop next, from how the last pop went. Pure.

use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_client::Error;

use crate::Timing;

/// How a pop went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Popped {
    /// With a job, or with none: the horde is well.
    Answered,
    /// The horde was not there. It may have said for how long.
    Outage(Option<Duration>),
    /// The horde wants fewer pops.
    RateLimited(Option<Duration>),
    /// The worker is in maintenance, for this reason.
    Maintenance(String),
    /// The horde accepts none of the models, or not all of them.
    ModelsRefused(String),
    /// Something that the owner must mend.
    Refused(String),
    /// The key is not valid: nothing will ever be better.
    KeyRefused(String),
}

impl Popped {
    /// As it is counted.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Outage(_) => "outage",
            Self::RateLimited(_) => "rate_limited",
            Self::Maintenance(_) => "maintenance",
            Self::ModelsRefused(_) | Self::Refused(_) | Self::KeyRefused(_) => "refused",
        }
    }

    /// What a failed pop means. Return codes decide; texts only where a horde sends no code.
    pub(crate) fn failed(error: &Error) -> Self {
        let refusal = match error {
            Error::Refused(refusal) => refusal,
            Error::RateLimited { retry_after, .. } => return Self::RateLimited(*retry_after),
            passing => return Self::Outage(passing.retry_after()),
        };
        let says = |words: &str| refusal.message.to_lowercase().contains(words);
        let message = refusal.to_string();
        let silent = refusal.rc.is_none();
        if refusal.status == 429 {
            Self::RateLimited(None)
        } else if refusal.is(ReturnCode::WorkerMaintenance)
            || refusal.is(ReturnCode::WorkerFlaggedMaintenance)
            || (silent && says("maintenance mode"))
        {
            Self::Maintenance(message)
        } else if refusal.is(ReturnCode::InvalidAPIKey) || refusal.status == 401 {
            Self::KeyRefused(message)
        } else if says("we cannot accept workers serving") {
            Self::ModelsRefused(message)
        } else {
            Self::Refused(message)
        }
    }
}

/// Remembers how long the horde has been away.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    outages: u32,
}

impl Pacing {
    /// How long to wait from the last pop to the next. `jitter` is between -1 and 1.
    pub(crate) fn pause(&mut self, popped: &Popped, timing: &Timing, jitter: f64) -> Duration {
        self.outages = match popped {
            Popped::Outage(_) => self.outages + 1,
            _ => 0,
        };
        let pause = match popped {
            Popped::Answered => timing.pop_interval,
            Popped::Outage(None) => doubled(
                timing.outage_first,
                self.outages,
                timing.outage_last,
                jitter,
            ),
            Popped::Outage(Some(asked)) => *asked,
            Popped::RateLimited(asked) => asked.unwrap_or(timing.rate_limited),
            Popped::Maintenance(_) => timing.maintenance,
            Popped::ModelsRefused(_) | Popped::Refused(_) | Popped::KeyRefused(_) => timing.refused,
        };
        pause.max(timing.pop_interval)
    }
}

/// `first` doubled with each time after the first, at most `last`, give or take a fifth.
pub(crate) fn doubled(first: Duration, times: u32, last: Duration, jitter: f64) -> Duration {
    let factor = 2_u32.saturating_pow(times.saturating_sub(1));
    let pause = first.saturating_mul(factor).min(last);
    pause.mul_f64(1.0 + 0.2 * jitter.clamp(-1.0, 1.0))
}

/// A random number between -1 and 1 for [`doubled`]; 0 if the system has none to give.
pub(crate) fn jitter() -> f64 {
    getrandom::u32().map_or(0.0, |number| {
        f64::from(number) / f64::from(u32::MAX) * 2.0 - 1.0
    })
}

#[cfg(test)]
mod tests {
    use ordu_client::Refusal;

    use super::*;

    fn refusal(status: u16, rc: Option<&str>, message: &str) -> Error {
        Error::Refused(Refusal {
            status,
            rc: rc.map(str::to_owned),
            message: message.to_owned(),
            ..Refusal::default()
        })
    }

    /// Checklist: `rc` drives error handling.
    #[test]
    fn a_failed_pop_means_what_its_code_says() {
        let kind = |status, rc, message| match Popped::failed(&refusal(status, rc, message)) {
            Popped::Maintenance(_) => "maintenance",
            Popped::KeyRefused(_) => "key",
            Popped::ModelsRefused(_) => "models",
            Popped::RateLimited(None) => "limited",
            Popped::Refused(_) => "refused",
            other => panic!("{other:?}"),
        };
        for (status, rc, message, expected) in [
            (
                403,
                Some("WorkerMaintenance"),
                "gone fishing",
                "maintenance",
            ),
            (403, None, "Worker is in Maintenance Mode", "maintenance"),
            (403, Some("WorkerFlaggedMaintenance"), "", "maintenance"),
            (403, Some("WrongCredentials"), "maintenance mode", "refused"),
            (401, Some("InvalidAPIKey"), "", "key"),
            (
                400,
                Some("BadRequest"),
                "We cannot accept workers serving x",
                "models",
            ),
            (400, Some("Unheard"), "", "refused"),
            (429, Some("TooManyPrompts"), "", "limited"),
        ] {
            assert_eq!(kind(status, rc, message), expected, "{rc:?} {message}");
        }
    }

    #[test]
    fn pauses_follow_the_outcome() {
        let timing = Timing::default();
        let mut pacing = Pacing::default();
        let mut seconds = |popped| pacing.pause(&popped, &timing, 0.0).as_secs();
        assert_eq!(seconds(Popped::Answered), 1);
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(seconds(Popped::Outage(None)), expected);
        }
        assert_eq!(seconds(Popped::Answered), 1);
        assert_eq!(seconds(Popped::Outage(None)), 2);
        assert_eq!(seconds(Popped::Outage(Some(Duration::from_secs(7)))), 7);
        assert_eq!(seconds(Popped::RateLimited(None)), 10);
        assert_eq!(seconds(Popped::RateLimited(Some(Duration::ZERO))), 1);
        assert_eq!(
            seconds(Popped::RateLimited(Some(Duration::from_secs(3)))),
            3
        );
        assert_eq!(seconds(Popped::Maintenance(String::new())), 30);
        assert_eq!(seconds(Popped::Refused(String::new())), 60);
    }

    #[test]
    fn jitter_moves_a_pause_by_a_fifth() {
        let ten = Duration::from_secs(10);
        let with = |jitter| doubled(ten, 1, ten, jitter).as_secs();
        assert_eq!((with(-1.0), with(0.0), with(1.0)), (8, 10, 12));
        assert_eq!(doubled(ten, u32::MAX, ten * 3, 0.0), ten * 3);
        assert!((-1.0..=1.0).contains(&jitter()));
    }
}
